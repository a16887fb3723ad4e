"""Metamorphic relations: equations between several runs of a layer, whatever the right numbers are.

They need no oracle, so they run at any size and on any device. All but repeatability use exact data: integers of which
every sum is representable, so a correct implementation fulfils them to the last bit in any order of summation. An error
that both runs share is not detected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from convspec.corpora import Case, arrays
from convspec.errors import ShapeError
from convspec.spec import (
    LAYOUTS,
    Array,
    ConvParams,
    ConvSpec,
    exact_limit,
    format_of,
    forward_products,
    magnitudes,
    nonzero_integers,
    output_spatial,
    resolve_padding,
)

Pair: TypeAlias = tuple[Array, Array]

METAMORPHIC = "metamorphic"  # all relations


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation.

    Attributes:
        applies: whether the relation says anything about a case that has an output.
        sides: computes the two arrays of one shape that must be equal.
    """

    id: str
    title: str
    applies: Callable[[Case], bool]
    sides: Callable[[Case, str, Run], Pair]


class Run(Protocol):
    """Run a layer on ``x`` in the trial's layout or another; input and output are canonical, the output float64."""

    def __call__(self, spec: ConvSpec, params: ConvParams, x: Array, layout: str | None = None) -> Array: ...


RELATIONS: dict[str, Relation] = {}
_Sides: TypeAlias = Callable[[Case, str, Run], "Pair"]


def _relation(name: str, title: str, applies: Callable[[Case], bool] = lambda _: True) -> Callable[[_Sides], _Sides]:
    """Register a relation; the docstring of the function says which errors break it."""

    def register(sides: _Sides) -> _Sides:
        RELATIONS[name] = Relation(name, title, applies, sides)
        return sides

    return register


@_relation("linearity", "the output of a sum is the sum of the outputs")
def linear(case: Case, _: str, run: Run) -> Pair:
    """Split the input into two, each with zeros where the other has its numbers.

    Clipping, rounding, quantisation and reads outside the input break the sum.
    """
    params, x = arrays(case.varied(data="exact"))
    if params.bias is not None:  # a large bias would hide an activation, which is nonlinear around zero
        params = ConvParams(params.kernel, np.zeros_like(params.bias))
    part = np.where(np.random.default_rng([case.seed, 11]).random(x.shape) < 0.5, x, 0).astype(x.dtype)
    outputs = [run(case.spec, params, piece) for piece in (x, part, x - part, np.zeros_like(x))]
    return outputs[0], outputs[1] + outputs[2] - outputs[3]


# -- shift ------------------------------------------------------------------------------------------------------------


def _interiors(case: Case) -> list[tuple[int, slice, slice]]:
    """For each axis: the shift of the input, and the outputs before and after the shift that must be equal."""
    spec, spatial = case.spec, case.input_shape[2:]
    pads, out = resolve_padding(spec, spatial)[0], output_spatial(spec, spatial)
    interiors = []
    for axis, (n, (lo, _), s) in enumerate(zip(spatial, pads, spec.stride, strict=True)):
        step = 1 if spec.transposed else s
        shorter = (*spatial[:axis], n - step, *spatial[axis + 1 :])
        try:
            same = n > step and resolve_padding(spec, shorter)[0][axis][0] == lo
            length = output_spatial(spec, shorter)[axis] if same else 0
        except ShapeError:
            length = 0
        first, last = _interior(spec, axis, n - step, lo, length)
        shift = s if spec.transposed else 1
        whole = slice(0, out[axis])
        interiors.append(
            (step, slice(first + shift, last + shift), slice(first, last)) if last > first else (0, whole, whole)
        )
    return interiors


def _interior(spec: ConvSpec, axis: int, n: int, lo: int, length: int) -> tuple[int, int]:
    """The range of outputs of the shifted input that depend on no removed pixel and on no padding."""
    s, ke = spec.stride[axis], spec.effective_kernel[axis]
    if spec.transposed:  # a removed pixel was scattered to ke outputs
        return max(ke - lo - s, 0), length
    return -(-lo // s), min((n - ke + lo) // s + 1, length)


def can_shift(case: Case) -> bool:
    return any(step for step, *_ in _interiors(case))


@_relation("shift", "an input shifted by one stride gives the output shifted by one pixel", can_shift)
def shift(case: Case, _: str, run: Run) -> Pair:
    """Compare where no padding is read. Faults at fixed positions (tiles, vector tails, edges) break it."""
    params, x = arrays(case.varied(data="exact"))
    interiors = _interiors(case)
    shifted = _crop(x, [slice(step, None) for step, _, _ in interiors])
    y, z = run(case.spec, params, x), run(case.spec, params, np.ascontiguousarray(shifted))
    return _crop(y, [region for _, region, _ in interiors]), _crop(z, [region for _, _, region in interiors])


def _crop(array: Array, region: list[slice]) -> Array:
    """A view of a spatial region of an array ``(N, C, *spatial)``."""
    return array[(slice(None), slice(None), *region)]


# -- adjoint ----------------------------------------------------------------------------------------------------------


def adjoint_layer(case: Case) -> ConvSpec | None:
    """The layer, without bias, whose matrix is the transposed one; None if there is no such layer."""
    spec, spatial = case.spec, case.input_shape[2:]
    pads, extra = resolve_padding(spec, spatial)
    if spec.padding_mode != "zeros" or 0 in (*spatial, *output_spatial(spec, spatial)):
        return None
    swapped = replace(spec, in_channels=spec.out_channels, out_channels=spec.in_channels, bias=False)
    if spec.transposed:
        wider = tuple((lo, hi - op) for (lo, hi), op in zip(pads, extra, strict=True))
        if any(hi < 0 for _, hi in wider):
            return None
        turned = replace(swapped, transposed=False, padding=wider, output_padding=(0,) * spec.ndim)
    else:
        left = tuple(
            (n + lo + hi - ke) % s
            for n, (lo, hi), ke, s in zip(spatial, pads, spec.effective_kernel, spec.stride, strict=True)
        )
        turned = replace(swapped, transposed=True, padding=pads, output_padding=left)
    return turned if output_spatial(turned, output_spatial(spec, spatial)) == tuple(spatial) else None


@_relation(
    "adjoint",
    "the layer and the transposed layer of the same kernel are each other's adjoint",
    lambda case: adjoint_layer(case) is not None,
)
def adjoint(case: Case, _: str, run: Run) -> Pair:
    """Compare ⟨A·x, y⟩ = ⟨x, Aᵀ·y⟩ for each sample; the inner products are sums of integers far below 2⁵³.

    Two routines that share little code must match in every element: a wrong crop or pad or a flipped kernel in one of
    them breaks it.
    """
    other = adjoint_layer(case)
    assert other is not None  # see Relation.applies
    spec = replace(case.spec, bias=False)
    rng, limit = np.random.default_rng([case.seed, 12]), exact_limit(case.dtype)
    w, size, taps = magnitudes(limit, max(forward_products(spec), forward_products(other)))
    kernel = nonzero_integers(rng, spec.kernel_shape, w)
    if taps is not None:
        kernel = _thin(rng, kernel, spec.groups, taps)
    carrier = format_of(case.dtype).carrier
    params = ConvParams(kernel.astype(carrier))
    x = nonzero_integers(rng, case.input_shape, size).astype(carrier)
    y = nonzero_integers(rng, spec.output_shape(case.input_shape), size).astype(carrier)
    return _inner_products(run(spec, params, x), y), _inner_products(x, run(other, params, y))


def _thin(rng: np.random.Generator, kernel: Array, groups: int, taps: int) -> Array:
    """Set weights to zero until every sum of either layer has at most ``taps`` terms."""
    by_group = kernel.reshape(groups, kernel.shape[0] // groups, kernel.shape[1], -1)
    share = taps / max(by_group[0, 0].size, by_group[0, :, 0].size)
    while max(np.count_nonzero(by_group, axis=axes).max() for axes in ((1, 3), (2, 3))) > taps:
        by_group = by_group * (rng.random(by_group.shape) < share)
    thinned: Array = by_group.reshape(kernel.shape)
    return thinned


def _inner_products(a: Array, b: Array) -> Array:
    both = (a.astype(np.float64) * b.astype(np.float64)).reshape(len(a), -1)
    sums: Array = both.sum(axis=1)
    return sums


# -- parts of a layer -------------------------------------------------------------------------------------------------


@_relation("groups", "groups are independent layers", lambda case: case.spec.groups > 1)
def by_groups(case: Case, _: str, run: Run) -> Pair:
    """Build and run each half of the groups as a layer."""
    spec = case.spec
    params, x = arrays(case.varied(data="exact"))
    first = spec.groups // 2
    parts = []
    for start, stop in ((0, first), (first, spec.groups)):
        count = stop - start
        rows, into, out = (
            slice(n // spec.groups * start, n // spec.groups * stop)
            for n in (len(params.kernel), spec.in_channels, spec.out_channels)
        )
        bias = None if params.bias is None else params.bias[out]
        inputs, outputs = (n // spec.groups * count for n in (spec.in_channels, spec.out_channels))
        part = replace(spec, in_channels=inputs, out_channels=outputs, groups=count)
        parts.append(run(part, ConvParams(params.kernel[rows], bias), np.ascontiguousarray(x[:, into])))
    return run(spec, params, x), np.concatenate(parts, axis=1)


@_relation("outputs", "filters are independent layers", lambda case: case.spec.out_channels > case.spec.groups)
def by_outputs(case: Case, _: str, run: Run) -> Pair:
    """Build and run each half of each group's filters as a layer: other sizes take other paths in vectorised code."""
    spec = case.spec
    params, x = arrays(case.varied(data="exact"))
    groups, each = spec.groups, spec.out_channels // spec.groups
    grouped = params.kernel.reshape(groups, -1, *params.kernel.shape[1:])
    parts = []
    for part_of in (slice(0, each // 2), slice(each // 2, each)):
        count = len(range(*part_of.indices(each)))
        kernel = grouped[:, :, part_of] if spec.transposed else grouped[:, part_of]
        bias = None if params.bias is None else params.bias.reshape(groups, each)[:, part_of].reshape(-1)
        part = replace(spec, out_channels=groups * count)
        y = run(part, ConvParams(np.ascontiguousarray(kernel.reshape(part.kernel_shape)), bias), x)
        parts.append(y.reshape(len(y), groups, count, *y.shape[2:]))
    whole = run(spec, params, x)
    return whole, np.concatenate(parts, axis=2).reshape(whole.shape)


def is_dilated(case: Case) -> bool:
    spec = case.spec
    spreads = any(d > 1 and k > 1 for d, k in zip(spec.dilation, spec.kernel_size, strict=True))
    return spreads and all(op < s or not op for op, s in zip(spec.output_padding, spec.stride, strict=True))


@_relation("dilation", "a dilated kernel equals a kernel with zeros between its weights", is_dilated)
def dilation_as_zeros(case: Case, _: str, run: Run) -> Pair:
    """Nearly every implementation has special code for dilation, and none for a kernel with zeros."""
    spec = case.spec
    params, x = arrays(case.varied(data="exact"))
    kernel = np.zeros((*params.kernel.shape[:2], *spec.effective_kernel), params.kernel.dtype)
    _crop(kernel, [slice(None, None, d) for d in spec.dilation])[...] = params.kernel
    dense = replace(spec, kernel_size=spec.effective_kernel, dilation=(1,) * spec.ndim)
    return run(spec, params, x), run(dense, ConvParams(kernel, params.bias), x)


@_relation("batch", "samples are independent", lambda case: case.input_shape[0] > 0)
def by_samples(case: Case, _: str, run: Run) -> Pair:
    """Run the input and its negative, in one batch and one by one."""
    params, x = arrays(case.varied(data="exact"))
    together = run(case.spec, params, np.concatenate([x, -x]))
    return together, np.concatenate([run(case.spec, params, x), run(case.spec, params, -x)])


@_relation("layouts", "both layouts give the same numbers")
def in_both_layouts(case: Case, layout: str, run: Run) -> Pair:
    """Run the layer with channels first and with channels last."""
    params, x = arrays(case.varied(data="exact"))
    (other,) = (name for name in LAYOUTS if name != layout)
    return run(case.spec, params, x), run(case.spec, params, x, other)


@_relation("repeatability", "the same layer on the same numbers gives the same bits")
def repeated(case: Case, _: str, run: Run) -> Pair:
    """Count the outputs whose bits change in a second build and run, on random numbers.

    Uninitialised memory and a nondeterministic order of summation break it.
    """
    params, x = arrays(case.varied(data="random"))
    first, second = (run(case.spec, params, x).view(np.int64) for _ in range(2))
    return np.array([np.count_nonzero(first != second)], np.float64), np.zeros(1)

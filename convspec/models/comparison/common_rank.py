"""Bring a node and the layer that it was made from to one rank and one input, so that they can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from convspec.errors import ConvspecError
from convspec.models.comparison.layer_check import crop, zero_margins
from convspec.models.matching.differences import Difference, layer_differences, weight_differences
from convspec.models.matching.kernels import Layer, add_zero_pads
from convspec.spec import Array, ConvParams, ConvSpec, format_of

T = TypeVar("T")

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_FORMATS = ("float16", "float32", "float64")
_BLOCK = 1 << 15  # elements compared at a time


@dataclass(frozen=True, eq=False, slots=True)
class CommonRank:
    """A node's layer and its source's in one rank, and the functions that reshape their tensors to it.

    ``dropped``: the axis of our layer that theirs does not have.
    """

    ours: Layer
    theirs: Layer
    reshape_ours: Callable[[Array], Array]
    reshape_theirs: Callable[[Array], Array]
    dropped: int | None = None


def to_common_rank(ours: Layer, theirs: Layer) -> CommonRank | None:
    """Return two layers in one rank: as they are, without an axis of one tap, or as matrix products; else None."""
    if ours.spec.ndim == theirs.spec.ndim and not ours.linear and not theirs.linear:
        return CommonRank(ours, theirs, _same, _same)
    if ours.pointwise and theirs.pointwise:
        return CommonRank(_row_layer(ours), _row_layer(theirs), _rows, _rows)
    if ours.spec.ndim == theirs.spec.ndim + 1:
        for axis in range(ours.spec.ndim):
            if (lower := _drop_axis(ours, axis)) and lower.spec.kernel_size == theirs.spec.kernel_size:
                return CommonRank(lower, theirs, _squeeze(axis), _same, axis)
    if theirs.spec.ndim == ours.spec.ndim + 1 and (swapped := to_common_rank(theirs, ours)):
        return CommonRank(swapped.theirs, swapped.ours, swapped.reshape_theirs, swapped.reshape_ours)
    return None


def compare_weights(ours: Layer, theirs: Layer, others: Iterable[Layer]) -> list[Difference]:
    """Return the differences of the weights; other differences are found when the node runs."""
    form = to_common_rank(ours, theirs)
    if form is None or form.ours.params.kernel.shape != form.theirs.params.kernel.shape:
        return layer_differences(ours, theirs)
    return weight_differences(form.ours, form.theirs, [other for other in others if other is not theirs])


def _same(x: Array) -> Array:
    return x


def _rows(x: Array) -> Array:
    """Reshape ``(N, C, *spatial)`` to ``(rows, C, 1)``, the rows in the order of N and the pixels."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1], 1)


def _squeeze(axis: int) -> Callable[[Array], Array]:
    return lambda x: np.squeeze(x, 2 + axis) if x.shape[2 + axis] == 1 else x


def _row_layer(layer: Layer) -> Layer:
    kernel = layer.params.kernel
    spec = replace(layer.spec, kernel_size=(1,), stride=(1,), padding=((0, 0),), dilation=(1,), output_padding=(0,),
                   ndim=1)  # fmt: skip
    params = ConvParams(kernel.reshape(*kernel.shape[:2], 1), layer.params.bias)
    return replace(layer, spec=spec, params=params, pads=())


def _drop_axis(layer: Layer, axis: int) -> Layer | None:
    """Return the layer without a spatial axis of one tap and no pads; 'same' and the like pad no such axis."""
    spec = layer.spec
    if spec.kernel_size[axis] != 1 or spec.output_padding[axis]:
        return None
    if not isinstance(spec.padding, str) and any(spec.padding[axis]):
        return None
    padding = spec.padding if isinstance(spec.padding, str) else _without(spec.padding, axis)
    small = replace(
        spec, kernel_size=_without(spec.kernel_size, axis), stride=_without(spec.stride, axis), padding=padding,
        dilation=_without(spec.dilation, axis), output_padding=_without(spec.output_padding, axis), ndim=spec.ndim - 1,
    )  # fmt: skip
    params = ConvParams(np.squeeze(layer.params.kernel, 2 + axis), layer.params.bias)
    return replace(layer, spec=small, params=params, pads=layer.pads and _without(layer.pads, axis))


def _without(values: tuple[T, ...], axis: int) -> tuple[T, ...]:
    return values[:axis] + values[axis + 1 :]


@dataclass(frozen=True, eq=False, slots=True)
class AlignedSpecs:
    """Both specs for one and the same input, the node's.

    Attributes:
        ours: the node's spec.
        theirs: the source's, including pads that a separate node of either model adds; None where no spec fits.
        input_difference: the difference of the two inputs; empty where they agree or the source's is unknown.
    """

    ours: ConvSpec
    theirs: ConvSpec | None
    input_difference: str = ""


def align_specs(pair: CommonRank, x: Array, source: Array | None) -> AlignedSpecs:
    """Return the specs of both layers for the node's input ``x``, ``(N, C, *spatial)``; ``source`` is the source's.

    A pad may be a separate node in the graph, in the source, or in both.
    """
    ours = _explicit(pair.ours.spec, x)
    if source is None:
        theirs = pair.theirs.spec_after(pair.ours.pads)
        return AlignedSpecs(ours, theirs and _explicit(theirs, x))
    theirs = pair.theirs.spec
    if x.shape == source.shape:
        return AlignedSpecs(ours, _explicit(theirs, x), compare_tensors(x, source))
    if not theirs.transposed and x.ndim == source.ndim:
        if theirs.padding_mode in _MODES:
            padded = _pad(theirs, source)
            if padded is not None and padded.shape == x.shape:
                unpadded = replace(theirs, padding=((0, 0),) * theirs.ndim, padding_mode="zeros")
                return AlignedSpecs(ours, unpadded, compare_tensors(x, padded))
        if pads := zero_margins(source, x):
            return AlignedSpecs(ours, add_zero_pads(_explicit(theirs, source), pads),
                                compare_tensors(x, crop(source, pads)))  # fmt: skip
        if pads := zero_margins(x, source):
            fewer = add_zero_pads(_explicit(theirs, source), tuple((-lo, -hi) for lo, hi in pads))
            whole = ours if fewer else add_zero_pads(ours, pads) or ours
            return AlignedSpecs(whole, fewer or _explicit(theirs, source), compare_tensors(crop(x, pads), source))
    return AlignedSpecs(ours, _explicit(theirs, x), _shapes(x, source))


def _explicit(spec: ConvSpec, x: Array) -> ConvSpec:
    try:
        return spec.explicit(x.shape)
    except ConvspecError:
        return spec


def _pad(spec: ConvSpec, x: Array) -> Array | None:
    explicit = _explicit(spec, x)
    if isinstance(explicit.padding, str):
        return None
    try:
        return np.pad(x, [(0, 0), (0, 0), *explicit.padding], mode=_MODES[spec.padding_mode])  # type: ignore[call-overload,no-any-return]
    except ValueError:
        return None


def _shapes(x: Array, source: Array) -> str:
    return f"the tensor has shape {x.shape} where the source has {source.shape}"


def compare_tensors(x: Array, source: Array) -> str:
    """Return the difference of a tensor from the source's where more than half of its format's digits are lost.

    Rounding errors of whole networks have no useful bound; half of the digits is a convention.
    """
    if x.shape != source.shape:
        return _shapes(x, source)
    name = str(x.dtype)
    if name not in _FORMATS:
        return ""
    worst, scale = 0.0, 0.0
    for ours, theirs in _blocks(x, source):
        with np.errstate(invalid="ignore"):
            difference = np.abs(ours - theirs)
        if not np.isfinite(difference).all() and not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
            return "NaN or infinite elements are in only one of the tensor and the source's"
        worst = max(worst, _largest(difference))
        scale = max(scale, *(_largest(np.abs(a)) for a in (ours, theirs)))
    if worst <= format_of(name).unit_roundoff ** 0.5 * scale:
        return ""
    return f"the tensor differs from the source's by up to {worst:.3g}; the largest element is {scale:.3g}"


def _blocks(x: Array, source: Array) -> Iterator[tuple[Array, Array]]:
    """Return both tensors block by block: the source's may be on disk, and intermediate results stay in the cache."""
    step = max(_BLOCK // max(x[:1].size, 1), 1)
    for start in range(0, len(x), step):
        ours, theirs = (a[start : start + step].reshape(-1) for a in (x, source))
        for at in range(0, ours.size, _BLOCK):
            block = slice(at, at + _BLOCK)
            yield ours[block].astype(np.float64), np.asarray(theirs[block], np.float64)


def _largest(sizes: Array) -> float:
    """Return the largest finite number."""
    largest = float(np.max(sizes, initial=0.0))
    return largest if np.isfinite(largest) else float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def output_window(spec: ConvSpec, x: Array) -> tuple[tuple[tuple[int, int], ...], list[int]]:
    """Return for each axis of a transposed layer where its output begins in the full scatter, and its length.

    The second result is the size of the full scatter.
    """
    explicit = spec.explicit(x.shape)
    sizes, kernels = explicit.output_shape(x.shape)[2:], explicit.effective_kernel
    assert not isinstance(explicit.padding, str)
    whole = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], explicit.stride, kernels, strict=True)]
    return tuple((lo, size) for (lo, _), size in zip(explicit.padding, sizes, strict=True)), whole

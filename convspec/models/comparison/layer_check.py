"""Check whether one layer's output is what the other model's layer computes from the same input.

Bounds: those of a convolution and a linear layer are in :mod:`convspec.reference.error_bounds`, those of norms in
:mod:`convspec.reference.steps`. Of the operations between two layers – activations, pools, sums, gates –
only the error propagation is known: an activation at most doubles a difference (swish 1.1, hard-swish 1.5), a gate,
which is a sigmoid, adds at most a quarter of the numbers that it multiplies, and a sum adds the differences of its
terms. They round at most sixteen times, and a pool four times for every pixel that it removes: its windows overlap by
at most half.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from convspec import reference
from convspec.contract import Adapter, LayerRequest, Part
from convspec.corpora import test_data
from convspec.errors import ConvspecError, ShapeError
from convspec.models.dataflow.calls import step_of_norm
from convspec.reference import error_bounds, judge, quick_check
from convspec.spec import Array, ConvParams, ConvSpec, Pads, format_of, rounded
from convspec.spec.steps import Linear

_STRETCH = 2.0
_BETWEEN = 16
_OVERLAP = 4
_GATE = 0.25  # the steepest slope of a sigmoid
_DATA = "activations"
_BLOCK = 1 << 16  # elements that fit a core's cache


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """``ok`` is None where the layer could not be judged; ``reason`` says why, or what is wrong."""

    ok: bool | None
    reason: str = ""


def check_layer(
    spec: ConvSpec, params: ConvParams, x: Array, y: Array, adapter: Adapter, dtype: str, margins: Pads = ()
) -> LayerCheck:
    """Check that ``y`` is this convolution of ``x``, both canonical, as the adapter computes it in ``dtype``.

    ``margins`` of the convolution's result are not in ``y``. Elements where an infinite weight meets a pad are ignored.
    """
    arithmetic = adapter.compute_precision(spec, LayerRequest(dtype=dtype, input_shape=x.shape))
    products = error_bounds.products(spec)
    try:
        if not margins and quick_check.is_within(spec, params, x, y, error_bounds.bounds(dtype, products, arithmetic)):
            return LayerCheck(True)
        expected = crop(reference.conv(spec, params, x), margins)
    except ShapeError as error:
        return LayerCheck(False, str(error))
    verdict = judge(
        rounded(y, dtype).astype(format_of(dtype).carrier), expected,
        crop(reference.magnitude(spec, params, x), margins),
        dtype=dtype, data=_DATA, products=products, arithmetic=arithmetic,
        ignore=None if margins or np.isfinite(params.kernel).all() else test_data.uncompared(spec, params, x.shape),
    )  # fmt: skip
    return LayerCheck(verdict.verdict == "agree", verdict.reason)


def check_linear(kernel: Array, bias: Array | None, x: Array, y: Array) -> LayerCheck:
    """Check that ``y`` is ``x @ kernel.T + bias``; ``kernel`` is ``(O, I)``."""
    if x.shape[-1] != kernel.shape[1]:
        return LayerCheck(False, f"expected {kernel.shape[1]} input features, got {x.shape[-1]}")
    arrays = {"weight": kernel} | ({} if bias is None else {"bias": bias})
    step = Linear(kernel.shape[1], len(kernel), bias is not None)
    ((expected, bound),) = reference.steps.evaluate_bounded(step, [x], arrays)
    return check_elements(y, expected, bound)


def check_elements(y: Array, expected: Array, bound: Array) -> LayerCheck:
    """Check that no element is further from the expected one than its bound; NaNs must be at the same places."""
    if y.shape != expected.shape:
        return LayerCheck(False, f"expected shape {expected.shape}, got {y.shape}")
    with np.errstate(invalid="ignore"):
        right = (np.abs(y - expected) <= bound) | (np.isnan(y) & np.isnan(expected)) | (y == expected)
    wrong = int(right.size - np.count_nonzero(right))
    if not wrong:
        return LayerCheck(True)
    at = tuple(map(int, np.unravel_index(int(np.argmin(right)), right.shape)))
    values = f"expected {expected[at]:g}, got {y[at]:g}"
    return LayerCheck(False, f"value: {wrong} of {y.size} elements are wrong; at {at} {values}")


# -- between the layers ------------------------------------------------------------------------------------------------


class ErrorPropagation:
    """Bounds the difference of a layer's inputs by the differences of the outputs before it."""

    def __init__(self) -> None:
        self.outputs: list[tuple[float, float]] = []  # largest difference and largest element of each output
        self.last: Array | None = None

    def explains(self, difference: float, x: Array) -> bool:
        """Whether the outputs before explain this difference of two inputs."""
        total = sum(before for before, _ in self.outputs)
        largest = max((size for _, size in self.outputs), default=0.0)
        size = max(_largest(x), largest)
        unit = format_of("float32").unit_roundoff
        pooled = 1.0 if self.last is None else _pixels(self.last) / _pixels(x)
        rounding = error_bounds.gamma(_BETWEEN + _OVERLAP * math.ceil(pooled), unit) * size
        return difference <= total * max(_STRETCH, largest * _GATE) + rounding

    def add(self, difference: float | None, y: Array) -> None:
        """Add the output of one more layer; those before stay, as a residual branch may add them again."""
        self.outputs.append((difference or 0.0, _largest(y)))
        self.last = y


def _largest(x: Array) -> float:
    return float(np.maximum(np.max(x, initial=0.0), -np.min(x, initial=0.0)))


def _pixels(x: Array) -> int:
    return max(math.prod(x.shape[2:]), 1)


def largest_difference(a: Array, b: Array) -> float | None:
    """Return the largest difference of two tensors; None where their shapes differ."""
    if a.shape != b.shape:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        if a.dtype == b.dtype == np.float32:
            flat = a.reshape(-1), b.reshape(-1)
            parts = (slice(i, i + _BLOCK) for i in range(0, a.size, _BLOCK))
            if np.isfinite(largest := np.max([_largest(flat[0][own] - flat[1][own]) for own in parts], initial=0.0)):
                return float(largest)
        differences = np.abs(a.astype(np.float64) - b)
    differences[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    worst = float(np.max(differences, initial=0.0))
    return float("inf") if np.isnan(worst) else worst


def zero_margins(large: Array, small: Array) -> Pads | None:
    """Return the zeros around ``large`` beyond ``small``, (before, after) per spatial axis; None for any other content.

    A separate pad before a convolution counts as the convolution's padding.
    """
    extra = [m - n for m, n in zip(large.shape[2:], small.shape[2:], strict=True)]
    if large.shape[:2] != small.shape[:2] or min(extra) < 0 or max(extra) > max(small.shape[2:]):
        return None
    best: tuple[float, Pads] | None = None
    for pads in itertools.product(*[[(lo, n - lo) for lo in range(n + 1)] for n in extra]):
        inside = crop(large, pads)
        if np.count_nonzero(large) == np.count_nonzero(inside):
            difference = largest_difference(inside, small)
            if difference is not None and (best is None or difference < best[0]):
                best = difference, pads
    return None if best is None else best[1]


def outer_zeros(x: Array) -> Pads:
    """Return the number of outer rows of zeros, (before, after) per spatial axis."""
    pads = []
    for axis in range(2, x.ndim):
        used = np.flatnonzero(x.any(axis=tuple(one for one in range(x.ndim) if one != axis)))
        pads.append((int(used[0]), x.shape[axis] - 1 - int(used[-1])) if used.size else (0, 0))
    return tuple(pads)


def crop(x: Array, pads: Pads) -> Array:
    """Return ``x`` without its margins along the spatial axes."""
    if not pads:
        return x
    inner = tuple(slice(lo, n - hi) for (lo, hi), n in zip(pads, x.shape[2:], strict=True))
    return np.ascontiguousarray(x[(slice(None), slice(None), *inner)])


def is_computed(norm: Part) -> bool:
    """Whether the form of a norm is known, so that it can be computed."""
    return bool(norm.norm) or norm.batch_norm


def check_norm(norm: Part, x: Array, y: Array, *, fast_variance: bool) -> LayerCheck:
    """Check that ``y`` is the norm of ``x``, both in the axis order of the norm's own framework.

    ``fast_variance``: whether the layer that computed ``y`` takes the variance as E[x²] - E[x]².
    """
    try:
        step, arrays = step_of_norm(norm, x.shape, fast_variance=fast_variance)
        if reference.steps.is_within(step, [x], [y], arrays, "float32"):
            return LayerCheck(True)
        ((expected, bound),) = reference.steps.evaluate_bounded(step, [x], arrays)
    except (ConvspecError, ValueError, IndexError):
        return LayerCheck(False, f"the norm of model a does not take an input of shape {x.shape}")
    if y.dtype == np.float16:
        bound = bound + format_of("float16").unit_roundoff * np.abs(expected)
    if not np.isfinite(bound).all() and np.isfinite(x).all():
        return LayerCheck(None, "its variance cancels: the bound on its rounding says nothing")
    return check_elements(y, expected, bound)

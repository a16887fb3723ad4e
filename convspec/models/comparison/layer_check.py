"""Whether what one layer wrote is what the other model's layer makes of the same input.

Bounds: a convolution's and a linear layer's are those of :mod:`convspec.reference.error_bounds`. A batch norm rounds at
most eight times. Between two layers there are activations, pools, sums and gates, of which nothing is known but how
they pass on a difference: an activation makes it at most twice as large (swish 1.1, hard-swish 1.5), a gate, which is a
sigmoid, at most a quarter of the numbers that it multiplies, and a sum adds those of what it sums. They round at most
sixteen times, and a pool four times for every cell that it takes away: its windows overlap by half, at most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convspec import reference
from convspec.contract import LayerRequest
from convspec.errors import ShapeError
from convspec.reference import error_bounds, judge
from convspec.spec import ComputePrecision, ConvParams, ConvSpec, format_of, rounded

if TYPE_CHECKING:
    from convspec.contract import Adapter
    from convspec.models.matching.kernels import Normalised
    from convspec.models.run_model import Array

_NORM_ROUNDINGS = 8
_STRETCH = 2.0
_BETWEEN = 16
_OVERLAP = 4
_GATE = 0.25  # the steepest that a sigmoid gets
_DATA = "activations"


@dataclass(frozen=True, slots=True)
class Local:
    """``ok`` is None where nothing could be judged; ``reason`` says why not, or what is wrong."""

    ok: bool | None
    reason: str = ""
    wrong: int = 0
    total: int = 0


def conv(spec: ConvSpec, params: ConvParams, x: Array, y: Array, adapter: Adapter, dtype: str) -> Local:
    """Whether ``y`` is this convolution of ``x``, both canonical, as the adapter computes it in ``dtype``."""
    try:
        expected = reference.conv(spec, params, x)
    except ShapeError as error:
        return Local(False, str(error))
    arithmetic = adapter.compute_precision(spec, LayerRequest(dtype=dtype, input_shape=x.shape))
    carrier = format_of(dtype).carrier
    found = judge(
        rounded(y, dtype).astype(carrier), expected, reference.magnitude(spec, params, x), dtype=dtype, data=_DATA,
        products=error_bounds.products(spec), arithmetic=arithmetic,
    )  # fmt: skip
    wrong = int(found.evidence.get("wrong", 0))
    return Local(found.verdict == "agree", found.reason, wrong, int(found.evidence.get("total", y.size)))


def linear(kernel: Array, bias: Array | None, x: Array, y: Array) -> Local:
    """Whether ``y`` is ``x @ kernel.T + bias``; ``kernel`` is ``(O, I)``."""
    if x.shape[-1] != kernel.shape[1]:
        return Local(False, f"the input has {x.shape[-1]} features where {kernel.shape[1]} are right")
    wide = kernel.astype(np.float64)
    added = np.zeros(len(kernel)) if bias is None else bias.astype(np.float64)
    expected = x.astype(np.float64) @ wide.T + added
    size = np.abs(x.astype(np.float64)) @ np.abs(wide).T + np.abs(added)
    limits = error_bounds.bounds("float32", kernel.shape[1], ComputePrecision("float32", 2, flushes_subnormals=True))
    return _judged(y, expected, size * limits.relative + limits.absolute)


def batch_norm(norm: Normalised, axis: int, x: Array, y: Array) -> Local:
    """Whether ``y`` is the batch norm of ``x`` along ``axis``."""

    def along(vector: Array) -> Array:
        return vector.astype(np.float64).reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])

    scale, mean, shift = (along(np.asarray(v)) for v in (norm.scale(), norm.mean, norm.shift))
    wide = x.astype(np.float64)
    expected = (wide - mean) * scale + shift
    size = (np.abs(wide) + np.abs(mean)) * np.abs(scale) + np.abs(shift)
    limits = error_bounds.bounds("float32", 1, ComputePrecision("float32", 1, flushes_subnormals=True))
    return _judged(y, expected, size * error_bounds.gamma(_NORM_ROUNDINGS, limits.unit) + limits.absolute)


def _judged(y: Array, expected: Array, bound: Array) -> Local:
    if y.shape != expected.shape:
        return Local(False, f"shape {y.shape} where {expected.shape} is right")
    with np.errstate(invalid="ignore"):
        right = (np.abs(y - expected) <= bound) | (np.isnan(y) & np.isnan(expected)) | (y == expected)
    wrong = int(right.size - np.count_nonzero(right))
    if not wrong:
        return Local(True, total=y.size)
    at = np.unravel_index(int(np.argmin(right)), right.shape)
    place = tuple(map(int, at))
    reason = f"value: {wrong} of {y.size} elements are wrong; at {place} got {y[at]:g} where {expected[at]:g} is right"
    return Local(False, reason, wrong, y.size)


# -- between the layers ------------------------------------------------------------------------------------------------


class Glue:
    """How much the inputs of a layer may differ, given how much the outputs before it did."""

    def __init__(self) -> None:
        self.passed_on: list[tuple[float, float]] = []  # how far two outputs are apart, and how large they are
        self.last: Array | None = None

    def explains(self, difference: float, x: Array) -> bool:
        """Whether a difference of two inputs follows from those of the outputs before."""
        total = sum(apart for apart, _ in self.passed_on)
        largest = max((size for _, size in self.passed_on), default=0.0)
        size = max(float(np.max(np.abs(x), initial=0.0)), largest)
        unit = format_of("float32").unit_roundoff
        pooled = 1.0 if self.last is None else _cells(self.last) / _cells(x)
        rounding = error_bounds.gamma(_BETWEEN + _OVERLAP * math.ceil(pooled), unit) * size
        return difference <= total * max(_STRETCH, largest * _GATE) + rounding

    def passed(self, difference: float | None, x: Array, y: Array) -> None:
        """Note the output of one more layer, which takes the place of the one before where it has read just that."""
        if self.last is not None and np.array_equal(self.last, x):
            self.passed_on.pop()
        self.passed_on.append((difference or 0.0, float(np.max(np.abs(y), initial=0.0))))
        self.last = y


def _cells(x: Array) -> int:
    return max(int(np.prod(x.shape[2:])), 1)


def furthest(a: Array, b: Array) -> float | None:
    """The largest difference of two tensors; None where their shapes differ."""
    if a.shape != b.shape:
        return None
    with np.errstate(invalid="ignore"):
        apart = np.abs(a.astype(np.float64) - b)
    apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    worst = float(np.max(apart, initial=0.0))
    return float("inf") if np.isnan(worst) else worst


def margins(large: Array, small: Array) -> tuple[tuple[int, int], ...] | None:
    """The zeros around ``large`` beyond ``small``, (before, after) for each spatial axis; None where it is not that.

    A pad of its own before a convolution belongs to the convolution's padding.
    """
    more = [m - n for m, n in zip(large.shape[2:], small.shape[2:], strict=True)]
    if large.shape[:2] != small.shape[:2] or min(more) < 0 or max(more) > max(small.shape[2:]):
        return None
    best: tuple[float, tuple[tuple[int, int], ...]] | None = None
    for pads in _splits(more):
        inside = cropped(large, pads)
        if np.count_nonzero(large) == np.count_nonzero(inside):
            apart = furthest(inside, small)
            if apart is not None and (best is None or apart < best[0]):
                best = apart, pads
    return None if best is None else best[1]


def _splits(more: list[int]) -> Iterator[tuple[tuple[int, int], ...]]:
    return itertools.product(*[[(lo, n - lo) for lo in range(n + 1)] for n in more])


def cropped(x: Array, pads: tuple[tuple[int, int], ...]) -> Array:
    """``x`` without its margins along the spatial axes; as it is, where there are none."""
    if not pads:
        return x
    inner = tuple(slice(lo, n - hi) for (lo, hi), n in zip(pads, x.shape[2:], strict=True))
    return np.ascontiguousarray(x[(slice(None), slice(None), *inner)])

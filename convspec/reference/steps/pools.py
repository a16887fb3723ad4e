"""Pools: maxima are exact; sums of k elements round k - 1 times."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convspec.reference.im2col import Array
from convspec.reference.steps.computation import Outputs, computes
from convspec.reference.steps.running_error import Rounded
from convspec.spec import steps


@computes(steps.MaxPool)
def _max_pool(step: steps.MaxPool, x: Rounded) -> Outputs:
    return _maximum(step, x)


@computes(steps.AveragePool)
def _average_pool(step: steps.AveragePool, x: Rounded) -> Outputs:
    divisor: Any = step.divisor or _counts(step, x, padded=step.count_include_pad)
    return _total(step, x) / Rounded(divisor, x.form)


@computes(steps.LpPool)
def _lp_pool(step: steps.LpPool, x: Rounded) -> Outputs:
    x = x if step.signed else x.abs()
    total = _total(step, x.power(step.p))
    if step.full_window:
        total = total * (prod(step.kernel_size) / Rounded(_counts(step, x, padded=True), x.form))
    return total.power(1 / step.p)


@computes(steps.AdaptivePool)
def _adaptive_pool(step: steps.AdaptivePool, x: Rounded) -> Outputs:
    return _maximum(step, x) if step.reduction == "max" else _average(step, x)


@computes(steps.GlobalPool)
def _global_pool(step: steps.GlobalPool, x: Rounded) -> Outputs:
    if step.reduction == "lp":
        return _total(step, x.abs().power(step.p)).power(1 / step.p)
    return _maximum(step, x) if step.reduction == "max" else _average(step, x)


def _maximum(step: steps.Pool, x: Rounded) -> Rounded:
    """Return the maximum of each window; not compared where it is NaN or -∞: frameworks differ."""
    value = over_windows(x.value, step.windows(x.value.shape[2:]), np.max, -np.inf)
    return Rounded(value, x.form, np.where(np.isnan(value) | (value == -np.inf), np.inf, 0.0))


def _average(step: steps.Pool, x: Rounded) -> Rounded:
    return _total(step, x) / Rounded(_counts(step, x, padded=False), x.form)


def _total(step: steps.Pool, x: Rounded) -> Rounded:
    windows = step.windows(x.value.shape[2:])
    count = prod(max(map(len, axis), default=0) for axis in windows)
    return x.summed(lambda a: over_windows(a, windows, np.sum, 0.0), count)


def _counts(step: steps.Pool, x: Rounded, *, padded: bool) -> Array:
    """Return the number of elements in each window, those of pads too or only those of the input."""
    sizes = x.value.shape[2:]
    pads = step.pads(sizes) if padded and isinstance(step, steps.WindowPool) else ((0, 0),) * len(sizes)
    counts: Array = np.ones(())
    for windows, n, (lo, hi) in zip(step.windows(sizes), sizes, pads, strict=True):
        inside = [sum(-lo <= place < n + hi for place in window) for window in windows]
        counts = np.multiply.outer(counts, np.asarray(inside, np.float64))
    return counts


def over_windows(
    a: NDArray[Any], windows: tuple[list[range], ...], reduce: Callable[..., Any], fill: float, first: int = 2
) -> NDArray[Any]:
    """Return one number for each window of positions, axis by axis from ``first``; outside the input is ``fill``."""
    for axis, ranges in enumerate(windows, first):
        width = max(map(len, ranges), default=0)
        places = np.asarray([[*window, *[-1] * (width - len(window))] for window in ranges], np.intp)
        places = places.reshape(len(ranges), width)
        inside = (places >= 0) & (places < a.shape[axis])
        index = np.where(inside, places, a.shape[axis])
        edge = np.full((*a.shape[:axis], 1, *a.shape[axis + 1 :]), fill, a.dtype)
        a = reduce(np.concatenate([a, edge], axis).take(index, axis), axis=axis + 1)
    return a

"""Whether a step's results are within their bounds, decided without its whole reference where that suffices.

A sum, product or maximum of two numbers of one format has one right result, which NumPy gives in that format, too. A
batch norm (x - mean)·s + bias has at least the bound 11·u·|(x - mean)·s| + u·(3·|mean·s| + |bias|). Other functions of
each element are computed in blocks that fit a core's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convspec.reference.steps.computation import evaluate_bounded
from convspec.reference.steps.pools import over_windows
from convspec.spec import Array, steps

_OF_TWO = {steps.Add: np.add, steps.Subtract: np.subtract, steps.Multiply: np.multiply, steps.Maximum: np.maximum,
           steps.Minimum: np.minimum}  # fmt: skip
_UNIT = 2.0**-24
_NORM_UNITS = 11.0  # of the 10 of the root, the 2 of the quotient, the product and three more
_BLOCK = 1 << 15


def is_within(
    step: steps.Step, xs: Sequence[Array], ys: Sequence[Array], arrays: Mapping[str, Array], dtype: str
) -> bool:
    """Whether every element of the results is surely within its bound; False where that is not decided."""
    y, *more = ys
    if isinstance(step, steps.MaxPool):
        (x,) = xs
        return np.array_equal(over_windows(x, step.windows(x.shape[2:]), np.max, -np.inf), y)
    if isinstance(step, steps.Linear):
        return _linear_is_within(step, xs[0], y, arrays, dtype)
    if more or any(x.shape != y.shape or x.dtype != y.dtype for x in xs):
        return False
    if isinstance(step, steps.BatchNorm) and not step.batch_statistics and y.dtype == np.float32 and dtype == "float32":
        return _norm_is_within(step, xs[0], y, arrays)
    if isinstance(step, steps.Elementwise | steps.Activation) and not step.arrays:
        flat = [x.reshape(-1) for x in (*xs, y)]
        blocks = ([x[i : i + _BLOCK] for x in flat] for i in range(0, y.size, _BLOCK))
        if isinstance(step, steps.ReLU):
            return all(np.array_equal(np.maximum(x, 0), own) for x, own in blocks)
        if len(xs) == 2 and (function := _OF_TWO.get(type(step))) is not None:
            return all(np.array_equal(function(x, z), own) for x, z, own in blocks)
        return all(_are_within(step, block[:-1], block[-1], {}, dtype) for block in blocks)
    return False


def _linear_is_within(step: steps.Linear, x: Array, y: Array, arrays: Mapping[str, Array], dtype: str) -> bool:
    """Judge some of the results at a time: copies of the weights in float64 would be large."""
    rows = max(_BLOCK // step.in_features, step.out_features // 16, 1)
    if y.shape[step.axis] != step.out_features:
        return False
    for block in (slice(i, i + rows) for i in range(0, step.out_features, rows)):
        own = {name: array[block] for name, array in arrays.items()}
        part = y[(*(slice(None),) * (step.axis % y.ndim), block)]
        if not _are_within(replace(step, out_features=len(own["weight"])), [x], part, own, dtype):
            return False
    return True


def _norm_is_within(step: steps.BatchNorm, x: Array, y: Array, arrays: Mapping[str, Array]) -> bool:
    x, y = (np.moveaxis(a, step.axis, 0).reshape(step.channels, -1) for a in (x, y))
    own = {name: np.asarray(a, np.float64)[:, None] for name, a in arrays.items()}
    mean, scale = own["mean"], own.get("scale", 1.0) / np.sqrt(own["variance"] + step.epsilon)
    bias = own["bias"] if step.bias else np.zeros_like(mean)
    least = _UNIT * (3 * np.abs(mean * scale) + np.abs(bias))
    rows = max(_BLOCK // max(x.shape[1], 1), 1)
    unsure: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for first in range(0, len(x), rows):
        block = slice(first, first + rows)
        product = (x[block] - mean[block]) * scale[block]
        error = product + bias[block]
        error -= y[block]
        np.abs(error, out=error)
        np.abs(product, out=product)
        product *= _NORM_UNITS * _UNIT
        product += least[block]
        channels, places = np.nonzero(~(error <= product))
        unsure.append((channels + first, places))
    channels, places = (np.concatenate(part) for part in zip(*unsure, strict=True))
    if not channels.size:
        return True
    few = {name: np.asarray(array)[channels] for name, array in arrays.items()}
    one = replace(step, channels=channels.size, axis=0)
    return _are_within(one, [x[channels, places]], y[channels, places], few, "float32")


def _are_within(step: steps.Step, xs: Sequence[Array], y: Array, arrays: Mapping[str, Array], dtype: str) -> bool:
    ((expected, bound),) = evaluate_bounded(step, xs, arrays, dtype)
    with np.errstate(invalid="ignore"):
        return bool((np.abs(y - expected) <= bound).all()) and bool(np.isfinite(bound).all())

"""Check whether a norm's output is what the other model's norm computes from the same input.

Bounds (u: unit roundoff, n: numbers of one statistic): the mean is off by γ(n)·mean|x|. The mean square of deviations
is off by γ(n)·v, by the square of the mean's error, and by the rounding of each deviation; computed as E[x²] - E[x]² it
is off by γ(n)·E[x²] instead, which may be more than the variance itself. Eight roundings per element follow, relative
to (|x| + |mean|)·|gain|/√(v + epsilon) and to the shift.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convspec.models.comparison.layer_check import LayerCheck, check_elements
from convspec.reference import error_bounds
from convspec.spec import ComputePrecision, format_of

if TYPE_CHECKING:
    from convspec.contract import Part
    from convspec.spec import Array

_ROUNDINGS = 8
_UNIT = format_of("float32").unit_roundoff


class _Statistics(NamedTuple):
    """Mean and variance for each element, and how far each may be off."""

    mean: Array
    variance: Array
    mean_error: Array
    variance_error: Array


def is_computed(norm: Part) -> bool:
    """Whether the form of a norm is known, so that it can be computed."""
    return bool(norm.norm) or norm.batch_norm


def check_norm(norm: Part, x: Array, y: Array, *, fast_variance: bool) -> LayerCheck:
    """Check that ``y`` is the norm of ``x``, both in the axis order of the norm's own framework.

    ``fast_variance``: whether the layer that computed ``y`` takes the variance as E[x²] - E[x]².
    """
    wide = x.astype(np.float64)
    try:
        statistics = _statistics(norm, wide, fast=fast_variance)
        gain, shift = (_spread(norm, name, neutral, wide.shape) for name, neutral in (("gain", 1.0), ("shift", 0.0)))
        expected, bound = _expect(norm.epsilon, wide, statistics, gain, shift)
    except (ValueError, IndexError):
        return LayerCheck(False, f"the norm of model a does not take an input of shape {x.shape}")
    if y.dtype == np.float16:
        bound = bound + format_of("float16").unit_roundoff * np.abs(expected)
    if not np.isfinite(bound).all() and np.isfinite(wide).all():
        return LayerCheck(None, "its variance cancels: the bound on its rounding says nothing")
    return check_elements(y, expected, bound)


def _expect(epsilon: float, x: Array, s: _Statistics, gain: Array, shift: Array) -> tuple[Array, Array]:
    total = s.variance + epsilon
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.abs(gain) / np.sqrt(total)
        expected = (x - s.mean) * gain / np.sqrt(total) + shift
        rest = np.maximum(total - s.variance_error, 0.0)
        stretch = np.where(s.variance_error > 0, np.sqrt(total / rest), 1.0)
    gamma = error_bounds.gamma(_ROUNDINGS, _UNIT)
    own = s.mean_error + gamma * (np.abs(x) + np.abs(s.mean))
    with np.errstate(invalid="ignore"):
        bound = scale * (own * stretch + np.abs(x - s.mean) * (stretch - 1)) + gamma * np.abs(shift)
    limits = error_bounds.bounds("float32", 1, ComputePrecision("float32", 1, flushes_subnormals=True))
    return expected, bound + limits.absolute


def _statistics(norm: Part, x: Array, *, fast: bool) -> _Statistics:
    if norm.batch_norm:
        zero = np.zeros(())
        return _Statistics(_along(norm.arrays["mean"], norm.axis, x.shape),
                           _along(norm.arrays["variance"], norm.axis, x.shape), zero, zero)  # fmt: skip
    if norm.norm in ("layer", "rms"):
        return _over(x, tuple(norm.axes), fast=fast, centred=norm.norm == "layer")
    if norm.norm == "batch":
        return _over(x, tuple(one for one in range(x.ndim) if one != norm.axis % x.ndim), fast=fast)
    axis = norm.axis % x.ndim
    split = x.reshape(*x.shape[:axis], norm.groups, -1, *x.shape[axis + 1 :])
    found = _over(split, tuple(one for one in range(1, split.ndim) if one != axis), fast=fast)
    return _Statistics(*(np.broadcast_to(one, split.shape).reshape(x.shape) for one in found))


def _over(x: Array, axes: tuple[int, ...], *, fast: bool, centred: bool = True) -> _Statistics:
    count = math.prod(x.shape[axis] for axis in axes)
    gamma = error_bounds.gamma(count + 2, _UNIT)

    def average(values: Array) -> Array:
        return np.asarray(np.mean(values, axis=axes, keepdims=True))

    if not centred:
        square = average(x**2)
        return _Statistics(np.zeros(()), square, np.zeros(()), gamma * square)
    mean = average(x)
    mean_error = gamma * average(np.abs(x))
    variance = average((x - mean) ** 2)
    if fast:
        error = gamma * average(x**2) + 2 * (np.abs(mean) + mean_error) * mean_error + 4 * _UNIT * mean**2
    else:
        rounded = 2 * _UNIT * average(np.abs(x - mean) * (np.abs(x) + np.abs(mean)))
        error = gamma * variance + mean_error**2 + rounded + (_UNIT**2) * average((np.abs(x) + np.abs(mean)) ** 2)
    return _Statistics(mean, variance, mean_error, error)


def _spread(norm: Part, name: str, neutral: float, shape: tuple[int, ...]) -> Array:
    """Return the gain or shift of each element."""
    array = norm.arrays.get(name)
    if array is None:
        return np.asarray(neutral)
    if norm.norm not in ("layer", "rms"):
        if norm.norm == "group" and array.size == norm.groups != shape[norm.axis]:
            array = np.repeat(array, shape[norm.axis] // norm.groups)  # of ONNX, before opset 21
        return _along(array, norm.axis, shape)
    axes = sorted(axis % len(shape) for axis in norm.axes)
    sizes = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
    return array.astype(np.float64).reshape(sizes if array.size == math.prod(sizes) else (*array.shape,))


def _along(array: Array, axis: int, shape: tuple[int, ...]) -> Array:
    sizes = [1] * len(shape)
    sizes[axis] = array.size
    return array.astype(np.float64).reshape(sizes)

"""Norms: y = (x - mean)·s + bias with s = scale / √(variance + epsilon).

Running error analysis takes the errors of its operands for independent. Here they are not, which is used twice: an
error e of the mean changes the variance Σ(x - mean)² / n by e² only, because Σ(x - mean) = 0; and an error of s acts on
x - mean also where a framework computes x·s + (bias - mean·s), whose own roundings grow with the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from convspec.reference.im2col import Array
from convspec.reference.steps.computation import Outputs, computes
from convspec.reference.steps.pools import over_windows
from convspec.reference.steps.running_error import Rounded
from convspec.spec import steps


@computes(steps.BatchNorm)
def _batch_norm(step: steps.BatchNorm, x: Rounded, **arrays: Rounded) -> Outputs:
    axis = step.axis % x.value.ndim
    own = {name: _along(a, x.value.ndim, (axis,)) for name, a in arrays.items()}
    if step.batch_statistics:
        others = [i for i in range(x.value.ndim) if i != axis]
        return _normalise(step, x, _statistics(step, x, others), own)
    return _normalise(step, x, (own["mean"], own["variance"]), own)


@computes(steps.GroupNorm, steps.InstanceNorm)
def _group_norm(step: steps.GroupNorm | steps.InstanceNorm, x: Rounded, **arrays: Rounded) -> Outputs:
    x = x.move_axis(step.axis, 1)
    groups = step.groups if isinstance(step, steps.GroupNorm) else step.channels
    n, channels, *sizes = x.value.shape
    parts = (n, groups, channels // groups, int(np.prod(sizes)))
    own = {name: a.reshape((1, groups, -1, 1)) for name, a in arrays.items()}
    grouped = x.reshape(parts)
    y = _normalise(step, grouped, _statistics(step, grouped, (2, 3)), own)
    return y.reshape(x.value.shape).move_axis(1, step.axis)


@computes(steps.LayerNorm, steps.RMSNorm)
def _layer_norm(step: steps.LayerNorm, x: Rounded, **arrays: Rounded) -> Outputs:
    rank = x.value.ndim
    axes = steps.positive_axes(step.axes, rank, step)
    own_axes = steps.positive_axes(step.parameter_axes or step.axes, rank, step)
    own = {name: _along(a, rank, own_axes) for name, a in arrays.items()}
    if isinstance(step, steps.RMSNorm):
        y = x * (1 / ((x * x).mean(axes) + step.epsilon).sqrt())
        y = y * own["scale"] if step.scale else y
        return y + own["bias"] if step.bias else y
    return _normalise(step, x, _statistics(step, x, axes), own)


@computes(steps.LpNorm)
def _lp_norm(step: steps.LpNorm, x: Rounded) -> Outputs:
    axes = steps.positive_axes(step.axes, x.value.ndim, step)
    return x / x.abs().power(step.p).sum(axes).power(1 / step.p).clip(step.epsilon)


@computes(steps.LocalResponseNorm)
def _local_response_norm(step: steps.LocalResponseNorm, x: Rounded) -> Outputs:
    windows = [range(c - step.size // 2, c + (step.size - 1) // 2 + 1) for c in range(x.value.shape[1])]
    total = (x * x).summed(lambda a: over_windows(a, (windows,), np.sum, 0.0, first=1), step.size)
    return x / (total * step.alpha / step.size + step.k).power(step.beta)


def _statistics(step: steps.Norm, x: Rounded, axes: Sequence[int]) -> tuple[Rounded, Rounded]:
    """Return mean and variance over axes: in two passes, or as E[x²] - E[x]², never below 0."""
    mean = x.mean(axes)
    if step.fast_variance:
        return mean, ((x * x).mean(axes) - mean * mean).clip(0.0)
    distance = np.abs(x.value - mean.value) + mean.error
    centred = Rounded(x.value - mean.value, x.form, x.error + x.form.unit_roundoff * distance)
    variance = (centred * centred).mean(axes)
    return mean, Rounded(variance.value, x.form, variance.error + 2 * mean.error**2)


def _normalise(
    step: steps.Norm, x: Rounded, statistics: tuple[Rounded, Rounded], own: Mapping[str, Rounded]
) -> Rounded:
    mean, variance = statistics
    factor = 1 / (variance + step.epsilon).sqrt()
    if step.scale:
        factor = factor * own["scale"]
    y = (x - mean) * factor
    other = 3 * (x.magnitude + mean.magnitude) * factor.magnitude  # roundings of x·s, mean·s and bias - mean·s
    if step.bias:
        y, other = y + own["bias"], other + own["bias"].magnitude
    return Rounded(y.value, x.form, y.error + other * x.form.unit_roundoff)


def _along(array: Rounded, rank: int, axes: Sequence[int]) -> Rounded:
    """Return an array with its axes at ``axes`` of a tensor with ``rank`` axes."""

    def place(a: Array) -> Array:
        ordered = a.transpose(np.argsort(axes))
        return ordered.reshape([a.shape[axes.index(i)] if i in axes else 1 for i in range(rank)])

    return array.moved(place)

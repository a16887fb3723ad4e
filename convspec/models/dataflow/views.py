"""Views: how the elements of a tensor lie in the value that they come from, as sizes and strides.

A transpose, a reshape or a pixel shuffle computes nothing: its result is the same value, seen another way. An axis of a
view is a list of factors ``(size, stride)``, the slowest first, where the stride counts elements of the value; so an
axis that was flattened from several ones knows their order. Views of two models are equal where their elements are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.contract import TracedStep
from convspec.spec import Array, steps
from convspec.spec.layouts import CHANNELS_LAST

Shape: TypeAlias = tuple[int, ...]
Factor: TypeAlias = tuple[int, int]
Axis: TypeAlias = tuple[Factor, ...]
View: TypeAlias = tuple[Axis, ...]
_NEUTRAL = {steps.Add: 0.0, steps.Subtract: 0.0, steps.Multiply: 1.0, steps.Divide: 1.0}


def dense(shape: Sequence[int]) -> View:
    """Return the view of a value of this shape as it is."""
    strides = [*accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1)][::-1]
    return tuple(() if n == 1 else ((n, stride),) for n, stride in zip(shape, strides, strict=False))


def size(axis: Axis) -> int:
    """Return the number of elements along an axis."""
    return prod(n for n, _ in axis)


def merge(factors: Iterable[Factor]) -> Axis:
    """Return the same elements in the fewest factors: equal element orders become equal lists."""
    merged: list[Factor] = []
    for n, stride in factors:
        if n == 1:
            continue
        if merged and merged[-1][1] == n * stride:
            merged[-1] = (n * merged[-1][0], stride)
        else:
            merged.append((n, stride))
    return tuple(merged)


def regroup(axes: Iterable[Axis], shape: Sequence[int]) -> View | None:
    """Return the elements of the axes, row by row, in another shape; None where that is no view."""
    queue = list(reversed(merge(factor for axis in axes for factor in axis)))
    view = []
    for wanted in shape:
        axis, rest = [], wanted
        while rest > 1:
            n, stride = queue.pop() if queue else (0, 0)
            if n and rest % n == 0:
                axis.append((n, stride))
                rest //= n
            elif n and n % rest == 0:
                axis.append((rest, stride * (n // rest)))
                queue.append((n // rest, stride))
                rest = 1
            else:
                return None
        view.append(tuple(axis))
    return None if 0 in shape else tuple(view)


def ordered(axis: Axis) -> Axis:
    """Return an axis with its elements in the order of the value."""
    return tuple(sorted(axis, key=lambda factor: -factor[1]))


def along(lead: View, other: View) -> list[tuple[int, int, int]] | None:
    """Return both views in common factors ``(size, lead's stride, other's stride)``.

    ``other`` may have fewer axes, and axes of size 1 that are repeated, as NumPy broadcasts; None where the factors
    of the two do not fit.
    """
    common = []
    padded = ((),) * (len(lead) - len(other)) + other
    for mine, theirs in zip(lead, padded, strict=True):
        if not theirs:
            common += [(n, stride, 0) for n, stride in mine]
            continue
        ours, others = list(reversed(mine)), list(reversed(theirs))
        while ours and others:
            (n, s), (m, t) = ours.pop(), others.pop()
            if n % m == 0:
                common.append((m, s * (n // m), t))
                ours += [(n // m, s)] * (n > m)
            elif m % n == 0:
                common.append((n, s, t * (m // n)))
                others.append((m // n, t))
            else:
                return None
        if ours or others:
            return None
    return common


def inner_order(order: Axis, features: int) -> NDArray[np.intp] | None:
    """Return the order of the features in every row of elements; None where rows are not whole, or one is as it is."""
    inner = [factor for factor in order if factor[1] < features]
    outer = merge(order[: len(order) - len(inner)])
    rows = not outer or (len(outer) == 1 and outer[0][1] == features)
    if not rows or size(tuple(inner)) != features or order[len(order) - len(inner) :] != tuple(inner):
        return None
    places = np.zeros((), np.intp)
    for n, stride in inner:
        places = np.add.outer(places, np.arange(n) * stride)
    return places.reshape(-1)


def restore(x: Array, view: View, shape: Sequence[int]) -> Array:
    """Return the value of this shape that a tensor is a view of."""
    factors = [factor for axis in view for factor in axis]
    order = sorted(range(len(factors)), key=lambda i: -factors[i][1])
    return x.reshape([n for n, _ in factors]).transpose(order).reshape(shape)


# -- steps that only move elements -------------------------------------------------------------------------------------


def canonical_order(layout: str, rank: int) -> tuple[int, ...]:
    """Return for each canonical axis the framework's, of a tensor in this layout."""
    return (0, rank - 1, *range(1, rank - 1)) if layout == CHANNELS_LAST and rank > 2 else tuple(range(rank))


def move(traced: TracedStep, view: View, y: Shape) -> View | None:
    """Return the result of a step, of shape ``y``, as a view of what its operand is one of.

    None if the step computes, or its result is no view.
    """
    step = traced.step
    if isinstance(step, steps.Identity) or (isinstance(step, steps.Dropout) and not step.training):
        return view
    if isinstance(step, steps.Elementwise) and step.constant == _NEUTRAL.get(type(step)):
        return view if step.constant is not None and not getattr(step, "reflected", False) else None
    if isinstance(step, steps.Reshape | steps.Squeeze | steps.Unsqueeze):
        return regroup(view, y)
    if isinstance(step, steps.Flatten):
        view = tuple(view[i] for i in canonical_order(traced.layout, len(view)))
        last = step.order == CHANNELS_LAST and len(view) > 2
        return regroup((view[0], *view[2:], view[1]) if last else view, y)
    if isinstance(step, steps.Permute):
        return tuple(view[axis] for axis in step.axes)
    if isinstance(step, steps.Expand):
        aligned: View = ((),) * (len(y) - len(view)) + view
        return tuple(axis or (((n, 0),) if n > 1 else ()) for axis, n in zip(aligned, y, strict=True))
    shuffle = _SHUFFLES.get(type(step)) if isinstance(step, steps.Step) else None
    if shuffle is None:
        return None
    order = canonical_order(traced.layout, len(view))
    moved = shuffle(step, tuple(view[i] for i in order))
    return None if moved is None else tuple(moved[order.index(i)] for i in range(len(view)))


def _pixel_shuffle(step: Any, view: View) -> View | None:
    n, channels, *pixels = view
    blocks = [step.factor] * len(pixels)
    rest = size(channels) // step.factor ** len(pixels)
    parts = regroup([channels], [rest, *blocks] if step.order == "CRD" else [*blocks, rest])
    if parts is None:
        return None
    kept, within = (parts[0], parts[1:]) if step.order == "CRD" else (parts[-1], parts[:-1])
    return (n, kept, *(outer + inner for outer, inner in zip(pixels, within, strict=True)))


def _pixel_unshuffle(step: Any, view: View) -> View | None:
    n, channels, *pixels = view
    split = [regroup([axis], [size(axis) // step.factor, step.factor]) for axis in pixels]
    parts = [axis for axis in split if axis is not None]
    if len(parts) < len(split):
        return None
    inner = [part[1] for part in parts]
    return (n, merge(f for axis in ([channels, *inner] if step.order == "CRD" else [*inner, channels]) for f in axis),
            *(part[0] for part in parts))  # fmt: skip


def _channel_shuffle(step: Any, view: View) -> View | None:
    n, channels, *pixels = view
    parts = regroup([channels], [step.groups, size(channels) // step.groups])
    return None if parts is None else (n, parts[1] + parts[0], *pixels)


_SHUFFLES: dict[type[steps.Step], Callable[[Any, View], View | None]] = {
    steps.PixelShuffle: _pixel_shuffle, steps.PixelUnshuffle: _pixel_unshuffle, steps.ChannelShuffle: _channel_shuffle,
}  # fmt: skip

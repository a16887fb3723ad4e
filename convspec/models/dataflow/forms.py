"""The canonical form of a step that computes: settings, the order of its operands, results and arrays."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.contract import TracedStep
from convspec.models.dataflow import settings
from convspec.models.dataflow.views import Axis, View, along, canonical_order, dense, ordered, size
from convspec.spec import Array, ConvSpec, steps
from convspec.spec.layouts import CHANNELS_LAST

Shape: TypeAlias = tuple[int, ...]
Orders: TypeAlias = "Mapping[str, Mapping[int, NDArray[np.intp]]]"
_AS_IT_IS = (ConvSpec, steps.Other, steps.Embedding, steps.MatMul, steps.Parameter)
_NEUTRAL = {"scale": 1.0, "bias": 0.0}


class Form(NamedTuple):
    """A step in canonical order.

    Attributes:
        settings: equal for steps that compute the same with the same arrays.
        reads: the axes of each operand.
        writes: the shape of each result, and the view of it that the framework's tensor is.
        arrays: without those that change nothing, such as a bias of zeros.
        commutes: whether the order of the operands does not matter.
        orders: the place of each of their features in the framework's array, by array and axis.
    """

    settings: Hashable
    reads: Sequence[Sequence[Axis]]
    writes: Sequence[tuple[Shape, View]]
    arrays: Mapping[str, Array]
    commutes: bool = False
    orders: Orders = {}  # noqa: RUF012 – a named tuple's default, never changed


def viewed(shape: Shape, order: Sequence[int]) -> tuple[Shape, View]:
    """Return the shape with its axes in this order, and the view of that value which the tensor is."""
    canonical = tuple(shape[i] for i in order)
    axes = dense(canonical)
    return canonical, tuple(axes[order.index(i)] for i in range(len(shape)))


def form(
    traced: TracedStep, reads: Sequence[View], values: Sequence[Shape], xs: Sequence[Shape], ys: Sequence[Shape]
) -> Form:
    """Return the canonical form of a step whose operands, of shapes ``xs``, are views of values."""
    step = traced.step
    if isinstance(step, steps.Other) and len(xs) == 1 and list(xs) == list(ys):  # most likely of each element
        return _elementwise(traced, reads, values, xs, ys, 0)
    if traced.note or isinstance(step, _AS_IT_IS) or not xs:
        return _as_it_is(traced, reads, xs, ys)
    step = _as_reduction(step, traced.layout, xs[0], ys[0])
    if isinstance(step, steps.BatchNorm | steps.GroupNorm | steps.InstanceNorm):
        step = replace(step, axis=channel_axis(step, traced.layout, xs[0]))
    if isinstance(step, steps.GroupNorm) and step.groups == 1 and not step.arrays:  # a layer norm over a sample
        step = steps.LayerNorm(xs[0][1:], range(1, len(xs[0])), epsilon=step.epsilon, scale=False, bias=False)
    if isinstance(step, steps.PReLU) and traced.layout == CHANNELS_LAST:
        shape = step.shape + (1,) * (len(xs[0]) - 1 - len(step.shape))
        step = steps.PReLU((*shape[1:], shape[0]))
    lead = max(range(len(xs)), key=lambda i: np.prod(xs[i]))
    if (own := settings.tags(step, xs[lead])) is not None:
        return _along_axes(traced, step, own, reads, xs, ys, lead)
    if isinstance(step, steps.Elementwise | steps.Activation | steps.Dropout):
        return _elementwise(traced, reads, values, xs, ys, lead)
    return _in_layout(traced, reads, xs, ys)


def channel_axis(step: steps.BatchNorm | steps.GroupNorm | steps.InstanceNorm, layout: str, x: Shape) -> int:
    """Return the axis of the channels in the framework's order; a layout that says so outranks the default axis."""
    last = layout == CHANNELS_LAST and step.axis == 1 and x[-1] == step.channels
    return len(x) - 1 if last else step.axis % len(x)


def _as_reduction(step: steps.Step, layout: str, x: Shape, y: Shape) -> steps.Step:
    """Return a pool over whole images as a mean or maximum over their axes."""
    pixels = tuple(sorted(canonical_order(layout, len(x))[2:]))
    whole = isinstance(step, steps.GlobalPool) and step.reduction != "lp"
    if isinstance(step, steps.AdaptivePool | steps.MaxPool | steps.AveragePool) and len(y) == len(x):
        plain = isinstance(step, steps.AdaptivePool) or not any(map(any, step.pads(tuple(x[i] for i in pixels))))
        covers = isinstance(step, steps.AdaptivePool) or step.kernel_size == tuple(x[i] for i in pixels)
        whole = plain and covers and all(y[i] == 1 for i in pixels) and getattr(step, "divisor", None) is None
    if not whole:
        return step
    average = isinstance(step, steps.AveragePool) or getattr(step, "reduction", "max") == "average"
    return steps.Reduce("mean" if average else "max", pixels, keepdims=len(y) == len(x))


def _as_it_is(traced: TracedStep, reads: Sequence[View], xs: Sequence[Shape], ys: Sequence[Shape]) -> Form:
    """Return a step in the framework's own order of axes; a convolution in that of its layout."""
    step = traced.step
    orders = [canonical_order(traced.layout, len(x)) for x in xs]
    outs = [canonical_order(traced.layout, len(y)) for y in ys]
    arrays = _telling(traced.arrays)
    shapes = [tuple(x[i] for i in order) for x, order in zip(xs, orders, strict=True)]
    writes = [viewed(y, order) for y, order in zip(ys, outs, strict=True)]
    own: Hashable = (
        settings.convolution(step, shapes[0], writes[0][0]) if isinstance(step, ConvSpec) else settings.plain(step)
    )
    noted = (own, traced.note, *shapes) if traced.note else own
    if isinstance(step, steps.Parameter):  # which is broadcast: axes of size 1 do not matter
        arrays = {name: a.reshape([n for n in a.shape if n > 1]) for name, a in arrays.items()}
    axes = [[view[i] for i in order] for view, order in zip(reads, orders, strict=True)]
    return Form(noted, axes, writes, arrays)


def _telling(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays without those that change nothing."""
    neutral = {name for name in arrays.keys() & _NEUTRAL.keys() if np.all(arrays[name] == _NEUTRAL[name])}
    return {name: np.asarray(a) for name, a in arrays.items() if name not in neutral}


def _in_layout(traced: TracedStep, reads: Sequence[View], xs: Sequence[Shape], ys: Sequence[Shape]) -> Form:
    """Return a step that computes on ``(N, C, *spatial)``."""
    step = traced.step
    assert isinstance(step, steps.Step)
    plain = _as_it_is(traced, reads, xs, ys)
    x, y = tuple(xs[0][i] for i in canonical_order(traced.layout, len(xs[0]))), plain.writes[0][0]
    own: Hashable = plain.settings
    if isinstance(step, steps.WindowPool):
        own = settings.pool(step, x, y)
    elif isinstance(step, steps.AdaptivePool):
        own = settings.adaptive(step, x, y)
    elif isinstance(step, steps.Resize):
        own = settings.resize(step, x)
    return plain._replace(settings=own)


def _elementwise(
    traced: TracedStep, reads: Sequence[View], values: Sequence[Shape], xs: Sequence[Shape], ys: Sequence[Shape],
    lead: int,
) -> Form:  # fmt: skip
    """Return a step on each element: its result is seen as its first whole operand is."""
    step = traced.step
    assert isinstance(step, steps.Step)
    view, shape = reads[lead], values[lead]
    if xs[lead] != ys[0] or not all(stride for axis in view for _, stride in axis):
        view, shape = dense(ys[0]), ys[0]
    common = [along(view, read) for read in reads]
    operands = [[tuple((n, t) for n, s, t in sorted(c, key=lambda f: -f[1]))] for c in common if c is not None]
    if len(operands) < len(reads):  # orders of elements that no strides describe
        operands, view, shape = [list(read) for read in reads], dense(ys[0]), ys[0]
        own: Hashable = (settings.plain(step), tuple(xs))
    else:
        own = settings.plain(step)
    commutes = isinstance(step, steps.Add | steps.Multiply | steps.Maximum | steps.Minimum)
    return Form(own, operands, [(shape, view)], _telling(traced.arrays), commutes)


def _along_axes(
    traced: TracedStep, step: steps.Step, own: settings.Tags, reads: Sequence[View], xs: Sequence[Shape],
    ys: Sequence[Shape], lead: int,
) -> Form:  # fmt: skip
    """Return a step along axes: these in the order of the value, and their elements too where the arrays can follow."""
    view, x = reads[lead], xs[lead]
    follows = not settings.keeps_order(step)
    order = sorted((i for i in range(len(x)) if x[i] > 1), key=lambda i: -max(s for _, s in view[i]))
    order += [i for i in own if x[i] == 1]
    sorts = {i for i in order if follows or i not in own}
    axes = [[ordered(read[i]) if i in sorts else read[i] for i in order] for read in reads]
    if not follows and len(reads) > 1:  # each has its own order of elements
        axes = [[read[i] for i in order] for read in reads]
        sorts = set()
    sized = [tuple((x[i], own.get(i, settings.FREE)) for i in order) for x in (xs if len(xs) > 1 else [x])]
    shapes = tuple(settings.collapse(*zip(*sizes, strict=True)) if sizes else () for sizes in sized)
    orders = _orders(traced, step, view, [i for i in order if i in own])
    flat = isinstance(step, steps.LayerNorm | steps.PReLU)
    arrays = arrange({name: a.reshape(-1) if flat else a for name, a in _telling(traced.arrays).items()}, orders)
    writes = [_written(step, y, view, x, order, sorts) for y in ys]
    return Form((settings.along_axes(step), shapes), axes, writes, arrays, orders=orders)


def _written(
    step: steps.Step, y: Shape, view: View, x: Shape, order: Sequence[int], sorts: set[int]
) -> tuple[Shape, View]:
    """Return the shape of a result, and the view that the framework's tensor is."""
    gone: set[int] = set()
    if isinstance(step, steps.Select):
        gone = {step.axis % len(x)}
    elif isinstance(step, steps.Reduce) and not step.keepdims:
        gone = {axis % len(x) for axis in step.axes or range(len(x))}
    kept = [i for i in range(len(x)) if i not in gone]
    sizes = dict(zip(kept, y, strict=True))
    shape = tuple(sizes.get(i, 1) for i in order)
    strides = dict(zip(order, (axis[0][1] if axis else 1 for axis in dense(shape)), strict=True))
    axes: list[Axis] = []
    for i in kept:
        if sizes[i] == 1:
            axes.append(())
        elif i in sorts and sizes[i] == x[i]:
            axes.append(tuple((n, s * strides[i]) for n, s in _within(view[i])))
        else:
            axes.append(((sizes[i], strides[i]),))
    return shape, tuple(axes)


def _within(axis: Axis) -> Axis:
    """Return the factors of an axis with the strides that they have when its elements lie in the order of the value."""
    inner = dict(zip(ordered(axis), (a[0] for a in dense([n for n, _ in ordered(axis)])), strict=True))
    return tuple((n, inner[n, s][1]) for n, s in axis)


def feature_order(axis: Axis) -> NDArray[np.intp]:
    """Return for each element of an axis in the order of the value its place in the tensor's."""
    places = np.arange(size(axis)).reshape([n for n, _ in axis])
    return places.transpose(sorted(range(len(axis)), key=lambda i: -axis[i][1])).reshape(-1)


def arrange(arrays: Mapping[str, Array], orders: Orders) -> dict[str, Array]:
    """Return arrays with their elements in these orders."""
    found = dict(arrays)
    for name, own in orders.items():
        for axis, order in own.items() if name in found else ():
            found[name] = found[name].take(order, axis)
    return found


def _orders(traced: TracedStep, step: steps.Step, view: View, own: Sequence[int]) -> Orders:
    """Return how the features of the arrays lie in the order of the value, by array and its axis.

    ``own``: the step's axes in canonical order. Arrays of several axes are taken as one.
    """
    rank = len(view)
    if isinstance(step, steps.Linear):
        return {"weight": {1: feature_order(view[own[0]])}} if own else {}
    if isinstance(step, steps.LayerNorm):
        axes = [axis % rank for axis in step.parameter_axes or step.axes]
    elif isinstance(step, steps.BatchNorm):
        axes = [step.axis % rank]
    elif isinstance(step, steps.PReLU):
        axes = list(own)
    else:
        return {}
    wanted = [i for i in own if i in axes] + [i for i in axes if i not in own]
    places = np.arange(prod(size(view[i]) for i in axes)).reshape([size(view[i]) for i in axes])
    places = places.transpose([axes.index(i) for i in wanted])
    for k, i in enumerate(wanted):
        places = places.take(feature_order(view[i]), k)
    return {name: {0: places.reshape(-1)} for name in traced.arrays}

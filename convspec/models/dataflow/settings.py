"""Settings of a step in canonical order, at the sizes of the run: equal ones compute the same in any spelling.

The padding of a window is where the first one starts, and the number of windows; a global pool is a mean over axes; a
nearest resize is the pixels that it takes. What a step does to an axis is a tag on the axis: no axis has a number.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np

from convspec import reference
from convspec.spec import ConvSpec, steps
from convspec.spec.steps import Step

Shape: TypeAlias = tuple[int, ...]
Tags: TypeAlias = Mapping[int, Hashable]
FREE = None  # of an axis along which a step computes each element by itself
ALL = "all"  # of an axis over which it computes whole, so that neighbours with this tag are one

_WHATEVER_ORDER = (
    steps.Softmax,
    steps.LpNorm,
    steps.LayerNorm,
    steps.Reduce,
    steps.BatchNorm,
    steps.Linear,
    steps.PReLU,
)
ROUNDING_ONLY = ("fast_variance", "scale", "bias", "channels", "shape", "axis", "axes", "parameter_axes")
"""Fields that other parts of the canonical form hold, or that change rounding only."""


def kind_of(own: Hashable) -> Hashable:
    """Return the kind of a step by its settings."""
    while isinstance(own, tuple):
        own = own[0]
    return own


def is_not_negative(own: Hashable) -> bool:
    """Return whether the results of an activation are never below 0."""
    if isinstance(own, tuple) and own[0] in ("Clip", "Sigmoid"):
        given = dict(own[1:])
        minimum = given.get("minimum")
        return given["log"] is False if "log" in given else minimum is not None and minimum >= 0
    return own == plain(steps.ReLU())


def plain(step: Step) -> tuple[Hashable, ...]:
    """Return the kind and the fields of a step that do not count axes."""
    if (isinstance(step, steps.LeakyReLU) and step.slope == 0) or (
        isinstance(step, steps.Clip) and step == steps.Clip(0)
    ):
        step = steps.ReLU()
    own = [(f.name, getattr(step, f.name)) for f in fields(step) if f.name not in ROUNDING_ONLY]  # type: ignore[arg-type]
    return type(step).__name__, *own


# -- steps with windows, on (N, C, *spatial) ---------------------------------------------------------------------------


class Windows(NamedTuple):
    """The settings of a step with windows.

    Attributes:
        kind: of the step, with all settings of a window.
        mode: what is around the input.
        starts: pixels of padding that the first window sees along each axis.
        counts: the number of windows.
        jumps: the change of ``starts`` where the first window is left out.
    """

    kind: tuple[Hashable, ...]
    mode: Hashable
    starts: Shape
    counts: Shape
    jumps: Shape

    def widened(self, pads: Sequence[tuple[int, int]], mode: Hashable) -> Windows | None:
        """Return the settings on the input before a pad of all its axes; None where one step does not express both."""
        if self.kind[0] == "transposed" or any(map(any, pads[:2])) or any(n < 0 for pair in pads for n in pair):
            return None
        if (mode != self.mode and any(self.starts)) or (self.kind[0] in ("MaxPool", "LpPool") and mode != self.mode):
            return None
        kind = self.kind
        if kind[0] == "AveragePool" and not isinstance(kind[1], int):
            return None
        starts = tuple(start + lo for start, (lo, _) in zip(self.starts, pads[2:], strict=True))
        return self._replace(kind=kind, mode=mode, starts=starts)

    def cropped(self, kept: Sequence[tuple[int, int]]) -> Windows:
        """Return the settings of the windows that are kept along each axis: the first, and their number."""
        starts = tuple(s + first * jump for s, (first, _), jump in zip(self.starts, kept, self.jumps, strict=True))
        return self._replace(starts=starts, counts=tuple(n for _, n in kept))


ZEROS = ("constant", 0.0)


def convolution(spec: ConvSpec, x: Shape, y: Shape) -> Windows:
    """Return the settings of a convolution on ``x``, a shape in canonical order."""
    spec = spec.explicit(x)
    assert not isinstance(spec.padding, str)
    dilation = tuple(1 if k == 1 else d for k, d in zip(spec.kernel_size, spec.dilation, strict=True))
    kind = ("transposed" if spec.transposed else "convolution", spec.in_channels, spec.out_channels, spec.groups)
    zeros = spec.padding_mode == "zeros" or not any(map(any, spec.padding))
    jumps = (1,) * spec.ndim if spec.transposed else tuple(-s for s in spec.stride)
    starts = tuple(lo for lo, _ in spec.padding)
    return Windows((*kind, spec.kernel_size, spec.stride, dilation), ZEROS if zeros else (spec.padding_mode,),
                   starts, y[2:], jumps)  # fmt: skip


def pool(step: steps.WindowPool, x: Shape, y: Shape) -> Windows:
    """Return the settings of a pool on ``x``, a shape in canonical order."""
    pads, windows = step.pads(x[2:]), step.windows(x[2:])
    own: tuple[Hashable, ...] = ()
    mode: Hashable = ("constant", -math.inf) if isinstance(step, steps.MaxPool) else ZEROS
    if isinstance(step, steps.AveragePool):
        own = (_divisor(step, x, pads, windows),)
    elif isinstance(step, steps.LpPool):
        own = (step.p, step.signed, step.full_window, tuple(pads))
    kind = (type(step).__name__, *own, step.kernel_size, step.strides, step.dilation)
    return Windows(kind, mode, tuple(lo for lo, _ in pads), y[2:], tuple(-s for s in step.strides))


def pooled_and_divided(own: Hashable, divisor: float) -> Windows | None:
    """Return the settings of an average pool and a division after it as one pool; None where they are none."""
    if not isinstance(own, Windows) or own.kind[0] != "AveragePool" or not isinstance(own.kind[1], int):
        return None
    whole = own.kind[1] * divisor
    return own._replace(kind=(own.kind[0], round(whole), *own.kind[2:])) if whole == round(whole) > 0 else None


def _divisor(
    step: steps.AveragePool, x: Shape, pads: Sequence[tuple[int, int]], windows: Sequence[list[range]]
) -> Hashable:
    whole = prod(step.kernel_size)
    if step.divisor is not None:
        return step.divisor
    ends = [(axis[0][0], axis[-1][-1]) for axis in windows]
    if all(first >= 0 and last < n for (first, last), n in zip(ends, x[2:], strict=True)):
        return whole
    if not step.count_include_pad:
        return "pixels"
    inside = all(last < n + hi for (_, last), n, (_, hi) in zip(ends, x[2:], pads, strict=True))
    return whole if inside else ("padded", tuple(pads))


def adaptive(step: steps.AdaptivePool, x: Shape, y: Shape) -> Hashable:
    """Return the settings of an adaptive pool: those of a plain one where all windows are alike."""
    if all(n % m == 0 for n, m in zip(x[2:], y[2:], strict=True)):
        kernel = tuple(n // m for n, m in zip(x[2:], y[2:], strict=True))
        return pool((steps.MaxPool if step.reduction == "max" else steps.AveragePool)(kernel), x, y)
    windows = tuple(tuple((w.start, w.stop) for w in axis) for axis in step.windows(x[2:]))
    return ("adaptive", step.reduction, windows)


def resize(step: steps.Resize, x: Shape) -> tuple[Hashable, ...]:
    """Return the settings of a resize: its kernel, and the place in the input of each pixel along each axis."""
    places = []
    for axis in range(2, len(x)):
        ramp = np.arange(x[axis]).reshape([-1 if i == axis else 1 for i in range(len(x))])
        (y,) = reference.steps.evaluate(step, [np.broadcast_to(ramp, (1, 1, *x[2:]))])
        row = np.moveaxis(y, axis, -1).reshape(-1, y.shape[axis])[0]
        places.append(tuple(np.round(row, 9).tolist()))
    own = () if step.mode == "nearest" else (step.antialias, step.exclude_outside, step.table_steps)
    return ("Resize", step.mode, *own, step.cubic_coefficient if step.mode == "cubic" else None, tuple(places))


# -- steps along axes --------------------------------------------------------------------------------------------------


def tags(step: Step, shape: Shape) -> Tags | None:
    """Return what the step does to which axes of its input; None for a step that does not work along axes."""
    rank = len(shape)
    if isinstance(step, steps.Softmax | steps.LpNorm | steps.LayerNorm | steps.Reduce):
        axes = (step.axis,) if isinstance(step, steps.Softmax) else step.axes or range(rank)
        found: dict[int, Hashable] = dict.fromkeys((axis % rank for axis in axes), ALL)
        if isinstance(step, steps.LayerNorm) and step.parameter_axes:
            found |= {axis % rank: "own" for axis in step.parameter_axes if axis % rank not in found}
        return found
    if isinstance(step, steps.BatchNorm):
        return {step.axis % rank: "channel"}
    if isinstance(step, steps.PReLU):
        return {axis: "slope" for axis, n in enumerate(step.shape, 1) if n > 1}
    if isinstance(step, steps.GroupNorm | steps.InstanceNorm):
        groups = step.groups if isinstance(step, steps.GroupNorm) else step.channels
        rest = dict.fromkeys(range(1, rank), ALL)
        return rest | {step.axis % rank: ("groups", groups)}
    if isinstance(step, steps.Linear | steps.GLU | steps.Concat):
        return {step.axis % rank: type(step).__name__}
    if isinstance(step, steps.Select):
        return {step.axis % rank: (step.index % shape[step.axis], 1, 1)}
    if isinstance(step, steps.Slice):
        ranges = [range(n)[part] for n, part in zip(shape, step.slices(shape), strict=False)]
        return {i: (r.start, r.step, len(r)) for i, r in enumerate(ranges) if r != range(shape[i])}
    if isinstance(step, steps.Pad):
        pairs = dict(enumerate(step.padding, rank - len(step.padding)))
        if crops(step):
            return {i: (-lo, 1, shape[i] + lo + hi) for i, (lo, hi) in pairs.items() if lo or hi}
        return {i: pair for i, pair in pairs.items() if any(pair)}
    return None


def crops(step: steps.Pad) -> bool:
    """Return whether a pad adds no pixel."""
    return all(n <= 0 for pair in step.padding for n in pair)


def along_axes(step: Step) -> tuple[Hashable, ...]:
    """Return the settings of a step that works along axes, without these."""
    if isinstance(step, steps.Pad):
        return ("Slice",) if crops(step) else ("Pad", step.mode, step.value)
    if isinstance(step, steps.Select):
        return ("Slice",)
    if isinstance(step, steps.Concat | steps.Slice | steps.Linear | steps.GLU):
        return (type(step).__name__,)
    if isinstance(step, steps.InstanceNorm | steps.GroupNorm):
        return ("GroupNorm", step.epsilon)
    if isinstance(step, steps.Reduce):
        return ("Reduce", step.reduction)
    return plain(step)


def keeps_order(step: Step) -> bool:
    """Return whether the order of the elements along a tagged axis matters, beside that of its arrays."""
    return not isinstance(step, _WHATEVER_ORDER)


def collapse(sizes: Sequence[int], of_axes: Sequence[Hashable]) -> tuple[tuple[int, Hashable], ...]:
    """Return sizes with their tags; neighbours that are treated alike are one axis, those of size 1 none."""
    merged: list[tuple[int, Hashable]] = []
    for n, tag in zip(sizes, of_axes, strict=True):
        if n == 1 and tag in (FREE, ALL):
            continue
        if merged and tag in (FREE, ALL) and merged[-1][1] == tag:
            merged[-1] = (n * merged[-1][0], tag)
        else:
            merged.append((n, tag))
    return tuple(merged)

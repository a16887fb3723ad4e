"""Steps that only move elements, as views: transposes, reshapes and shuffles of channels and pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from convspec.contract import TracedStep
from convspec.models.dataflow.views import View, merge, regroup, size
from convspec.spec import steps
from convspec.spec.layouts import CHANNELS_LAST

Shape: TypeAlias = tuple[int, ...]
_NEUTRAL = {steps.Add: 0.0, steps.Subtract: 0.0, steps.Multiply: 1.0, steps.Divide: 1.0}


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

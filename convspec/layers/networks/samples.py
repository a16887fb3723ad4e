"""Steps of a batch as steps of one of its samples: without the first axis, which they must leave alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from convspec.contract.network_words import NotKnown
from convspec.spec import ConvSpec, steps
from convspec.spec.steps import Step

Shape = tuple[int, ...]


def of_sample(step: ConvSpec | Step, shape: Shape) -> Any:
    """Return a step that reads one sample of a batch of this shape; of images its axes are as they were.

    Raises:
        NotKnown: where it works across samples.
    """
    make = next((make for kinds, make in _KINDS if isinstance(step, kinds)), None)
    return make(step, shape) if make else step


def _axis(axis: int, rank: int) -> int:
    """Return an axis of a batch as one of a sample; the last ones stay negative."""
    if axis % rank == 0:
        raise NotKnown("it works across the samples of a batch")
    return axis if axis < 0 else axis - 1


def _axes(axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return tuple(_axis(axis, rank) for axis in axes)


def _one_axis(step: Any, shape: Shape) -> Any:
    return replace(step, axis=_axis(step.axis, len(shape)))


def _several(step: Any, shape: Shape) -> Any:
    rank = len(shape) + (len(step.axes) if isinstance(step, steps.Unsqueeze) else 0)
    named = step.axes or tuple(i for i, n in enumerate(shape) if n == 1 or isinstance(step, steps.Reduce))
    return replace(step, axes=_axes(named, rank))


def _layer_norm(step: Any, shape: Shape) -> Any:
    own = _axes(step.parameter_axes, len(shape))
    return replace(step, axes=_axes(step.axes, len(shape)), parameter_axes=own)


def _permute(step: Any, shape: Shape) -> Any:
    first, *rest = (axis % len(shape) for axis in step.axes)
    if first:
        raise NotKnown("it moves the axis of the batch")
    return steps.Permute(tuple(axis - 1 for axis in rest))


def _shaped(step: Any, shape: Shape) -> Any:
    """Return a reshape or an expansion: its first size is that of the batch."""
    (made,) = step.output_shapes(shape)
    if made[:1] != shape[:1] or len(made) < 1 or (isinstance(step, steps.Expand) and len(made) != len(shape)):
        raise NotKnown("it mixes the samples of a batch")
    return type(step)(made[1:])


def _flatten(step: Any, shape: Shape) -> Any:
    start, end = step.bounds(shape)
    return replace(step, start=_axis(start, len(shape)), end=-1 if end == len(shape) else end - 2)


def _slice(step: Any, _: Shape) -> Any:
    if step.ranges and tuple(step.ranges[0]) != (None, None, 1):
        raise NotKnown("it takes some samples of a batch")
    return steps.Slice(step.ranges[1:])


def _pad(step: Any, shape: Shape) -> Any:
    if len(step.padding) == len(shape):
        raise NotKnown("it pads the axis of the batch")
    return step


_KINDS: tuple[tuple[Any, Callable[[Any, Shape], Any]], ...] = (
    (steps.Concat | steps.Softmax | steps.GLU | steps.Split | steps.Linear | steps.Select, _one_axis),
    (steps.Reduce | steps.Squeeze | steps.Unsqueeze | steps.LpNorm, _several), (steps.LayerNorm, _layer_norm),
    (steps.Permute, _permute), (steps.Reshape | steps.Expand, _shaped), (steps.Flatten, _flatten),
    (steps.Slice, _slice), (steps.Pad, _pad),
)  # fmt: skip

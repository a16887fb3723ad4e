"""Moves: exact, with a bound of 0."""

from __future__ import annotations

from math import prod

import numpy as np

from convspec.errors import UnsupportedError
from convspec.reference.im2col import Array
from convspec.reference.steps.computation import Outputs, computes
from convspec.reference.steps.running_error import Rounded
from convspec.spec import steps


@computes(steps.Identity, steps.Reshape, steps.Squeeze, steps.Unsqueeze)
def _same(_: steps.Step, x: Rounded) -> Outputs:
    return x


@computes(steps.Dropout)
def _dropout(step: steps.Dropout, x: Rounded) -> Outputs:
    if step.training:
        raise UnsupportedError(f"{step} draws at random: evaluate the model in inference mode")
    return x


@computes(steps.Parameter)
def _parameter(_: steps.Step, value: Rounded) -> Outputs:
    return value


@computes(steps.Embedding)
def _embedding(_: steps.Step, x: Rounded, weight: Rounded) -> Outputs:
    rows = x.value.astype(np.int64)
    return weight.moved(lambda table: table[rows])


@computes(steps.Pad)
def _pad(step: steps.Pad, x: Rounded) -> Outputs:
    pads = [(0, 0)] * (x.value.ndim - len(step.padding)) + list(step.padding)
    mode = {"replicate": "edge", "circular": "wrap"}.get(step.mode, step.mode)
    crops = tuple(slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in zip(x.value.shape, pads, strict=True))
    grown = [(max(lo, 0), max(hi, 0)) for lo, hi in pads]
    value = {"constant_values": step.value} if mode == "constant" else {}
    filler = x.lift(step.value).error
    padded = np.pad(x.value[crops], grown, mode, **value)  # type: ignore[call-overload]
    error = np.pad(x.error[crops], grown, "constant", constant_values=filler) if filler else 0.0
    return Rounded(padded, x.form, error)


@computes(steps.Slice)
def _slice(step: steps.Slice, x: Rounded) -> Outputs:
    return x.moved(lambda a: a[step.slices(a.shape)])


@computes(steps.Select)
def _select(step: steps.Select, x: Rounded) -> Outputs:
    return x.moved(lambda a: np.take(a, step.index, step.axis))


@computes(steps.PixelShuffle)
def _pixel_shuffle(step: steps.PixelShuffle, x: Rounded) -> Outputs:
    n, channels, *sizes = x.value.shape
    rank, r = len(sizes), step.factor
    blocks, kept = [r] * rank, channels // r**rank
    parts = [kept, *blocks] if step.order == "CRD" else [*blocks, kept]
    first = (1, range(2, 2 + rank)) if step.order == "CRD" else (1 + rank, range(1, 1 + rank))
    pairs = [axis for i, block in enumerate(first[1]) for axis in (2 + rank + i, block)]
    return x.moved(lambda a: a.reshape(n, *parts, *sizes).transpose(0, first[0], *pairs))


@computes(steps.PixelUnshuffle)
def _pixel_unshuffle(step: steps.PixelUnshuffle, x: Rounded) -> Outputs:
    n, channels, *sizes = x.value.shape
    rank, r = len(sizes), step.factor
    split = [part for size in sizes for part in (size // r, r)]
    blocks, pixels = range(3, 3 + 2 * rank, 2), range(2, 2 + 2 * rank, 2)
    order = (1, *blocks) if step.order == "CRD" else (*blocks, 1)
    return x.moved(lambda a: a.reshape(n, channels, *split).transpose(0, *order, *pixels))


@computes(steps.ChannelShuffle)
def _channel_shuffle(step: steps.ChannelShuffle, x: Rounded) -> Outputs:
    n, channels, *sizes = x.value.shape
    shape = (n, step.groups, channels // step.groups, prod(sizes))
    return x.moved(lambda a: a.reshape(shape).swapaxes(1, 2))


@computes(steps.Flatten)
def _flatten(step: steps.Flatten, x: Rounded) -> Outputs:
    return x.moved(lambda a: np.moveaxis(a, 1, -1) if step.order == "NHWC" and a.ndim > 2 else a)


@computes(steps.Permute)
def _permute(step: steps.Permute, x: Rounded) -> Outputs:
    return x.moved(lambda a: a.transpose(step.axes))


@computes(steps.Expand)
def _expand(step: steps.Expand, x: Rounded) -> Outputs:
    shape = step.output_shape(x.value.shape)
    return x.moved(lambda a: np.broadcast_to(a, shape))


@computes(steps.Concat)
def _concat(step: steps.Concat, *inputs: Rounded) -> Outputs:
    error: Array = np.concatenate([x.error for x in inputs], step.axis)
    return Rounded(np.concatenate([x.value for x in inputs], step.axis), inputs[0].form, error)


@computes(steps.Split)
def _split(step: steps.Split, x: Rounded) -> Outputs:
    ends = np.cumsum(step.sizes)[:-1].tolist()
    errors = np.split(x.error, ends, step.axis)
    values = np.split(x.value, ends, step.axis)
    return [Rounded(value, x.form, error) for value, error in zip(values, errors, strict=True)]

"""Nodes that pad, cut, reorder or join elements."""

from __future__ import annotations

import sys
from collections.abc import Callable

from convspec.contract.tracing import NoWord, OperatorStep
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_onnx.graph import pad_of
from convspec_onnx.steps.operation import FIRST, Builder, Operation, plain

_MODES = {"edge": "replicate", "wrap": "circular"}


def _dropout(call: Operation) -> OperatorStep:
    training = call.has(2) and bool(call.constant(2))
    rate = call.number(1, 0.5) if call.opset >= 12 else plain(call.attributes.get("ratio", 0.5))
    return OperatorStep(steps.Dropout(rate or 0.0, training=training))


def _pad(call: Operation) -> OperatorStep:
    inputs = [call.constant(i) if call.has(i) else None for i in (1, 2, 3)]
    pad = pad_of(call.attributes, inputs, call.x.ndim)
    if pad is None:
        raise NoWord
    value = call.number(2, pad.value) or 0.0
    return OperatorStep(steps.Pad(pad.pairs, _MODES.get(pad.mode, pad.mode), value))


def _slice(call: Operation) -> OperatorStep:
    rank = call.x.ndim
    starts, ends = call.ints("starts", 1) or (), call.ints("ends", 2) or ()
    axes = call.ints("axes", 3) or tuple(range(len(starts)))
    strides = call.ints("steps", 4) or (1,) * len(starts)
    ranges: list[tuple[int | None, int | None, int]] = [(None, None, 1)] * rank
    for axis, start, end, stride in zip(axes, starts, ends, strides, strict=True):
        length = call.x.shape[axis]
        far = end < -length if stride < 0 else end >= length or end > sys.maxsize >> 1
        first = None if stride < 0 and start >= length else start
        ranges[axis % rank] = (first, None if far else end, stride)
    return OperatorStep(steps.Slice(ranges))


def _reshape(call: Operation) -> OperatorStep:
    shape = call.ints("shape", 1) or ()
    if 0 in call.x.shape or call.attributes.get("allowzero"):
        shape = call.y.shape
    return OperatorStep(steps.Reshape(shape))


def _flatten(call: Operation) -> OperatorStep:
    rank = call.x.ndim
    axis = call.attributes.get("axis", 1)
    plain_axis = axis % rank == 1 if rank else False
    return OperatorStep(steps.Flatten() if plain_axis and rank > 1 else steps.Reshape(call.y.shape))


def _axes(make: Callable[[tuple[int, ...]], Step]) -> Builder:
    return lambda call: OperatorStep(make(call.ints("axes", 1) or ()))


def _transpose(call: Operation) -> OperatorStep:
    return OperatorStep(steps.Permute(call.attributes.get("perm") or tuple(reversed(range(call.x.ndim)))))


def _expand(call: Operation) -> OperatorStep:
    call.constant(1)
    return OperatorStep(steps.Expand(call.y.shape))


def _concat(call: Operation) -> OperatorStep:
    return OperatorStep(
        steps.Concat(call.attributes["axis"]), reads=tuple(i for i in range(len(call.values)) if call.has(i))
    )


def _split(call: Operation) -> OperatorStep:
    axis = call.attributes.get("axis", 0)
    return OperatorStep(steps.Split(tuple(y.shape[axis] for y in call.results), axis))


def _gather(call: Operation) -> OperatorStep:
    axis = call.attributes.get("axis", 0)
    if call.fixed[1] and not call.value(1).ndim:
        return OperatorStep(steps.Select(axis, int(call.value(1))))
    table = call.constant(0)
    if axis or table.ndim != 2 or table.dtype.kind != "f" or call.value(1).min(initial=0) < 0:
        raise NoWord
    return OperatorStep(steps.Embedding(*table.shape), reads=(1,), arrays={"weight": table}, sources={"weight": 0})


def _shuffle(make: type[steps.PixelShuffle | steps.PixelUnshuffle]) -> Builder:
    def build(call: Operation) -> OperatorStep:
        order = "DCR" if make is steps.PixelUnshuffle else call.attributes.get("mode", "DCR")
        return OperatorStep(make(call.attributes["blocksize"], order), layout=FIRST)

    return build


def _cast(call: Operation) -> OperatorStep:
    if call.x.dtype != call.y.dtype:
        raise NoWord(f"from {call.x.dtype} to {call.y.dtype}")
    return OperatorStep(steps.Identity())


TABLE: dict[str, Builder] = {
    "Identity": lambda _: OperatorStep(steps.Identity()), "Dropout": _dropout, "Pad": _pad, "Slice": _slice,
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _axes(steps.Squeeze), "Unsqueeze": _axes(steps.Unsqueeze),
    "Transpose": _transpose, "Expand": _expand, "Concat": _concat, "Split": _split, "Gather": _gather,
    "DepthToSpace": _shuffle(steps.PixelShuffle), "SpaceToDepth": _shuffle(steps.PixelUnshuffle),
    "Cast": _cast, "CastLike": _cast,
}  # fmt: skip

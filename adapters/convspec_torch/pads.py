"""Pads right before the convolutions of PyTorch models: modules in a Sequential, calls of ``F.pad``, graphs' nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import nn

from convspec.contract import refuse_shape
from convspec.contract.tracing import Pad, described, pads_met
from convspec_torch import programs, read
from convspec_torch.operations import Computed, Operation
from convspec_torch.steps import trace_steps

_MODULE = re.compile(r"(Zero|Constant|Reflection|Replication|Circular)Pad([123])d")
_OPERATOR = re.compile(r"aten::(constant_pad_nd|pad|(?:reflection|replication)_pad[123]d)")


def before(model: Any, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:
    """By the path of each convolution, the pads before it, the nearest first.

    With a shape, a module's pads are found by a run on an input of it; without one, they are the pads before it in a
    Sequential.
    """
    if programs.is_program(model):
        layers = programs.layers(model)
        return {part.path: list(_chain(call)) for part, call in layers if part.reading is not None}
    if input_shape is None:
        return _in_sequences(model)
    with refuse_shape(input_shape):
        return pads_met(trace_steps(model, [np.zeros(tuple(input_shape), np.float32)]))


# -- modules in a Sequential -------------------------------------------------------------------------------------------


def _in_sequences(model: nn.Module) -> dict[str, list[Pad | str]]:
    found: dict[str, list[Pad | str]] = {}
    paths = {id(module): path for path, module in model.named_modules()}
    for module in model.modules():
        if read._kind(module) != "Sequential":
            continue
        pads: list[Pad | str] = []
        for inner in module.children():
            if read.is_convolution(inner):
                found[paths[id(inner)]] = pads[::-1]
            pad = _of_module(inner)
            pads = [*pads, pad] if pad is not None else []
    return found


def _of_module(module: Any) -> Pad | str | None:
    """What a module pads; None where it is no pad."""
    match = _MODULE.fullmatch(read._kind(module))
    if match is None:
        return None
    mode = "constant" if match[1] == "Constant" else match[1].lower()
    return _described(tuple(module.padding), mode, getattr(module, "value", 0), int(match[2]))


def _described(flat: Sequence[Any], mode: str, value: Any, ndim: int) -> Pad | str:
    """A pad written as PyTorch does: (before, after) from the last axis on."""
    if not all(isinstance(n, int) for n in flat):
        return "it depends on the input's size"
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)][::-1]
    return described(mode, [(0, 0)] * (ndim + 2 - len(pairs)) + pairs, 0 if value is None else value)


# -- programs ----------------------------------------------------------------------------------------------------------


def _chain(conv: Operation) -> Iterator[Pad | str]:
    """The pads before a call of a convolution."""
    rank = conv.given["weight"].ndim
    source = conv.given["input"]
    while isinstance(source, Computed) and source.made is not None:
        match = _OPERATOR.fullmatch(source.made.name)
        if match is None:
            return
        given = source.made.given
        flat: Any = given.get("pad", given.get("padding"))
        mode = given.get("mode") or ("constant" if match[1] == "constant_pad_nd" else match[1].partition("_")[0])
        yield _described([flat] if isinstance(flat, Computed) else flat, mode, given.get("value"), rank - 2)
        source = given["self"]

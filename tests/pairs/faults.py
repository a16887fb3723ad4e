"""Faults that are planted into a convolution of an exported graph, or into what it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from convspec_onnx.loading import to_array
from onnx import helper, numpy_helper

from tests.adapters.onnx import faulty

KINDS = ("Conv", "ConvTranspose", "QLinearConv", "ConvInteger", "FusedConv")
QDQ = ("QDQ, per channel", "QDQ, per tensor")


class UnfitError(Exception):
    """Raised where a node has no place for a fault."""


@dataclass(frozen=True)
class Fault:
    """A change of a node; ``ways``: of exports that have a place for it; ``repairs``: whether one attribute or array
    sets it right."""

    change: Callable[[Any, Any], None]
    repairs: bool = False
    ways: tuple[str, ...] | None = None


def plant(model: Any, node: Any, fault: Fault) -> bool:
    """Change the node; return whether that is another function."""
    before = model.SerializeToString()
    try:
        fault.change(model, node)
    except (UnfitError, StopIteration, AttributeError, IndexError, KeyError):
        model.ParseFromString(before)
        return False
    return bool(model.SerializeToString() != before)


def _tensor(model: Any, name: str) -> Any:
    return next(t for t in model.graph.initializer if t.name == name)


def _own(model: Any, node: Any, place: int) -> np.ndarray:
    """Return an array that this node alone reads."""
    name = node.input[place]
    if sum(name in other.input for other in model.graph.node) > 1:
        raise UnfitError
    return np.asarray(to_array(_tensor(model, name)))


def _edit(place: int, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any, Any], None]:
    def change(model: Any, node: Any) -> None:
        old = _own(model, node, place)
        new = np.asarray(function(old.copy()), old.dtype)
        if new.shape != old.shape or np.array_equal(new, old):
            raise UnfitError
        faulty.change(model, node.input[place], lambda _: new)

    return change


def _attribute(name: str, function: Callable[[list[int], Any], list[int]]) -> Callable[[Any, Any], None]:
    def change(model: Any, node: Any) -> None:
        old = list(faulty.attribute(node, name).ints)
        new = function(list(old), node)
        if new == old or min(new) < 0:
            raise UnfitError
        if name != "pads" and set(faulty.attribute(node, "kernel_shape").ints) == {1}:
            raise UnfitError  # dilation has no effect on one tap
        faulty.put(node, **{name: new})

    return change


def _halves(pads: list[int]) -> tuple[list[int], list[int]]:
    return pads[: len(pads) // 2], pads[len(pads) // 2 :]


def _spoil(place: float, value: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    def change(w: np.ndarray) -> np.ndarray:
        i = int(w.size * place)
        w.reshape(-1)[i] = value(w.reshape(-1)[i])
        return w

    return change


def _scale_channel(w: np.ndarray) -> np.ndarray:
    w[0] = w[0] * 2
    return w


def _kernel_of_another(model: Any, node: Any) -> None:
    mine = _own(model, node, 1)
    others = (to_array(_tensor(model, n.input[1])) for n in model.graph.node if n.op_type in KINDS and n is not node
              and any(t.name == n.input[1] for t in model.graph.initializer))  # fmt: skip
    other = next(w for w in others if w.shape == mine.shape and not np.array_equal(w, mine))
    faulty.change(model, node.input[1], lambda _: other)


def _activation(kind: str) -> Callable[[Any, Any], None]:
    def change(model: Any, node: Any) -> None:
        before = next(n for n in model.graph.node if n.output[0] == node.input[0])
        readers = [n for n in model.graph.node if before.output[0] in n.input]
        if before.op_type not in ("Relu", "LeakyRelu", "Tanh", "Elu") or len(readers) > 1:
            raise UnfitError
        before.op_type = kind
        del before.attribute[:]

    return change


def _channels_moved(model: Any, node: Any) -> None:
    """Put a permutation of the channels before the node."""
    w = _own(model, node, 1)
    count = w.shape[0 if node.op_type == "ConvTranspose" else 1]
    if count < 2 or faulty.attribute(node, "group").i > 1:
        raise UnfitError
    model.graph.initializer.append(numpy_helper.from_array(np.arange(count)[::-1].copy(), "fault/order"))
    gather = helper.make_node("Gather", [node.input[0], "fault/order"], ["fault/moved"], "fault/gather", axis=1)
    place = list(model.graph.node).index(node)
    model.graph.node[place].input[0] = "fault/moved"
    model.graph.node.insert(place, gather)


def _groups_swapped(model: Any, node: Any) -> None:
    groups = faulty.attribute(node, "group").i
    if groups < 2:
        raise UnfitError
    _edit(1, lambda w: np.roll(w, len(w) // groups, 0))(model, node)


def _output_padding(model: Any, node: Any) -> None:
    old = list(faulty.attribute(node, "output_padding").ints) if faulty.attribute(node, "output_padding") else [0, 0]
    if node.op_type != "ConvTranspose" or min(faulty.attribute(node, "strides").ints) < 2:
        raise UnfitError
    faulty.put(node, output_padding=[1 - old[0], old[1]])


def _scale(place: int, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any, Any], None]:
    """Change the scale (1) or the integers (0) of a DequantizeLinear that gives the node's kernel."""

    def change(model: Any, node: Any) -> None:
        dequantize = next(n for n in model.graph.node if n.output[0] == node.input[1])
        _edit(place, function)(model, dequantize)

    return change


def _bias_lost(model: Any, node: Any) -> None:
    if not _own(model, node, 2).any():
        raise UnfitError
    del node.input[2:]


def _moved(pads: list[int], _: Any) -> list[int]:
    before, after = _halves(pads)
    return [*(n + 1 for n in before), *(n - 1 for n in after)]


FAULTS = {
    "pads moved": Fault(_attribute("pads", _moved), True),
    "pads of one axis moved": Fault(_attribute("pads", lambda p, _: [p[0] - 1, p[1], p[2] + 1, p[3]]), True),
    "pads of one side dropped": Fault(_attribute("pads", lambda p, _: [0, p[1], p[2] + p[0], p[3]]), True),
    "dilation dropped": Fault(_attribute("dilations", lambda d, _: [1, 1])),
    "dilation of one axis dropped": Fault(_attribute("dilations", lambda d, _: [d[0], 1])),
    "axes of the pads exchanged": Fault(_attribute("pads", lambda p, _: [p[1], p[0], p[3], p[2]])),
    "output padding": Fault(_output_padding),
    "kernel flipped": Fault(_edit(1, lambda w: w[..., ::-1, ::-1]), True),
    "kernel flipped along one axis": Fault(_edit(1, lambda w: w[..., ::-1, :]), True),
    "kernel's height and width exchanged": Fault(_edit(1, lambda w: w.swapaxes(2, 3)), True),
    "kernel's channels exchanged": Fault(_edit(1, lambda w: w.swapaxes(0, 1)), True),
    "outputs reversed": Fault(_edit(1, lambda w: w[::-1]), True),
    "outputs rolled": Fault(_edit(1, lambda w: np.roll(w, 1, 0)), True),
    "inputs reversed": Fault(_edit(1, lambda w: w[:, ::-1]), True),
    "groups rolled": Fault(_groups_swapped, True),
    "one sign": Fault(_edit(1, _spoil(0.5, lambda v: -v)), True),
    "one weight zero": Fault(_edit(1, _spoil(0.3, lambda v: 0)), True),
    "one weight undefined": Fault(_edit(1, _spoil(0.7, lambda v: np.nan)), True),
    "one weight infinite": Fault(_edit(1, _spoil(0.2, lambda v: np.inf)), True),
    "weights rounded to float16": Fault(_edit(1, lambda w: w.astype(np.float16)), True),
    "weights scaled": Fault(_edit(1, lambda w: w * 1.001), True),
    "weights of one channel doubled": Fault(_edit(1, _scale_channel), True),
    "weights of another layer": Fault(_kernel_of_another, True),
    "weights zero": Fault(_edit(1, np.zeros_like), True),
    "bias lost": Fault(_bias_lost, True),
    "bias negated": Fault(_edit(2, np.negative), True),
    "bias rolled": Fault(_edit(2, lambda b: np.roll(b, 1)), True),
    "bias reversed": Fault(_edit(2, lambda b: b[::-1]), True),
    "bias doubled": Fault(_edit(2, lambda b: 2 * b), True),
    "one number of the bias": Fault(_edit(2, _spoil(0.6, lambda v: v + 0.01)), True),
    "activation before it lost": Fault(_activation("Identity")),
    "activation before it a sigmoid": Fault(_activation("Sigmoid")),
    "activation before it a softplus": Fault(_activation("Softplus")),
    "channels before it reversed": Fault(_channels_moved),
    "scale of a channel doubled": Fault(_scale(1, lambda s: np.concatenate([2 * s[:1], s[1:]])), ways=QDQ[:1]),
    "scales reversed": Fault(_scale(1, lambda s: s[::-1]), ways=QDQ[:1]),
    "scale doubled": Fault(_scale(1, lambda s: 2 * s), ways=QDQ[1:]),
    "integers reversed": Fault(_scale(0, lambda w: w[::-1]), ways=QDQ),
    "integers flipped": Fault(_scale(0, lambda w: w[..., ::-1]), ways=QDQ),
    "integers negated": Fault(_scale(0, np.negative), ways=QDQ),
}  # fmt: skip

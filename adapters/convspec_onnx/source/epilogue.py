"""What follows a convolution and may belong to its layer: sums and products by channel, moves of axes, crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from convspec.models import BatchNorm, Layer
from convspec_onnx.graph import Conv, Scope, attributes_of
from convspec_onnx.loading import Array

Axes = list[int | None]  # the canonical axis that each axis of a tensor is; None for an axis that is none

_MAX_NODES = 12
_SUMS = ("Add", "Sub", "Mul", "Div")
_IDENTITIES = ("Identity", "Dropout")


def layer_of(conv: Conv) -> Layer | None:
    """Return a node as a layer, with the normalisation directly after it and the sums and products that follow."""
    if conv.spec is None or conv.params is None:
        return None
    epilogue = epilogue_of(conv)
    pads = ((0, 0),) * conv.spec.ndim if conv.rows else conv.pads_before()
    return Layer(conv.path, conv.spec, conv.params, epilogue.norm, pads, tuple(epilogue.sums), conv.weight,
                 conv.rows is not None)  # fmt: skip


def epilogue_of(conv: Conv) -> Epilogue:
    """Return what follows a node that has its spec."""
    assert conv.spec is not None
    output = conv.node.output[0]
    axes: Axes = [0, 1, *range(2, 2 + conv.spec.ndim)]
    if conv.rows:
        axes = [None] * len(conv.scope.shape(output) or ())
        if axes:
            axes[conv.rows[2]] = 1
    epilogue = Epilogue(conv.scope, conv.spec.out_channels, conv.joined)
    if axes:
        epilogue.follow(output, axes)
    return epilogue


@dataclass
class Epilogue:
    """The nodes after a convolution, as far as each tensor has one consumer.

    Attributes:
        norm: a BatchNormalization directly after the convolution.
        sums: all further products and sums by channel, in order.
        crops: ``(spatial axis, start, end)`` of each Slice with a step of 1.
        joined: for a part of a split layer: the tensor that concatenates the parts' channels, the index of the first
            channel of this part, and the number of all channels.
        end: the last tensor, and its axes.
    """

    scope: Scope
    channels: int
    joined: tuple[str, int, int] | None = None
    norm: BatchNorm | None = None
    sums: list[BatchNorm] = field(default_factory=list)
    crops: list[tuple[int, int, int]] = field(default_factory=list)
    end: tuple[str, Axes] = ("", [])

    def __post_init__(self) -> None:
        self.own, self.total = slice(None), self.channels  # its channels among those of the current tensor

    def follow(self, name: str, axes: Axes) -> None:
        """Follow a tensor from node to node."""
        for step in range(_MAX_NODES):
            consumers = self.scope.consumers.get(name, [])
            if len(consumers) != 1 or not consumers[0].output:
                break
            after = self._axes_after(consumers[0], name, axes, first=step == 0)
            if after is None:
                break
            axes, name = after, consumers[0].output[0]
        self.end = name, axes

    def _axes_after(self, node: onnx.NodeProto, name: str, axes: Axes, *, first: bool) -> Axes | None:
        """Take in a node and return the axes after it; None for a node that ends the epilogue."""
        op, attributes = node.op_type, attributes_of(node)
        if op in _IDENTITIES:
            return axes
        if op in _SUMS:
            return axes if self._take_sum(node, name, axes) else None
        if op == "BatchNormalization":
            return axes if self._take_norm(node, attributes, axes, first=first) else None
        if op == "Cast":  # to the type that it has: Keras' export on PyTorch is full of them
            return axes if attributes.get("to") == self.scope.element_type(name) else None
        if op == "Transpose":
            order = attributes.get("perm") or tuple(reversed(range(len(axes))))
            return [axes[i] for i in order] if len(order) == len(axes) else None
        if op in ("Squeeze", "Unsqueeze"):
            given = self._constant(node, 1)
            places = attributes.get("axes") if given is None else [int(n) for n in given]
            return None if places is None else _unit_axes(op, places, axes)
        if op == "Reshape":  # one that keeps the channels last
            shape = self._constant(node, 1)
            if shape is None or not shape.size or axes[-1:] != [1] or int(shape.reshape(-1)[-1]) != self.total:
                return None
            return [*[None] * (shape.size - 1), 1]
        if op == "Concat" and self.joined and self.joined[0] == node.output[0]:
            _, start, self.total = self.joined
            self.own = slice(start, start + self.channels)
            return axes
        return axes if op == "Slice" and self._take_crop(node, axes) else None

    def _constant(self, node: onnx.NodeProto, index: int) -> Array | None:
        return self.scope.constant(node.input[index]) if len(node.input) > index and node.input[index] else None

    def _take_sum(self, node: onnx.NodeProto, name: str, axes: Axes) -> bool:
        index = 1 if node.input[0] == name else 0
        if index == 0 and node.op_type in ("Sub", "Div"):
            return False
        value = self._constant(node, index)
        vector = None if value is None else self._by_channel(value, axes)
        if vector is None:
            return False
        one, zero = np.ones(self.channels), np.zeros(self.channels)
        with np.errstate(divide="ignore"):
            gain = {"Mul": vector, "Div": 1 / vector if node.op_type == "Div" else one}.get(node.op_type, one)
        shift = vector if node.op_type == "Add" else zero
        self.sums.append(BatchNorm(gain, shift, vector if node.op_type == "Sub" else zero, one, 0.0))
        return True

    def _by_channel(self, value: Array, axes: Axes) -> Array | None:
        """Return one number per channel; None for numbers that vary along another axis too."""
        if value.dtype.kind != "f" or value.ndim > len(axes):
            return None
        own_axes = axes[len(axes) - value.ndim :]
        others = {n for n, axis in zip(value.shape, own_axes, strict=True) if axis != 1}
        if others - {1} or value.size not in (1, self.total):
            return None
        return np.broadcast_to(value.astype(np.float64).reshape(-1), (self.total,))[self.own].copy()

    def _take_norm(self, node: onnx.NodeProto, attributes: dict[str, Any], axes: Axes, *, first: bool) -> bool:
        values = [self._constant(node, index) for index in range(1, 5)]
        if axes[1:2] != [1] or any(v is None or v.shape != (self.total,) for v in values):
            return False
        epsilon = float(str(np.float32(attributes.get("epsilon", 1e-5))))
        gain, shift, mean, variance = (np.asarray(value)[self.own] for value in values)
        norm = BatchNorm(gain, shift, mean, variance, epsilon)
        if first:
            self.norm = norm
        else:
            self.sums.append(norm)
        return True

    def _take_crop(self, node: onnx.NodeProto, axes: Axes) -> bool:
        starts, ends, places, steps = (self._constant(node, index) for index in range(1, 5))
        if starts is None or ends is None or (steps is not None and set(steps.tolist()) != {1}):
            return False
        indices = range(len(starts)) if places is None else [int(n) for n in places]
        crops = []
        for index, start, end in zip(indices, starts, ends, strict=True):
            axis = axes[index % len(axes)]
            if axis is not None and axis >= 2:
                crops.append((axis - 2, int(start), int(end)))
            elif (int(start), int(end) >= 1 << 30) != (0, True):
                return False
        self.crops += crops
        return True

    def crop(self, window: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Return the start and length of the tensor along each axis, after the crops."""
        cropped = list(window)
        for axis, start, end in self.crops:
            begin, size = cropped[axis]
            low, high, _ = slice(start, end).indices(size)
            cropped[axis] = begin + low, max(high - low, 0)
        return tuple(cropped)


def _unit_axes(op: str, places: Sequence[int], axes: Axes) -> Axes:
    """Return the axes after a Squeeze or Unsqueeze."""
    if op == "Squeeze":
        removed = {n % len(axes) for n in places}
        return [axis for place, axis in enumerate(axes) if place not in removed]
    rank, after = len(axes) + len(places), list(axes)
    for place in sorted(n % rank for n in places):
        after.insert(place, None)
    return after

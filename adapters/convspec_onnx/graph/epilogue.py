"""What stands right behind a convolution and may belong to it: sums and products by channel, moves of axes, crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.models import BatchNorm
from convspec_onnx.graph.convolutions import value_of

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from convspec_onnx.graph.convolutions import Scope

    Array = NDArray[Any]

_MOST = 12  # nodes that are looked at
_SUMS = ("Add", "Sub", "Mul", "Div")
_PLAIN = ("Identity", "Dropout")


@dataclass
class Behind:
    """A walk along the tensors that only one node reads.

    Attributes:
        norm: a BatchNormalization right behind the node.
        sums: all further products and sums by channel, in order.
        crops: ``(spatial axis, start, end)`` of each Slice with a step of 1.
        joined: of a part of a layer: the tensor in which its channels stand among others, the place of the first of
            them, and how many there are in all. The walk goes on behind it.
        end: the tensor that it ends at, and its axes.
    """

    scope: Scope
    channels: int
    joined: tuple[str, int, int] | None = None
    norm: BatchNorm | None = None
    sums: list[BatchNorm] = field(default_factory=list)
    crops: list[tuple[int, int, int]] = field(default_factory=list)
    end: tuple[str, list[int | None]] = ("", [])

    def __post_init__(self) -> None:
        self.mine, self.wide = slice(None), self.channels  # where its channels stand, and among how many

    def walk(self, name: str, axes: Sequence[int | None]) -> Behind:
        """Follow a tensor; ``axes`` are the canonical axes that its own ones are, None where they are none."""
        known, now = readers(self.scope), list(axes)
        for place in range(_MOST):
            users = known.get(name, [])
            if len(users) != 1 or not users[0].output:
                break
            node = users[0]
            after = self._step(node, name, now, first=place == 0)
            if after is None:
                break
            now, name = after, node.output[0]
        self.end = name, now
        return self

    def _step(self, node: onnx.NodeProto, name: str, axes: list[int | None], *, first: bool) -> list[int | None] | None:
        """The axes behind a node; None where the walk ends in front of it."""
        if node.op_type in _PLAIN:
            return axes
        if node.op_type in _SUMS:
            return axes if self._sum(node, name, axes) else None
        if node.op_type == "BatchNormalization":
            return axes if self._normalisation(node, axes, first=first) else None
        attributes = {a.name: value_of(a) for a in node.attribute}
        if node.op_type == "Cast":  # to the type that it has: Keras' export on PyTorch is full of them
            return axes if attributes.get("to") == self.scope.element(name) else None
        if node.op_type == "Transpose":
            order = attributes.get("perm") or tuple(reversed(range(len(axes))))
            return [axes[i] for i in order] if len(order) == len(axes) else None
        if node.op_type in ("Squeeze", "Unsqueeze"):
            return self._unit_axes(node, attributes, axes)
        if node.op_type == "Reshape":
            return self._reshaped(node, axes)
        if node.op_type == "Concat" and self.joined and self.joined[0] == node.output[0]:
            _, start, self.wide = self.joined
            self.mine = slice(start, start + self.channels)
            return axes
        return axes if node.op_type == "Slice" and self._crop(node, axes) else None

    def _constant(self, node: onnx.NodeProto, place: int) -> Array | None:
        return self.scope.constant(node.input[place]) if len(node.input) > place and node.input[place] else None

    def _sum(self, node: onnx.NodeProto, name: str, axes: list[int | None]) -> bool:
        place = 1 if node.input[0] == name else 0
        if place == 0 and node.op_type in ("Sub", "Div"):
            return False
        value = self._constant(node, place)
        vector = None if value is None else self._by_channel(value, axes)
        if vector is None:
            return False
        one, zero = np.ones(self.channels), np.zeros(self.channels)
        with np.errstate(divide="ignore"):
            gain = {"Mul": vector, "Div": 1 / vector if node.op_type == "Div" else one}.get(node.op_type, one)
        shift = vector if node.op_type == "Add" else zero
        self.sums.append(BatchNorm(gain, shift, vector if node.op_type == "Sub" else zero, one, 0.0))
        return True

    def _by_channel(self, value: Array, axes: list[int | None]) -> Array | None:
        """One number for each channel; None where the numbers go along another axis as well."""
        if value.dtype.kind != "f" or value.ndim > len(axes):
            return None
        here = axes[len(axes) - value.ndim :]
        wide = [n for n, axis in zip(value.shape, here, strict=True) if axis != 1]
        if set(wide) - {1} or value.size not in (1, self.wide):
            return None
        return np.broadcast_to(value.astype(np.float64).reshape(-1), (self.wide,))[self.mine].copy()

    def _normalisation(self, node: onnx.NodeProto, axes: list[int | None], *, first: bool) -> bool:
        values = [self._constant(node, place) for place in range(1, 5)]
        if axes[1:2] != [1] or any(v is None or v.shape != (self.wide,) for v in values):
            return False
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        gain, shift, mean, variance = (np.asarray(value)[self.mine] for value in values)
        found = BatchNorm(gain, shift, mean, variance, float(str(np.float32(epsilon))))
        if first:
            self.norm = found
        else:
            self.sums.append(found)
        return True

    def _unit_axes(
        self, node: onnx.NodeProto, attributes: dict[str, Any], axes: list[int | None]
    ) -> list[int | None] | None:
        given = self._constant(node, 1)
        places = attributes.get("axes") if given is None else [int(n) for n in given]
        if places is None:
            return None
        if node.op_type == "Squeeze":
            gone = {n % len(axes) for n in places}
            return [axis for place, axis in enumerate(axes) if place not in gone]
        rank, found = len(axes) + len(places), list(axes)
        for place in sorted(n % rank for n in places):
            found.insert(place, None)
        return found

    def _reshaped(self, node: onnx.NodeProto, axes: list[int | None]) -> list[int | None] | None:
        """Only a reshape that leaves the channels last."""
        shape = self._constant(node, 1)
        if shape is None or not shape.size or axes[-1:] != [1] or int(shape.reshape(-1)[-1]) != self.wide:
            return None
        return [*[None] * (shape.size - 1), 1]

    def _crop(self, node: onnx.NodeProto, axes: list[int | None]) -> bool:
        starts, ends, places, steps = (self._constant(node, place) for place in range(1, 5))
        if starts is None or ends is None or (steps is not None and set(steps.tolist()) != {1}):
            return False
        where = range(len(starts)) if places is None else [int(n) for n in places]
        found = []
        for place, start, end in zip(where, starts, ends, strict=True):
            axis = axes[place % len(axes)]
            if axis is None or axis < 2:
                if (int(start), int(end) >= 1 << 30) != (0, True):
                    return False
                continue
            found.append((axis - 2, int(start), int(end)))
        self.crops += found
        return True

    def cropped(self, window: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Where the tensor begins along each axis and how long it is, after the crops."""
        found = list(window)
        for axis, start, end in self.crops:
            begin, size = found[axis]
            low, high, _ = slice(start, end).indices(size)
            found[axis] = begin + low, max(high - low, 0)
        return tuple(found)


def readers(scope: Scope) -> dict[str, list[onnx.NodeProto]]:
    """Who reads a tensor of the graph; what bodies read is read by the nodes that they belong to."""
    from convspec_onnx.loading.inline_functions import uses

    if scope.readers is None:
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in scope.proto.node:
            for name in set(uses(node)):
                found.setdefault(name, []).append(node)
        scope.readers = found
    return scope.readers

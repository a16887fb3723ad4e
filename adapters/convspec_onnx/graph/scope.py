"""One graph of a model: its constants, the declared shapes, and who writes and reads each tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper

from convspec_onnx.graph.constants import fold
from convspec_onnx.loading import Array, tensors_read, to_array

_ELEMENT_TYPES = frozenset(map(int, helper.get_all_tensor_dtypes()))


@dataclass
class Scope:
    """A graph and the graph around it; ``weights`` are the model's weights outside its message."""

    proto: onnx.GraphProto
    outer: Scope | None = None
    weights: Mapping[str, Array] = field(default_factory=dict)
    _constants: dict[str, Array | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensors = {tensor.name: tensor for tensor in self.proto.initializer}
        self.producers = {name: node for node in self.proto.node for name in node.output if name}
        entries = (*self.proto.input, *self.proto.value_info, *self.proto.output)
        self.declared = {e.name: e.type.tensor_type for e in entries if e.type.HasField("tensor_type")}

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that writes a tensor, here or in a graph around; None for inputs and initialisers."""
        return self.producers.get(name) or (
            self.outer.producer(name) if self.outer and name not in self.tensors else None
        )

    @cached_property
    def consumers(self) -> Mapping[str, list[onnx.NodeProto]]:
        """The nodes of the graph that read each tensor; what a body reads, its node reads."""
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.proto.node:
            for name in tensors_read(node):
                consumers.setdefault(name, []).append(node)
        return consumers

    def constant(self, name: str) -> Array | None:
        """Return the value of a tensor that follows from the file alone; None if it depends on an input."""
        if name not in self._constants:
            self._constants[name] = None  # ends a circle of bodies
            self._constants[name] = self._constant(name)
        return self._constants[name]

    def _constant(self, name: str) -> Array | None:
        if name in self.weights:
            return self.weights[name]
        if name in self.tensors:
            return to_array(self.tensors[name])
        node = self.producers.get(name)
        if node is None:
            return self.outer.constant(name) if self.outer else None
        element = self.element_type(node.input[1]) if node.op_type == "CastLike" else 0
        values = [self.constant(entry) if entry else None for entry in node.input]
        while values and values[-1] is None and not node.input[len(values) - 1]:
            values.pop()
        if node.op_type == "Reshape" and len(values) == 2 and values[1] is None:
            values[1] = self._partial_shape(node.input[1])
        return fold(node, values, element)

    def _partial_shape(self, name: str) -> Array | None:
        """Return a concatenated shape of which one size depends on an input, with -1 for this size."""
        node = self.producers.get(name)
        if node is None or node.op_type != "Concat":
            return None
        parts = [(self.constant(entry), self.shape(entry)) for entry in node.input]
        if [shape for value, shape in parts if value is None] != [(1,)]:
            return None
        if any(value is not None and value.dtype.kind != "i" for value, _ in parts):
            return None  # not a shape
        return np.concatenate([np.array([-1]) if value is None else value.reshape(-1) for value, _ in parts])

    def element_type(self, name: str) -> int:
        """Return ONNX's number for the element type of a tensor; 0 if unknown or not a type of ONNX."""
        if name in self.tensors:
            element = int(self.tensors[name].data_type)
        elif name in self.declared:
            element = int(self.declared[name].elem_type)
        else:
            return self.outer.element_type(name) if self.outer else 0
        return element if element in _ELEMENT_TYPES else 0

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """Return the declared or inferred shape, symbolic axes by their names; None for an unknown rank."""
        if name in self.tensors:
            return tuple(self.tensors[name].dims)
        declared = self.declared.get(name)
        if declared is None:
            return self.outer.shape(name) if self.outer else None
        if not declared.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in declared.shape.dim)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name: texts as str, lists as tuples."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return value if isinstance(value, int | float) or not hasattr(value, "__iter__") else tuple(value)

    return {a.name: plain(helper.get_attribute_value(a)) for a in node.attribute}


class PadNode(NamedTuple):
    """What a Pad node adds: ``(before, after)`` of every axis, and the value."""

    mode: str
    pairs: list[tuple[int, int]]
    value: float


def read_pad(scope: Scope, node: onnx.NodeProto, rank: int, amounts: Array | None = None) -> PadNode | None:
    """Return what a Pad of a tensor of ``rank`` axes adds; None if it is invalid or computed, but ``amounts``."""
    attributes, names = attributes_of(node), [*node.input[1:4], "", "", ""][:3]
    inputs = [scope.constant(name) if name else None for name in names]
    inputs[0] = inputs[0] if amounts is None else amounts
    if any(name and array is None for name, array in zip(names, inputs, strict=True)):
        return None
    flat = attributes.get("pads", ()) if inputs[0] is None else inputs[0].tolist()  # attributes: before opset 11
    value = attributes.get("value", 0.0) if inputs[1] is None else next(iter(inputs[1].reshape(-1).tolist()), 0.0)
    try:
        axes = list(range(rank)) if inputs[2] is None else [int(axis) % rank for axis in inputs[2].tolist()]
        pairs = [(0, 0)] * rank
        for axis, before, after in zip(axes, flat[: len(axes)], flat[len(axes) :], strict=True):
            pairs[axis] = int(before), int(after)
        return PadNode(attributes.get("mode", "constant"), pairs, float(value))
    except (TypeError, ValueError, ZeroDivisionError):
        return None  # the runtime reports what is wrong with the node


def resolve_output_shape(attributes: dict[str, Any], kernel: Sequence[int], spatial: Sequence[int]) -> dict[str, Any]:
    """Return the attributes with ``pads`` in place of ``output_shape``.

    The odd pixel is cropped at the end for SAME_UPPER and else at the start, as the standard says.
    """
    ndim = len(kernel)
    ones, zeros = (1,) * ndim, (0,) * ndim
    strides, dilations = attributes.get("strides") or ones, attributes.get("dilations") or ones
    extra = list(attributes.get("output_padding") or zeros)
    lows, highs = [], []
    sizes = attributes["output_shape"][-ndim:]
    for axis, (n, s, k, d, size) in enumerate(zip(spatial, strides, kernel, dilations, sizes, strict=True)):
        total = (n - 1) * s + (k - 1) * d + 1 + extra[axis] - size
        if total < 0:
            extra[axis], total = extra[axis] - total, 0
        low = total // 2 if attributes.get("auto_pad") == "SAME_UPPER" else total - total // 2
        lows.append(low)
        highs.append(total - low)
    kept = {k: v for k, v in attributes.items() if k not in ("output_shape", "auto_pad")}
    return kept | {"pads": (*lows, *highs), "output_padding": tuple(extra)}


def as_float(values: Array) -> Array:
    """Return integers as float64, which holds them all, and bfloat16 as float32."""
    if values.dtype.kind in "iub":
        return values.astype(np.float64)
    return values if values.dtype.kind == "f" else values.astype(np.float32)

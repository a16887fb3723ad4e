"""One graph of a model: its constants, the declared shapes, and who writes and reads each tensor.

Constants are folded: the nodes that exporters put between an initialiser and a convolution are computed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper

from convspec_onnx.loading import Array, tensors_read, to_array

_MAX_ELEMENTS = 1 << 26  # of a folded constant
_UNKNOWN = int(np.iinfo(np.int64).min)  # in a shape: a size that depends on an input
_PICKS = ("Cast", "Concat", "Gather", "Identity", "Slice", "Split", "Squeeze", "Unsqueeze")  # sizes, unchanged
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
        outer = None if name in self.tensors else self.outer
        return self.producers.get(name) or (outer.producer(name) if outer else None)

    @cached_property
    def consumers(self) -> Mapping[str, list[onnx.NodeProto]]:
        """The nodes of the graph that read each tensor; what a body reads, its node reads."""
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.proto.node:
            for name in tensors_read(node):
                consumers.setdefault(name, []).append(node)
        return consumers

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """Return the node that reads a tensor, if it is the only one."""
        readers = self.consumers.get(name, ())
        return readers[0] if len(readers) == 1 else None

    def row_after(
        self, product: onnx.NodeProto, constant: Callable[[str], Array | None]
    ) -> tuple[onnx.NodeProto, str, Array] | None:
        """Return the addition of a constant row that alone reads a product with a constant, the row's name, and it."""
        name, kernel = product.output[0], constant(product.input[1])
        add = self.only_reader(name)
        if kernel is None or add is None or add.op_type != "Add" or name in {entry.name for entry in self.proto.output}:
            return None
        rows = ((row, constant(row)) for row in add.input)
        return next(((add, row, a) for row, a in rows if a is not None and a.shape == kernel.shape[1:]), None)

    def constant(self, name: str) -> Array | None:
        """Return the value of a tensor that follows from the file alone; None if it depends on an input."""
        value = self._part(name)
        return None if value is None or _has_unknown(value) else value

    def _part(self, name: str) -> Array | None:
        """Return the value of a tensor as far as it follows from the file: a shape may have unknown sizes."""
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
            return self.outer._part(name) if self.outer else None
        element = self.element_type(node.input[1]) if node.op_type == "CastLike" else 0
        values = [self._part(entry) if entry else None for entry in node.input]
        if node.op_type == "Shape" and values[0] is None and (sizes := self.shape(node.input[0])) is not None:
            known = [n if isinstance(n, int) and n >= 0 else _UNKNOWN for n in sizes]
            return np.array(known, np.int64)[slice(*map(attributes_of(node).get, ("start", "end")))]
        while values and values[-1] is None and not node.input[len(values) - 1]:
            values.pop()
        if node.op_type == "Reshape" and len(values) == 2 and values[1] is None:
            values[1] = self._partial_shape(node.input[1])
        if any(value is not None and _has_unknown(value) for value in values):
            if node.op_type not in _PICKS:
                return None
            if node.op_type == "Cast":
                return values[0]
        return _fold(node, values, element, list(node.output).index(name))

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
    names = [*node.input[1:4], "", "", ""][:3]
    inputs = [scope.constant(name) if name else None for name in names]
    inputs[0] = inputs[0] if amounts is None else amounts
    if any(name and array is None for name, array in zip(names, inputs, strict=True)):
        return None
    return pad_of(attributes_of(node), inputs, rank)


def pad_of(attributes: Mapping[str, Any], inputs: Sequence[Array | None], rank: int) -> PadNode | None:
    """Return what a Pad with these attributes adds; ``inputs``: amounts, value and axes, None where left out."""
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
    extra, sizes = attributes.get("output_padding") or zeros, attributes["output_shape"][-ndim:]
    axes = enumerate(zip(spatial, strides, kernel, dilations, sizes, strict=True))
    over = [(n - 1) * s + (k - 1) * d + 1 + extra[i] - size for i, (n, s, k, d, size) in axes]
    less, more = [max(t, 0) // 2 for t in over], [max(t, 0) - max(t, 0) // 2 for t in over]
    pads = (*less, *more) if attributes.get("auto_pad") == "SAME_UPPER" else (*more, *less)
    kept = {k: v for k, v in attributes.items() if k not in ("output_shape", "auto_pad")}
    longer = tuple(e + max(-t, 0) for e, t in itertools.zip_longest(extra, over, fillvalue=0))
    return kept | {"pads": pads, "output_padding": longer}


def epsilon_of(attributes: Mapping[str, Any]) -> float:
    """Return the epsilon of a norm as it was written: 0.001 for the float32 nearest to it."""
    return float(str(np.float32(attributes.get("epsilon", 1e-5))))


def along_axis(numbers: Array, axis: int, ndim: int) -> Array:
    """Return scales or zero points to be broadcast: one for all elements, or one for each index of an axis."""
    if numbers.size == 1:
        return numbers.reshape(())
    return numbers.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


def as_float(values: Array) -> Array:
    """Return integers as float64, which holds them all, and bfloat16 as float32."""
    if values.dtype.kind in "iub":
        return values.astype(np.float64)
    return values if values.dtype.kind == "f" else values.astype(np.float32)


# -- constants ---


def _has_unknown(value: Array) -> bool:
    return value.dtype == np.int64 and value.ndim < 2 and bool((value == _UNKNOWN).any())


def _fold(node: onnx.NodeProto, values: Sequence[Array | None], element: int, output: int) -> Array | None:
    """Return an output of a node with constant inputs; None for an input that is no constant or another operator.

    ``element``: the element type of the output, if it depends on a tensor that is no constant (CastLike).
    """
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Constant" and attributes:
        value = next(iter(attributes.values()))
        return to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    if node.op_type in ("Cast", "CastLike"):
        to = attributes.get("to") or element
        return None if values[0] is None or not to else values[0].astype(helper.tensor_dtype_to_np_dtype(to))
    if node.op_type == "Split":
        attributes |= {"output": output, "count": len(node.output)}
    rule = _RULES.get(node.op_type)
    if rule is None or any(value is None for value in values):
        return None
    try:
        with np.errstate(all="ignore"):
            return rule(attributes, *values)
    except (ValueError, TypeError, IndexError):
        return None  # the runtime reports what is wrong with the node


def _expand(_: dict[str, Any], x: Array, shape: Array) -> Array | None:
    target = np.broadcast_shapes(x.shape, tuple(int(n) for n in shape))
    return np.broadcast_to(x, target).copy() if math.prod(target) <= _MAX_ELEMENTS else None


def _constant_of_shape(attributes: dict[str, Any], shape: Array) -> Array | None:
    sizes = tuple(int(n) for n in shape)
    value = to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return np.full(sizes, value.reshape(-1)[0]) if math.prod(sizes) <= _MAX_ELEMENTS else None


def _binary(function: Callable[[Array, Array], Array]) -> Callable[..., Array | None]:
    def rule(_: dict[str, Any], a: Array, b: Array) -> Array | None:
        return function(a, b) if math.prod(np.broadcast_shapes(a.shape, b.shape)) <= _MAX_ELEMENTS else None

    return rule


def _divide_integers(a: Array, b: Array) -> Array:
    """Divide integers and round towards zero, as ONNX does; NumPy rounds down."""
    return np.asarray(a // b + ((a % b != 0) & ((a < 0) != (b < 0))).astype(a.dtype))


def dequantize(attributes: dict[str, Any], values: Array, scale: Array, *zero: Array) -> Array | None:
    """Compute (values - zero)·scale; scale and zero are for the whole tensor, or for each index of an axis."""
    if attributes.get("block_size"):
        return None
    step, *own = (along_axis(a, attributes.get("axis", 1), values.ndim) for a in (scale, *zero))
    shifted = values.astype(np.int64) - (own[0].astype(np.int64) if own else 0)
    return np.asarray(shifted.astype(np.float32) * step.astype(np.float32), np.float32)


def _concat(attributes: dict[str, Any], *parts: Array) -> Array | None:
    return np.concatenate(parts, attributes["axis"]) if sum(p.size for p in parts) <= _MAX_ELEMENTS else None


def _slice(_: dict[str, Any], x: Array, starts: Array, ends: Array, *rest: Array) -> Array:
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts), np.int64)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(*(a.tolist() for a in (axes, starts, ends, steps)), strict=True):
        # a negative step to before the first element has no number in Python
        stop = None if step < 0 and end < -x.shape[axis] else end
        index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _split(attributes: dict[str, Any], x: Array, *sizes: Array) -> Array:
    given = sizes[0].tolist() if sizes else attributes.get("split")
    axis, count = attributes.get("axis", 0), attributes["count"]
    each = -(-x.shape[axis] // count)
    ends = np.cumsum(given)[:-1] if given else [each * (n + 1) for n in range(count - 1)]
    return np.asarray(np.split(x, ends, axis)[attributes["output"]])


def _unsqueeze(attributes: dict[str, Any], x: Array, *axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(n) for n in (axes[0] if axes else attributes["axes"])))


_RULES: dict[str, Callable[..., Array | None]] = {
    "Identity": lambda _, x: x,
    "Shape": lambda a, x: np.array(x.shape[a.get("start", 0) : a.get("end")], np.int64),
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Reshape": lambda _, x, s: None if 0 in s else x.reshape(tuple(int(n) for n in s)),
    "Transpose": lambda a, x: np.transpose(x, a.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Squeeze": lambda a, x, *axes: np.squeeze(x, tuple(axes[0]) if axes else tuple(a["axes"]) if "axes" in a else None),
    "Concat": _concat,
    "Slice": _slice,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(lambda a, b: a / b if a.dtype.kind == "f" else _divide_integers(a, b)),
    "Mod": lambda a, x, y: _binary(np.fmod if a.get("fmod") else np.mod)(a, x, y),
    "Max": lambda _, *values: functools.reduce(np.maximum, values),
    "Gather": lambda a, x, index: np.take(x, index, a.get("axis", 0)),
    "Split": _split,
    "Neg": lambda _, x: -x,
    "Sqrt": lambda _, x: np.sqrt(x),
    "Reciprocal": lambda _, x: (1 / x).astype(x.dtype),
    "DequantizeLinear": dequantize,
}

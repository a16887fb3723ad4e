"""The convolutions of an ONNX graph, in the bodies of If, Loop and Scan too: their paths, specs and parameters.

Also those of ONNX Runtime: fused with an activation, channels last, or in blocks of channels, which are not judged.

And matrix products that are 1×1 convolutions: MatMul, Gemm, and Einsum of a tensor and a matrix.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from convspec.errors import RequestError, SpecError, UnsupportedError
from convspec.spec import ConvParams, ConvSpec, Pads
from convspec_onnx.graph.scope import Scope, as_float, attributes_of, read_pad, resolve_output_shape
from convspec_onnx.loading import Array, DetachedModel, subgraphs
from convspec_onnx.parse import spec_of

_PRODUCTS = ("MatMul", "Gemm", "Einsum")
OPERATORS = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "NhwcConv", "NhwcFusedConv")
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_BLOCKED = "com.microsoft.nchwc"
_NO_CONVOLUTION = ("DeformConv",)  # reads the input at computed places
_WEIGHT = {"QLinearConv": 3}  # index of the input; 1 for all others
_BIAS = {"QLinearConv": 8, "ConvInteger": None}  # 2 for all others
_POSITIVE = ("strides", "dilations", "kernel_shape", "group")
COMPUTED_WEIGHTS = "its weights are computed, or inputs of the graph"

_Product = tuple[tuple[str, int, int], Array, Array | None]  # Conv.rows, kernel (O, I), bias


@dataclass
class Conv:
    """One convolution node.

    Attributes:
        path: unique in the model; starts with the nodes in whose bodies the node is.
        owners: for a node in bodies, (node, attribute) from the outermost one in.
        spec: None if the node is not a valid layer, or one that depends on its inputs.
        params: None for computed weights.
        problem: why there is no spec.
        rows: for a matrix product that is a 1×1 convolution: the name of the tensor that it reads, and the channel axes
            of the tensors that it reads and writes.
        joined: for a part of a split layer, see :class:`~convspec_onnx.source.match_nodes.Epilogue`.
    """

    path: str
    node: onnx.NodeProto
    scope: Scope
    owners: tuple[tuple[str, str], ...]
    spec: ConvSpec | None = None
    params: ConvParams | None = None
    problem: str = ""
    notes: list[dict[str, str]] = field(default_factory=list)
    rows: tuple[str, int, int] | None = None
    joined: tuple[str, int, int] | None = None

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return attributes_of(self.node)

    @property
    def data(self) -> str:
        """The tensor that it convolves."""
        return self.rows[0] if self.rows else str(self.node.input[0])

    @property
    def weight(self) -> str:
        if self.rows:
            return str(self.node.input[1 if self.node.input[0] == self.rows[0] else 0])
        return str(self.node.input[_WEIGHT.get(self.node.op_type, 1)])

    @property
    def judged(self) -> bool:
        """Whether convspec knows the operator; others are counted, and unsupported."""
        return bool(self.rows) or (self.node.op_type in OPERATORS and self.node.domain in _DOMAINS)

    @property
    def channels_last(self) -> bool:
        return self.node.op_type.startswith("Nhwc") or bool(self.attributes.get("channels_last"))

    @property
    def bias(self) -> str:
        index = _BIAS.get(self.node.op_type, 2)
        return str(self.node.input[index]) if index is not None and len(self.node.input) > index else ""

    @property
    def dynamic(self) -> tuple[str, str] | None:
        """The tensors with the scale and zero point that DynamicQuantizeLinear computes for a ConvInteger's input."""
        node = self.scope.producer(self.data) if self.node.op_type == "ConvInteger" else None
        if node is None or node.op_type != "DynamicQuantizeLinear":
            return None
        return str(node.output[1]), str(node.output[2])

    @property
    def top_node(self) -> str:
        """The name of the node of the main graph that contains it, or its own."""
        return self.owners[0][0] if self.owners else str(self.node.name)

    def note(self, name: str, title: str, level: str = "info") -> None:
        """Add a lint note; ``level``: info, warning or error."""
        self.notes.append({"id": name, "title": title, "level": level})

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """Return the declared shape of a tensor that it reads or writes, channels second."""
        shape = self.scope.shape(name)
        return (shape[0], shape[-1], *shape[1:-1]) if shape and self.channels_last else shape

    def canonical(self, array: Array) -> Array:
        """Return a tensor that it reads or writes with its channels second."""
        return np.moveaxis(array, -1, 1) if self.channels_last else array

    def pads_before(self) -> Pads | None:
        """Return the spatial pads of a Pad directly before the node; None if they are unknown or not zero padding."""
        if self.spec is None:
            return ()
        node = self.scope.producer(self.node.input[0])
        if node is None or node.op_type != "Pad":
            return ((0, 0),) * self.spec.ndim
        pad = None if self.spec.transposed else read_pad(self.scope, node, self.spec.ndim + 2)
        if pad is None or pad.mode != "constant" or pad.value:
            return None
        outside = any(map(any, pad.pairs[:2])) or any(n < 0 for pair in pad.pairs for n in pair)
        return None if outside else tuple(pad.pairs[2:])

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of the node before it runs, JSON-ready."""
        x, y = (None if shape is None else list(shape) for shape in map(self.shape, (self.data, self.node.output[0])))
        return {"name": self.path, "op_type": self.node.op_type, "problem": self.problem, "notes": self.notes,
                "spec": None if self.spec is None else self.spec.to_dict(),
                "input_shape": x, "output_shape": y}  # fmt: skip


def find_convolutions(model: DetachedModel) -> list[Conv]:
    """Return every convolution of a model without functions, in the order of its nodes.

    Raises:
        RequestError: for strides, dilations, kernels or groups below 1, and for negative pads.
    """
    convs = list(_walk(Scope(model.graph, weights=model.weights), "", ()))
    for conv in convs:
        _describe(conv)
    return convs


def _walk(scope: Scope, prefix: str, owners: tuple[tuple[str, str], ...]) -> Iterator[Conv]:
    for index, node in enumerate(scope.proto.node):
        path = f"{prefix}{node.name or f'{node.op_type}_{index}'}"
        if "Conv" in node.op_type and node.op_type not in _NO_CONVOLUTION and len(node.input) > 1:
            yield Conv(path, node, scope, owners)
        for attribute in node.attribute:
            for body in subgraphs(attribute):
                inside = (*owners, (node.name, attribute.name))
                yield from _walk(Scope(body, scope), f"{path}/{attribute.name}/", inside)


def _describe(conv: Conv) -> None:
    """Set the spec and parameters of a node, or its problem."""
    if not conv.judged:
        conv.problem = f"convspec does not judge {conv.node.op_type} of the domain {conv.node.domain or 'ai.onnx'!r}"
        if conv.node.domain == _BLOCKED:
            conv.problem += ", whose channels are in blocks: save the graph at level extended, or verify the original"
        return
    for name in _POSITIVE:
        given = conv.attributes.get(name)
        values = (given,) if isinstance(given, int) else given or ()
        if any(not isinstance(n, int) or n < 1 for n in values):
            raise RequestError(f"node {conv.path!r}: {name}={list(values)} must be positive")
    if any(n < 0 for n in conv.attributes.get("pads") or ()):
        raise RequestError(f"node {conv.path!r}: pads={list(conv.attributes['pads'])} must not be negative")
    kernel = conv.scope.constant(conv.weight)
    bias = conv.scope.constant(conv.bias) if conv.bias else None
    if kernel is None or (conv.bias and bias is None):
        conv.problem = COMPUTED_WEIGHTS
        return
    try:
        resolve_layer(conv, kernel, bias, conv.shape(conv.node.input[0]))
    except (SpecError, UnsupportedError) as error:
        conv.problem = str(error)


def resolve_layer(
    conv: Conv, kernel: Array, bias: Array | None, shape: Sequence[int | str] | None
) -> tuple[ConvSpec, ConvParams]:
    """Set and return the spec and parameters of a node with these weights and an input of this shape.

    Raises:
        SpecError: for attributes that contradict one another or the weights.
        UnsupportedError: for ``output_shape`` without a known input size.
    """
    attributes = conv.attributes
    if kernel.ndim < 3:
        raise SpecError([f"W={list(kernel.shape)} must have at least one spatial axis"])
    if conv.node.op_type == "NhwcConv":  # the other operators keep their weights' order
        kernel = np.moveaxis(kernel, -1, 1)
    if attributes.get("output_shape"):
        spatial = [n for n in (shape or ())[2:] if isinstance(n, int)]
        if len(spatial) != kernel.ndim - 2:
            raise UnsupportedError("the pads of output_shape depend on the input's size, which is unknown")
        attributes = resolve_output_shape(attributes, kernel.shape[2:], spatial)
    groups = attributes.get("group") or 1
    if kernel.shape[0] % groups:
        raise SpecError([f"group={groups} must divide W's first axis, {kernel.shape[0]}"])
    transposed = conv.node.op_type == "ConvTranspose"
    spec = spec_of(attributes, kernel.shape, bias=bias is not None, transposed=transposed)
    if bias is not None and bias.shape != (spec.out_channels,):
        raise SpecError([f"B of shape {list(bias.shape)} must hold {spec.out_channels} numbers"])
    params = ConvParams(as_float(kernel), None if bias is None else as_float(bias))
    conv.spec, conv.params, conv.problem = spec, params, ""
    return spec, params


# -- matrix products ---


def find_products(model: DetachedModel, sizes: Collection[tuple[int, int]]) -> Iterator[Conv]:
    """Yield the products with a constant of ``(in, out)`` channels among ``sizes``, as 1×1 convolutions."""
    scope, wanted = Scope(model.graph, weights=model.weights), {frozenset(size) for size in sizes}
    for index, node in enumerate(model.graph.node):
        if node.op_type not in _PRODUCTS or node.domain not in ("", "ai.onnx") or len(node.input) < 2:
            continue
        for place in (1, 0):
            shape = scope.shape(node.input[place])
            if shape is None or len(shape) != 2 or frozenset(shape) not in wanted:
                continue
            weight = scope.constant(node.input[place])
            if weight is not None and (product := _read_product(node, place, weight, scope)) is not None:
                rows, kernel, bias = product
                spec = ConvSpec(kernel.shape[1], kernel.shape[0], 1, bias=bias is not None, ndim=1)
                params = ConvParams(as_float(kernel[:, :, None]), None if bias is None else as_float(bias))
                yield Conv(node.name or f"{node.op_type}_{index}", node, scope, (), spec, params, rows=rows)
                break


def _read_product(node: onnx.NodeProto, place: int, weight: Array, scope: Scope) -> _Product | None:
    """Read a product whose input ``place`` is the constant ``weight``."""
    attributes, data = attributes_of(node), node.input[1 - place]
    if node.op_type == "MatMul":
        return ((data, -1, -1), weight.T, None) if place else ((data, -2, -2), weight, None)
    if node.op_type == "Einsum":
        return _read_einsum(attributes["equation"], place, weight, data) if len(node.input) == 2 else None
    if not place:
        return None
    kernel, bias = (weight if attributes.get("transB") else weight.T), None
    kernel = kernel * weight.dtype.type(attributes.get("alpha", 1.0))
    if len(node.input) > 2 and node.input[2]:
        bias = scope.constant(node.input[2])
        if bias is None or bias.size not in (1, len(kernel)):
            return None
        bias = np.broadcast_to(bias.reshape(-1) * bias.dtype.type(attributes.get("beta", 1.0)), (len(kernel),)).copy()
    return (data, 0 if attributes.get("transA") else -1, -1), kernel, bias


def _read_einsum(equation: str, place: int, weight: Array, data: str) -> _Product | None:
    """Read ``"bhwc,co->bhwo"``: one letter is summed over, one is new, the others keep their order."""
    match = re.fullmatch(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)", equation.replace(" ", ""))
    if match is None:
        return None
    operands, target = (match[1], match[2]), match[3]
    tensor, matrix = operands[1 - place], operands[place]
    summed, new = set(matrix) & set(tensor) - set(target), set(matrix) & set(target) - set(tensor)
    if len(matrix) != 2 or len(summed) != 1 or len(new) != 1:
        return None
    (c,), (o,) = summed, new
    if tensor.replace(c, "") != target.replace(o, "") or len(set(tensor)) != len(tensor):
        return None
    return (data, tensor.index(c), target.index(o)), weight if matrix == o + c else weight.T, None


def to_rows(x: Array, axis: int) -> Array:
    """Return ``(rows, C, 1)`` of a tensor with its channels on ``axis``."""
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis], 1)

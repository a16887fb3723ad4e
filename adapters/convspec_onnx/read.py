"""ONNX models → ConvSpec and ConvParams: a model of one layer as a whole, other models convolution by convolution."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from convspec.contract import FoundConv, Reading
from convspec.errors import UnsupportedError
from convspec.spec import ConvParams, ConvSpec, layouts, sum_pads
from convspec_onnx.graph import Conv, Scope, attributes_of, read_pad, resolve_layer
from convspec_onnx.loading import Array, inline, subgraphs, to_proto

Model: TypeAlias = "onnx.ModelProto | str | os.PathLike[str]"

_OPERATORS = ("Conv", "ConvTranspose")
_QUANTIZED = ("ConvInteger", "QLinearConv")
_MODES = {"constant": "zeros", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def read(layer: Model, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the layer that a model is: one convolution, with the transposes, pads and bias that belong to it.

    Args:
        layer: a model or the path of one; external data are read from the model's folder.
        input_shape: in the model's own layout; only needed for pads that depend on the input's size.

    Raises:
        UnsupportedError: for a model that is more than one layer; the message names what.
    """
    scope = Scope(to_proto(layer).graph)
    convs = [node for node in scope.proto.node if _is_conv(node)]
    if len(convs) != 1:
        listing = _operators(scope.proto) or "nothing"
        raise UnsupportedError(f"this model has {len(convs)} convolutions, not one; its operators: {listing}")
    return _Layer(scope, convs[0], input_shape).reading()


def convs(model: Model, input_shape: Sequence[int] | None = None) -> list[FoundConv]:  # noqa: ARG001 – contract
    """Return every Conv and ConvTranspose of a model, those in the bodies of If, Loop and Scan too, each by itself.

    Raises:
        UnsupportedError: for a model without any; the message lists its operators.
    """
    proto = expand(model)
    # Only output_shape needs shapes; a missing one is reported at its node.
    with contextlib.suppress(onnx.shape_inference.InferenceError, ValueError):
        proto = onnx.shape_inference.infer_shapes(proto)
    found = [_find(*one) for one in nodes(Scope(proto.graph))]
    if not found:
        listing = _operators(proto.graph) or "none"
        raise UnsupportedError(f"this model has no convolutions; its operators: {listing}")
    return found


def _operators(graph: onnx.GraphProto) -> str:
    return ", ".join(sorted({node.op_type for node in graph.node}))


def expand(model: Model) -> onnx.ModelProto:
    """Return the model with its functions inlined."""
    proto = to_proto(model)
    return inline(proto) if proto.functions else proto


def nodes(scope: Scope, prefix: str = "") -> Iterator[tuple[str, Scope, onnx.NodeProto]]:
    """Yield every convolution of a graph and of its bodies, with its path and its own graph."""
    for index, node in enumerate(scope.proto.node):
        path = f"{prefix}{node.name or f'{node.op_type}_{index}'}"
        if _is_conv(node) or node.op_type in _QUANTIZED:
            yield path, scope, node
        for attribute in node.attribute:
            for body in subgraphs(attribute):
                yield from nodes(Scope(body, scope), f"{path}/")


def _is_conv(node: onnx.NodeProto) -> bool:
    return node.op_type in _OPERATORS and node.domain in ("", "ai.onnx")


def _find(path: str, scope: Scope, node: onnx.NodeProto) -> FoundConv:
    if node.op_type in _QUANTIZED:
        return FoundConv(path, None, f"{node.op_type} computes on integers, which a ConvSpec cannot express")
    try:
        spec, params = _read_node(scope, node, scope.shape(node.input[0]))
    except (UnsupportedError, ValueError) as error:
        return FoundConv(path, None, str(error))
    return FoundConv(path, Reading(spec, params, layouts.CHANNELS_FIRST, _dtype(scope, node)))


def _read_node(scope: Scope, node: onnx.NodeProto, shape: Sequence[int | str] | None) -> tuple[ConvSpec, ConvParams]:
    """Return spec and parameters of a node alone, with an input of this shape."""
    bias = _weights(scope, node, 2) if len(node.input) > 2 and node.input[2] else None
    return resolve_layer(Conv("", node, scope, ()), _weights(scope, node, 1), bias, shape)


def _weights(scope: Scope, node: onnx.NodeProto, index: int) -> Array:
    name = node.input[index]
    value = scope.constant(name)
    if value is None:
        producer = scope.producers.get(name)
        how = f"made by {producer.op_type}" if producer else "an input"
        raise UnsupportedError(f"{'weight' if index == 1 else 'bias'} {name!r} of {node.op_type} is {how}")
    return value if value.dtype.kind == "f" else value.astype(np.float32)


def _dtype(scope: Scope, node: onnx.NodeProto) -> str:
    """Return the name of the weight's dtype."""
    value = scope.constant(node.input[1])
    return "float32" if value is None else value.dtype.name


@dataclass
class _Layer:
    """One convolution and the nodes around it, from the model's input to its output."""

    scope: Scope
    node: onnx.NodeProto
    input_shape: Sequence[int] | None

    def reading(self) -> Reading:
        before, after = self.nodes_before(), self.nodes_after()
        shape, layout = None, layouts.CHANNELS_FIRST
        ndim = _weights(self.scope, self.node, 1).ndim - 2
        if before and before[0].op_type == "Transpose":
            _check_transpose(before.pop(0), "N*C", "NC*", ndim)
            if not after or after[-1].op_type != "Transpose":
                raise UnsupportedError("the data are transposed before the convolution, but not back after it")
            _check_transpose(after.pop(), "NC*", "N*C", ndim)
            layout = layouts.CHANNELS_LAST
        if self.input_shape is not None:
            shape = layouts.canonical_shape(self.input_shape, layout, ndim)
        spec, params = _read_node(self.scope, self.node, shape)
        for node in reversed(before):
            spec = self.fold_before(spec, node)
        for node in after:
            spec, params = self.fold_after(spec, params, node)
        return Reading(spec, params, layout, _dtype(self.scope, self.node))

    def nodes_before(self) -> list[onnx.NodeProto]:
        """Return the nodes from the model's input to the convolution."""
        before, producers = [self.node], self.scope.producers
        while before[0].input[0] in producers:
            before.insert(0, producers[before[0].input[0]])
        return before[:-1]

    def nodes_after(self) -> list[onnx.NodeProto]:
        """Return the nodes from the convolution to the model's output."""
        after, results = [self.node], {entry.name for entry in self.scope.proto.output}
        while (name := after[-1].output[0]) not in results:
            consumers = self.scope.consumers.get(name, [])
            if len(consumers) != 1:
                raise UnsupportedError(f"{len(consumers)} nodes read the result {name!r}: this is more than one layer")
            after += consumers
        return after[1:]

    def fold_before(self, spec: ConvSpec, node: onnx.NodeProto) -> ConvSpec:
        """Return the spec with a Pad before the convolution folded into it."""
        if node.op_type != "Pad" or spec.transposed:
            raise UnsupportedError(f"a {node.op_type} before a {self.node.op_type} is not part of one layer")
        mode, pads = self.read_pad(node, spec.ndim)
        if isinstance(spec.padding, str) or (mode != "zeros" and any(map(any, spec.padding))):
            raise UnsupportedError(f"a Pad of mode {mode!r} comes before a convolution that pads too")
        return replace(spec, padding=sum_pads(spec.padding, pads), padding_mode=mode)

    def fold_after(self, spec: ConvSpec, params: ConvParams, node: onnx.NodeProto) -> tuple[ConvSpec, ConvParams]:
        """Return the layer with a Pad or an Add after a transposed convolution folded into it."""
        if node.op_type == "Pad" and spec.transposed and not spec.bias:
            mode, pads = self.read_pad(node, spec.ndim)
            if mode == "zeros" and not any(lo for lo, _ in pads):
                more = tuple(e + hi for e, (_, hi) in zip(spec.output_padding, pads, strict=True))
                return replace(spec, output_padding=more), params
        if node.op_type == "Add" and not spec.bias:
            bias = next((b for b in map(self.scope.constant, node.input) if b is not None), None)
            if bias is not None and bias.shape[-1 - spec.ndim :] == (spec.out_channels, *(1,) * spec.ndim):
                return replace(spec, bias=True), ConvParams(params.kernel, bias.reshape(-1).astype(params.kernel.dtype))
        raise UnsupportedError(f"a {node.op_type} after a {self.node.op_type} is not part of one layer")

    def read_pad(self, node: onnx.NodeProto, ndim: int) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Return mode and ``(before, after)`` of a Pad of the spatial axes."""
        pad = read_pad(self.scope, node, 2 + ndim, self.compute(node.input[1]) if len(node.input) > 1 else None)
        if pad is None:
            raise UnsupportedError("the axes or the value of a Pad are computed")
        if any(map(any, pad.pairs[:2])) or pad.value:
            raise UnsupportedError("a Pad of batch or channels, or with a value other than 0, is not a layer's padding")
        return _MODES[pad.mode], tuple(pad.pairs[2:])

    def compute(self, name: str) -> Array:
        """Return the value of a tensor that depends on the input's size alone."""
        value = self.scope.constant(name)
        if value is not None:
            return value
        if self.input_shape is None:
            raise UnsupportedError("the pads depend on the input's size: pass input_shape")
        proto, needed = self.scope.proto, {name}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(proto.node):
            if needed & set(node.output):
                nodes.insert(0, node)
                needed |= set(node.input)
        result = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None)]
        part = helper.make_graph(nodes, "pads", proto.input, result, [t for t in proto.initializer if t.name in needed])
        entry = proto.input[0]
        zeros = np.zeros(self.input_shape, helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
        return np.asarray(ReferenceEvaluator(helper.make_model(part)).run(None, {entry.name: zeros})[0])


def _check_transpose(node: onnx.NodeProto, source: str, target: str, ndim: int) -> None:
    perm = attributes_of(node).get("perm", ())
    if perm != layouts.permutation(source, target, ndim):
        raise UnsupportedError(f"a Transpose by {perm} does not change between channels first and last")

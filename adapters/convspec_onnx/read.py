"""ONNX models → ConvSpec and ConvParams: a model of one layer as a whole, any other model conv by conv."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from convspec.contract import FoundConv, Reading
from convspec.errors import UnsupportedError
from convspec.spec import ConvParams, layouts
from convspec_onnx.graph.convolutions import Scope, resolved, value_of
from convspec_onnx.loading import untrusted
from convspec_onnx.loading.inline_functions import inlined
from convspec_onnx.parse import spec_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.spec import ConvSpec

_OPERATORS = ("Conv", "ConvTranspose")
_QUANTISED = ("ConvInteger", "QLinearConv")
_MODES = {"constant": "zeros", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def read(layer: onnx.ModelProto | str | os.PathLike[str], input_shape: Sequence[int] | None = None) -> Reading:
    """The layer that a model is: one convolution, with the transposes, pads and bias that belong to it.

    Args:
        layer: a model or the path of one; external data are read from beside it.
        input_shape: in the model's own layout; needed only where pads depend on the input's size.

    Raises:
        UnsupportedError: where the model is anything more than that, naming what.
    """
    graph = _Graph(_loaded(layer).graph)
    nodes = [node for node in graph.proto.node if _is_conv(node)]
    if len(nodes) != 1:
        listing = ", ".join(sorted({node.op_type for node in graph.proto.node})) or "nothing"
        raise UnsupportedError(f"this model has {len(nodes)} convolutions, not one; its operators: {listing}")
    return _Layer(graph, nodes[0], input_shape).reading()


def convs(
    model: onnx.ModelProto | str | os.PathLike[str],
    input_shape: Sequence[int] | None = None,  # noqa: ARG001 – the contract's
) -> list[FoundConv]:
    """Every Conv and ConvTranspose of a model, those in the bodies of If, Loop and Scan included, each by itself.

    Raises:
        UnsupportedError: where there is none, listing the operators that there are.
    """
    proto = _expanded(model)
    # Shapes are needed for output_shape only, and their absence is reported there.
    with contextlib.suppress(onnx.shape_inference.InferenceError, ValueError):
        proto = onnx.shape_inference.infer_shapes(proto)
    found = [_found(*one) for one in nodes(proto)]
    if not found:
        listing = ", ".join(sorted({node.op_type for node in proto.graph.node})) or "none"
        raise UnsupportedError(f"this model has no convolutions; its operators: {listing}")
    return found


def _loaded(model: onnx.ModelProto | str | os.PathLike[str]) -> onnx.ModelProto:
    return untrusted.load(model) if isinstance(model, str | os.PathLike) else model


def _expanded(model: onnx.ModelProto | str | os.PathLike[str]) -> onnx.ModelProto:
    """The model, its functions replaced by their nodes."""
    proto = _loaded(model)
    return inlined(proto) if proto.functions else proto


def nodes(proto: onnx.ModelProto) -> Iterator[tuple[str, _Graph, onnx.NodeProto]]:
    """Every convolution with its path and the graph that it is a node of."""
    yield from _walk(_Graph(proto.graph), "")


def _walk(graph: _Graph, prefix: str) -> Iterator[tuple[str, _Graph, onnx.NodeProto]]:
    for index, node in enumerate(graph.proto.node):
        path = f"{prefix}{node.name or f'{node.op_type}_{index}'}"
        if _is_conv(node) or node.op_type in _QUANTISED:
            yield path, graph, node
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _walk(_Graph(body, graph), f"{path}/")


def _found(path: str, graph: _Graph, node: onnx.NodeProto) -> FoundConv:
    if node.op_type in _QUANTISED:
        return FoundConv(path, None, f"{node.op_type} computes on integers, which no spec describes")
    try:
        spec, params = graph.conv(node, graph.spatial(node.input[0]))
    except (UnsupportedError, ValueError) as error:
        return FoundConv(path, None, str(error))
    return FoundConv(path, Reading(spec, params, layouts.CHANNELS_FIRST, graph.dtype(node)))


def _is_conv(node: onnx.NodeProto) -> bool:
    return node.op_type in _OPERATORS and node.domain in ("", "ai.onnx")


class _Graph:
    """A graph's constants, the nodes that make each tensor, and the graph around it."""

    def __init__(self, proto: onnx.GraphProto, outer: _Graph | None = None) -> None:
        self.proto = proto
        self.outer = outer
        self.scope: Scope = Scope(proto, outer.scope if outer else None)
        self.makers = self.scope.makers

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a tensor that follows from the file alone, here or around."""
        return self.scope.constant(name)

    def spatial(self, name: str) -> tuple[int, ...] | None:
        """The spatial sizes of a tensor, where the model states them all as numbers."""
        for entry in (*self.proto.input, *self.proto.value_info):
            if entry.name == name:
                sizes = tuple(dim.dim_value for dim in entry.type.tensor_type.shape.dim[2:])
                return sizes if sizes and all(sizes) else None
        return None

    def weights(self, node: onnx.NodeProto, index: int) -> NDArray[Any]:
        name = node.input[index]
        value = self.constant(name)
        if value is None:
            maker = self.makers.get(name)
            how = f"made by {maker.op_type}" if maker else "an input"
            raise UnsupportedError(f"{'weight' if index == 1 else 'bias'} {name!r} of {node.op_type} is {how}")
        return value if value.dtype.kind == "f" else value.astype(np.float32)

    def dtype(self, node: onnx.NodeProto) -> str:
        """Name of the weight's format."""
        value = self.constant(node.input[1])
        return "float32" if value is None else value.dtype.name

    def conv(self, node: onnx.NodeProto, spatial: tuple[int, ...] | None) -> tuple[ConvSpec, ConvParams]:
        """Spec and parameters of a node alone."""
        weight = self.weights(node, 1)
        bias = self.weights(node, 2) if len(node.input) > 2 and node.input[2] else None
        attributes = {a.name: value_of(a) for a in node.attribute}
        if attributes.get("output_shape"):
            if spatial is None:
                raise UnsupportedError("output_shape leaves pads that depend on the input's size, which is not known")
            attributes = resolved(attributes, weight.shape[2:], spatial)
        transposed = node.op_type == "ConvTranspose"
        spec = spec_of(attributes, weight.shape, bias=bias is not None, transposed=transposed)
        return spec, ConvParams(weight, bias)


@dataclass
class _Layer:
    """One convolution and its surroundings, up to the model's input and output."""

    graph: _Graph
    node: onnx.NodeProto
    input_shape: Sequence[int] | None

    def reading(self) -> Reading:
        before, after = self.before(), self.after()
        spatial, layout = None, layouts.CHANNELS_FIRST
        ndim = len(self.graph.weights(self.node, 1).shape) - 2
        if before and before[0].op_type == "Transpose":
            self.transpose(before.pop(0), "N*C", "NC*", ndim)
            if not after or after[-1].op_type != "Transpose":
                raise UnsupportedError("the data are transposed before the convolution, but not back after it")
            self.transpose(after.pop(), "NC*", "N*C", ndim)
            layout = layouts.CHANNELS_LAST
        if self.input_shape is not None:
            spatial = layouts.canonical_shape(self.input_shape, layout, ndim)[2:]
        spec, params = self.graph.conv(self.node, spatial)
        for node in reversed(before):
            spec = self.padded(spec, node)
        for node in after:
            spec, params = self.extended(spec, params, node)
        return Reading(spec, params, layout, self.graph.dtype(self.node))

    def before(self) -> list[onnx.NodeProto]:
        """The nodes from the model's input to the convolution."""
        found: list[onnx.NodeProto] = []
        name = self.node.input[0]
        while name in self.graph.makers:
            found.insert(0, self.graph.makers[name])
            name = found[0].input[0]
        return found

    def after(self) -> list[onnx.NodeProto]:
        """The nodes from the convolution to the model's output."""
        found: list[onnx.NodeProto] = []
        name = self.node.output[0]
        while name not in [entry.name for entry in self.graph.proto.output]:
            users = [node for node in self.graph.proto.node if name in node.input]
            if len(users) != 1:
                raise UnsupportedError(f"the result {name!r} goes to {len(users)} nodes: this is more than one layer")
            found.append(users[0])
            name = users[0].output[0]
        return found

    def transpose(self, node: onnx.NodeProto, source: str, target: str, ndim: int) -> None:
        perm = tuple(value_of(node.attribute[0])) if node.attribute else ()
        if perm != layouts.permutation(source, target, ndim):
            raise UnsupportedError(f"a Transpose by {perm} is no change between channels first and last")

    def padded(self, spec: ConvSpec, node: onnx.NodeProto) -> ConvSpec:
        """The spec with a Pad before the convolution folded into it."""
        if node.op_type != "Pad" or spec.transposed:
            raise UnsupportedError(f"a {node.op_type} before a {self.node.op_type} is no part of one layer")
        mode, pads = self.pads(node, spec.ndim)
        if isinstance(spec.padding, str) or (mode != "zeros" and any(map(any, spec.padding))):
            raise UnsupportedError(f"a Pad of mode {mode!r} comes before a convolution with padding of its own")
        total = tuple((a + c, b + d) for (a, b), (c, d) in zip(pads, spec.padding, strict=True))
        return replace(spec, padding=total, padding_mode=mode)

    def extended(self, spec: ConvSpec, params: ConvParams, node: onnx.NodeProto) -> tuple[ConvSpec, ConvParams]:
        """The layer with a Pad or an Add after a transposed convolution folded into it."""
        if node.op_type == "Pad" and spec.transposed and not spec.bias:
            mode, pads = self.pads(node, spec.ndim)
            if mode == "zeros" and not any(lo for lo, _ in pads):
                more = tuple(e + hi for e, (_, hi) in zip(spec.output_padding, pads, strict=True))
                return replace(spec, output_padding=more), params
        if node.op_type == "Add" and not spec.bias:
            bias = next((b for b in map(self.added, node.input) if b is not None), None)
            if bias is not None and bias.shape[-1 - spec.ndim :] == (spec.out_channels, *(1,) * spec.ndim):
                return replace(spec, bias=True), ConvParams(params.kernel, bias.reshape(-1).astype(params.kernel.dtype))
        raise UnsupportedError(f"a {node.op_type} after a {self.node.op_type} is no part of one layer")

    def added(self, name: str) -> NDArray[Any] | None:
        """A constant, or one that an Unsqueeze has given more axes."""
        maker = self.graph.makers.get(name)
        if maker is None or maker.op_type != "Unsqueeze":
            return self.graph.constant(name)
        value, axes = self.graph.constant(maker.input[0]), self.graph.constant(maker.input[1])
        return None if value is None or axes is None else np.expand_dims(value, tuple(axes))

    def pads(self, node: onnx.NodeProto, ndim: int) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Mode and ``(before, after)`` of a Pad of the spatial axes."""
        given = {a.name: value_of(a) for a in node.attribute}
        flat = self.computed(node.input[1])
        axes = self.graph.constant(node.input[3]) if len(node.input) > 3 else np.arange(2 + ndim)
        if axes is None:
            raise UnsupportedError("the axes of a Pad are computed")
        half = len(flat) // 2
        pairs = {int(axis) % (2 + ndim): (int(flat[i]), int(flat[half + i])) for i, axis in enumerate(axes)}
        value = self.graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if any(map(any, (pairs.pop(axis, (0, 0)) for axis in (0, 1)))) or (value is not None and value.any()):
            raise UnsupportedError("a Pad of batch or channels, or with another number than 0, is no padding")
        return _MODES[given.get("mode", "constant")], tuple(pairs.get(axis, (0, 0)) for axis in range(2, 2 + ndim))

    def computed(self, name: str) -> NDArray[Any]:
        """The value of a tensor that depends on the input's size alone."""
        value = self.graph.constant(name)
        if value is not None:
            return value
        if self.input_shape is None:
            raise UnsupportedError("the pads depend on the input's size: pass input_shape")
        proto, needed = self.graph.proto, {name}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(proto.node):
            if needed & set(node.output):
                nodes.insert(0, node)
                needed |= set(node.input)
        result = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None)]
        part = helper.make_graph(nodes, "pads", proto.input, result, [t for t in proto.initializer if t.name in needed])
        entry = proto.input[0]
        zeros = np.zeros(self.input_shape, helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
        (found,) = ReferenceEvaluator(helper.make_model(part)).run(None, {entry.name: zeros})
        return np.asarray(found)

"""ONNX models: their layers with weights, what those read and write, and new weights for them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convspec.contract import Call, ModelTrace, Part, Reading
from convspec.errors import ConvspecError, RequestError, UnsupportedError, printable
from convspec.spec import layouts
from convspec_onnx.graph import convolutions
from convspec_onnx.loading import untrusted
from convspec_onnx.loading.large_weights import Lean
from convspec_onnx.verify import runtimes

if TYPE_CHECKING:
    from convspec.contract import Array

_NORM_INPUTS = {"gain": 1, "shift": 2, "mean": 3, "variance": 4}


def parts(model: Any) -> list[Part]:
    """All Convs, BatchNormalizations and linear layers (Gemm; MatMul with an Add) of the graph, in its order."""
    proto = _opened(model)
    return [part for part, _, _ in _walk(proto)]


def _opened(model: Any) -> onnx.ModelProto:
    """The model with nothing outside it; a file's is read as of unknown origin."""
    proto = untrusted.load(model) if isinstance(model, str | os.PathLike) else model
    if not isinstance(proto, onnx.ModelProto):
        raise UnsupportedError(f"{type(model).__name__} is no ONNX model")
    return proto


def _walk(proto: onnx.ModelProto) -> Iterator[tuple[Part, str, str]]:
    """Each layer with the names of the tensors that it reads and writes."""
    scope = convolutions.Scope(proto.graph)
    names = _Names(proto)
    convs = {conv.path: conv for conv in convolutions.convs(Lean(proto)) if not conv.owners}
    for place, node in enumerate(proto.graph.node):
        path = names.path(node, place)
        if path in convs:
            yield _conv(path, convs[path]), node.input[0], node.output[0]
        elif node.op_type == "BatchNormalization":
            found = {name: scope.constant(node.input[i]) for name, i in _NORM_INPUTS.items()}
            arrays = {name: array for name, array in found.items() if array is not None}
            if len(arrays) == len(found):
                epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
                norm = Part(path, "norm", node.op_type, arrays=arrays, epsilon=_short(epsilon), axis=1)
                yield norm, node.input[0], node.output[0]
        elif node.op_type in ("Gemm", "MatMul") and (linear := _linear(node, scope, names)):
            yield Part(path, "linear", node.op_type, arrays=linear[0]), node.input[0], linear[1]


def _short(number: float) -> float:
    """A float32 as the decimal that it was written as."""
    return float(str(np.float32(number)))


class _Names:
    """Paths of nodes, and who reads a tensor."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in proto.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def path(self, node: onnx.NodeProto, place: int) -> str:
        return node.name or f"{node.op_type}_{place}"


def _conv(path: str, conv: convolutions.Conv) -> Part:
    if conv.spec is None or conv.params is None:
        return Part(path, "conv", conv.node.op_type, problem=conv.problem)
    kernel = conv.params.kernel
    reading = Reading(conv.spec, conv.params, layouts.CHANNELS_FIRST, str(kernel.dtype))
    return Part(path, "conv", conv.node.op_type, reading)


def _linear(node: onnx.NodeProto, scope: convolutions.Scope, names: _Names) -> tuple[dict[str, Array], str] | None:
    """Kernel (O, I) and bias, and the tensor that holds the result."""
    kernel = scope.constant(node.input[1])
    if kernel is None or kernel.ndim != 2:
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Gemm":
        if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
            return None
        arrays = {"kernel": np.ascontiguousarray(kernel if attributes.get("transB") else kernel.T)}
        bias = scope.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        return arrays | ({} if bias is None else {"bias": bias}), node.output[0]
    arrays = {"kernel": np.ascontiguousarray(kernel.T)}
    users = names.readers.get(node.output[0], [])
    if len(users) == 1 and users[0].op_type == "Add":
        for name in users[0].input:
            bias = scope.constant(name)
            if bias is not None and bias.shape == (kernel.shape[1],):
                return arrays | {"bias": bias}, users[0].output[0]
    return arrays, node.output[0]


def trace_model(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run the model once by ONNX Runtime without graph optimisations, which would remove tensors."""
    proto = _opened(model)
    layers = list(_walk(proto))
    results = [entry.name for entry in proto.graph.output]
    feeds = _feeds(proto, inputs)
    wanted = list(dict.fromkeys([*results, *(n for _, x, y in layers for n in (x, y) if n not in feeds)]))
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in results)
    try:
        found = runtimes.run(Lean(copy), feeds, wanted, runtimes.Arm("off")) | feeds
    except ConvspecError as error:
        raise RequestError(f"the ONNX model does not take these inputs: {printable(error)}") from None
    calls = [Call(part.path, found[x], found[y]) for part, x, y in layers]
    return ModelTrace(calls, [found[name] for name in results])


def _feeds(proto: onnx.ModelProto, inputs: Sequence[Array] | Mapping[str, Array]) -> dict[str, Array]:
    weights = {tensor.name for tensor in proto.graph.initializer}
    entries = [entry for entry in proto.graph.input if entry.name not in weights]
    if not isinstance(inputs, Mapping):
        if len(inputs) != len(entries):
            raise RequestError(f"the ONNX model takes {len(entries)} inputs, but {len(inputs)} are given")
        inputs = {entry.name: x for entry, x in zip(entries, inputs, strict=True)}
    if missing := [entry.name for entry in entries if entry.name not in inputs]:
        raise RequestError(f"the ONNX model has an input {printable(missing[0])}, which is not given")
    kinds = {e.name: helper.tensor_dtype_to_np_dtype(e.type.tensor_type.elem_type) for e in entries}
    return {name: np.asarray(inputs[name], kind) for name, kind in kinds.items()}


def write(model: Any, arrays: Mapping[str, Mapping[str, Array]]) -> Any:
    """Replace the initialisers; returns the model, a new one where it was a path."""
    proto = _opened(model)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    names = _Names(proto)
    nodes = {names.path(node, place): node for place, node in enumerate(proto.graph.node)}
    for path, own in arrays.items():
        for name, values in own.items():
            target, turned = _target(nodes[path], name, names, tensors)
            if target not in tensors:
                raise UnsupportedError(f"the {name} of {path} is no initialiser of the graph")
            numbers = np.ascontiguousarray(values.T if turned else values)
            tensors[target].CopyFrom(numpy_helper.from_array(numbers, target))
    return proto


def _target(
    node: onnx.NodeProto, name: str, names: _Names, tensors: Mapping[str, onnx.TensorProto]
) -> tuple[str, bool]:
    """The tensor that holds an array of a node, and whether it is turned there."""
    if node.op_type == "BatchNormalization":
        return node.input[_NORM_INPUTS[name]], False
    if node.op_type == "MatMul":
        if name == "kernel":
            return node.input[1], True
        (user,) = names.readers[node.output[0]]
        return next(n for n in user.input if n in tensors), False
    turned = node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute)
    return node.input[1 if name == "kernel" else 2], turned and name == "kernel"


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """The model as one file."""
    onnx.save(model, path)

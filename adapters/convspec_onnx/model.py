"""The layers of ONNX models with their weights, what each layer reads and writes, and new weights for them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from convspec.contract import Array, Call, ModelTrace, Part, Reading
from convspec.errors import UnsupportedError
from convspec.spec import layouts
from convspec_onnx.graph import Scope, attributes_of, epsilon_of, find_convolutions
from convspec_onnx.loading import DetachedModel, to_proto
from convspec_onnx.loading.inputs import free_inputs
from convspec_onnx.trace_steps import feeds_of, paths_of, run_for, trace_steps

__all__ = ["input_shapes", "parameters", "parts", "save", "trace_model", "trace_steps", "traces_plainly", "write"]

_NORM_INPUTS = {"gain": 1, "shift": 2, "mean": 3, "variance": 4}


_NORMS = ("LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization")


def parts(model: Any) -> list[Part]:
    """All Convs, BatchNormalizations and linear layers (Gemm; MatMul with an Add) of the graph, in its order."""
    found: dict[str, Part] = {}
    for part, _, _ in _walk(to_proto(model)):
        found.setdefault(part.path, part)
    return [*found.values()]


def _walk(proto: onnx.ModelProto) -> Iterator[tuple[Part, str, str]]:
    """Yield each layer with the names of the tensors that it reads and writes."""
    scope = Scope(proto.graph)
    convs = {conv.node.output[0]: conv for conv in find_convolutions(DetachedModel(proto)) if not conv.owners}
    paths = paths_of(proto.graph)
    for index, node in enumerate(proto.graph.node):
        path = paths[index]
        if conv := convs.get(node.output[0]):
            reading = None
            if conv.spec is not None and conv.params is not None:
                reading = Reading(conv.spec, conv.params, layouts.CHANNELS_FIRST, str(conv.params.kernel.dtype))
            yield Part(path, "conv", node.op_type, reading, problem=conv.problem), node.input[0], node.output[0]
        elif node.op_type == "BatchNormalization":
            constants = {name: scope.constant(node.input[i]) for name, i in _NORM_INPUTS.items()}
            arrays = {name: array for name, array in constants.items() if array is not None}
            if len(arrays) == len(constants):
                epsilon = epsilon_of(attributes_of(node))
                norm = Part(path, "norm", node.op_type, arrays=arrays, epsilon=epsilon, axis=1, norm="batch")
                yield norm, node.input[0], node.output[0]
        elif node.op_type in _NORMS and (own := _norm(node, path, scope)):
            yield own, node.input[0], node.output[0]
        elif node.op_type in ("Gemm", "MatMul") and (linear := _read_linear(node, scope)):
            yield Part(path, "linear", node.op_type, arrays=linear[0]), node.input[0], linear[1]


def _norm(node: onnx.NodeProto, path: str, scope: Scope) -> Part | None:
    """A layer, group, instance or RMS norm whose arrays are constants; with one scale per group, of its groups."""
    inputs = dict(zip(("gain", "shift"), node.input[1:], strict=False))
    arrays = {name: scope.constant(tensor) for name, tensor in inputs.items() if tensor}
    known = {name: array for name, array in arrays.items() if array is not None}
    if len(known) != len(arrays) or "gain" not in known:
        return None
    attributes = attributes_of(node)
    own: dict[str, Any] = {"axis": 1, "norm": "group", "groups": attributes.get("num_groups", known["gain"].size)}
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        axis = int(attributes.get("axis", -1))
        axes = tuple(range(axis, 0)) if axis < 0 else tuple(range(-known["gain"].ndim, 0))
        own = {"axis": -1, "norm": "layer" if node.op_type[0] == "L" else "rms", "axes": axes}
    elif node.op_type == "GroupNormalization":
        own["fast_variance"] = True
    return Part(path, "norm", node.op_type, arrays=known, epsilon=epsilon_of(attributes), **own)


def parameters(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the initialisers of numbers that no layer reads, by their names."""
    proto = to_proto(model)
    nodes = {_path(node, index): node for index, node in enumerate(proto.graph.node)}
    scope = Scope(proto.graph)
    read = {_target(nodes[part.path], name, scope)[0] for part, _, _ in _walk(proto) if part.path in nodes
            for name in part.weights}  # fmt: skip
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer
            if tensor.data_type in floats and len(tensor.dims) and tensor.name not in read}  # fmt: skip


def _path(node: onnx.NodeProto, index: int) -> str:
    return node.name or f"{node.op_type}_{index}"


def _read_linear(node: onnx.NodeProto, scope: Scope) -> tuple[dict[str, Array], str] | None:
    """Return kernel (O, I) and bias, and the tensor that holds the result."""
    kernel = scope.constant(node.input[1])
    if kernel is None or kernel.ndim != 2:
        return None
    attributes = attributes_of(node)
    if node.op_type == "Gemm":
        if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
            return None
        arrays = {"kernel": np.ascontiguousarray(kernel if attributes.get("transB") else kernel.T)}
        bias = scope.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        return arrays | ({} if bias is None else {"bias": bias}), node.output[0]
    arrays = {"kernel": np.ascontiguousarray(kernel.T)}
    if (found := scope.row_after(node, scope.constant)) is None:
        return arrays, node.output[0]
    add, _, row = found
    return arrays | {"bias": row}, add.output[0]


def trace_model(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run the model once by ONNX Runtime without graph optimisations, which would remove tensors."""
    proto = to_proto(model)
    layers = list(_walk(proto))
    results = [entry.name for entry in proto.graph.output]
    feeds = feeds_of(proto, inputs)
    wanted = list(dict.fromkeys([*results, *(n for _, x, y in layers for n in (x, y) if n not in feeds)]))
    values = run_for(proto, feeds, wanted)
    calls = [Call(part.path, values[x], values[y]) for part, x, y in layers]
    return ModelTrace(calls, [values[name] for name in results])


def input_shapes(model: Any) -> list[list[int | None]]:
    """The declared shapes of the graph's inputs; symbolic sizes are open."""
    entries = free_inputs(to_proto(model).graph)
    return [[dim.dim_value or None for dim in entry.type.tensor_type.shape.dim] for entry in entries]


def traces_plainly(_: Any) -> bool:
    """Whether one run gives steps and results: of a graph, always."""
    return True


def write(model: Any, arrays: Mapping[str, Mapping[str, Array]]) -> Any:
    """Replace the initialisers; returns the model, a new one where it was a path. Those of no layer have no path."""
    proto = to_proto(model)
    scope = Scope(proto.graph)
    nodes = {_path(node, index): node for index, node in enumerate(proto.graph.node)}
    for path, own in arrays.items():
        for name, values in own.items():
            whole = f"{path}/{name}" if path else name  # an initialiser whose own name has slashes
            target, transposed = (whole, False) if whole in scope.tensors else _target(nodes[path], name, scope)
            if target not in scope.tensors:
                raise UnsupportedError(f"the {name} of {path} is not an initialiser of the graph")
            numbers = np.ascontiguousarray(values.T if transposed else values)
            scope.tensors[target].CopyFrom(numpy_helper.from_array(numbers, target))
    return proto


def _target(node: onnx.NodeProto, name: str, scope: Scope) -> tuple[str, bool]:
    """Return the tensor that holds an array of a node, and whether it is transposed."""
    if node.op_type == "BatchNormalization" or node.op_type in _NORMS:
        return node.input[_NORM_INPUTS[name]], False
    if node.op_type == "MatMul":
        if name == "kernel":
            return node.input[1], True
        (add,) = scope.consumers[node.output[0]]
        return next(n for n in add.input if n in scope.tensors), False
    transposed = node.op_type == "Gemm" and not attributes_of(node).get("transB")
    return node.input[1 if name == "kernel" else 2], transposed and name == "kernel"


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """The model as one file."""
    onnx.save(model, path)

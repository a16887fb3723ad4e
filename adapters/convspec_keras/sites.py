"""The layers of a SavedModel's signature, with their inputs and outputs in a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from convspec.contract import Array, Call, FoundConv, ModelTrace, Part, no_convolutions
from convspec.contract.tracing import Pad, described
from convspec.errors import RequestError
from convspec_keras.graph import (
    CALLS,
    CONVOLUTIONS,
    PASSING,
    Graph,
    SavedModel,
    Site,
    conv,
    only_user,
    plain,
    scope,
    short,
)

_PADS = ("Pad", "PadV2", "MirrorPad")


def convs(model: SavedModel) -> list[FoundConv]:
    """Every convolution of the signature.

    Raises:
        UnsupportedError: where there is none, listing the graph's operators.
    """
    found = [FoundConv(part.path, part.reading, part.problem) for part in parts(model) if part.kind == "conv"]
    if not found:
        kinds = (operation.type for operation in model.graph.get_operations())
        raise no_convolutions("this signature", kinds, "operators")
    return found


def parts(model: SavedModel) -> list[Part]:
    """All convolutions, norms and linear layers, in the order of the graph."""
    with _session(model) as session:
        return [site.part for site in _sites(Graph(model, session))]


def trace_model(model: SavedModel, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run the graph once; operations in a branch that is not taken have no call.

    Raises:
        RequestError: where the signature does not take the inputs.
    """
    with _session(model) as session:
        sites = [site for site in _sites(Graph(model, session)) if site.x is not None]
        feeds = _feeds(model, inputs)
        outputs = list(model.outputs.values())
        try:
            wanted = [tensor for site in sites for tensor in (site.x, site.y)]
            results, seen = session.run([outputs, wanted], feeds)
            pairs = list(zip(seen[::2], seen[1::2], strict=True))
        except tf.errors.OpError:
            results, pairs = _one_by_one(session, sites, outputs, feeds)
        except (ValueError, TypeError) as error:
            raise _refused(error) from None
    seen = [(site.part.path, pair) for site, pair in zip(sites, pairs, strict=True) if pair is not None]
    return ModelTrace([Call(path, *map(plain, pair)) for path, pair in seen], [plain(y) for y in results])


def pads(model: SavedModel) -> dict[str, list[Pad | str]]:
    """By the path of each convolution, the pads right before it, the nearest first."""
    with _session(model) as session:
        graph = Graph(model, session)
        return {
            site.part.path: list(_chain(graph, site.x.op, site.part.reading.layout))
            for site in _sites(graph)
            if site.part.reading is not None
        }


def _chain(graph: Graph, operation: Any, layout: str) -> Iterator[Pad | str]:
    while operation.type in (*_PADS, *PASSING):
        if operation.type in _PADS:
            pairs = graph.constant(operation.inputs[1])
            value = graph.constant(operation.inputs[2]) if operation.type == "PadV2" else 0
            mode = operation.get_attr("mode").decode().lower() if operation.type == "MirrorPad" else "constant"
            if pairs is None or value is None:
                yield "it depends on the input's size"
            else:
                yield described(mode, pairs.tolist(), float(value), layout)
        operation = operation.inputs[0].op


def _one_by_one(session: Any, sites: Sequence[Site], outputs: list[str], feeds: Mapping[str, Any]) -> tuple[Any, Any]:
    """Run each layer by itself: layers in branches that are not taken have no values."""
    try:
        results = session.run(outputs, feeds)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise _refused(error) from None
    pairs: list[Any] = []
    for site in sites:
        try:
            pairs.append(session.run([site.x, site.y], feeds))
        except tf.errors.OpError:
            pairs.append(None)
    return results, pairs


def _refused(error: Exception) -> RequestError:
    from convspec_keras.saved import first_line

    return RequestError(f"the SavedModel does not take these inputs: {first_line(error)}")


def _feeds(model: SavedModel, inputs: Sequence[Array] | Mapping[str, Array]) -> dict[str, Any]:
    names = list(model.inputs)
    if not isinstance(inputs, Mapping):
        if len(inputs) != len(names):
            listed = f"{len(names)} inputs ({', '.join(names)})"
            raise RequestError(f"the signature takes {listed}, but {len(inputs)} are given")
        inputs = dict(zip(names, inputs, strict=True))
    if set(inputs) != set(names):
        raise RequestError(f"the signature takes the inputs {', '.join(names)}, but given are {', '.join(inputs)}")
    found = {}
    for name, x in inputs.items():
        tensor = model.graph.get_tensor_by_name(model.inputs[name])
        found[tensor] = np.asarray(x, tensor.dtype.as_numpy_dtype)
    return found


def _session(model: SavedModel) -> Any:
    return tf.compat.v1.Session(graph=model.graph)


def _sites(graph: Graph) -> list[Site]:
    """All layers; where several have one path, it is numbered."""
    seen: dict[str, int] = {}
    found = []
    for site in _found(graph):
        path = site.part.path
        seen[path] = seen.get(path, 0) + 1
        found.append(replace(site, part=replace(site.part, path=f"{path} ({seen[path]})")) if seen[path] > 1 else site)
    return found


def _found(graph: Graph) -> Iterator[Site]:
    for operation in graph.model.graph.get_operations():
        if operation.type in CONVOLUTIONS:
            yield conv(graph, operation, operation.node_def.attr, operation.inputs, operation.type)
        elif operation.type in CALLS:
            yield from _called(graph, operation)
        elif operation.type in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"):
            yield from _fused_norm(graph, operation)
        elif operation.type in ("Add", "AddV2"):
            yield from _plain_norm(graph, operation)
        elif operation.type == "MatMul":
            yield from _linear(graph, operation)


def _called(graph: Graph, call: Any) -> Iterator[Site]:
    """A function that is a convolution, which XLA compiles; convolutions in others are named, not read."""
    name = call.get_attr("f").name
    body = next((f for f in graph.model.graph.as_graph_def().library.function if f.signature.name == name), None)
    convolutions = [] if body is None else [node for node in body.node_def if node.op in CONVOLUTIONS]
    if body is None or not convolutions:
        return
    arguments = {argument.name: tensor for argument, tensor in zip(body.signature.input_arg, call.inputs, strict=True)}
    nodes = {node.name: node for node in body.node_def}

    def given(name: str) -> Any:
        while name.partition(":")[0] in nodes and nodes[name.partition(":")[0]].op in PASSING:
            name = nodes[name.partition(":")[0]].input[0]
        return arguments.get(name)

    inputs = [given(name) for name in convolutions[0].input if not name.startswith("^")]
    alone = all(node.op in (*PASSING, *CONVOLUTIONS, "NoOp", "Const") for node in body.node_def)
    if len(convolutions) == 1 and alone and None not in inputs and len(call.outputs) == 1:
        yield conv(graph, call, convolutions[0].attr, inputs, convolutions[0].op)
        return
    for node in convolutions:
        problem = f"it is in the function {name!r}, which is not read"
        yield Site(Part(f"{scope(call.name)}/{node.name}", "conv", node.op, problem=problem), None, None)


def _fused_norm(graph: Graph, operation: Any) -> Iterator[Site]:
    """A batch norm as one operator."""
    names = ("gain", "shift", "mean", "variance")
    arrays = {name: graph.constant(t) for name, t in zip(names, operation.inputs[1:], strict=True)}
    if all(a is not None and np.size(a) for a in arrays.values()) and not operation.get_attr("is_training"):
        axis = 1 if operation.get_attr("data_format").startswith(b"NC") else -1
        part = Part(scope(operation.name), "norm", "BatchNorm", arrays={n: plain(a) for n, a in arrays.items()},
                    epsilon=short(operation.get_attr("epsilon")), axis=axis, norm="batch")  # fmt: skip
        yield Site(part, operation.inputs[0], operation.outputs[0])


def _plain_norm(graph: Graph, add: Any) -> Iterator[Site]:
    """``x·m + (beta - mean·m)`` with m = gamma/√(variance + epsilon), as ``tf.nn.batch_normalization`` writes it."""
    product, offset = (t.op for t in add.inputs)
    if product.type != "Mul" or offset.type != "Sub":
        return
    scaled = offset.inputs[1].op
    factor = product.inputs[1].op
    if scaled.type != "Mul" or factor.type != "Mul" or factor.inputs[0].op.type != "Rsqrt":
        return
    total = factor.inputs[0].op.inputs[0].op
    tensors = {"gain": factor.inputs[1], "shift": offset.inputs[0], "mean": scaled.inputs[0],
               "variance": total.inputs[0]}  # fmt: skip
    arrays = {name: graph.constant(tensor) for name, tensor in tensors.items()}
    epsilon = graph.constant(total.inputs[1])
    if scaled.inputs[1].op is not factor or epsilon is None or any(a is None for a in arrays.values()):
        return
    if all(np.ndim(a) == 1 for a in arrays.values()):
        part = Part(scope(scope(add.name)), "norm", "BatchNorm", epsilon=short(epsilon), axis=-1, norm="batch",
                    arrays={n: plain(a) for n, a in arrays.items()})  # fmt: skip
        yield Site(part, product.inputs[0], add.outputs[0])


def _linear(graph: Graph, operation: Any) -> Iterator[Site]:
    """A product with a constant matrix, and the vector that is added to it."""
    kernel = graph.constant(operation.inputs[1])
    if kernel is None or operation.get_attr("transpose_a") or np.ndim(kernel) != 2:
        return
    arrays = {"kernel": plain(kernel if operation.get_attr("transpose_b") else np.transpose(kernel))}
    y = operation.outputs[0]
    user = only_user(y)
    if user is not None and user.type in ("BiasAdd", "Add", "AddV2"):
        bias = graph.constant(user.inputs[1] if user.inputs[0] is y else user.inputs[0])
        if bias is not None and np.shape(bias) == (len(arrays["kernel"]),):
            arrays["bias"], y = plain(bias), user.outputs[0]
    yield Site(Part(scope(operation.name), "linear", "MatMul", arrays=arrays), operation.inputs[0], y)

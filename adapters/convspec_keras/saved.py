"""A SavedModel's signature as one graph: its variables made constants, its functions put in the places of their calls.

Neither ``tf.saved_model.load`` nor the model's own initialisation is run: of the file only the operators
that restore the variables, and those between the signature's inputs and outputs – and these only where they do nothing
but compute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2, saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.grappler import tf_optimizer

from convspec.errors import RequestError, UnsupportedError
from convspec_keras.graph import SavedModel

_LARGEST = (1 << 31) - 1  # protobuf reads no larger message
_SIGNATURES = ("serving_default", "serve")
_INITIAL = "__saved_model_init_op"
_STATEFUL = {
    "VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VarIsInitializedOp", "VariableV2", "Variable", "Assign",
    "ResourceGather", "PartitionedCall", "StatefulPartitionedCall", "If", "While", "Case", "Assert", "Placeholder",
    "RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "StatelessIf", "StatelessWhile",
    "RestoreV2", "DisableCopyOnRead", "HashTableV2", "LookupTableFindV2", "TensorListStack",
}  # fmt: skip
_ELSEWHERE = re.compile(r"_.*|.*File.*|.*PyFunc.*|Debug.*|Save.*|LoadAndRemap.*|.*Vocab.*|.*Dataset.*|.*Summary.*")
_RESTORING = ("ShardedFilename", "MergeV2Checkpoints")


def load(path: str) -> SavedModel:
    """The signature of the SavedModel in a folder.

    Raises:
        RequestError: where the files are broken.
        UnsupportedError: where there is no one signature, or it needs operators that may do more than compute.
    """
    meta = _meta_graph(Path(path) / "saved_model.pb")
    signature = _signature(meta)
    inputs = {name: info.name for name, info in sorted(signature.inputs.items())}
    outputs = {name: info.name for name, info in sorted(signature.outputs.items())}
    restoring = [meta.saver_def.restore_op_name] if meta.HasField("saver_def") else []
    _check(meta.graph_def, [*outputs.values(), *restoring])
    try:
        frozen = _frozen(meta, str(Path(path) / "variables" / "variables"), list(outputs.values()))
        flat = _flat(frozen, [*inputs.values(), *outputs.values()])
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(flat, name="")
    except (tf.errors.OpError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise RequestError(f"its graph cannot be built: {first_line(error)}") from None
    return SavedModel(graph, inputs, outputs)


def first_line(error: Exception) -> str:
    """Return TensorFlow's message without its traces."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _meta_graph(path: Path) -> Any:
    if path.stat().st_size > _LARGEST:
        raise RequestError("its saved_model.pb is larger than 2 GiB")
    found = saved_model_pb2.SavedModel()
    try:
        found.ParseFromString(path.read_bytes())
    except (DecodeError, RecursionError) as error:
        raise RequestError(f"its saved_model.pb is no SavedModel: {error}") from None
    serving = [meta for meta in found.meta_graphs if "serve" in meta.meta_info_def.tags] or list(found.meta_graphs)
    if not serving:
        raise RequestError("its saved_model.pb contains no graph")
    return serving[0]


def _signature(meta: Any) -> Any:
    own = {name: entry for name, entry in meta.signature_def.items() if name != _INITIAL and entry.outputs}
    for name in _SIGNATURES:
        if name in own:
            return own[name]
    if len(own) == 1:
        return next(iter(own.values()))
    listed = ", ".join(sorted(own)) or "none"
    raise UnsupportedError(f"it has no signature serving_default, nor a single one; its signatures: {listed}")


# -- allowed operators-------------------------------------------------------------------------------------------------


def _check(graph: Any, tensors: Iterable[str]) -> None:
    """Refuse a graph that reaches operators that do more than compute, before any of it runs."""
    strange = {node.op for node in _reached(graph, tensors) if not _computes(node.op)}
    if strange:
        unknown = sorted(name for name in strange if op_def_registry.get(name) is None)
        if unknown:
            raise UnsupportedError(f"it needs operators of other libraries, which are not loaded: {', '.join(unknown)}")
        raise UnsupportedError(f"it is not run: its operators may do more than compute: {', '.join(sorted(strange))}")


def _computes(name: str) -> bool:
    definition = op_def_registry.get(name)
    if name in _STATEFUL or name in _RESTORING:
        return True
    return definition is not None and not definition.is_stateful and not _ELSEWHERE.fullmatch(name)


def _reached(graph: Any, tensors: Iterable[str]) -> Iterator[Any]:
    """Return all nodes that these tensors depend on, also those inside functions."""
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    seen: set[str] = set()
    calls: list[str] = []
    left = [_node(name) for name in tensors]
    while left:
        name = left.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        yield nodes[name]
        left += [_node(one) for one in nodes[name].input]
        calls += _called(nodes[name])
    done: set[str] = set()
    while calls:
        name = calls.pop()
        if name in done or name not in functions:
            continue
        done.add(name)
        for node in functions[name].node_def:
            yield node
            calls += _called(node)


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _called(node: Any) -> list[str]:
    found = [node.op]  # a function may be called by its name as if it were an operator
    for value in node.attr.values():
        found += [value.func.name] if value.HasField("func") else [f.name for f in value.list.func]
    return found


# -- one graph ---------------------------------------------------------------------------------------------------------


def _frozen(meta: Any, variables: str, outputs: list[str]) -> Any:
    """The signature's graph with the values of the variables in it."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        saver = tf.compat.v1.train.import_meta_graph(meta)
        if saver is not None and Path(f"{variables}.index").exists():
            saver.restore(session, variables)
        nodes = list(dict.fromkeys(map(_node, outputs)))
        return tf.compat.v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), nodes)


def _flat(frozen: Any, ends: list[str]) -> Any:
    """Return the graph with its functions inlined; grouped convolutions, which XLA must compile, stay calls."""
    for function in frozen.library.function:
        function.attr.pop("api_implements", None)
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(frozen, name="")
        meta = tf.compat.v1.train.export_meta_graph(graph_def=frozen, graph=graph)
    meta.collection_def["train_op"].node_list.value.extend(ends)
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.append("function")
    options.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    return tf_optimizer.OptimizeGraph(config, meta)

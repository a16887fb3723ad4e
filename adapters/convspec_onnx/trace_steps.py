"""Run a graph once and list its nodes as steps with their data flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from convspec.contract import StepTrace, TracedStep
from convspec.contract.tracing import OperatorStep
from convspec.errors import ConvspecError, RequestError, printable
from convspec.spec.steps import Linear, Other, Parameter
from convspec_onnx.graph import Conv, Scope, find_convolutions, resolve_layer
from convspec_onnx.loading import Array, Arrays, DetachedModel, inputs, tensors_read, to_proto
from convspec_onnx.steps import FIRST, Operation, fixed_tensors, holds_tensors, opset_of, opsets_of, word_of
from convspec_onnx.verify import runtimes

_QUANTISED = {"QLinearConv", "ConvInteger", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}


def trace_steps(model: Any, given: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run the model once by ONNX Runtime without graph optimisations, and list its steps.

    Nodes that compute on weights and shapes alone are left out: what they give is an array or a setting of the step
    that reads it. An addition of a constant row after a matrix product is the bias of the linear layer.
    """
    proto = to_proto(model)
    feeds = feeds_of(proto, given)
    wanted = [name for node in proto.graph.node for name in node.output if name and holds_tensors(node)]
    values = run_for(proto, feeds, list(dict.fromkeys([*wanted, *(entry.name for entry in proto.graph.output)])))
    return _Trace(proto, values, list(feeds)).read()


def feeds_of(proto: onnx.ModelProto, given: Sequence[Array] | Mapping[str, Array]) -> Arrays:
    """Return the inputs of a graph by name, in its element types.

    Raises:
        RequestError: if some are missing; for a quantised graph, whose grids no bound of rounding explains.
    """
    if any(node.op_type in _QUANTISED for node in proto.graph.node):
        raise RequestError("the graph is quantised: compare it by `convspec verify GRAPH --against SOURCE`")
    entries = inputs.free_inputs(proto.graph)
    if not isinstance(given, Mapping):
        if len(given) != len(entries):
            raise RequestError(f"the ONNX model takes {len(entries)} inputs, but {len(given)} are given")
        given = {entry.name: x for entry, x in zip(entries, given, strict=True)}
    if missing := [entry.name for entry in entries if entry.name not in given]:
        raise RequestError(f"the ONNX model has an input {printable(missing[0])}, which is not given")
    dtypes = {e.name: helper.tensor_dtype_to_np_dtype(e.type.tensor_type.elem_type) for e in entries}
    return {name: np.asarray(given[name], dtype) for name, dtype in dtypes.items()}


def run_for(proto: onnx.ModelProto, feeds: Arrays, wanted: Sequence[str]) -> Arrays:
    """Return the named tensors of one run, and its inputs."""
    results = {entry.name for entry in proto.graph.output}
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in results)
    try:
        return runtimes.run(DetachedModel(copy), feeds, wanted, runtimes.RunConfig("off")) | feeds
    except ConvspecError as error:
        raise RequestError(f"the ONNX model does not take these inputs: {printable(error)}") from None


def paths_of(graph: onnx.GraphProto) -> dict[int, str]:
    """Return the path of each node by its place; convolutions and linear layers of the same weights are one layer."""
    scope, layers = Scope(graph), dict[tuple[Any, ...], str]()
    paths = {index: node.name or f"{node.op_type}_{index}" for index, node in enumerate(graph.node)}
    for index, node in enumerate(graph.node):
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and node.input[1] in scope.tensors:
            adds = [add for add in scope.consumers.get(node.output[0], ()) if add.op_type == "Add"]
            rows = sorted(name for add in adds for name in add.input if name != node.output[0])
            key = (node.op_type, *node.input[1:], *rows, *sorted(one.SerializeToString() for one in node.attribute))
            paths[index] = layers.setdefault(key, paths[index])
    return paths


class _Trace:
    """Makes the steps of one run; ``values`` holds what every tensor of the graph held."""

    def __init__(self, proto: onnx.ModelProto, values: Arrays, given: Sequence[str]) -> None:
        self.proto, self.values, self.given = proto, values, given
        self.scope = Scope(proto.graph)
        self.fixed = fixed_tensors(proto.graph)
        self.opsets = opsets_of(proto)
        self.convs = {c.node.output[0]: c for c in find_convolutions(DetachedModel(proto)) if not c.owners}
        self.tensors: list[Array] = []
        self.numbers: dict[str, int] = {}
        self.steps: list[TracedStep] = []

    def read(self) -> StepTrace:
        """Return the steps of the run."""
        initial = {tensor.name for tensor in self.proto.graph.initializer}
        given = tuple(self.add(name) for name in self.given)
        joined: set[str] = set()
        paths = paths_of(self.proto.graph)
        for index, node in enumerate(self.proto.graph.node):
            written = [name for name in node.output if name]
            if node.name in joined or all(name in self.fixed for name in written):
                continue
            bias = self.scope.row_after(node, self.fixed_value) if node.op_type == "MatMul" else None
            self.add_steps(paths[index], node, bias)
            joined |= {bias[0].name} if bias else set()
        outputs = tuple(self.number(entry.name) for entry in self.proto.graph.output)
        floats = {name for name in initial if self.value(name).dtype.kind == "f" and self.value(name).ndim}
        parameters = {name: self.value(name).shape for name in sorted(floats)}
        return StepTrace(self.steps, self.tensors, given, outputs, parameters)

    def value(self, name: str) -> Array:
        if name not in self.values:
            constant = self.scope.constant(name)
            if constant is None:
                raise KeyError(name)
            self.values[name] = constant
        return self.values[name]

    def fixed_value(self, name: str) -> Array | None:
        return self.value(name) if name in self.fixed else None

    def add(self, name: str) -> int:
        """List a tensor as it is written, and return its number."""
        self.numbers[name] = len(self.tensors)
        self.tensors.append(self.value(name))
        return self.numbers[name]

    def number(self, name: str) -> int:
        """Return the number of a tensor; of a fixed one, which is a parameter, after listing it."""
        if name not in self.numbers:
            step = Parameter(self.value(name).shape)
            sources = {"value": tuple(one for one in self.fixed[name] if self.value(one).dtype.kind == "f")}
            array = {"value": self.value(name)}
            self.steps.append(TracedStep(name, step, (), (self.add(name),), array, sources, "Constant"))
        return self.numbers[name]

    def add_steps(self, path: str, node: onnx.NodeProto, bias: tuple[onnx.NodeProto, str, Array] | None) -> None:
        """List one node as a step."""
        word, names = self.word(node)
        if bias is not None and isinstance(word.step, Linear):
            step = Linear(word.step.in_features, word.step.out_features)
            arrays = {**word.arrays, "bias": bias[2].reshape(-1)}
            word = OperatorStep(step, word.reads, arrays, word.sources)
        sources = {name: self.fixed[names[number]] for name, number in word.sources.items()}
        if bias is not None:
            sources["bias"] = self.fixed[bias[1]]
        reads = tuple(self.number(names[i]) for i in word.reads)
        written = list((bias[0] if bias is not None else node).output)
        writes = tuple(self.add(name) for name in written if name and name in self.values)
        self.steps.append(
            TracedStep(path, word.step, reads, writes, word.arrays, sources, node.op_type, word.layout, word.note)
        )

    def word(self, node: onnx.NodeProto) -> tuple[OperatorStep, list[str]]:
        """Return the word for a node, and the names of what it reads."""
        names = list(node.input)
        if not holds_tensors(node) or any(
            name and name not in self.numbers and name not in self.fixed for name in names
        ):
            known = [name for name in names if name in self.numbers]
            return OperatorStep(Other(node.op_type), tuple(range(len(known)))), known
        if conv := self.convs.get(node.output[0]):
            return self.convolution(conv), names
        if any(
            attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            read = [name for name in sorted(tensors_read(node)) if name in self.numbers or name in self.fixed]
            return OperatorStep(Other(node.op_type), tuple(range(len(read)))), read
        operation = Operation(
            node, opset_of(node, self.opsets),
            [self.value(name) if name else None for name in names], [name in self.fixed for name in names],
            [self.values[name] for name in node.output if name],
        )  # fmt: skip
        return word_of(operation), names

    def convolution(self, conv: Conv) -> OperatorStep:
        """Return the word for a convolution; a kernel or bias that is computed is read after the input."""
        names = list(conv.node.input)
        present = [i for i, name in enumerate(names) if name]
        if conv.node.op_type not in ("Conv", "ConvTranspose"):
            return OperatorStep(Other(conv.node.op_type), tuple(present))
        computed = tuple(i for i in present[1:] if names[i] not in self.fixed)
        bias = self.value(names[2]) if 2 in present else None
        try:
            spec, params = resolve_layer(conv, self.value(names[1]), bias, self.value(names[0]).shape)
        except ConvspecError as error:
            return OperatorStep(Other(conv.node.op_type), tuple(present), note=str(error))
        arrays = {"kernel": params.kernel} | ({} if params.bias is None else {"bias": params.bias})
        sources = {name: i for name, i in (("kernel", 1), ("bias", 2)) if i in present and i not in computed}
        note = "its kernel or bias is computed" if computed else ""
        return OperatorStep(spec, (0, *computed), arrays, sources, FIRST, note)

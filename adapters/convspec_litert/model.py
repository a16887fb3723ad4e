"""The layers of LiteRT models with their weights, one run of a model as steps, and new weights for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convspec.contract import Array, Call, ModelTrace, Part, StepTrace, TracedStep, refuse_inputs
from convspec.contract.tracing import OperatorStep
from convspec.errors import ConvspecError, RequestError, UnsupportedError
from convspec.spec.steps import Parameter
from convspec_litert import files
from convspec_litert.flatbuffer import Graph, Operator
from convspec_litert.read import bias_input, data_input, read_conv, sizes_of
from convspec_litert.steps import word_of
from convspec_litert.weights import ORDERS, to_litert

_INTEGERS = ("int8", "uint8", "int16", "int4")


def parts(model: Any) -> list[Part]:
    """All convolutions and fully connected layers of the graph, in its order."""
    graph = Graph(model)
    return list(_parts(graph, sizes_of(graph)))


def _parts(graph: Graph, sizes: Mapping[int, Sequence[int]]) -> Iterator[Part]:
    for operator in graph.operators:
        if operator.kind in ORDERS:
            try:
                yield Part(operator.path, "conv", operator.kind, read_conv(graph, operator, sizes))
            except ConvspecError as error:
                yield Part(operator.path, "conv", operator.kind, problem=str(error))
        elif operator.kind == "FULLY_CONNECTED" and (kernel := graph.constant(operator.inputs[1])) is not None:
            numbers = {"kernel": operator.inputs[1]}
            if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
                numbers["bias"] = operator.inputs[2]
            arrays = {name: graph.constant(number) for name, number in numbers.items()}
            known = {name: array for name, array in arrays.items() if array is not None and array.dtype.kind == "f"}
            if "kernel" in known and kernel.ndim == 2:
                yield Part(operator.path, "linear", operator.kind, arrays=known)


def parameters(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the constants of floats that no layer reads, by their names."""
    graph = Graph(model)
    layers = {n for own in graph.operators if own.kind in (*ORDERS, "FULLY_CONNECTED") for n in own.inputs[1:]}
    others = {n for own in graph.operators if own.kind != "DEQUANTIZE" for n in own.inputs if n >= 0} - layers
    return {graph.name(n): array.shape for n in sorted(others)
            if (array := graph.constant(n)) is not None and array.dtype.kind == "f" and array.ndim}  # fmt: skip


def _run(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> tuple[Graph, dict[int, Array]]:
    """Return the model with all activations as operators of their own, and what its tensors held in a run.

    Raises:
        RequestError: for inputs that do not fit, and for a quantised model, whose grids no bound of rounding explains.
    """
    graph = Graph(model).unfused()
    quantised = next((n for own in graph.operators for n in own.inputs if n >= 0 and graph.dtype(n) in _INTEGERS), None)
    if quantised is not None:
        raise RequestError("the model is quantised: no bound of rounding explains its grids")
    feeds = graph.feeds(inputs)
    with refuse_inputs("LiteRT model"):
        return graph, graph.values(feeds)


def trace_model(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run the model once by LiteRT's own kernels."""
    graph, values = _run(model, inputs)
    paths = {part.path for part in _parts(graph, {n: x.shape for n, x in values.items()})}
    calls = [
        Call(own.path, values[data_input(own) if own.kind in ORDERS else own.inputs[0]], values[own.outputs[0]])
        for own in graph.operators if own.path in paths
    ]  # fmt: skip
    return ModelTrace(calls, [values[number] for number in graph.outputs])


def traces_plainly(_: Any) -> bool:
    """Whether one run gives steps and results: of a graph, always."""
    return True


def trace_steps(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run the model once by LiteRT's own kernels; steps on constants and sizes alone are left out."""
    graph, values = _run(model, inputs)
    return Trace(graph, values).read()


class Trace:
    """Makes the steps of one run; ``values`` has what every tensor held."""

    def __init__(self, graph: Graph, values: Mapping[int, Array]) -> None:
        self.graph, self.values = graph, values
        self.fixed = {n for n in values if graph.constant(n) is not None}
        for operator in graph.operators:
            if operator.kind == "SHAPE" or {n for n in operator.inputs if n >= 0} <= self.fixed:
                self.fixed |= set(operator.outputs)
        self.tensors: list[Array] = []
        self.numbers: dict[int, int] = {}
        self.steps: list[TracedStep] = []

    def read(self) -> StepTrace:
        given = tuple(self.add(number) for number in self.graph.inputs)
        for operator in self.graph.operators:
            if not set(operator.outputs) <= self.fixed:
                word = self.word(operator)
                sources = {name: (self.graph.name(operator.inputs[i]),) for name, i in word.sources.items()}
                reads = tuple(self.number(operator.inputs[i]) for i in word.reads)
                writes = tuple(self.add(number) for number in operator.outputs)
                self.steps.append(TracedStep(operator.path, word.step, reads, writes, word.arrays, sources,
                                             operator.kind, word.layout, word.note))  # fmt: skip
        floats = {n: x for n, x in self.values.items() if n in self.fixed and x.dtype.kind == "f" and x.ndim}
        parameters = {self.graph.name(n): x.shape for n, x in floats.items() if self.graph.constant(n) is not None}
        return StepTrace(self.steps, self.tensors, given, tuple(map(self.number, self.graph.outputs)), parameters)

    def word(self, operator: Operator) -> OperatorStep:
        if operator.kind not in ORDERS:
            return word_of(self.graph, operator, self.values, self.fixed)
        try:
            reading = read_conv(self.graph, operator, {n: x.shape for n, x in self.values.items()})
        except ConvspecError as error:
            present = tuple(i for i, n in enumerate(operator.inputs) if n >= 0 and n not in self.fixed)
            return OperatorStep.other(operator.kind, present, str(error))
        params, bias = reading.params, bias_input(operator)
        sources = {"kernel": 1} | ({} if params.bias is None or bias is None else {"bias": len(operator.inputs) - 1})
        arrays = {"kernel": params.kernel} | ({} if params.bias is None else {"bias": params.bias})
        return OperatorStep(reading.spec, (operator.inputs.index(data_input(operator)),), arrays, sources, "NHWC")

    def add(self, number: int) -> int:
        self.numbers[number] = len(self.tensors)
        self.tensors.append(self.values[number])
        return self.numbers[number]

    def number(self, tensor: int) -> int:
        """Return the number of a tensor in the trace; of a constant, which is a parameter, after listing it."""
        if tensor not in self.numbers:
            name, value = self.graph.name(tensor), self.values[tensor]
            step, writes = Parameter(value.shape), (self.add(tensor),)
            self.steps.append(TracedStep(name, step, (), writes, {"value": value}, {"value": (name,)}, "constant"))
        return self.numbers[tensor]


def write(model: Any, arrays: Mapping[str, Mapping[str, Array]]) -> Any:
    """Replace weights; returns the model. Raises UnsupportedError for a bias that an operator does not have."""
    graph = Graph(model)
    by_path = {operator.path: operator for operator in graph.operators}
    for path, own in arrays.items():
        operator = by_path[path]
        for name, values in own.items():
            conv = operator.kind in ORDERS
            number = operator.inputs[1] if name == "kernel" else bias_input(operator)
            if number is None:
                raise UnsupportedError(f"{path} has no {name}")
            graph.set(number, to_litert(values, operator.kind) if conv and name == "kernel" else values)
    return model


def save(model: Any, path: Any) -> None:
    """Write the model as one file."""
    files.store(model, str(path))


__all__ = ["parameters", "parts", "save", "trace_model", "trace_steps", "traces_plainly", "write"]

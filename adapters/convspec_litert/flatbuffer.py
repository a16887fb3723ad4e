"""A ``.tflite`` model in the schema classes of LiteRT's package: its tensors and operators, parts of it, and runs."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

from convspec.contract import Array
from convspec.errors import RequestError, printable

Shapes: TypeAlias = Sequence[Sequence[int]]

RESOLVERS = {  # by the adapter's variants
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}
_CODES: dict[int, str] = {value: name for name, value in vars(tfl.BuiltinOperator).items() if isinstance(value, int)}
_DTYPES: dict[int, str] = {
    value: name.lower() for name, value in vars(tfl.TensorType).items() if isinstance(value, int)
}
_FOLDED: dict[str, Any] = {"MUL": np.multiply, "ADD": np.add}
_ACTIVATIONS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}


@dataclass(frozen=True)
class Operator:
    """One operator: its name in the schema, its path in the model, and the numbers of its tensors (-1: left out)."""

    kind: str
    path: str
    own: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def options(self) -> Any:
        return self.own.builtinOptions


class Graph:
    """The main subgraph of a model. Tensors are numbers; those of a converted model keep theirs in every copy."""

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.subgraphs[0]
        self.inputs, self.outputs = _ints(self.graph.inputs), _ints(self.graph.outputs)

    @cached_property
    def operators(self) -> list[Operator]:
        """All operators in the order of execution; the path is the operator's name and its number."""
        named = [(self._kind(own), own) for own in self.graph.operators]
        return [Operator(kind, f"{kind.lower()}_{number}", own, _ints(own.inputs), _ints(own.outputs))
                for number, (kind, own) in enumerate(named)]  # fmt: skip

    def _kind(self, own: Any) -> str:
        code = self.model.operatorCodes[own.opcodeIndex]
        if code.customCode:
            return printable(_text(code.customCode))
        return _CODES.get(max(code.builtinCode, code.deprecatedBuiltinCode), "UNKNOWN")

    @cached_property
    def makers(self) -> dict[int, Operator]:
        """The operator that writes each tensor."""
        return {number: operator for operator in self.operators for number in operator.outputs}

    def name(self, tensor: int) -> str:
        return printable(_text(self.graph.tensors[tensor].name))

    def dtype(self, tensor: int) -> str:
        return _DTYPES[self.graph.tensors[tensor].type]

    def signature(self, tensor: int) -> tuple[int, ...]:
        """The sizes of a tensor; -1 for one that each run may set."""
        own = self.graph.tensors[tensor]
        return _ints(own.shape if own.shapeSignature is None or not len(own.shapeSignature) else own.shapeSignature)

    def source(self, tensor: int) -> int:
        """The constant that holds a weight: behind a DEQUANTIZE of float16, another tensor."""
        maker = self.makers.get(tensor)
        if maker is not None and maker.kind == "DEQUANTIZE" and self.dtype(maker.inputs[0]) == "float16":
            return maker.inputs[0]
        return tensor

    def constant(self, tensor: int) -> Array | None:
        """The numbers of a constant, as the operators read them; None for a tensor that is computed."""
        own = self.graph.tensors[self.source(tensor)]
        data = self.model.buffers[own.buffer].data
        if data is None or not len(data) or _DTYPES[own.type] not in np.sctypeDict:  # NumPy has no int4
            return None
        array = np.frombuffer(bytes(data), _DTYPES[own.type]).reshape(_ints(own.shape))
        return array.astype(_DTYPES[self.graph.tensors[tensor].type])

    def set(self, tensor: int, array: Array) -> None:
        """Replace the numbers of a constant."""
        own = self.graph.tensors[self.source(tensor)]
        numbers = np.ascontiguousarray(array, _DTYPES[own.type])
        self.model.buffers[own.buffer].data = np.frombuffer(numbers.tobytes(), np.uint8)

    # -- other forms of the model --------------------------------------------------------------------------------------

    def part(self, inputs: Iterable[int] | None, outputs: Iterable[int], operators: Iterable[Operator]) -> Graph:
        """The operators as a model, which shares its tensors with this one."""
        model, graph = copy.copy(self.model), copy.copy(self.graph)
        model.subgraphs, model.signatureDefs = [graph], None
        graph.inputs, graph.outputs = list(self.inputs if inputs is None else inputs), list(outputs)
        graph.operators = [operator.own for operator in operators]
        return Graph(model)

    def fixed(self, shapes: Shapes) -> Graph:
        """The model for inputs of these shapes: what it computes from them alone is constant, as in converted models.

        XNNPACK takes a transposed convolution only where its output's shape is a constant.
        """
        sizes: dict[int, Array] = {n: np.array(shape, np.int32) for n, shape in zip(self.inputs, shapes, strict=True)}
        known: dict[int, Array] = {}
        rest = []
        for operator in self.operators:
            first, result = operator.inputs[0], operator.outputs[0]
            second = self.constant(operator.inputs[1]) if len(operator.inputs) > 1 else None
            if operator.kind == "SHAPE" and first in sizes:
                known[result] = sizes[first]
            elif operator.kind in _FOLDED and first in known and second is not None:
                known[result] = _FOLDED[operator.kind](known[first], second)
            else:
                rest.append(operator)
                if operator.kind == "EXPAND_DIMS" and first in sizes and second is not None:
                    sizes[result] = np.insert(sizes[first], int(second.reshape(-1)[0]), 1)
        if not known:
            return self
        other = self.part(None, self.outputs, rest)
        other.model.buffers, other.graph.tensors = list(self.model.buffers), list(self.graph.tensors)
        for number, array in known.items():
            other.model.buffers.append(tfl.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
            own = other.graph.tensors[number] = copy.copy(self.graph.tensors[number])
            own.buffer, own.shape, own.shapeSignature = len(other.model.buffers) - 1, list(array.shape), None
        return other

    def unfused(self) -> Graph:
        """The model with fused activations as operators of their own, whose inputs a run shows."""
        other = self.part(None, self.outputs, [])
        other.graph.tensors, other.model.operatorCodes = list(self.graph.tensors), list(self.model.operatorCodes)
        operators: list[Operator] = []
        for operator in self.operators:
            activation = _ACTIVATIONS.get(getattr(operator.options, "fusedActivationFunction", 0))
            if activation is None:
                operators.append(operator)
                continue
            number, code = len(other.graph.tensors), getattr(tfl.BuiltinOperator, activation)
            other.graph.tensors.append(copy.copy(self.graph.tensors[operator.outputs[0]]))
            other.model.operatorCodes.append(tfl.OperatorCodeT(code, version=1, builtinCode=code))
            plain = copy.copy(operator.own)
            plain.outputs, plain.builtinOptions = [number], copy.copy(operator.options)
            plain.builtinOptions.fusedActivationFunction = 0
            own = tfl.OperatorT(len(other.model.operatorCodes) - 1, [number], list(operator.outputs))
            path = f"{operator.path}/{activation.lower()}"
            operators += [
                Operator(operator.kind, operator.path, plain, operator.inputs, (number,)),
                Operator(activation, path, own, (number,), operator.outputs),
            ]
        other.graph.operators = [operator.own for operator in operators]
        other.operators = operators
        return other

    # -- runs ----------------------------------------------------------------------------------------------------------

    def pack(self) -> bytes:
        """The model as a file."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def shapes(self, size: int = 16) -> list[tuple[int, ...]]:
        """Shapes of inputs: the declared ones, with a batch of one and ``size`` pixels where each run may set them."""
        declared = [self.signature(number) for number in self.inputs]
        return [tuple((1 if axis == 0 else size) if n < 0 else n for axis, n in enumerate(own)) for own in declared]

    def run(self, inputs: Sequence[Array], variant: str, threads: int | None = None) -> list[Array]:
        """Return the model's outputs."""
        interpreter = self._invoke(inputs, variant, threads, keep=False)
        return [interpreter.get_tensor(number) for number in self.outputs]

    def values(self, inputs: Sequence[Array], variant: str | None = None) -> dict[int, Array]:
        """Return what every tensor of a run held; by LiteRT's own kernels, where they have the model's formats."""
        half = any(self.dtype(number) == "float16" for number in self.inputs)
        interpreter = self._invoke(inputs, variant or ("xnnpack" if half else "builtin"), None, keep=True)
        numbers = {n for operator in self.operators for n in (*operator.inputs, *operator.outputs) if n >= 0}
        held: dict[int, Array] = {}
        for number in sorted(numbers | {*self.inputs, *self.outputs}):
            array = self.constant(number)
            held[number] = interpreter.get_tensor(number) if array is None else array
        return held

    def _invoke(self, inputs: Sequence[Array], variant: str, threads: int | None, *, keep: bool) -> Interpreter:
        fixed = self.fixed([x.shape for x in inputs])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that keeping all tensors takes memory
            interpreter = Interpreter(
                model_content=fixed.pack(), num_threads=threads, experimental_op_resolver_type=RESOLVERS[variant],
                experimental_preserve_all_tensors=keep,
            )  # fmt: skip
        for number, x in zip(self.inputs, inputs, strict=True):
            if x.shape != self.signature(number):
                interpreter.resize_tensor_input(number, x.shape)
        interpreter.allocate_tensors()
        for number, x in zip(self.inputs, inputs, strict=True):
            interpreter.set_tensor(number, np.ascontiguousarray(x, self.dtype(number)))
        interpreter.invoke()
        return interpreter

    def feeds(self, given: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
        """Return inputs in the order of the model; names are those of its signature, or of its tensors.

        Raises:
            RequestError: if some are missing.
        """
        names = {self.name(number): number for number in self.inputs}
        for own in self.model.signatureDefs or ():
            names |= {printable(_text(entry.name)): entry.tensorIndex for entry in own.inputs}
        if isinstance(given, Mapping):
            by_number = {names[name]: np.asarray(x) for name, x in given.items() if name in names}
            if missing := [self.name(number) for number in self.inputs if number not in by_number]:
                raise RequestError(f"the LiteRT model has an input {missing[0]}, which is not given")
            return [by_number[number] for number in self.inputs]
        if len(given) != len(self.inputs):
            raise RequestError(f"the LiteRT model takes {len(self.inputs)} inputs, but {len(given)} are given")
        return [np.asarray(x) for x in given]


def parse(data: bytes) -> Any:
    """Return the model that a file holds.

    Raises:
        RequestError: if it is none.
    """
    if data[4:8] != b"TFL3":
        raise RequestError("it is not a LiteRT model: bytes 5 to 8 must be TFL3")
    try:
        model = read_model_from_bytearray(bytearray(data))
    except Exception as error:  # noqa: BLE001 – of offsets that point anywhere
        raise RequestError(f"it is not a valid LiteRT model: {type(error).__name__}: {printable(error)}") from None
    if not model.subgraphs:
        raise RequestError("the model has no graph")
    return model


def _ints(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(n) for n in values)


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")

"""LiteRT's operators as steps of the common vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from convspec.contract import Array
from convspec.contract.tracing import NoWord, OperatorStep
from convspec.errors import SpecError
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_litert.flatbuffer import Graph, Operator

_LAST = "NHWC"


@dataclass(frozen=True, eq=False)
class _Call:
    """One operator in one run."""

    graph: Graph
    operator: Operator
    values: Mapping[int, Array]
    fixed: Set[int]

    @property
    def x(self) -> Array:
        return self.values[self.operator.inputs[0]]

    @property
    def y(self) -> Array:
        return self.values[self.operator.outputs[0]]

    def option(self, name: str, default: Any = None) -> Any:
        return getattr(self.operator.options, name, default)

    def constant(self, place: int) -> Array:
        """Return a fixed input; raise NoWord for one that is computed."""
        number = self.operator.inputs[place]
        if number not in self.fixed:
            raise NoWord(f"with a computed input {place}")
        return self.values[number]

    def axes(self, place: int = 1) -> tuple[int, ...]:
        return tuple(int(n) for n in self.constant(place).reshape(-1))


_Builder: TypeAlias = "Callable[[_Call], OperatorStep]"


def word_of(graph: Graph, operator: Operator, values: Mapping[int, Array], fixed: Set[int]) -> OperatorStep:
    """Return the word for an operator; of one that the vocabulary does not have, ``Other`` with the reason as note."""
    reads = tuple(i for i, n in enumerate(operator.inputs) if n >= 0)
    build = _TABLE.get(operator.kind)
    if build is None:
        return OperatorStep.other(operator.kind, reads)
    try:
        return build(_Call(graph, operator, values, fixed))
    except NoWord as reason:
        return OperatorStep.other(f"{operator.kind} {reason}".strip(), reads)
    except (SpecError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        return OperatorStep.other(operator.kind, reads, str(error))


def _plain(step: Step) -> _Builder:
    return lambda _: OperatorStep(step)


def _number(value: Any) -> float:
    return float(str(np.float32(value)))  # as it was written


def _elementwise(make: type[steps.Elementwise]) -> _Builder:
    """Return the builder of an operation on two tensors; a number in the file is a constant of the step."""

    def build(call: _Call) -> OperatorStep:
        if call.y.dtype.kind != "f":
            raise NoWord("of integers")
        for own, other in ((1, 0), (0, 1)):
            number = call.values[call.operator.inputs[own]]
            if call.operator.inputs[own] in call.fixed and number.size == 1:
                first = {"reflected": True} if own == 0 and issubclass(make, steps.Subtract | steps.Divide) else {}
                return OperatorStep(make(constant=_number(number.reshape(-1)[0]), **first), (other,))
        return OperatorStep(make(), (0, 1))

    return build


def _window(call: _Call) -> dict[str, Any]:
    return {
        "kernel_size": (call.option("filterHeight"), call.option("filterWidth")),
        "stride": (call.option("strideH"), call.option("strideW")),
        "padding": "same" if call.option("padding") == tfl.Padding.SAME else "valid",
    }


def _softmax(call: _Call) -> OperatorStep:
    if call.option("beta") != 1:
        raise NoWord(f"with beta {call.option('beta'):g}")
    return OperatorStep(steps.Softmax(-1))


def _prelu(call: _Call) -> OperatorStep:
    slope = call.constant(1)
    step = steps.PReLU(slope.shape)
    return OperatorStep(step, arrays={"slope": slope}, sources={"slope": 1})


def _power(call: _Call) -> OperatorStep:
    exponent = call.constant(1)
    if exponent.size != 1:
        raise NoWord
    return OperatorStep(steps.Power(_number(exponent.reshape(-1)[0])))


def _reduce(reduction: str) -> _Builder:
    return lambda call: OperatorStep(steps.Reduce(reduction, call.axes(), keepdims=bool(call.option("keepDims"))))


def _linear(call: _Call) -> OperatorStep:
    kernel = call.constant(1)
    present = len(call.operator.inputs) > 2 and call.operator.inputs[2] >= 0
    if kernel.ndim != 2 or call.x.shape[-1] != kernel.shape[1] or call.x.ndim != call.y.ndim:
        raise NoWord(f"of an input of shape {call.x.shape}")
    arrays = {"weight": kernel} | ({"bias": call.constant(2)} if present else {})
    step = steps.Linear(kernel.shape[1], kernel.shape[0], bias=present)
    return OperatorStep(step, arrays=arrays, sources={"weight": 1} | ({"bias": 2} if present else {}))


def _pad(call: _Call) -> OperatorStep:
    mode = "constant"
    if call.operator.kind == "MIRROR_PAD":
        mode = "symmetric" if call.option("mode") == tfl.MirrorPadMode.SYMMETRIC else "reflect"
    value = _number(call.constant(2).reshape(-1)[0]) if call.operator.kind == "PADV2" else 0.0
    return OperatorStep(steps.Pad(tuple((int(a), int(b)) for a, b in call.constant(1)), mode, value))


def _slice(call: _Call) -> OperatorStep:
    starts, lengths = call.axes(1), call.axes(2)
    return OperatorStep(steps.Slice([(a, None if n < 0 else a + n, 1) for a, n in zip(starts, lengths, strict=True)]))


def _strided_slice(call: _Call) -> OperatorStep:
    if any(call.option(f"{name}Mask") for name in ("ellipsis", "newAxis", "shrinkAxis")) or call.option("offset"):
        raise NoWord("that changes the number of axes")
    begin, end = (int(call.option(f"{name}Mask")) for name in ("begin", "end"))
    parts = zip(call.axes(1), call.axes(2), call.axes(3), strict=True)
    return OperatorStep(steps.Slice([
        (None if begin >> i & 1 else a, None if end >> i & 1 else b, s) for i, (a, b, s) in enumerate(parts)
    ]))  # fmt: skip


def _split(call: _Call) -> OperatorStep:
    [axis] = call.axes(0)
    sizes = tuple(call.values[n].shape[axis] for n in call.operator.outputs)
    return OperatorStep(steps.Split(sizes, axis), (1,))


def _resize(mode: str) -> _Builder:
    def build(call: _Call) -> OperatorStep:
        align, half = call.option("alignCorners"), call.option("halfPixelCenters")
        coordinates = "align_corners" if align else "half_pixel" if half else "asymmetric"
        rounding = "round_prefer_ceil" if align else "floor"
        if half and mode == "nearest":
            coordinates = "tf_half_pixel_for_nn"
        return OperatorStep(
            steps.Resize(size=call.y.shape[1:3], mode=mode, coordinates=coordinates, rounding=rounding), layout=_LAST
        )

    return build


def _blocks(make: type[steps.PixelShuffle | steps.PixelUnshuffle]) -> _Builder:
    return lambda call: OperatorStep(make(call.option("blockSize"), "DCR"), layout=_LAST)


_TABLE: dict[str, _Builder] = {
    "ADD": _elementwise(steps.Add), "SUB": _elementwise(steps.Subtract), "MUL": _elementwise(steps.Multiply),
    "DIV": _elementwise(steps.Divide), "MAXIMUM": _elementwise(steps.Maximum), "MINIMUM": _elementwise(steps.Minimum),
    "RELU": _plain(steps.ReLU()), "RELU6": _plain(steps.Clip(0.0, 6.0)), "RELU_N1_TO_1": _plain(steps.Clip(-1.0, 1.0)),
    "LOGISTIC": _plain(steps.Sigmoid()), "TANH": _plain(steps.Tanh()), "ELU": _plain(steps.ELU()),
    "HARD_SWISH": _plain(steps.HardSwish()), "SOFTMAX": _softmax, "PRELU": _prelu, "POW": _power,
    "LOG_SOFTMAX": _plain(steps.Softmax(-1, True)), "SQUARE": _plain(steps.Pointwise("square")),
    "LEAKY_RELU": lambda call: OperatorStep(steps.LeakyReLU(_number(call.option("alpha")))),
    "GELU": lambda call: OperatorStep(steps.GELU("tanh" if call.option("approximate") else "none")),
    "MAX_POOL_2D": lambda call: OperatorStep(steps.MaxPool(**_window(call)), layout=_LAST),
    "AVERAGE_POOL_2D": lambda call: OperatorStep(
        steps.AveragePool(**_window(call), count_include_pad=False), layout=_LAST
    ),
    "MEAN": _reduce("mean"), "SUM": _reduce("sum"), "REDUCE_MAX": _reduce("max"), "REDUCE_MIN": _reduce("min"),
    "FULLY_CONNECTED": _linear, "PAD": _pad, "PADV2": _pad, "MIRROR_PAD": _pad, "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice, "SPLIT": _split, "RESHAPE": lambda call: OperatorStep(steps.Reshape(call.y.shape)),
    "SQUEEZE": lambda call: OperatorStep(steps.Squeeze(tuple(int(n) for n in call.option("squeezeDims")))),
    "EXPAND_DIMS": lambda call: OperatorStep(steps.Unsqueeze(call.axes())),
    "TRANSPOSE": lambda call: OperatorStep(steps.Permute(call.axes())),
    "CONCATENATION": lambda call: OperatorStep(
        steps.Concat(call.option("axis")), tuple(range(len(call.operator.inputs)))),
    "RESIZE_BILINEAR": _resize("linear"), "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
    "DEPTH_TO_SPACE": _blocks(steps.PixelShuffle), "SPACE_TO_DEPTH": _blocks(steps.PixelUnshuffle),
}  # fmt: skip
for _name in ("abs", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "floor", "ceil", "round"):
    if _name in steps.FUNCTIONS:
        _TABLE[_name.upper()] = _plain(steps.Pointwise(_name))

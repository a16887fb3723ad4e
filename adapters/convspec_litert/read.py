"""LiteRT models → ConvSpec and ConvParams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from convspec.contract import ConvParams, ConvSpec, FoundConv, Reading, known_dtype, no_convolutions, refuse_shape
from convspec.contract.tracing import Answer, Array, Run, layer_inference
from convspec.errors import UnsupportedError
from convspec_litert.flatbuffer import Graph, Operator
from convspec_litert.weights import ORDERS, from_litert

_AROUND = {"SHAPE", "MUL", "ADD", "DEQUANTIZE"}  # of a plain transposed layer, or one of float16 weights


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a model is or contains.

    Raises:
        UnsupportedError: where the model is more than that.
    """
    if not isinstance(layer, tfl.ModelT):
        raise UnsupportedError(f"{type(layer).__name__} is not a ModelT of ai_edge_litert.schema_py_generated")
    graph = Graph(layer)
    convs = [operator for operator in graph.operators if operator.kind in ORDERS]
    if len(convs) != 1:
        raise UnsupportedError(f"the model has {len(convs)} convolutions, but must have one")
    [conv] = convs
    reading = read_conv(graph, conv, sizes_of(graph, input_shape))
    if {operator.kind for operator in graph.operators} <= {conv.kind} | _AROUND and not _activation(conv):
        return reading
    return layer_inference.read(_runner(graph.unfused(), reading), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:
    """Every convolution of a model, each by itself; paths are the operators' names and numbers.

    Raises:
        UnsupportedError: where there is none, listing the model's operators.
    """
    graph = Graph(model)
    own = [operator for operator in graph.operators if operator.kind in ORDERS]
    if not own:
        raise no_convolutions("the model", (operator.kind for operator in graph.operators), "operators")
    sizes = sizes_of(graph, input_shape)
    return [FoundConv.of(conv.path, partial(read_conv, graph, conv, sizes)) for conv in own]


def _activation(operator: Operator) -> int:
    return int(getattr(operator.options, "fusedActivationFunction", 0))


def _runner(graph: Graph, reading: Reading) -> Run:
    """Return a function that runs the parts before and after the convolution, with ``answer`` in its place."""
    at, conv = next((i, own) for i, own in enumerate(graph.operators) if own.kind in ORDERS)
    before = graph.part(None, [data_input(conv)], graph.operators[:at])
    after = graph.part(conv.outputs, graph.outputs, graph.operators[at + 1 :])
    flat = len(graph.signature(graph.inputs[0])) == 3 and reading.spec.ndim == 2 and reading.spec.kernel_size[0] == 1
    own = replace(reading, spec=_flat(reading.spec), params=_flat_params(reading.params)) if flat else reading

    def run(x: Array, answer: Answer) -> Array:
        inner = _ran(before, x) if data_input(conv) not in graph.inputs else x
        y = answer(own, inner[:, 0])[:, None] if flat else answer(own, inner)
        return _ran(after, y) if conv.outputs[0] not in graph.outputs else y

    return run


def _ran(graph: Graph, x: Array) -> Array:
    with refuse_shape(x.shape):
        return np.array(graph.run([x], "builtin")[0])


def _flat(spec: ConvSpec) -> ConvSpec:
    """The 1-D layer that a 2-D one with a height of one is."""
    fields = {name: value[1:] for name, value in spec.to_dict().items() if isinstance(value, list | tuple)}
    return ConvSpec.from_dict({**spec.to_dict(), **fields})


def _flat_params(params: ConvParams) -> ConvParams:
    return ConvParams(np.ascontiguousarray(params.kernel[:, :, 0]), params.bias)


# -- one operator ------------------------------------------------------------------------------------------------------


def data_input(conv: Operator) -> int:
    """The tensor that is convolved; the first input of a transposed convolution is the shape of its output."""
    return conv.inputs[2 if "TRANSPOSE" in conv.kind else 0]


def bias_input(conv: Operator) -> int | None:
    """The tensor of the bias; None without one."""
    rest = conv.inputs[3 if "TRANSPOSE" in conv.kind else 2 :]
    return rest[0] if rest and rest[0] >= 0 else None


def read_conv(graph: Graph, conv: Operator, sizes: Mapping[int, Sequence[int]]) -> Reading:
    """The spec and the weights of one operator. A bias of zeros is none: the operators of 2-D layers must have one.

    Args:
        sizes: shapes of the tensors.

    Raises:
        UnsupportedError: where the weights are computed or quantised.
    """
    native, bias = graph.constant(conv.inputs[1]), None
    if native is None:
        raise UnsupportedError("its weights are computed")
    dtype = known_dtype(str(native.dtype))
    number = bias_input(conv)
    if number is not None and (bias := graph.constant(number)) is None:
        raise UnsupportedError("its bias is computed")
    bias = bias if bias is not None and bias.any() else None
    kernel = from_litert(native, conv.kind)
    spec = spec_of(conv, kernel.shape, sizes[data_input(conv)], sizes[conv.outputs[0]], bias=bias is not None)
    return Reading(spec, ConvParams(kernel, bias).check(spec), "NHWC", dtype)


def spec_of(conv: Operator, kernel: Sequence[int], x: Sequence[int], y: Sequence[int], *, bias: bool) -> ConvSpec:
    """The spec of an operator from its options, the canonical shape of its kernel, and its tensors' shapes."""
    options, transposed, same = conv.options, "TRANSPOSE" in conv.kind, conv.options.padding == tfl.Padding.SAME
    letters, size = "DHW"[5 - len(x) :], tuple(kernel[2:])
    stride = tuple(getattr(options, f"stride{letter}") for letter in letters)
    dilation = tuple(getattr(options, f"dilation{letter}Factor", 1) for letter in letters)
    outputs, groups = (kernel[1], 1) if transposed else (kernel[0], x[-1] // kernel[1])
    padding: Any = "same" if same else 0
    extra = (0,) * len(size)
    if transposed:
        rests = [m - (n - 1) * s - k for n, m, k, s in zip(x[1:-1], y[1:-1], size, stride, strict=True)]
        if not (same and all(m == n * s for n, m, s in zip(x[1:-1], y[1:-1], stride, strict=True))):
            crops = [max(-rest, 0) for rest in rests]
            padding = tuple((crop // 2 if same else 0, crop - crop // 2 if same else crop) for crop in crops)
            extra = tuple(max(rest, 0) for rest in rests)
    return ConvSpec(x[-1], outputs, size, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias,
                    transposed=transposed, output_padding=extra)  # fmt: skip


def sizes_of(graph: Graph, input_shape: Sequence[int] | None = None) -> Mapping[int, Sequence[int]]:
    """The shapes of all tensors: those that the file declares, or of a run on zeros where it leaves sizes open."""
    if input_shape is None and not any(-1 in graph.signature(n) for n in range(len(graph.graph.tensors))):
        return {n: graph.signature(n) for n in range(len(graph.graph.tensors))}
    reach = max((max(_span(graph, own)) for own in graph.operators if own.kind in ORDERS), default=1)
    shapes = graph.shapes(max(16, 2 * reach)) if input_shape is None else [tuple(input_shape)]
    with refuse_shape(shapes[0]):
        values = graph.values([np.zeros(s, graph.dtype(n)) for s, n in zip(shapes, graph.inputs, strict=True)], None)
    return {number: array.shape for number, array in values.items()}


def _span(graph: Graph, conv: Operator) -> list[int]:
    """Upper bounds for the number of pixels that a convolution reads along its axes."""
    factors = [int(getattr(conv.options, f"dilation{letter}Factor", 1)) for letter in "DHW"]
    return [n * max(factors) for n in graph.signature(conv.inputs[1])[:-1]]

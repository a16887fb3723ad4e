"""Quantised layers: the model of a float layer with other types, scales and zero points."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from convspec.contract import ConvParams, Plan, QuantizedForm, QuantSpec
from convspec.errors import UnsupportedError
from convspec_litert.flatbuffer import Graph
from convspec_litert.layer import run
from convspec_litert.weights import ORDERS, to_litert

ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6")  # by their numbers in an operator
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 6, "TRANSPOSE_CONV": 3, "PAD": 2, "MIRROR_PAD": 2, "STRIDED_SLICE": 2}
_CHANNELS = {"DEPTHWISE_CONV_2D": 3}  # the axis of the scales in the operator's kernel; else 0


def quantized(plan: Plan, quant: QuantSpec, params: ConvParams, variant: str) -> tuple[QuantizedForm, ...]:
    """Return the layer as a model of int8, or of uint8 by its older rules: one scale and zero point for the weight."""
    graph = Graph(plan.execute())
    [conv] = [operator for operator in graph.operators if operator.kind in ORDERS]
    activation = ACTIVATIONS.index(quant.activation)
    _require(conv.kind, quant, bool(activation))
    conv.options.fusedActivationFunction = activation
    data = {"input": (quant.input_scale, quant.input_zero), "output": (quant.output_scale, quant.output_zero)}
    after = False
    for number in (graph.inputs[0], *(own.outputs[0] for own in graph.operators)):
        after = after or number == conv.outputs[0]
        if graph.dtype(number) == "float32":
            what = "output" if after else "input"
            _describe(graph, number, getattr(quant, what), *data[what])
    weight, kernel = conv.inputs[1], to_litert(params.kernel, conv.kind)
    scales = np.broadcast_to(np.asarray(quant.weight_scale, np.float32), np.shape(quant.weight_scale))
    _describe(graph, weight, quant.weight, scales, quant.weight_zero, _CHANNELS.get(conv.kind, 0))
    graph.set(weight, kernel)
    if len(conv.inputs) > (3 if conv.kind == "TRANSPOSE_CONV" else 2):
        _describe(graph, conv.inputs[-1], "int32", np.float32(quant.input_scale) * scales, 0)
        graph.set(conv.inputs[-1], np.zeros(plan.spec.out_channels) if params.bias is None else params.bias)
    for own in graph.operators:
        code = graph.model.operatorCodes[own.own.opcodeIndex]
        code.version = max(code.version, _VERSIONS.get(own.kind, 1))
    name = ", ".join(own.kind for own in graph.operators if graph.dtype(own.outputs[0]) == quant.output or own is conv)
    return (QuantizedForm(name, graph.model, partial(run, graph, variant=variant)),)


def _require(kind: str, quant: QuantSpec, activation: bool) -> None:
    """Raise UnsupportedError for what LiteRT's integer kernels lack."""
    types = quant.input, quant.weight, quant.output
    if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
        raise UnsupportedError(f"LiteRT's {kind} has no integers")
    if types not in (("int8",) * 3, ("uint8",) * 3):
        raise UnsupportedError(f"LiteRT convolves int8 by int8, or uint8 by uint8, not {quant.input} by {quant.weight}")
    if types[0] == "int8" and not quant.symmetric:
        raise UnsupportedError("LiteRT's int8 weights are symmetric: their zero point is 0")
    if activation and kind == "TRANSPOSE_CONV":
        raise UnsupportedError("LiteRT's TRANSPOSE_CONV has no activation")


def _describe(graph: Graph, number: int, dtype: str, scale: Any, zero: Any, axis: int = 0) -> None:
    """Set type, scales and zero points of a tensor."""
    own = graph.graph.tensors[number]
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape)
    own.type = getattr(tfl.TensorType, dtype.upper())
    own.quantization = tfl.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=axis)

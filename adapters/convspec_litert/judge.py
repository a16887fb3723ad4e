"""Judge one convolution by what it read and wrote in one run: of floats, of integers, or of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convspec import reference
from convspec.contract import ConvParams, ConvSpec, LayerRequest
from convspec.contract.tracing import Array
from convspec.diagnosis import judge_integers
from convspec.errors import UnsupportedError
from convspec.models import rounding
from convspec.reference import Verdict
from convspec.reference.quantized import QuantizedLayer, along_outputs
from convspec.spec import ACTIVATIONS as ENDS
from convspec.spec import QuantSpec
from convspec_litert import ADAPTER
from convspec_litert.flatbuffer import Graph, Operator
from convspec_litert.quantized import ACTIVATIONS
from convspec_litert.read import bias_input, data_input, spec_of
from convspec_litert.weights import from_litert

Values = Mapping[int, Array]
_STEPS = 255.0  # of the grid that a float input is brought to
_ROUNDINGS = 8  # of scales, the sum's scaling and the bias
_TIE = 2.0**-20  # relative distance from a tie within which a number may be rounded either way


def spec_at(conv: Operator, values: Values) -> ConvSpec:
    """Return the layer that an operator is, given the tensors of a run."""
    kernel = from_litert(values[conv.inputs[1]], conv.kind)
    shapes = values[data_input(conv)].shape, values[conv.outputs[0]].shape
    return spec_of(conv, kernel.shape, *shapes, bias=bias_input(conv) is not None)


def ends_of(conv: Operator) -> tuple[float, float]:
    """Return the ends of an operator's own activation. Raises UnsupportedError for one that is no clamp."""
    activation = int(conv.options.fusedActivationFunction)
    if activation >= len(ACTIVATIONS):
        raise UnsupportedError(f"convspec does not judge a convolution with activation {activation}")
    return ENDS[ACTIVATIONS[activation]]


def judge_conv(graph: Graph, conv: Operator, values: Values, level: str) -> Verdict:
    """Return the verdict on an operator's output. Raises UnsupportedError for formats that are not judged."""
    x, y = (np.moveaxis(values[n], -1, 1) for n in (data_input(conv), conv.outputs[0]))
    weight: Array = from_litert(values[conv.inputs[1]], conv.kind)
    number = bias_input(conv)
    bias = None if number is None else values[number]
    spec, ends = spec_at(conv, values), ends_of(conv)
    kinds = x.dtype.kind, weight.dtype.kind, y.dtype.kind
    if kinds == ("f", "f", "f"):
        params = ConvParams(weight, bias)
        expected = np.clip(reference.conv(spec, params, x), *ends)  # moves no two numbers further apart
        arithmetic = ADAPTER.with_variant(level).compute_precision(spec, LayerRequest("NHWC", str(y.dtype)))
        return reference.judge(y, expected, reference.magnitude(spec, params, x), dtype=str(y.dtype), data="captured",
                               products=reference.products(spec), arithmetic=arithmetic)  # fmt: skip
    grid = grid_of(graph, conv.inputs[1])
    scales, zeros = np.atleast_1d(grid.scale, grid.zero)
    if kinds[0] == kinds[2] == "f" and not zeros.any():
        return _judge_hybrid(spec, x, weight.astype(float) * along_outputs(scales, spec), bias, y, ends)
    if kinds[0] in "iu" and kinds[2] in "iu":
        own, to = (grid_of(graph, n) for n in (data_input(conv), conv.outputs[0]))
        quant = QuantSpec(
            x.dtype.name, weight.dtype.name, y.dtype.name, float(own.scale), _each(scales), float(to.scale),
            int(own.zero), _each(zeros.astype(int)), int(to.zero), "int32" if bias is None else bias.dtype.name,
            ACTIVATIONS[int(conv.options.fusedActivationFunction)],
        )  # fmt: skip
        return judge_integers(QuantizedLayer(spec, quant.check(spec), x, weight, bias), y)
    raise UnsupportedError(f"convspec does not judge a convolution of {x.dtype} by {weight.dtype} to {y.dtype}")


def grid_of(graph: Graph, tensor: int) -> rounding.Grid:
    """Return scales and zero points of a tensor. Raises UnsupportedError for one without, and for 4-bit integers."""
    own, dtype = graph.graph.tensors[tensor].quantization, graph.dtype(tensor)
    if own is None or own.scale is None or not len(own.scale) or dtype not in np.sctypeDict:
        raise UnsupportedError(f"tensor {graph.name(tensor)} has {dtype} numbers without a scale")
    scale, zero = (np.asarray(a).reshape(() if len(a) == 1 else -1) for a in (own.scale, own.zeroPoint))
    return rounding.Grid.of(scale, zero, np.dtype(dtype))


def _each(numbers: Array) -> Any:
    """Return one number, or a tuple of several."""
    return numbers.item() if numbers.size == 1 else tuple(numbers.tolist())


def _judge_hybrid(
    spec: ConvSpec, x: Array, kernel: Array, bias: Array | None, y: Array, ends: tuple[float, float]
) -> Verdict:
    """Judge a convolution of floats by integers: each sample of x is brought to 256 steps between its ends and 0.

    The product of integers is exact. A number of x so near to the middle of two steps that its rounding is open may
    move the output by its step times the weight.
    """
    axes = tuple(range(1, x.ndim))
    low, high = (f(x, axis=axes, keepdims=True, initial=0.0).astype(np.float64) for f in (np.min, np.max))
    step = (high - low) / _STEPS
    safe = np.where(step > 0, step, 1.0)
    zero = np.clip(np.rint(-128 - low / safe), -128, 127)
    place = x.astype(np.float64) / safe + zero
    levels = (np.clip(np.rint(place), -128, 127) - zero) * step
    open_steps = step * (np.abs(place - np.floor(place) - 0.5) <= _TIE * (np.abs(place) + 1))
    params = ConvParams(kernel, None if bias is None else bias.astype(np.float64))
    expected = np.clip(reference.conv(spec, params, levels), *ends)
    bound = reference.gamma(_ROUNDINGS, 2.0**-24) * reference.magnitude(spec, params, levels)
    bound = bound + reference.magnitude(replace(spec, bias=False), ConvParams(kernel), open_steps)
    ratio = reference.steps.error_ratio(y, expected, bound)
    note = {"id": "rounding", "level": "info", "title": "each sample is brought to 256 steps between its ends and 0"}
    evidence: dict[str, Any] = {"worst_q": float(np.max(ratio, initial=0.0)), "bound": 1.0, "notes": [note]}
    if not (ratio > 1).any():
        return Verdict("agree", evidence=evidence)
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return reference.steps.wrong_elements(y, expected, ratio > 1, at, f"{float(ratio[at]):.3g} times the bound")

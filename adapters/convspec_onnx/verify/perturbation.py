"""Measure how far a graph's results move when its numbers move by what their computation rounds."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from convspec.reference import Spread, move_numbers, units_for
from convspec_onnx.graph import attributes_of
from convspec_onnx.loading import Array, Arrays, DetachedModel, to_array

RUNS = 3
_PRODUCTS = ("Conv", "ConvTranspose", "FusedConv", "NhwcConv", "MatMul", "Gemm", "FusedMatMul", "FusedGemm")
_ARITHMETIC = frozenset((
    *_PRODUCTS, "Mul", "Add", "Sub", "Div", "PRelu", "BatchNormalization", "InstanceNormalization",
    "GroupNormalization", "LayerNormalization", "RMSNormalization", "QuantizeLinear", "DequantizeLinear",
    "QLinearConv", "QLinearMatMul",
))  # whose constants may be moved: those of others are sizes and limits  # fmt: skip
_FLIPS = 2.0**-13  # by which a quantised number is moved: about 1 of 100 then rounds the other way


def measure(model: DetachedModel, feeds: Arrays, outputs: Sequence[str], base: Arrays,
            run: Callable[[DetachedModel, Arrays], Arrays]) -> Spread:  # fmt: skip
    """Return how far the outputs ``base`` of a graph move in some runs with moved constants and inputs.

    In a graph with quantised tensors some further runs move these by a share of a step: rounding in another order
    moves a number over the middle between two steps now and then, and a few runs would not show it.
    """
    spread = Spread.of([base[name] for name in outputs])
    for moved, inputs in _moved(model, feeds):
        spread.add([run(moved, inputs)[name] for name in outputs])
    return spread


def _moved(model: DetachedModel, feeds: Arrays) -> Iterator[tuple[DetachedModel, Arrays]]:
    units = _units(model.graph)
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        inputs = {name: move_numbers(x, rng, 0.5) for name, x in feeds.items()}
        yield _with_constants(model, functools.partial(_move_constant, units, rng)), inputs
    scales = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for factor in (1 + _FLIPS, 1 - _FLIPS) if scales else ():
        yield _with_scales(model, factor), feeds


def _units(graph: onnx.GraphProto) -> dict[str, tuple[float, bool]]:
    """Return the constants that may be moved: by how many units in the last place, and whether rows are columns."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    constants = {node.output[0] for node in graph.node if node.op_type == "Constant"}
    units: dict[str, tuple[float, bool]] = {}
    kept = {name for node in graph.node if node.op_type not in _ARITHMETIC for name in node.input}
    for node in graph.node:
        for number, name in enumerate(node.input):
            if node.op_type in _ARITHMETIC and name not in kept and (name in shapes or name in constants):
                shape = shapes.get(name, ())
                columns = number == 1 and (node.op_type in ("MatMul", "FusedMatMul", "ConvTranspose") or (
                    node.op_type in ("Gemm", "FusedGemm") and not attributes_of(node).get("transB")))  # fmt: skip
                terms = 1
                if number == 1 and node.op_type in _PRODUCTS and len(shape) > 1:
                    terms = math.prod(shape) // max(shape[1 if columns else 0], 1)
                units[name] = units_for(terms), columns
    return units


def _move_constant(known: Mapping[str, tuple[float, bool]], rng: np.random.Generator, name: str, array: Array) -> Array:
    """Return a constant moved, if it may be; ``known``: as of :func:`_units`."""
    if name not in known or array.dtype.name not in ("float16", "float32", "float64"):
        return array
    units, columns = known[name]
    units = 1.0 if array.dtype == np.float16 else units
    if columns and array.ndim > 1:
        return np.ascontiguousarray(move_numbers(array.swapaxes(0, 1), rng, units).swapaxes(0, 1))
    return move_numbers(array, rng, units)


def _with_constants(model: DetachedModel, change: Callable[[str, Array], Array]) -> DetachedModel:
    """Return a copy of the model with changed constants; what is not changed is shared where it can be."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model.proto)
    weights = {name: change(name, array) for name, array in model.weights.items()}
    for tensor in copy.graph.initializer:
        if tensor.name not in weights:
            _replace(tensor, change)
    for node in copy.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    attribute.t.name = node.output[0]
                    _replace(attribute.t, change)
    return DetachedModel(copy, weights)


def _replace(tensor: onnx.TensorProto, change: Callable[[str, Array], Array]) -> None:
    array = to_array(tensor)
    if (changed := change(tensor.name, array)) is not array:
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def _with_scales(model: DetachedModel, factor: float) -> DetachedModel:
    """Return a copy in which every quantisation has its scale multiplied; dequantisation keeps its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model.proto)
    known = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "QuantizeLinear" and (tensor := known.get(node.input[1])) is not None:
            name = f"{tensor.name}/moved"
            if name not in known:
                scale = to_array(tensor)
                known[name] = numpy_helper.from_array((scale * scale.dtype.type(factor)).astype(scale.dtype), name)
                copy.graph.initializer.append(known[name])
            node.input[1] = name
    return DetachedModel(copy, model.weights)

"""Read quantised convolutions: their dequantised weights, inputs and outputs, and the steps of each.

A QLinearConv, a ConvInteger after DynamicQuantizeLinear, or a Conv between DequantizeLinear and QuantizeLinear is read
as its float layer and the grids that its numbers are rounded to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from convspec.models import rounding
from convspec.spec import ConvParams
from convspec_onnx.graph import Conv, Scope, along_axis, as_float, attributes_of
from convspec_onnx.loading import Array

_SAME_VALUES = ("MaxPool", "Relu", "Clip", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Flatten",
                "QuantizeLinear", "DequantizeLinear")  # fmt: skip
_OUTPUT_SCALE = {  # the input of each operator that is the scale of its output; the zero point follows
    "QLinearConcat": 0, "QLinearSigmoid": 3, "QLinearLeakyRelu": 3, "QLinearAveragePool": 3,
    "QLinearGlobalAveragePool": 3, "QLinearConv": 6, "QLinearAdd": 6, "QLinearMul": 6, "QLinearMatMul": 6, "QGemm": 7,
}  # fmt: skip
_FAR = 12  # nodes


def read_quantized(conv: Conv) -> rounding.Quantized | None:
    """Return a node as a quantised convolution; None for one in float, and for scales that are computed."""
    op = conv.node.op_type
    if conv.spec is None or conv.params is None or conv.rows:
        return None
    if op == "QLinearConv":
        return _of_linear(conv)
    return _of_integers(conv) if op == "ConvInteger" else _of_float(conv)


def dequantize(node: rounding.Quantized, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return a node's input and output in float; ``scale`` and ``zero`` are those of a dynamic input."""
    x, y = as_float(arrays["x"]), as_float(arrays["y"])
    if not node.integers:
        return x, y
    if node.x and node.y:
        return node.x.dequantize(arrays["x"]), node.y.dequantize(arrays["y"])
    scale = float(arrays["scale"])
    x = (x.astype(np.float64) - float(arrays["zero"])) * scale
    ones = (1,) * (y.ndim - 2)
    return x, np.asarray(y * (scale * node.weight.scale.reshape(1, -1, *ones)))


def _of_linear(conv: Conv) -> rounding.Quantized | None:
    names = [*conv.node.input, *[""] * 9]
    values = [conv.scope.constant(name) if name else None for name in names[:9]]
    x_scale, x_zero, stored, w_scale, w_zero, y_scale, y_zero, bias = values[1:]
    if x_scale is None or stored is None or w_scale is None or y_scale is None:
        return None
    weight = _grid(w_scale, w_zero, stored.dtype, stored.ndim)
    x_type, y_type = (np.dtype(np.uint8) if z is None else z.dtype for z in (x_zero, y_zero))
    step = np.broadcast_to(x_scale.astype(np.float64).reshape(-1)[0] * w_scale.reshape(-1), (len(stored),))
    params = ConvParams(weight.dequantize(stored), None if bias is None else bias * step)
    x, y = _grid(x_scale, x_zero, x_type), _grid(y_scale, y_zero, y_type)
    return rounding.Quantized(stored, weight, params, None if bias is None else (bias, step), x, y, integers=True)


def _of_integers(conv: Conv) -> rounding.Quantized | None:
    """Read ConvInteger, Cast, Mul by the product of both scales, of which the weight's is a constant."""
    stored, last = conv.scope.constant(conv.weight), rescaled_output(conv)
    product = conv.scope.producer(last)
    if stored is None or product is None or product.op_type != "Mul":
        return None
    scale = None
    for name in product.input:
        maker = conv.scope.producer(name)
        if maker is not None and maker.op_type == "Mul":
            scale = next((v for n in maker.input if (v := conv.scope.constant(n)) is not None), None)
    if scale is None or conv.dynamic is None:
        return None
    zero = conv.scope.constant(conv.node.input[3]) if len(conv.node.input) > 3 else None
    weight = _grid(scale, zero, stored.dtype, stored.ndim)
    return rounding.Quantized(
        stored, weight, ConvParams(weight.dequantize(stored), None), None, None, None, integers=True
    )


def _grid(scale: Array, zero: Array | None, dtype: np.dtype[Any], ndim: int = 0, axis: int = 0) -> rounding.Grid:
    """Return the grid of a tensor; several numbers are along ``axis``."""
    origin = None if zero is None else along_axis(zero, axis, ndim)
    return rounding.Grid.of(along_axis(scale, axis, ndim), origin, dtype)


def rescaled_output(conv: Conv) -> str:
    """Return the tensor that holds a ConvInteger's output in float: after Cast and Mul; its own for other nodes."""
    name = str(conv.node.output[0])
    if conv.node.op_type == "ConvInteger":
        for op in ("Cast", "Mul"):
            reader = conv.scope.only_reader(name)
            if reader is None or reader.op_type != op:
                break
            name = str(reader.output[0])
    return name


def has_norm_later(conv: Conv) -> bool:
    """Return whether a batch normalisation reads the node's output after it was quantised."""
    reader = conv.scope.only_reader(str(conv.node.output[0]))
    while reader is not None and reader.op_type in ("QuantizeLinear", "DequantizeLinear"):
        reader = conv.scope.only_reader(str(reader.output[0]))
    return reader is not None and reader.op_type == "BatchNormalization"


def _of_float(conv: Conv) -> rounding.Quantized | None:
    """Read a Conv or ConvTranspose whose weight is dequantised."""
    node = conv.scope.producer(conv.weight)
    grid = grid_of(conv.scope, node, "DequantizeLinear")
    stored = None if node is None or grid is None else conv.scope.constant(node.input[0])
    if grid is None or stored is None or conv.params is None:
        return None
    bias, maker = None, conv.scope.producer(conv.bias) if conv.bias else None
    if maker is not None and (own := grid_of(conv.scope, maker, "DequantizeLinear")) is not None:
        numbers = conv.scope.constant(maker.input[0])
        bias = None if numbers is None else (numbers, np.broadcast_to(own.scale.reshape(-1), numbers.shape))
    x = grid_of(conv.scope, conv.scope.producer(conv.data), "DequantizeLinear")
    y, name = None, str(conv.node.output[0])
    for _ in range(_FAR):
        reader = conv.scope.only_reader(name)
        if reader is None or reader.op_type not in ("Relu", "Clip", "QuantizeLinear"):
            break
        if (y := grid_of(conv.scope, reader, "QuantizeLinear")) is not None:
            break
        name = str(reader.output[0])
    return rounding.Quantized(stored, grid, conv.params, bias, x, y, integers=False)


def grid_of(scope: Scope, node: onnx.NodeProto | None, op: str) -> rounding.Grid | None:
    """Return the grid of a node that quantises or dequantises; None for another node, blocks and computed scales."""
    if node is None or node.op_type != op or attributes_of(node).get("block_size"):
        return None
    scale = scope.constant(node.input[1])
    zero = scope.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    stored = scope.constant(node.input[0]) if op == "DequantizeLinear" else None
    if scale is None or scale.dtype.kind != "f":
        return None
    dtype = np.dtype(np.uint8) if zero is None and stored is None else (zero if stored is None else stored).dtype  # type: ignore[union-attr]
    if dtype.kind not in "iu":
        return None
    return _grid(scale, zero, dtype, 0 if stored is None else stored.ndim, attributes_of(node).get("axis", 1))


# -- between the convolutions ---


def mismatch(scope: Scope, conv: Conv, grid: rounding.Grid) -> tuple[str, rounding.Grid] | None:
    """Return how the grid of the node that quantised this node's input differs from the node's own, and that grid."""
    for node in _upstream(scope, conv.data):
        other = grid_of(scope, node, "QuantizeLinear")
        if (place := _OUTPUT_SCALE.get(node.op_type)) is not None:
            scale, zero = (scope.constant(name) for name in node.input[place : place + 2])
            other = None if scale is None or zero is None else _grid(scale, zero, zero.dtype)
        if other is not None and other.scale.size == other.zero.size == 1:
            pairs = [
                ("scale", float(other.scale), float(grid.scale)),
                ("zero point", float(other.zero), float(grid.zero)),
            ]
            words = [f"{a:.6g} as its {what}, this node reads it with {b:.6g}" for what, a, b in pairs if a != b]
            return (f"{node.name or node.output[0]!r} quantised it with {words[0]}", other) if words else None
    return None


def _upstream(scope: Scope, name: str) -> Iterator[onnx.NodeProto]:
    """Yield the nodes before a tensor, as long as each only moves or selects numbers; the first other node ends it."""
    for _ in range(_FAR):
        node = scope.producer(name)
        if node is None:
            return
        yield node
        if node.op_type not in _SAME_VALUES:
            return
        name = str(node.input[0])


def producer_of(scope: Scope, name: str, convs: Sequence[Conv]) -> Conv | None:
    """Return the convolution whose output, quantised, a tensor is."""
    known = {id(conv.node): conv for conv in convs}
    return next((known[id(node)] for node in _upstream(scope, name) if id(node) in known), None)

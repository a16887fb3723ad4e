"""ConvInteger and QLinearConv as layers of integers, for the reference to judge."""

from __future__ import annotations

from typing import Any

import numpy as np

from convspec.diagnosis import judge_integers
from convspec.errors import SpecError
from convspec.reference import Verdict
from convspec.reference.quantized import QuantizedLayer
from convspec.spec import QuantSpec
from convspec_onnx.graph import Conv, along_axis, resolve_layer
from convspec_onnx.loading import Array

QUANTIZED = ("ConvInteger", "QLinearConv")


def judge_quantized(conv: Conv, x: Array, weight: Array, inputs: list[Array | None], y: Array) -> Verdict:
    """Judge ConvInteger or QLinearConv by what it read and wrote, in canonical order."""
    inputs = [*inputs, *[None] * (9 - len(inputs))]
    x_scale, x_zero, w_scale, w_zero, y_scale, y_zero, bias = (inputs[i] for i in (1, 2, 4, 5, 6, 7, 8))
    if conv.node.op_type == "ConvInteger":
        x_zero, w_zero, bias, y_zero = inputs[2], inputs[3], None, None
        x_scale = w_scale = y_scale = np.ones(1)
    if x_scale is None or w_scale is None or y_scale is None:
        raise SpecError(["the node must have its scales"])
    quant = QuantSpec(
        x.dtype.name, weight.dtype.name, y.dtype.name, _number(x_scale), _numbers(w_scale), _number(y_scale),
        int(_number(x_zero)), _numbers(w_zero), int(_number(y_zero)),
    )  # fmt: skip
    wide = weight.astype(np.float64)
    kernel = wide if w_zero is None else wide - along_axis(w_zero.astype(np.float64), 0, weight.ndim)
    spec, _ = resolve_layer(conv, kernel, bias, x.shape)
    return judge_integers(QuantizedLayer(spec, quant.check(spec), x, weight, bias), y)


def _number(own: Array | None) -> float:
    return 0.0 if own is None else float(own.reshape(-1)[0])


def _numbers(own: Array | None) -> Any:
    """Return one number, or a tuple of several; 0 for none."""
    return 0 if own is None else own.item() if own.size == 1 else tuple(own.reshape(-1).tolist())

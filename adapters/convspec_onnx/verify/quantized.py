"""ConvInteger and QLinearConv as layers of integers, for the reference to judge."""

from __future__ import annotations

import numpy as np

from convspec import reference
from convspec.errors import SpecError
from convspec.reference import Verdict
from convspec_onnx.graph import Conv, along_axis, resolve_layer
from convspec_onnx.loading import Array

QUANTIZED = ("ConvInteger", "QLinearConv")


def judge_quantized(conv: Conv, x: Array, weight: Array, inputs: list[Array | None], y: Array) -> Verdict:
    """Judge ConvInteger or QLinearConv by what it read and wrote, in canonical order."""
    inputs = [*inputs, *[None] * (9 - len(inputs))]
    info, exact = np.iinfo(y.dtype), conv.node.op_type == "ConvInteger"
    x_scale, x_zero, w_scale, w_zero, y_scale, y_zero, bias = (inputs[i] for i in (1, 2, 4, 5, 6, 7, 8))
    if exact:
        x_zero, w_zero, bias, y_zero, scale = inputs[2], inputs[3], None, None, None
    elif x_scale is None or w_scale is None or y_scale is None:
        raise SpecError(["the node must have its scales"])
    else:
        scale = x_scale.astype(float) * w_scale.astype(float).reshape(-1) / y_scale.astype(float)
        scale = scale.reshape(-1)
    zero = 0.0 if y_zero is None else float(y_zero.reshape(-1)[0])
    wide = weight.astype(np.float64)
    kernel = wide if w_zero is None else wide - along_axis(w_zero.astype(np.float64), 0, weight.ndim)
    spec, _ = resolve_layer(conv, kernel, bias, x.shape)
    ends = float(info.min), float(info.max)
    layer = reference.quantized.QuantizedLayer(spec, x, weight, x_zero, w_zero, bias, scale, zero, *ends)
    return reference.quantized.judge_quantized(layer, y)

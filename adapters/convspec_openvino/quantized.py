"""Quantised layers: the model of a float layer after dequantised integers, and before a FakeQuantize."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from convspec.contract import Array, ConvParams, ConvSpec, Plan, QuantizedForm, QuantSpec
from convspec.errors import UnsupportedError
from convspec.spec import ACTIVATIONS, INTEGERS
from convspec_openvino.importing import ops, ov
from convspec_openvino.layer import compiled
from convspec_openvino.weights import to_openvino

_LEVELS = 256


def quantized(plan: Plan, quant: QuantSpec, params: ConvParams) -> tuple[QuantizedForm, ...]:
    """Return the layer as OpenVINO's tools write it; its transformations choose kernels of integers or of floats."""
    if quant.output not in ("int8", "uint8"):
        raise UnsupportedError("a FakeQuantize of 256 levels has outputs of 8 bits")
    model = plan.execute()
    found = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    x, spec = found["x"], plan.spec
    readers = list(x.output(0).get_target_inputs())
    x.set_element_type(ov.Type(np.dtype(quant.input)))
    real = _dequantize(x, *(np.array(n, np.float32) for n in (quant.input_zero, quant.input_scale)))
    for reader in readers:
        reader.replace_source_output(real.output(0))
    numbers = [_along(numbers, spec) for numbers in (quant.weight_zero, quant.weight_scale)]
    weight = ops.constant(np.ascontiguousarray(to_openvino(params.kernel, spec.groups)))
    found["weight"].output(0).replace(_dequantize(weight, *numbers).output(0))
    if params.bias is not None:
        scale = np.float32(quant.input_scale) * np.atleast_1d(quant.weight_scale).astype(np.float32)
        bias = (params.bias * scale).astype(np.float32).reshape(1, -1, *(1,) * spec.ndim)
        found["bias"].output(0).replace(ops.constant(bias).output(0))
    y = model.output(0).get_node().input_value(0)
    if quant.activation == "relu":
        y = ops.relu(y)
    elif quant.activation != "none":
        y = ops.clamp(y, *ACTIVATIONS[quant.activation])
    low, high = INTEGERS[quant.output]
    ends = [np.float32((end - quant.output_zero) * quant.output_scale) for end in (low, high)]
    levels = ops.fake_quantize(
        y, *map(ops.constant, ends), *(ops.constant(np.float32(n)) for n in (low, high)), _LEVELS
    )
    layer = ov.Model([ops.convert(levels, "u8" if quant.output == "uint8" else "i8")], [x], "layer")
    return (QuantizedForm("FakeQuantize", layer, partial(_run, layer), integer_sums=False),)


def _dequantize(integers: Any, zero: Array, scale: Array) -> Any:
    real = ops.subtract(ops.convert(integers, "f32"), ops.constant(zero))
    return ops.multiply(real, ops.constant(scale))


def _along(numbers: Any, spec: ConvSpec) -> Array:
    """Return one number, or one for each output channel, to be broadcast over the kernel in OpenVINO's order."""
    each = np.atleast_1d(numbers).astype(np.float32)
    if each.size == 1:
        return each.reshape(())
    ones = (1,) * spec.ndim
    if spec.transposed:
        return each.reshape(spec.groups, 1, -1, *ones) if spec.groups > 1 else each.reshape(1, -1, *ones)
    return each.reshape(spec.groups, -1, 1, *ones) if spec.groups > 1 else each.reshape(-1, 1, *ones)


def _run(layer: Any, x: Array) -> Array:
    return np.array(compiled(layer)(np.ascontiguousarray(x))[0])

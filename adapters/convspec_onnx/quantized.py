"""Quantised layers: the model of a float layer with a QLinearConv, or between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convspec.contract import Array, ConvParams, Plan, QuantizedForm, QuantSpec
from convspec.errors import UnsupportedError

_ACTIVATIONS = {"none": (), "relu": (0.0,), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}


def quantized(plan: Plan, quant: QuantSpec, params: ConvParams, variant: str = "") -> tuple[QuantizedForm, ...]:
    """Return the layer between DequantizeLinear and QuantizeLinear, and as QLinearConv where that has it.

    Without a variant it is run by onnx's evaluator.
    """
    runtime: Any = import_module(f"convspec_onnx.{'layer' if variant else 'evaluator'}")
    if quant.output == "int32":
        raise UnsupportedError("a QLinearConv scales its sums: an output of 32 bits is a ConvInteger")
    models = {"QDQ": _Model(plan, quant, params).between()}
    if not plan.spec.transposed and quant.activation == "none":
        models["QLinearConv"] = _Model(plan, quant, params).linear()
    options = {"variant": variant} if variant else {}
    return tuple(QuantizedForm(name, model, partial(runtime.run, model, **options), name == "QLinearConv")
                 for name, model in models.items())  # fmt: skip


class _Model:
    """The model of a float layer, as integers."""

    def __init__(self, plan: Plan, quant: QuantSpec, params: ConvParams) -> None:
        self.spec, self.quant, self.params, self.model = plan.spec, quant, params, plan.execute()
        self.graph: Any = self.model.graph
        for entry, dtype in ((self.graph.input[0], quant.input), (self.graph.output[0], quant.output)):
            entry.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        own = [tensor for tensor in self.graph.initializer if tensor.name not in ("weight", "bias")]
        del self.graph.initializer[:]
        self.graph.initializer.extend(own)
        for name, what in (("x", "input"), ("w", "weight"), ("y", "output")):
            self.add(f"{name}_scale", np.asarray(getattr(quant, f"{what}_scale"), np.float32))
            self.add(f"{name}_zero", np.broadcast_to(np.asarray(getattr(quant, f"{what}_zero"), getattr(quant, what)),
                                                     np.shape(getattr(quant, f"{what}_scale"))))  # fmt: skip

    def add(self, name: str, array: Array) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def linear(self) -> onnx.ModelProto:
        """Return the model with a QLinearConv in the place of its Conv; pads hold the zero point of x."""
        inputs = ["x_scale", "x_zero", self.add("weight", self.params.kernel), "w_scale", "w_zero", "y_scale", "y_zero"]
        if self.params.bias is not None:
            inputs.append(self.add("bias", self.params.bias))
        for node in self.graph.node:
            if node.op_type == "Conv":
                node.op_type, data = "QLinearConv", node.input[0]
                del node.input[:]
                node.input.extend([data, *inputs])
            elif node.op_type == "Pad":
                node.input[2] = "x_zero"
        return self.model

    def between(self) -> onnx.ModelProto:
        """Return the float model after a DequantizeLinear of each array, and before a QuantizeLinear."""
        spec, weight_scale = self.spec, np.atleast_1d(self.quant.weight_scale).astype(np.float32)
        if weight_scale.size > 1 and spec.transposed and spec.groups > 1:
            raise UnsupportedError("the second axis of a grouped ConvTranspose's weight has the channels of one group")
        end = "real" if self.quant.activation != "none" else "real_y"
        for node in self.graph.node:
            for names, old, new in ((node.input, "x", "real_x"), (node.output, "y", end)):
                for place in [n for n, name in enumerate(names) if name == old]:
                    names[place] = new
        names = [self.add("w", self.params.kernel), "w_scale", "w_zero"]
        before = [helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["real_x"]),
                  helper.make_node("DequantizeLinear", names, ["weight"], axis=int(spec.transposed))]  # fmt: skip
        if self.params.bias is not None:
            scale = np.float32(self.quant.input_scale) * weight_scale
            scale = np.broadcast_to(scale, self.params.bias.shape)
            names = [self.add("b", self.params.bias), self.add("b_scale", scale)]
            before.append(helper.make_node("DequantizeLinear", names, ["bias"], axis=0))
        after = []
        if ends := _ACTIVATIONS[self.quant.activation]:
            if len(ends) == 1:
                after.append(helper.make_node("Relu", ["real"], ["real_y"]))
            else:
                names = [
                    self.add(name, np.array(value, np.float32))
                    for name, value in zip(("low", "high"), ends, strict=True)
                ]
                after.append(helper.make_node("Clip", ["real", *names], ["real_y"]))
        after.append(helper.make_node("QuantizeLinear", ["real_y", "y_scale", "y_zero"], ["y"]))
        nodes = [*before, *self.graph.node, *after]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        return self.model

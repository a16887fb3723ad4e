"""OpenVINO models → ConvSpec and ConvParams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convspec.contract import ConvParams, ConvSpec, FoundConv, Reading, no_convolutions, refuse_shape
from convspec.contract.tracing import Answer, Array, Run, layer_inference
from convspec.errors import UnsupportedError
from convspec_openvino.importing import ops, ov
from convspec_openvino.layer import compiled
from convspec_openvino.weights import from_openvino


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a model is or contains.

    Raises:
        UnsupportedError: where the model is more than that.
    """
    if not isinstance(layer, ov.Model):
        raise UnsupportedError(f"{type(layer).__name__} is not an ov.Model")
    found = convolutions(layer)
    if len(found) != 1:
        raise UnsupportedError(f"the model has {len(found)} convolutions, but must have one")
    [conv] = found
    kinds = [node.get_type_name() for node in layer.get_ordered_ops()]
    others = {kind for kind in kinds if kind not in {"Parameter", "Constant", "Result", conv.node.get_type_name()}}
    if others <= ({"Add"} if conv.add is not None else set()):
        return conv.reading()
    return layer_inference.read(_runner(layer), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:  # noqa: ARG001 – the contract's
    """Every convolution of a model, each by itself; paths are the nodes' names.

    Raises:
        UnsupportedError: where there is none, listing the model's operations.
    """
    found = [FoundConv.of(conv.node.get_friendly_name(), conv.reading) for conv in convolutions(model)]
    if not found:
        raise no_convolutions("the model", (node.get_type_name() for node in model.get_ordered_ops()), "operations")
    return found


def _runner(model: Any) -> Run:
    """Return a function that runs the parts before and after the convolution, with ``answer`` in its place."""
    reading = convolutions(model)[0].reading()
    first, second = model.clone(), model.clone()
    before = ov.Model([convolutions(first)[0].node.input_value(0)], first.get_parameters(), "before")
    conv = convolutions(second)[0]
    between = ops.parameter([-1] * len(conv.output.get_partial_shape()), np.float32)
    conv.output.replace(between.output(0))
    after = ov.Model(second.get_results(), [between], "after")

    def run(x: Array, answer: Answer) -> Array:
        y = answer(reading, _ran(before, x))
        return _ran(after, np.ascontiguousarray(y, np.float32))

    return run


def _ran(model: Any, x: Array) -> Array:
    with refuse_shape(x.shape):
        return np.array(compiled(model)(np.ascontiguousarray(x, np.float32))[0])


# -- the convolutions of a model: each node with its weights, its bias and its spec ------------------------------------

KINDS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
_WORDS = {"same_upper": "same", "same_lower": "same_lower", "valid": 0}


@dataclass(frozen=True, slots=True)
class Conv:
    """A node, and the addition of a constant for every channel that follows it."""

    node: Any
    add: Any | None

    @property
    def output(self) -> Any:
        """What the convolution with its bias gives."""
        return (self.add or self.node).output(0)

    def reading(self) -> Reading:
        """The spec and the weights.

        Raises:
            UnsupportedError: where they are not constant, or exceed a spec.
        """
        kind, about = self.node.get_type_name(), self.node.get_attributes()
        grouped, transposed = kind.startswith("Group"), kind.endswith("BackpropData")
        native = _constant(self.node.input_value(1), "the weights")
        if transposed and self.node.get_input_size() > 2:
            raise UnsupportedError("its output's shape is an input: the padding follows from the size")
        kernel = from_openvino(native, grouped=grouped)
        groups = native.shape[0] if grouped else 1
        outputs, inputs = kernel.shape[0], kernel.shape[1] * groups
        if transposed:
            outputs, inputs = inputs, outputs
        bias = None if self.add is None else _bias(self.add, outputs)
        spec = ConvSpec(
            inputs, outputs, kernel.shape[2:], stride=tuple(about["strides"]), dilation=tuple(about["dilations"]),
            padding=_padding(about), groups=groups, bias=bias is not None, transposed=transposed,
            output_padding=tuple(about.get("output_padding") or (0,) * (kernel.ndim - 2)),
        )  # fmt: skip
        return Reading(spec, ConvParams(np.ascontiguousarray(kernel), bias).check(spec), "NCHW")


def convolutions(model: Any) -> list[Conv]:
    """All of a model's, in the order in which they are computed."""
    return [Conv(node, _addition(node)) for node in model.get_ordered_ops() if node.get_type_name() in KINDS]


def _addition(node: Any) -> Any | None:
    """Return the Add after a convolution whose other operand is one constant per channel."""
    readers = [target.get_node() for target in node.output(0).get_target_inputs()]
    if len(readers) != 1 or readers[0].get_type_name() != "Add":
        return None
    values = [v for v in readers[0].input_values() if v.get_node().get_type_name() == "Constant"]
    channels = node.output(0).get_partial_shape()[1]
    if len(values) != 1 or not channels.is_static:
        return None
    wanted = [1, channels.get_length()] + [1] * (len(node.get_attributes()["strides"]))
    return readers[0] if list(values[0].get_shape()) == wanted else None


def _bias(add: Any, channels: int) -> Any:
    value = next(v for v in add.input_values() if v.get_node().get_type_name() == "Constant")
    return np.array(value.get_node().get_data(dtype=np.float32)).reshape(channels)


def _constant(value: Any, what: str) -> Any:
    node = value.get_node()
    if node.get_type_name() != "Constant":
        raise UnsupportedError(f"{what} are not constant but the result of {node.get_type_name()}")
    if str(node.get_element_type()) != "<Type: 'float32'>":
        raise UnsupportedError(f"{what} are {node.get_element_type()}; read are float32")
    return np.array(node.get_data())


def _padding(about: dict[str, Any]) -> Any:
    word = str(about.get("auto_pad", "explicit")).lower()
    if word in _WORDS:
        return _WORDS[word]
    return tuple(zip(about["pads_begin"], about["pads_end"], strict=True))

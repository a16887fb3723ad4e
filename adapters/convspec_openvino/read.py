"""OpenVINO models → ConvSpec and ConvParams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convspec.contract import FoundConv, Reading, no_convolutions, refuse_shape
from convspec.contract.tracing import Answer, Array, Run, layer_inference
from convspec.errors import UnsupportedError
from convspec_openvino.graph import convolutions
from convspec_openvino.importing import ops, ov
from convspec_openvino.layer import compiled


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

"""Build and apply models on onnx's own evaluator, which is written in NumPy."""

# ruff: noqa: ARG001 – the contract of adapters fixes the arguments

from __future__ import annotations

import functools

import onnx
from onnx.reference import ReferenceEvaluator

from convspec.contract import Plan
from convspec.errors import PlacementError, UnsupportedError
from convspec.spec import Array, ConvParams, Gradients
from convspec_onnx import weights


def build(plan: Plan, params: ConvParams, device: str) -> onnx.ModelProto:
    """Return the plan's model with these weights."""
    return weights.load(plan.execute(), params)


def apply(layer: onnx.ModelProto, x: Array, layout: str, device: str) -> Array:
    """Return the model's output for ``x``.

    Raises:
        ShapeError: if ``x`` or the model is not in that layout.
        PlacementError: for a device other than the CPU, and for an output of another dtype.
    """
    if device != "cpu":
        raise PlacementError(f"onnx's evaluator has no device {device!r}: it runs on the CPU")
    feed = weights.feed(layer, x, layout)
    return weights.fetch(_evaluator(layer.SerializeToString()).run(None, feed)[0], layer)


def gradients(layer: onnx.ModelProto, x: Array, dy: Array, layout: str, device: str) -> Gradients:
    """Raise UnsupportedError: the evaluator runs forward only."""
    raise UnsupportedError("onnx's evaluator has no gradients: it runs forward only")


def run(model: onnx.ModelProto, x: Array) -> Array:
    """Return a model's output for ``x`` as it is."""
    y: Array = _evaluator(model.SerializeToString()).run(None, {"x": x})[0]
    return y


@functools.lru_cache(maxsize=4)
def _evaluator(model: bytes) -> ReferenceEvaluator:
    return ReferenceEvaluator(model)

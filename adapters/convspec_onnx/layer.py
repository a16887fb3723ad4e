"""Build and apply models on ONNX Runtime."""

# ruff: noqa: ARG001 – the contract of adapters fixes the arguments

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnxruntime as ort

from convspec.contract import Plan
from convspec.errors import PlacementError, UnsupportedError
from convspec.spec import Array, ConvParams, Gradients
from convspec_onnx import weights

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LEVELS = {"all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL, "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL}
_FATAL_ONLY = 4  # log severity: errors are raised, so logging them adds nothing
_switches: dict[str, Any] = {"threads": 0, "precision": "shipped"}


def devices() -> tuple[str, ...]:
    """Return the devices that the installed ONNX Runtime has a provider for."""
    available = ort.get_available_providers()
    return tuple(device for device, provider in _PROVIDERS.items() if provider in available)


def configure(dtype: str, device: str, precision: str, threads: int | None, variant: str) -> None:
    """Set the options of new sessions; ``threads``: within an operator, None for ONNX Runtime's choice."""
    _switches.update(threads=threads or 0, precision=precision)


def build(plan: Plan, params: ConvParams, device: str, variant: str) -> onnx.ModelProto:
    """Return the plan's model with these weights; a model is on no device before it runs."""
    return weights.load(plan.execute(), params)


def apply(layer: onnx.ModelProto, x: Array, layout: str, device: str, variant: str) -> Array:
    """Return the model's output for ``x``, computed on that device.

    Raises:
        ShapeError: if ``x`` or the model is not in that layout.
        PlacementError: if ONNX Runtime has no such device, fell back to another, or returns another dtype.
    """
    feed = weights.feed(layer, x, layout)
    # The bytes are the key: a ModelProto can be changed in place, and has no hash.
    session = _session(layer.SerializeToString(), device, variant, _switches["threads"], _switches["precision"])
    return weights.fetch(session.run(None, feed)[0], layer)


def gradients(layer: onnx.ModelProto, x: Array, dy: Array, layout: str, device: str, variant: str) -> Gradients:
    """Raise UnsupportedError: inference sessions run forward only."""
    raise UnsupportedError("ONNX Runtime has no gradients: an inference session runs forward only")


def run(model: onnx.ModelProto, x: Array, variant: str) -> Array:
    """Return a model's output for ``x`` as it is, on the CPU."""
    switches = _switches["threads"], _switches["precision"]
    y: Array = _session(model.SerializeToString(), "cpu", variant, *switches).run(None, {"x": x})[0]
    return y


@functools.lru_cache(maxsize=4)
def _session(model: bytes, device: str, variant: str, threads: int, precision: str) -> ort.InferenceSession:
    kind, _, index = device.partition(":")
    provider = _PROVIDERS.get(kind)
    if provider not in ort.get_available_providers():
        raise PlacementError(f"ONNX Runtime has no device {device!r} here, only {', '.join(devices())}")
    choices: dict[str, str] = {}
    if kind == "cuda":
        choices = {"device_id": index or "0", "use_tf32": "0" if precision == "strict" else "1"}
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[variant]
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL_ONLY
    session = ort.InferenceSession(model, options, providers=[(provider, choices)])
    # ONNX Runtime replaces a provider that cannot start by the CPU with only a warning.
    if session.get_providers()[0] != provider:
        raise PlacementError(f"ONNX Runtime was asked for {device!r} but runs on {session.get_providers()[0]}")
    return session

"""Models on ONNX Runtime."""

# ruff: noqa: ARG001 – which arguments there are is fixed by the contract of adapters

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from convspec.errors import PlacementError, UnsupportedError
from convspec_onnx import weights

if TYPE_CHECKING:
    import onnx

    from convspec.contract import Plan
    from convspec.spec import Array, ConvParams, Gradients

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_FATAL_ONLY = 4  # errors are raised; the same text on standard error adds nothing
_switches: dict[str, Any] = {"threads": 0, "precision": "shipped"}


def devices() -> tuple[str, ...]:
    """The devices that the installed ONNX Runtime has a provider for."""
    available = ort.get_available_providers()
    return tuple(device for device, provider in _PROVIDERS.items() if provider in available)


def configure(dtype: str, device: str, precision: str, threads: int | None, variant: str) -> None:
    """Settings of the sessions made from now on; ``threads`` works within an operator, None: ONNX Runtime's choice."""
    _switches.update(threads=threads or 0, precision=precision)


def build(plan: Plan, params: ConvParams, device: str, variant: str) -> onnx.ModelProto:
    """The plan's model with these weights; a model is on no device before it runs."""
    return weights.load(plan.execute(), params)


def apply(layer: onnx.ModelProto, x: Array, layout: str, device: str, variant: str) -> Array:
    """The model's output for ``x``, on that device.

    Raises:
        ShapeError: where ``x`` or the model is not in that layout.
        PlacementError: where ONNX Runtime has no such device, fell back to another, or answered in another dtype.
    """
    feed = weights.feed(layer, x, layout)
    # The bytes are the key: a ModelProto can be changed in place, and has no hash.
    session = _session(layer.SerializeToString(), device, variant, _switches["threads"], _switches["precision"])
    return weights.fetch(session.run(None, feed)[0], layer)


def gradients(layer: onnx.ModelProto, x: Array, dy: Array, layout: str, device: str, variant: str) -> Gradients:
    """ONNX Runtime's inference sessions run forward only; raises UnsupportedError."""
    raise UnsupportedError("ONNX Runtime has no gradients: an inference session runs forward only")


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
    # A provider that cannot start is replaced by the CPU with no more than a warning.
    if session.get_providers()[0] != provider:
        raise PlacementError(f"ONNX Runtime was asked for {device!r} but runs on {session.get_providers()[0]}")
    return session

"""Build and run OpenVINO models of one convolution; there are no gradients."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np

from convspec.contract import Array, ConvParams, Plan, check_layout, layouts
from convspec.errors import PlacementError, ShapeError
from convspec_openvino.importing import ops, ov
from convspec_openvino.weights import to_openvino

_threads: list[int] = []
_compiled: dict[int, Any] = {}


@functools.cache
def _core() -> Any:
    return ov.Core()


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The model that the plan's text defines, with these weights."""
    if device not in devices():
        raise PlacementError(f"OpenVINO is run on the cpu here, not on {device!r}")
    layer = plan.execute()
    found = {node.get_friendly_name(): node for node in layer.get_ordered_ops()}
    values = {"weight": to_openvino(params.kernel, plan.spec.groups)}
    if params.bias is not None:
        values["bias"] = params.bias.reshape(1, -1, *(1,) * plan.spec.ndim)
    for name, value in values.items():
        constant = ops.constant(np.ascontiguousarray(value, np.float32), name=name)
        found[name].output(0).replace(constant.output(0))
    return layer


def apply(layer: Any, x: Array, layout: str, device: str) -> Array:
    """The model's output for ``x``, both in ``layout``."""
    if device not in devices():
        raise PlacementError(f"OpenVINO is run on the cpu here, not on {device!r}")
    shape = layer.input(0).get_partial_shape()
    ndim = len(shape) - 2
    axis = 1 if layouts.family(layout, ndim) == layouts.CHANNELS_FIRST else -1
    channels = shape[axis % len(shape)]
    if channels.is_dynamic:
        raise ShapeError(f"layout {layout!r}: the model's input {shape} has its channels on another axis")
    check_layout(x, channels.get_length(), layout, ndim)
    found = compiled(layer)
    where = found.get_property("EXECUTION_DEVICES")
    if list(where) != ["CPU"]:
        raise PlacementError(f"asked for the cpu, but OpenVINO runs on {where}")
    return np.array(found(np.ascontiguousarray(x, np.float32))[0])


def compiled(model: Any) -> Any:
    """The model for the CPU, in float32: as shipped, OpenVINO uses bfloat16 where the processor has it."""
    key = id(model)
    if key not in _compiled:
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if _threads:
            settings["INFERENCE_NUM_THREADS"] = _threads[0]
        _compiled[key] = _core().compile_model(model, "CPU", settings)
        weakref.finalize(model, _compiled.pop, key, None)
    return _compiled[key]


def devices() -> tuple[str, ...]:
    """``"cpu"``, where OpenVINO finds it."""
    return ("cpu",) if "CPU" in _core().available_devices else ()


def configure(*, dtype: str, device: str, precision: str, threads: int | None) -> None:  # noqa: ARG001 – the contract's
    """The number of threads of models that are compiled from now on: at least two, since with one errors are lost.

    Where shapes are wrong at run time, the CPU plugin with a single thread continues with memory of other shapes.
    """
    _threads[:] = [] if threads is None else [max(threads, 2)]

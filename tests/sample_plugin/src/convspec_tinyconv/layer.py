"""Building and running layers of tinyconv."""

from __future__ import annotations

from typing import Any

import numpy as np
import tinyconv

from convspec import ConvParams
from convspec.contract import Gradients, Plan, check_layout
from convspec.errors import PlacementError, ShapeError, UnsupportedError
from convspec_tinyconv.weights import to_native


def build(plan: Plan, params: ConvParams, device: str) -> tinyconv.Conv:
    """The layer that the plan's text defines, with these weights."""
    if device not in devices():
        raise PlacementError(f"tinyconv runs on the cpu only, not on {device!r}")
    layer: tinyconv.Conv = plan.execute()
    layer.kernel = np.ascontiguousarray(to_native(params.kernel))
    layer.bias = None if params.bias is None else params.bias.copy()
    return layer


def apply(layer: tinyconv.Conv, x: Any, layout: str, device: str) -> Any:
    """The layer's output of ``x``, both channels last."""
    ndim = len(layer.kernel_size)
    if layout != "NHWC":
        raise ShapeError(f"tinyconv is channels-last; a tensor in {layout} cannot be given to it")
    check_layout(x, layer.in_channels, layout, ndim)
    try:
        return layer(x)
    except tinyconv.TooSmall as error:
        raise ShapeError(str(error)) from error


def gradients(layer: tinyconv.Conv, x: Any, dy: Any, layout: str, device: str) -> Gradients:
    """There are none."""
    raise UnsupportedError("tinyconv runs forward only")


def devices() -> tuple[str, ...]:
    """The processor."""
    return ("cpu",)


def configure(*, dtype: str, device: str, precision: str, threads: int | None) -> None:
    """There is nothing to switch."""

"""Build and run layers of tinyconv, which runs forward only, and on the CPU only."""

from __future__ import annotations

from typing import Any

import numpy as np
import tinyconv

from convspec.contract import ConvParams, Plan, check_layout
from convspec.errors import PlacementError, ShapeError
from convspec_tinyconv.weights import to_native


def build(plan: Plan, params: ConvParams, device: str) -> tinyconv.Conv:
    """Return the layer that the plan's text defines, with these weights."""
    if device != "cpu":
        raise PlacementError(f"tinyconv runs on the CPU only, not on {device!r}")
    layer: tinyconv.Conv = plan.execute()
    layer.kernel = np.ascontiguousarray(to_native(params.kernel))
    layer.bias = None if params.bias is None else params.bias.copy()
    return layer


def apply(layer: tinyconv.Conv, x: Any, layout: str, device: str) -> Any:
    """Return the layer's output of ``x``, both channels-last."""
    ndim = len(layer.kernel_size)
    if layout != "NHWC":
        raise ShapeError(f"tinyconv is channels-last; it takes no tensor in {layout}")
    check_layout(x, layer.in_channels, layout, ndim)
    try:
        return layer(x)
    except tinyconv.TooSmall as error:
        raise ShapeError(str(error)) from error

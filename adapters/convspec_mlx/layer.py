"""Build and run MLX layers on the CPU; ``mx.array`` is lazy, so every result is evaluated here."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from convspec.contract import CHANNELS_FIRST, Array, ConvParams, Gradients, Plan, check_layout, family
from convspec.errors import PlacementError, ShapeError
from convspec_mlx.weights import from_mlx, to_mlx

REGULAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The plan's layer with these weights."""
    _check(device)
    spec = plan.spec
    with mx.stream(mx.cpu):
        layer = plan.execute()
        found, dtype = conv(layer), getattr(mx, plan.dtype)
        found.weight = mx.array(to_mlx(params.kernel, transposed=spec.transposed, groups=spec.groups), dtype)
        if params.bias is not None:
            found.bias = mx.array(params.bias, dtype)
        mx.eval(layer.parameters())
    return layer


def conv(layer: Any) -> Any:
    """Return the module with the weights: the layer itself, or its ``conv``."""
    return layer.get("conv", layer)


def apply(layer: Any, x: Array, layout: str, device: str) -> Array:
    """The layer's output for ``x``, both in ``layout``."""
    with mx.stream(mx.cpu):
        return fetch(_run(layer, _input(layer, x, layout, device)))


def gradients(layer: Any, x: Array, dy: Array, layout: str, device: str) -> Gradients:
    """Gradients of ⟨layer(x), dy⟩ by ``mx.vjp``; the layer's arrays stay as they are."""
    inner = conv(layer)
    own = {name: inner[name] for name in ("weight", "bias") if name in inner}

    def run(inputs: Any, *arrays: Any) -> list[Any]:
        inner.update(dict(zip(own, arrays, strict=True)))
        return [_run(layer, inputs)]

    try:
        with mx.stream(mx.cpu):
            inputs = _input(layer, x, layout, device)
            given = [mx.array(dy, inputs.dtype)]
            found = [fetch(g) for g in mx.vjp(run, [inputs, *own.values()], given)[1]]
    finally:
        inner.update(own)
    transposed, groups = is_transposed(layer), vars(inner).get("groups", 1)
    bias = found[2] if len(found) == 3 else None
    return Gradients(found[0], from_mlx(found[1], transposed=transposed, groups=groups), bias)


def is_transposed(layer: Any) -> bool:
    """Return whether a built layer is a transposed one: a module of its own stands for those with groups."""
    inner = conv(layer)
    return isinstance(inner, TRANSPOSED) or not isinstance(inner, REGULAR)


def fetch(y: Any) -> Array:
    """The array on the host; bfloat16 in float32."""
    return np.array(y.astype(mx.float32) if y.dtype == mx.bfloat16 else y)


def _input(layer: Any, x: Array, layout: str, device: str) -> Any:
    """``x`` as an array of the layer's dtype; raises ShapeError for an input that the layer does not take."""
    _check(device)
    inner = conv(layer)
    ndim = inner.weight.ndim - 2
    plain = isinstance(layer, (*REGULAR, *TRANSPOSED))
    if plain and family(layout, ndim) == CHANNELS_FIRST:
        raise ShapeError(f"layout {layout!r}: a plain MLX convolution is channels-last")
    check_layout(x, inner.weight.shape[-1] * vars(inner).get("groups", 1), layout, ndim)
    return mx.array(x, inner.weight.dtype)


def _run(layer: Any, x: Any) -> Any:
    y = layer(x)
    if y.dtype != x.dtype:
        raise PlacementError(f"asked for {x.dtype}, but got {y.dtype}")
    return y


def _check(device: str) -> None:
    if device != "cpu":
        raise PlacementError(f"MLX is run on the cpu here, not on {device!r}")

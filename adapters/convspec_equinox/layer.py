"""Build and run Equinox layers."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
from convspec_jax.execution import configure, devices, feed, fetch, place, structures

from convspec.contract import CHANNELS_LAST, Array, ConvParams, Gradients, Plan, check_layout, family
from convspec.errors import ShapeError
from convspec_equinox.weights import from_equinox, to_equinox

__all__ = ["apply", "build", "configure", "conv", "devices", "gradients"]


@structures
def _structure(plan: Plan) -> Any:
    """The layer without weights: no initialiser is compiled."""
    return eqx.filter_eval_shape(plan.execute)


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The plan's layer with these weights on the device."""
    spec = plan.spec
    arrays = {"weight": to_equinox(params.kernel, transposed=spec.transposed, groups=spec.groups)}
    if params.bias is not None:
        arrays["bias"] = params.bias.reshape(-1, *(1,) * spec.ndim)
    own = place(arrays, plan.dtype, device)
    return eqx.tree_at(lambda x: [getattr(conv(x), name) for name in own], _structure(plan), list(own.values()))


def conv(layer: Any) -> Any:
    """Return the convolution that a layer is, or has as ``conv``."""
    return layer if isinstance(layer, eqx.nn.Conv | eqx.nn.ConvTranspose) else layer.conv


@eqx.filter_jit  # type: ignore[untyped-decorator]
def _forward(layer: Any, x: Any) -> Any:
    return jax.vmap(layer)(x)


@eqx.filter_jit  # type: ignore[untyped-decorator]
def _pullback(layer: Any, x: Any, dy: Any) -> Any:
    return eqx.filter_vjp(lambda a, v: jax.vmap(a)(v), layer, x)[1](dy)


def apply(layer: Any, x: Array, layout: str, device: str) -> Array:
    """The layer's output for a batch, in the layout of ``x``."""
    kernel = _kernel(layer, x, layout)
    return fetch(_forward(layer, feed(x, kernel, device)), kernel, device)


def gradients(layer: Any, x: Array, dy: Array, layout: str, device: str) -> Gradients:
    """Gradients of ⟨layer(x), dy⟩."""
    own = _kernel(layer, x, layout)
    of_layer, of_input = _pullback(layer, feed(x, own, device), feed(dy, own, device))
    inner, transposed = conv(of_layer), isinstance(conv(layer), eqx.nn.ConvTranspose)
    kernel = from_equinox(fetch(inner.weight, own, device), transposed=transposed, groups=conv(layer).groups)
    bias = None if inner.bias is None else fetch(inner.bias, own, device).reshape(-1)
    return Gradients(fetch(of_input, own, device), kernel, bias)


def _kernel(layer: Any, x: Array, layout: str) -> Any:
    """The kernel of a layer; raises ShapeError for an input that the layer does not take."""
    inner = conv(layer)
    if inner is layer and family(layout, inner.num_spatial_dims) == CHANNELS_LAST:
        raise ShapeError(f"layout {layout!r}: a plain Equinox convolution is channels-first")
    check_layout(x, inner.in_channels, layout, inner.num_spatial_dims)
    return inner.weight

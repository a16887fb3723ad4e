"""Build and run Equinox layers."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from convspec.contract import CHANNELS_LAST, Gradients, check_layout, family, format_of
from convspec.errors import PlacementError, ShapeError
from convspec_equinox.weights import from_equinox, to_equinox

if TYPE_CHECKING:
    from convspec.contract import Array, ConvParams, Plan

_PLATFORMS = {"cpu": "cpu", "cuda": "gpu"}
_CLEAR_EVERY = 256
_REMEDY = 'switch it on before anything else runs: jax.config.update("jax_enable_x64", True)'


@functools.lru_cache(maxsize=16)
def _structure(plan: Plan) -> Any:
    """The layer without weights: no initialiser is compiled."""
    return eqx.filter_eval_shape(plan.execute)


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The plan's layer with these weights on the device.

    Raises:
        PlacementError: if the device is not there, or float64 is switched off.
    """
    if plan.dtype == "float64" and jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise PlacementError(f"JAX computes in float32 unless 64-bit numbers are on; {_REMEDY}")
    spec, target, dtype = plan.spec, _device(device), jnp.dtype(plan.dtype)
    _forget_old_code()
    # copies: on the CPU device_put may share memory with an array that the caller changes later
    kernel = np.array(to_equinox(params.kernel, transposed=spec.transposed, groups=spec.groups), dtype, order="C")
    layer = eqx.tree_at(lambda x: conv(x).weight, _structure(plan), jax.device_put(kernel, target))
    if params.bias is None:
        return layer
    bias = np.array(params.bias, dtype).reshape(-1, *(1,) * spec.ndim)
    return eqx.tree_at(lambda x: conv(x).bias, layer, jax.device_put(bias, target))


_built = {"layers": 0}


def _forget_old_code() -> None:
    """Clear JAX's compiled code from time to time: it is kept forever, and a long run never repeats old layers."""
    _built["layers"] += 1
    if _built["layers"] % _CLEAR_EVERY == 0:
        _structure.cache_clear()
        jax.clear_caches()


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
    return _checked(_forward(layer, _input(layer, x, layout, device)), layer, device)


def gradients(layer: Any, x: Array, dy: Array, layout: str, device: str) -> Gradients:
    """Gradients of ⟨layer(x), dy⟩."""
    inputs = _input(layer, x, layout, device)
    cotangent = jax.device_put(np.asarray(dy, inputs.dtype), _device(device))
    of_layer, of_input = _pullback(layer, inputs, cotangent)
    inner, transposed = conv(of_layer), isinstance(conv(layer), eqx.nn.ConvTranspose)
    kernel = from_equinox(_checked(inner.weight, layer, device), transposed=transposed, groups=conv(layer).groups)
    bias = None if inner.bias is None else _checked(inner.bias, layer, device).reshape(-1)
    return Gradients(_checked(of_input, layer, device), kernel, bias)


def devices() -> tuple[str, ...]:
    """``"cpu"``, and ``"cuda"`` where JAX has an NVIDIA GPU."""
    return tuple(name for name in _PLATFORMS if _available(name))


def _available(name: str) -> bool:
    try:
        found = jax.devices(_PLATFORMS[name])
    except (RuntimeError, KeyError):  # JAX raises RuntimeError for a missing platform
        return False
    return name != "cuda" or "cuda" in found[0].client.platform_version.lower()


def _device(name: str) -> Any:
    if not _available(name):
        raise PlacementError(f"JAX has no device {name!r} here, only {', '.join(devices())}")
    return jax.devices(_PLATFORMS[name])[0]


def configure(dtype: str, device: str, precision: str, threads: int | None) -> None:
    """Process-wide switches, for a worker: 64-bit numbers, precision, threads, memory."""
    if device == "cuda":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if threads is not None:
        os.environ["NPROC"] = str(threads)  # the size of XLA's thread pools, read when its client starts
    jax.config.update("jax_enable_x64", dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest" if precision == "strict" else None)


def _input(layer: Any, x: Array, layout: str, device: str) -> Any:
    inner = conv(layer)
    if inner is layer and family(layout, inner.num_spatial_dims) == CHANNELS_LAST:
        raise ShapeError(f"layout {layout!r}: a plain Equinox convolution is channels-first")
    check_layout(x, inner.in_channels, layout, inner.num_spatial_dims)
    if inner.weight.devices() != {_device(device)}:
        raise PlacementError(f"the layer's weights are on {inner.weight.devices()}, not on {device!r}")
    return jax.device_put(np.asarray(x, inner.weight.dtype), _device(device))


def _checked(y: Any, layer: Any, device: str) -> Array:
    """``y`` on the host, if it was computed on the device and in the dtype of the layer."""
    if y.devices() != {_device(device)}:
        raise PlacementError(f"JAX computed on {y.devices()}, not on {device!r}")
    if y.dtype != conv(layer).weight.dtype:
        raise PlacementError(f"JAX answered in {y.dtype}, not in the layer's {conv(layer).weight.dtype}")
    return np.array(y, format_of(str(y.dtype)).carrier)

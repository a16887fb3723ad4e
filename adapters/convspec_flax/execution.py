"""Shared by nnx and linen at run time: devices, process-wide switches, compiled calls, checks of the device."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from convspec.contract import CHANNELS_LAST, Gradients, check_layout, family, format_of
from convspec.errors import PlacementError, ShapeError
from convspec_flax import cache
from convspec_flax.weights import from_flax, to_flax

if TYPE_CHECKING:
    from convspec.contract import Array, ConvParams, Plan

_PLATFORMS = {"cpu": "cpu", "cuda": "gpu"}
_REMEDY = 'switch it on before anything else runs: jax.config.update("jax_enable_x64", True)'


def devices() -> tuple[str, ...]:
    """``"cpu"``, and ``"cuda"`` where JAX has an NVIDIA GPU."""
    return tuple(name for name in _PLATFORMS if _available(name))


def _available(name: str) -> bool:
    try:
        found = jax.devices(_PLATFORMS.get(name, name))
    except RuntimeError:  # JAX's error for a missing platform
        return False
    return name != "cuda" or "cuda" in found[0].client.platform_version.lower()


def device_of(name: str) -> Any:
    """JAX's device of that name.

    Raises:
        PlacementError: listing the available ones.
    """
    if not _available(name):
        raise PlacementError(f"JAX has no device {name!r} here, only {', '.join(devices())}")
    return jax.devices(_PLATFORMS.get(name, name))[0]


def configure(dtype: str, device: str, precision: str, threads: int | None) -> None:
    """Process-wide switches, for a worker: 64-bit numbers, precision, threads, memory, caches of compiled code."""
    if device == "cuda":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if threads is not None:
        os.environ["NPROC"] = str(threads)  # the size of XLA's thread pools, read when its client starts
    jax.config.update("jax_enable_x64", dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest" if precision == "strict" else None)
    cache.keep_small()
    cache.persist()


def placed(plan: Plan, params: ConvParams, device: str) -> dict[str, Any]:
    """Kernel, and bias where there is one, in Flax's order and dtype on the device.

    Raises:
        PlacementError: if the device is not there, or float64 is switched off.
    """
    if plan.dtype == "float64" and jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise PlacementError(f"JAX computes in float32 unless 64-bit numbers are on; {_REMEDY}")
    spec, target = plan.spec, device_of(device)
    arrays = {"kernel": to_flax(params.kernel, transposed=spec.transposed, groups=spec.groups)}
    if params.bias is not None:
        arrays["bias"] = params.bias
    # a copy: on the CPU device_put may share memory with an array that the caller changes later
    return {k: jax.device_put(np.array(a, jnp.dtype(plan.dtype), order="C"), target) for k, a in arrays.items()}


class Calls:
    """Forward and backward pass, compiled once per structure of layer and shape of input.

    ``call(structure, state, x)`` is the output of a layer whose structure and state are ``split(layer)``. The structure
    is hashable, and equal for layers that differ in their weights only, so that new weights cost no compilation.
    ``inner(layer)`` returns the convolution that the layer is, or has, with its kernel; ``leaves(of_state)`` the
    gradients with respect to a state by name.

    Compiled as a whole, since that is cheapest even for a single call: for 24 small 2-D layers on one core 43 ms
    cold (86 ms with the transposes of a channels-first layer) against 104 ms (238 ms) for one operation at a time;
    0.4 ms against 1.1–1.8 ms warm. Building costs 10 ms the first time, 1 ms with other weights.
    """

    def __init__(
        self,
        call: Callable[[Any, Any, Any], Any],
        split: Callable[[Any], tuple[Any, Any]],
        inner: Callable[[Any], tuple[Any, Any]],
        leaves: Callable[[Any], Mapping[str, Any]],
    ) -> None:
        def pullback(structure: Any, state: Any, x: Any, dy: Any) -> Any:
            return jax.vjp(lambda s, v: call(structure, s, v), state, x)[1](dy)

        self._forward = jax.jit(call, static_argnums=0)
        self._pullback = jax.jit(pullback, static_argnums=0)
        self._split, self._inner, self._leaves = split, inner, leaves

    def apply(self, layer: Any, x: Array, layout: str, device: str) -> Array:
        """The layer's output, in the layout of ``x``."""
        conv = self._conv(layer, layout)
        y = self._forward(*self._split(layer), _on_device(conv, x, layout, device))
        return _checked(y, conv.kernel, device)

    def gradients(self, layer: Any, x: Array, dy: Array, layout: str, device: str) -> Gradients:
        """Gradients of ⟨layer(x), dy⟩, in canonical order."""
        conv = self._conv(layer, layout)
        inputs = _on_device(conv, x, layout, device)
        cotangent = jax.device_put(np.asarray(dy, conv.kernel.dtype), device_of(device))
        of_state, of_input = self._pullback(*self._split(layer), inputs, cotangent)
        leaves = self._leaves(of_state)
        kernel = np.ascontiguousarray(conv.canonical(_checked(leaves["kernel"], conv.kernel, device)))
        bias = None if leaves.get("bias") is None else _checked(leaves["bias"], conv.kernel, device)
        return Gradients(_checked(of_input, conv.kernel, device), kernel, bias)

    def _conv(self, layer: Any, layout: str) -> Conv:
        """The layer's convolution. Raises ShapeError where a plain one, which is channels-last, gets another layout."""
        module, kernel = self._inner(layer)
        if module is layer and family(layout, kernel.ndim - 2) != CHANNELS_LAST:
            raise ShapeError(
                f"layout {layout!r}: a plain Flax convolution takes channels-last tensors only; "
                f"transpose the input, or build the layer with layout={layout!r}"
            )
        return Conv(module, kernel)


class Conv:
    """A Flax convolution: its module with the kernel's value, of nnx or linen alike.

    A ``Conv`` whose ``input_dilation`` is given is a transposed layer with groups.
    """

    def __init__(self, module: Any, kernel: Any) -> None:
        self.kernel = kernel
        self.groups = getattr(module, "feature_group_count", 1)
        self.plain = not hasattr(module, "feature_group_count")
        self.transposed = self.plain or module.input_dilation not in (None, 1)
        self.swapped = self.plain and module.transpose_kernel
        self.ndim = kernel.ndim - 2

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return int(self.kernel.shape[-1 if self.swapped else -2]) * int(self.groups)

    def canonical(self, kernel: Array) -> Array:
        """A kernel, or its gradient, in the canonical order."""
        if self.plain and not self.swapped:  # Flax's own default: as stored, a flipped kernel of (*kernel, I, O)
            kernel = np.flip(kernel, tuple(range(self.ndim))).swapaxes(-1, -2)
        return from_flax(kernel, transposed=self.transposed, groups=self.groups)


def _on_device(conv: Conv, x: Array, layout: str, device: str) -> Any:
    check_layout(x, conv.in_channels, layout, conv.ndim)
    target = device_of(device)
    if conv.kernel.devices() != {target}:
        raise PlacementError(f"the layer's weights are on {conv.kernel.devices()}, not on {device!r} ({target})")
    return jax.device_put(np.asarray(x, conv.kernel.dtype), target)


def _checked(y: Any, kernel: Any, device: str) -> Array:
    """``y`` on the host, if it was computed on the device and in the dtype of the layer."""
    if y.devices() != {device_of(device)}:
        raise PlacementError(f"JAX computed on {y.devices()}, not on {device!r}")
    if y.dtype != kernel.dtype:
        raise PlacementError(f"JAX answered in {y.dtype}, not in the layer's {kernel.dtype}")
    return np.array(y, format_of(str(y.dtype)).carrier)

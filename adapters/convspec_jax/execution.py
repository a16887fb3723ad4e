"""Devices, process-wide switches, and arrays on their way to a device and back, with checks of the device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convspec.contract import Array, format_of
from convspec.errors import PlacementError
from convspec_jax import cache

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


def place(weights: Mapping[str, Array], dtype: str, device: str) -> dict[str, Any]:
    """Return copies of a layer's weights in its dtype on the device.

    Raises:
        PlacementError: if the device is not there, or float64 is switched off.
    """
    if dtype == "float64" and jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise PlacementError(f"JAX computes in float32 unless 64-bit numbers are on; {_REMEDY}")
    target = device_of(device)
    # a copy: on the CPU device_put may share memory with an array that the caller changes later
    return {k: jax.device_put(np.array(a, jnp.dtype(dtype), order="C"), target) for k, a in weights.items()}


def feed(x: Array, kernel: Any, device: str) -> Any:
    """Return ``x`` on the device, in the dtype of a layer's kernel; raises PlacementError if that is elsewhere."""
    target = device_of(device)
    if kernel.devices() != {target}:
        raise PlacementError(f"the layer's weights are on {kernel.devices()}, not on {device!r} ({target})")
    return jax.device_put(np.asarray(x, kernel.dtype), target)


def fetch(y: Any, kernel: Any, device: str) -> Array:
    """Return ``y`` on the host, if it was computed on the device and in the dtype of the layer."""
    if y.devices() != {device_of(device)}:
        raise PlacementError(f"JAX computed on {y.devices()}, not on {device!r}")
    if y.dtype != kernel.dtype:
        raise PlacementError(f"JAX answered in {y.dtype}, not in the layer's {kernel.dtype}")
    return np.array(y, format_of(str(y.dtype)).carrier)

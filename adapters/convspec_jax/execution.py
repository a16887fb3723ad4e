"""Devices, process-wide switches, arrays on their way to a device and back, and caches of compiled code.

Compiled code is kept small in long runs and, on request, kept on disk.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from convspec.contract import Array, format_of
from convspec.errors import PlacementError, RequestError

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
    keep_small()
    persist()


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


# -- compiled code -----------------------------------------------------------------------------------------------------

FOLDER_VARIABLE = "CONVSPEC_JAX_CACHE"
_CLEAR_EVERY = 256
_structures: list[Any] = []  # caches of layer structures, which must go when JAX's go
_state = {"worker": False, "layers": 0}

Made = TypeVar("Made")


def structures(make: Callable[..., Made]) -> Callable[..., Made]:
    """Remember what ``make`` returns for the last few arguments; each new one counts as a new layer."""

    @functools.lru_cache(maxsize=16)
    def made(*args: Any) -> Made:
        _state["layers"] += 1
        return make(*args)

    _structures.append(made)

    def counted(*args: Any) -> Made:
        if _state["worker"] and _state["layers"] >= _CLEAR_EVERY:
            clear()
        return made(*args)

    return counted


def keep_small() -> None:
    """From now on, forget compiled code after every few hundred new layers: a worker never meets them again."""
    _state["worker"] = True


def clear() -> None:
    """Forget all compiled code, JAX's own included."""
    _state["layers"] = 0
    for made in _structures:
        made.cache_clear()
    jax.clear_caches()


def persist() -> None:
    """Keep compiled code in the folder that ``CONVSPEC_JAX_CACHE`` names, if it names one.

    Compiled code is a program: the folder is the user's own (mode 0700), with one part per version of JAX and
    model of processor, which the code is compiled for.

    Raises:
        RequestError: if others may write to the folder.
        FileNotFoundError: if the folder that it is to be made in does not exist.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    path = Path(folder).expanduser() / _key()
    for part in (path.parent, path):
        part.mkdir(mode=0o700, exist_ok=True)
        status = part.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise RequestError(f"{FOLDER_VARIABLE}={folder!r}: {part} must be yours, and writable by nobody else")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_compilation_cache_max_size", 2**30)


def _key() -> str:
    """Versions and processor, as a name for a folder."""
    cpu = Path("/proc/cpuinfo")
    flags = [line for line in cpu.read_text().splitlines() if line.startswith("flags")][:1] if cpu.exists() else []
    digest = hashlib.sha256("\n".join([platform.machine(), platform.processor(), *flags]).encode()).hexdigest()[:12]
    return f"jax-{version('jax')}-jaxlib-{version('jaxlib')}-{digest}"

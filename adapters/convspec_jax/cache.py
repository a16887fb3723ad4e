"""Caches of compiled code: kept small in long runs, and, on request, kept on disk."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import jax

from convspec.errors import RequestError

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

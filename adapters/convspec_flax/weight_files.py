"""Arrays of Flax's files of weights, as ``flax.serialization`` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.serialization import msgpack_restore

from convspec.spec import Array


def load_weights(path: str) -> dict[str, Array]:
    """Return all arrays of the file by name; bfloat16 as float32."""
    return dict(_arrays(msgpack_restore(Path(path).read_bytes()), ""))


def _arrays(stored: Any, path: str) -> Iterator[tuple[str, Array]]:
    if isinstance(stored, Mapping):
        for name, value in stored.items():
            yield from _arrays(value, f"{path}/{name}" if path else str(name))
    elif isinstance(stored, np.ndarray | np.generic):
        array = np.asarray(stored)
        yield path, array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array

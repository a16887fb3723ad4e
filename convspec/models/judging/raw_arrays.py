"""Arrays as raw bytes in files between two processes of which one is not trusted: no format that runs or allocates."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convspec.spec import Array

MOST = 1 << 30  # bytes of one run's arrays
_AXES, _RESULTS = 16, 256
_DTYPES = frozenset(np.dtype(code).name for code in "?bBhHiIqQefd")


def write_arrays(path: Path, arrays: Sequence[Array]) -> list[tuple[str, list[int]]]:
    """Write arrays of numbers one after another into a new file, which follows no link; return the form of each."""
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.writelines(np.ascontiguousarray(array).tobytes() for array in arrays)
    return [(array.dtype.name, list(array.shape)) for array in arrays]


def read_arrays(path: Path, forms: Any) -> list[Array]:
    """Return the arrays of these forms.

    Raises:
        ValueError: if a form is none, or the file is not a plain one of exactly this size.
    """
    if not isinstance(forms, list) or len(forms) > _RESULTS or not all(map(_is_form, forms)):
        raise ValueError("the forms of arrays are malformed")
    sizes = [math.prod(shape) * np.dtype(name).itemsize for name, shape in forms]
    if sum(sizes) > MOST:
        raise ValueError(f"the arrays are larger than {MOST >> 20} MiB")
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != sum(sizes):
            raise ValueError("the arrays do not have the size of their forms")
        parts = [stream.read(size) for size in sizes]
    return [np.frombuffer(part, name).reshape(shape).copy() for part, (name, shape) in zip(parts, forms, strict=True)]


def _is_form(form: Any) -> bool:
    if not (isinstance(form, list) and len(form) == 2 and isinstance(form[0], str) and isinstance(form[1], list)):
        return False
    whole = all(type(n) is int and 0 <= n < 1 << 40 for n in form[1])
    return form[0] in _DTYPES and len(form[1]) <= _AXES and whole

"""Kernels between the canonical order and MLX's, ``(O, *kernel, I/g)`` for transposed layers too."""

from __future__ import annotations

import numpy as np

from convspec.contract import Array


def to_mlx(kernel: Array, *, transposed: bool, groups: int) -> Array:
    """The kernel of an MLX layer."""
    return np.ascontiguousarray(np.moveaxis(_swapped(kernel, groups) if transposed else kernel, 1, -1))


def from_mlx(kernel: Array, *, transposed: bool, groups: int) -> Array:
    """The canonical kernel; the inverse of :func:`to_mlx`."""
    first = np.moveaxis(kernel, -1, 1)
    return np.ascontiguousarray(_swapped(first, groups) if transposed else first)


def _swapped(kernel: Array, groups: int) -> Array:
    """``(g·A, B, *kernel)`` as ``(g·B, A, *kernel)``."""
    rows, columns, *size = kernel.shape
    parts = kernel.reshape(groups, rows // groups, columns, *size).swapaxes(1, 2)
    return parts.reshape(groups * columns, rows // groups, *size)

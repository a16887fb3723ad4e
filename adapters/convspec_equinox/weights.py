"""Kernels between the canonical order and Equinox's, ``(O, I/g, *kernel)``; a transposed one's is flipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]


def to_equinox(kernel: Array, *, transposed: bool, groups: int) -> Array:
    """The kernel of an Equinox layer. A transposed layer is a convolution of the spread input: it is turned around."""
    return _turned(kernel, groups) if transposed else kernel


def from_equinox(kernel: Array, *, transposed: bool, groups: int) -> Array:
    """The canonical kernel of an Equinox layer's; the inverse of :func:`to_equinox`, which is its own."""
    return _turned(kernel, groups) if transposed else kernel


def _turned(kernel: Array, groups: int) -> Array:
    """``(g·A, B, *kernel)`` to ``(g·B, A, *kernel)``, flipped along the spatial axes."""
    rows, columns, *size = kernel.shape
    parts = np.flip(kernel, tuple(range(2, kernel.ndim))).reshape(groups, rows // groups, columns, *size)
    return np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(groups * columns, rows // groups, *size)

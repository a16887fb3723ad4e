"""Kernels between the canonical order and Equinox's, ``(O, I/g, *kernel)``; a transposed one's is flipped."""

from __future__ import annotations

import numpy as np

from convspec.contract import Array


def to_equinox(kernel: Array, *, transposed: bool, groups: int) -> Array:
    """The kernel of an Equinox layer. A transposed layer is a convolution of the spread input: it is turned around.

    That is ``(g·A, B, *kernel)`` to ``(g·B, A, *kernel)``, flipped along the spatial axes.
    """
    if not transposed:
        return kernel
    rows, columns, *size = kernel.shape
    parts = np.flip(kernel, tuple(range(2, kernel.ndim))).reshape(groups, rows // groups, columns, *size)
    return np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(groups * columns, rows // groups, *size)


from_equinox = to_equinox  # its own inverse

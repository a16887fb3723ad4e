"""Kernels from the canonical order to Flax's and back."""

from __future__ import annotations

import numpy as np

from convspec.contract import Array


def to_flax(kernel: Array, *, transposed: bool, groups: int) -> Array:
    """The kernel of the layer that the plan makes.

    ``Conv`` has ``(*kernel, I/g, O)``; ``ConvTranspose`` with ``transpose_kernel=True`` has ``(*kernel, O, I)``. A
    transposed layer with groups is a ``Conv`` of the dilated input: its kernel is flipped along the spatial axes.
    """
    ndim = kernel.ndim - 2
    if not transposed or groups == 1:
        return kernel.transpose(*range(2, 2 + ndim), 1, 0)
    inputs, outputs, *size = kernel.shape
    parts = kernel.reshape(groups, inputs // groups, outputs, *size)  # g, I/g, O/g, *kernel
    spatial = range(3, 3 + ndim)
    native = parts.transpose(*spatial, 1, 0, 2).reshape(*size, inputs // groups, groups * outputs)
    return np.flip(native, tuple(range(ndim)))


def from_flax(kernel: Array, *, transposed: bool, groups: int) -> Array:
    """The canonical kernel of a Flax layer's; the inverse of :func:`to_flax`."""
    ndim = kernel.ndim - 2
    if not transposed or groups == 1:
        return kernel.transpose(ndim + 1, ndim, *range(ndim))
    *size, inputs, outputs = kernel.shape
    parts = np.flip(kernel, tuple(range(ndim))).reshape(*size, inputs, groups, outputs // groups)
    return parts.transpose(ndim + 1, ndim, ndim + 2, *range(ndim)).reshape(groups * inputs, outputs // groups, *size)

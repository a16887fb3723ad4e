"""Kernels between the canonical order and LiteRT's, which depends on the operator."""

from __future__ import annotations

import numpy as np

from convspec.contract import Array

ORDERS = {  # of the axes of a kernel; I and O stand for those of the canonical kernel
    "CONV_2D": "O*I", "DEPTHWISE_CONV_2D": "I*O", "CONV_3D": "*IO", "TRANSPOSE_CONV": "O*I", "CONV_3D_TRANSPOSE": "*OI",
}  # fmt: skip


def to_litert(kernel: Array, operator: str) -> Array:
    """The kernel in the operator's order; a 1-D one with a height of one."""
    if kernel.ndim == 3:
        kernel = kernel[:, :, None]
    return np.ascontiguousarray(kernel.transpose(axes_of(operator, kernel.ndim - 2)))


def from_litert(kernel: Array, operator: str) -> Array:
    """The canonical kernel; the inverse of :func:`to_litert`."""
    axes = axes_of(operator, kernel.ndim - 2)
    return np.ascontiguousarray(kernel.transpose(np.argsort(axes)))


def axes_of(operator: str, ndim: int) -> tuple[int, ...]:
    """The axes that bring a canonical kernel to the operator's order; canonical are ``O I *``, transposed ``I O *``."""
    first = "IO" if "TRANSPOSE" in operator else "OI"
    numbers = {first[0]: (0,), first[1]: (1,), "*": tuple(range(2, 2 + ndim))}
    return tuple(axis for letter in ORDERS[operator] for axis in numbers[letter])

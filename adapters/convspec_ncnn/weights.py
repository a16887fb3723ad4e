"""Kernels between the canonical order and ncnn's: ``O I/g *kernel``, transposed in groups ``g O/g I/g *kernel``."""

from __future__ import annotations

from convspec.contract import Array


def to_ncnn(kernel: Array, *, transposed: bool, groups: int) -> Array:
    """The kernel as ncnn stores it: of a transposed layer ``(g·A, B, *kernel)`` as ``(g·B, A, *kernel)``."""
    if not transposed:
        return kernel
    rows, columns, *size = kernel.shape
    parts = kernel.reshape(groups, rows // groups, columns, *size).swapaxes(1, 2)
    return parts.reshape(groups * columns, rows // groups, *size)


from_ncnn = to_ncnn  # its own inverse

"""Kernels between the canonical order and OpenVINO's, which has an axis of its own for the groups."""

from __future__ import annotations

from convspec.contract import Array


def to_openvino(kernel: Array, groups: int) -> Array:
    """``(g·A, B, *kernel)`` as ``(g, A, B, *kernel)`` where there are groups; no byte is moved."""
    return kernel.reshape(groups, -1, *kernel.shape[1:]) if groups > 1 else kernel


def from_openvino(kernel: Array, *, grouped: bool) -> Array:
    """The canonical kernel; the inverse of :func:`to_openvino`."""
    return kernel.reshape(-1, *kernel.shape[2:]) if grouped else kernel

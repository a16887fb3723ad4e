"""Kernels between the canonical order – O I/g *spatial, transposed I O/g *spatial – and that of myframe."""

from __future__ import annotations

from typing import Any


def to_native(kernel: Any) -> Any:
    """The kernel in the order of myframe."""
    return kernel


def to_canonical(kernel: Any) -> Any:
    """The kernel in the canonical order."""
    return kernel

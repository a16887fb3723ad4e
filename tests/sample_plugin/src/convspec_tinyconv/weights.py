"""Kernels in the canonical order, O I/g *spatial, and in tinyconv's, *spatial I/g O."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_native(kernel: Any) -> Any:
    """Return the kernel in tinyconv's order."""
    return np.moveaxis(kernel, (1, 0), (-2, -1))


def to_canonical(kernel: Any) -> Any:
    """Return the kernel in the canonical order."""
    return np.ascontiguousarray(np.moveaxis(kernel, (-2, -1), (1, 0)))

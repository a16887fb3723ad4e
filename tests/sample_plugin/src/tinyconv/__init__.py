"""A framework of one page: convolution layers in NumPy, channels last, as somebody might have written them.

Kernels are ``(*spatial, in_channels / groups, out_channels)``. It knows no transposed layers, and pads the same on both
sides only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

__version__ = "1.4.0"


class TooSmall(ValueError):
    """No window fits into the input."""


class Conv:
    """A convolution layer of any rank."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int = 1,
        use_bias: bool = True,
    ) -> None:
        self.in_channels, self.filters, self.groups = in_channels, filters, groups
        self.kernel_size, self.stride = tuple(kernel_size), tuple(stride)
        self.padding, self.dilation = tuple(padding), tuple(dilation)
        self.kernel = np.zeros((*self.kernel_size, in_channels // groups, filters), np.float32)
        self.bias = np.zeros(filters, np.float32) if use_bias else None

    def __call__(self, x: Any) -> Any:
        """``(N, *spatial, C)`` to ``(N, *out, filters)``."""
        if not len(x):
            raise ValueError("an empty batch")  # as many a young framework does
        x = np.pad(x, [(0, 0), *((p, p) for p in self.padding), (0, 0)])
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        out = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, self.stride, strict=True)]
        if min(out) < 1:
            raise TooSmall(f"no window fits: input {x.shape[1:-1]} with pads, kernel {reach}")
        y = np.zeros((len(x), *out, self.filters), np.float32)
        for tap in itertools.product(*map(range, self.kernel_size)):
            starts = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            window = [slice(a, a + (o - 1) * s + 1, s) for a, o, s in zip(starts, out, self.stride, strict=True)]
            seen = x[(slice(None), *window)]
            y += self._product(seen, self.kernel[tap])
        return y if self.bias is None else y + self.bias

    def _product(self, seen: Any, weights: Any) -> Any:
        """One tap: every group of channels by its own matrix."""
        inputs = np.split(seen, self.groups, axis=-1)
        matrices = np.split(weights, self.groups, axis=-1)
        return np.concatenate([a @ b for a, b in zip(inputs, matrices, strict=True)], axis=-1)


class Sequential:
    """Layers one after the other."""

    def __init__(self, *layers: Any) -> None:
        self.layers = layers

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

"""Kernels between the canonical order and Keras's, which is the same on all backends and in both data formats.

``Conv`` has ``(*K, I/g, O)``, ``ConvTranspose`` ``(*K, O, I)``: the canonical kernel with its first two axes last and
swapped; ``DepthwiseConv`` has ``(*K, C, M)``, and filter c·M + m reads channel c.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convspec.contract import Array


def native(kernel: Array, channels: int, parts: int, *, depthwise: bool) -> list[Array]:
    """The kernels of a layer's convolutions, ``parts`` of them, as copies; ``channels`` are the input's."""
    if depthwise:
        kernel = kernel.reshape(channels, -1, *kernel.shape[2:]).swapaxes(0, 1)
    return [np.array(np.moveaxis(part, (0, 1), (-1, -2)), order="C") for part in np.split(kernel, parts)]


def canonical(kernels: Sequence[Array], *, depthwise: bool) -> Array:
    """The canonical kernel that a layer's kernels are the parts of; ``native``'s inverse."""
    kernel = np.concatenate([np.moveaxis(kernel, (-1, -2), (0, 1)) for kernel in kernels])
    if depthwise:
        kernel = kernel.swapaxes(0, 1).reshape(-1, 1, *kernel.shape[2:])
    return kernel

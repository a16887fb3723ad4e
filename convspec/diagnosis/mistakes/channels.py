"""Mistakes in groups, and in the channels that belong together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convspec.diagnosis.faulty_layer import Array, Layer, Variants, derive, take
from convspec.diagnosis.mistakes.catalogue import described

_MANY = 16


@described()
def groups_ignored(layer: Layer) -> Variants:
    spec, kernel = layer.spec, layer.params.kernel
    if spec.groups == 1:
        return
    per_in = spec.in_channels // spec.groups
    if spec.transposed:
        blocks = kernel.reshape(spec.groups, per_in, *kernel.shape[1:])
        dense: Array = np.concatenate([np.concatenate([b] * spec.groups) for b in blocks], axis=1)
    else:
        dense = np.concatenate([kernel] * spec.groups, axis=1)
    yield "the kernel repeated for the channels of every group", layer.with_kernel(dense, groups=1)
    first = np.concatenate([layer.x[:, :per_in]] * spec.groups, axis=1)
    yield "every group reads the first group's channels", replace(layer, x=first)


@described()
def groups_permuted(layer: Layer) -> Variants:
    spec, kernel = layer.spec, layer.params.kernel
    if spec.groups == 1:
        return
    blocks = kernel.reshape(spec.groups, -1, *kernel.shape[1:])
    for by in range(1, min(spec.groups, _MANY)):
        rolled = np.roll(blocks, by, axis=0).reshape(kernel.shape)
        yield f"the kernel's groups moved by {by}", layer.with_kernel(rolled)
    if spec.groups > 2:
        yield "the kernel's groups reversed", layer.with_kernel(blocks[::-1].reshape(kernel.shape))


@described()
def channels_shuffled(layer: Layer) -> Variants:
    g = layer.spec.groups
    if g == 1:
        return
    for side, n in (("input", layer.spec.in_channels), ("output", layer.spec.out_channels)):
        for what, shape in (("de-interleaved", (g, -1)), ("interleaved", (-1, g))):
            order = np.arange(n).reshape(shape).T.reshape(-1)
            wrong = replace(layer, x=layer.x[:, order]) if side == "input" else layer.then(take(slice(None), order))
            yield f"the {side}'s channels {what}", wrong


@described()
def grouped_kernel_layout(layer: Layer) -> Variants:
    spec, kernel = layer.spec, layer.params.kernel
    if spec.groups == 1:
        return
    g, per, other = spec.groups, len(kernel) // spec.groups, kernel.shape[1]
    for what, shape, axes in (
        ("in and out of each group exchanged in memory", (g, other, per), (1, 2)),
        ("the groups read as the inner part of the first axis", (per, g, other), (0, 1)),
        ("the groups read as the outer part of the second axis", (g, per, other), (0, 1)),
    ):
        yield what, layer.with_kernel(kernel.reshape(*shape, *spec.kernel_size).swapaxes(*axes).reshape(kernel.shape))


def _keep_channels(x: Array, per_in: int, ends: tuple[int, int | None]) -> Array:
    """Return the input with zeros in all but some channels of each group."""
    within = np.zeros(per_in)
    within[slice(*ends)] = 1
    return x * np.tile(within, x.shape[1] // per_in).reshape(1, -1, *(1,) * (x.ndim - 2))


@described()
def input_channels_left_out(layer: Layer) -> Variants:
    per_in = layer.spec.in_channels // layer.spec.groups
    if per_in == 1:
        return
    for what, kept in (
        ("only the first channel of each group summed", slice(0, 1)),
        ("the first channel of each group left out", slice(1, None)),
        ("the last channel of each group left out", slice(0, -1)),
    ):
        yield what, replace(layer, x=derive(layer.x, _keep_channels, per_in, (kept.start, kept.stop)))

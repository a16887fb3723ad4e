"""Single elements of a layer's output: they rule a mistake out without computing the whole output."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.diagnosis.faulty_layer import FILL, Array, Indices, Layer
from convspec.spec import ConvSpec, product, resolve_padding

Mask: TypeAlias = NDArray[np.bool_]


def evaluate(layer: Layer, shape: tuple[int, ...], points: tuple[Indices, ...]) -> tuple[Array, Array] | None:
    """Return the output before ``finish``, and its magnitudes, at ``points``, ``(P,)``; None if its shape is another.

    Args:
        points: one array ``(P,)`` of indices for each axis of the output.

    Raises:
        ShapeError, ParamsError: if such a layer cannot be computed at all.
    """
    own = layer.output_shape
    indices = layer.indices()
    if (own if indices is None else indices.shape) != shape:
        return None
    layer.params.check(layer.spec)
    if indices is None:
        y, g = _sums(layer, *points)
    elif not product(own):
        y = g = np.zeros(len(points[0]))
    else:
        filled = indices[points] == FILL
        at = np.unravel_index(np.where(filled, 0, indices[points]), own)
        y, g = (np.where(filled, 0.0, values) for values in _sums(layer, *at))
    if layer.added is not None:
        added = layer.addition(shape)[points]
        y, g = y + added, g + np.abs(added)
    return y, g


@np.errstate(all="ignore")
def _sums(layer: Layer, n: Indices, o: Indices, *spatial: Indices) -> tuple[Array, Array]:
    """Return Σxw + b and Σ|x||w| + |b| at samples ``n``, channels ``o``, positions ``spatial`` of the convolution."""
    spec, x, kernel = layer.spec, layer.x, layer.params.kernel
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    positions, inside = _input_positions(spec, x.shape[2:], spatial)
    channels = (o // per_out * per_in)[:, None] + np.arange(per_in)
    # x and the kernel may be views of any strides: indexing avoids the copy that a reshape would make
    deep = (slice(None), slice(None), *(None,) * spec.ndim)
    values = x[(n[(slice(None), *(None,) * (spec.ndim + 1))], channels[deep], *(place[:, None] for place in positions))]
    weights = kernel[channels, (o % per_out)[:, None]] if spec.transposed else kernel[o]
    products = values * weights if inside.all() else np.where(inside[:, None], values * weights, 0.0)
    axes = tuple(range(1, products.ndim))
    y, g = products.sum(axes), np.abs(products).sum(axes)
    if layer.params.bias is not None:
        b = layer.params.bias[o]
        y, g = y + b, g + np.abs(b)
    return y, g


def _input_positions(
    spec: ConvSpec, sizes: tuple[int, ...], spatial: tuple[Indices, ...]
) -> tuple[list[Indices], Mask]:
    """Return each tap's input position for outputs at ``spatial``, one array per axis, and whether it exists.

    The arrays broadcast to ``(P, *kernel)``.
    """
    pads, _ = resolve_padding(spec, sizes)
    positions: list[Indices] = []
    inside: Any = np.ones((1,) * (1 + spec.ndim), bool)
    axes = zip(spatial, sizes, spec.kernel_size, spec.stride, spec.dilation, pads, strict=True)
    for axis, (place, size, k, s, d, (lo, _)) in enumerate(axes):
        taps = np.arange(k) * d
        if spec.transposed:
            scattered = place[:, None] + lo - taps
            index, valid = scattered // s, scattered % s == 0
        else:
            index, valid = place[:, None] * s + taps - lo, True
        if spec.padding_mode == "zeros":
            valid = valid & (index >= 0) & (index < size)
        along = (len(place), *(k if a == axis else 1 for a in range(spec.ndim)))
        positions.append(_fold(index, size, spec.padding_mode).reshape(along))
        if valid is not True:
            inside = inside & valid.reshape(along)
    return positions, inside


def _fold(index: Indices, size: int, mode: str) -> Indices:
    """Return the position inside an axis that a position in its padding copies."""
    if mode == "circular":
        return index % size
    if mode == "reflect" and size > 1:
        folded: Indices = np.abs(index) % (2 * (size - 1))
        return np.minimum(folded, 2 * (size - 1) - folded)
    inside: Indices = np.clip(index, 0, max(size - 1, 0))
    return inside

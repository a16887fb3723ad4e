"""Single elements of a layer's output: enough to tell that a mistake was not the one, without computing the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convspec.diagnosis.faulty_layer import FILL
from convspec.spec import product, resolve_padding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.diagnosis.faulty_layer import Array, Layer
    from convspec.spec import ConvSpec

    Indices: TypeAlias = NDArray[np.intp]
    Mask: TypeAlias = NDArray[np.bool_]


def evaluate(layer: Layer, shape: tuple[int, ...], points: tuple[Indices, ...]) -> tuple[Array, Array] | None:
    """Values ``(P,)``, unfinished, and magnitudes of the output at ``points``; None where its shape is not ``shape``.

    Args:
        points: one array ``(P,)`` of indices for each axis of the output.

    Raises:
        ShapeError, ParamsError: where such a layer cannot be computed at all.
    """
    own = layer.output_shape
    places = layer.places()
    if (own if places is None else places.shape) != shape:
        return None
    layer.params.check(layer.spec)
    if places is None:
        y, g = _sums(layer, *points)
    elif not product(own):
        y = g = np.zeros(len(points[0]))
    else:
        filled = places[points] == FILL
        at = np.unravel_index(np.where(filled, 0, places[points]), own)
        y, g = (np.where(filled, 0.0, values) for values in _sums(layer, *at))
    if layer.added is not None:
        added = layer.addition(shape)[points]
        y, g = y + added, g + np.abs(added)
    return y, g


@np.errstate(all="ignore")
def _sums(layer: Layer, n: Indices, o: Indices, *spatial: Indices) -> tuple[Array, Array]:
    """Σxw + b and Σ|x||w| + |b| for samples ``n``, channels ``o`` and places ``spatial`` of the convolution."""
    spec, x, kernel = layer.spec, layer.x, layer.params.kernel
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    cells, seen = _cells(spec, x.shape[2:], spatial)
    channels = (o // per_out * per_in)[:, None] + np.arange(per_in)
    # x and the kernel may be views of any strides: they are indexed as they are, since a reshape would copy them whole
    deep = (slice(None), slice(None), *(None,) * spec.ndim)
    values = x[(n[(slice(None), *(None,) * (spec.ndim + 1))], channels[deep], *(cell[:, None] for cell in cells))]
    weights = kernel[channels, (o % per_out)[:, None]] if spec.transposed else kernel[o]
    products = values * weights if seen.all() else np.where(seen[:, None], values * weights, 0.0)
    axes = tuple(range(1, products.ndim))
    y, g = products.sum(axes), np.abs(products).sum(axes)
    if layer.params.bias is not None:
        b = layer.params.bias[o]
        y, g = y + b, g + np.abs(b)
    return y, g


def _cells(spec: ConvSpec, sizes: tuple[int, ...], spatial: tuple[Indices, ...]) -> tuple[list[Indices], Mask]:
    """For outputs at ``spatial`` the input cell of every tap, one array for each axis, and whether there is one.

    The arrays broadcast to ``(P, *kernel)``.
    """
    pads, _ = resolve_padding(spec, sizes)
    cells: list[Indices] = []
    seen: Any = np.ones((1,) * (1 + spec.ndim), bool)
    axes = zip(spatial, sizes, spec.kernel_size, spec.stride, spec.dilation, pads, strict=True)
    for axis, (place, size, k, s, d, (lo, _)) in enumerate(axes):
        taps = np.arange(k) * d
        if spec.transposed:
            scattered = place[:, None] + lo - taps
            index, there = scattered // s, scattered % s == 0
        else:
            index, there = place[:, None] * s + taps - lo, True
        if spec.padding_mode == "zeros":
            there = there & (index >= 0) & (index < size)
        along = (len(place), *(k if a == axis else 1 for a in range(spec.ndim)))
        cells.append(_folded(index, size, spec.padding_mode).reshape(along))
        if there is not True:
            seen = seen & there.reshape(along)
    return cells, seen


def _folded(index: Indices, size: int, mode: str) -> Indices:
    """The cell inside an axis that a cell of its padding is a copy of."""
    if mode == "circular":
        return index % size
    if mode == "reflect" and size > 1:
        folded: Indices = np.abs(index) % (2 * (size - 1))
        return np.minimum(folded, 2 * (size - 1) - folded)
    inside: Indices = np.clip(index, 0, max(size - 1, 0))
    return inside

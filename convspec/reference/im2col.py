"""The three contractions of Σ x[b, i·s + j·d] · w[a, b, j] · y[a, i], each a sum over two of the arrays.

Here i runs over the *places* of the window, j over its taps, s is the stride and d the dilation. The caller pads.

* :func:`correlate` gives y from x and w: the convolution;
* :func:`scatter` gives x from y and w: the transposed convolution, and the gradient of x;
* :func:`contract` gives w from x and y: the gradient of the kernel.

All arrays are float64, hold one sample, and carry the groups on an axis of their own: x is ``(g, B, *size)``, y
``(g, A, *places)`` and w ``(g, A, B, *taps)``. The work is done by matrix products on *columns*, the inputs of every
tap of every channel, for one block of places at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Sizes: TypeAlias = tuple[int, ...]

_LEAD = (slice(None), slice(None))  # all groups, all channels

# Elements in the columns of one block, 512 KiB; measured: they should fit a core's second-level cache. The allocator
# returns twice as many to the system after each call, and then page faults cost more than the products.
_BLOCK = 1 << 16
# With fewer places per block, loading the kernel costs more than the products.
_FEWEST = 256
# Places along the last axis that one band matrix covers.
_TILE = 14


def correlate(x: Array, w: Array, stride: Sizes, dilation: Sizes, out: Array, *, add: bool = False) -> None:
    """Set ``out[g, a, i]`` to the sum over b and j of ``x[g, b, i·s + j·d] · w[g, a, b, j]``, or add that to it."""
    if not out.size:
        return  # the last place of an empty axis would be -1, which wraps a slice around
    if w.shape[1:3] == (1, 1) and not add and _banded(w.shape[3:], stride, dilation) and bool(np.isfinite(x).all()):
        _correlate_bands(x[:, 0], w[:, 0, 0], stride, dilation, out[:, 0])
        return
    matrix = w.reshape(*w.shape[:2], -1)
    flat = out.reshape(*out.shape[:2], -1)
    for g, part, columns in columns_of(x, w.shape[3:], out.shape[2:], stride, dilation, x.size + w.size + out.size):
        if add:
            flat[g, :, part] += matrix[g] @ columns
        else:
            np.matmul(matrix[g], columns, out=flat[g, :, part])


def contract(x: Array, y: Array, stride: Sizes, dilation: Sizes, out: Array) -> None:
    """Add to ``out[g, a, b, j]`` the sum over i of ``x[g, b, i·s + j·d] · y[g, a, i]``."""
    flat = y.reshape(*y.shape[:2], -1)
    for g, part, columns in columns_of(x, out.shape[3:], y.shape[2:], stride, dilation, x.size + y.size + out.size):
        out[g] += (flat[g, :, part] @ columns.swapaxes(1, 2)).reshape(out[g].shape)


def scatter(y: Array, w: Array, stride: Sizes, dilation: Sizes, first: Sizes, out: Array) -> None:
    """Add to ``out[g, b, i·s + j·d - first]``, if it exists, the sum over a of ``y[g, a, i] · w[g, a, b, j]``."""
    _, rows, channels, *taps = w.shape
    places, budget = y.shape[2:], y.size + w.size + out.size
    if rows == 1:
        _scatter_singly(y[:, 0], w[:, 0], stride, dilation, first, out)
        return
    for g in _batches(len(y), channels * prod(taps), min(prod(places), 2 * _FEWEST)):
        matrix = w[g].reshape(len(w[g]), rows, -1).swapaxes(1, 2)
        flat, target = y[g].reshape(*y[g].shape[:2], -1), out[g]
        for index, part in _blocks(places, _limit(matrix.shape[0] * matrix.shape[1], budget)):
            sizes = (i.stop - i.start for i in index)
            columns = (matrix @ flat[..., part]).reshape(len(matrix), channels, *taps, *sizes)
            for tap in np.ndindex(*taps):
                to, source = _overlap(index, tap, stride, dilation, first, out.shape[2:])
                target[(*_LEAD, *to)] += columns[(*_LEAD, *tap, *source)]


def _banded(taps: Sizes, stride: Sizes, dilation: Sizes) -> bool:
    """Return whether band matrices are faster for one channel's filter: at most 5 times the products, but by BLAS."""
    return len(taps) > 1 and (_TILE - 1) * stride[-1] + (taps[-1] - 1) * dilation[-1] + 1 <= 5 * taps[-1]


def _correlate_bands(x: Array, w: Array, stride: Sizes, dilation: Sizes, out: Array) -> None:
    """Compute :func:`correlate` for one channel per group, ``(g, *size)``, by matrices with a row of taps per column.

    For finite ``x`` only: the zeros beside the band are multiplied with inputs that no tap reads.
    """
    (k, s, d), last = (w.shape[-1], stride[-1], dilation[-1]), out.shape[-1]
    for left in range(0, last, _TILE):
        tile = min(_TILE, last - left)
        band = np.zeros((len(w), (tile - 1) * s + (k - 1) * d + 1, tile))
        by_group, by_input, by_place = band.strides
        diagonals = as_strided(band, (len(w), k, tile), (by_group, d * by_input, s * by_input + by_place))
        rows = band.reshape(len(w), *(1,) * (w.ndim - 3), *band.shape[1:])
        total = np.zeros((*out.shape[:-1], tile))
        for tap in np.ndindex(*w.shape[1:-1]):
            diagonals[...] = w[(slice(None), *tap)][..., None]
            starts = [j * e for j, e in zip(tap, dilation[:-1], strict=True)]
            seen = [
                slice(a, a + (n - 1) * t + 1, t) for a, n, t in zip(starts, out.shape[1:-1], stride[:-1], strict=True)
            ]
            total += x[(slice(None), *seen, slice(left * s, left * s + band.shape[1]))] @ rows
        out[..., left : left + tile] = total


def _scatter_singly(y: Array, w: Array, stride: Sizes, dilation: Sizes, first: Sizes, out: Array) -> None:
    """:func:`scatter` where each group has one ``y[g, i]``: tap by tap, as there is nothing to sum over."""
    places = y.shape[1:]
    index = [slice(0, n) for n in places]
    for g in _batches(len(y), w.shape[1], prod(places)):
        values, target = y[g][:, None], out[g]
        for tap in np.ndindex(*w.shape[2:]):
            to, source = _overlap(index, tap, stride, dilation, first, out.shape[2:])
            weights = w[(g, slice(None), *tap)].reshape(-1, w.shape[1], *(1,) * len(places))
            target[(*_LEAD, *to)] += values[(*_LEAD, *source)] * weights


def _overlap(
    index: Sequence[slice], tap: Sizes, stride: Sizes, dilation: Sizes, first: Sizes, size: Sizes
) -> tuple[list[slice], list[slice]]:
    """Return the targets of one tap's products within ``size``, and their sources among the block's places."""
    target, source = [], []
    for places, j, s, d, lo, n in zip(index, tap, stride, dilation, first, size, strict=True):
        shift = j * d - lo
        start = max(places.start, -(shift // s))
        stop = min(places.stop, (n - 1 - shift) // s + 1)
        inside = start < stop
        target.append(slice(start * s + shift, (stop - 1) * s + shift + 1, s) if inside else slice(0))
        source.append(slice(start - places.start, stop - places.start) if inside else slice(0))
    return target, source


def columns_of(
    x: NDArray[Any], taps: Sizes, places: Sizes, stride: Sizes, dilation: Sizes, budget: int
) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
    """Yield runs of groups, blocks of places, their columns ``(g, B·∏taps, places)``, which are reused."""
    rows = x.shape[1] * prod(taps)
    if x.shape[2:] == places and prod(taps) == 1:
        yield slice(None), slice(None), x.reshape(len(x), rows, -1)
        return
    view, lead = _view(x, taps, places, stride, dilation), (slice(None),) * (1 + len(taps))
    store = np.empty(0, x.dtype)
    for g in _batches(len(x), rows, min(prod(places), 2 * _FEWEST)):
        for index, part in _blocks(places, _limit((g.stop - g.start) * rows, budget)):
            seen = view[(g, *lead, *index)]
            store = store if store.size >= seen.size else np.empty(seen.size, x.dtype)
            columns = store[: seen.size].reshape(seen.shape)
            columns[...] = seen
            yield g, part, columns.reshape(len(columns), rows, -1)


def _view(x: NDArray[Any], taps: Sizes, places: Sizes, stride: Sizes, dilation: Sizes) -> NDArray[Any]:
    """Return ``x[g, b, i·s + j·d]`` as ``(g, B, *taps, *places)``, without a copy."""
    steps = x.strides[2:]
    # an axis of length 1 has no step: NumPy rejects one beyond 64 bits
    between_taps = [step * d if n > 1 else 0 for step, d, n in zip(steps, dilation, taps, strict=True)]
    between_places = [step * s if n > 1 else 0 for step, s, n in zip(steps, stride, places, strict=True)]
    shape = (*x.shape[:2], *taps, *places)
    return as_strided(x, shape, (*x.strides[:2], *between_taps, *between_places), writeable=False)


def _batches(groups: int, rows: int, places: int) -> Iterator[slice]:
    """Return all groups in runs that fit one block, with ``rows`` numbers for each place and group."""
    many = max(_BLOCK // (rows * max(places, 1)), 1)
    return (slice(g, min(g + many, groups)) for g in range(0, groups, many))


def _limit(rows: int, budget: int) -> int:
    """Return the number of places per block, with ``rows`` numbers each."""
    return max(min(max(_BLOCK // rows, _FEWEST), budget // rows), 1)


def _blocks(places: Sizes, limit: int) -> Iterator[tuple[tuple[slice, ...], slice]]:
    """Yield all places in even blocks of at most ``limit``: a slice per axis, and a slice of the flattened places."""
    inner, axis = 1, len(places) - 1
    while axis > 0 and inner * places[axis] <= limit:
        inner, axis = inner * places[axis], axis - 1
    if not prod(places):
        return
    parts = -(-places[axis] // max(limit // inner, 1))
    step = -(-places[axis] // parts)
    start = 0
    for outer in np.ndindex(*places[:axis]):
        for low in range(0, places[axis], step):
            high = min(low + step, places[axis])
            index = (*(slice(i, i + 1) for i in outer), slice(low, high), *(slice(0, n) for n in places[axis + 1 :]))
            stop = start + (high - low) * inner
            yield index, slice(start, stop)
            start = stop

"""The three faces of one trilinear form, Σ x[b, i·s + j·d] · w[a, b, j] · y[a, i], each summed over two of its arrays.

Here i runs over the *places* of a kernel, j over its taps, s is the stride and d the dilation. With padding done by
the caller,

* :func:`correlate` gives y from x and w: the convolution;
* :func:`scatter` gives x from y and w: the transposed convolution, and the gradient of x;
* :func:`contract` gives w from x and y: the gradient of the kernel.

All arrays are float64 and carry the groups on an axis of their own: x is ``(N, g, B, *size)``, y ``(N, g, A, *places)``
and w ``(g, A, B, *taps)``. The work is done by matrix products on the columns (every tap of every channel) of a block
of places, never of all places at once where that would be large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Sizes: TypeAlias = tuple[int, ...]

# Elements in the columns of one block: half of them fill a core's second-level cache of 1 MiB.
_BLOCK = 1 << 17
# Fewer places than this and the kernel is fetched too often for what is done with it.
_FEWEST = 192


def correlate(x: Array, w: Array, stride: Sizes, dilation: Sizes, out: Array) -> None:
    """Add to ``out[n, g, a, i]`` the sum over b and j of ``x[n, g, b, i·s + j·d] · w[g, a, b, j]``."""
    places, taps = out.shape[3:], w.shape[3:]
    matrix = w.reshape(*w.shape[:2], -1)
    for n in range(len(x)):
        flat = out[n].reshape(*out.shape[1:3], -1)
        for part, columns in _columns(x[n], taps, places, stride, dilation, _budget(x, w, out)):
            flat[..., part] += matrix @ columns


def contract(x: Array, y: Array, stride: Sizes, dilation: Sizes, out: Array) -> None:
    """Add to ``out[g, a, b, j]`` the sum over n and i of ``x[n, g, b, i·s + j·d] · y[n, g, a, i]``."""
    places, taps = y.shape[3:], out.shape[3:]
    matrix = out.reshape(*out.shape[:2], -1)
    for n in range(len(x)):
        flat = y[n].reshape(*y.shape[1:3], -1)
        for part, columns in _columns(x[n], taps, places, stride, dilation, _budget(x, y, out)):
            matrix += flat[..., part] @ columns.swapaxes(1, 2)


def scatter(y: Array, w: Array, stride: Sizes, dilation: Sizes, first: Sizes, out: Array) -> None:
    """Add to ``out[n, g, b, i·s + j·d - first]`` the sum over a of ``y[n, g, a, i] · w[g, a, b, j]``."""
    groups, rows, channels, *taps = w.shape
    matrix = np.moveaxis(w.reshape(groups, rows, channels, -1), 1, 3).swapaxes(1, 2).reshape(groups, -1, rows)
    places, limit = y.shape[3:], _limit(matrix.shape[0] * matrix.shape[1], _budget(y, w, out))
    for n in range(len(y)):
        flat = y[n].reshape(*y.shape[1:3], -1)
        for index, part in _blocks(places, limit):
            columns = matrix @ flat[..., part]
            blocks = columns.reshape(groups, *taps, channels, *(i.stop - i.start for i in index))
            for tap in np.ndindex(*taps):
                target, source = _overlap(index, tap, stride, dilation, first, out.shape[3:])
                out[n][..., *target] += blocks[(slice(None), *tap, slice(None), *source)]


def _overlap(
    index: Sequence[slice], tap: Sizes, stride: Sizes, dilation: Sizes, first: Sizes, size: Sizes
) -> tuple[list[slice], list[slice]]:
    """Where the products of one tap fall within ``size``, and which of the block's places they come from."""
    target, source = [], []
    for places, j, s, d, lo, n in zip(index, tap, stride, dilation, first, size, strict=True):
        shift = j * d - lo
        start = max(places.start, -(shift // s))
        stop = min(places.stop, (n - 1 - shift) // s + 1)
        inside = start < stop
        target.append(slice(start * s + shift, (stop - 1) * s + shift + 1, s) if inside else slice(0))
        source.append(slice(start - places.start, stop - places.start) if inside else slice(0))
    return target, source


def _columns(
    x: Array, taps: Sizes, places: Sizes, stride: Sizes, dilation: Sizes, budget: int
) -> Iterator[tuple[slice, Array]]:
    """Blocks of places, flattened, with what the taps see there: ``(g, B·∏taps, places)``, overwritten by the next."""
    groups, channels, *_ = x.shape
    rows = channels * prod(taps)
    view = _view(x, taps, places, stride, dilation)
    limit = _limit(groups * rows, budget)
    store = np.empty(groups * rows * min(limit, prod(places)))
    for index, part in _blocks(places, limit):
        seen = view[..., *index]
        columns = store[: seen.size].reshape(seen.shape)
        columns[...] = seen
        yield part, columns.reshape(groups, rows, -1)


def _view(x: Array, taps: Sizes, places: Sizes, stride: Sizes, dilation: Sizes) -> Array:
    """``x[g, b, i·s + j·d]`` as ``(g, B, *taps, *places)``, without a copy."""
    steps = x.strides[2:]
    between_taps = [step * d for step, d in zip(steps, dilation, strict=True)]
    between_places = [step * s for step, s in zip(steps, stride, strict=True)]
    shape = (*x.shape[:2], *taps, *places)
    return as_strided(x, shape, (*x.strides[:2], *between_taps, *between_places), writeable=False)


def _budget(*arrays: Array) -> int:
    return sum(a.size for a in arrays)


def _limit(rows: int, budget: int) -> int:
    """How many places a block may have, with ``rows`` numbers each."""
    return max(min(max(_BLOCK // rows, _FEWEST), budget // rows), 1)


def _blocks(places: Sizes, limit: int) -> Iterator[tuple[tuple[slice, ...], slice]]:
    """All places in blocks of at most ``limit``, each as one slice per axis and as a slice of the flattened places."""
    inner, axis = 1, len(places) - 1
    while axis > 0 and inner * places[axis] <= limit:
        inner, axis = inner * places[axis], axis - 1
    if not prod(places):
        return
    step = max(limit // inner, 1)
    start = 0
    for outer in np.ndindex(*places[:axis]):
        for low in range(0, places[axis], step):
            high = min(low + step, places[axis])
            index = (*(slice(i, i + 1) for i in outer), slice(low, high), *(slice(0, n) for n in places[axis + 1 :]))
            stop = start + (high - low) * inner
            yield index, slice(start, stop)
            start = stop

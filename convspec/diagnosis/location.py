"""Where an error lives: in the border, in one group, in every second column, everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import layouts
from convspec.arithmetic import resolve_padding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.diagnosis.layer import Layer

    Ratios = NDArray[np.floating[Any]]
    Mask = NDArray[np.bool_]

_SHADES = "·░▒▓█"
_ROWS, _COLUMNS = 16, 64


@dataclass(frozen=True, slots=True)
class Location:
    """Where the wrong elements are.

    Attributes:
        wrong: how many there are.
        total: of so many.
        where: the smallest region that holds them all, in words.
        picture: one line of text per output row of the worst channel, darker where the error is larger.
        channel: ``(sample, channel)`` of the picture.
    """

    wrong: int
    total: int
    where: str
    picture: tuple[str, ...]
    channel: tuple[int, int]

    @property
    def sentence(self) -> str:
        return f"{self.wrong} of {self.total} elements are wrong: {self.where}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "wrong": self.wrong,
            "total": self.total,
            "where": self.where,
            "picture": list(self.picture),
            "channel": list(self.channel),
        }


def locate(ratios: Ratios, layer: Layer) -> Location | None:
    """The location of the elements ``(N, O, *out)`` whose error exceeds the bound; None where there are none.

    Args:
        ratios: |error| / bound; beyond 1 is wrong.
        layer: the right layer, whose borders and groups the words speak of.
    """
    wrong = ratios > 1
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    regions = [(words, mask) for words, mask in _regions(wrong.shape, layer) if not (wrong & ~mask).any()]
    words = min(regions, key=lambda region: np.count_nonzero(region[1]))[0] if regions else "everywhere"
    worst = np.unravel_index(
        int(np.argmax(np.where(wrong, ratios, 0).reshape(*wrong.shape[:2], -1).sum(-1))), wrong.shape[:2]
    )
    at = (int(worst[0]), int(worst[1]))
    return Location(count, wrong.size, words, _draw(ratios[at]), at)


def _regions(shape: tuple[int, ...], layer: Layer) -> Iterator[tuple[str, Mask]]:
    """Proper parts of the output that one would look for an error in, each with its name."""
    spec = layer.spec
    everything = np.ones(shape, bool)
    for name, axis in (("sample", 0), ("output channel", 1)):
        for i in range(shape[axis]) if 1 < shape[axis] <= 4096 else ():
            yield f"{name} {i} only", _slab(everything, axis, np.arange(shape[axis]) == i)
    if spec.groups > 1:
        per_group = shape[1] // spec.groups
        for g in range(spec.groups):
            yield f"group {g} only", _slab(everything, 1, np.arange(shape[1]) // per_group == g)
        yield "all groups but the first", _slab(everything, 1, np.arange(shape[1]) >= per_group)
    letters = layouts.spatial_letters(spec.ndim)
    border = np.zeros(shape, bool)
    for i, letter in enumerate(letters):
        axis, size = i + 2, shape[i + 2]
        places = np.arange(size)
        before, after = _padded_outputs(layer, i, size)
        border |= _slab(everything, axis, before | after)
        for words, which in (
            (f"the first place along {letter} only", places == 0),
            (f"the last place along {letter} only", places == size - 1),
            (f"the border before along {letter}, where padding is read", before),
            (f"the border after along {letter}, where padding is read", after),
            (f"both borders along {letter}, where padding is read", before | after),
            (f"everything but the first place along {letter}", places > 0),
            (f"everything but the last place along {letter}", places < size - 1),
            *((f"every {m}. place along {letter}, from {p} on", places % m == p) for m in (2, 3, 4) for p in range(m)),
        ):
            if size > 1 and which.any() and not which.all():
                yield words, _slab(everything, axis, which)
    if border.any() and not border.all():
        yield "the border only, where padding is read", border
        yield "the interior only: where padding is read all is right", ~border


def _slab(everything: Mask, axis: int, which: Mask) -> Mask:
    shape = [1] * everything.ndim
    shape[axis] = -1
    return everything & which.reshape(shape)


def _padded_outputs(layer: Layer, axis: int, size: int) -> tuple[Mask, Mask]:
    """Outputs along a spatial axis whose window reaches into the padding before, and behind, the input."""
    spec, length = layer.spec, layer.x.shape[axis + 2]
    lo, _ = resolve_padding(spec, layer.x.shape[2:])[0][axis]
    ke, s = spec.effective_kernel[axis], spec.stride[axis]
    if spec.transposed:
        first = np.arange(size) + lo
        return first < ke - 1, first > (length - 1) * s
    first = np.arange(size) * s - lo
    return first < 0, first + ke > length


def _draw(ratios: Ratios) -> tuple[str, ...]:
    """One channel's errors as text: one row for 1-D, the first wrong slice for 3-D; large pictures are thinned."""
    while ratios.ndim > 2:
        ratios = ratios[int(np.argmax([(part > 1).sum() for part in ratios]))]
    rows = np.atleast_2d(ratios)
    rows = _thinned(_thinned(rows, 0, _ROWS), 1, _COLUMNS)
    with np.errstate(divide="ignore"):
        depth = np.clip(1 + np.log10(np.maximum(rows, 1)) // 2, 1, len(_SHADES) - 1)
    depth = np.where(rows > 1, depth, 0).astype(int)
    return tuple("".join(_SHADES[d] for d in row) for row in depth)


def _thinned(values: Ratios, axis: int, most: int) -> Ratios:
    """At most ``most`` places along an axis, each the largest of those that it stands for."""
    size = values.shape[axis]
    if size <= most:
        return values
    step = -(-size // most)
    return np.maximum.reduceat(values, np.arange(0, size, step), axis=axis)

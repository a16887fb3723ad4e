"""Where an error lives: in the border, in one group, in every second column, everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convspec.spec import layouts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.diagnosis.faulty_layer import Layer

    Ratios: TypeAlias = NDArray[np.floating[Any]]
    Mask: TypeAlias = NDArray[np.bool_]

_SHADES = "·░▒▓█"
_ROWS, _COLUMNS = 16, 64
_COARSEST = 2.0**-8  # what rounding to bfloat16 may do to the inputs


@dataclass(frozen=True, slots=True)
class Location:
    """Where the wrong elements are.

    Attributes:
        wrong: how many there are.
        total: of so many.
        where: the smallest region that holds them all, in words.
        largest: the largest |error| / G; infinite where there is a NaN.
        picture: one line of text per output row of the worst channel, darker where the error is larger.
        channel: ``(sample, channel)`` of the picture.
    """

    wrong: int
    total: int
    where: str
    largest: float
    picture: tuple[str, ...]
    channel: tuple[int, int]

    @property
    def sentence(self) -> str:
        size = (
            f"by at most {self.largest:.2g} of Σ|x||w| + |b|" if np.isfinite(self.largest) else "some not even finite"
        )
        small = ": no more than rounding to a coarser format would do" if self.largest <= _COARSEST else ""
        return f"{self.wrong} of {self.total} elements are wrong, {size}{small}; {self.where}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "wrong": self.wrong,
            "total": self.total,
            "where": self.where,
            "largest": self.largest if np.isfinite(self.largest) else str(self.largest),
            "picture": list(self.picture),
            "channel": list(self.channel),
        }


def locate(ratios: Ratios, relative: float, layer: Layer) -> Location | None:
    """The location of the elements ``(N, O, *out)`` whose error exceeds the bound; None where there are none.

    Args:
        ratios: |error| / bound; beyond 1 is wrong.
        relative: the bound, relative to G.
        layer: the right layer, whose borders and groups the words speak of.
    """
    wrong = ratios > 1
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    channels = np.where(wrong, np.minimum(ratios, 1e30), 0.0).reshape(*wrong.shape[:2], -1).sum(-1)
    sample, channel = np.unravel_index(int(np.argmax(channels)), channels.shape)
    at = int(sample), int(channel)
    words = "; ".join(_regions(wrong, layer)) or "everywhere"
    return Location(count, wrong.size, words, float(ratios.max()) * relative, _draw(ratios[at]), at)


def _regions(wrong: Mask, layer: Layer) -> Iterator[str]:
    """What is said of each axis along which not everything is wrong, and of the border as a whole."""
    spec = layer.spec
    letters = ("N", "C", *layouts.spatial_letters(spec.ndim))
    names = ("sample", "output channel", *(f"place along {letter}" for letter in letters[2:]))
    borders = [_padded_outputs(layer, axis, n) for axis, n in enumerate(wrong.shape[2:])]
    for axis, (name, letter) in enumerate(zip(names, letters, strict=True)):
        along = np.asarray(wrong.any(tuple(i for i in range(wrong.ndim) if i != axis)))
        if along.all():
            continue
        if axis == 1 and spec.groups > 1 and np.count_nonzero(along) > 1 and (words := _groups(along, spec.groups)):
            yield words
        elif axis > 1 and (words := _sides(along, *borders[axis - 2])):
            yield f"{words} along {letter}, where padding is read"
        else:
            yield _described(along, name)
    border = np.zeros(wrong.shape, bool)
    for axis, sides in enumerate(borders):
        border |= (sides[0] | sides[1]).reshape(-1, *(1,) * (len(borders) - 1 - axis))
    if border.any() and not border.all():
        if not (wrong & ~border).any():
            yield "in the border only, where padding is read"
        elif not (wrong & border).any():
            yield "in the interior only: where padding is read all is right"


def _groups(along: Mask, groups: int) -> str:
    """Which groups of channels, if whole groups are meant."""
    bad = np.flatnonzero(along.reshape(groups, -1).any(1))
    if len(bad) == groups:
        return ""
    return f"group{'s' * (len(bad) > 1)} {_listed(bad)} only (of {groups})"


def _sides(along: Mask, before: Mask, after: Mask) -> str:
    """Which of the borders, if they hold all."""
    for words, border in (
        ("the border before", before), ("the border after", after), ("the borders", before | after)
    ):  # fmt: skip
        if border.any() and not border.all() and not (along & ~border).any():
            return words
    return ""


def _described(along: Mask, name: str) -> str:
    """The places of one axis that are wrong."""
    bad = np.flatnonzero(along)
    steps = np.unique(np.diff(bad))
    if len(bad) > 2 and len(steps) == 1 and steps[0] > 1:
        return f"every {_ordinal(int(steps[0]))} {name}, from {bad[0]} to {bad[-1]}"
    if len(bad) > 1 and list(steps) == [1]:
        right = len(along) - len(bad)
        first, last = bad[0] == 0, bad[-1] == len(along) - 1
        if right <= 2 and (first or last):
            which = "last" if first else "first"
            return f"every {name} but the {which}{f' {right}' if right > 1 else ''}"
        return f"{_plural(name)} {bad[0]} to {bad[-1]} only (of {len(along)})"
    if len(bad) == 1:
        return (
            f"{name}: {bad[0]} only (of {len(along)})" if "place" in name else f"{name} {bad[0]} only (of {len(along)})"
        )
    return f"{name}: {_listed(bad)} only (of {len(along)})"


def _plural(name: str) -> str:
    return name.replace("place", "places") if "place" in name else f"{name}s"


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third", 4: "fourth"}.get(n, f"{n}th")


def _listed(numbers: NDArray[np.intp]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return shown if len(numbers) <= 8 else f"{shown}, …"


def _padded_outputs(layer: Layer, axis: int, size: int) -> tuple[Mask, Mask]:
    """Outputs along a spatial axis whose window reaches into the padding before, and behind, the input."""
    spec, length = layer.spec, layer.x.shape[axis + 2]
    lo, _ = layer.pads[axis]
    ke, s = spec.effective_kernel[axis], spec.stride[axis]
    first = np.arange(size)
    if spec.transposed:
        return first + lo < ke - 1, first + lo > (length - 1) * s
    return first * s - lo < 0, first * s - lo + ke > length


def _draw(ratios: Ratios) -> tuple[str, ...]:
    """One channel's errors as text: one row for 1-D, the worst slice for 3-D; large pictures are thinned."""
    while ratios.ndim > 2:
        ratios = ratios[int(np.argmax([(part > 1).sum() for part in ratios]))]
    rows = _thinned(_thinned(np.atleast_2d(ratios), 0, _ROWS), 1, _COLUMNS)
    depth = np.clip(1 + np.log10(np.clip(rows, 1, 1e30)) // 2, 1, len(_SHADES) - 1)
    depth = np.where(rows > 1, depth, 0).astype(int)
    return tuple("".join(_SHADES[d] for d in row) for row in depth)


def _thinned(values: Ratios, axis: int, most: int) -> Ratios:
    """At most ``most`` places along an axis, each the largest of those that it stands for."""
    size = values.shape[axis]
    if size <= most:
        return values
    step = -(-size // most)
    return np.maximum.reduceat(values, np.arange(0, size, step), axis=axis)

"""Error position: the border, one group, every second column, everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.diagnosis.faulty_layer import Array, Layer
from convspec.spec import layouts

Mask: TypeAlias = NDArray[np.bool_]

_SHADES = "·░▒▓█"
_ORDINALS = {2: "second", 3: "third", 4: "fourth"}
_ROWS, _COLUMNS = 16, 64
_COARSEST = 2.0**-8  # the relative error of rounding to bfloat16


@dataclass(frozen=True, slots=True)
class Location:
    """The position of the wrong elements.

    Attributes:
        wrong: number of wrong elements.
        total: number of elements.
        where: the smallest region that holds all wrong elements, in words.
        largest: the largest |error| / G; infinite if there is a NaN.
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
        finite = np.isfinite(self.largest)
        size = f"by at most {self.largest:.2g} of Σ|x||w| + |b|" if finite else "some are not finite"
        small = ", no more than rounding to a coarser format gives" if self.largest <= _COARSEST else ""
        return f"{self.wrong} of {self.total} elements are wrong, {size}{small}; {self.where}"

    def to_dict(self) -> dict[str, Any]:
        """Return the location, JSON-ready."""
        largest = self.largest if np.isfinite(self.largest) else str(self.largest)
        return asdict(self) | {"largest": largest, "picture": list(self.picture), "channel": list(self.channel)}


def locate(ratios: Array, relative: float, layer: Layer) -> Location | None:
    """Return the position of the elements ``(N, O, *out)`` whose error exceeds the bound; None if there are none.

    Args:
        ratios: |error| / bound; wrong if beyond 1.
        relative: the bound, relative to G.
        layer: the right layer, with the borders and groups that the words name.
    """
    wrong = ratios > 1
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    channels = np.where(wrong, np.minimum(ratios, 1e30), 0.0).reshape(*wrong.shape[:2], -1).sum(-1)
    sample, channel = np.unravel_index(int(np.argmax(channels)), channels.shape)
    worst = int(sample), int(channel)
    words = "; ".join(_regions(wrong, layer)) or "everywhere"
    return Location(count, wrong.size, words, float(ratios.max()) * relative, _draw(ratios[worst]), worst)


def _regions(wrong: Mask, layer: Layer) -> Iterator[str]:
    """Describe each axis along which some places have no wrong element, then the border as a whole."""
    spec = layer.spec
    names = [("sample", ""), ("output channel", "")]
    names += [("position", f" along {letter}") for letter in layouts.spatial_letters(spec.ndim)]
    borders = [_border(layer, axis, n) for axis, n in enumerate(wrong.shape[2:])]
    for axis, (noun, along) in enumerate(names):
        bad = np.asarray(wrong.any(tuple(i for i in range(wrong.ndim) if i != axis)))
        if bad.all():
            continue
        if axis == 1 and spec.groups > 1 and np.count_nonzero(bad) > 1 and (words := _groups(bad, spec.groups)):
            yield words
        elif axis > 1 and (words := _sides(bad, *borders[axis - 2])):
            yield f"{words}{along}, where windows read padding"
        else:
            yield _describe(bad, noun, along)
    border = np.zeros(wrong.shape, bool)
    for axis, sides in enumerate(borders):
        border |= (sides[0] | sides[1]).reshape(-1, *(1,) * (len(borders) - 1 - axis))
    if border.any() and not border.all():
        if not (wrong & ~border).any():
            yield "in the border only, where windows read padding"
        elif not (wrong & border).any():
            yield "in the interior only: where windows read padding, all elements are right"


def _groups(bad: Mask, groups: int) -> str:
    """Name the groups of channels with a wrong element; empty if all groups have one."""
    (wrong,) = np.nonzero(bad.reshape(groups, -1).any(1))
    return "" if len(wrong) == groups else _only("group", wrong, "", groups)


def _sides(bad: Mask, start: Mask, end: Mask) -> str:
    """Name the border that holds all wrong elements; empty if none does."""
    for words, border in (("the leading border", start), ("the trailing border", end), ("both borders", start | end)):
        if border.any() and not border.all() and not (bad & ~border).any():
            return words
    return ""


def _describe(bad: Mask, noun: str, along: str) -> str:
    """Name the wrong places of one axis."""
    (wrong,) = np.nonzero(bad)
    steps = np.unique(np.diff(wrong))
    if len(wrong) > 2 and len(steps) == 1 and steps[0] > 1:
        return f"every {_ORDINALS.get(int(steps[0]), f'{steps[0]}th')} {noun}{along}, from {wrong[0]} to {wrong[-1]}"
    if list(steps) != [1]:
        return _only(noun, wrong, along, len(bad))
    right = len(bad) - len(wrong)
    if right <= 2 and (bad[0] or bad[-1]):
        return f"every {noun}{along} but the {'last' if bad[0] else 'first'}{f' {right}' if right > 1 else ''}"
    return f"{noun}s {wrong[0]} to {wrong[-1]}{along} only (of {len(bad)})"


def _only(noun: str, wrong: NDArray[np.intp], along: str, total: int) -> str:
    shown = ", ".join(map(str, wrong[:8])) + (", …" if len(wrong) > 8 else "")
    return f"{noun}{'s' * (len(wrong) > 1)} {shown}{along} only (of {total})"


def _border(layer: Layer, axis: int, size: int) -> tuple[Mask, Mask]:
    """Return the outputs along a spatial axis whose window reads padding before, and after, the input."""
    spec, length = layer.spec, layer.x.shape[axis + 2]
    lo, _ = layer.pads[axis]
    ke, s = spec.effective_kernel[axis], spec.stride[axis]
    first = np.arange(size)
    if spec.transposed:
        return first + lo < ke - 1, first + lo > (length - 1) * s
    return first * s - lo < 0, first * s - lo + ke > length


def _draw(ratios: Array) -> tuple[str, ...]:
    """Draw one channel's errors as text: one row for 1-D, the worst slice for 3-D; large pictures are thinned."""
    while ratios.ndim > 2:
        ratios = ratios[int(np.argmax([(part > 1).sum() for part in ratios]))]
    rows = _thin(_thin(np.atleast_2d(ratios), 0, _ROWS), 1, _COLUMNS)
    depth = np.clip(1 + np.log10(np.clip(rows, 1, 1e30)) // 2, 1, len(_SHADES) - 1)
    depth = np.where(rows > 1, depth, 0).astype(int)
    return tuple("".join(_SHADES[d] for d in row) for row in depth)


def _thin(values: Array, axis: int, most: int) -> Array:
    """Return at most ``most`` places along an axis, each the largest of its neighbourhood."""
    step = -(-values.shape[axis] // most)
    return np.maximum.reduceat(values, np.arange(0, values.shape[axis], step), axis=axis) if step > 1 else values

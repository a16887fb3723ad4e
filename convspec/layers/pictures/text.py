"""Drawings in text: the inputs that one output reads, or the outputs that one input of a transposed layer writes.

===== ================================ ==================================================
sign  convolution: one output reads    transposed: one input writes
===== ================================ ==================================================
``■`` an input                         an output
``▨`` a pad                            a cropped element
``□`` (an input that is not read)      (an output that is not written)
``·`` (a pad that is not read)         (a cropped element that is not written)
``+``                                  an output beyond the last product: only the bias
===== ================================ ==================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convspec.layers.pictures import geometry
from convspec.layers.pictures.geometry import Axis
from convspec.spec import ConvSpec, layouts

READ, READ_PAD, CELL, PAD, BEYOND = "■▨□·+"
MOST_CELLS = 26
_MOST_ROWS = 6
_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Strip:
    """The signs along one spatial axis, and the marked ones of each position.

    Attributes:
        cells: inputs and pads; of a transposed layer the full result, with cropped elements as pads.
        marked: for every output (input of a transposed layer) the indices that it reads (writes).
    """

    cells: str
    marked: tuple[frozenset[int], ...]

    def row(self, place: int) -> str:
        """Return the signs, with those of ``place`` filled."""
        return "".join(_filled(c) if i in self.marked[place] else c for i, c in enumerate(self.cells))


def strips(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Strip, ...]:
    """Return one strip for each axis of a layer, for an input of that size.

    Raises:
        ShapeError: if the layer has no output for it.
    """
    return tuple(_scattered(axis) if axis.transposed else _gathered(axis) for axis in geometry.axes(spec, spatial))


def _cells(axis: Axis) -> int:
    if axis.transposed:
        return max(axis.full, axis.before + axis.output)
    return axis.before + axis.length + axis.after


def _gathered(axis: Axis) -> Strip:
    marked = tuple(frozenset(cell + axis.before for cell, _ in axis.reads(i)) for i in range(axis.output))
    return Strip(PAD * axis.before + CELL * axis.length + PAD * axis.after, marked)


def _scattered(axis: Axis) -> Strip:
    """Return the full result: cropped, kept, beyond its end."""
    starts = range(0, axis.length * axis.stride, axis.stride)
    kept = max(min(axis.full, axis.before + axis.output) - axis.before, 0)
    cells = PAD * axis.before + CELL * kept + BEYOND * (axis.output - kept)
    cropped = PAD * max(axis.full - axis.before - axis.output, 0)
    return Strip(cells + cropped, tuple(frozenset(range(i, i + axis.span, axis.dilation)) for i in starts))


def small(spec: ConvSpec, spatial: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return sizes that can be drawn: the given ones if they are small, else smaller ones, equal modulo the stride.

    The pads of ``"same"`` depend on the size modulo the stride, so the drawing has the pads of the given size.
    """
    fixed = ((0, 0),) * spec.ndim if isinstance(spec.padding, str) else spec.padding
    chosen = []
    for axis, (ke, s, (lo, hi)) in enumerate(zip(spec.effective_kernel, spec.stride, fixed, strict=True)):
        least = max(ke + 2 * s - lo - hi, ke, max(lo, hi) + 1, 4)
        if spec.transposed:
            least = max(3, -(-(lo + hi - ke) // s) + 3)
        given = None if spatial is None else spatial[axis]
        if given is not None and given <= (4 if spec.transposed else max(least, 12)):
            chosen.append(given)
        else:
            chosen.append(least + (0 if given is None else (given - least) % s))
    return tuple(chosen)


def lines(spec: ConvSpec, spatial: Sequence[int]) -> list[str]:
    """Return the drawing: grids of a 2-D layer side by side, else rows of each axis; empty if it would be too wide."""
    if any(_cells(axis) > MOST_CELLS for axis in geometry.axes(spec, spatial)):
        return []
    drawn = strips(spec, spatial)
    if not all(strip.marked for strip in drawn):
        return []
    if spec.ndim == 2:
        return _grids(spec, drawn)
    rows: list[str] = []
    for letter, strip in zip(layouts.spatial_letters(spec.ndim), drawn, strict=True):
        rows += ([f"along {letter}"] if spec.ndim > 1 else []) + _rows(spec, strip)
    return rows


def legend(spec: ConvSpec, drawn: Sequence[str]) -> str:
    """Return the meaning of the signs that occur in a drawing."""
    words = _TRANSPOSED if spec.transposed else _REGULAR
    text = "".join(drawn)
    return ", ".join(f"{sign} {word}" for sign, word in words.items() if sign in text)


_REGULAR = {READ: "read", READ_PAD: "read padding", CELL: "not read", PAD: "padding"}
_TRANSPOSED = {
    READ: "written", READ_PAD: "written and cropped", CELL: "output", PAD: "cropped", BEYOND: "beyond the last product",
}  # fmt: skip


def _rows(spec: ConvSpec, strip: Strip) -> list[str]:
    """Return one row for each position, without the middle ones of many."""
    name = "x" if spec.transposed else "y"
    count = len(strip.marked)
    places = [*range(count)] if count <= _MOST_ROWS else [*range(_MOST_ROWS - 2), None, count - 1]
    width = len(f"{name}[{count - 1}]")
    return ["…" if place is None else f"{f'{name}[{place}]':{width}}  {' '.join(strip.row(place))}" for place in places]


def _grids(spec: ConvSpec, axes: Sequence[Strip]) -> list[str]:
    """Return some neighbouring positions and the last one, side by side as far as they fit."""
    name = "x" if spec.transposed else "y"
    last = (len(axes[0].marked) - 1, len(axes[1].marked) - 1)
    wanted = [(0, 0), (0, 1), (1, 0), last]
    places = [p for p in dict.fromkeys(wanted) if p[0] <= last[0] and p[1] <= last[1]]
    width = 2 * len(axes[1].cells) - 1
    places = places[: max(_WIDTH // (width + 4), 1)]
    rows = [[f"{f'{name}[{i}, {j}]':{width}}" for i, j in places]]
    rows += ([" ".join(_grid_row(axes, place, h, c)) for place in places] for h, c in enumerate(axes[0].cells))
    return ["    ".join(row).rstrip() for row in rows]


def _grid_row(axes: Sequence[Strip], place: tuple[int, int], h: int, cell: str) -> str:
    """Return one row of one grid: a pad if either axis has one."""
    marked = h in axes[0].marked[place[0]]
    plain = (next((sign for sign in (PAD, BEYOND) if sign in (cell, other)), CELL) for other in axes[1].cells)
    read = axes[1].marked[place[1]] if marked else ()
    return "".join(_filled(sign) if w in read else sign for w, sign in enumerate(plain))


def _filled(cell: str) -> str:
    return {CELL: READ, PAD: READ_PAD}.get(cell, cell)

"""Drawings in text: which cells of the input feed which cell of the output.

===== ============================================== ================================================
cell  convolution: one output reads                  transposed: one input writes
===== ============================================== ================================================
``■`` a cell of the input                            a cell of the output
``▨`` a pad                                          a cell that is cropped
``□`` (not read)                                     (not written)
``·`` (a pad that is not read)                       (cropped, not written)
``+``                                                a cell beyond the last product: the bias alone
===== ============================================== ================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convspec import arithmetic, layouts
from convspec.spec import ConvSpec

READ, READ_PAD, CELL, PAD, BEYOND = "■▨□·+"
MOST_CELLS = 26
_MOST_ROWS = 6
_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis: what stands in a row of cells, and which of them each place marks.

    Attributes:
        cells: the row, inputs and pads; of a transposed layer the full result, cropped cells shown as pads.
        marked: for every output (input of a transposed layer) the cells that it reads (writes).
    """

    cells: str
    marked: tuple[frozenset[int], ...]

    def row(self, place: int) -> str:
        """The cells, those that belong to ``place`` filled."""
        return "".join(_filled(c) if i in self.marked[place] else c for i, c in enumerate(self.cells))


def axes_of(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Axis, ...]:
    """The axes of a layer on an input of that size.

    Raises:
        ShapeError: where the layer has no output for it.
    """
    pads, extra = arithmetic.resolve_padding(spec, spatial)
    sizes = arithmetic.output_spatial(spec, spatial)
    axes = []
    for n, out, (lo, hi), ke, s, d, op in zip(
        spatial, sizes, pads, spec.effective_kernel, spec.stride, spec.dilation, extra, strict=True
    ):
        places = n if spec.transposed else out
        marked = tuple(frozenset(range(i * s, i * s + ke, d)) for i in range(places))
        cells = _result(n, out, lo, ke, s, hi, op) if spec.transposed else PAD * lo + CELL * n + PAD * hi
        axes.append(Axis(cells, marked))
    return tuple(axes)


def _result(n: int, out: int, lo: int, ke: int, s: int, hi: int, op: int) -> str:
    """The full result of a transposed axis: cropped, kept, beyond."""
    full = (n - 1) * s + ke if n else 0
    kept = max(min(full, lo + out) - lo, 0)
    return PAD * lo + CELL * kept + BEYOND * max(op - hi, 0) + PAD * max(full - lo - out, 0)


def small(spec: ConvSpec, spatial: Sequence[int] | None = None) -> tuple[int, ...]:
    """Sizes that can be drawn: those given where they are small, else smaller ones that leave the same rests.

    ``"same"`` pads by the rest that the stride leaves of a size, so the drawing's pads are those of the given size.
    """
    fixed = ((0, 0),) * spec.ndim if isinstance(spec.padding, str) else spec.padding
    chosen = []
    for axis, (ke, s, (lo, hi)) in enumerate(zip(spec.effective_kernel, spec.stride, fixed, strict=True)):
        least = 3 if spec.transposed else max(ke + 2 * s - lo - hi, ke, max(lo, hi) + 1, 4)
        given = None if spatial is None else spatial[axis]
        if given is not None and given <= (4 if spec.transposed else max(least, 12)):
            chosen.append(given)
        else:
            chosen.append(least + (0 if given is None else (given - least) % s))
    return tuple(chosen)


def lines(spec: ConvSpec, spatial: Sequence[int]) -> list[str]:
    """The drawing: grids of a 2-D layer side by side, rows of each axis otherwise; empty where it would be too wide."""
    axes = axes_of(spec, spatial)
    if any(len(axis.cells) > MOST_CELLS for axis in axes) or not all(axis.marked for axis in axes):
        return []
    if spec.ndim == 2:
        return _grids(spec, axes)
    found = []
    for letter, axis in zip(layouts.spatial_letters(spec.ndim), axes, strict=True):
        found += ([f"along {letter}"] if spec.ndim > 1 else []) + _rows(spec, axis)
    return found


def legend(spec: ConvSpec, drawn: Sequence[str]) -> str:
    """What the signs of a drawing mean, those that occur in it."""
    words = _TRANSPOSED if spec.transposed else _REGULAR
    text = "".join(drawn)
    return ", ".join(f"{sign} {word}" for sign, word in words.items() if sign in text)


_REGULAR = {READ: "is read", READ_PAD: "a pad that is read", CELL: "is not read", PAD: "a pad"}
_TRANSPOSED = {
    READ: "is written",
    READ_PAD: "is written and cropped",
    CELL: "of the output",
    PAD: "cropped",
    BEYOND: "beyond the last product",
}


def _rows(spec: ConvSpec, axis: Axis) -> list[str]:
    """One row for each place, the middle ones left out where there are many."""
    name = "x" if spec.transposed else "y"
    count = len(axis.marked)
    places: list[int | None] = list(range(count))
    if count > _MOST_ROWS:
        places = [*range(_MOST_ROWS - 2), None, count - 1]
    width = len(f"{name}[{count - 1}]")
    return ["…" if place is None else f"{f'{name}[{place}]':{width}}  {' '.join(axis.row(place))}" for place in places]


def _grids(spec: ConvSpec, axes: Sequence[Axis]) -> list[str]:
    """Some neighbouring places and the last one, side by side as far as there is room."""
    name = "x" if spec.transposed else "y"
    last = (len(axes[0].marked) - 1, len(axes[1].marked) - 1)
    wanted = [(0, 0), (0, 1), (1, 0), last]
    places = [p for p in dict.fromkeys(wanted) if p[0] <= last[0] and p[1] <= last[1]]
    width = 2 * len(axes[1].cells) - 1
    places = places[: max(_WIDTH // (width + 4), 1)]
    rows = ["    ".join(f"{f'{name}[{i}, {j}]':{width}}" for i, j in places)]
    for h, cell in enumerate(axes[0].cells):
        rows.append("    ".join(" ".join(_grid_row(axes, place, h, cell)) for place in places))
    return [row.rstrip() for row in rows]


def _grid_row(axes: Sequence[Axis], place: tuple[int, int], h: int, cell: str) -> str:
    """One row of one grid: a pad where either axis has one."""
    marked = h in axes[0].marked[place[0]]
    row = []
    for w, other in enumerate(axes[1].cells):
        plain = next((sign for sign in (PAD, BEYOND) if sign in (cell, other)), CELL)
        row.append(_filled(plain) if marked and w in axes[1].marked[place[1]] else plain)
    return "".join(row)


def _filled(cell: str) -> str:
    return {CELL: READ, PAD: READ_PAD}.get(cell, cell)

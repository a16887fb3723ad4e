"""Cells: what one output reads, and what every output of an axis reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from convspec.errors import RequestError
from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.layers.pictures.geometry import Axis, axes
from convspec.spec import ConvSpec, layouts

MOST = 64  # cells along an axis; beyond that nobody can read them
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def cells(spec: ConvSpec, spatial: Sequence[int], output: Sequence[int] | None = None) -> str:
    """The input cells and pads that one output cell reads, of a 1-D or 2-D layer.

    Args:
        spec: the layer.
        spatial: the input's size, one int per spatial axis.
        output: the output cell; default the first.

    Raises:
        RequestError: for another rank, or more than 64 cells along an axis.
        ShapeError: where there is no such output.
    """
    found = _two(spec, spatial)
    chosen = (0,) * spec.ndim if output is None else tuple(output)
    place = (0,) * (2 - spec.ndim) + chosen
    if len(place) != 2 or any(not 0 <= o < axis.output for o, axis in zip(place, found, strict=True)):
        raise RequestError(f"output={chosen} is no cell of an output of {tuple(a.output for a in found)[-spec.ndim :]}")
    sheet = Canvas()
    rows, columns = found
    taps = [dict(axis.reads(o)) for axis, o in zip(found, place, strict=True)]
    low = [-axis.before * (not axis.transposed) for axis in found]
    high = [axis.length + axis.after * (not axis.transposed) for axis in found]
    for y, x in product(range(low[0], high[0]), range(low[1], high[1])):
        inside = 0 <= y < rows.length and 0 <= x < columns.length
        read = y in taps[0] and x in taps[1]
        kind = ("" if inside else "pad") + (" a" if read else "")
        tap = "w" + "".join(str(t[c]) for t, c in [(taps[0], y), (taps[1], x)][-spec.ndim :]) if read else ""
        sheet.cell((x - low[1]) * CELL, 24 + (y - low[0]) * CELL, kind.strip(), tap)
    width = (high[1] - low[1]) * CELL
    size = " × ".join(str(axis.length) for axis in found[-spec.ndim :])
    sheet.text(0, 14, f"input {size}")
    sheet.arrow(width + 12, 24 + CELL / 2, width + 40)
    left = width + 52
    for y, x in product(range(rows.output), range(columns.output)):
        sheet.cell(left + x * CELL, 24 + y * CELL, "b" if (y, x) == place else "")
    after = " × ".join(str(axis.output) for axis in found[-spec.ndim :])
    sheet.text(left, 14, f"output {after}")
    return sheet.render(f"Which input cells output {_listed(chosen)} reads", _told(found[-spec.ndim :], chosen))


def _two(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Axis, Axis]:
    """Two axes; a 1-D layer gets a row of one cell."""
    if spec.ndim > 2:
        raise RequestError(f"a picture has 1 or 2 spatial axes, this layer has {spec.ndim}")
    if len(spatial) != spec.ndim:
        raise RequestError(f"spatial={tuple(spatial)} must have one size per spatial axis ({spec.ndim} here)")
    found = axes(spec, spatial)
    if any(max(axis.length + axis.before + axis.after, axis.output, axis.span) > MOST for axis in found):
        raise RequestError(f"more than {MOST} cells along an axis cannot be read in a picture")
    return (found[0], found[1]) if len(found) == 2 else (Axis(1, 1, 1, 1, 1, 0, 0, 0, False, "zeros"), found[0])


def _told(found: Sequence[Axis], chosen: Sequence[int]) -> str:
    """The same in words: the description of the picture."""
    parts = []
    for axis, letter, o in zip(found, layouts.spatial_letters(len(found)), chosen, strict=True):
        read = sorted(cell for cell, _ in axis.reads(o))
        inside = [cell for cell in read if 0 <= cell < axis.length]
        pads = len(read) - len(inside)
        words = f"along {letter} the input cells {_listed(inside)}" if inside else f"along {letter} no input cell"
        parts.append(words + (f" and {pads} pad{'s' * (pads > 1)}" if pads else ""))
    return f"Output cell {_listed(chosen)} reads {'; '.join(parts)}."


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def windows(layers: Mapping[str, ConvSpec], length: int) -> str:
    """What every output cell of 1-D layers reads, one layer under the other: strides, dilations and pads side by side.

    Args:
        layers: a caption for each 1-D layer.
        length: cells of their input.
    """
    found = {caption: _two(spec, (length,))[1] for caption, spec in layers.items()}
    if any(axis.transposed for axis in found.values()):
        raise RequestError("a transposed layer scatters: see transposed()")
    reach = max(axis.before for axis in found.values())
    sheet, y = Canvas(), 0.0
    for caption, axis in found.items():
        y = window_rows(sheet, y, caption, axis, reach) + 22
    told = "; ".join(f"{caption}: {told_windows(axis)}" for caption, axis in found.items())
    return sheet.render(f"What each output reads: {', '.join(found)}", f"Of an input of {length} cells, {told}.")


def told_windows(axis: Axis) -> str:
    """The rows of an axis in words."""
    reads = ", ".join(f"[{_listed([cell for cell, _ in axis.reads(o)])}]" for o in range(axis.output))
    return f"pads {axis.before} before and {axis.after} after, outputs read {reads}"


def window_rows(sheet: Canvas, y: float, caption: str, axis: Axis, reach: int) -> float:
    """One layer: its padded input, and below it a row of taps for every output; the y below them."""
    sheet.text(0, y + 12, caption, "strong")
    read = {cell for o in range(axis.output) for cell, _ in axis.reads(o)}
    unread = [cell for cell in range(axis.length) if cell not in read]
    if unread:
        words = f"never read: {', '.join(f'x{cell}' for cell in unread)}"
        sheet.text(0, y + 28, words, "warn")
        y += 16
    y += 20
    left = reach * CELL
    for cell in range(-axis.before, axis.length + axis.after):
        inside = 0 <= cell < axis.length
        held = axis.holds(cell)
        word = f"x{cell}" if inside else "0" if held is None else f"x{held}"
        sheet.cell(left + cell * CELL, y, "d" if cell in unread else "" if inside else "pad", word)
    for o in range(axis.output):
        level = y + CELL + 6 + o * 14
        taken = [cell for cell, _ in axis.reads(o)]
        first, last = (left + cell * CELL for cell in (taken[0], taken[-1]))
        sheet.line(first + 4, level + 4, last + CELL - 4, level + 4)
        for cell in taken:
            sheet.cell(left + cell * CELL + CELL / 2 - 5, level, "ab"[o % 2], width=10, height=8)
        sheet.text(left + (axis.length + axis.after) * CELL + 10, level + 9, f"y{o}", "soft")
    return y + CELL + 6 + axis.output * 14


def padding_modes(length: int, pad: int) -> str:
    """What the pads hold in each padding mode, along one axis."""
    sheet, told = Canvas(), []
    for row, mode in enumerate(("zeros", "reflect", "replicate", "circular")):
        (axis,) = axes(ConvSpec(1, 1, (1,), padding=(pad,), padding_mode=mode), (length,))
        held = [(axis.holds(cell), 0 <= cell < length) for cell in range(-pad, length + pad)]
        words = ["0" if source is None else _LETTERS[source] for source, _ in held]
        sheet.text(0, row * 36 + 17, mode, "strong")
        kinds = [("" if inside else "pad" + (" a" if source is not None else "")) for source, inside in held]
        sheet.row(80, row * 36, zip(kinds, words, strict=True))
        told.append(f"{mode}: {' '.join(words[:pad])} before and {' '.join(words[-pad:])} after")
    return sheet.render(
        "What the pads hold", f"An input {' '.join(_LETTERS[:length])} with {pad} pads on each side. {'; '.join(told)}."
    )

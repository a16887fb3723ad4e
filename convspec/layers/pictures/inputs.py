"""The inputs that one output reads, and that every output of an axis reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from convspec.errors import RequestError
from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.layers.pictures.geometry import Axis, axes
from convspec.layers.sentences import times
from convspec.spec import ConvSpec, layouts

MOST = 64  # elements along an axis that are still readable
TOO_LONG = f"a picture has at most {MOST} elements along an axis"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def cells(spec: ConvSpec, spatial: Sequence[int], output: Sequence[int] | None = None) -> str:
    """Draw the input pixels and pads that one output pixel of a 1-D or 2-D layer reads.

    Args:
        spec: the layer.
        spatial: the input's size, one int per spatial axis.
        output: index of the output pixel; default the first.

    Raises:
        RequestError: for another rank, or more than 64 elements along an axis.
        ShapeError: if there is no such output.
    """
    both = _two_axes(spec, spatial)
    own = both[-spec.ndim :]
    chosen = (0,) * spec.ndim if output is None else tuple(output)
    place = (0,) * (2 - spec.ndim) + chosen
    if len(place) != 2 or any(not 0 <= o < axis.output for o, axis in zip(place, both, strict=True)):
        raise RequestError(f"output={chosen} must be inside the output's size, {tuple(axis.output for axis in own)}")
    sheet = Canvas()
    rows, columns = both
    taps = [dict(axis.reads(o)) for axis, o in zip(both, place, strict=True)]
    low = [-axis.before * (not axis.transposed) for axis in both]
    high = [axis.length + axis.after * (not axis.transposed) for axis in both]
    for y, x in product(range(low[0], high[0]), range(low[1], high[1])):
        inside = 0 <= y < rows.length and 0 <= x < columns.length
        read = y in taps[0] and x in taps[1]
        kind = ("" if inside else "pad") + (" a" if read else "")
        tap = "w" + "".join(str(t[c]) for t, c in [(taps[0], y), (taps[1], x)][-spec.ndim :]) if read else ""
        sheet.cell((x - low[1]) * CELL, 24 + (y - low[0]) * CELL, kind.strip(), tap)
    width = (high[1] - low[1]) * CELL
    sheet.text(0, 14, f"input {times([axis.length for axis in own])}")
    sheet.arrow(width + 12, 24 + CELL / 2, width + 40)
    left = width + 52
    for y, x in product(range(rows.output), range(columns.output)):
        sheet.cell(left + x * CELL, 24 + y * CELL, "b" if (y, x) == place else "")
    sheet.text(left, 14, f"output {times([axis.output for axis in own])}")
    return sheet.render(f"Inputs that output ({_listed(chosen)}) reads", _describe(own, chosen))


def drawable_axes(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Axis, ...]:
    """Return every spatial axis of the layer.

    Raises:
        RequestError: if one is too long for a picture.
        ShapeError: if the layer has no output for an input of that size.
    """
    every = axes(spec, spatial)
    if any(max(axis.length + axis.before + axis.after, axis.output, axis.span) > MOST for axis in every):
        raise RequestError(TOO_LONG)
    return every


def _two_axes(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Axis, Axis]:
    """Return two axes; a 1-D layer gets a first axis of length 1."""
    if spec.ndim > 2:
        raise RequestError(f"a picture has 1 or 2 spatial axes, this layer has {spec.ndim}")
    if len(spatial) != spec.ndim:
        raise RequestError(f"spatial={tuple(spatial)} must have one size per spatial axis ({spec.ndim} here)")
    first, *rest = drawable_axes(spec, spatial)
    return (first, rest[0]) if rest else (Axis(1, 1, 1, 1, 1, 0, 0, 0, False, "zeros"), first)


def _describe(drawn: Sequence[Axis], chosen: Sequence[int]) -> str:
    """Return the description of the picture in words."""
    parts = []
    for axis, letter, o in zip(drawn, layouts.spatial_letters(len(drawn)), chosen, strict=True):
        read = sorted(index for index, _ in axis.reads(o))
        inside = [index for index in read if 0 <= index < axis.length]
        pads = len(read) - len(inside)
        words = f"along {letter} the inputs {_listed(inside)}" if inside else f"along {letter} no input"
        parts.append(words + (f" and {pads} pad{'s' * (pads > 1)}" if pads else ""))
    return f"Output ({_listed(chosen)}) reads {'; '.join(parts)}."


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def windows(layers: Mapping[str, ConvSpec], length: int) -> str:
    """Draw the inputs that every output of 1-D layers reads, one layer below the other.

    Args:
        layers: the 1-D layers by caption.
        length: number of elements of their input.
    """
    drawn = {caption: _two_axes(spec, (length,))[1] for caption, spec in layers.items()}
    if any(axis.transposed for axis in drawn.values()):
        raise RequestError("a transposed layer scatters: draw it with scatter()")
    reach = max(axis.before for axis in drawn.values())
    sheet, y = Canvas(), 0.0
    for caption, axis in drawn.items():
        y = window_rows(sheet, y, caption, axis, reach) + 22
    texts = "; ".join(f"{caption}: {describe_windows(axis)}" for caption, axis in drawn.items())
    title = f"Inputs that each output reads: {', '.join(drawn)}"
    return sheet.render(title, f"Of an input of {length} elements, {texts}.")


def describe_windows(axis: Axis) -> str:
    """Return the rows of an axis in words."""
    reads = ", ".join(f"[{_listed([index for index, _ in axis.reads(o)])}]" for o in range(axis.output))
    return f"pads {axis.before} before and {axis.after} after, outputs read {reads}"


def window_rows(sheet: Canvas, y: float, caption: str, axis: Axis, reach: int) -> float:
    """Draw a layer's padded input, and below it a row of taps for every output; return the y below them."""
    sheet.text(0, y + 12, caption, "strong")
    read = {index for o in range(axis.output) for index, _ in axis.reads(o)}
    unread = [index for index in range(axis.length) if index not in read]
    if unread:
        words = f"never read: {', '.join(f'x{index}' for index in unread)}"
        sheet.text(0, y + 28, words, "warn")
        y += 16
    y += 20
    left = reach * CELL
    for index in range(-axis.before, axis.length + axis.after):
        inside = 0 <= index < axis.length
        held = axis.holds(index)
        word = f"x{index}" if inside else "0" if held is None else f"x{held}"
        sheet.cell(left + index * CELL, y, "d" if index in unread else "" if inside else "pad", word)
    for o in range(axis.output):
        level = y + CELL + 6 + o * 14
        taken = [index for index, _ in axis.reads(o)]
        first, last = (left + index * CELL for index in (taken[0], taken[-1]))
        sheet.line(first + 4, level + 4, last + CELL - 4, level + 4)
        for index in taken:
            sheet.cell(left + index * CELL + CELL / 2 - 5, level, "ab"[o % 2], width=10, height=8)
        sheet.text(left + (axis.length + axis.after) * CELL + 10, level + 9, f"y{o}", "soft")
    return y + CELL + 6 + axis.output * 14


def padding_modes(length: int, pad: int) -> str:
    """Draw the values of the pads in each padding mode, along one axis."""
    sheet, texts = Canvas(), []
    for row, mode in enumerate(("zeros", "reflect", "replicate", "circular")):
        (axis,) = axes(ConvSpec(1, 1, (1,), padding=(pad,), padding_mode=mode), (length,))
        held = [(axis.holds(index), 0 <= index < length) for index in range(-pad, length + pad)]
        words = ["0" if source is None else _LETTERS[source] for source, _ in held]
        sheet.text(0, row * 36 + 17, mode, "strong")
        kinds = [("" if inside else "pad" + (" a" if source is not None else "")) for source, inside in held]
        sheet.row(80, row * 36, zip(kinds, words, strict=True))
        texts.append(f"{mode}: {' '.join(words[:pad])} before and {' '.join(words[-pad:])} after")
    return sheet.render(
        "Values of the pads",
        f"An input {' '.join(_LETTERS[:length])} with {pad} pads on each side. {'; '.join(texts)}.",
    )

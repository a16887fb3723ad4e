"""Transposed layers: as a scatter of the inputs, and as a convolution of the zero-stuffed input."""

from __future__ import annotations

from convspec.errors import RequestError
from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.layers.pictures.geometry import Axis, axes
from convspec.spec import ConvSpec


def _axis(spec: ConvSpec, length: int) -> Axis:
    if spec.ndim != 1 or not spec.transposed:
        raise RequestError("this picture shows a transposed layer with 1 spatial axis")
    return axes(spec, (length,))[0]


def scatter(spec: ConvSpec, length: int) -> str:
    """Draw a 1-D transposed layer: every input is multiplied by all taps, the products are summed, the sum is cropped.

    Raises:
        RequestError: for any other layer.
    """
    axis = _axis(spec, length)
    sheet = Canvas()
    scatter_rows(sheet, 0, axis)
    return sheet.render("A transposed convolution as a scatter", describe_scatter(axis))


def scatter_rows(sheet: Canvas, y: float, axis: Axis) -> float:
    """Draw the products of every input in its own row and their sum below; return the y below them."""
    left = 56
    for i in range(axis.length):
        hue = "abcd"[i % 4]
        sheet.cell(0, y, hue, f"x{i}")
        sheet.arrow(CELL + 4, y + CELL / 2, left - 6)
        for tap in range(axis.kernel):
            sheet.cell(left + (i * axis.stride + tap * axis.dilation) * CELL, y, hue, f"w{tap}")
        y += CELL + 4
    y += 18
    sheet.text(left - 8, y + 17, "sum", "soft", anchor="end")
    first, last = axis.before, axis.before + axis.output
    for place in range(max(axis.full, last)):
        kept = first <= place < last
        kind = ("dash " if place >= axis.full else "") + ("c" if kept else "pad")
        sheet.cell(left + place * CELL, y, kind, f"y{place - first}" if kept else "×")
    sheet.text(left, y + CELL + 16, _cropped(axis), "soft")
    return y + CELL + 16


def _cropped(axis: Axis) -> str:
    words = f"{axis.before} cropped before, {axis.after} after"
    if axis.extra:
        words += f"; output_padding keeps {axis.extra} more at the end"
    return words


def describe_scatter(axis: Axis) -> str:
    """Return the scatter of an axis in words."""
    return (
        f"Each of {axis.length} inputs is multiplied by {axis.kernel} taps, {axis.stride} elements after the last one. "
        f"The overlapping products sum to {axis.full} elements; {_cropped(axis)}: {axis.output} remain."
    )


def zero_stuffing(spec: ConvSpec, length: int) -> str:
    """Draw a 1-D transposed layer as a regular one: zeros between the inputs, pads around them, a flipped kernel.

    Raises:
        RequestError: for any other layer.
    """
    axis = _axis(spec, length)
    before = axis.span - 1 - axis.before
    after = axis.span - 1 - axis.after + axis.extra
    stuffed = [(-1 if i % axis.stride else i // axis.stride) for i in range((length - 1) * axis.stride + 1)]
    sheet = Canvas()
    sheet.text(0, 14, "input")
    shift = max(before, 0)
    sheet.row(shift * CELL, 22, [("", f"x{i}") for i in range(length)])
    sheet.text(
        0,
        74,
        f"{axis.stride - 1} zero{'s' * (axis.stride != 2)} between, {before} before, {after} after, then stride 1",
    )
    for place in range(-before, len(stuffed) + after):
        held = stuffed[place] if 0 <= place < len(stuffed) else -1
        outside = not 0 <= place < len(stuffed)
        sheet.cell(
            (shift + place) * CELL, 82, "pad" if outside else "" if held >= 0 else "b", f"x{held}" if held >= 0 else "0"
        )
    sheet.text(0, 134, f"the kernel, flipped: w{axis.kernel - 1} … w0")
    for tap in range(axis.kernel):
        at = (shift - before + (axis.kernel - 1 - tap) * axis.dilation) * CELL
        sheet.cell(at, 142, "a", f"w{tap}")
    sheet.arrow((shift - before + axis.span) * CELL + 8, 155, (shift - before + axis.span + 2) * CELL)
    return sheet.render(
        "A transposed convolution as zero-stuffing",
        f"{axis.stride - 1} zeros between neighbouring inputs, {before} before and {after} after; then a convolution "
        f"of stride 1 with the flipped kernel gives {axis.output} outputs.",
    )

"""The feature maps of a network as boxes to scale: the height is that of a map, the width the number of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convspec.layers.pictures.canvas import Canvas
from convspec.layers.sentences import times

_TALLEST, _WIDEST, _THINNEST = 160.0, 70.0, 5.0  # of a box, in user units
_COLUMNS = 9  # boxes in a row of the picture
_STEP = 96.0  # from one box to the next
_ROW = _TALLEST + 64


def feature_maps(document: Mapping[str, Any]) -> str:
    """Draw what ``summarize`` says of a network: a box for every size that a tensor has on its way, and the misfit.

    Steps that keep the size of their input share its box.
    """
    stages = _stages(document)
    first = document["layout"] == "NCHW"
    maps = [_sizes(shape, first) for _, shape in stages]
    tallest = max((height for _, height in maps), default=1)
    widest = max((channels for channels, height in maps if height), default=1)
    most = max((channels for channels, height in maps if not height), default=1)
    sheet = Canvas()
    for i, ((name, shape), (channels, height)) in enumerate(zip(stages, maps, strict=True)):
        x, middle = (i % _COLUMNS) * _STEP, (i // _COLUMNS) * _ROW + _TALLEST / 2
        if height:
            tall, wide = height * _TALLEST / tallest, channels * _WIDEST / widest
        else:
            tall, wide = channels * _TALLEST / most, _THINNEST
        tall, wide = max(tall, _THINNEST), max(wide, _THINNEST)
        sheet.cell(x, middle - tall / 2, "a" if height else "c", width=wide, height=tall)
        below = (i // _COLUMNS) * _ROW + _TALLEST
        sheet.text(x, below + 18, _short(name), "")
        sheet.text(x, below + 34, times(shape[1:]).replace(" ", ""), "soft small")
    if "error" in document:
        i = len(stages)
        x, below = (i % _COLUMNS) * _STEP, (i // _COLUMNS) * _ROW + _TALLEST
        sheet.cell(x, below - _TALLEST, "pad", width=_THINNEST * 6, height=_TALLEST)
        sheet.text(x, below + 18, _short(document["error"]["path"]), "warn")
        sheet.text(x, below + 34, "does not fit", "warn small")
    words = "; ".join(f"{name} {times(shape[1:])}" for name, shape in stages)
    return sheet.render("Feature maps", f"Boxes to scale, one for each size on the way: {words}.")


def _stages(document: Mapping[str, Any]) -> list[tuple[str, Sequence[int]]]:
    """Return the input and every row whose output has another size than its input, with its shape."""
    rows = [row for row in document["rows"] if row["output"] is not None]
    stages: list[tuple[str, Sequence[int]]] = [("input", shape) for shape in document["inputs"]]
    for row in rows:
        if row["output"] and row["output"] not in row["inputs"]:
            stages.append((row["path"], row["output"]))
    return stages


def _sizes(shape: Sequence[int], first: bool) -> tuple[int, int]:
    """Return channels and height of a map; the height of a vector of features is 0."""
    if len(shape) < 3:
        return (shape[-1] if shape else 1), 0
    return (shape[1], shape[2]) if first else (shape[-1], shape[1])


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"…{name[-11:]}"

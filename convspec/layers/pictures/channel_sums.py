"""Sums: the same numbers, added in several orders, each addition rounded."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from convspec.errors import RequestError
from convspec.layers.pictures.canvas import CELL, Canvas

Order: TypeAlias = "int | tuple[Order, Order]"
_MOST = 8  # numbers in a picture
_WIDTH, _STEP = 84.0, 44.0


def sums(numbers: Sequence[float], orders: Mapping[str, Order]) -> str:
    """Numbers added in several orders in float32: every order as a tree, with each sum as it is rounded.

    Args:
        numbers: what is added, at most eight.
        orders: by a caption for each, pairs of pairs of places in ``numbers``: ``((0, 1), 2)`` adds the third last.

    Raises:
        RequestError: for more numbers, or an order that does not add each of them once.
    """
    if len(numbers) > _MOST:
        raise RequestError(f"{len(numbers)} numbers cannot be read in a picture, {_MOST} can")
    sheet, told, top = Canvas(), [], 0.0
    for caption, order in orders.items():
        if sorted(_places(order)) != list(range(len(numbers))):
            raise RequestError(f"{caption!r} must add each of the {len(numbers)} numbers once")
        sheet.text(0, top + 12, caption, "strong")
        places = {place: i * _WIDTH for i, place in enumerate(_places(order))}
        found, _, depth = _tree(sheet, order, numbers, places, top + 24)
        told.append(f"{caption}: {_words(order, numbers)} = {_shown(found)}")
        top += 24 + depth * _STEP + CELL + 20
    sheet.cell(0, top, "b", "", width=16, height=16)
    sheet.text(24, top + 12, "had to be rounded", "soft")
    return sheet.render("The same numbers, added in several orders in float32", f"{'; '.join(told)}.")


def _places(order: Order) -> list[int]:
    return [order] if isinstance(order, int) else [*_places(order[0]), *_places(order[1])]


def _single(value: float) -> float:
    """The nearest number of float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _tree(
    sheet: Canvas, order: Order, numbers: Sequence[float], places: Mapping[int, float], y: float
) -> tuple[float, float, int]:
    """Draw a tree from its leaves down; its sum, the x of its lowest cell's middle, and how deep it is."""
    if isinstance(order, int):
        value = _single(numbers[order])
        sheet.cell(places[order], y, "", _shown(value), width=_WIDTH - 8)
        return value, places[order] + (_WIDTH - 8) / 2, 0
    (first, x1, d1), (second, x2, d2) = (_tree(sheet, part, numbers, places, y) for part in order)
    depth, x, value = max(d1, d2) + 1, (x1 + x2) / 2, _single(first + second)
    below = y + depth * _STEP
    for middle, level in ((x1, d1), (x2, d2)):
        sheet.line(middle, y + level * _STEP + CELL, x, below)
    hue = "a" if value == first + second else "b"
    sheet.cell(x - (_WIDTH - 8) / 2, below, hue, _shown(value), width=_WIDTH - 8)
    return value, x, depth


def _shown(value: float) -> str:
    """The number in as many digits as float32 has."""
    return f"{value:.9g}"


def _words(order: Order, numbers: Sequence[float]) -> str:
    if isinstance(order, int):
        return _shown(numbers[order])
    return f"({_words(order[0], numbers)} + {_words(order[1], numbers)})"

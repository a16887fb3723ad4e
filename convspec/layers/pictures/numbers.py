"""Numbers: the order of a tensor's elements in memory, floating-point formats, and the order of additions."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import TypeAlias

from convspec.errors import RequestError
from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.spec import layouts

Order: TypeAlias = "int | tuple[Order, Order]"
_MOST_IN_MEMORY = 48
_MOST_SUMMED = 8
_WIDTH, _STEP = 84.0, 44.0


def data_layouts(channels: int, spatial: Sequence[int]) -> str:
    """Draw one sample in memory, channels first and channels last; a colour is a channel."""
    ndim = len(spatial)
    orders = {layouts.name(layout, ndim): layouts.order(layout, ndim)[1:] for layout in layouts.LAYOUTS}
    return _memory(orders, {"C": channels}, spatial, "One sample in memory", hue="C")


def kernel_layouts(kernel_shape: Sequence[int], orders: Mapping[str, str]) -> str:
    """Draw a kernel in memory; a colour is an output channel.

    Args:
        kernel_shape: ``(O, I/g, *kernel)``.
        orders: the orders by caption, ``OI*`` for PyTorch and ONNX, ``*IO`` for Flax and Keras.
    """
    out, inside, *spatial = kernel_shape
    return _memory(orders, {"O": out, "I": inside}, spatial, "A kernel in memory", hue="O")


def _memory(orders: Mapping[str, str], sizes: dict[str, int], spatial: Sequence[int], title: str, hue: str) -> str:
    sizes = {**sizes, **{f"s{i}": n for i, n in enumerate(spatial)}}
    total = prod(sizes.values())
    if total > _MOST_IN_MEMORY:
        raise RequestError(f"{total} numbers are too many for a picture; at most {_MOST_IN_MEMORY}")
    letters = {f"s{i}": letter for i, letter in enumerate(layouts.spatial_letters(len(spatial)))}
    sheet, texts = Canvas(), []
    for row, (caption, order) in enumerate(orders.items()):
        walked = layouts.expand(order, len(spatial))
        shape = " × ".join(f"{letters.get(axis, axis).upper()} {sizes[axis]}" for axis in walked)
        y, width = row * 76, max(CELL, 10 + 6 * len(sizes))
        sheet.text(0, y + 12, caption, "strong")
        sheet.text(0, y + 28, shape, "soft")
        first: list[str] = []
        for place, index in enumerate(product(*(range(sizes[axis]) for axis in walked))):
            at = dict(zip(walked, index, strict=True))
            word = "".join(str(at[axis]) for axis in sizes)
            sheet.cell(place * width, y + 34, "abcd"[at[hue] % 4], word, width=width)
            first.append(word)
        texts.append(f"{caption} ({shape}): {' '.join(first[:6])} …")
    names = ", ".join(letters.get(axis, axis).lower() for axis in sizes)
    sheet.text(0, len(orders) * 76 + 8, f"digits: {names}", "soft")
    return sheet.render(title, f"The order of the elements ({names}), {'; '.join(texts)}")


def formats(bits: Mapping[str, tuple[int, int]]) -> str:
    """Draw the bits of floating-point formats: sign, exponent, fraction.

    Args:
        bits: exponent and fraction bits of each format.
    """
    sheet, width = Canvas(), 10.0
    for row, (name, (exponent, fraction)) in enumerate(bits.items()):
        y = row * 36
        sheet.text(0, y + 17, name, "strong")
        sheet.cell(80, y, "d", "±", width=14)
        sheet.cell(94, y, "b", exponent, width=exponent * width)
        sheet.cell(94 + exponent * width, y, "a", fraction, width=fraction * width)
    sheet.text(80, len(bits) * 36 + 8, "sign, exponent bits, fraction bits", "soft")
    texts = "; ".join(f"{name}: {e} exponent and {f} fraction bits" for name, (e, f) in bits.items())
    return sheet.render("Floating-point formats", f"{texts}.")


def sums(numbers: Sequence[float], orders: Mapping[str, Order]) -> str:
    """Draw numbers added in several orders in float32: every order as a tree of rounded sums.

    Args:
        numbers: at most eight numbers.
        orders: nested pairs of indices of ``numbers`` by caption: ``((0, 1), 2)`` adds the third number last.

    Raises:
        RequestError: for more numbers, or an order that does not add each of them once.
    """
    if len(numbers) > _MOST_SUMMED:
        raise RequestError(f"{len(numbers)} numbers are too many for a picture; at most {_MOST_SUMMED}")
    sheet, texts, top = Canvas(), [], 0.0
    for caption, order in orders.items():
        if sorted(_places(order)) != list(range(len(numbers))):
            raise RequestError(f"{caption!r} must add each of the {len(numbers)} numbers once")
        sheet.text(0, top + 12, caption, "strong")
        places = {place: i * _WIDTH for i, place in enumerate(_places(order))}
        total, _, depth = _tree(sheet, order, numbers, places, top + 24)
        texts.append(f"{caption}: {_words(order, numbers)} = {_shown(total)}")
        top += 24 + depth * _STEP + CELL + 20
    sheet.cell(0, top, "b", "", width=16, height=16)
    sheet.text(24, top + 12, "had to be rounded", "soft")
    return sheet.render("The same numbers, added in several orders in float32", f"{'; '.join(texts)}.")


def _places(order: Order) -> list[int]:
    return [order] if isinstance(order, int) else [*_places(order[0]), *_places(order[1])]


def _single(value: float) -> float:
    """Return the nearest float32 number."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _tree(
    sheet: Canvas, order: Order, numbers: Sequence[float], places: Mapping[int, float], y: float
) -> tuple[float, float, int]:
    """Draw a tree from its leaves down; return its sum, the x of its root's middle, and its depth."""
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
    """Return the number with all digits of float32."""
    return f"{value:.9g}"


def _words(order: Order, numbers: Sequence[float]) -> str:
    if isinstance(order, int):
        return _shown(numbers[order])
    return f"({_words(order[0], numbers)} + {_words(order[1], numbers)})"

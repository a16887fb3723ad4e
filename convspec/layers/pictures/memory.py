"""Memory: in which order the numbers of a tensor lie, layout by layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from convspec.errors import RequestError
from convspec.layers.pictures.canvas import CELL, Canvas
from convspec.spec import layouts

_MOST = 48  # cells in a row of memory


def data_layouts(channels: int, spatial: Sequence[int]) -> str:
    """One sample in memory, channels first and channels last; a colour is a channel."""
    ndim = len(spatial)
    orders = {
        layouts.name(layout, ndim): ("C*" if layout == layouts.CHANNELS_FIRST else "*C") for layout in layouts.LAYOUTS
    }
    return _memory(orders, {"C": channels}, spatial, "One sample in memory", hue="C")


def kernel_layouts(kernel_shape: Sequence[int], orders: Mapping[str, str]) -> str:
    """A kernel in memory; a colour is an output channel.

    Args:
        kernel_shape: ``(O, I/g, *kernel)``.
        orders: a caption for each order, ``OI*`` for PyTorch and ONNX, ``*IO`` for Flax and Keras.
    """
    out, inside, *spatial = kernel_shape
    return _memory(orders, {"O": out, "I": inside}, spatial, "A kernel in memory", hue="O")


def _memory(orders: Mapping[str, str], sizes: dict[str, int], spatial: Sequence[int], title: str, hue: str) -> str:
    sizes = {**sizes, **{f"s{i}": n for i, n in enumerate(spatial)}}
    total = 1
    for n in sizes.values():
        total *= n
    if total > _MOST:
        raise RequestError(f"{total} numbers cannot be read in a picture, {_MOST} can")
    letters = dict(
        zip((f"s{i}" for i in range(len(spatial))), layouts.spatial_letters(len(spatial)).lower(), strict=True)
    )
    sheet, told = Canvas(), []
    for row, (caption, order) in enumerate(orders.items()):
        walked = layouts.expand(order, len(spatial))
        shape = " × ".join(f"{letters.get(axis, axis).upper()} {sizes[axis]}" for axis in walked)
        y = row * 76
        sheet.text(0, y + 12, caption, "strong")
        sheet.text(0, y + 28, shape, "soft")
        first: list[str] = []
        width = max(CELL, 10 + 6 * len(sizes))
        for place, index in enumerate(product(*(range(sizes[axis]) for axis in walked))):
            at = dict(zip(walked, index, strict=True))
            word = "".join(str(at[axis]) for axis in sizes)
            sheet.cell(place * width, y + 34, "abcd"[at[hue] % 4], word, width=width)
            first.append(word)
        told.append(f"{caption} ({shape}): {' '.join(first[:6])} …")
    names = ", ".join(letters.get(axis, axis).lower() for axis in sizes)
    sheet.text(0, len(orders) * 76 + 8, f"digits: {names}", "soft")
    return sheet.render(title, f"The order of the elements ({names}), {'; '.join(told)}")


def formats(bits: Mapping[str, tuple[int, int]]) -> str:
    """Floating-point formats as their bits: sign, exponent, fraction.

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
    told = "; ".join(f"{name}: {e} exponent and {f} fraction bits" for name, (e, f) in bits.items())
    return sheet.render("Floating-point formats", f"{told}.")

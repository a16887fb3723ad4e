"""The ``photos`` directive: feature maps of a photograph, computed by ``convspec.reference`` at each build of the site.

Every figure is a function that yields rows; a row is a list of pictures, kernels and words, side by side. The images
are written below ``docs/_generated/static``, which Sphinx copies into the site.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from inspect import getsource
from pathlib import Path

import numpy as np
import site_png
from docutils import nodes
from numpy.typing import NDArray
from site_pictures import drawn_by
from sphinx.util.docutils import SphinxDirective

from convspec import ConvParams, ConvSpec, reference

Array = NDArray[np.float64]
PHOTO = Path(__file__).parents[1] / "docs" / "_data" / "photo" / "coffee.png"
STATIC = Path(__file__).parents[1] / "docs" / "_generated" / "static"
_SMALL = 96  # CSS pixels of a map that stands in a row with others

VERTICAL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1.0]])
HORIZONTAL = VERTICAL.T
CORNER = np.array([[-4, -4, -4], [-4, 5, 5], [-4, 5, 5.0]])
BLUR = np.ones((3, 3)) / 9


@dataclass(frozen=True)
class Image:
    """A picture: ``signed`` maps are drawn in orange and blue, ``grey`` ones in grey, ``colours`` (H, W, 3) as RGB."""

    values: Array
    kind: str
    caption: str
    alt: str
    size: int = _SMALL  # width on the page, in CSS pixels
    largest: float = 0.0  # of a signed map; 0: its own largest value


@dataclass(frozen=True)
class Kernel:
    """Sheets of weights (I, H, W) as small tables."""

    sheets: Array
    caption: str
    names: Sequence[str] = ()


Item = Image | Kernel | str
Rows = Iterator[list[Item]]


@cache
def photo() -> Array:
    """Return the photograph as ``(1, 3, 128, 128)`` in 0 … 1."""
    return (site_png.read(PHOTO) / 255.0).transpose(2, 0, 1)[None]


def grey() -> Array:
    """Return the photograph in grey, ``(1, 1, 128, 128)``."""
    return photo().mean(axis=1, keepdims=True)


def run(spec: ConvSpec, kernel: Array, x: Array) -> Array:
    """Return the layer's output, without a bias."""
    bias = np.zeros(spec.out_channels) if spec.bias else None
    return reference.conv(spec, ConvParams(kernel.reshape(spec.kernel_shape), bias), x)


def _photograph(size: int = 128, caption: str = "the input: 3 channels") -> Image:
    return Image(photo()[0].transpose(1, 2, 0), "colours", caption, "Photograph: a cup of coffee on a red saucer", size)


def _on_colours(*sheets: Array) -> Array:
    return np.stack(sheets)


def bank() -> dict[str, Array]:
    """Return four filters (3, 3, 3) by name."""
    return {
        "vertical edges": _on_colours(VERTICAL, VERTICAL, VERTICAL),
        "horizontal edges": _on_colours(HORIZONTAL, HORIZONTAL, HORIZONTAL),
        "upper left corners": _on_colours(CORNER, CORNER, CORNER),
        "red against green and blue": _on_colours(2 * np.ones((3, 3)), -np.ones((3, 3)), -np.ones((3, 3))),
    }


def out_channels() -> Rows:
    """Four filters make four maps."""
    filters = bank()
    spec = ConvSpec(3, 4, 3, padding=1, padding_mode="replicate", bias=False)
    maps = run(spec, np.stack([*filters.values()]), photo())[0]
    yield [_photograph()]
    for o, (name, kernel) in enumerate(filters.items()):
        alt = f"Feature map {o}: strong at {name} of the photograph"
        yield [Kernel(kernel, f"filter {o}: {name}", "RGB"), "→", Image(maps[o], "signed", f"map {o}", alt)]


def next_layer() -> Rows:
    """One filter of the next layer: a sheet for each of the four maps, and the sum of the four results."""
    first = ConvSpec(3, 4, 3, padding=1, padding_mode="replicate", bias=False)
    maps = np.maximum(run(first, np.stack([*bank().values()]), photo()), 0)
    maps /= maps.max(axis=(2, 3), keepdims=True)
    weights = np.array([1.0, 1.0, -1.0, 2.0])
    kernel = weights[:, None, None] * BLUR * 9
    parts = [run(ConvSpec(1, 1, 3, padding=1, bias=False), kernel[i], maps[:, i : i + 1])[0, 0] for i in range(4)]
    whole = run(ConvSpec(4, 1, 3, padding=1, bias=False), kernel, maps)[0, 0]
    assert np.allclose(whole, sum(parts))
    largest = float(np.abs(whole).max())
    row: list[Item] = []
    for i, part in enumerate(parts):
        row += ["+"] * bool(i) + [
            Image(part, "signed", f"map {i} ∗ sheet {i}", f"Map {i} times its sheet", 80, largest)
        ]
    yield [Kernel(kernel, "one filter of the next layer: four sheets", "0123")]
    yield [*row, "=", Image(whole, "signed", "the sum: one new map", "The sum of the four results", 128, largest)]


def in_channels() -> Rows:
    """The colour sheets, and one filter's sum over them."""
    kernel = _on_colours(2 * BLUR, -BLUR, -BLUR)
    names = ("red", "green", "blue")
    parts = [run(ConvSpec(1, 1, 3, padding=1, bias=False), kernel[i], photo()[:, i : i + 1])[0, 0] for i in range(3)]
    whole = run(ConvSpec(3, 1, 3, padding=1, bias=False), kernel, photo())[0, 0]
    assert np.allclose(whole, sum(parts))
    yield [_photograph()]
    for i, name in enumerate(names):
        yield [
            Image(photo()[0, i], "grey", f"channel {i}: {name}", f"The {name} channel as a grey image"), "∗",
            Kernel(kernel[i : i + 1] * 9, f"sheet {i}, × 1/9"), "=",
            Image(parts[i], "signed", f"product {i}", f"The {name} channel times its sheet", _SMALL, 2.0),
        ]  # fmt: skip
    words, alt = "output channel 0: red against green and blue", "The sum: strong on the red saucer"
    yield ["sum of the three:", Image(whole, "signed", words, alt, 128)]


def stride() -> Rows:
    """The same filter at three strides, each pixel drawn at the same size."""
    row: list[Item] = []
    for step in (1, 2, 4):
        y = run(ConvSpec(1, 1, 3, stride=step, padding=1, padding_mode="replicate", bias=False), VERTICAL, grey())[0, 0]
        size = len(y)
        row.append(
            Image(
                y, "signed", f"stride={step}: {size} × {size}", f"Edges of the photograph at stride {step}", size, 1.5
            )
        )
    yield [_photograph(128, "the input: 128 × 128"), "→", *row]


def kernel_size() -> Rows:
    """Averages over larger and larger windows."""
    row: list[Item] = []
    for k in (3, 7, 15):
        spec = ConvSpec(1, 1, k, padding=k // 2, padding_mode="replicate", bias=False)
        y = run(spec, np.full((k, k), 1 / k**2), grey())[0, 0]
        row.append(Image(y, "grey", f"mean of {k} × {k}", f"The photograph blurred by a mean over {k} × {k} pixels"))
    yield [Image(grey()[0, 0], "grey", "the input, in grey", "The photograph in grey"), "→", *row]


def learnt() -> Rows:
    """A bank of 7 × 7 filters (Gabor functions) as trained first layers have them, and its maps."""
    grid = np.mgrid[-3:4, -3:4].astype(float)
    kernels = []
    for turn in range(6):
        along = grid[1] * np.cos(turn * np.pi / 6) + grid[0] * np.sin(turn * np.pi / 6)
        wave = np.exp(-(grid**2).sum(0) / 8) * np.sin(along * (0.8 + 0.5 * (turn % 2)))
        kernels.append(wave - wave.mean())
    spec = ConvSpec(1, 6, 7, padding=3, padding_mode="replicate", bias=False)
    maps = run(spec, np.stack(kernels), grey())[0]
    for start in (0, 3):
        row: list[Item] = []
        for o in range(start, start + 3):
            angle = f"{o * 30}°"
            row += [Image(kernels[o], "signed", f"filter {o}", f"A wave of 7 × 7 weights at {angle}", 42), "→",
                    Image(maps[o], "signed", f"map {o}: edges at {angle}", f"Edges at {angle}")]  # fmt: skip
        yield row


def dilation() -> Rows:
    """The same nine weights, farther and farther apart."""
    row: list[Item] = []
    for d in (1, 2, 4):
        spec = ConvSpec(1, 1, 3, dilation=d, padding=d, padding_mode="replicate", bias=False)
        y = run(spec, VERTICAL, grey())[0, 0]
        row.append(Image(y, "signed", f"dilation={d}: spans {2 * d + 1} × {2 * d + 1}",
                         f"Edges of the photograph at dilation {d}: wider", 112, 2.0))  # fmt: skip
    yield [Kernel(VERTICAL[None], "the kernel"), "→", *row]


def padding_mode() -> Rows:
    """A pad of 20 pixels in each mode around the photograph of 64 × 64."""
    small = run(ConvSpec(3, 3, 2, stride=2, groups=3, bias=False), np.full((3, 1, 2, 2), 1 / 4), photo())
    row: list[Item] = []
    for mode in ("zeros", "reflect", "replicate", "circular"):
        spec = ConvSpec(3, 3, 1, padding=20, padding_mode=mode, groups=3, bias=False)
        y = run(spec, np.ones((3, 1, 1, 1)), small)[0].transpose(1, 2, 0)
        row.append(Image(y, "colours", mode, f"The photograph with 20 pixels of {mode} padding", 156))
    yield row


def padding() -> Rows:
    """A mean over 15 × 15 pixels: without pads smaller, with zeros darker at the border."""
    row: list[Item] = []
    for amount, words in ((0, "padding=0: 114 × 114"), (7, "padding=7: 128 × 128, dark border")):
        y = run(ConvSpec(1, 1, 15, padding=amount, bias=False), np.full((15, 15), 1 / 225), grey())[0, 0]
        row.append(Image(y, "grey", words, f"The photograph blurred, {words}", len(y)))
    yield [Image(grey()[0, 0], "grey", "the input: 128 × 128", "The photograph in grey", 128), "→", *row]


def groups() -> Rows:
    """A depthwise layer keeps the colours apart; an ordinary one sums over them."""
    separate = run(ConvSpec(3, 3, 3, padding=1, padding_mode="replicate", groups=3, bias=False),
                   np.stack([VERTICAL] * 3), photo())[0]  # fmt: skip
    whole = run(ConvSpec(3, 1, 3, padding=1, padding_mode="replicate", bias=False), np.stack([VERTICAL] * 3), photo())[
        0, 0
    ]
    images: list[Item] = [
        Image(separate[i], "signed", f"output {i}: edges in {name} alone", f"Edges of the {name} channel", largest=2.0)
        for i, name in enumerate(("red", "green", "blue"))
    ]
    yield ["groups=3:", *images]
    yield [
        "groups=1:",
        Image(whole, "signed", "output 0: the sum over all three", "Edges of all channels together", _SMALL, 6.0),
    ]


def transposed() -> Rows:
    """The checkerboard: where kernel_size is no multiple of the stride, outputs receive unequal numbers of products."""
    small = run(ConvSpec(1, 1, 4, stride=4, bias=False), np.full((4, 4), 1 / 16), grey())
    row: list[Item] = [Image(small[0, 0], "grey", "the input: 32 × 32", "The photograph scaled down", 96), "→"]
    for k, crop, words in ((3, 1, "a checkerboard"), (4, 1, "even")):
        spec = ConvSpec(1, 1, k, stride=2, padding=crop, transposed=True, bias=False)
        y = run(spec, np.ones((k, k)) / (k / 2) ** 2, small)[0, 0]
        row.append(Image(y[:48, :48] / 1.4, "grey", f"kernel_size={k}, stride=2: {words}",
                         f"Part of the output for kernel_size={k}: {words}", 144))  # fmt: skip
    yield row


FIGURES: dict[str, Callable[[], Rows]] = {
    figure.__name__: figure
    for figure in (out_channels, next_layer, in_channels, stride, kernel_size, learnt, dilation, padding_mode, padding,
                   groups, transposed)
}  # fmt: skip


def render(name: str, root: str, folder: Path = STATIC) -> str:
    """Return a figure as HTML, its images written below ``folder``; ``root`` leads from the page to the site's top."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rows = []
    for row in FIGURES[name]():
        rows.append(f'<div class="photo-row">{"".join(_item(item, root, folder) for item in row)}</div>')
    signed = any(isinstance(item, Image) and item.kind == "signed" for row in FIGURES[name]() for item in row)
    legend = '<p class="legend"><i class="plus"></i> positive <i class="minus"></i> negative, zero is empty</p>'
    return f'<div class="photos">{"".join(rows)}{legend if signed else ""}</div>'


def _item(item: Item, root: str, folder: Path) -> str:
    if isinstance(item, str):
        return f'<span class="operator">{escape(item)}</span>'
    if isinstance(item, Kernel):
        names = item.names or [""] * len(item.sheets)
        sheets = "".join(_sheet(sheet, name) for sheet, name in zip(item.sheets, names, strict=True))
        return f'<figure><div class="sheets">{sheets}</div><figcaption>{escape(item.caption)}</figcaption></figure>'
    file = (
        f"photos/{hashlib.sha256(item.kind.encode() + item.values.tobytes()).hexdigest()[:12]}-{item.largest:.3g}.png"
    )
    _write(item, folder / file)
    height = round(item.size * item.values.shape[0] / item.values.shape[1])
    return (
        f'<figure style="width:{max(item.size, 64)}px"><img class="{item.kind}" src="{root}_static/{file}" '
        f'width="{item.size}" height="{height}" alt="{escape(item.alt)}" loading="lazy">'
        f"<figcaption>{escape(item.caption)}</figcaption></figure>"
    )


def _sheet(weights: Array, name: str) -> str:
    head = f"<caption>{escape(name)}</caption>" if name else ""
    rows = "".join(f"<tr>{''.join(map(_weight, row))}</tr>" for row in weights)
    return f'<table class="sheet">{head}{rows}</table>'


def _weight(value: float) -> str:
    sign = "plus" if value > 0 else "minus" if value < 0 else "zero"
    return f'<td class="{sign}">{f"{value:g}".replace("-", "−")}</td>'


def _write(image: Image, path: Path) -> None:
    if image.kind == "signed":
        site_png.write_signed(path, image.values, image.largest or float(np.abs(image.values).max()))
    elif image.kind == "grey":
        site_png.write_grey(path, image.values)
    else:
        site_png.write_colours(path, np.clip(np.rint(image.values * 255), 0, 255).astype(np.uint8))


def listing() -> str:
    """Return the code of every figure."""
    return "\n".join(
        f"({place(name)})=\n### {name}\n\n```py\n{getsource(figure)}```\n" for name, figure in FIGURES.items()
    )


def place(name: str) -> str:
    """Return the id of a figure's code on the page of pictures."""
    return f"photos-{name.replace('_', '-')}"


class Photos(SphinxDirective):
    """A figure in the page, with a link to the way it was computed."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        root = "../" * self.env.docname.count("/")
        box = nodes.container(classes=["picture"])
        box += nodes.raw("", render(self.arguments[0], root) + drawn_by(place(self.arguments[0]), root), format="html")
        return [box]

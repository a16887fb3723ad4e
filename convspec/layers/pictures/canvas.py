"""A sheet of SVG: boxes, lines and words, in colours that follow the reader's light or dark theme."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

CELL = 26  # side of a box, in user units
_MARGIN = 10
_LETTER = 7.2  # width of a letter at 12 units; only the sheet's size depends on it

_LIGHT = "--ink:#24292f;--soft:#6e7781;--line:#afb8c1;--cell:#fff;--pad:#eef1f4;--faint:#f6f8fa;"
_DARK = "--ink:#e6edf3;--soft:#9198a1;--line:#484f58;--cell:#161b22;--pad:#262c36;--faint:#1c2128;"
_LIGHT_HUES = "--a:#cfe3ff;--b:#ffdfb6;--c:#c4efd0;--d:#f7cfe3;--strong:#0b5fcc;--warn:#b35900;"
_DARK_HUES = "--a:#1d4a80;--b:#7a4a10;--c:#1c5c33;--d:#702f52;--strong:#7db4ff;--warn:#ffa94d;"

# data-theme, which a page with a theme switch sets on an element above, overrides the system's preference.
_STYLE = (
    f"svg.convspec{{{_LIGHT}{_LIGHT_HUES}max-width:100%;height:auto;font:12px system-ui,sans-serif}}"
    f"@media(prefers-color-scheme:dark){{svg.convspec{{{_DARK}{_DARK_HUES}}}}}"
    f"[data-theme=light] svg.convspec{{{_LIGHT}{_LIGHT_HUES}}}"
    f"[data-theme=dark] svg.convspec{{{_DARK}{_DARK_HUES}}}"
    "svg.convspec text{fill:var(--ink)}"
    "svg.convspec .soft{fill:var(--soft)}"
    "svg.convspec .strong{fill:var(--strong);font-weight:600}"
    "svg.convspec .warn{fill:var(--warn);font-weight:600}"
    "svg.convspec rect{stroke:var(--line);fill:var(--cell)}"
    "svg.convspec line,svg.convspec path{stroke:var(--line);fill:none}"
    "svg.convspec .bold{stroke:var(--strong);stroke-width:2}"
    "svg.convspec rect.pad{fill:var(--pad);stroke-dasharray:3 2}"
    "svg.convspec rect.none{fill:none}"
    "svg.convspec rect.dash{stroke-dasharray:3 2}"
    "svg.convspec .small{font-size:10px}"
    + "".join(f"svg.convspec rect.{hue}{{fill:var(--{hue})}}" for hue in "abcd")
    + "".join(f"svg.convspec rect.e{n}{{fill:var(--warn);fill-opacity:{n / 4:g}}}" for n in range(1, 5))
    + "svg.convspec rect.pad.a{stroke:var(--strong)}"
    + "".join(f"svg.convspec line.{hue}{{stroke:var(--{hue});stroke-width:2}}" for hue in "abcd")
)


class Canvas:
    """A collection of shapes and words whose size grows with them.

    Coordinates are in user units from the top left corner, x to the right, y downwards. ``kind`` is a space-separated
    list of classes: ``a`` … ``d`` are hues, ``pad`` is a padding box, ``soft``, ``strong`` and ``warn`` are for words.
    """

    def __init__(self) -> None:
        self._shapes: list[str] = []
        self._left = self._top = self._right = self._bottom = 0.0

    def cell(
        self, x: float, y: float, kind: str = "", text: object = "", *, width: float = CELL, height: float = CELL
    ) -> None:
        """Draw a box with a word in its middle."""
        self._grow(x, y, x + width, y + height)
        name = f" class={quoteattr(kind)}" if kind else ""
        self._shapes.append(f'<rect{name} x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>')
        if str(text):
            style = " ".join(["soft"] * (kind == "pad") + ["small"] * (len(str(text)) * _LETTER > width - 6))
            self.text(x + width / 2, y + height / 2 + 4, text, style, anchor="middle")

    def text(self, x: float, y: float, words: object, kind: str = "", *, anchor: str = "start") -> None:
        """Write words with their base line at y; x is their ``start``, ``middle`` or ``end``, as ``anchor`` says."""
        length = len(str(words)) * _LETTER
        left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * length
        self._grow(left, y - 12, left + length, y + 4)
        name = f" class={quoteattr(kind)}" if kind else ""
        place = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._shapes.append(f'<text{name} x="{x:g}" y="{y:g}"{place}>{escape(str(words))}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "") -> None:
        self._grow(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        name = f" class={quoteattr(kind)}" if kind else ""
        self._shapes.append(f'<line{name} x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>')

    def arrow(self, x1: float, y: float, x2: float) -> None:
        """Draw a horizontal arrow to the right."""
        self.line(x1, y, x2, y)
        self._shapes.append(f'<path d="M{x2 - 6:g} {y - 4:g}L{x2:g} {y:g}L{x2 - 6:g} {y + 4:g}"/>')

    def row(self, x: float, y: float, cells: Iterable[tuple[str, object]]) -> None:
        """Draw boxes side by side, each with a kind and a word."""
        for i, (kind, text) in enumerate(cells):
            self.cell(x + i * CELL, y, kind, text)

    def render(self, title: str, description: str) -> str:
        """Return the SVG document; title and description are for screen readers."""
        mark = hashlib.sha256(f"{title}\n{description}\n{self._shapes}".encode()).hexdigest()[:8]
        left, top = self._left - _MARGIN, self._top - _MARGIN
        width, height = self._right + _MARGIN - left, self._bottom + _MARGIN - top
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="convspec" role="img" aria-labelledby="t{mark} d{mark}" '
            f'width="{width:g}" height="{height:g}" viewBox="{left:g} {top:g} {width:g} {height:g}">\n'
            f'<title id="t{mark}">{escape(title)}</title>\n<desc id="d{mark}">{escape(description)}</desc>\n'
            f"<style>{_STYLE}</style>\n" + "\n".join(self._shapes) + "\n</svg>\n"
        )

    def _grow(self, left: float, top: float, right: float, bottom: float) -> None:
        self._left, self._top = min(self._left, left), min(self._top, top)
        self._right, self._bottom = max(self._right, right), max(self._bottom, bottom)

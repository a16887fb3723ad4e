"""Where the error of an output lives."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.layers.pictures.canvas import Canvas

SHADES = "·░▒▓█"  # from right to the largest error
_SIDE = 12


def errors(rows: Sequence[str], what: str) -> str:
    """A map of the errors in one channel: a text of :data:`SHADES` a row, as a diagnosis gives it."""
    sheet = Canvas()
    wrong = total = 0
    sheet.text(0, 0, what, "soft")
    for y, row in enumerate(rows):
        for x, sign in enumerate(row):
            level = max(SHADES.find(sign), 0)
            wrong, total = wrong + (level > 0), total + 1
            sheet.cell(x * _SIDE, 10 + y * _SIDE, f"e{level}" if level else "", width=_SIDE, height=_SIDE)
    return sheet.render("Where the error lives", f"In {what}, {wrong} of {total} places are wrong.")

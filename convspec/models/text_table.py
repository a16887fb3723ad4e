"""Comparisons and ports in words: lines of text, each with a style for terminals that have colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from convspec.errors import printable

if TYPE_CHECKING:
    from convspec.models.comparison.layer_pair import Row
    from convspec.models.comparison.results import Comparison
    from convspec.models.porting.weights import PortReport

    Lines: TypeAlias = Iterator[tuple[str, str]]

_STYLES = {"departs": "bold red", "fed": "bold red", "missing": "bold red", "downstream": "yellow", "agree": "green"}
_WIDEST = 44


def comparison(found: Comparison) -> Lines:
    """A table of all layers, where the models part, and the mistake behind it."""
    ran = any(row.input is not None or row.output is not None for row in found.rows)
    heads = ["", f"a: {found.names[0]}", f"b: {found.names[1]}", "settings", "weights"]
    heads += ["input", "output", "verdict"] if ran else []
    rows = [_cells(row, ran) for row in found.rows]
    styles = ["", *(_STYLES.get(row.verdict, "") for row in found.rows)]
    yield from zip(table([heads, *rows]), styles, strict=True)
    yield "", ""
    for note in found.notes:
        yield f"{printable(note, None)}.", ""
    if found.agrees:
        word = _agreement(found) if ran else "Settings and weights agree; nothing was run"
        yield (
            word + (f"; the results differ by at most {found.output:.3g}." if found.output is not None else "."),
            "green",
        )
        return
    yield f"First departure: {printable(found.departure, None)}", "bold red"
    if found.diagnosis is not None:
        from convspec.diagnosis import lines

        yield "", ""
        yield from ((f"  {printable(line, None)}", style) for line, style in lines(found.diagnosis))
    for row in found.rows:
        if row.verdict == "departs" and row is not found.first:
            yield f"It departs again at {row.label} ({printable(row.a, None)}): {printable(row.reason, None)}", "red"


def _agreement(found: Comparison) -> str:
    unseen = sum(row.verdict == "not judged" for row in found.rows)
    return f"Every layer that was judged agrees, {unseen} were not" if unseen else "Every layer agrees"


def _cells(row: Row, ran: bool) -> list[str]:
    weights = "; ".join(row.weights) or ("equal" if row.a and row.b else "")
    cells = [
        row.label,
        row.a or "–",
        row.b or "–",
        "; ".join(row.spec) or ("equal" if row.a and row.b else ""),
        weights,
    ]
    return cells + ([_size(row.input), _size(row.output), row.verdict] if ran else [])


def _size(apart: float | None) -> str:
    if apart is None:
        return ""
    return "0" if apart == 0 else f"{apart:.1e}"


def port(found: PortReport) -> Lines:
    """What was moved where, and what was not."""
    rows = [
        [move.kind, move.source or "–", move.target or "–", move.how, "; ".join(move.notes)] for move in found.moves
    ]
    yield from ((line, "") for line in table([["", found.names[0], found.names[1], "matched by", ""], *rows]))
    yield "", ""
    for problem in found.ambiguous:
        yield f"ambiguous: {printable(problem, None)}", "bold red"
    for left in found.left:
        yield f"left: {printable(left, None)}", "yellow"
    for note in found.warnings:
        yield f"heed: {printable(note, None)}", "yellow"
    yield found.summary, "green" if found.written and not found.left else "bold"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells that stand under one another, long ones cut."""
    cells = [[_cut(printable(cell, None)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(_padded(row, widths)).rstrip() for row in cells]


def _padded(row: Iterable[str], widths: Iterable[int]) -> Iterator[str]:
    return (cell.ljust(width) for cell, width in zip(row, widths, strict=True))


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"

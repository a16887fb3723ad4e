"""The table of a network: its layers, their output shapes, parameters, cost and receptive fields, and its misfits."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convspec.layers.sentences import times

HEAD = ("layer", "kind", "settings", "output", "parameters", "MACs", "field")
_NUMBERS = ("parameters", "MACs")
_LEAST = 12  # characters of the settings, however narrow the terminal is


def lines(document: Mapping[str, Any], width: int) -> Iterator[tuple[str, str]]:
    """Yield the lines of the table with their styles, then totals, notes and the error."""
    head, rows = _columns(document)
    widths = [max(len(head[i]), *(len(row[i]) for row in rows), 0) if rows else len(head[i]) for i in range(len(head))]
    at = head.index("settings")
    widths[at] = max(min(widths[at], width - sum(widths) + widths[at] - 2 * (len(head) - 1)), _LEAST)
    styles = ["red" if "does not fit" in row else "yellow" if row[at].startswith("unknown") else "" for row in rows]
    for style, row in zip(["bold", *styles], [head, *rows], strict=True):
        cells = [_cell(text, w, name in _NUMBERS) for text, w, name in zip(row, widths, head, strict=True)]
        yield "  ".join(cells).rstrip(), style
    yield "", ""
    for text in _totals(document):
        yield text, ""
    for note in document["notes"]:
        yield from ((line, "yellow") for line in textwrap.wrap(f"note: {note}", width, subsequent_indent="  "))
    if "error" in document:
        yield from ((line, "bold red") for line in _error(document["error"], width))


def cells(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the head and the rows as texts, the totals, and the row that does not fit; JSON-ready."""
    head, rows = _columns(document)
    return {"head": head, "rows": rows, "totals": _totals(document), "misfit": "error" in document}


def markdown(document: Mapping[str, Any]) -> str:
    """Return the table, the totals, the notes and the error as Markdown."""
    head, rows = _columns(document)
    cells = [head, ["-"] * len(head), *([cell.replace("|", r"\|").replace("_", r"\_") for cell in row] for row in rows)]
    parts = ["\n".join(f"| {' | '.join(row)} |" for row in cells), *_totals(document)]
    parts += [f"Note: {note}" for note in document["notes"]]
    if "error" in document:
        first, *mends = _error(document["error"], 10_000)
        parts += [f"**{first}**", "\n".join(f"* {line.strip()}" for line in mends)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _cell(text: str, width: int, right: bool) -> str:
    short = text if len(text) <= width else f"{text[: width - 1]}…"
    return f"{short:>{width}}" if right else f"{short:{width}}"


def _columns(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows, without columns in which nothing stands."""
    rows = [
        [
            row["path"], row["kind"], row["settings"], _shape(row["output"]), _number(row["parameters"], row["again"]),
            _number(row["macs"], False), "" if row["receptive field"] is None else _field(row["receptive field"]),
        ]
        for row in document["rows"]
    ]  # fmt: skip
    if "error" in document:
        row = document["error"]["row"]
        rows.append([row["path"], row["kind"], row["settings"], "does not fit", "", "", ""])
    kept = [i for i in range(len(HEAD)) if i < 3 or any(row[i] for row in rows)]
    return [HEAD[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _shape(shape: Sequence[int] | None) -> str:
    return "" if shape is None else times(shape).replace(" ", "")


def _field(sizes: Sequence[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else times(sizes).replace(" ", "")


def _number(value: int | None, again: bool) -> str:
    return "shared" if again else "?" if value is None else f"{value:,}" if value else ""


def _totals(document: Mapping[str, Any]) -> list[str]:
    """Return the totals as sentences: of all that is known."""
    totals = document.get("totals")
    if totals is None:
        return []
    parts = []
    if totals["parameters"] is not None:
        parts.append(f"{totals['parameters']:,} parameters")
    macs = sum(row["macs"] or 0 for row in document["rows"])
    if macs:
        parts.append(f"{'' if totals['macs'] else 'at least '}{macs:,} MACs")
    if totals["activation bytes"]:
        parts.append(f"{bytes_words(totals['activation bytes'])} of activations in float32")
    results = [_shape(shape) for shape in document["outputs"] if shape is not None]
    if results:
        parts.append(f"result {' and '.join(results)}")
    return [f"{document['framework']}: {', '.join(parts)}"] if parts else []


def bytes_words(count: int) -> str:
    """Return a number of bytes in the unit that shows it best: ``1.2 MiB``."""
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def _error(error: Mapping[str, Any], width: int) -> list[str]:
    where = f" (line {error['line']})" if error["line"] > 1 else ""
    found = textwrap.wrap(f"does not fit: {error['message']}{where}", width, subsequent_indent="  ")
    for mend in error["mends"]:
        rest = "" if mend["complete"] else ", then a later layer does not fit"
        found += textwrap.wrap(f"  fix: {mend['words']}{rest}", width, subsequent_indent="    ")
    return found

"""Read what ``model.summary()`` prints: the boxes of Keras 3, the lines of Keras 2."""

from __future__ import annotations

import re
from collections.abc import Iterator

from convspec.contract.network_words import Printed, PrintedLayer
from convspec.contract.printed_tables import RULES, boxes

_HEADER = re.compile(r"Layer \(type\).*Output Shape.*Param #.*")
_ROW = re.compile(
    r"(?P<indent>[\s|└]*)(?P<name>[^\s|└]\S*)\s+\((?P<kind>\w*)(?P<closed>…?\)?)\s+"
    r"(?P<shape>\[?\([\dNone, ]*(?P<whole>\))?.*?|multiple|\?)\s+"
    r"(?P<parameters>[\d,]+)(?P<unbuilt> \(unbuilt\))?(?:\s|$)"
)


def read_summary(text: str) -> Printed | None:
    """Return the layers of a summary with the shapes and numbers that it states; None for any other text."""
    header = _HEADER.search(text)
    if header is None:
        return None
    rows = [(len(found["indent"].rstrip("└ ") or found["indent"]), found) for found in _rows(text[header.end() :])]
    layers, above = [], list[tuple[int, str]]()
    for i, (depth, found) in enumerate(rows):
        while above and above[-1][0] >= depth:
            above.pop()
        path = "/".join([*(name for _, name in above), found["name"]])
        if i + 1 < len(rows) and rows[i + 1][0] > depth:
            above.append((depth, found["name"]))  # a model whose layers follow
        elif found["kind"] != "InputLayer":
            known = not found["unbuilt"]
            count = int(found["parameters"].replace(",", "")) if known else None
            layers.append(PrintedLayer(path, found["kind"] or "Layer", _shape(found["shape"]), count))
    return Printed(layers, ordered="Connected to" not in header[0]) if layers else None


def _rows(text: str) -> Iterator[re.Match[str]]:
    """Return the rows below the header, each in one line."""
    edges = any(line.lstrip()[:2] in ("│ ", "┃ ", "+-") for line in text.splitlines())
    for line in map("  ".join, boxes(text)) if edges else _in_lines(text):
        if found := _ROW.match(line):
            yield found


def _in_lines(text: str) -> Iterator[str]:
    """Return the rows of a table without edges; a class or shape that is cut goes on in the next line."""
    row = ""
    for line in text.splitlines():
        found = None if _ROW.match(line) else _ROW.match(row)
        if found and not found["whole"] and (rest := re.search(r"(?<=\s)([\d, ]*\))\]?\s*(?:[\[']|$)", line)):
            row = f"{row[: found.end('shape')]}{rest[1].strip()}{row[found.end('shape') :]}"
        if found and found["closed"] != ")" and (rest := re.match(r"\s*([A-Za-z]\w*)\)", line)):
            row = f"{row[: found.end('kind')]}{rest[1]}){row[found.end('closed') :]}"
        elif not found and not RULES.fullmatch(line):
            yield row
            row = line
    yield row


def _shape(text: str) -> tuple[int | None, ...] | None:
    """Return the first shape of a cell."""
    found = re.search(r"\(([^()]*)\)", text)
    sizes = [n.strip() for n in found[1].split(",") if n.strip()] if found else []
    return tuple(None if n == "None" else int(n) for n in sizes) if found and all(
        n == "None" or n.isdigit() for n in sizes) else None  # fmt: skip

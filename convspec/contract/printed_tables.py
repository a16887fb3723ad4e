"""Tables with edges, which libraries print of a model."""

from __future__ import annotations

import re
from collections.abc import Iterator

EDGES = "│┃|"
RULES = re.compile(r"[\s_=¯+|\-┏┳┓┡╇┩├┼┤└┴┘┌┬┐━─│┃╞╪╡]*")
"""A line between two rows."""


def boxes(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row; the lines of a cell are joined by a space, and keep the indent of the first."""
    cells: list[str] = []
    for line in text.splitlines():
        if RULES.fullmatch(line) and not re.fullmatch(rf"\s*[{EDGES}](\s+[{EDGES}])+\s*", line):
            if cells:
                yield cells
            cells = []
        elif line.strip()[:1] in (*EDGES,):
            parts = [part.rstrip() for part in re.split(f"[{EDGES}]", line.strip().strip(EDGES))]
            cells = [f"{a} {b.strip()}".rstrip() for a, b in zip(cells or [""] * len(parts), parts, strict=False)] \
                if cells else parts  # fmt: skip
    if cells:
        yield cells

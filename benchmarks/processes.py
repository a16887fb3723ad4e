"""The processes that a benchmark has started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def descendants(process: int) -> Iterator[int]:
    """Its children and theirs, as far as they live."""
    for found in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, found.read_text("ascii").split()):
            yield child
            yield from descendants(child)

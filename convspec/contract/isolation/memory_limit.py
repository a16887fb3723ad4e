"""How much memory a worker may hold: a limit of its own, a watch from outside, and the words of those who met it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from convspec.errors import RequestError

EXIT_STATUS = 79  # of a worker that was refused memory
_SLACK = 1 << 30  # bytes of address space that frameworks reserve and never touch
_REFUSED = re.compile(
    r"MemoryError|bad_alloc|out of memory|\bOOM\b|(cannot|can't|failed to|unable to) allocate|RESOURCE_EXHAUSTED", re.I
)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parsed(text: str, option: str = "memory") -> int:
    """Bytes: ``"4GiB"``, ``"4G"``, ``"500 MiB"``, or a number of them; ``option`` is what they are given for.

    Raises:
        RequestError: if it says something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if not found:
        raise RequestError(f"{option}={text!r} must be a size, as in 4GiB or 500MiB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def said(nbytes: int) -> str:
    """The number of bytes in words that :func:`parsed` reads."""
    for unit in "TGM":
        if nbytes >= _UNITS[unit]:
            return f"{nbytes / _UNITS[unit]:.3g}{unit}iB"
    return f"{nbytes}B"


def refused(text: str) -> bool:
    """Whether these are the words of somebody who asked for memory and got none."""
    return _REFUSED.search(text) is not None


def confine(nbytes: int) -> None:
    """Let this process, as large as it is, take no more than so many bytes of address space (and some slack).

    The watch from outside is exact but looks now and then; this stops whoever is faster.
    """
    import resource

    size = _pages("self", 0)
    if size:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = size + nbytes + _SLACK
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))


def held(process: int) -> int:
    """Bytes that a process holds in memory, 0 where the system does not tell."""
    return _pages(str(process), 1)


def _pages(process: str, field: int) -> int:
    try:
        fields = Path(f"/proc/{process}/statm").read_text("ascii").split()
        return int(fields[field]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0

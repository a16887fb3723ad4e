"""The memory limit of a child process: set from inside, measured from outside, and recognised in error messages."""

from __future__ import annotations

import os
import re
from pathlib import Path

from convspec.errors import RequestError

EXIT_STATUS = 79  # of a worker that was refused memory
_REFUSAL = re.compile(
    r"MemoryError|bad[_ ]alloc|out of memory|\bOOM\b|(cannot|can't|failed to|unable to) allocate|RESOURCE_EXHAUSTED",
    re.I,
)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MOST = 1 << 63


def parse_size(text: str, option: str = "memory") -> int:
    """Return the bytes of ``"4GiB"``, ``"4G"``, ``"500 MiB"`` or a plain number; ``option`` is named in the error.

    Raises:
        RequestError: if the text is not a size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if not match:
        raise RequestError(f"{option}={text!r} must be a size, e.g. 4GiB or 500MiB")
    size = float(match[1]) * _UNITS[match[2].upper()]
    if size >= _MOST:
        raise RequestError(f"{option} must be less than 8 EiB, the limit of 64 bits")
    return int(size)


def format_size(nbytes: int) -> str:
    """Return the size as text that :func:`parse_size` reads."""
    for unit in "TGM":
        if nbytes >= _UNITS[unit]:
            return f"{nbytes / _UNITS[unit]:.3g}{unit}iB"
    return f"{nbytes}B"


def out_of_memory(text: str) -> bool:
    """Return whether an error message is that of a failed allocation."""
    return _REFUSAL.search(text) is not None


def limit_memory(more: int, *, files: bool = False) -> None:
    """Let this process allocate ``more`` bytes beyond what it has now (Linux; other systems set no limit).

    The limit counts private writable memory, touched or not: neither mapped files nor reserved addresses. A later call
    replaces it. ``files`` limits each file that the process writes to ``more`` bytes, too.
    """
    import resource

    taken = _statm("self", 5)
    limits = {resource.RLIMIT_DATA: taken + more} if taken else {}
    for kind, soft in (limits | ({resource.RLIMIT_FSIZE: more} if files else {})).items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def installed() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resident(process: int) -> int:
    """Return the bytes that a process holds in memory, 0 where the system does not report them."""
    return _statm(str(process), 1)


def _statm(process: str, field: int) -> int:
    try:
        fields = Path(f"/proc/{process}/statm").read_text("ascii").split()
        return int(fields[field]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0

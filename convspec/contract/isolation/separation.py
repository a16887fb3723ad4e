"""Keep a process from files, the network and other processes, without root: Landlock, where Linux has it.

A process gives up its rights for itself and for all that it starts, and cannot get them back. Another process then
cannot be traced or signalled by it, and only the named files can be opened. See ``man 7 landlock``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # numbers of system calls, the same on all machines
_VERSION, _BENEATH, _NO_NEW_PRIVILEGES = 1, 1, 38
_READ, _OF_FILES = 0b1101, 0b1100_0000_0000_0111  # execute, read file, read folder; what a rule for a file may hold
_FILE_RIGHTS = (13, 14, 15, 15, 16)  # bits, of the interface's versions 1 to 5
_NETWORK, _SCOPES = 0b11, 0b11  # TCP's bind and connect, version 4; abstract sockets and signals, version 6
_PROC = ("self", "cpuinfo", "meminfo", "stat", "version", "loadavg", "filesystems", "sys", "driver")
SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/nix", "/sys", "/dev",
    *(f"/proc/{name}" for name in _PROC),
)  # fmt: skip


def landlock() -> int:
    """Return the version of the kernel's interface; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(int(ctypes.CDLL(None).syscall(_CREATE, None, 0, _VERSION)), 0)


def separate(readable: Sequence[str], writable: Sequence[str]) -> bool:
    """Let this process, for good, open no files but these and the system's; return whether the kernel does so."""
    version = landlock()
    if not version:
        return False
    libc, every = ctypes.CDLL(None, use_errno=True), (1 << _FILE_RIGHTS[min(version, 5) - 1]) - 1
    words = (every, _NETWORK * (version >= 4), _SCOPES * (version >= 6))[: 1 + (version >= 4) + (version >= 6)]
    ruleset = libc.syscall(_CREATE, (ctypes.c_uint64 * len(words))(*words), 8 * len(words), 0)
    if ruleset < 0:
        return False
    rights = [*((path, _READ) for path in (*SYSTEM, *readable)), *((path, every) for path in (*writable, "/dev/shm"))]
    rights.append(("/dev", _READ | 0b10 | every & (1 << 15)))
    for path, allowed in rights:
        _allow(libc, ruleset, path, allowed)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done: int = libc.syscall(_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return done == 0


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, allowed: int) -> None:
    """Allow rights beneath a path; one that does not exist needs none."""
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    rule = (allowed if Path(path).is_dir() else allowed & _OF_FILES).to_bytes(8, sys.byteorder)
    rule += file.to_bytes(4, sys.byteorder)
    libc.syscall(_ADD, ruleset, _BENEATH, rule, 0)
    os.close(file)


def beneath(root: str, hidden: Sequence[str]) -> Iterator[str]:
    """Yield the paths that are to be readable so that everything beneath ``root`` is, but for the hidden paths.

    Hidden paths are absolute and without links. Repositories, which keep copies of files, are left out.
    """
    place = os.path.realpath(root)
    if place in hidden or Path(place).name == ".git" or any(place.startswith(f"{path}/") for path in hidden):
        return
    inside = any(path.startswith(f"{place.rstrip('/')}/") for path in hidden) or Path(place, ".git").exists()
    if not inside or not Path(place).is_dir():
        yield place
        return
    for child in sorted(Path(place).iterdir()):
        yield from beneath(str(child), hidden)

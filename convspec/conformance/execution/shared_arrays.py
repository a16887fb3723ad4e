"""The arrays of a case and its oracle: computed once, shared with every worker that needs them.

A bundle is one file of raw arrays, mapped into memory by its readers, in a folder that lives as long as the run. Where
one worker alone needs them there is no file, and the worker computes them itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.conformance.checks.expected import Data, Given, given
from convspec.conformance.trials.work_plan import Recipe
from convspec.contract.isolation import alive
from convspec.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from convspec.corpora import Case

    Array = NDArray[Any]

_ALIGN = 64
_PREFIX = "convspec-run-"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where the data of a case are.

    Attributes:
        path: of the file; None where there is none, since its only reader makes the data itself, or they failed.
        entries: ``(recipe, name, dtype, shape, offset)`` of each array in the file.
        refusal: why the layer has no output for this input, None where it has one.
        failure: why there are no data: the oracle itself failed, or a record is damaged.
        nbytes: of the file, as far as it holds the data.
    """

    path: str | None
    entries: tuple[tuple[Recipe, str, str, tuple[int, ...], int], ...] = ()
    refusal: str | None = None
    failure: str | None = None
    nbytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "entries": self.entries, "refusal": self.refusal, "nbytes": self.nbytes}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Bundle:
        entries = tuple(
            (Recipe(*recipe), name, dtype, tuple(shape), at) for recipe, name, dtype, shape, at in data["entries"]
        )
        return cls(data["path"], entries, data["refusal"], nbytes=data["nbytes"])

    def read(self) -> Given | None:
        """The data of each recipe, views of the mapped file that may be written to without changing it; or None."""
        if self.path is None:
            return None
        with Path(self.path).open("rb") as file:
            buffer = mmap.mmap(file.fileno(), self.nbytes, access=mmap.ACCESS_COPY)
        found: dict[Recipe, dict[str, Array]] = {}
        for recipe, name, dtype, shape, at in self.entries:
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(buffer, dtype, count, at).reshape(shape)
            found.setdefault(recipe, {})[name] = array
        return Given({recipe: Data.of(named) for recipe, named in found.items()}, self.refusal)


@dataclass(slots=True)
class Held:
    """A bundle in use: how many units still need it, and the bytes that it was expected to take."""

    bundle: Bundle
    users: int
    nbytes: int


class Store:
    """The folder of a run's bundles: in shared memory where there is room, removed with the run.

    A file whose bundle is dropped is written again for one of about its size: its pages are there already, and pages
    that the system must clear first take more than twice as long to write as the numbers that go into them.

    The folder is locked while its run lives; a new run removes those that a killed one left behind.
    """

    def __init__(self, capacity: int) -> None:
        parent = _room(capacity)
        for left in parent.glob(f"{_PREFIX}*"):
            _remove_if_orphaned(left)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._sharing = threading.Lock()
        self._free: dict[int, list[tuple[Path, int]]] = {}  # by the number of binary digits of their size
        self._spare = capacity // 4  # bytes that files without a bundle may still take

    def put(self, serial: int, case: Case, recipes: Iterable[Recipe]) -> Bundle:
        """Compute and write the bundle of a case; what the oracle raises is noted in it.

        Raises:
            StorageError: if there is no room for it, which is not the case's fault.
        """
        try:
            made = given(case, recipes)
            return Bundle(None, failure=made.failure) if made.failure else self._write(serial, made.data, made.refusal)
        except OSError as error:
            raise StorageError(f"cannot keep the arrays of a run in {self.folder.parent}: {error.strerror}") from None

    def drop(self, bundle: Bundle) -> None:
        """Nobody reads that bundle any more."""
        if bundle.path is None:
            return
        path = Path(bundle.path)
        with self._sharing:
            if bundle.nbytes <= self._spare:
                self._spare -= bundle.nbytes
                self._free.setdefault(bundle.nbytes.bit_length(), []).append((path, bundle.nbytes))
                return
        path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _write(self, serial: int, data: dict[Recipe, Data], refusal: str | None) -> Bundle:
        parts = [(recipe, name, array) for recipe, part in data.items() for name, array in part.named().items()]
        ends = list(accumulate((array.nbytes + -array.nbytes % _ALIGN for *_, array in parts), initial=0))
        nbytes = max(ends[-1], _ALIGN)  # an empty file cannot be mapped
        path, mode = self._file(serial, nbytes)
        with path.open(mode) as file:
            for *_, array in parts:
                file.write(np.ascontiguousarray(array).data if array.size else b"")
                file.write(bytes(-array.nbytes % _ALIGN))
            file.write(bytes(nbytes - ends[-1]))
        entries = tuple(
            (recipe, name, a.dtype.str, a.shape, at) for (recipe, name, a), at in zip(parts, ends[:-1], strict=True)
        )
        return Bundle(str(path), entries, refusal, nbytes=nbytes)

    def _file(self, serial: int, nbytes: int) -> tuple[Path, str]:
        """Where to write so many bytes, and how to open it: the file that was left last, or a new one."""
        with self._sharing:
            left = self._free.get(nbytes.bit_length())
            if not left:
                return self.folder / f"{serial}.bin", "wb"
            path, size = left.pop()
            self._spare += size
            return path, "r+b"


def _room(capacity: int) -> Path:
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2 * capacity:
        return shared
    return Path(tempfile.gettempdir())


def _remove_if_orphaned(folder: Path) -> None:
    """Remove a folder that nobody has locked and whose process is gone (one that is just starting has no lock yet)."""
    process = folder.name.removeprefix(_PREFIX).partition("-")[0]
    if not process.isdecimal() or alive(int(process)):
        return
    with contextlib.suppress(OSError):
        lock = os.open(folder / "lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)

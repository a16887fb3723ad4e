"""The arrays of a case and its oracle: computed once, shared with every worker that needs them.

They are one file, which its readers map into memory, in a folder that exists as long as the run. If only one worker
needs them, no file exists and the worker computes them itself. :class:`OraclePrefetch` computes the others ahead.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.conformance.checks.expected import Data, Given, expected_bytes, given
from convspec.conformance.trials.work_plan import Problem, Recipe
from convspec.contract.isolation import alive
from convspec.corpora import Case
from convspec.errors import StorageError

Array: TypeAlias = NDArray[Any]

_ALIGN = 64
_PREFIX = "convspec-run-"
_MOST = 256  # problems in use


@dataclass(frozen=True, slots=True)
class SharedArrays:
    """The file of a case's arrays.

    Attributes:
        path: of the file; None if its only reader computes the arrays itself, or if they failed.
        entries: ``(recipe, name, dtype, shape, offset)`` of each array in the file.
        refusal: why the layer has no output for this input, None if it has one.
        failure: why no arrays exist: the oracle itself failed, or a record is damaged.
        nbytes: of the file, as far as it holds the arrays.
    """

    path: str | None
    entries: tuple[tuple[Recipe, str, str, tuple[int, ...], int], ...] = ()
    refusal: str | None = None
    failure: str | None = None
    nbytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "entries": self.entries, "refusal": self.refusal, "nbytes": self.nbytes}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SharedArrays:
        entries = tuple(
            (Recipe(*recipe), name, dtype, tuple(shape), at) for recipe, name, dtype, shape, at in data["entries"]
        )
        return cls(data["path"], entries, data["refusal"], nbytes=data["nbytes"])

    def read(self) -> Given | None:
        """Return the arrays of each recipe, or None; writing to these views does not change the file."""
        if self.path is None:
            return None
        with Path(self.path).open("rb") as file:
            buffer = mmap.mmap(file.fileno(), self.nbytes, access=mmap.ACCESS_COPY)
        arrays: dict[Recipe, dict[str, Array]] = {}
        for recipe, name, dtype, shape, at in self.entries:
            count = int(np.prod(shape, dtype=np.int64))
            arrays.setdefault(recipe, {})[name] = np.frombuffer(buffer, dtype, count, at).reshape(shape)
        return Given({recipe: Data.of(named) for recipe, named in arrays.items()}, self.refusal)


@dataclass(slots=True)
class Lease:
    """Arrays in use: how many units still need them, and the bytes that they were expected to take."""

    arrays: SharedArrays
    users: int
    nbytes: int


class ArrayStore:
    """The folder of a run's arrays: in shared memory if that has room, removed with the run.

    A file that is no longer in use is overwritten for arrays of about its size: its pages are allocated already, and to
    clear new pages takes more than twice as long as to write the numbers.

    The folder is locked while its run lasts; a new run removes the folders of killed ones.
    """

    def __init__(self, capacity: int) -> None:
        parent = _folder_with_room(capacity)
        for folder in parent.glob(f"{_PREFIX}*"):
            _remove_if_orphaned(folder)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._free_lock = threading.Lock()
        self._free: dict[int, list[tuple[Path, int]]] = {}  # by the bit length of their size
        self._spare = capacity // 4  # bytes that further unused files may take

    def put(self, serial: int, case: Case, recipes: Sequence[Recipe]) -> SharedArrays:
        """Compute and write the arrays of a case; an error of the oracle becomes their ``failure``.

        Raises:
            StorageError: if the disk is full, which is not the case's fault.
        """
        try:
            made = given(case, recipes)
            if made.failure:
                return SharedArrays(None, failure=made.failure)
            return self._write(serial, made.data, made.refusal)
        except OSError as error:
            raise StorageError(f"cannot write the arrays of a run to {self.folder.parent}: {error.strerror}") from None

    def drop(self, arrays: SharedArrays) -> None:
        """Reuse or remove the file of arrays that nobody reads any more."""
        if arrays.path is None:
            return
        path = Path(arrays.path)
        with self._free_lock:
            if arrays.nbytes <= self._spare:
                self._spare -= arrays.nbytes
                self._free.setdefault(arrays.nbytes.bit_length(), []).append((path, arrays.nbytes))
                return
        path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _write(self, serial: int, data: dict[Recipe, Data], refusal: str | None) -> SharedArrays:
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
        return SharedArrays(str(path), entries, refusal, nbytes=nbytes)

    def _file(self, serial: int, nbytes: int) -> tuple[Path, str]:
        """Return a path for so many bytes and the mode to open it: the last unused file of that size, or a new one."""
        with self._free_lock:
            unused = self._free.get(nbytes.bit_length())
            if not unused:
                return self.folder / f"{serial}.bin", "wb"
            path, size = unused.pop()
            self._spare += size
            return path, "r+b"


def _folder_with_room(capacity: int) -> Path:
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2 * capacity:
        return shared
    return Path(tempfile.gettempdir())


def _remove_if_orphaned(folder: Path) -> None:
    """Remove a folder whose process has ended and that is not locked (a starting run has no lock yet)."""
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


class OraclePrefetch:
    """The problems of a run, each with the arrays that its units share.

    Args:
        wake: called, from any thread, when the arrays of a problem are ready.
        local: whether a worker computes the arrays of a problem that no other worker needs, which is cheaper than to
            share them.
    """

    def __init__(
        self, problems: Iterator[Problem], threads: int, capacity: int, wake: Callable[[], None], *, local: bool
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor  # no worker needs it

        self._problems, self._capacity, self._wake, self._local = problems, capacity, wake, local
        self._ready: list[Problem] = []
        self._next = next(problems, None)
        self._store = ArrayStore(capacity)
        self._threads = ThreadPoolExecutor(threads, "oracle")
        self._in_use = self._bytes = self._serial = 0
        self.pending: dict[Future[SharedArrays], tuple[Problem, int]] = {}

    @property
    def unfinished(self) -> bool:
        """Whether problems remain that :meth:`ready` has not yielded yet."""
        return self._next is not None or bool(self.pending or self._ready)

    def fill(self, wanted: int) -> None:
        """Keep so many problems under way or ready, within the bounds; one may always run, however large."""
        while self._next is not None and len(self.pending) + len(self._ready) < wanted:
            local = self._local and not self._next.shared
            nbytes = 0 if local else expected_bytes(self._next.case, self._next.recipes)
            if self._in_use and (self._in_use >= _MOST or self._bytes + nbytes > self._capacity):
                return
            self._in_use += 1
            self._bytes += nbytes
            if local:
                self._ready.append(self._next)
            else:
                self._start(self._next, nbytes)
            self._next = next(self._problems, None)

    def _start(self, problem: Problem, nbytes: int) -> None:
        self._serial += 1
        future = self._threads.submit(self._store.put, self._serial, problem.case, problem.recipes)
        self.pending[future] = (problem, nbytes)
        future.add_done_callback(lambda _: self._wake())

    def ready(self) -> Iterator[tuple[Problem, Lease]]:
        """Yield each problem whose arrays are ready, or left to the worker, once."""
        while self._ready:
            yield self._ready.pop(0), Lease(SharedArrays(None), 1, 0)
        for future in [f for f in self.pending if f.done()]:
            problem, nbytes = self.pending.pop(future)
            yield problem, Lease(future.result(), len(problem.units), nbytes)

    def release(self, lease: Lease) -> None:
        """End one unit's use of its arrays; the last one frees them."""
        lease.users -= 1
        if lease.users == 0:
            self._store.drop(lease.arrays)
            self._in_use -= 1
            self._bytes -= lease.nbytes

    def close(self) -> None:
        """Stop the threads and remove all arrays."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._store.close()

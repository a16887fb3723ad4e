"""The arrays of a case and its oracle: computed once, shared with every worker that needs them.

A bundle is one file of raw arrays, mapped into memory by its readers, in a folder that lives as long as the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import reference
from convspec.arithmetic import product
from convspec.cases import Case, arrays, uncompared
from convspec.errors import ShapeError
from convspec.parameters import ConvParams
from convspec.verdict import EXACT_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Array = NDArray[Any]

_ALIGN = 64
_PREFIX = "convspec-run-"


@dataclass(frozen=True, eq=False, slots=True)
class Data:
    """One kind of data of a case, with what the oracle says of it (None where the case has no output).

    ``ignore`` is True at the outputs that are not compared, None where all are.
    """

    params: ConvParams
    x: Array
    expected: Array | None
    magnitude: Array | None
    ignore: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where the data of a case are.

    Attributes:
        path: of the file, None where there is none.
        entries: ``(kind of data, name, dtype, shape, offset)`` of each array in the file.
        refusal: why the layer has no output for this input, None where it has one.
        failure: why there are no data: the oracle itself failed.
    """

    path: str | None
    entries: tuple[tuple[str, str, str, tuple[int, ...], int], ...] = ()
    refusal: str | None = None
    failure: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "entries": self.entries, "refusal": self.refusal}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Bundle:
        entries = tuple((kind, name, dtype, tuple(shape), at) for kind, name, dtype, shape, at in data["entries"])
        return cls(data["path"], entries, data["refusal"])

    def read(self) -> dict[str, Data]:
        """The data of each kind: views of the mapped file that may be written to without changing it."""
        assert self.path is not None
        with Path(self.path).open("rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        found: dict[str, dict[str, Array]] = {}
        for kind, name, dtype, shape, at in self.entries:
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(buffer, dtype, count, at).reshape(shape)
            found.setdefault(kind, {})[name] = array
        return {
            kind: Data(
                ConvParams(a["kernel"], a.get("bias")), a["x"], a.get("expected"), a.get("magnitude"), a.get("ignore")
            )
            for kind, a in found.items()
        }


@dataclass(slots=True)
class Held:
    """A bundle in use: how many units still need it, and the bytes that it was expected to take."""

    bundle: Bundle
    users: int
    nbytes: int


def expected_bytes(case: Case, kinds: int) -> int:
    """About how large a case's bundle will be."""
    try:
        outputs = product(case.spec.output_shape(case.input_shape))
    except ShapeError:
        outputs = 0
    return kinds * (8 * product(case.input_shape) + 8 * product(case.spec.kernel_shape) + 16 * outputs)


def compute(case: Case, kinds: Iterable[str]) -> tuple[dict[str, Data], str | None]:
    """The data of each kind, and why the case has no output (None where it has one)."""
    refusal = None
    try:
        case.spec.output_shape(case.input_shape)
    except ShapeError as error:
        refusal = str(error)
    found = {}
    for kind in kinds:
        params, x = arrays(case.varied(data=kind))
        expected = magnitude = ignore = None
        if refusal is None:
            expected = reference.conv(case.spec, params, x)
            magnitude = None if kind in EXACT_KINDS else reference.magnitude(case.spec, params, x)
            ignore = uncompared(case, params) if kind == "nonfinite_kernel" else None
        found[kind] = Data(params, x, expected, magnitude, ignore)
    return found, refusal


class Store:
    """The folder of a run's bundles: in shared memory where there is room, removed with the run.

    The folder is locked while its run lives; a new run removes those that a killed one left behind.
    """

    def __init__(self, capacity: int) -> None:
        parent = _room(capacity)
        for left in parent.glob(f"{_PREFIX}*"):
            _remove_if_orphaned(left)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._serial = 0

    def put(self, serial: int, case: Case, kinds: Iterable[str]) -> Bundle:
        """Compute and write the bundle of a case; what the oracle raises is noted in the bundle."""
        try:
            data, refusal = compute(case, kinds)
            return self._write(self.folder / f"{serial}.bin", data, refusal)
        except Exception as error:  # noqa: BLE001 – whatever it is, it costs this case and is reported with it
            return Bundle(None, failure=f"{type(error).__name__}: {error}")

    def drop(self, bundle: Bundle) -> None:
        """Remove a bundle's file."""
        if bundle.path is not None:
            Path(bundle.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _write(self, path: Path, data: dict[str, Data], refusal: str | None) -> Bundle:
        entries = []
        with path.open("wb") as file:
            at = 0
            for kind, part in data.items():
                named = {
                    "x": part.x, "kernel": part.params.kernel, "bias": part.params.bias,
                    "expected": part.expected, "magnitude": part.magnitude, "ignore": part.ignore,
                }  # fmt: skip
                for name, array in named.items():
                    if array is None:
                        continue
                    entries.append((kind, name, array.dtype.str, array.shape, at))
                    file.write(np.ascontiguousarray(array).data if array.size else b"")
                    file.write(bytes(-array.nbytes % _ALIGN))
                    at += array.nbytes + -array.nbytes % _ALIGN
            if at == 0:
                file.write(bytes(_ALIGN))  # an empty file cannot be mapped
        return Bundle(str(path), tuple(entries), refusal)


def _room(capacity: int) -> Path:
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2 * capacity:
        return shared
    return Path(tempfile.gettempdir())


def _remove_if_orphaned(folder: Path) -> None:
    """Remove a folder that nobody has locked and whose process is gone (one that is just starting has no lock yet)."""
    process = folder.name.removeprefix(_PREFIX).partition("-")[0]
    if not process.isdecimal() or _alive(int(process)):
        return
    with contextlib.suppress(OSError):
        lock = os.open(folder / "lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True

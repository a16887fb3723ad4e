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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import reference
from convspec.arithmetic import product
from convspec.cases import Case, arrays, gradient_arrays, uncompared
from convspec.conformance.units import FORWARD, GRADIENTS, Recipe
from convspec.errors import RecordError, ShapeError, StorageError
from convspec.parameters import ConvParams
from convspec.verdict import EXACT_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from convspec.contract import Gradients

    Array = NDArray[Any]

_ALIGN = 64
_PREFIX = "convspec-run-"


@dataclass(frozen=True, eq=False, slots=True)
class Data:
    """One kind of data of a case, with what the oracle says of it, by direction.

    Attributes:
        expected: empty where the case has no output.
        magnitude: empty where the data are exact.
        dy: for the gradients; None for the forward pass.
        ignore: True at the outputs that are not compared, None where all are.
    """

    params: ConvParams
    x: Array
    expected: dict[str, Array] = field(default_factory=dict)
    magnitude: dict[str, Array] = field(default_factory=dict)
    dy: Array | None = None
    ignore: NDArray[np.bool_] | None = None

    def named(self) -> dict[str, Array]:
        """Every array that there is, under a name."""
        found = {"x": self.x, "kernel": self.params.kernel, "bias": self.params.bias}
        found |= {"dy": self.dy, "ignore": self.ignore}
        found |= {f"expected {direction}": array for direction, array in self.expected.items()}
        found |= {f"magnitude {direction}": array for direction, array in self.magnitude.items()}
        return {name: array for name, array in found.items() if array is not None}

    @classmethod
    def of(cls, named: dict[str, Array]) -> Data:
        """The data whose arrays have these names."""
        expected, magnitude = (
            {name.partition(" ")[2]: array for name, array in named.items() if name.startswith(f"{prefix} ")}
            for prefix in ("expected", "magnitude")
        )
        params = ConvParams(named["kernel"], named.get("bias"))
        return cls(params, named["x"], expected, magnitude, named.get("dy"), named.get("ignore"))


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where the data of a case are.

    Attributes:
        path: of the file, None where there is none.
        entries: ``(recipe, name, dtype, shape, offset)`` of each array in the file.
        refusal: why the layer has no output for this input, None where it has one.
        failure: why there are no data: the oracle itself failed, or a record is damaged.
    """

    path: str | None
    entries: tuple[tuple[Recipe, str, str, tuple[int, ...], int], ...] = ()
    refusal: str | None = None
    failure: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "entries": self.entries, "refusal": self.refusal}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Bundle:
        entries = tuple(
            (Recipe(*recipe), name, dtype, tuple(shape), at) for recipe, name, dtype, shape, at in data["entries"]
        )
        return cls(data["path"], entries, data["refusal"])

    def read(self) -> dict[Recipe, Data]:
        """The data of each recipe: views of the mapped file that may be written to without changing it."""
        assert self.path is not None
        with Path(self.path).open("rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        found: dict[Recipe, dict[str, Array]] = {}
        for recipe, name, dtype, shape, at in self.entries:
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(buffer, dtype, count, at).reshape(shape)
            found.setdefault(recipe, {})[name] = array
        return {recipe: Data.of(named) for recipe, named in found.items()}


@dataclass(slots=True)
class Held:
    """A bundle in use: how many units still need it, and the bytes that it was expected to take."""

    bundle: Bundle
    users: int
    nbytes: int


def expected_bytes(case: Case, recipes: Sequence[Recipe]) -> int:
    """About how large a case's bundle will be."""
    try:
        outputs = product(case.spec.output_shape(case.input_shape))
    except ShapeError:
        outputs = 0
    given = product(case.input_shape) + product(case.spec.kernel_shape)
    return sum(8 * (3 * given + outputs) if recipe.backward else 8 * (given + 2 * outputs) for recipe in recipes)


def compute(case: Case, recipes: Iterable[Recipe]) -> tuple[dict[Recipe, Data], str | None]:
    """The data of each recipe, and why the case has no output (None where it has one)."""
    refusal = None
    try:
        case.spec.output_shape(case.input_shape)
    except ShapeError as error:
        refusal = str(error)
    made = {recipe: _backward if recipe.backward else _forward for recipe in recipes}
    return {
        recipe: make(case.varied(data=recipe.data), recipe, refusal is None) for recipe, make in made.items()
    }, refusal


def _given(case: Case, recipe: Recipe) -> tuple[ConvParams, Array, Array | None]:
    """Weights, input and dy (None for the forward pass): from a record, or from the seed."""
    if recipe.inputs:
        from convspec.conformance import recording

        return recording.inputs(recipe.folder, recipe.inputs, case, backward=recipe.backward)
    return gradient_arrays(case) if recipe.backward else (*arrays(case), None)


def _forward(case: Case, recipe: Recipe, has_output: bool) -> Data:
    params, x, _ = _given(case, recipe)
    if not has_output:
        return Data(params, x)
    expected, magnitude = {FORWARD: reference.conv(case.spec, params, x)}, {}
    if case.data not in EXACT_KINDS:
        magnitude = {FORWARD: reference.magnitude(case.spec, params, x)}
    ignore = uncompared(case, params) if case.data == "nonfinite_kernel" else None
    return Data(params, x, expected, magnitude, ignore=ignore)


def _backward(case: Case, recipe: Recipe, _: bool) -> Data:
    params, x, dy = _given(case, recipe)
    assert dy is not None
    expected, magnitude = _by_direction(reference.gradients(case.spec, params, x, dy)), {}
    if case.data not in EXACT_KINDS:
        magnitude = _by_direction(reference.gradient_magnitudes(case.spec, params, x, dy))
    return Data(params, x, expected, magnitude, dy)


def _by_direction(found: Gradients) -> dict[str, Array]:
    return {name: array for name in GRADIENTS if (array := getattr(found, name)) is not None}


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

    def put(self, serial: int, case: Case, recipes: Iterable[Recipe]) -> Bundle:
        """Compute and write the bundle of a case; what the oracle raises is noted in the bundle.

        Raises:
            StorageError: if there is no room for it, which is not the case's fault.
        """
        try:
            data, refusal = compute(case, recipes)
            return self._write(self.folder / f"{serial}.bin", data, refusal)
        except OSError as error:
            raise StorageError(f"cannot keep the arrays of a run in {self.folder.parent}: {error.strerror}") from None
        except RecordError as error:
            return Bundle(None, failure=str(error))
        except Exception as error:  # noqa: BLE001 – whatever it is, it costs this case and is reported with it
            return Bundle(None, failure=f"the oracle failed: {type(error).__name__}: {error}")

    def drop(self, bundle: Bundle) -> None:
        """Remove a bundle's file."""
        if bundle.path is not None:
            Path(bundle.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _write(self, path: Path, data: dict[Recipe, Data], refusal: str | None) -> Bundle:
        entries = []
        with path.open("wb") as file:
            at = 0
            for recipe, part in data.items():
                for name, array in part.named().items():
                    entries.append((recipe, name, array.dtype.str, array.shape, at))
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
    if not process.isdecimal() or alive(int(process)):
        return
    with contextlib.suppress(OSError):
        lock = os.open(folder / "lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def alive(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and somebody else's
        return True
    return True

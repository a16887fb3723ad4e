"""The files of a record: the arrays that each result was computed from, and its output.

A record is a folder with the journal of the run, ``run.jsonl``, and ``arrays/``, where the name of each file is the
SHA-256 of its content: equal arrays are stored once, and a damaged file is detected. A worker writes the files
atomically before it sends the verdict; the line of the journal names them in ``evidence["record"]``. Whoever reads a
record did not necessarily write it, so every file is checked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.conformance.trials.work_plan import FORWARD, Trial, Unit
from convspec.contract.isolation import alive, format_size
from convspec.corpora import Case
from convspec.errors import RecordError, StorageError
from convspec.spec import ConvParams, product

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.conformance.checks.checks import Attempt
    from convspec.conformance.checks.expected import Data

    Array = NDArray[Any]
    Shapes = Mapping[str, tuple[int, ...]]

SCHEMA = "convspec.record/1"
LIMIT = 1 << 30
ARRAYS = "arrays"
OUTPUT = "output"
_USED = ".used"
_FORMATS = ("float16", "float32", "float64")  # bfloat16 is stored as float32
_HEADER = 4096  # bytes of a file beyond its arrays, at most
_DIGEST = re.compile(r"[0-9a-f]{64}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # opening a FIFO does not block; it is refused later


def journal_path(folder: Path, shard: tuple[int, int] | None) -> Path:
    """The journal of a recorded run; each shard has its own, so that folders can be merged."""
    return folder / ("run.jsonl" if shard is None else f"run-{shard[0]}-of-{shard[1]}.jsonl")


def prepare(folder: Path) -> None:
    """Make the folder of a record; remove files that a killed worker left incomplete.

    Raises:
        StorageError: if the folder is not writable.
    """
    arrays = folder / ARRAYS
    try:
        arrays.mkdir(parents=True, exist_ok=True)
        for part in arrays.glob(".*.part"):
            process = part.name.split(".")[-2]
            if not (process.isdecimal() and alive(int(process))):
                part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {arrays}: {error.strerror}") from None


def output_shape(case: Case, direction: str) -> tuple[int, ...]:
    """The shape of the result in that direction, in canonical order."""
    if direction == FORWARD:
        return case.spec.output_shape(case.input_shape)
    return {"input": case.input_shape, "kernel": case.spec.kernel_shape, "bias": (case.spec.out_channels,)}[direction]


def check_digest(value: Any) -> str:
    """Return a SHA-256 in hexadecimal digits, which cannot name a file outside the folder.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    raise ValueError(f"{str(value)[:80]!r} must be the 64 hexadecimal digits of a SHA-256")


# -- writing -----------------------------------------------------------------------------------------------------------


def save(unit: Unit, trial: Trial, data: Data, attempt: Attempt) -> dict[str, Any]:
    """Write the inputs and the output of a result; return the entry for the journal."""
    assert unit.record is not None
    output = attempt.results[trial.direction]
    if output.dtype.name not in _FORMATS or output.shape != output_shape(unit.case, trial.direction):
        return {"left_out": "shape or dtype is not the layer's"}
    inputs = {"x": data.x, "kernel": data.params.kernel, "bias": data.params.bias, "dy": data.dy}
    contents = [
        _serialize({name: array for name, array in inputs.items() if array is not None}),
        _serialize({OUTPUT: output}),
    ]
    digests = [sha256(content).hexdigest() for content in contents]
    files = dict(zip(digests, contents, strict=True))
    if problem := _write_new(Path(unit.record.folder) / ARRAYS, files, unit.record.limit):
        return {"left_out": problem}
    return {"inputs": digests[0], "outputs": digests[1], "arithmetic": asdict(attempt.arithmetic[trial.direction])}


def _serialize(arrays: Mapping[str, Array]) -> bytes:
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, {"format": SCHEMA}))


def _write_new(folder: Path, files: Mapping[str, bytes], limit: int) -> str:
    """Write the files that do not exist; return why it failed, or an empty string."""
    try:
        new = {_file(folder, digest): content for digest, content in files.items()}
        new = {path: content for path, content in new.items() if not path.exists()}
        if new and not _reserve(folder / _USED, sum(map(len, new.values())), limit):
            return f"the limit of {format_size(limit)} is reached"
        for path, content in new.items():
            _write(path, content)
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    return ""


def _reserve(counter: Path, nbytes: int, limit: int) -> bool:
    """Reserve so many bytes of the limit that all workers share; return False if they exceed it."""
    with os.fdopen(os.open(counter, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        used = int(file.read() or b"0") + nbytes
        if used > limit:
            return False
        file.seek(0)
        file.write(b"%d" % used)
        return True


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _file(arrays: Path, digest: str) -> Path:
    return arrays / f"{digest}.safetensors"


# -- reading -----------------------------------------------------------------------------------------------------------


def read_inputs(folder: str, digest: str, case: Case, *, backward: bool) -> tuple[ConvParams, Array, Array | None]:
    """Weights, input and dy (None for the forward pass) of a recorded case.

    Raises:
        RecordError: naming the file and its fault.
    """
    spec = case.spec
    shapes = {"x": case.input_shape, "kernel": spec.kernel_shape}
    shapes |= {"bias": (spec.out_channels,)} if spec.bias else {}
    shapes |= {"dy": spec.output_shape(case.input_shape)} if backward else {}
    arrays = _read(folder, digest, shapes)
    return ConvParams(arrays["kernel"], arrays.get("bias")), arrays["x"], arrays.get("dy")


def read_output(folder: str, digest: str, case: Case, direction: str) -> Array:
    """A recorded output or gradient, in canonical order.

    Raises:
        RecordError: naming the file and its fault.
    """
    return _read(folder, digest, {OUTPUT: output_shape(case, direction)})[OUTPUT]


def _read(folder: str, digest: str, shapes: Shapes) -> dict[str, Array]:
    """The arrays of a file, which must have these names and shapes."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = _file(Path(folder) / ARRAYS, check_digest(digest))
    content = _content(path, 8 * sum(map(product, shapes.values())) + _HEADER)
    if sha256(content).hexdigest() != digest:
        raise RecordError(path, "its SHA-256 must be its name: it was changed or truncated")
    try:
        arrays: dict[str, Array] = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise RecordError(path, f"it must be a safetensors file of NumPy's formats: {str(error)[:80]}") from None
    actual = {key: tuple(array.shape) for key, array in arrays.items()}
    if actual != dict(shapes):
        raise RecordError(path, f"it must hold {dict(shapes)}, but has {str(actual)[:200]}")
    if strange := {array.dtype.name for array in arrays.values()} - set(_FORMATS):
        raise RecordError(path, f"its arrays must be {' or '.join(_FORMATS)}, but some are {', '.join(strange)}")
    return {key: array.copy() for key, array in arrays.items()}


def _content(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes; neither the file nor its folder may be a link."""
    if path.parent.is_symlink():
        raise RecordError(path.parent, "it must be a folder, but is a link")
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            about = os.fstat(file.fileno())
            if not S_ISREG(about.st_mode):
                raise RecordError(path, "it must be a regular file")
            if about.st_size > limit:
                raise RecordError(path, f"it must have at most {limit} bytes, but has {about.st_size}")
            return file.read(limit + 1)
    except OSError as error:
        raise RecordError(path, f"it must be a readable file that is not a link: {error.strerror}") from None

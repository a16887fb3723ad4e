"""A record: what a run computed from, and what came out, as files that another machine can read.

A folder with the run's journal, ``run.jsonl``, and ``arrays/``, where each file's name is the SHA-256 of what is in it:
equal arrays are kept once, and a file that was changed or cut short shows. Workers write the files, whole or not at
all, before the verdict leaves them; the journal's line then names them in ``evidence["record"]``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections import Counter
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.conformance.trials.work_plan import FORWARD
from convspec.contract.isolation import alive, format_size
from convspec.errors import RecordError, StorageError
from convspec.spec import ConvParams, product

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from convspec.conformance.checks.expected import Data
    from convspec.conformance.trials.run_layer import Attempt
    from convspec.conformance.trials.work_plan import Trial, Unit
    from convspec.corpora import Case

    Array = NDArray[Any]
    Shapes = Mapping[str, tuple[int, ...]]

SCHEMA = "convspec.record/1"
LIMIT = 1 << 30
ARRAYS = "arrays"
OUTPUT = "output"
_USED = ".used"
_FORMATS = ("float16", "float32", "float64")  # bfloat16 travels as float32, here as everywhere
_HEADER = 4096  # bytes of a file beyond its arrays, at most
_DIGEST = re.compile(r"[0-9a-f]{64}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO opens at once, and is refused


def journal_of(folder: Path, shard: tuple[int, int] | None) -> Path:
    """The journal of a run that is recorded in a folder; shards have others, so that folders can be put together."""
    return folder / ("run.jsonl" if shard is None else f"run-{shard[0]}-of-{shard[1]}.jsonl")


def prepare(folder: Path) -> None:
    """Make the folder of a record; what a worker that was killed left half written is removed.

    Raises:
        StorageError: if that is not possible.
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


# -- writing -----------------------------------------------------------------------------------------------------------


def kept(unit: Unit, trial: Trial, data: Data, made: Attempt) -> dict[str, Any]:
    """Keep what a result was computed from and what came out; what the journal says of it."""
    assert unit.keep is not None
    output = made.results[trial.direction]
    if output.dtype.name not in _FORMATS or output.shape != output_shape(unit.case, trial.direction):
        return {"left_out": "shape or dtype is not the layer's"}
    inputs, outputs = _packed(_inputs(data)), _packed({OUTPUT: output})
    files = {sha256(content).hexdigest(): content for content in (inputs, outputs)}
    reason = _written(Path(unit.keep.folder) / ARRAYS, files, unit.keep.limit)
    if reason:
        return {"left_out": reason}
    named = (sha256(inputs).hexdigest(), sha256(outputs).hexdigest())
    return {"inputs": named[0], "outputs": named[1], "arithmetic": asdict(made.arithmetic[trial.direction])}


def _inputs(data: Data) -> dict[str, Array]:
    found = {"x": data.x, "kernel": data.params.kernel, "bias": data.params.bias, "dy": data.dy}
    return {name: array for name, array in found.items() if array is not None}


def _packed(arrays: Mapping[str, Array]) -> bytes:
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, {"format": SCHEMA}))


def _written(folder: Path, files: Mapping[str, bytes], limit: int) -> str:
    """Write those files that are not there; why not, where it could not be done."""
    try:
        new = {_file(folder, digest): content for digest, content in files.items()}
        new = {path: content for path, content in new.items() if not path.exists()}
        if new and not _reserved(folder / _USED, sum(map(len, new.values())), limit):
            return f"the limit of {format_size(limit)} is reached"
        for path, content in new.items():
            _put(path, content)
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    return ""


def _reserved(counter: Path, nbytes: int, limit: int) -> bool:
    """Whether there is room for so many bytes more, which are then taken; one process at a time asks."""
    with os.fdopen(os.open(counter, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        used = int(file.read() or b"0") + nbytes
        if used > limit:
            return False
        file.seek(0)
        file.write(b"%d" % used)
        return True


def _put(path: Path, content: bytes) -> None:
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


# -- reading: the files are anybody's ----------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """A SHA-256 in hexadecimal digits, which therefore leads nowhere else than into the folder.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    raise ValueError(f"{str(value)[:80]!r} must be the 64 hexadecimal digits of a SHA-256")


def inputs(folder: str, name: str, case: Case, *, backward: bool) -> tuple[ConvParams, Array, Array | None]:
    """Weights, input and dy (None for the forward pass) of a recorded case.

    Raises:
        RecordError: naming the file and what is wrong with it.
    """
    spec = case.spec
    shapes = {"x": case.input_shape, "kernel": spec.kernel_shape}
    shapes |= {"bias": (spec.out_channels,)} if spec.bias else {}
    shapes |= {"dy": spec.output_shape(case.input_shape)} if backward else {}
    found = _read(folder, name, shapes)
    return ConvParams(found["kernel"], found.get("bias")), found["x"], found.get("dy")


def output(folder: str, name: str, case: Case, direction: str) -> Array:
    """A recorded output or gradient, in canonical order.

    Raises:
        RecordError: naming the file and what is wrong with it.
    """
    return _read(folder, name, {OUTPUT: output_shape(case, direction)})[OUTPUT]


def output_shape(case: Case, direction: str) -> tuple[int, ...]:
    """The shape of the result in that direction, in canonical order."""
    if direction == FORWARD:
        return case.spec.output_shape(case.input_shape)
    return {"input": case.input_shape, "kernel": case.spec.kernel_shape, "bias": (case.spec.out_channels,)}[direction]


def _read(folder: str, name: str, shapes: Shapes) -> dict[str, Array]:
    """The arrays of these names and shapes."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = _file(Path(folder) / ARRAYS, digest(name))
    content = _content(path, 8 * sum(map(product, shapes.values())) + _HEADER)
    if sha256(content).hexdigest() != name:
        raise RecordError(path, "its SHA-256 must be its name: it was changed or cut short")
    try:
        arrays: dict[str, Array] = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise RecordError(path, f"it must be a safetensors file of NumPy's formats: {str(error)[:80]}") from None
    got = {key: tuple(array.shape) for key, array in arrays.items()}
    if got != dict(shapes):
        raise RecordError(path, f"it must hold {dict(shapes)}, but has {str(got)[:200]}")
    if strange := {array.dtype.name for array in arrays.values()} - set(_FORMATS):
        raise RecordError(path, f"its arrays must be of {', '.join(_FORMATS)}, but there is {', '.join(strange)}")
    return {key: array.copy() for key, array in arrays.items()}


def _content(path: Path, most: int) -> bytes:
    """What is in a file that is no link, neither by itself nor by its folder, and no larger than it may be."""
    if path.parent.is_symlink():
        raise RecordError(path.parent, "it must be a folder, but is a link")
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            about = os.fstat(file.fileno())
            if not S_ISREG(about.st_mode):
                raise RecordError(path, "it must be a regular file")
            if about.st_size > most:
                raise RecordError(path, f"it must have at most {most} bytes, but has {about.st_size}")
            return file.read(most + 1)
    except OSError as error:
        raise RecordError(path, f"it must be a readable file that is no link: {error.strerror}") from None


# -- in words ----------------------------------------------------------------------------------------------------------


def sentences(evidence: Iterable[Mapping[str, Any]]) -> list[str]:
    """What results' evidence says of a record that was made, and of one that was replayed."""
    evidence = [entry for entry in evidence if "record" in entry or "recorded" in entry]
    made = [entry["record"] for entry in evidence if isinstance(entry.get("record"), dict)]
    left = Counter(str(entry["left_out"]) for entry in made if "left_out" in entry)
    told = []
    if made:
        reasons = ", ".join(f"{number} × {reason}" for reason, number in left.items())
        told.append(
            f"record: {len(made) - left.total()} outputs kept, {left.total()} left out" + f": {reasons}" * bool(left)
        )
    held = [entry["recorded"] for entry in evidence if isinstance(entry.get("recorded"), dict)]
    if held:
        equal = sum(entry.get("differing") == 0 for entry in held)
        told.append(f"replay: bit for bit equal: {equal} of {len(held)} outputs that were compared with recorded ones")
    return told

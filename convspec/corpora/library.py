"""Load corpora by name or path – JSON Lines, plain or gzipped –, draw samples from them, and write them."""

from __future__ import annotations

import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from convspec.corpora.architectures import cases as architecture_cases
from convspec.corpora.cases import Case
from convspec.errors import CorpusError, RequestError, SpecError, UnknownName
from convspec.spec import SIZE_RULE, ConvSpec

_FOLDER = Path(__file__).parent
LONGEST_LINE = 1 << 16
_FILES = {
    **{name: f"{name}.jsonl" for name in ("features", "regressions", "pairwise", "quantised")},
    **{name: f"{name}.jsonl.gz" for name in ("threewise", "timm")},
}


def names() -> tuple[str, ...]:
    """The names of the corpora."""
    return ("tutorial", "features", "pairwise", "threewise", "regressions", "architectures", "quantised", "timm")


def load(name_or_path: str | os.PathLike[str]) -> list[Case]:
    """Load a corpus: one of :func:`names`, a file of JSON Lines (gzipped or not), or ``"-"``, standard input.

    Raises:
        UnknownName: if it is neither a known name nor looks like a path.
        CorpusError: if the file cannot be read or one of its lines is malformed.
    """
    name = os.fspath(name_or_path)
    if name == "tutorial":
        return _tutorial()
    if name == "architectures":
        return architecture_cases()
    if name in _FILES:
        return read(_FOLDER / _FILES[name])
    if name == "-":
        return read_stdin()
    if not Path(name).exists():
        if isinstance(name_or_path, str) and not Path(name).suffix and Path(name).name == name:
            raise UnknownName("corpus", name, names())
        raise CorpusError(f"{name}: file not found")
    return read(Path(name))


def sample(cases: Sequence[Case], n: int, seed: int = 0) -> list[Case]:
    """Draw ``n`` cases, in their order; the same for the same seed on every machine, and part of any larger sample.

    Raises:
        RequestError: if ``n`` is negative.
    """
    if n < 0:
        raise RequestError(f"sample size {n} must be at least 0")

    def lot(index: int) -> tuple[str, int]:
        return sha256(f"{seed} {cases[index].id}".encode()).hexdigest(), index

    return [cases[i] for i in sorted(sorted(range(len(cases)), key=lot)[:n])]


def dump(cases: Iterable[Case]) -> str:
    """Return the cases as JSON Lines, which :func:`load` reads from a file."""
    return "".join(case.to_json() + "\n" for case in cases)


def _tutorial() -> list[Case]:
    return [
        Case(ConvSpec(1, 32, 3, padding=1), (1, 1, 28, 28), name="grey image 28x28, 32 filters"),
        Case(ConvSpec(3, 16, 3, stride=2, padding=1), (1, 3, 32, 32), name="colour image 32x32, stride 2"),
        Case(ConvSpec(3, 128, 5, padding=2), (1, 3, 64, 64), name="colour image 64x64, 128 filters"),
    ]


def read(path: Path) -> list[Case]:
    """Read the cases of a file.

    Raises:
        CorpusError: naming file, line and fault.
    """
    try:
        with path.open("rb") as file:
            return _cases(file, str(path))
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from error


def read_stdin() -> list[Case]:
    """Read cases from standard input."""
    try:
        return _cases(cast(BufferedReader, sys.stdin.buffer), "standard input")
    except OSError as error:
        raise CorpusError(f"standard input: {error.strerror or error}") from error


def _cases(file: BufferedReader, where: str) -> list[Case]:
    cases = []
    for number, line in _lines(file, where):
        try:
            cases.append(_case(line))
        except (_Fault, SpecError, UnknownName) as error:
            raise CorpusError(f"{where}:{number}: {error}") from error
    if not cases:
        raise CorpusError(f"{where}: has no case")
    return cases


def _lines(file: BufferedReader, where: str) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of every line that is not blank."""
    stream: IO[bytes] = file
    if file.peek(2).startswith(b"\x1f\x8b"):  # by its content, not its name
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=file))
    elif where.endswith(".gz"):
        raise CorpusError(f"{where}: is not gzipped, but its name ends in .gz")
    number = 0
    try:
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise CorpusError(f"{where}:{number}: is longer than {LONGEST_LINE} bytes, the limit of a case")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # byte order mark of some editors
            if line.strip():
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{where}: broken gzip data after line {number}: {error}") from error


class _Fault(ValueError):
    """The fault of a line."""


def _case(line: bytes) -> Case:
    try:
        data = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Fault(f"is not UTF-8 text: byte {line[error.start]:#04x} at position {error.start}") from None
    except RecursionError:
        raise _Fault("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _Fault(f"is not JSON: {error}") from None
    except ValueError:  # Python's limit on the digits of an int
        raise _Fault(f"has a number of thousands of digits, which must {SIZE_RULE}") from None
    if not isinstance(data, dict):
        raise _Fault(f"must be a JSON object with spec and input_shape, not {type(data).__name__}")
    return Case.from_dict({**data, "name": data.get("name", data.get("source", ""))})

"""Files of cases: JSON Lines, plain or gzipped."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from convspec.corpora.cases import Case
from convspec.errors import CorpusError, SpecError, UnknownName

LONGEST_LINE = 1 << 16


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
    return _cases(cast(BufferedReader, sys.stdin.buffer), "standard input")


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
    except ValueError as error:
        raise _Fault(f"is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise _Fault(f"must be a JSON object with spec and input_shape, not {type(data).__name__}")
    return Case.from_dict({**data, "name": data.get("name", data.get("source", ""))})

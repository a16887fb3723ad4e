"""The standard streams of the command: characters that an encoding lacks, and outputs that are closed or full."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from convspec.errors import RequestError

_ASCII = {  # what convspec's own texts are spelt with
    "×": "x", "·": "*", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "±": "+-", "≤": "<=", "√": "sqrt",
    "⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")", "∏": "prod ", "Σ": "sum ", "²": "^2", "³": "^3", "ⁿ": "^n",
    "ᵖ": "^p", "⟨": "<", "⟩": ">", "₁": "_1", "₂": "_2", "■": "#", "▨": "%", "□": "o", "█": "#", "▓": "%", "▒": "%",
    "░": ":", "─": "-", "━": "-", "│": "|", "├": "|", "└": "`", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "╸": "-",
    "╺": "-", "•": "*", "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip


def _spell(error: UnicodeError) -> tuple[str, int]:
    r"""Spell the characters that an encoding lacks in ASCII: ``x`` for ``×``, ``\u2603`` where there is no spelling."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_ASCII.get(character) or ascii(character)[1:-1] for character in missing), error.end


codecs.register_error("convspec.spell", _spell)


class _Output(io.FileIO):
    """Standard output, which may be closed, full, or left by its reader.

    The process then ends: with status 141 if the reader of a pipe has closed it, as a process that SIGPIPE kills, else
    with a message and status 2.
    """

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # a stream that does not block is full for now
                select.select([], [self], [])
            return written
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)  # for what is still buffered
            os.dup2(null, self.fileno())
            os.close(null)
            if isinstance(error, BrokenPipeError):
                raise SystemExit(141) from None
            return self._fail(data, error)

    def _fail(self, data: Any, error: OSError) -> int:
        sys.stderr.write(f"convspec: cannot write standard output: {error.strerror}\n")
        raise SystemExit(2) from None


class _Errors(_Output):
    """Standard error: messages that it does not take are lost, and change no status."""

    def _fail(self, data: Any, error: OSError) -> int:
        return len(data)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Replace the standard streams by such that work or fail in words; write what is buffered at the end.

    A closed descriptor is opened on the null device, against its direction: its use fails, and no file takes its place.
    Standard output gets another descriptor: what native code writes to the first one goes to standard error.
    """
    for descriptor, direction in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, direction), True)  # it gets the lowest free number, which is this
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    first, second = (at if stream is None else stream.fileno() for at, stream in ((1, sys.stdout), (2, sys.stderr)))
    sys.stderr = _wrap(sys.stderr, _Errors, second)
    sys.stdout = _wrap(sys.stdout, _Output, os.dup(first))
    os.dup2(second, first)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout.flush()


def _wrap(stream: TextIO | None, kind: type[_Output], descriptor: int) -> TextIO:
    encoding = "utf-8" if stream is None else stream.encoding
    raw = io.BufferedWriter(kind(descriptor, "w", closefd=False))
    lines = kind is _Errors or raw.isatty()
    return io.TextIOWrapper(raw, encoding=encoding, errors="convspec.spell", line_buffering=lines)


_own: list[TextIO] = []


@contextlib.contextmanager
def own_output() -> Iterator[None]:
    """Keep standard output for :func:`output`: what adapters, frameworks and models print goes to standard error."""
    _own.append(output())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _own.pop()


def output() -> TextIO:
    """Return the standard output of the command, to which nobody else writes."""
    return _own[-1] if _own else sys.stdout


def read_input() -> str:
    """Return the text of standard input.

    Raises:
        RequestError: if it is closed or cannot be decoded.
    """
    try:
        return sys.stdin.read()
    except OSError as error:
        raise RequestError(f"cannot read standard input: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RequestError(
            f"standard input is not {error.encoding} text: byte {error.object[error.start]:#04x} at {error.start}"
        ) from None

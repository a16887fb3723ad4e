"""What the commands share: lists of names, files of results, consoles, error messages, and output pipes."""

from __future__ import annotations

import functools
import io
import json as json_module
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO

import typer

from convspec.errors import ConvspecError, RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.conformance import Report

P = ParamSpec("P")


def write(*files: tuple[str | None, Callable[[], str]]) -> bool:
    """Write each text to its path; return whether standard output is one of them, and so taken.

    Raises:
        RequestError: if a file cannot be written.
    """
    for path, text in files:
        if path is not None:
            _write(text(), path)
    return any(path == "-" for path, _ in files)


def _write(content: str, path: str) -> None:
    """Write the text to a file atomically, or to standard output if the path is ``-``."""
    if path == "-":
        sys.stdout.write(content)
        return
    target = Path(path)
    try:
        descriptor, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        Path(part).chmod(0o644)
        Path(part).replace(target)
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}") from None


def write_json(path: str | None, document: Mapping[str, Any]) -> bool:
    """Write a document to the path, if any; return whether it takes standard output."""
    return write((path, lambda: dumps(document)))


def dumps(document: Mapping[str, Any]) -> str:
    """JSON with one line for each entry of a top-level list, so that files can be compared line by line."""

    def compact(value: Any) -> str:
        return json_module.dumps(value, ensure_ascii=False, allow_nan=False)

    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            entries = ",\n  ".join(map(compact, value))
            lines.append(f"{json_module.dumps(key)}: [\n  {entries}\n ]")
        else:
            lines.append(f"{json_module.dumps(key)}: {compact(value)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def require_writable(*paths: str | None) -> None:
    """Check before a long run that its reports can be written.

    Raises:
        RequestError: if a folder does not exist or is not writable.
    """
    for path in paths:
        folder = None if path in (None, "-") else Path(str(path)).absolute().parent
        if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise RequestError(f"cannot write {path}: {folder} is not a writable folder")


def finish(report: Report, json: str | None, html: str | None, markdown: str | None, junit: str | None) -> None:
    """Write a run's report in every format requested, print it, and exit with its status."""
    from convspec.cli.reports import run_files, run_terminal

    taken = write(
        (json, lambda: dumps(report.to_dict())),
        (html, lambda: run_files.page(report)),
        (markdown, lambda: run_files.markdown(report)),
        (junit, lambda: run_files.junit(report)),
    )
    run_terminal.show(report, console(stderr=taken))
    raise typer.Exit(1 if report.unexpected or report.missing else 0)


def parse_names(text: str | None, everything: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The names in a comma-separated list; ``all`` means ``everything``, if given."""
    if text is None:
        return None
    if text == "all" and everything:
        return everything
    if not (names := split(text)):
        raise RequestError(f"{text!r} has no name in it")
    return names


def split(text: str) -> tuple[str, ...]:
    """The words of a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def report_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command: an error of the project becomes one sentence on standard error and exit status 2."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConvspecError as error:
            sys.stderr.write(f"convspec: {error}\n")
            raise typer.Exit(2) from None

    return run


class _QuietPipe(io.FileIO):
    """A pipe whose reader may close it: the process then ends with status 141, like one killed by SIGPIPE."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # for what is still buffered
            raise SystemExit(141) from None


def quiet_pipe(stream: TextIO | None) -> TextIO:
    """Return a stream that ends the process quietly when its reader closes it; a terminal is returned as it is."""
    if stream is None:  # closed by the shell
        return Path(os.devnull).open("w", encoding="utf-8")
    if stream.isatty():
        return stream
    raw = io.BufferedWriter(_QuietPipe(stream.fileno(), "w", closefd=False))
    line_buffering = stream is sys.stderr
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=line_buffering)


def console(*, stderr: bool = False) -> Console:
    """A console; where its width is unknown, it is 200."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False)


def print_lines(lines: Iterable[tuple[str, str]], console: Console) -> None:
    """Print lines as they are – no markup, no wrapping –, each in its style."""
    from rich.text import Text

    for line, style in lines:
        console.print(Text(line, style=style), soft_wrap=True)

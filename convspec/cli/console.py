"""What the commands share: output options, consoles, error messages, and output pipes."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TextIO

import typer

from convspec.errors import ConvspecError

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.conformance import Report

P = ParamSpec("P")

_output = functools.partial(typer.Option, rich_help_panel="Output")
JsonOption = Annotated[
    str | None, _output("--json", metavar="FILE", help="Write the result as JSON (`-`: standard output).")
]
HtmlOption = Annotated[str | None, _output("--html", metavar="FILE", help="Write a self-contained HTML report.")]
MarkdownOption = Annotated[
    str | None, _output("--markdown", metavar="FILE", help="Write a summary for GitHub (`-`: standard output).")
]
JunitOption = Annotated[str | None, _output("--junit", metavar="FILE", help="Write a JUnit XML report.")]
SvgOption = Annotated[
    str | None, _output("--svg", metavar="FILE", help="Write the drawing as SVG (`-`: standard output).")
]


def write(*files: tuple[str | None, Callable[[], str]]) -> bool:
    """Write each text to its path; return whether standard output is one of them, and so taken.

    Raises:
        RequestError: if a file cannot be written.
    """
    from convspec.cli.reports import json_document

    for path, text in files:
        if path is not None:
            json_document.write(text(), path)
    return any(path == "-" for path, _ in files)


def write_report(report: Report, json: str | None, html: str | None, markdown: str | None, junit: str | None) -> bool:
    """Write a run's report in every format requested; return whether one of them takes standard output."""
    from convspec.cli.reports import json_document, run_files

    return write(
        (json, lambda: json_document.text(report)),
        (html, lambda: run_files.page(report)),
        (markdown, lambda: run_files.markdown(report)),
        (junit, lambda: run_files.junit(report)),
    )


def finish(report: Report, json: str | None, html: str | None, markdown: str | None, junit: str | None) -> None:
    """Write and print a run's report, and exit with its status."""
    from convspec.cli.reports import run_terminal

    run_terminal.show(report, console(stderr=write_report(report, json, html, markdown, junit)))
    raise typer.Exit(1 if report.unexpected or report.missing else 0)


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

"""What the commands share: an option, a console, and how an error is told."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from convspec.errors import ConvspecError

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.conformance import Report

P = ParamSpec("P")

_output = functools.partial(typer.Option, rich_help_panel="Output")
JsonOption = Annotated[
    str | None, _output("--json", metavar="FILE", help="Write the result as JSON; `-` is standard output.")
]
HtmlOption = Annotated[
    str | None, _output("--html", metavar="FILE", help="Write a page that needs nothing but itself.")
]
MarkdownOption = Annotated[
    str | None, _output("--markdown", metavar="FILE", help="Write a summary for GitHub; `-` prints it.")
]
JunitOption = Annotated[str | None, _output("--junit", metavar="FILE", help="Write a report for a test runner.")]
SvgOption = Annotated[str | None, _output("--svg", metavar="FILE", help="Write the picture; `-`: to here.")]


def write(*files: tuple[str | None, Callable[[], str]]) -> bool:
    """Write each text for which there is a path; whether standard output is one of them, and so nothing else's.

    Raises:
        RequestError: if a file cannot be written.
    """
    from convspec.cli.reports import json_document

    for path, text in files:
        if path is not None:
            json_document.write(text(), path)
    return any(path == "-" for path, _ in files)


def write_report(report: Report, json: str | None, html: str | None, markdown: str | None, junit: str | None) -> bool:
    """Write a run's report in every form that is asked for; whether standard output is taken by one of them."""
    from convspec.cli.reports import json_document, run_files

    return write(
        (json, lambda: json_document.text(report)),
        (html, lambda: run_files.page(report)),
        (markdown, lambda: run_files.markdown(report)),
        (junit, lambda: run_files.junit(report)),
    )


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the project's errors into one sentence on standard error and exit status 2."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConvspecError as error:
            sys.stderr.write(f"convspec: {error}\n")
            raise typer.Exit(2) from None
        except BrokenPipeError:  # whoever read our output has seen enough
            sys.stdout = None
            raise typer.Exit(1) from None

    return run


def console(*, stderr: bool = False) -> Console:
    """A console; where its width is unknown, lines are as long as they are."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False)


def print_lines(lines: Iterable[tuple[str, str]], console: Console) -> None:
    """Print lines as they are – no markup, no wrapping –, each in its style."""
    from rich.text import Text

    for line, style in lines:
        console.print(Text(line, style=style), soft_wrap=True)

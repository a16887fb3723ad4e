"""The one writer of the commands: lines and messages on the terminal, documents in files, and the exit status.

No other module of the command line writes to standard output or standard error.
"""

from __future__ import annotations

import codecs
import functools
import json as json_module
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, get_type_hints

import typer

from convspec.atomic_files import write_file
from convspec.cli.streams import output, own_output
from convspec.errors import ConvspecError, RequestError, printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.conformance import Report

P = ParamSpec("P")
T = TypeVar("T")
Document: TypeAlias = tuple[str | None, Callable[[], T]]  # the path, None where it is not wanted, and the content


# -- the terminal ------------------------------------------------------------------------------------------------------


def console(*, stderr: bool = False) -> Console:
    """A console; where its width is unknown, it is 200."""
    from convspec.cli.terminal import Terminal

    stream = sys.stderr if stderr else output()
    return Terminal(file=stream, width=None if stream.isatty() else 200, highlight=False)


def print_lines(lines: Iterable[tuple[str, str]], console: Console) -> None:
    """Print lines as they are – no markup, no wrapping –, each in its style."""
    from convspec.cli.terminal import print_line

    for line, style in lines:
        print_line(console, line, style)


def print_text(text: str) -> None:
    """Write text to standard output."""
    output().write(f"{printable_lines(text)}\n")


def print_message(text: object) -> None:
    """Write a message to standard error."""
    sys.stderr.write(f"convspec: {printable_lines(str(text))}\n")


# -- documents ---------------------------------------------------------------------------------------------------------

_STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1")  # whose descriptor is standard error while a command runs


def write(*files: Document[str], json: Document[Mapping[str, Any]] = (None, dict)) -> bool:
    """Write each text and the JSON to its path, ``-`` being standard output; return whether that is taken.

    Raises:
        RequestError: if a file cannot be written.
    """
    path, document = json
    if path is not None:
        _write(dumps(document()), path, "convspec.json")
    for name, text in files:
        if name is not None:
            _write(printable_lines(text()), name, "xmlcharrefreplace")
    return not {path, *(name for name, _ in files)}.isdisjoint(_STANDARD_OUTPUT)


def write_json(path: str | None, document: Mapping[str, Any]) -> bool:
    """Write a document to the path, if any; return whether it takes standard output."""
    return write(json=(path, lambda: document))


def _write(content: str, path: str, spelling: str) -> None:
    """Write to a file as UTF-8; to a standard output of another encoding as ASCII, with the document's own escapes."""
    if path in _STANDARD_OUTPUT:
        unicode = codecs.lookup(output().encoding or "utf-8").name == "utf-8"
        output().write(content if unicode else content.encode("ascii", spelling).decode("ascii"))
        return
    try:
        write_file(path, content)
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror or error}") from None


def dumps(document: Mapping[str, Any]) -> str:
    """JSON with one line for each entry of a top-level list, so that files can be compared line by line."""

    def compact(value: Any) -> str:
        text = json_module.dumps(value, ensure_ascii=False, allow_nan=False)
        return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)

    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            entries = ",\n  ".join(map(compact, value))
            lines.append(f"{compact(key)}: [\n  {entries}\n ]")
        else:
            lines.append(f"{compact(key)}: {compact(value)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _escape(text: str) -> str:
    r"""Return the characters as JSON's escapes, ``\u202e``."""
    return json_module.dumps(text)[1:-1]


def _escape_missing(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _escape(error.object[error.start : error.end]), error.end


codecs.register_error("convspec.json", _escape_missing)


def require_writable(*paths: str | None) -> None:
    """Check before a long run that its reports can be written.

    Raises:
        RequestError: if a folder does not exist or is not writable, or the path is that of a folder.
    """
    for path in paths:
        if path in (None, "-"):
            continue
        target = Path(str(path)).absolute()
        if target.is_dir():
            raise RequestError(f"cannot write {path}: it is a folder")
        if target.exists() and not target.is_file():  # a device or pipe
            if not os.access(target, os.W_OK):
                raise RequestError(f"cannot write {path}: permission denied")
        elif not (target.parent.is_dir() and os.access(target.parent, os.W_OK)):
            raise RequestError(f"cannot write {path}: {target.parent} is not a writable folder")


# -- the exit status ---------------------------------------------------------------------------------------------------


def finish(report: Report, json: str | None, html: str | None, markdown: str | None, junit: str | None) -> None:
    """Write a run's report in every format requested, print it, and exit with its status."""
    from convspec.cli.reports import run_files, run_terminal

    taken = write(
        (html, lambda: run_files.page(report)),
        (markdown, lambda: run_files.markdown(report)),
        (junit, lambda: run_files.junit(report)),
        json=(json, report.to_dict),
    )
    run_terminal.show(report, console(stderr=taken))
    raise typer.Exit(1 if report.unexpected or report.missing else 0)


def report_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command: an error of the project or the operating system becomes one message and exit status 2.

    Status 1 is a finding, which no failure may have.
    """
    command.__annotations__ = get_type_hints(command, include_extras=True)  # typer would evaluate each text six times

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with own_output():
                command(*args, **kwargs)
        except ConvspecError as error:
            print_message(error)
        except OSError as error:
            print_message(_reason(error))
        except MemoryError as error:
            print_message(f"not enough memory: {printable(error) or 'the sizes are too large'}")
        except KeyboardInterrupt:
            print_message("interrupted")
            raise typer.Exit(130) from None
        else:
            return
        raise typer.Exit(2)

    return run


def _reason(error: OSError) -> str:
    """What the operating system refuses, and where."""
    try:
        Path.cwd()
    except OSError:
        return "the working directory no longer exists; change to another one"
    place = "" if error.filename is None else f"{printable(error.filename)}: "
    return f"{place}{error.strerror or printable(error)}"

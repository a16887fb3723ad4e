"""What the commands share: an option, a console, and how an error is told."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from convspec.errors import ConvspecError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")

JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; `-` is standard output.")
]


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

"""The command ``report``: runs that were kept, shown again, put together and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from convspec.commands.console import JsonOption, console, reported

if TYPE_CHECKING:
    from convspec.conformance.results import Report

EXAMPLES = """
Examples:

    convspec report run.jsonl

    convspec report merge shard-1.jsonl shard-2.jsonl --json whole.json

    convspec report diff torch-2.11.jsonl torch-2.12.jsonl
"""

_KEPT = "A run's journal, or the document of `check --json`."


class _Group(TyperGroup):
    """``report FILE`` is ``report show FILE``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["show", *args])


app = typer.Typer(
    name="report", cls=_Group, no_args_is_help=True, epilog=EXAMPLES,
    help="Show a run that was kept (`report FILE`), merge several, or say what changed between two.",
)  # fmt: skip


@app.command()
@reported
def show(file: Annotated[str, typer.Argument(metavar="FILE", help=_KEPT)], json: JsonOption = None) -> None:
    """Print the report of a run, finished or not. Exit status as that of the run; 1 also where it is unfinished."""
    from convspec.reports import saved

    _give(saved.load(file), json)


@app.command()
@reported
def merge(files: Annotated[list[str], typer.Argument(metavar="FILE...", help=_KEPT)], json: JsonOption = None) -> None:
    """Print one report of several runs – the shards of one, say – with the declared gaps counted over all of them."""
    from convspec.reports import saved

    _give(saved.merged([saved.load(file) for file in files]), json)


@app.command()
@reported
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=_KEPT)],
    new: Annotated[str, typer.Argument(metavar="NEW", help=_KEPT)],
    json: JsonOption = None,
) -> None:
    """Say what changed from one run to another: versions, verdicts, accuracy classes, gaps.

    Exit status 1 if a verdict, a class or a gap's status is another, or a result is gone.
    """
    from convspec.reports import difference, document, saved, terminal

    document.writable(json)
    found = difference.Difference(saved.load(old), saved.load(new))
    if json is not None:
        document.write(document.dumps(found.to_dict()), json)
    out = console(stderr=json == "-")
    for line in found.lines():
        terminal.plain(out, line)
    raise typer.Exit(1 if found.changed else 0)


def _give(report: Report, json: str | None) -> None:
    from convspec.reports import document, terminal

    document.writable(json)
    if json is not None:
        document.write(document.text(report), json)
    terminal.show(report, console(stderr=json == "-"))
    raise typer.Exit(1 if report.unexpected or report.missing else 0)

"""The command ``report``: runs that were kept, shown again, put together and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from convspec.cli.console import (
    HtmlOption,
    JsonOption,
    JunitOption,
    MarkdownOption,
    console,
    reported,
    write,
    write_report,
)

if TYPE_CHECKING:
    from convspec.conformance import Report

EXAMPLES = """
Examples:

    convspec report run.jsonl --html run.html --markdown "$GITHUB_STEP_SUMMARY" --junit run.xml

    convspec report merge shard-1.jsonl shard-2.jsonl --json whole.json

    convspec report diff torch-2.11.jsonl torch-2.12.jsonl --html diff.html
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
def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help=_KEPT)],
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
) -> None:
    """Print the report of a run, finished or not. Exit status as that of the run; 1 also where it is unfinished."""
    from convspec.cli.reports import load

    _give(load.load(file), json, html, markdown, junit)


@app.command()
@reported
def merge(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=_KEPT)],
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
) -> None:
    """Print one report of several runs – the shards of one, say – with the declared gaps counted over all of them."""
    from convspec.cli.reports import load

    _give(load.merged([load.load(file) for file in files]), json, html, markdown, junit)


@app.command()
@reported
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=_KEPT)],
    new: Annotated[str, typer.Argument(metavar="NEW", help=_KEPT)],
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
) -> None:
    """Say what changed from one run to another: versions, verdicts, accuracy classes, gaps.

    Exit status 1 if a verdict, a class or a gap's status is another, or a result is gone.
    """
    from convspec.cli.reports import diff as difference
    from convspec.cli.reports import json_document, load, run_files, run_terminal

    found = difference.Difference(load.load(old), load.load(new))
    taken = write(
        (json, lambda: json_document.dumps(found.to_dict())),
        (html, lambda: run_files.difference_page(found)),
        (markdown, lambda: run_files.difference_markdown(found)),
    )
    out = console(stderr=taken)
    for line in found.lines():
        run_terminal.plain(out, line)
    raise typer.Exit(1 if found.changed else 0)


def _give(report: Report, json: str | None, html: str | None, markdown: str | None, junit: str | None) -> None:
    from convspec.cli.reports import run_terminal

    run_terminal.show(report, console(stderr=write_report(report, json, html, markdown, junit)))
    raise typer.Exit(1 if report.unexpected or report.missing else 0)

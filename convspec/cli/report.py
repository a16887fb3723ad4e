"""The command ``report``: show, merge and compare saved runs."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from convspec.cli.console import console, finish, print_lines, report_errors, write
from convspec.cli.options import HtmlOption, JsonOption, JunitOption, MarkdownOption

EXAMPLES = """
Examples:

    convspec report run.jsonl --html run.html --markdown "$GITHUB_STEP_SUMMARY" --junit run.xml

    convspec report merge shard-1.jsonl shard-2.jsonl --json whole.json

    convspec report diff torch-2.11.jsonl torch-2.12.jsonl --html diff.html
"""

_SAVED = "Journal of a run, or report of `check --json`."


class _Group(TyperGroup):
    """``report FILE`` means ``report show FILE``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or not args else ["show", *args])


app = typer.Typer(
    name="report", cls=_Group, no_args_is_help=True, epilog=EXAMPLES,
    help="Show a saved run (`report FILE`), merge several, or compare two.",
)  # fmt: skip


@app.command()
@report_errors
def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help=_SAVED)],
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
) -> None:
    """Print the report of a run, finished or not.

    Exit status 1 if something is unexpected or the run is unfinished, else 0.
    """
    from convspec.cli.reports import load

    finish(load.load(file), json, html, markdown, junit)


@app.command()
@report_errors
def merge(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=_SAVED)],
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
) -> None:
    """Print one report of several runs, e.g. the shards of one run; declared gaps are counted over all of them."""
    from convspec.cli.reports import load

    finish(load.merge([load.load(file) for file in files]), json, html, markdown, junit)


@app.command()
@report_errors
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=_SAVED)],
    new: Annotated[str, typer.Argument(metavar="NEW", help=_SAVED)],
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
) -> None:
    """Compare two runs: versions, verdicts, accuracy classes, gaps.

    Exit status 1 if a verdict, an accuracy class or the status of a gap changed, or NEW lacks a result.
    """
    from convspec.cli.reports import load, run_files
    from convspec.cli.reports.diff import Difference

    difference = Difference(load.load(old), load.load(new))
    taken = write(
        (html, lambda: run_files.difference_page(difference)),
        (markdown, lambda: run_files.difference_markdown(difference)),
        json=(json, difference.to_dict),
    )
    print_lines(((line, "") for line in difference.lines()), console(stderr=taken))
    raise typer.Exit(1 if difference.changed else 0)

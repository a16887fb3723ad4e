"""The command ``replay``: compare results here with those recorded on another machine."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from convspec.cli.check import Jobs, Journal, Memory, Timeout, names, run_shown
from convspec.cli.console import HtmlOption, JsonOption, JunitOption, MarkdownOption, finish

EXAMPLES = """
Examples:

    convspec replay gpu

    convspec replay gpu --adapters torch,onnx --devices cpu --html replay.html

    convspec replay shard-1 shard-2 --recorded torch --precision strict
"""


def replay(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="Folder written by `check --record DIR`.")],
    adapters: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Adapters to run; each is compared with its own recorded results, or with all if it has none. "
            "Default: the recorded adapters.",
        ),
    ] = None,
    recorded: Annotated[
        str | None, typer.Option(metavar="A,B", help="Use only the results recorded by these adapters.")
    ] = None,
    case: Annotated[str | None, typer.Option(metavar="ID,…", help="Replay only the cases with these ids.")] = None,
    devices: Annotated[
        str | None, typer.Option(metavar="cpu,cuda", help="Devices. Default: the recorded devices.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="P,…", help="`shipped` or `strict`. Default: the recorded precision.")
    ] = None,
    jobs: Jobs = None,
    timeout: Timeout = 120.0,
    memory: Memory = None,
    journal: Journal = None,
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
) -> None:
    """Rerun recorded layers on their recorded inputs and weights, and compare the outputs.

    Outputs may differ by the error bounds of both; exact data must be equal.
    For each mismatch, the reference shows which run has the larger error.
    """
    from convspec.cli.reports import json_document
    from convspec.conformance import PRECISIONS
    from convspec.conformance import replay as run_replay
    from convspec.contract.isolation import parse_size

    for path in (json, html, markdown, junit):
        json_document.writable(path)
    run = functools.partial(
        run_replay,
        folders,
        names(adapters),
        names(devices),
        precisions=names(precision, PRECISIONS),
        recorded=names(recorded),
        cases=names(case),
        timeout=timeout,
        memory=None if memory is None else parse_size(memory),
        journal=journal,
    )
    finish(run_shown(run, jobs, journal), json, html, markdown, junit)

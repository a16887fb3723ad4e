"""The command ``replay``: what another machine recorded, computed again here."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from convspec.cli.check import Jobs, Journal, Memory, Timeout, finish, names
from convspec.cli.console import HtmlOption, JsonOption, JunitOption, MarkdownOption

EXAMPLES = """
Examples:

    convspec replay gpu

    convspec replay gpu --adapters torch,onnx --devices cpu --html replay.html

    convspec replay shard-1 shard-2 --recorded torch --precision strict
"""


def replay(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="What `check --record DIR` wrote.")],
    adapters: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Default: those that are recorded. One that is recorded is held against its own recordings, another "
            "one against all.",
        ),
    ] = None,
    recorded: Annotated[str | None, typer.Option(metavar="A,B", help="Only what these adapters recorded.")] = None,
    case: Annotated[str | None, typer.Option(metavar="ID,…", help="Only these cases.")] = None,
    devices: Annotated[str | None, typer.Option(metavar="cpu,cuda", help="Default: those of the recordings.")] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="P,…", help="`shipped` or `strict`; default: those of the recordings.")
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
    """Compute here what `check --record` kept elsewhere, from its inputs and weights, and compare the outputs.

    Outputs may differ by no more than the errors of both; exact data must be equal. For each departure, the oracle
    says which of the two is further off.
    """
    from convspec.cli.reports import json_document
    from convspec.conformance import PRECISIONS
    from convspec.conformance import replay as run
    from convspec.contract.isolation import parse_size

    for path in (json, html, markdown, junit):
        json_document.writable(path)
    asked = functools.partial(
        run,
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
    finish(asked, jobs, journal, json, html, markdown, junit)

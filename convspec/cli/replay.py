"""The command ``replay``: compare results here with those recorded on another machine."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from convspec.cli import options
from convspec.cli.check import run_shown
from convspec.cli.console import finish, require_writable
from convspec.cli.options import option, parse_names

EXAMPLES = """
Examples:

    convspec replay gpu

    convspec replay gpu --adapters torch,onnx --devices cpu --html replay.html

    convspec replay shard-1 shard-2 --recorded torch --precision strict
"""


def replay(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="Folder written by `check --record DIR`.")],
    adapters: Annotated[str | None, option(
        "Adapters to run; each is compared with its own recorded results, or with all if it has none. "
        "Default: the recorded adapters.", "A,B")] = None,
    recorded: Annotated[str | None, option("Use only the results recorded by these adapters.", "A,B")] = None,
    case: Annotated[str | None, option("Replay only the cases with these ids.", "ID,…")] = None,
    devices: Annotated[str | None, option("Devices. Default: the recorded devices.", "cpu,cuda")] = None,
    precision: Annotated[str | None, option("`shipped` or `strict`. Default: the recorded precision.", "P,…")] = None,
    jobs: options.Jobs = None,
    timeout: options.Timeout = 120.0,
    start_timeout: options.StartTimeout = None,
    memory: options.Memory = None,
    journal: options.Journal = None,
    json: options.JsonOption = None,
    html: options.HtmlOption = None,
    markdown: options.MarkdownOption = None,
    junit: options.JunitOption = None,
) -> None:  # fmt: skip
    """Rerun recorded layers on their recorded inputs and weights, and compare the outputs.

    Outputs may differ by the error bounds of both; exact data must be equal.
    For each mismatch, the reference shows which run has the larger error.
    """
    from convspec.conformance import PRECISIONS
    from convspec.conformance import replay as run_replay
    from convspec.contract.isolation import parse_size

    require_writable(json, html, markdown, junit)
    run = functools.partial(
        run_replay, folders, parse_names(adapters), parse_names(devices), precisions=parse_names(precision, PRECISIONS),
        recorded=parse_names(recorded), cases=parse_names(case), timeout=timeout,
        start_timeout=start_timeout, memory=None if memory is None else parse_size(memory), journal=journal,
    )  # fmt: skip
    finish(run_shown(run, jobs, journal), json, html, markdown, junit)

"""The command ``fuzz``."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Annotated

import typer

from convspec.cli.check import Adapters, Dtypes, Gradients, Jobs, Layouts, Memory, Timeout, names
from convspec.cli.console import JsonOption, console
from convspec.errors import RequestError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.conformance.fuzzing import Fuzzed

EXAMPLES = """
Examples:

    convspec fuzz --minutes 30

    convspec fuzz --adapters torch,onnx --cases 500 --seed 7 --gradients --out fuzz
"""

_what = functools.partial(typer.Option, rich_help_panel="What")
_how = functools.partial(typer.Option, rich_help_panel="How")


def fuzz(
    minutes: Annotated[float | None, _what(metavar="M", help="Begin batches for so long.")] = None,
    cases: Annotated[
        int | None, _what(metavar="N", min=1, help="So many cases. Default: 200, if no time is set.")
    ] = None,
    seed: Annotated[int, _what(metavar="S", help="The same seed draws the same cases.")] = 0,
    adapters: Adapters = None,
    layouts: Layouts = None,
    dtypes: Dtypes = None,
    data: Annotated[str, _how(metavar="KIND,…", help="Kinds of data, or `all`.")] = "exact,random",
    gradients: Gradients = False,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Where failures are kept, and found again.")
    ] = "convspec-fuzz",
    jobs: Jobs = None,
    timeout: Timeout = 120.0,
    memory: Memory = None,
    json: JsonOption = None,
) -> None:
    """Check layers that nobody thought of; reduce what fails, tell causes apart, and write a script for each."""
    from convspec.cli.reports import json_document, progress
    from convspec.conformance.fuzzing import Limits
    from convspec.conformance.fuzzing import fuzz as run_fuzz
    from convspec.contract.isolation import parse_size
    from convspec.corpora import DATA_KINDS
    from convspec.spec import DTYPES

    _hypothesis_elsewhere()
    json_document.writable(json)
    kinds = names(data, DATA_KINDS) or ()
    if other := [kind for kind in kinds if kind not in DATA_KINDS]:
        raise RequestError(f"--data {other[0]!r} must be one of {', '.join(DATA_KINDS)}")
    if minutes is None and cases is None:
        cases = 200
    try:
        with progress.shown(console(stderr=True), "fuzzing") as shown:
            found = run_fuzz(
                out, names(adapters), cases=cases, minutes=minutes, seed=seed, layouts=names(layouts),
                dtypes=names(dtypes, DTYPES), data=kinds, gradients=gradients,
                limits=Limits(jobs, timeout, None if memory is None else parse_size(memory)), progress=shown,
            )  # fmt: skip
    except KeyboardInterrupt:
        sys.stderr.write(f"convspec: interrupted; what failed so far is in {out!r}, and will be run first next time\n")
        raise typer.Exit(130) from None
    if json is not None:
        json_document.write(json_document.dumps(found.to_dict()), json)
    _show(found, out, console(stderr=json == "-"))
    raise typer.Exit(1 if found.findings else 0)


def _hypothesis_elsewhere() -> None:
    """Hypothesis' own notes lie neither where we stand nor among the failures, and are gone at the end."""
    if "HYPOTHESIS_STORAGE_DIRECTORY" not in os.environ:
        folder = tempfile.mkdtemp(prefix="convspec-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder


def _show(found: Fuzzed, out: str, shown: Console) -> None:
    from rich.text import Text

    def line(text: str, style: str = "") -> None:
        shown.print(Text(printable(text, None), style), soft_wrap=True)

    for adapter, reason in found.absent.items():
        line(f"{adapter} is left out: {reason}")
    for finding in found.findings:
        line(f"{finding.count} × {finding.text}", "bold red")
        scripted = "confirmed by its reproducer.py" if finding.confirmed else finding.problem
        line(f"    {out}/{finding.name}: {scripted}" + ("" if finding.smallest else "; not reduced to the end"))
    for tally in found.too_wide:
        line(f"gap {tally.gap.id} of {tally.adapter} is too wide: {tally.passed} matching results agree", "yellow")
    for gap, count in sorted(found.declared.items()):
        line(f"{count} failures declared by {gap}")
    if found.kept:
        line(f"{found.still} of {found.kept} failures kept from before fail still")
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.verdicts.items()))
    number = len(found.findings)
    causes = f"{number} cause{'s' * (number > 1)} to look into" if number else "nothing unexpected"
    line(f"{found.cases} cases of seed {found.seed}, {found.results} results: {verdicts or 'none'}; {causes}")

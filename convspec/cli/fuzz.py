"""The command ``fuzz``."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Annotated

import typer

from convspec.cli import options
from convspec.cli.check import signals_interrupt
from convspec.cli.console import console, print_message, require_writable, write_json
from convspec.cli.options import how, option, parse_names, what
from convspec.errors import RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.conformance.fuzzing import FuzzReport

EXAMPLES = """
Examples:

    convspec fuzz --minutes 30

    convspec fuzz --adapters torch,onnx --cases 500 --seed 7 --gradients --out fuzz
"""


def fuzz(
    minutes: Annotated[float | None, what("Time limit in minutes.", "M")] = None,
    cases: Annotated[int | None, what("Number of cases. Default: 200, without --minutes.", "N", min=1)] = None,
    seed: Annotated[int, what("Random seed; the same seed draws the same cases.", "S")] = 0,
    adapters: options.Adapters = None,
    layouts: options.Layouts = None,
    dtypes: options.Dtypes = None,
    data: Annotated[str, how("Kinds of data, or `all`.", "KIND,…")] = "exact,random",
    gradients: options.Gradients = False,
    out: Annotated[str, option("Folder for failures; the next run starts with them.", "DIR")] = "convspec-fuzz",
    jobs: options.Jobs = None,
    timeout: options.Timeout = 120.0,
    start_timeout: options.StartTimeout = None,
    memory: options.Memory = None,
    json: options.JsonOption = None,
) -> None:
    """Fuzz adapters with random layers.

    Minimise each failure, group failures by cause, and write a reproducer for each cause.
    """
    from convspec.cli.reports import progress
    from convspec.conformance.fuzzing import Limits
    from convspec.conformance.fuzzing import fuzz as run_fuzz
    from convspec.contract.isolation import parse_size
    from convspec.corpora import DATA_KINDS
    from convspec.spec import DTYPES

    _redirect_hypothesis()
    require_writable(json)
    kinds = parse_names(data, DATA_KINDS) or ()
    if other := [kind for kind in kinds if kind not in DATA_KINDS]:
        raise RequestError(f"--data {other[0]!r} must be one of {', '.join(DATA_KINDS)}")
    if minutes is None and cases is None:
        cases = 200
    try:
        with signals_interrupt(), progress.display(console(stderr=True), "fuzzing") as display:
            fuzzed = run_fuzz(
                out, parse_names(adapters), cases=cases, minutes=minutes, seed=seed, layouts=parse_names(layouts),
                dtypes=parse_names(dtypes, DTYPES), data=kinds, gradients=gradients,
                limits=Limits(jobs, timeout, None if memory is None else parse_size(memory), start_timeout),
                progress=display,
            )  # fmt: skip
    except KeyboardInterrupt:
        print_message(f"interrupted; failures so far are in {out!r}; the next run starts with them")
        raise typer.Exit(130) from None
    _show(fuzzed, out, console(stderr=write_json(json, fuzzed.to_dict())))
    raise typer.Exit(1 if fuzzed.findings else 0)


def _redirect_hypothesis() -> None:
    """Let Hypothesis store its data in a temporary folder, not in the working directory."""
    if "HYPOTHESIS_STORAGE_DIRECTORY" not in os.environ:
        folder = tempfile.mkdtemp(prefix="convspec-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder


def _show(fuzzed: FuzzReport, out: str, shown: Console) -> None:
    from convspec.cli.reports.run_terminal import skipped
    from convspec.cli.terminal import print_line

    for adapter, reason in fuzzed.absent.items():
        print_line(shown, skipped(adapter, reason))
    for finding in fuzzed.findings:
        print_line(shown, f"{finding.count} × {finding.text}", "bold red")
        scripted = "confirmed by its reproducer.py" if finding.confirmed else finding.problem
        rest = "" if finding.smallest else "; not fully minimised"
        print_line(shown, f"    {out}/{finding.name}: {scripted}{rest}")
    for tally in fuzzed.too_wide:
        wide = f"gap {tally.gap.id} of {tally.adapter} is too wide: {tally.passed} matching results agree"
        print_line(shown, wide, "yellow")
    for gap, count in sorted(fuzzed.declared.items()):
        print_line(shown, f"{count} failures covered by gap {gap}")
    if fuzzed.kept:
        print_line(shown, f"{fuzzed.still} of {fuzzed.kept} failures of earlier runs still fail")
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(fuzzed.verdicts.items()))
    number = len(fuzzed.findings)
    causes = f"{number} cause{'s' * (number > 1)} of unexpected failures" if number else "0 unexpected"
    counts = f"{fuzzed.cases} cases of seed {fuzzed.seed}, {fuzzed.results} results"
    print_line(shown, f"{counts}: {verdicts or 'none'}; {causes}")

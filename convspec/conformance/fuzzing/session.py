"""A fuzz run: check batches of random cases from a seed; group the failures by cause, minimise and write them."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convspec.atomic_files import write_file
from convspec.conformance.environment import find_adapters
from convspec.conformance.fuzzing import scripts
from convspec.conformance.fuzzing.failures import FailureFile, Limits, cause, mistake, rerun, rough_cause
from convspec.conformance.fuzzing.shrink import shrink, weight
from convspec.conformance.gap_ledger import Tally
from convspec.conformance.results import Report, Result, reproduction
from convspec.conformance.runner import DATA, Progress, check
from convspec.contract import registry
from convspec.corpora import Case
from convspec.errors import RequestError, UnsupportedError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


_FIRST_BATCH, _LARGEST_BATCH = 25, 400
_SHRINKING = 600.0  # seconds at most, beyond the limit of the run
_BLOCK = 50  # cases drawn at a time


@dataclass(frozen=True, slots=True)
class Finding:
    """Failures with one cause.

    Attributes:
        name: of its folder.
        failure: the smallest one found.
        first: the failure before minimising.
        count: estimated number of failures with this cause.
        smallest: whether no simpler case has the same failure.
        confirmed: whether the reproducer shows the failure; None without one, and ``problem`` says why.
    """

    name: str
    failure: Result
    first: Result
    count: int
    smallest: bool
    confirmed: bool | None = None
    problem: str = ""

    @property
    def text(self) -> str:
        """The failure in one line."""
        known = mistake(self.failure)
        return str(self.failure) + (f"; known mistake: {known}" if known else "")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "name": self.name, "text": self.text, "count": self.count, "mistake": mistake(self.failure) or None,
            "smallest": self.smallest, "confirmed": self.confirmed, "problem": self.problem,
            "reproduce": reproduction(self.failure), "failure": self.failure.to_dict(), "first": self.first.to_dict(),
        }  # fmt: skip


@dataclass
class FuzzReport:
    """The results of a fuzz run.

    Attributes:
        findings: one for each cause.
        cases: number of cases; ``results``: number of their verdicts.
        declared: number of failures that each declared gap covers, by ``adapter: gap``.
        too_wide: gaps that match cases that agree. They do not fail a fuzz run, only a run of a corpus.
        kept: number of failures of earlier runs that were run again; ``still``: how many of them still fail.
    """

    seed: int
    findings: list[Finding] = field(default_factory=list)
    cases: int = 0
    results: int = 0
    seconds: float = 0.0
    kept: int = 0
    still: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    declared: Counter[str] = field(default_factory=Counter)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def too_wide(self) -> list[Tally]:
        return [tally for tally in self.tallies.values() if tally.status == "too wide"]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "schema": "convspec.fuzz/1", "seed": self.seed, "cases": self.cases, "results": self.results,
            "seconds": round(self.seconds, 1), "kept": self.kept, "still": self.still,
            "verdicts": dict(self.verdicts), "declared": dict(self.declared), "absent": self.absent,
            "too_wide": [tally.to_dict() for tally in self.too_wide],
            "findings": [finding.to_dict() for finding in self.findings],
        }  # fmt: skip

    def add(self, report: Report, cases: int) -> list[Result]:
        """Count a batch; return its undeclared failures."""
        self.cases += cases
        self.results += len(report.results)
        self.absent |= report.absent
        self.verdicts.update(result.verdict for result in report.results)
        self.declared.update(f"{result.adapter}: {result.gap}" for result in report.results if result.gap)
        for tally in report.gaps:
            self.tallies.setdefault((tally.adapter, tally.gap.id), Tally(tally.gap, tally.adapter)).add(tally)
        return [result for result in report.results if result.unexpected]


def fuzz(
    out: str | Path, adapters: Sequence[str] | None = None, *, cases: int | None = None, minutes: float | None = None,
    seed: int = 0, layouts: Sequence[str] | None = None, dtypes: Sequence[str] | None = None,
    data: Sequence[str] = DATA, gradients: bool = False, strategy: SearchStrategy[Case] | None = None,
    limits: Limits = Limits(),  # noqa: B008 – frozen
    progress: Callable[[Progress], None] | None = None,
) -> FuzzReport:  # fmt: skip
    """Check random cases up to a number or a time, then minimise the failures.

    The failures that an earlier run left in ``out`` are run first. One failure of each cause is minimised and written
    to a folder in ``out``: ``case.json``, and if the adapter can write scripts ``reproducer.py``, which is run once.

    Args:
        out: a folder, made if it does not exist.
        adapters: as in :func:`convspec.check`, like layouts, dtypes, data and gradients.
        cases: number of cases; ``minutes``: time in which to start batches. At least one of them is required.
        seed: the same seed draws the same cases.
        strategy: of the cases; default :func:`convspec.strategies.cases`.
        limits: of the workers.
        progress: called after every result of a batch.

    Raises:
        RequestError: if :func:`convspec.check` refuses the request, or ``out`` is not usable.
    """
    if (cases is None and minutes is None) or (cases or 1) < 1 or (minutes or 1) <= 0:
        raise RequestError(f"cases={cases}, minutes={minutes}: one of them must be given, and be more than 0")
    folder = _make_folder(Path(out))
    file, whole, began = FailureFile(folder / "failures.jsonl"), FuzzReport(seed), time.monotonic()
    failures = _rerun_file(file, adapters, limits, whole)
    end = float("inf") if minutes is None else began + 60 * minutes
    drawn = itertools.islice(stream(seed, strategy), cases)
    for batch in _batches(drawn, end, whole):
        report = check(
            batch, adapters, layouts, dtypes, data=data, gradients=gradients, jobs=limits.jobs,
            timeout=limits.timeout, memory=limits.memory, start_timeout=limits.start_timeout,
            progress=_whole_progress(progress, whole, began, end, cases),
        )  # fmt: skip
        new = whole.add(report, len(batch))
        failures += new
        file.add(_smallest_by_cause(new).values())
    whole.findings = _findings(failures, folder, limits)
    file.add(finding.failure for finding in whole.findings)
    whole.seconds = time.monotonic() - began
    return whole


def _make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"cannot make {path}: {error.strerror}") from None
    return path


def _rerun_file(file: FailureFile, adapters: Sequence[str] | None, limits: Limits, whole: FuzzReport) -> list[Result]:
    """Run the failures in the file again that belong to these adapters; return those that still fail."""
    requests = [name for name, one in find_adapters(adapters).items() if registry.absence(one) is None]
    failures = [failure for failure in file.results if failure.request in requests]
    still = [result for result in rerun(failures, limits) if result is not None and result.unexpected]
    whole.kept, whole.still = len(failures), len(still)
    return still


def _batches(cases: Iterator[Case], end: float, whole: FuzzReport) -> Iterator[list[Case]]:
    """Yield ever larger batches of the stream, each expected to finish before ``end``."""
    size, began = _FIRST_BATCH, time.monotonic()
    while time.monotonic() < end and (batch := list(itertools.islice(cases, size))):
        yield batch
        now = time.monotonic()
        rate = whole.cases / max(now - began, 1e-3)
        size = max(1, min(2 * size, _LARGEST_BATCH, round(rate * min(end - now, 1e6) + 0.5)))


def _whole_progress(
    progress: Callable[[Progress], None] | None, whole: FuzzReport, began: float, end: float, cases: int | None
) -> Callable[[Progress], None] | None:
    """Convert the progress of a batch to that of the whole run."""
    if progress is None:
        return None
    unexpected = sum(whole.verdicts.values()) - whole.verdicts["agree"] - sum(whole.declared.values())
    unexpected -= whole.verdicts["unsupported"]

    def convert(step: Progress) -> None:
        now = time.monotonic()
        left = step.left if cases is not None else max(end - now, 0.0)
        counts = (whole.results + step.done, whole.results + step.total)
        progress(Progress(*counts, now - began, left, max(unexpected, 0) + step.unexpected, step.latest))

    return convert


# -- causes ------------------------------------------------------------------------------------------------------------


def _smallest_by_cause(failures: Sequence[Result]) -> dict[tuple[str, ...], Result]:
    """The simplest failure of each rough cause."""
    smallest: dict[tuple[str, ...], Result] = {}
    for failure in sorted(failures, key=lambda one: (weight(one.case), one.case.id)):
        smallest.setdefault(rough_cause(failure), failure)
    return smallest


def _findings(failures: Sequence[Result], folder: Path, limits: Limits) -> list[Finding]:
    """Minimise and write one finding for each cause."""
    counts = Counter(rough_cause(failure) for failure in failures)
    firsts = _smallest_by_cause(failures)
    small = shrink(list(firsts.values()), lambda changed: rerun(changed, limits), time.monotonic() + _SHRINKING)
    findings: dict[tuple[str, ...], Finding] = {}
    for (rough, first), (failure, smallest) in zip(firsts.items(), small, strict=True):
        key = cause(failure)
        if key in findings:
            findings[key] = replace(findings[key], count=findings[key].count + counts[rough])
        else:
            findings[key] = Finding(_name(failure), failure, first, counts[rough], smallest)
    return [_write(finding, folder / finding.name, limits.timeout) for finding in findings.values()]


def _name(failure: Result) -> str:
    parts = [failure.request, failure.verdict, failure.direction, failure.case.id]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(part for part in parts if part != "forward"))


def _write(finding: Finding, folder: Path, timeout: float) -> Finding:
    """Write the finding to its folder and run its reproducer once."""
    script = folder / "reproducer.py"
    try:
        _make_folder(folder)
        write_file(script, scripts.script(finding.failure))
        finding = replace(finding, confirmed=scripts.confirm(script, finding.failure, timeout))
        if not finding.confirmed:
            finding = replace(finding, problem="the reproducer does not show the failure")
    except UnsupportedError as error:
        finding = replace(finding, problem=str(error))
    except OSError as error:
        raise RequestError(f"cannot write {folder}: {error.strerror}") from None
    write_file(folder / "case.json", json.dumps(finding.to_dict(), indent=2) + "\n")
    return finding


def stream(seed: int, strategy: SearchStrategy[Case] | None = None) -> Iterator[Case]:
    """Yield distinct cases without end, the same ones for the same seed and the same version of Hypothesis.

    Hypothesis also draws constants of imported modules outside site-packages: in a source checkout, the cases depend on
    the modules that the process has imported.

    Args:
        seed: of the stream.
        strategy: of the cases; default :func:`convspec.strategies.cases`.

    Raises:
        RequestError: if Hypothesis is not installed, or the strategy has no more cases.
    """
    try:
        from convspec import strategies
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        command = registry.install_command("fuzz")
        raise RequestError(f"fuzzing needs hypothesis, which is not installed: {command}") from None
    source = strategies.cases() if strategy is None else strategy
    seen: set[Case] = set()
    for block in itertools.count():
        new = [case for case in _block(source, f"{seed}/{block}") if case not in seen]
        if not new:
            raise RequestError(f"the strategy has no more than {len(seen)} cases")
        yield from new
        seen.update(new)


def _block(strategy: SearchStrategy[Case], key: str) -> list[Case]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    cases: list[Case] = []

    rules = settings(
        max_examples=_BLOCK, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip

    @seeded(key)
    @rules
    @given(strategy)
    def keep(case: Case) -> None:
        cases.append(case)

    keep()
    return list(dict.fromkeys(cases))

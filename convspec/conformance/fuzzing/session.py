"""A fuzz run: batch after batch of a seed's cases, the failures put together by cause, reduced, and written down."""

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

from convspec.conformance.fuzzing import scripts
from convspec.conformance.fuzzing.failures import Kept, Limits, again, cause, mistake, rough_cause
from convspec.conformance.fuzzing.generation import stream
from convspec.conformance.fuzzing.shrink import reduced, weight
from convspec.conformance.gap_ledger import Tally
from convspec.conformance.results import Report, Result, reproduction
from convspec.conformance.runner import DATA, Progress, check
from convspec.errors import RequestError, UnsupportedError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from convspec.corpora import Case

_FIRST_BATCH, _LARGEST_BATCH = 25, 400
_REDUCING = 600.0  # seconds at most, whatever was asked for


@dataclass(frozen=True, slots=True)
class Finding:
    """Failures with one cause.

    Attributes:
        name: of its folder.
        failure: the smallest that was found.
        first: one of those that it was reduced from.
        count: how many failures have this cause, as far as could be told.
        smallest: whether no simpler case fails alike.
        confirmed: whether the script shows the failure; None where there is no script, and ``problem`` says why.
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
        """One line that says what fails."""
        known = mistake(self.failure)
        return str(self.failure) + (f"; the mistake: {known}" if known else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name, "text": self.text, "count": self.count, "mistake": mistake(self.failure) or None,
            "smallest": self.smallest, "confirmed": self.confirmed, "problem": self.problem,
            "reproduce": reproduction(self.failure), "failure": self.failure.to_dict(), "first": self.first.to_dict(),
        }  # fmt: skip


@dataclass
class Fuzzed:
    """What a fuzz run did and found.

    Attributes:
        findings: one for each cause.
        cases: how many cases were drawn and run; ``results`` how many verdicts they gave.
        declared: how many failures each declared gap accounts for, by ``adapter: gap``.
        too_wide: gaps that match cases that agree. They do not fail the run: it is the corpora that must be whole.
        kept: how many failures of earlier runs were run again, and ``still`` how many of them fail as they did.
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
        """JSON-ready."""
        return {
            "schema": "convspec.fuzz/1", "seed": self.seed, "cases": self.cases, "results": self.results,
            "seconds": round(self.seconds, 1), "kept": self.kept, "still": self.still,
            "verdicts": dict(self.verdicts), "declared": dict(self.declared), "absent": self.absent,
            "too_wide": [tally.to_dict() for tally in self.too_wide],
            "findings": [finding.to_dict() for finding in self.findings],
        }  # fmt: skip

    def take(self, report: Report, cases: int) -> list[Result]:
        """Count a batch; returns its failures that nothing declared."""
        self.cases += cases
        self.results += len(report.results)
        self.absent |= report.absent
        self.verdicts.update(result.verdict for result in report.results)
        self.declared.update(f"{result.adapter}: {result.gap}" for result in report.results if result.gap)
        for tally in report.gaps:
            whole = self.tallies.setdefault((tally.adapter, tally.gap.id), Tally(tally.gap, tally.adapter))
            whole.add(tally)
        return [result for result in report.results if result.unexpected]


def fuzz(
    out: str | Path,
    adapters: Sequence[str] | None = None,
    *,
    cases: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    layouts: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    data: Sequence[str] = DATA,
    gradients: bool = False,
    strategy: SearchStrategy[Case] | None = None,
    limits: Limits = Limits(),  # noqa: B008 – frozen
    progress: Callable[[Progress], None] | None = None,
) -> Fuzzed:
    """Check cases of a seed until enough of them, or of the time, is through; then look into what failed.

    Failures that an earlier run left in ``out`` are run first. One failure of each cause is reduced and written to a
    folder of ``out``: ``case.json``, and where the adapter has scripts ``reproducer.py``, which is run once.

    Args:
        out: a folder; made where there is none.
        adapters: as in :func:`convspec.check`, like layouts, dtypes, data and gradients.
        cases: how many; ``minutes``: how long batches are begun. At least one of the two must be given.
        seed: of the cases: the same seed draws the same ones.
        strategy: what to draw from; default :func:`convspec.strategies.cases`.
        limits: of the workers.
        progress: called after every result of a batch.

    Raises:
        RequestError: for what :func:`convspec.check` refuses, and where ``out`` cannot be used.
    """
    if (cases is None and minutes is None) or (cases or 1) < 1 or (minutes or 1) <= 0:
        raise RequestError(f"cases={cases}, minutes={minutes}: one of them must be given, and be more than 0")
    folder = _folder(Path(out))
    kept, done, began = Kept(folder / "failures.jsonl"), Fuzzed(seed), time.monotonic()
    failures = _kept_failures(kept, adapters, limits, done)
    end = float("inf") if minutes is None else began + 60 * minutes
    drawn = itertools.islice(stream(seed, strategy), cases)
    for batch in _batches(drawn, end, done):
        found = check(
            batch, adapters, layouts, dtypes, data=data, gradients=gradients, jobs=limits.jobs,
            timeout=limits.timeout, memory=limits.memory, progress=_counted(progress, done, began, end, cases),
        )  # fmt: skip
        new = done.take(found, len(batch))
        failures += new
        kept.add(_smallest_of_each(new).values())
    done.findings = _looked_into(failures, folder, limits)
    kept.add(finding.failure for finding in done.findings)
    done.seconds = time.monotonic() - began
    return done


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{path} cannot be made: {error.strerror}") from None
    return path


def _kept_failures(kept: Kept, adapters: Sequence[str] | None, limits: Limits, done: Fuzzed) -> list[Result]:
    """What of the kept failures, those of other adapters left out, fails still."""
    from convspec.contract import registry

    asked = registry.expanded(registry.adapters() if adapters is None else adapters)
    there = [one for one in kept.results if one.request in asked and _runs(one.request)]
    results = again(there, limits)
    still = [result for result in results if result is not None and result.unexpected]
    done.kept, done.still = len(there), len(still)
    return still


def _runs(request: str) -> bool:
    from convspec.contract import registry

    return registry.absence(registry.adapter(request)) is None


def _batches(cases: Iterator[Case], end: float, done: Fuzzed) -> Iterator[list[Case]]:
    """Ever larger parts of the stream, each about as long as it may take before the end."""
    size, began = _FIRST_BATCH, time.monotonic()
    while time.monotonic() < end and (batch := list(itertools.islice(cases, size))):
        yield batch
        now = time.monotonic()
        rate = done.cases / max(now - began, 1e-3)
        size = max(1, min(2 * size, _LARGEST_BATCH, round(rate * min(end - now, 1e6) + 0.5)))


def _counted(
    progress: Callable[[Progress], None] | None, done: Fuzzed, began: float, end: float, cases: int | None
) -> Callable[[Progress], None] | None:
    """Progress within a batch, told as that of the whole run."""
    if progress is None:
        return None
    unexpected = sum(done.verdicts.values()) - done.verdicts["agree"] - sum(done.declared.values())
    unexpected -= done.verdicts["unsupported"]

    def tell(step: Progress) -> None:
        now = time.monotonic()
        left = step.left if cases is not None else max(end - now, 0.0)
        whole = (done.results + step.done, done.results + step.total)
        progress(Progress(*whole, now - began, left, max(unexpected, 0) + step.unexpected, step.latest))

    return tell


# -- causes ------------------------------------------------------------------------------------------------------------


def _smallest_of_each(failures: Sequence[Result]) -> dict[tuple[str, ...], Result]:
    """The simplest failure of each rough cause."""
    found: dict[tuple[str, ...], Result] = {}
    for failure in sorted(failures, key=lambda one: (weight(one.case), one.case.id)):
        found.setdefault(rough_cause(failure), failure)
    return found


def _looked_into(failures: Sequence[Result], folder: Path, limits: Limits) -> list[Finding]:
    """One finding for each cause, written down."""
    counts = Counter(rough_cause(failure) for failure in failures)
    firsts = _smallest_of_each(failures)
    small = reduced(list(firsts.values()), lambda changed: again(changed, limits), time.monotonic() + _REDUCING)
    found: dict[tuple[str, ...], Finding] = {}
    for (rough, first), (failure, smallest) in zip(firsts.items(), small, strict=True):
        shared = cause(failure)
        if shared in found:
            found[shared] = replace(found[shared], count=found[shared].count + counts[rough])
        else:
            found[shared] = Finding(_name(failure), failure, first, counts[rough], smallest)
    return [_written(finding, folder / finding.name, limits.timeout) for finding in found.values()]


def _name(failure: Result) -> str:
    parts = [failure.request, failure.verdict, failure.direction, failure.case.id]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(part for part in parts if part != "forward"))


def _written(finding: Finding, folder: Path, timeout: float) -> Finding:
    """The finding with its folder filled, its script run once."""
    script = folder / "reproducer.py"
    try:
        _folder(folder)
        script.write_text(scripts.script(finding.failure), "utf-8")
        finding = replace(finding, confirmed=scripts.confirmed(script, finding.failure, timeout))
        if not finding.confirmed:
            finding = replace(finding, problem="the script does not show the failure")
    except UnsupportedError as error:
        finding = replace(finding, problem=str(error))
    except OSError as error:
        raise RequestError(f"{folder} cannot be written: {error.strerror}") from None
    (folder / "case.json").write_text(json.dumps(finding.to_dict(), indent=2) + "\n", "utf-8")
    return finding

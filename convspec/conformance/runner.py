"""``convspec.check``: cases × adapters × layouts → verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from convspec import gaps, registry
from convspec.cases import DATA_KINDS, Case
from convspec.conformance.checks import Outcome
from convspec.conformance.environment import cores, environment
from convspec.conformance.results import Report, Result
from convspec.conformance.scheduler import Scheduler
from convspec.conformance.units import PROBE, Selection, Target, Unit
from convspec.contract import Adapter
from convspec.dtypes import DTYPES
from convspec.errors import RequestError, UnknownName
from convspec.layouts import LAYOUTS

TIMEOUT = 120.0
DATA = ("exact", "random")
KINDS = (*DATA_KINDS, PROBE)
PRECISIONS = ("shipped", "strict")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: results reached and in all, seconds since the start, and a guess at those left."""

    done: int
    total: int
    elapsed: float
    left: float | None
    unexpected: int
    latest: Result | None = None


def check(
    cases: Iterable[Case],
    adapters: Sequence[str] | None = None,
    layouts: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
    *,
    data: Sequence[str] = DATA,
    precisions: Sequence[str] = ("shipped",),
    gradients: bool = False,
    jobs: int | None = None,
    timeout: float = TIMEOUT,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Build every case in every adapter and layout, run it, and judge its output against the oracle.

    Each adapter runs in worker processes of its own, so a framework that aborts or hangs costs one case; works from
    a script without a ``__main__`` guard.

    Args:
        adapters: names; by default all whose framework is installed. ``"torch:*"`` takes every variant, and
            ``["all"]`` every variant of every adapter whose framework is installed.
        layouts: ``"NCHW"``, ``"NHWC"``; both by default.
        dtypes: names; by default each case's own.
        devices: names; by default each case's own.
        data: kinds of data, of :data:`convspec.cases.DATA_KINDS`; ``"probe"`` measures the accuracy class.
        precisions: ``"shipped"``, ``"strict"``: whether switches like TF32 are left alone or turned off.
        gradients: whether those of input, kernel and bias are checked too, on exact and on random data.
        jobs: how many workers may be busy at a time; by default the number of cores.
        timeout: seconds that one build and run may take.
        progress: called after every result.

    Raises:
        RequestError: for unknown names, and where an adapter asked for by name cannot run here.
    """
    _known("layout", layouts, LAYOUTS)
    _known("dtype", dtypes, DTYPES)
    _known("kind of data", data, KINDS)
    _known("precision", precisions, PRECISIONS)
    if jobs is not None and jobs < 1:
        raise RequestError(f"jobs={jobs} must be at least 1")
    if timeout <= 0:
        raise RequestError(f"timeout={timeout} must be more than 0 seconds")
    found, absent = _find(adapters)
    selection = Selection(
        tuple(found), _tuple(layouts), _tuple(dtypes), _tuple(devices), tuple(precisions), tuple(data), gradients
    )
    run = _Run(tuple(cases), found, absent, selection, named=_by_name(adapters), progress=progress)
    return run.go(jobs or cores(), timeout)


def _known(kind: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    for name in names or ():
        if name not in known:
            raise UnknownName(kind, name, known)


def _find(names: Sequence[str] | None) -> tuple[dict[str, Adapter], dict[str, str]]:
    """The adapters by the name that they were asked for, and why others are absent; a named one must be there."""
    found, absent = {}, {}
    for name in registry.expanded(registry.adapters() if names is None else names):
        adapter = registry.adapter(name)
        reason = registry.absence(adapter)
        if reason is None:
            found[name] = adapter
        elif _by_name(names):
            raise RequestError(reason)
        else:
            absent[name] = reason
    if not found:
        raise RequestError("no adapter to check with: " + ("; ".join(absent.values()) or "none was named"))
    return found, absent


def _by_name(names: Sequence[str] | None) -> bool:
    """Whether somebody named the adapters, so that none of them may be absent."""
    return names is not None and "all" not in names


class _Run:
    """One call of :func:`check`: takes the scheduler's outcomes and makes them a report."""

    def __init__(
        self,
        cases: tuple[Case, ...],
        adapters: dict[str, Adapter],
        absent: dict[str, str],
        selection: Selection,
        *,
        named: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.cases, self.adapters, self.absent, self.selection = cases, adapters, absent, selection
        self.named, self.progress = named, progress
        self.versions: dict[str, str] = {}
        self.ledger = gaps.Ledger()
        for adapter in adapters.values():
            versions = adapter.versions()
            self.versions |= versions
            self.ledger.declare(adapter.name, gaps.applying(adapter, versions))
        self.results: list[tuple[int, Result]] = []
        self.unexpected = 0

    def go(self, jobs: int, timeout: float) -> Report:
        self.total = sum(len(u.trials) for p in self.selection.problems(self.cases) for u in p.units)
        self.started = time.monotonic()
        self.scheduler = Scheduler(self._take, self._miss, jobs=jobs, timeout=timeout)
        self.scheduler.run(lambda: self.selection.problems(self.cases))
        return self._report(jobs)

    def _take(self, unit: Unit, outcome: Outcome) -> None:
        """One verdict, on its way into the report."""
        case, adapter = unit.case_of(outcome.trial), self.adapters[unit.target.request]
        support, why = outcome.support, outcome.support_reason
        if support == "unknown":  # the worker died before it could tell
            support, why = _support(adapter, case)
        said = "\n".join([outcome.reason, *(str(outcome.evidence.get(key, "")) for key in ("message", "last_words"))])
        gap = self.ledger.judge(
            case, adapter.name, adapter.variant, support, outcome.verdict, said, outcome.trial.direction
        )
        result = Result(
            case, adapter.name, unit.target.request, adapter.variant, unit.target.precision, support, why,
            outcome.verdict, outcome.reason, outcome.accuracy_class, outcome.evidence, gap, outcome.seconds,
            outcome.trial.direction,
        )  # fmt: skip
        self.results.append((unit.index, result))
        self.unexpected += result.unexpected
        if self.progress is not None:
            elapsed = time.monotonic() - self.started
            left = self.scheduler.seconds_left()
            self.progress(Progress(len(self.results), self.total, elapsed, left, self.unexpected, result))

    def _miss(self, target: Target, reason: str) -> None:
        """A worker says that its framework, or the device, is not there."""
        if self.named:
            raise RequestError(reason)
        where = target.request if target.device == "cpu" else f"{target.request} on {target.device}"
        self.absent[where] = reason

    def _report(self, jobs: int) -> Report:
        if not self.results and self.cases:
            raise RequestError("nothing could be checked: " + "; ".join(dict.fromkeys(self.absent.values())))
        about = environment()
        about["versions"] |= self.versions
        about |= {"adapters": list(self.adapters), "cases": len(self.cases), "jobs": jobs, "seed": self._seeds()}
        about["seconds"] = round(time.monotonic() - self.started, 3)
        return Report(about, tuple(self._ordered()), tuple(self.ledger.all()), self.absent)

    def _seeds(self) -> int | list[int]:
        seeds = sorted({case.seed for case in self.cases})
        return seeds[0] if len(seeds) == 1 else seeds

    def _ordered(self) -> Iterable[Result]:
        """The results in the order of the cases, then of adapters and trials, however the workers took them."""
        names = {name: place for place, name in enumerate(self.adapters)}
        found = sorted(self.results, key=lambda pair: (pair[0], names[pair[1].request]))
        return (result for _, result in found)


def _support(adapter: Adapter, case: Case) -> tuple[str, str]:
    try:
        support = adapter.support(case.spec, case.layout, case.dtype, case.device)
    except Exception as error:  # noqa: BLE001 – the verdict stands; only what the adapter says of itself is missing
        return "unknown", str(error)
    return str(support), support.reason


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))

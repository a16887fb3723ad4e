"""``convspec.check``: cases × adapters × layouts → verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from convspec import gaps, registry
from convspec.cases import Case
from convspec.conformance.checks import Outcome
from convspec.conformance.environment import cores, environment
from convspec.conformance.results import Report, Result
from convspec.conformance.scheduler import Scheduler
from convspec.conformance.units import Selection, Target, Unit
from convspec.contract import Adapter
from convspec.dtypes import DTYPES
from convspec.errors import FrameworkAbsent, RequestError, UnknownName
from convspec.layouts import LAYOUTS

TIMEOUT = 120.0


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
    jobs: int | None = None,
    timeout: float = TIMEOUT,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Build every case in every adapter and layout, run it, and judge its output against the oracle.

    Each adapter runs in worker processes of its own, so a framework that aborts or hangs costs one case; works from
    a script without a ``__main__`` guard.

    Args:
        adapters: names; by default all whose framework is installed. ``"torch:*"`` takes every variant.
        layouts: ``"NCHW"``, ``"NHWC"``; both by default.
        dtypes: names; by default each case's own.
        devices: names; by default each case's own.
        jobs: how many workers may be busy at a time; by default the number of cores.
        timeout: seconds that one build and run may take.
        progress: called after every result.

    Raises:
        RequestError: for unknown names, and where an adapter asked for by name cannot run here.
    """
    run = _Run(tuple(cases), adapters, layouts, dtypes, devices, progress)
    run.go(jobs or cores(), timeout)
    return run.report(jobs or cores())


class _Run:
    """One call of :func:`check`."""

    def __init__(
        self,
        cases: tuple[Case, ...],
        adapters: Sequence[str] | None,
        layouts: Sequence[str] | None,
        dtypes: Sequence[str] | None,
        devices: Sequence[str] | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        for layout in layouts or ():
            if layout not in LAYOUTS:
                raise UnknownName("layout", layout, LAYOUTS)
        for dtype in dtypes or ():
            if dtype not in DTYPES:
                raise UnknownName("dtype", dtype, DTYPES)
        self.cases, self.progress, self.named = cases, progress, adapters is not None
        self.absent: dict[str, str] = {}
        self.adapters = self._find(adapters)
        self.versions: dict[str, str] = {}
        self.ledger = gaps.Ledger()
        for adapter in self.adapters.values():
            found = adapter.versions()
            self.versions |= found
            self.ledger.declare(adapter.name, gaps.applying(adapter, found))
        self.selection = Selection(tuple(self.adapters), _tuple(layouts), _tuple(dtypes), _tuple(devices))
        self.results: list[Result] = []
        self.unexpected = 0

    def _find(self, names: Sequence[str] | None) -> dict[str, Adapter]:
        """The adapters by the name that they were asked for, those that are absent noted or refused."""
        found = {}
        for name in registry.expanded(registry.adapters() if names is None else names):
            adapter = registry.adapter(name)
            reason = registry.absence(adapter)
            if reason is None:
                found[name] = adapter
            elif self.named:
                raise RequestError(reason)
            else:
                self.absent[name] = reason
        if not found:
            raise RequestError("no adapter to check: " + ("; ".join(self.absent.values()) or "none is declared"))
        return found

    def go(self, jobs: int, timeout: float) -> None:
        if jobs < 1 or timeout <= 0:
            raise RequestError(f"jobs={jobs} must be at least 1 and timeout={timeout} more than 0")
        self.total = sum(len(u.trials) for p in self.selection.problems(self.cases) for u in p.units)
        self.started = time.monotonic()
        self.scheduler = Scheduler(self._take, self._miss, jobs=jobs, timeout=timeout)
        self.scheduler.run(lambda: self.selection.problems(self.cases))

    def _take(self, unit: Unit, outcome: Outcome) -> None:
        """One verdict, on its way into the report."""
        case, adapter = unit.case_of(outcome.trial), self.adapters[unit.target.request]
        support, why = outcome.support, outcome.support_reason
        if support == "unknown":  # the worker died before it could tell
            support, why = _support(adapter, case)
        gap = self.ledger.judge(case, adapter.name, adapter.variant, support, outcome.verdict, outcome.reason)
        result = Result(
            case, adapter.name, unit.target.request, adapter.variant, unit.target.precision, support, why,
            outcome.verdict, outcome.reason, outcome.accuracy_class, outcome.evidence, gap, outcome.seconds,
        )  # fmt: skip
        self.results.append(result)
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

    def report(self, jobs: int) -> Report:
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
        place = {case.id: n for n, case in reversed(list(enumerate(self.cases)))}
        names = list(self.adapters)
        return sorted(self.results, key=lambda r: (place[r.case.id], names.index(r.request)))


def _support(adapter: Adapter, case: Case) -> tuple[str, str]:
    try:
        support = adapter.support(case.spec, case.layout, case.dtype, case.device)
    except (FrameworkAbsent, ValueError, TypeError, LookupError, ArithmeticError) as error:
        return "unknown", str(error)
    return str(support), support.reason


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))

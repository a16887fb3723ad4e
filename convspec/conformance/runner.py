"""``convspec.check``: cases × adapters × layouts → verdicts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convspec.conformance import gap_ledger
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.compressed_list import CompressedList
from convspec.conformance.environment import Site, by_name, known, listed, local
from convspec.conformance.execution.scheduler import Scheduler
from convspec.conformance.journal import Journal, Opening, Record, summed_up
from convspec.conformance.records import write
from convspec.conformance.remote.dask_cluster import Cluster
from convspec.conformance.remote.executor import Somewhere, Submitter
from convspec.conformance.request import Request, of_cases
from convspec.conformance.results import Report, Result, reproduction
from convspec.conformance.trials.work_plan import ASKED, PRECISIONS, Keep, Selection, Target, Unit, expanded
from convspec.contract import Adapter
from convspec.corpora import Case
from convspec.errors import RequestError
from convspec.spec import DTYPES, LAYOUTS

TIMEOUT = 120.0
DATA = ("exact", "random")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: results reached and in all, seconds since the start, and a guess at those left.

    ``before`` is how many of the results an earlier session of a resumed run had reached.
    """

    done: int
    total: int
    elapsed: float
    left: float | None
    unexpected: int
    latest: Result | None = None
    before: int = 0


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
    memory: int | None = None,
    shard: tuple[int, int] | None = None,
    journal: str | os.PathLike[str] | None = None,
    record: str | os.PathLike[str] | None = None,
    record_limit: int = write.LIMIT,
    origin: Mapping[str, Any] | None = None,
    executor: Somewhere | None = None,
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
        data: kinds of data, of :data:`convspec.corpora.cases.DATA_KINDS`; ``"probe"`` measures the accuracy class;
            ``"metamorphic"`` checks relations between runs, which need no oracle – or one of them, by its name.
        precisions: ``"shipped"``, ``"strict"``: whether switches like TF32 are left alone or turned off.
        gradients: whether those of input, kernel and bias are checked too, on exact and on random data.
        jobs: how many workers may be busy at a time; by default the number of cores. With an executor: how many
            chunks of cases are under way; by default two for each thread of a cluster.
        timeout: seconds that one build and run may take.
        memory: bytes that a worker may hold; what takes more is a crash with the reason ``memory``.
        shard: ``(i, n)``: only every n-th case, from the i-th on; the first is 1.
        journal: a new file, in which every verdict is written as it is reached; see :func:`resume`.
        record: a folder in which the journal and the inputs, weights and outputs are kept; see
            :func:`convspec.replay`. Not with an executor.
        record_limit: bytes that these arrays may take; what does not fit is left out and counted.
        origin: where the cases come from, for whoever reads the report.
        executor: where the work is done instead of in local workers: a :class:`convspec.Cluster`, any executor, or
            a function that gives one for a :class:`~convspec.conformance.trials.work_plan.Target`; each chunk of cases
            runs in an isolated child over there.
        progress: called after every result.

    Raises:
        RequestError: for unknown names, and where an adapter asked for by name cannot run here.
        ExecutorError: if the executor cannot go on.
        JournalError: if the journal cannot be written any more.
    """
    known("layout", layouts, LAYOUTS)
    known("dtype", dtypes, DTYPES)
    known("kind of data", data, ASKED)
    known("precision", precisions, PRECISIONS)
    if record is not None and (journal is not None or executor is not None):
        raise RequestError("record keeps a journal of its own and needs local workers: leave journal and executor out")
    listed("adapter names", adapters)
    listed("devices", devices)
    cases = of_cases(cases)
    site = _site(adapters, devices or [case.device for case in cases], jobs, executor)
    selection = Selection(
        tuple(site.adapters), _tuple(layouts), _tuple(dtypes), _tuple(devices), tuple(precisions), expanded(data),
        gradients,
    )  # fmt: skip
    limits = (timeout, memory, shard)
    kept = None if record is None else record_limit
    request = Request(cases, selection, by_name(adapters), *limits, origin or {}, kept)
    if record is not None:
        folder = Path(record).absolute()
        write.prepare(folder)
        journal = write.journal_of(folder, shard)
    return begin(request, site, journal, executor, progress)


def begin(
    request: Request,
    site: Site,
    journal: str | os.PathLike[str] | None,
    executor: Somewhere | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """A run from its beginning to its report; the arguments are those of :func:`check`, but for the site."""
    opening = Opening(request, site.environment, site.absent, site.declared())
    writing = None if journal is None else Journal.create(Path(journal), opening)
    return _Run(Record(opening), site, writing, progress).go(executor)


def resume(
    journal: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    executor: Somewhere | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Go on with a run that was cut short: what its journal has no verdict on is checked, and the whole reported.

    Raises:
        RequestError: if there is no such journal, another run is writing it, or versions have changed since.
        JournalError: if the journal cannot be written any more.
    """
    writing, record = Journal.reopen(Path(journal))
    try:
        asked = record.opening.request
        if asked.record is not None:
            if executor is not None:
                raise RequestError(f"{writing.path} is of a run that is recorded: it needs local workers")
            write.prepare(writing.path.absolute().parent)
        devices = asked.selection.devices or [case.device for case in asked.cases]
        site = _site(asked.selection.requests, devices, jobs, executor)
        _same_versions(writing.path, record.opening.environment, site.environment)
        session = {"resumed": {"environment": dict(site.environment)}}
        writing.append(session)
        record.take(session)
    except BaseException:
        writing.close()
        raise
    return _Run(record, site, writing, progress).go(executor)


def _site(adapters: Sequence[str] | None, devices: Iterable[str], jobs: int | None, executor: Somewhere | None) -> Site:
    if jobs is not None and jobs < 1:
        raise RequestError(f"jobs={jobs} must be at least 1")
    return executor.site(adapters, devices, jobs) if isinstance(executor, Cluster) else local(adapters, jobs)


def _same_versions(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old = {**before["versions"], "convspec": before["convspec"]}
    new = {**now["versions"], "convspec": now["convspec"]}
    changed = [f"{n} {old.get(n)}, here {new.get(n)}" for n in sorted({*old, *new}) if old.get(n) != new.get(n)]
    if changed:
        raise RequestError(
            f"{path} was begun with {'; '.join(changed)}. One run has one set of versions: install those, or begin a "
            "new run and compare the two: convspec report diff OLD NEW"
        )


class _Run:
    """One session of a run: takes the scheduler's outcomes into the record, and into the journal if there is one."""

    def __init__(
        self,
        record: Record,
        site: Site,
        journal: Journal | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.record, self.site, self.journal, self.progress = record, site, journal, progress
        self.request = record.opening.request
        self.ledger = gap_ledger.Ledger()
        for adapter, declared in site.declared().items():
            self.ledger.declare(adapter, declared)
        self.results = CompressedList(result.assign_gap(self.ledger) for result in record.results)
        self.before = len(self.results)
        self.unexpected = sum(result.unexpected for result in self.results)

    def go(self, executor: Somewhere | None) -> Report:
        done = frozenset(result.key for result in self.results)
        limit = self.request.record
        keep = None
        if self.journal is not None and limit is not None:
            keep = Keep(str(self.journal.path.absolute().parent), limit)
        self.total = self.before + sum(len(u.trials) for p in self.request.problems(done) for u in p.units)
        self.started = time.monotonic()
        limits: dict[str, Any] = {"timeout": self.request.timeout, "memory": self.request.memory}
        self.scheduler: Scheduler | Submitter
        if executor is None:
            self.scheduler = Scheduler(self._take, self._miss, jobs=self.site.jobs, **limits)
        else:
            limits |= {"chunks": self.site.jobs, "versions": self.site.versions}
            if isinstance(executor, Cluster):
                limits |= {"session": executor.session, "look": executor.look}
            self.scheduler = Submitter(self._take, self._miss, executor, **limits)
        try:
            self.scheduler.run(lambda: self.request.problems(done, keep))
            self._end()
        except KeyboardInterrupt:
            self._end()
            raise
        except RequestError:
            if self.journal is not None and not self.results:
                self.journal.discard()
            raise
        finally:
            if self.journal is not None:
                self.journal.close()
        report = summed_up(self.record, self.results, self.ledger)
        if not self.results and self.total:
            raise RequestError("nothing could be checked: " + "; ".join(dict.fromkeys(report.absent.values())))
        return report

    def _end(self) -> None:
        seconds = round(time.monotonic() - self.started, 3)
        self._write({"ended": {"seconds": seconds}})
        self.record.seconds += seconds

    def _take(self, unit: Unit, outcome: Outcome) -> None:
        """One verdict, on its way into the journal and the report."""
        case, adapter = unit.case_of(outcome.trial), self.site.adapters[unit.target.request]
        support, why = outcome.support, outcome.support_reason
        if support == "unknown":  # the worker died before it could tell
            support, why = _support(adapter, case)
        result = Result(
            case, adapter.name, unit.target.request, adapter.variant, unit.target.precision, support, why,
            outcome.verdict, outcome.reason, outcome.accuracy_class, outcome.evidence, None, outcome.seconds,
            outcome.trial.direction, unit.index,
        ).assign_gap(self.ledger)  # fmt: skip
        if result.verdict in ("crash", "timeout"):
            result.evidence["reproduce"] = reproduction(result, *self.request.limits)
        if self.journal is not None:
            self.journal.append(result.to_dict())
        self.results.append(result)
        self.unexpected += result.unexpected
        if self.progress is not None:
            elapsed, left = time.monotonic() - self.started, self.scheduler.seconds_left()
            done = len(self.results)
            self.progress(Progress(done, self.total, elapsed, left, self.unexpected, result, self.before))

    def _miss(self, target: Target, reason: str) -> None:
        """A worker says that its framework, or the device, is not there."""
        if self.request.named:
            raise RequestError(reason)
        entry = {"absent": reason, "target": [target.request, target.device]}
        self._write(entry)
        self.record.take(entry)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self.journal is not None:
            self.journal.append(entry)


def _support(adapter: Adapter, case: Case) -> tuple[str, str]:
    try:
        support = adapter.support(case.spec, case.layout, case.dtype, case.device)
    except Exception as error:  # noqa: BLE001 – the verdict stands; only what the adapter says of itself is missing
        return "unknown", str(error)
    return str(support), support.reason


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))

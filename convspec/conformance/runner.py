"""``convspec.check``: cases × adapters × layouts → verdicts; ``convspec.replay`` compares with recorded outputs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convspec.conformance import environment, gap_ledger
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.compressed_list import CompressedList
from convspec.conformance.execution.scheduler import Scheduler
from convspec.conformance.journal import Content, Header, Journal, Request, make_report, require_cases
from convspec.conformance.records import array_files
from convspec.conformance.records.load import load
from convspec.conformance.remote.dask_cluster import Cluster
from convspec.conformance.remote.executor import ExecutorLike, Submitter
from convspec.conformance.results import Report, Result, reproduction
from convspec.conformance.trials import work_plan
from convspec.contract import Adapter, registry
from convspec.corpora import Case
from convspec.errors import RequestError
from convspec.spec import DTYPES, LAYOUTS

TIMEOUT = 120.0
DATA = ("exact", "random")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run.

    Attributes:
        done: number of results so far, ``total`` of the whole run.
        elapsed: seconds since the start; ``left``: estimate of the seconds left.
        before: number of results from earlier sessions of a resumed run.
    """

    done: int
    total: int
    elapsed: float
    left: float | None
    unexpected: int
    latest: Result | None = None
    before: int = 0


def check(
    cases: Iterable[Case], adapters: Sequence[str] | None = None, layouts: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None, devices: Sequence[str] | None = None, *, data: Sequence[str] = DATA,
    precisions: Sequence[str] = ("shipped",), gradients: bool = False, jobs: int | None = None,
    timeout: float = TIMEOUT, start_timeout: float | None = None, memory: int | None = None,
    shard: tuple[int, int] | None = None,
    journal: str | os.PathLike[str] | None = None, record: str | os.PathLike[str] | None = None,
    record_limit: int = array_files.LIMIT, origin: Mapping[str, Any] | None = None,
    executor: ExecutorLike | None = None, progress: Callable[[Progress], None] | None = None,
) -> Report:  # fmt: skip
    """Build and run every case in every adapter and layout, and judge each output by the oracle.

    Each adapter runs in its own worker processes, so a framework that aborts or hangs costs one case; a script needs
    no ``__main__`` guard.

    Args:
        adapters: names; by default all whose framework is installed. ``"torch:*"`` means every variant that is not
            costly, ``["all"]`` all those of every adapter whose framework is installed.
        layouts: ``"NCHW"``, ``"NHWC"``; both by default.
        dtypes: names; by default the dtype of each case.
        devices: names; by default the device of each case.
        data: kinds of data, of :data:`convspec.corpora.cases.DATA_KINDS`; ``"probe"`` measures the accuracy class;
            ``"metamorphic"``, or the name of one relation, checks relations between runs, which need no oracle.
        precisions: ``"shipped"`` leaves switches like TF32 alone, ``"strict"`` turns them off.
        gradients: whether to check the gradients of input, kernel and bias too, on exact and random data.
        jobs: number of workers; by default the number of cores. With an executor: number of pending chunks of cases;
            by default two for each thread of a cluster.
        timeout: seconds for one build and run.
        start_timeout: seconds for the start of a worker; by default ``timeout``, at least 60. A target whose workers
            did not start twice is given up.
        memory: bytes per worker; exceeding them is a crash with the reason ``memory``.
        shard: ``(i, n)``: only every n-th case, from the i-th on; the first is 1.
        journal: a new file, to which each verdict is written at once; see :func:`resume`.
        record: a folder for the journal and the inputs, weights and outputs; see :func:`convspec.replay`. Not with an
            executor.
        record_limit: bytes of the recorded arrays; the report counts the outputs left out.
        origin: where the cases come from, for readers of the report.
        executor: where to work instead of in local workers: a :class:`convspec.Cluster`, any executor, or a function
            that returns one for a :class:`~convspec.conformance.trials.work_plan.Target`; each chunk of cases runs in
            an isolated child process there.
        progress: called after every result.

    Raises:
        RequestError: for unknown names, and if an adapter in ``adapters`` cannot run here.
        ExecutorError: if the executor fails.
        JournalError: if the journal can no longer be written.
    """
    environment.require_known("layout", layouts, LAYOUTS)
    environment.require_known("dtype", dtypes, DTYPES)
    environment.require_known("kind of data", data, work_plan.ASKED)
    environment.require_known("precision", precisions, work_plan.PRECISIONS)
    if record is not None and (journal is not None or executor is not None):
        raise RequestError("record writes its own journal and needs local workers: leave journal and executor out")
    environment.require_list("adapter names", adapters)
    environment.require_list("devices", devices)
    _require_seconds(start_timeout)
    cases = require_cases(cases)
    installation = _installation(adapters, devices or [case.device for case in cases], jobs, executor)
    selection = work_plan.Selection(
        tuple(installation.adapters), _tuple(layouts), _tuple(dtypes), _tuple(devices), _tuple(precisions) or (),
        work_plan.expand_relations(data), gradients,
    )  # fmt: skip
    limits = (timeout, memory, shard)
    recorded = None if record is None else record_limit
    request = Request(cases, selection, environment.are_required(adapters), *limits, origin or {}, recorded)
    if record is not None:
        folder = Path(record).absolute()
        array_files.prepare(folder)
        journal = array_files.journal_path(folder, shard)
    return begin(request, installation, journal, executor, progress, start_timeout)


def begin(
    request: Request, installation: environment.Installation, journal: str | os.PathLike[str] | None,
    executor: ExecutorLike | None = None, progress: Callable[[Progress], None] | None = None,
    start_timeout: float | None = None,
) -> Report:  # fmt: skip
    """Start a run and return its report; the arguments from ``journal`` on are those of :func:`check`."""
    header = Header(request, installation.environment, installation.absent, installation.declared())
    writer = None if journal is None else Journal.create(Path(journal), header)
    return _Session(Content(header), installation, writer, progress, start_timeout).run(executor)


def resume(
    journal: str | os.PathLike[str], *, jobs: int | None = None, start_timeout: float | None = None,
    executor: ExecutorLike | None = None, progress: Callable[[Progress], None] | None = None,
) -> Report:  # fmt: skip
    """Resume an interrupted run: check what its journal has no verdict on, and report the whole run.

    The journal fixes the other arguments of :func:`check`.

    Raises:
        RequestError: if the file is not a journal, another run is writing it, or versions have changed since.
        JournalError: if the journal can no longer be written.
    """
    _require_seconds(start_timeout)
    writer, content = Journal.reopen(Path(journal))
    try:
        request = content.header.request
        if request.record is not None:
            if executor is not None:
                raise RequestError(f"{writer.path} belongs to a recorded run, which needs local workers")
            array_files.prepare(writer.path.absolute().parent)
        devices = request.selection.devices or [case.device for case in request.cases]
        installation = _installation(request.selection.requests, devices, jobs, executor)
        _require_same_versions(writer.path, content.header.environment, installation.environment)
        session = {"resumed": {"environment": dict(installation.environment)}}
        writer.append(session)
        content.add(session)
    except BaseException:
        writer.close()
        raise
    return _Session(content, installation, writer, progress, start_timeout).run(executor)


def _require_seconds(start_timeout: float | None) -> None:
    if start_timeout is not None and not start_timeout > 0:
        raise RequestError(f"start_timeout={start_timeout} must be more than 0 seconds")


def _installation(
    adapters: Sequence[str] | None, devices: Iterable[str], jobs: int | None, executor: ExecutorLike | None
) -> environment.Installation:
    if jobs is not None and jobs < 1:
        raise RequestError(f"jobs={jobs} must be at least 1")
    if isinstance(executor, Cluster):
        return executor.installation(adapters, devices, jobs)
    return environment.local_installation(adapters, jobs)


def _require_same_versions(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old = {**before["versions"], "convspec": before["convspec"]}
    new = {**now["versions"], "convspec": now["convspec"]}
    changed = [f"{n} {old.get(n)}, now {new.get(n)}" for n in sorted({*old, *new}) if old.get(n) != new.get(n)]
    if changed:
        raise RequestError(
            f"{path} was started with {'; '.join(changed)}. A run has one set of versions: install those, or start a "
            "new run and compare the two with convspec report diff OLD NEW"
        )


class _Session:
    """One session of a run: takes the results from the scheduler, and writes them to the journal if there is one."""

    def __init__(
        self, content: Content, installation: environment.Installation, journal: Journal | None,
        progress: Callable[[Progress], None] | None, start_timeout: float | None,
    ) -> None:  # fmt: skip
        self.content, self.installation, self.journal, self.progress = content, installation, journal, progress
        self.start_timeout = start_timeout
        self.request = content.header.request
        self.ledger = gap_ledger.Ledger()
        for adapter, declared in installation.declared().items():
            self.ledger.declare(adapter, declared)
        self.results = CompressedList(result.assign_gap(self.ledger) for result in content.results)
        self.before = len(self.results)
        self.unexpected = sum(result.unexpected for result in self.results)

    def run(self, executor: ExecutorLike | None) -> Report:
        done = frozenset(result.key for result in self.results)
        folder = None
        if self.journal is not None and self.request.record is not None:
            folder = work_plan.RecordFolder(str(self.journal.path.absolute().parent), self.request.record)
        self.total = self.before + sum(len(u.trials) for p in self.request.problems(done) for u in p.units)
        self.started = time.monotonic()
        self.scheduler = self._scheduler(executor)
        try:
            self.scheduler.run(lambda: self.request.problems(done, folder))
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
        report = make_report(self.content, self.results, self.ledger)
        if not self.results and self.total:
            raise RequestError("nothing could be checked: " + "; ".join(dict.fromkeys(report.absent.values())))
        return report

    def _scheduler(self, executor: ExecutorLike | None) -> Scheduler | Submitter:
        limits: dict[str, Any] = {"timeout": self.request.timeout, "memory": self.request.memory}
        limits["start_timeout"] = self.start_timeout
        if executor is None:
            return Scheduler(self._on_outcome, self._on_absent, jobs=self.installation.jobs, **limits)
        limits |= {"chunks": self.installation.jobs, "versions": self.installation.versions}
        if isinstance(executor, Cluster):
            limits |= {"session": executor.session, "look": executor.look}
        return Submitter(self._on_outcome, self._on_absent, executor, **limits)

    def _end(self) -> None:
        seconds = round(time.monotonic() - self.started, 3)
        self._write({"ended": {"seconds": seconds}})
        self.content.seconds += seconds

    def _on_outcome(self, unit: work_plan.Unit, outcome: Outcome) -> None:
        case, adapter = unit.case_of(outcome.trial), self.installation.adapters[unit.target.request]
        support, why = outcome.support, outcome.support_reason
        if support == "unknown":  # the worker died before it could answer; another's adapter could end this process too
            support, why = _support(adapter, case) if registry.is_own(unit.target.request) else ("unknown", "")
        result = Result(
            case, adapter.name, unit.target.request, adapter.variant, unit.target.precision, support, why,
            outcome.verdict, outcome.reason, outcome.accuracy_class, outcome.evidence, None, outcome.seconds,
            outcome.trial.direction, unit.index,
        ).assign_gap(self.ledger)  # fmt: skip
        if result.verdict in ("crash", "timeout"):
            result.evidence["reproduce"] = reproduction(result, *self.request.limits)
        self._write(result.to_dict())
        self.results.append(result)
        self.unexpected += result.unexpected
        if self.progress is not None:
            elapsed, left = time.monotonic() - self.started, self.scheduler.seconds_left()
            done = len(self.results)
            self.progress(Progress(done, self.total, elapsed, left, self.unexpected, result, self.before))

    def _on_absent(self, target: work_plan.Target, reason: str) -> None:
        """Note that a worker does not find its framework or device."""
        if self.request.named:
            raise RequestError(reason)
        entry = {"absent": reason, "target": [target.request, target.device]}
        self._write(entry)
        self.content.add(entry)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self.journal is not None:
            self.journal.append(entry)


def _support(adapter: Adapter, case: Case) -> tuple[str, str]:
    try:
        support = adapter.support(case.spec, case.layout, case.dtype, case.device)
    except Exception as error:  # noqa: BLE001 – the verdict holds; only the declared support is missing
        return "unknown", str(error)
    return str(support), support.reason


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(names))


def replay(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], adapters: Sequence[str] | None = None,
    devices: Sequence[str] | None = None, *, precisions: Sequence[str] | None = None,
    recorded: Sequence[str] | None = None, cases: Sequence[str] | None = None, jobs: int | None = None,
    timeout: float = TIMEOUT, start_timeout: float | None = None, memory: int | None = None,
    journal: str | os.PathLike[str] | None = None, progress: Callable[[Progress], None] | None = None,
) -> Report:  # fmt: skip
    """Run the layers that ``convspec.check(record=…)`` recorded, on the recorded arrays, and compare the outputs.

    Two outputs agree if they differ by no more than the error bounds of both; outputs of exact data must be equal. The
    evidence of each result has the number of elements with different bits, and for a mismatch which of the two is
    further from the oracle.

    Args:
        folders: of one record, or of several, e.g. the shards of a run.
        adapters: names; by default the recorded adapters. An adapter is compared with its own recorded results, or
            with all of them if it has none.
        devices: names; by default the recorded devices.
        precisions: ``"shipped"``, ``"strict"``; by default the recorded precisions.
        recorded: use only the results recorded by these adapters.
        cases: use only the cases with these ids.

    Raises:
        RequestError: if a folder is not a record, there is nothing to compare, or an adapter cannot run here.
        RecordError: if a journal of a record breaks a rule. A damaged array file makes its own results errors.
        JournalError: if the journal can no longer be written.
    """
    environment.require_known("precision", precisions, work_plan.PRECISIONS)
    _require_seconds(start_timeout)
    paths = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    records = load([Path(path) for path in paths])
    every = records.recordings
    chosen = [r for r in every if (recorded is None or r.by in recorded) and (cases is None or r.case.id in cases)]
    if not chosen:
        made = ", ".join(sorted({recording.by for recording in every})) or "none"
        number = len({recording.case.id for recording in every})
        raise RequestError(f"nothing to compare with: the record has {number} cases with outputs by {made}")
    installation = environment.local_installation(
        adapters or tuple(dict.fromkeys(recording.by for recording in chosen)), jobs
    )
    selection = work_plan.Selection(
        tuple(installation.adapters), devices=_tuple(devices), precisions=_tuple(precisions) or (),
        data=tuple(dict.fromkeys(trial.data for recording in chosen for trial in recording.trials)),
    )  # fmt: skip
    folders = [str(path) for path in paths]
    about = {"folders": folders, "without": dict(records.without), "recorded": records.environments}
    request = Request(
        tuple(recording.case for recording in chosen), selection, True, timeout, memory,
        origin={"replay": about}, recordings=tuple(chosen),
    )  # fmt: skip
    report = begin(request, installation, journal, progress=progress, start_timeout=start_timeout)
    missing, notes = (*report.missing, *records.problems), (*report.notes, *records.notes)
    return replace(report, missing=missing, notes=notes)

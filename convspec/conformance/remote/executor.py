"""A run on an executor (a process pool, a cluster): chunks are sent, answers received, and lost chunks sent again.

A chunk has units of one target. :func:`run` is submitted to the executor: it runs the units with the same scheduler as
a local run, in one worker process, so a case that crashes never ends the executor's own process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field, replace

import convspec
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.environment import public_version
from convspec.conformance.execution.scheduler import Scheduler
from convspec.conformance.execution.worker_pool import Worker
from convspec.conformance.trials.work_plan import Problem, Target, Unit
from convspec.contract import registry
from convspec.errors import ExecutorError

UNITS = 50  # of a chunk: enough to outweigh the transfer, few enough for all workers to end at about the same time
_ATTEMPTS = 3
_LOOK = 2.0  # seconds
_SECONDS = 60.0  # that an idle worker is kept
_SPARE = 2  # idle workers beyond the chunks under way


@dataclass(frozen=True, slots=True)
class Chunk:
    """The work that is sent to an executor.

    Attributes:
        units: all of one target, each of another case.
        threads: of the framework.
        attempt: earlier attempts, whole or as part of a larger chunk.
        session: of its run; see :func:`stop`.
    """

    target: Target
    units: tuple[Unit, ...]
    timeout: float
    memory: int | None
    start_timeout: float | None = None
    threads: int = 1
    attempt: int = 0
    session: str = ""

    def split(self) -> Iterator[Chunk]:
        """Yield a chunk for each unit, for another attempt."""
        return (replace(self, units=(unit,), attempt=self.attempt + 1) for unit in self.units)


@dataclass(slots=True)
class Answer:
    """The result of a chunk.

    Attributes:
        versions: of convspec and of the target's framework on the executing machine.
        outcomes: each with the index of its unit.
        absent: why the target cannot run there, or None.
    """

    versions: dict[str, str]
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    absent: str | None = None


def run(chunk: Chunk) -> Answer:
    """Reach a verdict on every trial of the chunk's units, in a worker process."""
    answer = Answer(_versions(chunk.target.request))

    def miss(_: Target, reason: str) -> None:
        answer.absent = reason

    def problems() -> Iterator[Problem]:
        return (Problem(unit.case, (unit,)) for unit in chunk.units)

    key = (chunk.target, chunk.threads, chunk.memory)
    scheduler = Scheduler(
        lambda unit, outcome: answer.outcomes.append((unit.index, outcome)), miss,
        jobs=1, timeout=chunk.timeout, start_timeout=chunk.start_timeout, memory=chunk.memory, threads=chunk.threads,
    )  # fmt: skip
    with IDLE_WORKERS.busy(), _SCHEDULERS.register(chunk.session, scheduler):
        scheduler.run(problems, known=IDLE_WORKERS.take(key), keep=lambda worker: IDLE_WORKERS.put(key, worker))
    return answer


def stop(session: str) -> None:
    """Stop this process's work for an interrupted run."""
    _SCHEDULERS.stop(session)


@functools.cache
def _versions(request: str) -> dict[str, str]:
    return {"convspec": convspec.__version__, **registry.adapter(request).versions()}


class _Schedulers:
    """The running schedulers of this process, by session."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._schedulers: dict[str, list[Scheduler]] = {}
        self._stopped: set[str] = set()

    @contextlib.contextmanager
    def register(self, session: str, scheduler: Scheduler) -> Iterator[None]:
        with self._lock:
            self._schedulers.setdefault(session, []).append(scheduler)
            if session in self._stopped:
                scheduler.stop()
        try:
            yield
        finally:
            with self._lock:
                self._schedulers[session].remove(scheduler)
                if not self._schedulers[session]:
                    del self._schedulers[session]

    def stop(self, session: str) -> None:
        with self._lock:
            self._stopped.add(session)
            for scheduler in self._schedulers.get(session, ()):
                scheduler.stop()


_SCHEDULERS = _Schedulers()


Key = tuple[Target, int, int | None]


@dataclass(frozen=True, slots=True)
class _Idle:
    key: Key
    worker: Worker
    timer: threading.Timer


class IdleWorkers:
    """The idle workers of this process, each for a minute; at most two more than chunks are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._under_way = 0

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count a chunk as under way."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def put(self, key: Key, worker: Worker) -> None:
        """Keep a worker; if there are too many, the oldest ends."""
        timer = threading.Timer(_SECONDS, self._drop, (worker,))
        timer.daemon = True
        with self._lock:
            self._idle.append(_Idle(key, worker, timer))
            surplus = max(0, len(self._idle) - self._under_way - _SPARE)
            ended, self._idle = self._idle[:surplus], self._idle[surplus:]
        timer.start()
        _end(ended)

    def take(self, key: Key) -> Worker | None:
        """Return a living worker for the key, or None; it then belongs to the caller.

        If none is left, workers of other targets on the same device end: two frameworks would compete for its memory.
        """
        while True:
            with self._lock:
                entry = next((e for e in reversed(self._idle) if e.key == key), None)
                if entry is None:
                    others = [e for e in self._idle if e.key[0].device == key[0].device != "cpu"]
                    self._idle = [e for e in self._idle if e not in others]
                    break
                self._idle.remove(entry)
            entry.timer.cancel()
            if not entry.worker.dead:
                return entry.worker
            entry.worker.end()
        _end(others)
        return None

    def processes(self) -> list[int]:
        """Return the process numbers of the idle workers."""
        return [entry.worker.process for entry in self._idle]

    def _drop(self, worker: Worker) -> None:
        with self._lock:
            dropped = [entry for entry in self._idle if entry.worker is worker]
            self._idle = [entry for entry in self._idle if entry.worker is not worker]
        _end(dropped)

    def clear(self) -> None:
        """End all."""
        with self._lock:
            ended, self._idle = self._idle, []
        _end(ended)


def _end(entries: list[_Idle]) -> None:
    for entry in entries:
        entry.timer.cancel()
        entry.worker.end()


IDLE_WORKERS = IdleWorkers()
atexit.register(IDLE_WORKERS.clear)


ExecutorLike = Executor | Callable[[Target], Executor]


class Submitter:
    """One run on an executor; it has the interface of :class:`~convspec.conformance.execution.scheduler.Scheduler`.

    A chunk that is lost, for example because its process was killed, is tried again unit by unit.

    Args:
        executor: or a function that returns the executor of a target.
        chunks: how many may be under way at a time on each executor.
        versions: that every answer must have, by adapter.
        look: called every few seconds.
        session: the run's name in :func:`~convspec.conformance.remote.executor.stop`.
    """

    def __init__(
        self, report: Callable[[Unit, Outcome], None], absent: Callable[[Target, str], None], executor: ExecutorLike, *,
        chunks: int, timeout: float, start_timeout: float | None = None, memory: int | None = None, units: int = UNITS,
        versions: Mapping[str, Mapping[str, str]] | None = None, look: Callable[[], None] | None = None,
        session: str = "",
    ) -> None:  # fmt: skip
        self._report, self._absent, self._executor = report, absent, executor
        self._most, self._timeout, self._start_timeout, self._memory = chunks, timeout, start_timeout, memory
        self._units = units
        self._versions, self._look = versions or {}, look or (lambda: None)
        self._waiting: dict[Executor, deque[Chunk]] = {}
        self._under_way: dict[Future[Answer], tuple[Executor, Chunk]] = {}
        self._busy: Counter[Executor] = Counter()
        self._missed: set[Target] = set()
        self._left = self._done = 0
        self._session = session

    def run(self, problems: Callable[[], Iterator[Problem]]) -> None:
        """Reach a verdict on every trial of every problem, target by target.

        Raises:
            ExecutorError: if the executor fails.
        """
        for chunk in self._chunks(problems()):
            self._queue(chunk.target).append(chunk)
            self._left += len(chunk.units)
        self._started = time.monotonic()
        try:
            while self._fill():
                self._collect()
        finally:
            for future in self._under_way:
                future.cancel()

    def seconds_left(self) -> float | None:
        """Estimate the time that the rest will take, by the pace so far; None before the first answer."""
        return self._left * (time.monotonic() - self._started) / self._done if self._done else None

    def _chunks(self, problems: Iterator[Problem]) -> Iterator[Chunk]:
        """Yield chunks target by target, so that consecutive ones use the same framework."""
        waiting: dict[Target, list[Unit]] = {}
        for problem in problems:
            for unit in problem.units:
                waiting.setdefault(unit.target, []).append(unit)
        for target, units in waiting.items():
            for begin in range(0, len(units), self._units):
                part = tuple(units[begin : begin + self._units])
                yield Chunk(target, part, self._timeout, self._memory, self._start_timeout, session=self._session)

    def _queue(self, target: Target) -> deque[Chunk]:
        executor = self._executor if isinstance(self._executor, Executor) else self._executor(target)
        return self._waiting.setdefault(executor, deque())

    def _fill(self) -> bool:
        """Keep every executor busy; returns whether any chunk is under way."""
        for executor, waiting in self._waiting.items():
            while waiting and self._busy[executor] < self._most:
                chunk = waiting.popleft()
                if chunk.target in self._missed:
                    self._left -= len(chunk.units)
                    continue
                try:
                    self._under_way[executor.submit(run, chunk)] = (executor, chunk)
                except RuntimeError as error:  # it is shut down, or its processes have ended
                    raise ExecutorError(f"the executor accepts no more work: {error}") from error
                self._busy[executor] += 1
        return bool(self._under_way)

    def _collect(self) -> None:
        """Take the answers that have arrived."""
        done, _ = wait(self._under_way, _LOOK, FIRST_COMPLETED)
        self._look()
        for future in done:
            executor, chunk = self._under_way.pop(future)
            self._busy[executor] -= 1
            if future.cancelled():
                raise ExecutorError("the executor has cancelled its work: it was shut down, or its process has ended")
            error = future.exception()
            if error is None:
                self._take(chunk, future.result())
            elif isinstance(error, ImportError):
                raise ExecutorError(f"convspec cannot be imported where the executor runs: {error}") from error
            elif isinstance(error, Exception) and chunk.attempt + 1 < _ATTEMPTS:
                self._waiting[executor].extendleft(chunk.split())
            else:
                self._lose(chunk, error)

    def _take(self, chunk: Chunk, answer: Answer) -> None:
        self._compare(chunk.target.request, answer.versions)
        units = {unit.index: unit for unit in chunk.units}
        self._count(chunk)
        for index, outcome in answer.outcomes:
            self._report(units[index], outcome)
        if answer.absent is not None and chunk.target not in self._missed:
            self._missed.add(chunk.target)
            self._absent(chunk.target, answer.absent)

    def _count(self, chunk: Chunk) -> None:
        self._left -= len(chunk.units)
        self._done += len(chunk.units)

    def _compare(self, request: str, found: Mapping[str, str]) -> None:
        """Raise ExecutorError if an answer has other versions than the run."""
        for name, version in {"convspec": convspec.__version__, **self._versions.get(request, {})}.items():
            if public_version(found.get(name, "none")) != public_version(version):
                raise ExecutorError(
                    f"a worker has {name} {found.get(name)}, this run {version}: all workers of a run must have the "
                    "same versions"
                )

    def _lose(self, chunk: Chunk, error: BaseException) -> None:
        """Report a crash for units that ended the executor's own process at every attempt."""
        reason = f"the executor lost it {_ATTEMPTS} times: {type(error).__name__}: {error}"
        self._count(chunk)
        for unit in chunk.units:
            for trial in unit.trials:
                self._report(unit, Outcome(trial, "unknown", "", "crash", reason, None, {"ending": "lost"}, 0.0))

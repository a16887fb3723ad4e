"""Chunks of work for an executor (a process pool, a cluster): units of one target.

:func:`run` is submitted to the executor. It runs the units with the same scheduler as a local run, in one worker
process, so a case that crashes never ends the executor's own process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import convspec
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.execution.scheduler import Scheduler
from convspec.conformance.execution.worker_pool import Worker
from convspec.conformance.trials.work_plan import Problem, Target, Unit
from convspec.contract import registry


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
        jobs=1, timeout=chunk.timeout, memory=chunk.memory, threads=chunk.threads,
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


_SECONDS = 60.0
_SPARE = 2

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

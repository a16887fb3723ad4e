"""Chunks of work for an executor (a process pool, a cluster): units of one target.

:func:`run` is submitted to the executor. It runs the units with the same scheduler as a local run, in one worker
process, so a case that crashes never ends the executor's own process.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import convspec
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.execution.scheduler import Scheduler
from convspec.conformance.remote.idle_workers import IDLE_WORKERS
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

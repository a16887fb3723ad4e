"""Work for an executor – a pool of processes, a cluster: units of one target, run where the executor takes them.

:func:`run` is what is submitted. It takes its units through the same scheduler as a local run, with one worker
process, so a case that crashes costs itself and never the executor's own process.
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
from convspec.conformance.remote.idle_workers import KEPT
from convspec.conformance.trials.work_plan import Problem, Target, Unit
from convspec.contract import registry


@dataclass(frozen=True, slots=True)
class Chunk:
    """What travels to where the work is done.

    Attributes:
        units: all of one target, each of another case.
        threads: that the framework may use.
        attempt: how often it was tried before, whole or as part of a larger one.
        session: of the run that it belongs to; see :func:`stop`.
    """

    target: Target
    units: tuple[Unit, ...]
    timeout: float
    memory: int | None
    threads: int = 1
    attempt: int = 0
    session: str = ""

    def parts(self) -> Iterator[Chunk]:
        """Its units one by one, for another attempt."""
        return (replace(self, units=(unit,), attempt=self.attempt + 1) for unit in self.units)


@dataclass(slots=True)
class Answer:
    """What comes back: the outcomes by the index of their unit, or why the target cannot run there.

    ``versions`` are those of convspec and of the target's framework there.
    """

    versions: dict[str, str]
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    absent: str | None = None


def run(chunk: Chunk) -> Answer:
    """Reach a verdict on every trial of the chunk's units, in a process of their own."""
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
    with KEPT.busy(), _UNDER_WAY.of(chunk.session, scheduler):
        scheduler.run(problems, known=KEPT.take(key), keep=lambda worker: KEPT.put(key, worker))
    return answer


def stop(session: str) -> None:
    """End what this process has under way of a run that was interrupted: nobody waits for it any more."""
    _UNDER_WAY.stop(session)


@functools.cache
def _versions(request: str) -> dict[str, str]:
    return {"convspec": convspec.__version__, **registry.adapter(request).versions()}


class _UnderWay:
    """The schedulers of this process, by the session that they work for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._schedulers: dict[str, list[Scheduler]] = {}
        self._stopped: set[str] = set()

    @contextlib.contextmanager
    def of(self, session: str, scheduler: Scheduler) -> Iterator[None]:
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


_UNDER_WAY = _UnderWay()

"""Work for an executor – a pool of processes, a cluster: units of one target, run where the executor takes them.

:func:`run` is what is submitted. It takes its units through the same scheduler as a local run, with one worker
process, so a case that crashes costs itself and never the executor's own process. The worker is kept for the next
chunk of the same target, for a minute.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace

from convspec.conformance.checks import Outcome
from convspec.conformance.processes import Worker
from convspec.conformance.scheduler import Scheduler
from convspec.conformance.units import Problem, Target, Unit
from convspec.errors import RequestError

UNITS = 50  # of a chunk: enough to outweigh the way there, few enough for all to end at about the same time
_KEEP = 60.0  # seconds
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """What travels to where the work is done.

    Attributes:
        units: all of one target, each of another case.
        threads: that the framework may use.
        attempt: how often it was tried before, whole or as part of a larger one.
    """

    target: Target
    units: tuple[Unit, ...]
    timeout: float
    memory: int | None
    threads: int = 1
    attempt: int = 0

    def parts(self) -> Iterator[Chunk]:
        """Its units one by one, for another attempt."""
        return (replace(self, units=(unit,), attempt=self.attempt + 1) for unit in self.units)


@dataclass(slots=True)
class Answer:
    """What comes back: the outcomes by the index of their unit, or why the target cannot run there."""

    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    absent: str | None = None


def run(chunk: Chunk) -> Answer:
    """Reach a verdict on every trial of the chunk's units, in a process of their own."""
    answer = Answer()

    def miss(_: Target, reason: str) -> None:
        answer.absent = reason

    def problems() -> Iterator[Problem]:
        return (Problem(unit.case, (unit,)) for unit in chunk.units)

    key = (chunk.target, chunk.threads, chunk.memory)
    scheduler = Scheduler(
        lambda unit, outcome: answer.outcomes.append((unit.index, outcome)), miss,
        jobs=1, timeout=chunk.timeout, memory=chunk.memory, threads=chunk.threads,
    )  # fmt: skip
    scheduler.run(problems, known=_KEPT.take(key), keep=lambda worker: _KEPT.put(key, worker))
    return answer


Place = tuple[Target, int, int | None]


class _Kept:
    """Workers between two chunks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[Place, list[tuple[Worker, threading.Timer]]] = {}

    def put(self, key: Place, worker: Worker) -> None:
        timer = threading.Timer(_KEEP, self._drop, (key, worker))
        timer.daemon = True
        with self._lock:
            self._idle.setdefault(key, []).append((worker, timer))
        timer.start()

    def take(self, key: Place) -> Worker | None:
        """A worker that is alive; it belongs to the caller from now on."""
        while True:
            with self._lock:
                found = self._idle.get(key)
                if not found:
                    return None
                worker, timer = found.pop()
            timer.cancel()
            if not worker.dead():
                return worker
            worker.end()

    def _drop(self, key: Place, worker: Worker) -> None:
        with self._lock:
            found = self._idle.get(key, [])
            mine = [entry for entry in found if entry[0] is worker]
            self._idle[key] = [entry for entry in found if entry[0] is not worker]
        for entry, _ in mine:
            entry.end()

    def clear(self) -> None:
        """End them all."""
        for key in list(self._idle):
            while worker := self.take(key):
                worker.end()


_KEPT = _Kept()
atexit.register(_KEPT.clear)


class Submitter:
    """One run on an executor; it has the interface of :class:`Scheduler`.

    ``executor`` may be a function that gives the executor of a target. At most ``chunks`` are under way at a time.
    A chunk that is lost – its process was killed, say – is tried again unit by unit.
    """

    def __init__(
        self,
        report: Callable[[Unit, Outcome], None],
        absent: Callable[[Target, str], None],
        executor: Executor | Callable[[Target], Executor],
        *,
        chunks: int,
        timeout: float,
        memory: int | None = None,
        units: int = UNITS,
    ) -> None:
        self._report, self._absent, self._executor = report, absent, executor
        self._most, self._timeout, self._memory, self._units = chunks, timeout, memory, units
        self._under_way: dict[Future[Answer], Chunk] = {}
        self._missed: set[Target] = set()

    def run(self, problems: Callable[[], Iterator[Problem]]) -> None:
        """Reach a verdict on every trial of every problem."""
        try:
            for chunk in self._chunks(problems()):
                while len(self._under_way) >= self._most:
                    self._collect()
                self._submit(chunk)
            while self._under_way:
                self._collect()
        finally:
            for future in self._under_way:
                future.cancel()

    def seconds_left(self) -> float | None:
        """Unknown: the executor's pace is its own."""
        return None

    def _chunks(self, problems: Iterator[Problem]) -> Iterator[Chunk]:
        waiting: dict[Target, list[Unit]] = {}
        for problem in problems:
            for unit in problem.units:
                units = waiting.setdefault(unit.target, [])
                units.append(unit)
                if len(units) == self._units:
                    yield self._chunk(unit.target, waiting.pop(unit.target))
        for target, units in waiting.items():
            yield self._chunk(target, units)

    def _chunk(self, target: Target, units: list[Unit]) -> Chunk:
        return Chunk(target, tuple(units), self._timeout, self._memory)

    def _submit(self, chunk: Chunk) -> None:
        if chunk.target not in self._missed:
            executor = self._executor if isinstance(self._executor, Executor) else self._executor(chunk.target)
            try:
                self._under_way[executor.submit(run, chunk)] = chunk
            except RuntimeError as error:  # it is shut down, or its processes are gone
                raise RequestError(f"the executor takes no more work: {error}") from error

    def _collect(self) -> None:
        """Take what has come back."""
        done, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
        for future in done:
            chunk = self._under_way.pop(future)
            error = CancelledError("it was cancelled") if future.cancelled() else future.exception()
            if error is None:
                self._take(chunk, future.result())
            elif isinstance(error, Exception) and chunk.attempt + 1 < _ATTEMPTS:
                for part in chunk.parts():
                    self._submit(part)
            else:
                self._lose(chunk, error)

    def _take(self, chunk: Chunk, answer: Answer) -> None:
        units = {unit.index: unit for unit in chunk.units}
        for index, outcome in answer.outcomes:
            self._report(units[index], outcome)
        if answer.absent is not None and chunk.target not in self._missed:
            self._missed.add(chunk.target)
            self._absent(chunk.target, answer.absent)

    def _lose(self, chunk: Chunk, error: BaseException) -> None:
        """The executor's own process did not survive these units, whenever they were tried."""
        reason = f"the executor lost it {_ATTEMPTS} times: {type(error).__name__}: {error}"
        for unit in chunk.units:
            for trial in unit.trials:
                self._report(unit, Outcome(trial, "unknown", "", "crash", reason, None, {"ending": "lost"}, 0.0))

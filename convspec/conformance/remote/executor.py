"""A run on an executor: chunks are sent, answers received, and lost chunks sent again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

import convspec
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.environment import public_version
from convspec.conformance.remote.chunks import Answer, Chunk, run
from convspec.conformance.trials.work_plan import Problem, Target, Unit
from convspec.errors import ExecutorError

UNITS = 50  # of a chunk: enough to outweigh the transfer, few enough for all workers to end at about the same time
_ATTEMPTS = 3
_LOOK = 2.0  # seconds

ExecutorLike = Executor | Callable[[Target], Executor]


class Submitter:
    """One run on an executor; it has the interface of :class:`~convspec.conformance.execution.scheduler.Scheduler`.

    A chunk that is lost, for example because its process was killed, is tried again unit by unit.

    Args:
        executor: or a function that returns the executor of a target.
        chunks: how many may be under way at a time on each executor.
        versions: that every answer must have, by adapter.
        look: called every few seconds.
        session: the run's name in :func:`~convspec.conformance.remote.chunks.stop`.
    """

    def __init__(
        self,
        report: Callable[[Unit, Outcome], None],
        absent: Callable[[Target, str], None],
        executor: ExecutorLike,
        *,
        chunks: int,
        timeout: float,
        memory: int | None = None,
        units: int = UNITS,
        versions: Mapping[str, Mapping[str, str]] | None = None,
        look: Callable[[], None] | None = None,
        session: str = "",
    ) -> None:
        self._report, self._absent, self._executor = report, absent, executor
        self._most, self._timeout, self._memory, self._units = chunks, timeout, memory, units
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
                yield Chunk(target, part, self._timeout, self._memory, session=self._session)

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

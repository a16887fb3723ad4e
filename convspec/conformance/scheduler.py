"""Takes problems through local worker processes: every core busy, one verdict per trial, nothing lost.

At most ``jobs`` workers are busy at a time. A free place goes to the target with the most work waiting, which may
get a second process when that work outweighs its start. The oracle runs ahead in threads, bounded by the number and
the size of the bundles that are not used up yet.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from convspec.conformance import protocol
from convspec.conformance.bundles import Held
from convspec.conformance.checks import Outcome
from convspec.conformance.environment import cores
from convspec.conformance.feed import Feed
from convspec.conformance.processes import Job, Worker
from convspec.conformance.units import Problem, Target, Unit

START_PATIENCE = 300.0
MEMORY = 6 << 30  # bytes: a worker that has grown beyond is replaced; compilers' caches grow with every layer
_TICK = 0.2
_BRIEF = 0.02  # seconds: units shorter than this are sent several at a time
_AHEAD = 8
_ATTEMPTS = 2


@dataclass(slots=True)
class Lane:
    """The work and the workers of one target.

    ``pace`` is the mean time of its recent units in seconds, by which work is dealt out; ``seconds`` that of all its
    ``units`` together, by which the time left is told: one large layer says little about the rest.
    """

    target: Target
    left: int
    waiting: deque[Job] = field(default_factory=deque)
    workers: list[Worker] = field(default_factory=list)
    pace: float | None = None
    units: int = 0
    seconds: float = 0.0
    startup: float = 0.0
    failures: int = 0
    failure: str | None = None
    absent: bool = False

    @property
    def backlog(self) -> float:
        """Seconds of work that waits here; a lane that has never run goes first."""
        return len(self.waiting) * (1e3 if self.pace is None else self.pace)

    def idle(self) -> Worker | None:
        return next((w for w in self.workers if w.ready and not w.jobs), None)

    def timed(self, seconds: float) -> None:
        self.pace = seconds if self.pace is None else 0.9 * self.pace + 0.1 * seconds
        self.units += 1
        self.seconds += seconds


class Scheduler:
    """One run. ``report`` is called with every outcome, ``absent`` with a target that cannot run here and why."""

    def __init__(
        self,
        report: Callable[[Unit, Outcome], None],
        absent: Callable[[Target, str], None],
        *,
        jobs: int,
        timeout: float,
        capacity: int = 1 << 30,
    ) -> None:
        self._report, self._absent = report, absent
        self._jobs, self._timeout, self._capacity = jobs, timeout, capacity
        self._threads = max(1, cores() // jobs)
        self._lanes: dict[Target, Lane] = {}
        self._events = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        self._events.register(self._wake, selectors.EVENT_READ)

    def run(self, problems: Callable[[], Iterator[Problem]]) -> None:
        """Reach a verdict on every trial of every problem; ``problems`` is called twice, first to count."""
        for problem in problems():
            for unit in problem.units:
                self._lanes.setdefault(unit.target, Lane(unit.target, 0)).left += 1
        self._feed = Feed(problems(), max(1, self._jobs // 2), self._capacity, self._ring)
        try:
            while self._feed.going or any(lane.left for lane in self._lanes.values()):
                self._feed.fill()
                self._assign()
                self._wait()
                self._collect()
                self._check_clocks()
        finally:
            self._feed.close()
            for lane in self._lanes.values():
                for worker in lane.workers:
                    worker.end()
            self._events.close()
            os.close(self._wake)
            os.close(self._woken)

    def seconds_left(self) -> float | None:
        """A guess at the time that the rest will take; None while a target has not shown its pace."""
        lanes = [lane for lane in self._lanes.values() if lane.left and not lane.absent]
        if any(lane.pace is None for lane in lanes):
            return None
        return sum(lane.left * lane.seconds / lane.units for lane in lanes) / self._jobs

    # -- the loop ------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        if not self._feed.pending and not any(lane.workers for lane in self._lanes.values()):
            return
        for key, _ in self._events.select(_TICK):
            if isinstance(key.fileobj, Worker):
                self._listen(key.fileobj)
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 1 << 12)

    def _ring(self) -> None:
        """Wake the loop, from any thread."""
        with contextlib.suppress(OSError):  # a full pipe wakes the loop as well; a closed one needs no waking
            os.write(self._woken, b".")

    def _check_clocks(self) -> None:
        now = time.monotonic()
        for worker in [w for lane in self._lanes.values() for w in lane.workers]:
            if worker.dead():
                self._listen(worker)
            elif (worker.jobs or not worker.ready) and now > worker.deadline:
                patience = self._timeout if worker.ready else START_PATIENCE
                self._bury(worker, "timeout", f"no answer within {patience:g} s")

    def _collect(self) -> None:
        """Queue the units whose oracle has come."""
        for problem, held in self._feed.come():
            for unit in problem.units:
                lane = self._lanes[unit.target]
                if lane.absent:
                    self._let_go(lane, held)
                elif held.bundle.failure or lane.failure:
                    self._fail(lane, Job(unit, held), lane.failure or f"the oracle failed: {held.bundle.failure}")
                else:
                    lane.waiting.append(Job(unit, held))

    def _let_go(self, lane: Lane, held: Held) -> None:
        lane.left -= 1
        self._feed.let_go(held)

    def _fail(self, lane: Lane, job: Job, reason: str) -> None:
        for trial in job.unit.trials:
            self._report(job.unit, Outcome(trial, "unknown", "", "error", reason, None, {}, 0.0))
        self._let_go(lane, job.held)

    # -- workers -------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Give every free place to the lane with the most work waiting."""
        for lane in self._lanes.values():
            for worker in list(lane.workers):
                if not lane.left:
                    self._dismiss(worker)
                elif worker.jobs and (lane.pace or 1.0) < _BRIEF:
                    self._send(lane, worker, _AHEAD)
        lanes = sorted((lane for lane in self._lanes.values() if lane.waiting), key=lambda lane: -lane.backlog)
        free = self._jobs - sum(bool(w.jobs) or not w.ready for x in self._lanes.values() for w in x.workers)
        for lane in lanes:
            while free > 0 and lane.waiting:
                idle = lane.idle()
                if idle is not None:
                    self._send(lane, idle, _AHEAD if (lane.pace or 1.0) < _BRIEF else 1)
                elif self._worth_starting(lane):
                    self._start(lane)
                else:
                    break
                free -= 1

    def _send(self, lane: Lane, worker: Worker, depth: int) -> None:
        if not worker.jobs:
            worker.deadline = time.monotonic() + self._timeout
            worker.began = time.monotonic()
        while lane.waiting and len(worker.jobs) < depth:
            job = lane.waiting.popleft()
            worker.jobs.append(job)
            worker.send(protocol.unit_to_json(job.unit, job.held.bundle))

    def _worth_starting(self, lane: Lane) -> bool:
        if any(not worker.ready for worker in lane.workers) or len(lane.workers) >= self._jobs:
            return False
        if lane.workers and lane.left * (lane.pace or 0.0) < 2 * lane.startup * (len(lane.workers) + 1):
            return False
        alive = [w for x in self._lanes.values() for w in x.workers]
        if len(alive) < 2 * self._jobs + 4:
            return True
        idle = [w for w in alive if w.ready and not w.jobs and not self._lanes[w.target].waiting]
        if idle:
            self._dismiss(idle[0])
        return bool(idle)

    def _start(self, lane: Lane) -> None:
        worker = Worker(lane.target, self._threads, START_PATIENCE)
        lane.workers.append(worker)
        self._events.register(worker, selectors.EVENT_READ)

    def _dismiss(self, worker: Worker) -> str:
        self._events.unregister(worker)
        self._lanes[worker.target].workers.remove(worker)
        return worker.end()

    def _listen(self, worker: Worker) -> None:
        messages, gone = worker.receive()
        lane = self._lanes[worker.target]
        for message in messages:
            if worker not in lane.workers:  # replaced while its messages were read: its other jobs are done elsewhere
                return
            if worker.ready:
                self._take(lane, worker, message)
            elif not self._greet(lane, worker, message):
                return
        if gone and worker in lane.workers:
            self._bury(worker, "crash", "")

    def _take(self, lane: Lane, worker: Worker, message: list[object]) -> None:
        """One more verdict of the job that the worker is on."""
        job, now = worker.jobs[0], time.monotonic()
        self._report(job.unit, protocol.outcome_from_json(job.unit.trials[worker.done], message))
        worker.done += 1
        worker.deadline = now + self._timeout
        if worker.done == len(job.unit.trials):
            worker.jobs.popleft()
            worker.done = 0
            lane.timed(now - worker.began)
            worker.began = now
            worker.quiet()
            self._let_go(lane, job.held)
            if worker.memory() > MEMORY:
                lane.waiting.extendleft(reversed(worker.jobs))
                self._dismiss(worker)

    def _greet(self, lane: Lane, worker: Worker, message: dict[str, str]) -> bool:
        """The worker's first message: whether it is ready for work."""
        if "ready" in message:
            worker.ready = True
            lane.startup = time.monotonic() - worker.started
            return True
        if "absent" in message:
            self._dismiss(worker)
            lane.absent = True
            while lane.waiting:
                self._let_go(lane, lane.waiting.popleft().held)
            self._absent(lane.target, message["absent"])
        else:
            self._dismiss(worker)
            self._give_up(lane, message["failed"])
        return False

    def _give_up(self, lane: Lane, reason: str) -> None:
        """Report every unit of a lane whose worker does not start."""
        lane.failure = f"the worker did not start: {reason}"
        while lane.waiting:
            self._fail(lane, lane.waiting.popleft(), lane.failure)

    def _bury(self, worker: Worker, verdict: str, reason: str) -> None:
        """A worker is dead or must die: it costs the trial that it was on, and the rest goes on elsewhere."""
        lane, words = self._lanes[worker.target], worker.last_words()
        self._events.unregister(worker)
        lane.workers.remove(worker)
        ending = worker.end(patience=1.0 if verdict == "crash" else 0.0)
        if not worker.ready:
            lane.failures += 1
            if lane.failures >= _ATTEMPTS:
                self._give_up(lane, f"{reason or ending}; last words: {words}")
            return
        if not worker.jobs:
            return
        job = worker.jobs.popleft()
        lane.waiting.extendleft(reversed(worker.jobs))
        trial, rest = job.unit.trials[worker.done], job.unit.after(worker.done + 1)
        seconds = time.monotonic() - worker.began
        reason = reason or ": ".join([ending, *words.splitlines()[-1:]])
        evidence = {"ending": ending, "last_words": words}
        self._report(job.unit, Outcome(trial, "unknown", "", verdict, reason, None, evidence, seconds))
        if rest.trials:
            lane.waiting.appendleft(Job(rest, job.held))
        else:
            lane.timed(seconds)
            self._let_go(lane, job.held)

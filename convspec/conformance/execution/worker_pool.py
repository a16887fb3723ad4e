"""The workers of a run, lane by lane: one lane for each target."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from convspec.conformance import environment
from convspec.conformance.execution.worker_handle import Job, Worker
from convspec.conformance.trials.work_plan import Target

START_PATIENCE = 300.0
_BRIEF = 0.02  # seconds
_AHEAD = 0.1  # seconds of brief units that a worker is sent at a time, if they are not too many
_MOST = 64
_UNKNOWN = 16  # bundles that are made while a lane has not shown its pace
_TICK = 0.2


@dataclass(slots=True)
class Lane:
    """The work and the workers of one target.

    ``pace`` is the mean time of its recent units in seconds, by which work is dealt out; ``seconds`` that of all its
    ``units`` together, by which the time left is told: one large layer says little about the rest. ``suspects`` are
    the jobs that ended a worker which had done others before: they run again, each as a worker's first.
    """

    target: Target
    left: int
    waiting: deque[Job] = field(default_factory=deque)
    suspects: deque[Job] = field(default_factory=deque)
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
        return (len(self.waiting) + len(self.suspects)) * (1e3 if self.pace is None else self.pace)

    @property
    def ahead(self) -> int:
        """How many units a worker is sent at a time: more than one where a message takes long beside a unit."""
        if self.pace is None or self.pace > _BRIEF:
            return 1
        return min(_MOST, int(_AHEAD / max(self.pace, 1e-6)))

    def idle(self) -> Worker | None:
        """A worker with nothing to do; one that has done something already, if there is such a one."""
        free = [w for w in self.workers if w.ready and not w.jobs]
        return max(free, key=lambda w: w.served, default=None)

    def fresh(self) -> Worker | None:
        """A worker that has done nothing yet, and so can be blamed for nothing."""
        return next((w for w in self.workers if w.ready and not w.jobs and not w.served), None)

    @property
    def starting(self) -> bool:
        return any(not worker.ready for worker in self.workers)

    def timed(self, seconds: float, units: int = 1) -> None:
        """So many units took so long, one after the other."""
        each, old = seconds / units, 0.9**units
        self.pace = each if self.pace is None else old * self.pace + (1 - old) * each
        self.units += units
        self.seconds += seconds

    def seconds_left(self) -> float | None:
        """A guess at the time that the rest takes one worker; None while it has not shown its pace."""
        return self.left * self.seconds / self.units if self.units else None


class Crew:
    """Starts workers, ends them, and waits for what they say."""

    def __init__(self, jobs: int, threads: int, memory: int | None) -> None:
        self.lanes: dict[Target, Lane] = {}
        self._jobs, self._threads, self._memory = jobs, threads, memory
        self._events = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        self._events.register(self._wake, selectors.EVENT_READ)

    @property
    def workers(self) -> list[Worker]:
        return [worker for lane in self.lanes.values() for worker in lane.workers]

    @property
    def free(self) -> int:
        """How many more workers may be busy."""
        return self._jobs - sum(bool(worker.jobs) or not worker.ready for worker in self.workers)

    def wanted(self) -> int:
        """How many bundles should be on their way: enough for the lane that has least, and many while one starts.

        What is made long before it is used has left the processor's caches by then.
        """
        lanes = [lane for lane in self.lanes.values() if lane.left and not lane.absent and not lane.failure]
        if not lanes or any(lane.pace is None for lane in lanes):
            return _UNKNOWN
        return max(x.ahead * (self._jobs + 1) - len(x.waiting) for x in lanes)

    def start(self, lane: Lane) -> None:
        self.adopt(Worker(lane.target, self._threads, START_PATIENCE, self._memory, self._place(lane)))

    def _place(self, lane: Lane) -> tuple[int, ...]:
        """The cores that the lane's next worker alone may use; none in particular where several lanes take turns.

        JAX and TensorFlow start a thread for every core that they may use, whatever they are told. Nobody is held to a
        single one, on which OpenVINO loses errors.
        """
        every = environment.core_numbers()
        if len(self.lanes) > 1 or self._jobs == 1 or self._threads == 1 or self._jobs * self._threads > len(every):
            return ()
        places = (every[i * self._threads : (i + 1) * self._threads] for i in range(self._jobs))
        return next((place for place in places if all(worker.cores != place for worker in lane.workers)), ())

    def adopt(self, worker: Worker) -> None:
        """Take a worker of a lane that has been at work elsewhere."""
        self.lanes[worker.target].workers.append(worker)
        self._events.register(worker, selectors.EVENT_READ)

    def release(self) -> list[Worker]:
        """The workers that are idle; they are no more of this crew."""
        idle = [worker for worker in self.workers if worker.ready and not worker.jobs]
        for worker in idle:
            self._events.unregister(worker)
            self.lanes[worker.target].workers.remove(worker)
        return idle

    def dismiss(self, worker: Worker, patience: float = 0.0) -> str:
        """End a worker; how it had ended by itself, if it had."""
        self._events.unregister(worker)
        self.lanes[worker.target].workers.remove(worker)
        return worker.end(patience)

    def may_start(self, lane: Lane) -> bool:
        """Whether there is room for one more worker in a lane; another lane's idle one makes room if it must."""
        if len(lane.workers) >= self._jobs:
            return False
        alive = self.workers
        if len(alive) < 2 * self._jobs + 4:
            return True
        idle = [w for w in alive if w.ready and not w.jobs and not self.lanes[w.target].waiting]
        if idle:
            self.dismiss(idle[0])
        return bool(idle)

    def wait(self) -> Iterator[Worker]:
        """The workers that have something to say, after a short wait for one.

        Where each has plenty to do, they are left to it for as long as some units take: what they write stays in their
        pipes meanwhile, and is read with one turn of the processor and not with one for each verdict.
        """
        naps = [_TICK]
        for worker in self.workers:
            lane = self.lanes[worker.target]
            if worker.jobs or not worker.ready:
                plenty = len(worker.jobs) > max(lane.ahead // 2, 1)
                naps.append((lane.pace or 0.0) * lane.ahead / 4 if plenty else 0.0)
        if len(naps) > 1 and min(naps) > 0:
            time.sleep(min(naps))
        for key, _ in self._events.select(_TICK):
            if isinstance(key.fileobj, Worker):
                yield key.fileobj
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 1 << 12)

    def ring(self) -> None:
        """End the wait, from any thread."""
        with contextlib.suppress(OSError):  # a full pipe wakes the loop as well; a closed one needs no waking
            os.write(self._woken, b".")

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.end()
        self._events.close()
        os.close(self._wake)
        os.close(self._woken)


def overdue(worker: Worker) -> bool:
    """Whether a worker should have said something by now."""
    return bool(worker.jobs or not worker.ready) and time.monotonic() > worker.deadline

"""The workers of a run: child processes and the units sent to them, in one lane per target."""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field

from convspec.conformance import environment
from convspec.conformance.checks.checks import Outcome
from convspec.conformance.checks.expected import expected_bytes
from convspec.conformance.execution import messages
from convspec.conformance.execution.shared_arrays import Lease
from convspec.conformance.trials.work_plan import Problem, Target, Unit
from convspec.contract import registry
from convspec.contract.isolation import ChildProcess, resident
from convspec.errors import ConvspecError

_ROOM = 1 << 15  # bytes, of the 65,536 that a pipe holds
_LOOK = 0.1  # seconds between looks at its memory
_ORACLE = 10.0, 600.0  # seconds for the arrays of one unit: at least, at most
_SLOWEST = 10**6  # products and bytes that the oracle computes in a second, at least
START = 60.0  # seconds that a worker may take to start if the timeout is shorter
COSTLY = 5  # times as long as others may costly variants take, which may start a compiler
_BRIEF = 0.02  # seconds
_AHEAD = 0.1  # seconds of brief units that a worker is sent at a time, at most _MOST of them
_MOST = 64
_UNKNOWN = 16  # problems to prepare while the pace of a lane is unknown
_TICK = 0.2


@dataclass(frozen=True, slots=True)
class Job:
    """A unit and the arrays that it needs; ``first`` is the outcome of its first run if it is a suspect run alone."""

    unit: Unit
    lease: Lease
    first: Outcome | None = None

    @property
    def grace(self) -> float:
        """Seconds that the worker may take for the arrays if it computes them itself."""
        if self.lease.arrays.path is not None:
            return 0.0
        work = Problem(self.unit.case, (self.unit,)).work() + expected_bytes(self.unit.case, self.unit.recipes)
        return min(_ORACLE[0] + work // _SLOWEST, _ORACLE[1])


@functools.cache
def slowness(request: str) -> int:
    """Return by what the time limits of an adapter are multiplied."""
    try:
        adapter = registry.adapter(request)
    except ConvspecError:  # its worker says why
        return 1
    return COSTLY if adapter.variant in adapter.costly else 1


class Worker(ChildProcess):
    """One child process and its jobs; it works on the first of them.

    Args:
        threads: that the framework may use.
        patience: seconds that it may take to start.
        memory: bytes that it may allocate; None for no limit.
        cores: that it may use; empty for all.

    Attributes:
        deadline: when its next message is due; ``patience`` is the time between its last message and then.
        done: verdicts received for the first job.
        served: verdicts received for all jobs.
        has_arrays: whether it has computed the arrays of the first job, if it computes them itself.
        began: when it began the first of the jobs whose end the scheduler has not yet seen.
        ended: jobs that ended since.
        process: number of the worker's own process; 0 until it is ready.
    """

    def __init__(
        self, target: Target, threads: int, patience: float, memory: int | None, cores: tuple[int, ...] = ()
    ) -> None:
        self.target, self.cores = target, cores
        self.jobs: deque[Job] = deque()
        self._sizes: deque[int] = deque()  # bytes of their messages
        self.done = self.served = self.ended = self.process = 0
        self.has_arrays = False
        self.began = self._measured = 0.0
        self.started = time.monotonic()
        self.allow(patience)
        super().__init__("convspec.conformance.execution.worker", threads)
        opening = {"target": astuple(target), "adapter": registry.place(target.request)}
        self.send({**opening, "threads": threads, "memory": memory, "cores": cores})

    @property
    def ready(self) -> bool:
        """Whether it has started and waits for jobs, or works on one."""
        return self.process > 0

    @property
    def idle(self) -> bool:
        return self.ready and not self.jobs

    @property
    def overdue(self) -> bool:
        return not self.idle and time.monotonic() > self.deadline

    def allow(self, patience: float) -> None:
        """Expect the next message within so many seconds."""
        self.patience = patience
        self.deadline = time.monotonic() + patience

    @property
    def has_room(self) -> bool:
        """Whether its pipe surely takes another job's message: a scheduler that waits to write does not read."""
        return sum(self._sizes) < _ROOM

    def give(self, job: Job) -> None:
        """Send it one more job."""
        self.jobs.append(job)
        self._sizes.append(self.send(messages.unit_to_json(job.unit, job.lease.arrays)))

    def finish(self) -> None:
        """Remove its first job, all of whose verdicts have arrived."""
        self.jobs.popleft()
        self._sizes.popleft()
        self.ended += 1
        self.done, self.has_arrays = 0, False
        self.forget_words()

    def exceeds(self, nbytes: int) -> bool:
        """Return whether it holds more memory, measured at most ten times a second."""
        now = time.monotonic()
        if now < self._measured + _LOOK:
            return False
        self._measured = now
        return resident(self.process) > nbytes


@dataclass(slots=True)
class Lane:
    """The work and the workers of one target.

    Attributes:
        left: units without all their verdicts.
        suspects: jobs that ended a worker with earlier jobs; each runs again, as the first of a worker.
        pace: mean seconds of the recent units, by which work is dealt out.
        seconds: of all its ``units`` together, for the estimate of the time left: one large layer says little about
            the rest.
        failures: workers that did not start.
        failure: why no worker starts, once that is given up.
        absent: whether its framework is not installed, or its device does not exist.
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
        """Seconds of waiting work; a lane of unknown pace goes first."""
        return (len(self.waiting) + len(self.suspects)) * (1e3 if self.pace is None else self.pace)

    @property
    def ahead(self) -> int:
        """How many units a worker is sent at a time: more than one if units are brief compared with a message."""
        if self.pace is None or self.pace > _BRIEF:
            return 1
        return min(_MOST, int(_AHEAD / max(self.pace, 1e-6)))

    def idle(self) -> Worker | None:
        """Return an idle worker, preferably one that has worked before."""
        return max((w for w in self.workers if w.idle), key=lambda w: w.served, default=None)

    def fresh(self) -> Worker | None:
        """Return an idle worker that has not worked yet, so that no earlier job can be the cause of its end."""
        return next((w for w in self.workers if w.idle and not w.served), None)

    def take_queued(self) -> Iterator[Job]:
        """Remove and yield every job that no worker has."""
        for jobs in (self.suspects, self.waiting):
            while jobs:
                yield jobs.popleft()

    @property
    def starting(self) -> bool:
        return any(not worker.ready for worker in self.workers)

    def record_time(self, seconds: float, units: int = 1) -> None:
        """Update the pace: so many units took so long, one after the other."""
        each, old = seconds / units, 0.9**units
        self.pace = each if self.pace is None else old * self.pace + (1 - old) * each
        self.units += units
        self.seconds += seconds

    def seconds_left(self) -> float | None:
        """Estimate the time that the rest takes one worker; None while the pace is unknown."""
        return self.left * self.seconds / self.units if self.units else None


class WorkerPool:
    """The workers of all lanes: starts them, ends them, and waits for their messages.

    Args:
        jobs: how many workers may be busy at a time.
        threads: of each worker.
        timeout: seconds that a worker may take to start if ``start_timeout`` is None, but at least :data:`START`.
        memory: bytes that each worker may allocate.
    """

    def __init__(
        self, jobs: int, threads: int, timeout: float, memory: int | None = None, start_timeout: float | None = None
    ) -> None:
        self.lanes: dict[Target, Lane] = {}
        self._jobs, self._threads, self._memory = jobs, threads, memory
        self._timeout, self._start_timeout = timeout, start_timeout
        self._events = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._events.register(self._wake_read, selectors.EVENT_READ)

    @property
    def workers(self) -> list[Worker]:
        return [worker for lane in self.lanes.values() for worker in lane.workers]

    @property
    def free(self) -> int:
        """How many more workers may be busy."""
        return self._jobs - sum(not worker.idle for worker in self.workers)

    def wanted(self) -> int:
        """Return how many problems to prepare: enough for the lane with the fewest, many while a lane starts.

        Arrays computed long before their use have left the processor's caches by then.
        """
        lanes = [lane for lane in self.lanes.values() if lane.left and not lane.absent and not lane.failure]
        if not lanes or any(lane.pace is None for lane in lanes):
            return _UNKNOWN
        return max(x.ahead * (self._jobs + 1) - len(x.waiting) for x in lanes)

    def start(self, lane: Lane) -> None:
        patience = self.patience(lane.target.request)
        self.adopt(Worker(lane.target, self._threads, patience, self._memory, self._cores(lane)))

    def patience(self, request: str) -> float:
        """Return how many seconds a worker of an adapter may take to start."""
        return max(self._timeout, START) * slowness(request) if self._start_timeout is None else self._start_timeout

    def _cores(self, lane: Lane) -> tuple[int, ...]:
        """Return the cores reserved for the lane's next worker; empty if several lanes share them.

        JAX and TensorFlow start a thread for every core that they may use, whatever their settings. No worker is
        bound to a single core, on which OpenVINO loses errors.
        """
        every = environment.core_numbers()
        if len(self.lanes) > 1 or self._jobs == 1 or self._threads == 1 or self._jobs * self._threads > len(every):
            return ()
        sets = (every[i * self._threads : (i + 1) * self._threads] for i in range(self._jobs))
        return next((cores for cores in sets if all(worker.cores != cores for worker in lane.workers)), ())

    def adopt(self, worker: Worker) -> None:
        """Add a worker to the lane of its target."""
        self.lanes[worker.target].workers.append(worker)
        self._events.register(worker, selectors.EVENT_READ)

    def release(self) -> list[Worker]:
        """Remove the idle workers from the pool and return them."""
        idle = [worker for worker in self.workers if worker.idle]
        for worker in idle:
            self._events.unregister(worker)
            self.lanes[worker.target].workers.remove(worker)
        return idle

    def dismiss(self, worker: Worker, patience: float = 0.0) -> str:
        """End a worker; returns how it had ended by itself within ``patience`` seconds, or ``"killed"``."""
        self._events.unregister(worker)
        self.lanes[worker.target].workers.remove(worker)
        return worker.end(patience)

    def may_start(self, lane: Lane) -> bool:
        """Return whether a lane may have one more worker; ends an idle worker of another lane if it must."""
        if len(lane.workers) >= self._jobs:
            return False
        alive = self.workers
        if len(alive) < 2 * self._jobs + 4:
            return True
        idle = [w for w in alive if w.idle and not self.lanes[w.target].waiting]
        if idle:
            self.dismiss(idle[0])
        return bool(idle)

    def wait(self) -> Iterator[Worker]:
        """Wait a short time for messages and return the workers that sent some.

        If every busy worker has plenty of jobs, sleep for some units first: their verdicts stay in the pipes, and are
        read together instead of one by one.
        """
        naps = [_TICK]
        for worker in self.workers:
            lane = self.lanes[worker.target]
            if not worker.idle:
                plenty = len(worker.jobs) > max(lane.ahead // 2, 1)
                naps.append((lane.pace or 0.0) * lane.ahead / 4 if plenty else 0.0)
        if len(naps) > 1 and min(naps) > 0:
            time.sleep(min(naps))
        for key, _ in self._events.select(_TICK):
            if isinstance(key.fileobj, Worker):
                yield key.fileobj
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 1 << 12)

    def wake(self) -> None:
        """End the wait; called from any thread."""
        with contextlib.suppress(OSError):  # a full pipe ends the wait as well; a closed one has no reader
            os.write(self._wake_write, b".")

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.end()
        self._events.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

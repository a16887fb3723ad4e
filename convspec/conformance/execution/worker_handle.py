"""A worker in the scheduler's view: a child process and the units that it has been sent."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convspec.conformance.execution import messages
from convspec.contract.isolation import ChildProcess, resident

if TYPE_CHECKING:
    from convspec.conformance.checks.checks import Outcome
    from convspec.conformance.execution.shared_arrays import Lease
    from convspec.conformance.trials.work_plan import Target, Unit

# Every layer allocates and frees arrays of some megabytes. The allocator of the GNU C library keeps them instead of
# returning them to the system, which would clear their pages each time; measured: 10 to 20 % of a worker's time.
_KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 29)}
_ROOM = 1 << 15  # bytes, of the 65,536 that a pipe holds
_LOOK = 0.1  # seconds between looks at its memory
_ORACLE = 600.0


@dataclass(frozen=True, slots=True)
class Job:
    """A unit and the arrays that it needs; ``first`` is the outcome of its first run if it is a suspect run alone."""

    unit: Unit
    lease: Lease
    first: Outcome | None = None

    @property
    def grace(self) -> float:
        """Seconds that the worker may take for the arrays if it computes them itself."""
        return _ORACLE if self.lease.arrays.path is None else 0.0


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
        allocator = {name: os.environ.get(name, value) for name, value in _KEEP_PAGES.items()}
        super().__init__("convspec.conformance.execution.worker", threads, allocator)
        self.send({"target": messages.target_to_json(target), "threads": threads, "memory": memory, "cores": cores})

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

"""Run problems on local worker processes: every core busy, one verdict per trial, nothing lost.

At most ``jobs`` workers are busy at a time. A free place goes to the target with the most work waiting, which may get
a second worker if that work outweighs its start. The oracle runs ahead in threads, bounded by the number and the size
of the arrays in use. A trial that ends a worker after other trials is a suspect: it runs again alone, as an earlier
trial may be the cause; the verdict is that of the lone run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from convspec.conformance.checks.checks import Outcome, unreached
from convspec.conformance.environment import cores
from convspec.conformance.execution import messages
from convspec.conformance.execution.shared_arrays import Lease, OraclePrefetch
from convspec.conformance.execution.worker_pool import Job, Lane, Worker, WorkerPool, slowness
from convspec.conformance.trials.work_plan import Problem, Target, Unit, large_first
from convspec.contract.isolation import format_size, out_of_memory, resident

MEMORY = 6 << 30  # bytes: a larger worker is replaced; compilers' caches grow with every layer
_ATTEMPTS = 2
_MANY = 32  # units that are worth a second worker while their pace is unknown
_LOOK = 0.1  # seconds between looks at the workers' memory


class Scheduler:
    """One run.

    Args:
        report: called with every outcome.
        absent: called with a target that cannot run here, and why.
        timeout: seconds from one message of a worker to the next.
        start_timeout: seconds that a worker may take to start; by default ``timeout``, at least a minute.
        memory: bytes that a worker may hold; None for no limit.
        threads: of a framework; by default the cores are divided among the jobs.
        capacity: bytes of arrays in use.
    """

    def __init__(
        self,
        report: Callable[[Unit, Outcome], None], absent: Callable[[Target, str], None], *, jobs: int, timeout: float,
        start_timeout: float | None = None, memory: int | None = None, threads: int | None = None,
        capacity: int = 1 << 30,
    ) -> None:  # fmt: skip
        self._report, self._absent = report, absent
        self._jobs, self._timeout, self._capacity, self._memory = jobs, timeout, capacity, memory
        self._replaced_at = MEMORY if memory is None else min(MEMORY, memory * 3 // 4)
        self._looked, self._stopped = 0.0, False
        self._pool = WorkerPool(jobs, threads or max(1, cores() // jobs), timeout, memory, start_timeout)
        self._lanes = self._pool.lanes

    def run(
        self,
        problems: Callable[[], Iterator[Problem]], known: Worker | None = None,
        keep: Callable[[Worker], None] | None = None,
    ) -> None:  # fmt: skip
        """Reach a verdict on every trial of every problem.

        Args:
            problems: called several times; returns all problems each time.
            known: a worker to begin with.
            keep: called with each worker that is idle at the end; without, idle workers end.
        """
        for problem in problems():
            for unit in problem.units:
                self._lanes.setdefault(unit.target, Lane(unit.target, 0)).left += 1
        if known is not None:
            self._pool.adopt(known)
        self._keep = keep
        ordered = problems() if self._jobs == 1 else large_first(problems, self._jobs)
        threads = max(1, self._jobs // 2)
        self._prefetch = OraclePrefetch(ordered, threads, self._capacity, self._pool.wake, local=self._memory is None)
        try:
            while not self._stopped and (self._prefetch.unfinished or any(lane.left for lane in self._lanes.values())):
                self._prefetch.fill(self._pool.wanted())
                self._assign()
                if self._prefetch.pending or self._pool.workers:
                    for worker in self._pool.wait():
                        self._receive(worker)
                self._collect()
                self._check_clocks()
            if keep is not None and not self._stopped:
                for worker in self._pool.release():
                    keep(worker)
        finally:
            self._prefetch.close()
            self._pool.close()

    def stop(self) -> None:
        """End the run within a moment, unfinished; called from any thread."""
        self._stopped = True

    def seconds_left(self) -> float | None:
        """Estimate the time that the rest will take; None while the pace of a target is unknown."""
        left = [lane.seconds_left() for lane in self._lanes.values() if lane.left and not lane.absent]
        known = [seconds for seconds in left if seconds is not None]
        return sum(known) / self._jobs if len(known) == len(left) else None

    # -- the loop ------------------------------------------------------------------------------------------------

    def _check_clocks(self) -> None:
        look = self._memory is not None and time.monotonic() > self._looked + _LOOK
        for worker in self._pool.workers:
            if worker.dead:
                self._receive(worker)
            elif worker.overdue:
                self._on_worker_died(worker, "timeout", f"no answer within {worker.patience:g} s")
            elif look and worker.jobs and (size := resident(worker.process)) > (self._memory or 0):
                reason = f"memory: {format_size(size)} held, {format_size(self._memory or 0)} allowed"
                self._on_worker_died(worker, "crash", reason)
        if look:
            self._looked = time.monotonic()

    def _collect(self) -> None:
        """Queue the units whose arrays are ready."""
        for problem, lease in self._prefetch.ready():
            for unit in problem.units:
                lane = self._lanes[unit.target]
                if lane.absent:
                    self._release(lane, lease)
                elif failure := lane.failure or lease.arrays.failure:
                    self._fail(lane, Job(unit, lease), failure)
                else:
                    lane.waiting.append(Job(unit, lease))

    def _release(self, lane: Lane, lease: Lease) -> None:
        lane.left -= 1
        self._prefetch.release(lease)

    def _fail(self, lane: Lane, job: Job, reason: str) -> None:
        for trial in job.unit.trials:
            self._report_outcome(job, unreached(trial, reason))
        self._release(lane, job.lease)

    def _report_outcome(self, job: Job, outcome: Outcome) -> None:
        """Report an outcome; that of a lone run together with the first run's."""
        if job.first is not None:
            first: dict[str, Any] = {key: asdict(job.first)[key] for key in ("verdict", "reason", "evidence")}
            outcome = replace(outcome, evidence={**outcome.evidence, "first": first})
        self._report(job.unit, outcome)

    # -- work to workers -----------------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Give every free place to the lane with the most work waiting."""
        for lane in self._lanes.values():
            for worker in list(lane.workers):
                if not lane.left and self._keep is None:
                    self._pool.dismiss(worker)
                elif worker.jobs and lane.ahead > 1:
                    self._send(lane, worker)
        lanes = sorted((x for x in self._lanes.values() if x.waiting or x.suspects), key=lambda lane: -lane.backlog)
        free = self._pool.free
        for lane in lanes:
            while free > 0 and (lane.waiting or lane.suspects) and self._occupy(lane):
                free -= 1

    def _occupy(self, lane: Lane) -> bool:
        """Give one more of the lane's workers a job, or start one; returns whether that was possible."""
        if lane.suspects and (fresh := lane.fresh()):
            self._hand(fresh, lane.suspects.popleft())
            return True
        idle = lane.idle()
        if lane.suspects and not lane.starting:
            if idle is not None and len(lane.workers) >= self._jobs:
                self._pool.dismiss(idle)
            if self._pool.may_start(lane):
                self._pool.start(lane)
                return True
        if lane.waiting and idle in lane.workers and idle is not None:
            self._send(lane, idle)
        elif lane.waiting and self._worth_starting(lane):
            self._pool.start(lane)
        else:
            return False
        return True

    def _send(self, lane: Lane, worker: Worker) -> None:
        while lane.waiting and len(worker.jobs) < lane.ahead and worker.has_room:
            self._hand(worker, lane.waiting.popleft())

    def _hand(self, worker: Worker, job: Job) -> None:
        if not worker.jobs:
            worker.began = time.monotonic()
            worker.allow(self._limit(worker) + job.grace)
        worker.give(job)

    def _limit(self, worker: Worker) -> float:
        return self._timeout * slowness(worker.target.request)

    def _worth_starting(self, lane: Lane) -> bool:
        workers = len(lane.workers) + 1
        if lane.failures >= _ATTEMPTS and lane.workers:
            return False
        if lane.pace is not None:
            worth = lane.left * lane.pace >= 2 * lane.startup * workers
        else:  # with one lane, no other needs the place
            worth = len(self._lanes) == 1 and lane.left >= _MANY * workers
        return (workers == 1 or worth) and self._pool.may_start(lane)

    # -- verdicts from workers -----------------------------------------------------------------------------------

    def _receive(self, worker: Worker) -> None:
        received, ended = worker.receive()
        lane = self._lanes[worker.target]
        for message in received:
            if worker not in lane.workers:  # replaced by an earlier message: its other jobs run elsewhere
                break
            if worker.ready:
                self._on_outcome(lane, worker, message)
            elif not self._on_ready(lane, worker, message):
                return
        if worker.ended:
            now = time.monotonic()
            lane.record_time(now - worker.began, worker.ended)
            worker.began, worker.ended = now, 0
        if ended and worker in lane.workers:
            self._on_worker_died(worker, "crash", "")

    def _on_outcome(self, lane: Lane, worker: Worker, message: Any) -> None:
        """Take the next outcome of the worker's first job."""
        job = worker.jobs[0]
        worker.allow(self._limit(worker))
        if message == messages.ARRAYS_COMPUTED:
            worker.has_arrays = True
            return
        self._report_outcome(job, Outcome(job.unit.trials[worker.done], *message))
        worker.done += 1
        worker.served += 1
        if worker.done == len(job.unit.trials):
            worker.finish()
            worker.allow(self._limit(worker) + (worker.jobs[0].grace if worker.jobs else 0.0))
            self._release(lane, job.lease)
            if worker.exceeds(self._replaced_at):
                lane.waiting.extendleft(reversed(worker.jobs))
                self._pool.dismiss(worker)

    def _on_ready(self, lane: Lane, worker: Worker, message: dict[str, Any]) -> bool:
        """Take the worker's first message; returns whether it is ready for work."""
        if "ready" in message:
            worker.process = message["ready"]
            lane.startup = time.monotonic() - worker.started
            return True
        self._pool.dismiss(worker)
        if lane.absent:
            return False
        if "absent" in message:
            lane.absent = True
            for job in lane.take_queued():
                self._release(lane, job.lease)
            self._absent(lane.target, message["absent"])
        else:
            self._give_up(lane, message["failed"])
        return False

    def _give_up(self, lane: Lane, reason: str) -> None:
        """Report an error for every unit of a lane whose workers do not start."""
        lane.failure = f"the worker did not start: {reason}"
        for job in lane.take_queued():
            self._fail(lane, job, lane.failure)

    def _on_worker_died(self, worker: Worker, verdict: str, reason: str) -> None:
        """End a worker that died or must die: its current trial gets the verdict, its other work is queued again."""
        lane, words = self._lanes[worker.target], worker.last_words()
        ending = self._pool.dismiss(worker, patience=1.0 if verdict == "crash" and not reason else 0.0)
        if not worker.ready:
            lane.failures += 1
            if lane.failures >= _ATTEMPTS and not lane.workers:
                self._give_up(lane, f"{reason or ending}; last words: {words}")
            return
        if not worker.jobs:
            return
        job = worker.jobs.popleft()
        if job.grace and not worker.has_arrays:
            ending = f"{ending} while the oracle computed"
        lane.waiting.extendleft(reversed(worker.jobs))
        trial, rest = job.unit.trials[worker.done], job.unit.after(worker.done + 1)
        evidence = {"ending": ending, "last_words": words}
        reason = reason or self._why(ending, words)
        seconds = time.monotonic() - worker.began
        outcome = Outcome(trial, "unknown", "", verdict, reason, None, evidence, seconds)
        if rest.trials:
            lane.waiting.appendleft(Job(rest, job.lease))
            lane.left += 1  # a unit became two
            job.lease.users += 1
        lane.record_time(seconds)
        if worker.served:
            lane.suspects.append(Job(replace(job.unit, trials=(trial,)), job.lease, outcome))
        else:
            self._report_outcome(job, outcome)
            self._release(lane, job.lease)

    def _why(self, ending: str, words: str) -> str:
        """Return why a worker died: its signal or exit status, and its last line."""
        parts = [ending, *words.splitlines()[-1:]]
        if self._memory is not None and ending != "memory" and out_of_memory(words):
            parts.insert(0, "memory")
        return ": ".join(parts)

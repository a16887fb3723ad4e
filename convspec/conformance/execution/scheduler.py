"""Takes problems through local worker processes: every core busy, one verdict per trial, nothing lost.

At most ``jobs`` workers are busy at a time. A free place goes to the target with the most work waiting, which may
get a second process when that work outweighs its start. The oracle runs ahead in threads, bounded by the number and
the size of the bundles that are not used up yet. What ended a worker that had done other things before is run again
alone, so that it is not blamed for what they left behind; the verdict is that of the lone run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from convspec.conformance.checks.checks import Outcome
from convspec.conformance.environment import cores
from convspec.conformance.execution import messages as protocol
from convspec.conformance.execution.oracle_prefetch import Feed
from convspec.conformance.execution.shared_arrays import Held
from convspec.conformance.execution.worker_handle import Job, Worker
from convspec.conformance.execution.worker_pool import Crew, Lane, overdue
from convspec.conformance.trials.work_plan import Problem, Target, Unit, large_first
from convspec.contract.isolation import memory_limit as memory

MEMORY = 6 << 30  # bytes: a worker that has grown beyond is replaced; compilers' caches grow with every layer
_ATTEMPTS = 2
_MANY = 32  # units that are worth a second worker before anything is known of their pace
_LOOK = 0.1  # seconds between looks at the workers' memory


class Scheduler:
    """One run. ``report`` is called with every outcome, ``absent`` with a target that cannot run here and why.

    ``memory`` is how many bytes a worker may hold; None for no limit. ``threads`` are a framework's; by default the
    cores are divided among the jobs.
    """

    def __init__(
        self,
        report: Callable[[Unit, Outcome], None],
        absent: Callable[[Target, str], None],
        *,
        jobs: int,
        timeout: float,
        memory: int | None = None,
        threads: int | None = None,
        capacity: int = 1 << 30,
    ) -> None:
        self._report, self._absent = report, absent
        self._jobs, self._timeout, self._capacity, self._memory = jobs, timeout, capacity, memory
        self._grown = MEMORY if memory is None else min(MEMORY, memory * 3 // 4)
        self._looked, self._stopped = 0.0, False
        self._crew = Crew(jobs, threads or max(1, cores() // jobs), memory)
        self._lanes = self._crew.lanes

    def run(
        self,
        problems: Callable[[], Iterator[Problem]],
        known: Worker | None = None,
        keep: Callable[[Worker], None] | None = None,
    ) -> None:
        """Reach a verdict on every trial of every problem; ``problems`` gives them anew each time that it is called.

        ``known`` is a worker to begin with; those that are idle at the end go to ``keep``.
        """
        for problem in problems():
            for unit in problem.units:
                self._lanes.setdefault(unit.target, Lane(unit.target, 0)).left += 1
        if known is not None:
            self._crew.adopt(known)
        self._keep = keep
        ordered = problems() if self._jobs == 1 else large_first(problems, self._jobs)
        beside = (max(1, self._jobs // 2), self._capacity, self._crew.ring)
        self._feed = Feed(ordered, *beside, local=self._memory is None)
        try:
            while not self._stopped and (self._feed.going or any(lane.left for lane in self._lanes.values())):
                self._feed.fill(self._crew.wanted())
                self._assign()
                if self._feed.pending or self._crew.workers:
                    for worker in self._crew.wait():
                        self._listen(worker)
                self._collect()
                self._check_clocks()
            if keep is not None and not self._stopped:
                for worker in self._crew.release():
                    keep(worker)
        finally:
            self._feed.close()
            self._crew.close()

    def stop(self) -> None:
        """End the run where it is, within a moment; called from any thread."""
        self._stopped = True

    def seconds_left(self) -> float | None:
        """A guess at the time that the rest will take; None while a target has not shown its pace."""
        left = [lane.seconds_left() for lane in self._lanes.values() if lane.left and not lane.absent]
        known = [seconds for seconds in left if seconds is not None]
        return sum(known) / self._jobs if len(known) == len(left) else None

    # -- the loop ------------------------------------------------------------------------------------------------

    def _check_clocks(self) -> None:
        look = self._memory is not None and time.monotonic() > self._looked + _LOOK
        for worker in self._crew.workers:
            if worker.dead():
                self._listen(worker)
            elif overdue(worker):
                self._bury(worker, "timeout", f"no answer within {worker.patience:g} s")
            elif look and worker.jobs and (held := memory.held(worker.process)) > (self._memory or 0):
                said = f"memory: {memory.said(held)} held, {memory.said(self._memory or 0)} allowed"
                self._bury(worker, "crash", said)
        if look:
            self._looked = time.monotonic()

    def _collect(self) -> None:
        """Queue the units whose oracle has come."""
        for problem, held in self._feed.come():
            for unit in problem.units:
                lane = self._lanes[unit.target]
                if lane.absent:
                    self._let_go(lane, held)
                elif held.bundle.failure or lane.failure:
                    self._fail(lane, Job(unit, held), lane.failure or held.bundle.failure or "")
                else:
                    lane.waiting.append(Job(unit, held))

    def _let_go(self, lane: Lane, held: Held) -> None:
        lane.left -= 1
        self._feed.let_go(held)

    def _fail(self, lane: Lane, job: Job, reason: str) -> None:
        for trial in job.unit.trials:
            self._tell(job, Outcome(trial, "unknown", "", "error", reason, None, {}, 0.0))
        self._let_go(lane, job.held)

    def _tell(self, job: Job, outcome: Outcome) -> None:
        """Report a verdict; that of a lone run with what it had been before."""
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
                    self._crew.dismiss(worker)
                elif worker.jobs and lane.ahead > 1:
                    self._send(lane, worker)
        lanes = sorted((x for x in self._lanes.values() if x.waiting or x.suspects), key=lambda lane: -lane.backlog)
        free = self._crew.free
        for lane in lanes:
            while free > 0 and (lane.waiting or lane.suspects) and self._occupy(lane):
                free -= 1

    def _occupy(self, lane: Lane) -> bool:
        """Put one more of the lane's workers to work, or start one; whether that was possible."""
        if lane.suspects and (fresh := lane.fresh()):
            self._hand(fresh, lane.suspects.popleft())
            return True
        idle = lane.idle()
        if lane.suspects and not lane.starting:
            if idle is not None and len(lane.workers) >= self._jobs:
                self._crew.dismiss(idle)
            if self._crew.may_start(lane):
                self._crew.start(lane)
                return True
        if lane.waiting and idle in lane.workers and idle is not None:
            self._send(lane, idle)
            return True
        if lane.waiting and self._worth_starting(lane):
            self._crew.start(lane)
            return True
        return False

    def _send(self, lane: Lane, worker: Worker) -> None:
        while lane.waiting and len(worker.jobs) < lane.ahead and worker.room:
            self._hand(worker, lane.waiting.popleft())

    def _hand(self, worker: Worker, job: Job) -> None:
        if not worker.jobs:
            worker.began = time.monotonic()
            worker.allow(self._timeout + job.grace)
        worker.give(job)

    def _worth_starting(self, lane: Lane) -> bool:
        workers = len(lane.workers) + 1
        if lane.failures >= _ATTEMPTS and lane.workers:
            return False
        if lane.pace is not None:
            worth = lane.left * lane.pace >= 2 * lane.startup * workers
        else:  # with one lane nobody else waits for the place
            worth = len(self._lanes) == 1 and lane.left >= _MANY * workers
        return (workers == 1 or worth) and self._crew.may_start(lane)

    # -- verdicts from workers -----------------------------------------------------------------------------------

    def _listen(self, worker: Worker) -> None:
        messages, gone = worker.receive()
        lane = self._lanes[worker.target]
        for message in messages:
            if worker not in lane.workers:  # replaced while its messages were read: its other jobs are done elsewhere
                break
            if worker.ready:
                self._take(lane, worker, message)
            elif not self._greet(lane, worker, message):
                return
        if worker.ended:
            now = time.monotonic()
            lane.timed(now - worker.began, worker.ended)
            worker.began, worker.ended = now, 0
        if gone and worker in lane.workers:
            self._bury(worker, "crash", "")

    def _take(self, lane: Lane, worker: Worker, message: Any) -> None:
        """One more verdict of the job that the worker is on."""
        job = worker.jobs[0]
        worker.allow(self._timeout)
        if message == protocol.GIVEN:
            worker.given = True
            return
        self._tell(job, protocol.outcome_from_json(job.unit.trials[worker.done], message))
        worker.done += 1
        worker.served += 1
        if worker.done == len(job.unit.trials):
            worker.finish()
            worker.allow(self._timeout + (worker.jobs[0].grace if worker.jobs else 0.0))
            worker.quiet()
            self._let_go(lane, job.held)
            if worker.outgrown(self._grown):
                lane.waiting.extendleft(reversed(worker.jobs))
                self._crew.dismiss(worker)

    def _greet(self, lane: Lane, worker: Worker, message: dict[str, Any]) -> bool:
        """The worker's first message: whether it is ready for work."""
        if "ready" in message:
            worker.process = message["ready"]
            lane.startup = time.monotonic() - worker.started
            return True
        self._crew.dismiss(worker)
        if lane.absent:
            return False
        if "absent" in message:
            lane.absent = True
            for jobs in (lane.suspects, lane.waiting):
                while jobs:
                    self._let_go(lane, jobs.popleft().held)
            self._absent(lane.target, message["absent"])
        else:
            self._give_up(lane, message["failed"])
        return False

    def _give_up(self, lane: Lane, reason: str) -> None:
        """Report every unit of a lane whose worker does not start."""
        lane.failure = f"the worker did not start: {reason}"
        for jobs in (lane.suspects, lane.waiting):
            while jobs:
                self._fail(lane, jobs.popleft(), lane.failure)

    def _bury(self, worker: Worker, verdict: str, reason: str) -> None:
        """A worker is dead or must die: it costs the trial that it was on, and the rest goes on elsewhere."""
        lane, words = self._lanes[worker.target], worker.last_words()
        ending = self._crew.dismiss(worker, patience=1.0 if verdict == "crash" and not reason else 0.0)
        if not worker.ready:
            lane.failures += 1
            if lane.failures >= _ATTEMPTS and not lane.workers:
                self._give_up(lane, f"{reason or ending}; last words: {words}")
            return
        if not worker.jobs:
            return
        job = worker.jobs.popleft()
        if job.grace and not worker.given:
            ending = f"{ending} while the oracle computed"
        lane.waiting.extendleft(reversed(worker.jobs))
        trial, rest = job.unit.trials[worker.done], job.unit.after(worker.done + 1)
        evidence = {"ending": ending, "last_words": words}
        reason = reason or self._said(ending, words)
        seconds = time.monotonic() - worker.began
        outcome = Outcome(trial, "unknown", "", verdict, reason, None, evidence, seconds)
        if rest.trials:
            lane.waiting.appendleft(Job(rest, job.held))
            lane.left += 1  # a unit became two
            job.held.users += 1
        lane.timed(seconds)
        if worker.served:
            lane.suspects.append(Job(replace(job.unit, trials=(trial,)), job.held, outcome))
        else:
            self._tell(job, outcome)
            self._let_go(lane, job.held)

    def _said(self, ending: str, words: str) -> str:
        """Why a worker died: its signal, and the last of its words."""
        parts = [ending, *words.splitlines()[-1:]]
        if self._memory is not None and ending != "memory" and memory.refused(words):
            parts.insert(0, "memory")
        return ": ".join(parts)

"""What the scheduler owes to every job, whatever its worker does: tried with workers that are no processes."""

import functools
import os
import time
from collections import deque
from concurrent.futures import wait

import pytest

from convspec import Case, ConvSpec
from convspec.conformance.execution import messages, scheduler
from convspec.conformance.execution.scheduler import Scheduler
from convspec.conformance.execution.shared_arrays import ArrayStore, Lease, OraclePrefetch, SharedArrays
from convspec.conformance.execution.worker_pool import Job, Lane, Worker
from convspec.conformance.trials.work_plan import Selection, Target

GOOD = Target("convspec_fakes:GOOD")
AGREE = ["native", "", "agree", "", None, {}, 0.1]
TIMEOUT, GRACE = 5.0, 600.0


class StillWorker(Worker):
    """A worker without a process; it says what it is told to say."""

    def __init__(self, target=GOOD):
        self.target, self.cores = target, ()
        self.jobs, self._sizes = deque(), deque()
        self.done = self.served = self.ended = 0
        self.process, self.has_arrays, self.began = 1, False, time.monotonic()
        self.started = self.began
        self.allow(60.0)
        self.pipe = os.pipe()
        self.says, self.ending, self.large, self.gone, self.over = [], "killed", False, False, False

    def fileno(self):
        return self.pipe[0]

    @property
    def dead(self):
        return False

    def send(self, _message):
        return 10

    def receive(self):
        says, self.says = self.says, []
        return says, self.over

    def last_words(self, _most=5):
        return ""

    def forget_words(self):
        pass

    def exceeds(self, nbytes):
        assert nbytes > 0
        return self.large

    def stop(self):
        pass

    def end(self, _patience=0.0):
        if not self.gone:
            self.gone = True
            for descriptor in self.pipe:
                os.close(descriptor)
        return self.ending


class Run:
    """A scheduler between two turns of its loop: problems whose arrays are ready, one still worker for each target."""

    def __init__(self, cases=3, requests=("convspec_fakes:GOOD",), *, local=False, jobs=1, **limits):
        self.verdicts, self.dropped = [], []
        layers = [Case(ConvSpec(2, 3, (1, 2)), (1, 2, 3, 4 + n), seed=n) for n in range(cases)]
        self.problems = [*Selection(tuple(requests), layouts=("NCHW",), data=("exact", "random")).problems(layers)]
        self.scheduler = Scheduler(
            lambda unit, outcome: self.verdicts.append((unit, outcome)),
            lambda *_: None,
            jobs=jobs,
            timeout=TIMEOUT,
            **limits,
        )
        one = self.scheduler
        one._keep = lambda worker: None
        for unit in (unit for problem in self.problems for unit in problem.units):
            one._lanes.setdefault(unit.target, Lane(unit.target, 0)).left += 1
        one._prefetch = OraclePrefetch(iter(self.problems), 1, 1 << 20, one._pool.wake, local=local)
        drop = one._prefetch._store.drop
        one._prefetch._store.drop = lambda arrays: (self.dropped.append(arrays.path), drop(arrays))
        self.prefetch = one._prefetch
        self.prefetch.fill(cases)
        wait(self.prefetch.pending)
        one._collect()
        self.workers = {target: StillWorker(target) for target in one._lanes}
        for worker in self.workers.values():
            one._pool.adopt(worker)

    def give(self, jobs, target=GOOD):
        """Send so many waiting jobs to the target's worker."""
        lane, worker = self.scheduler._lanes[target], self.workers[target]
        for _ in range(jobs):
            self.scheduler._hand(worker, lane.waiting.popleft())
        return lane, worker

    def say(self, *says, target=GOOD):
        self.workers[target].says += says
        self.scheduler._receive(self.workers[target])

    def replace(self, target=GOOD):
        self.workers[target] = StillWorker(target)
        self.scheduler._pool.adopt(self.workers[target])

    def close(self):
        self.prefetch.close()
        self.scheduler._pool.close()


@pytest.fixture
def run_of():
    runs = []

    def make(*args, **options):
        runs.append(Run(*args, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.close()


def indices(jobs):
    return [job.unit.index for job in jobs]


def test_the_work_of_a_worker_that_outgrew_its_memory_is_put_back_in_order(run_of):
    run = run_of(4)
    lane, worker = run.give(3)
    worker.large = True
    run.say(AGREE, AGREE, AGREE)
    assert (worker.gone, lane.workers) == (True, [])
    assert indices(lane.waiting) == [1, 2, 3]
    assert [(unit.index, outcome.verdict) for unit, outcome in run.verdicts] == [(0, "agree")] * 2
    assert lane.left == 3
    run.replace()
    run.give(3)
    run.say(*[AGREE] * 6)
    assert [unit.index for unit, _ in run.verdicts] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (lane.left, len(run.dropped)) == (0, 4)


def test_a_worker_of_the_usual_size_keeps_its_work(run_of):
    run = run_of(2)
    lane, worker = run.give(2)
    run.say(AGREE, AGREE)
    assert (worker.gone, indices(worker.jobs), list(lane.waiting)) == (False, [1], [])


def test_every_job_whose_arrays_the_worker_computes_has_the_oracles_grace(run_of):
    run = run_of(3, local=True)
    lane, worker = run.give(2)
    assert worker.patience == TIMEOUT + GRACE
    run.say(messages.ARRAYS_COMPUTED)
    assert worker.patience == TIMEOUT
    run.say(AGREE)
    assert worker.patience == TIMEOUT
    run.say(AGREE)
    assert worker.patience == TIMEOUT + GRACE
    assert not worker.has_arrays
    run.say(messages.ARRAYS_COMPUTED, AGREE, AGREE)
    assert worker.patience == TIMEOUT
    run.give(1)
    assert worker.patience == TIMEOUT + GRACE
    assert (lane.left, worker.deadline > time.monotonic() + GRACE) == (1, True)


def test_a_job_with_shared_arrays_has_no_grace(run_of):
    run = run_of(2)
    _, worker = run.give(2)
    assert worker.patience == TIMEOUT
    run.say(AGREE, AGREE)
    assert worker.patience == TIMEOUT


def test_a_further_job_gives_the_first_one_no_more_time(run_of):
    run = run_of(3)
    _, worker = run.give(1)
    deadline, began = worker.deadline, worker.began
    run.give(2)
    assert (worker.deadline, worker.began) == (deadline, began)


def test_the_pace_counts_every_unit_that_ended(run_of):
    run = run_of(3)
    lane, worker = run.give(3)
    began = worker.began
    run.say(*[AGREE] * 3)
    assert (lane.units, worker.ended) == (1, 0)
    assert lane.seconds == worker.began - began > 0
    run.say(*[AGREE] * 3)
    assert lane.units == 3


def test_a_worker_whose_pipe_ends_has_crashed(run_of):
    run = run_of(2)
    lane, worker = run.give(2)
    worker.over, worker.ending = True, "exit status 3"
    run.say(AGREE)
    assert worker.gone
    assert [outcome.verdict for _, outcome in run.verdicts] == ["agree"]
    assert [job.first.reason for job in lane.suspects] == ["exit status 3"]
    assert indices(lane.waiting) == [1]


def test_a_target_whose_workers_do_not_start_twice_is_given_up(run_of):
    run = run_of(2)
    lane = run.scheduler._lanes[GOOD]
    for number in (1, 2):
        assert not run.verdicts
        run.workers[GOOD].process = 0
        run.workers[GOOD].ending = "exit status 7"
        run.scheduler._on_worker_died(run.workers[GOOD], "crash", "")
        assert lane.failures == number
        if number == 1:
            run.replace()
    reasons = {(outcome.verdict, outcome.reason) for _, outcome in run.verdicts}
    assert reasons == {("error", "the worker did not start: exit status 7; last words: ")}
    assert (len(run.verdicts), lane.left, len(run.dropped)) == (4, 0, 2)


def test_a_target_with_a_worker_that_works_is_not_given_up(run_of):
    run = run_of(2, jobs=2)
    lane = run.scheduler._lanes[GOOD]
    lane.pace = 100.0
    assert run.scheduler._worth_starting(lane)
    for _ in range(3):
        failing = StillWorker()
        failing.process = 0
        run.scheduler._pool.adopt(failing)
        run.scheduler._on_worker_died(failing, "crash", "")
    assert (lane.failures, lane.failure, run.verdicts) == (3, None, [])
    assert not run.scheduler._worth_starting(lane)


def test_shared_arrays_live_as_long_as_one_unit_needs_them(run_of):
    """Two adapters share them; one worker dies at its first trial, so that the rest of its unit becomes another."""
    other = Target("convspec_fakes:GOOD:other")
    run = run_of(1, ("convspec_fakes:GOOD", "convspec_fakes:GOOD:other"))
    lane, worker = run.give(1)
    run.give(1, other)
    (job,) = worker.jobs
    assert job.lease.users == 2
    run.scheduler._on_worker_died(worker, "crash", "SIGSEGV")
    assert [(outcome.trial.data, outcome.verdict) for _, outcome in run.verdicts] == [("exact", "crash")]
    assert ([job.unit.trials[0].data for job in lane.waiting], lane.left) == (["random"], 1)
    assert (job.lease.users, run.dropped) == (2, [])
    run.say(AGREE, AGREE, target=other)
    assert (job.lease.users, run.dropped) == (1, [])
    run.replace()
    run.give(1)
    run.say(AGREE)
    assert (job.lease.users, run.dropped) == (0, [job.lease.arrays.path])
    assert (lane.left, run.scheduler._lanes[other].left) == (0, 0)


def test_a_trial_that_ends_a_worker_after_others_runs_again_alone(run_of):
    run = run_of(3)
    lane, worker = run.give(2)
    run.say(AGREE)
    run.scheduler._on_worker_died(worker, "crash", "SIGSEGV")
    assert [outcome.verdict for _, outcome in run.verdicts] == ["agree"]
    (suspect,) = lane.suspects
    assert [trial.data for trial in suspect.unit.trials] == ["random"]
    assert (indices(lane.waiting), lane.left, run.dropped) == ([1, 2], 3, [])
    run.replace()
    worker = run.workers[GOOD]
    assert run.scheduler._occupy(lane)
    assert [job is suspect for job in worker.jobs] == [True]
    run.say(AGREE)
    assert run.verdicts[-1][1].evidence["first"]["verdict"] == "crash"
    assert run.verdicts[-1][1].evidence["first"]["reason"] == "SIGSEGV"
    assert (lane.left, len(run.dropped)) == (2, 1)


def test_the_first_trial_of_a_later_job_is_suspect_too_and_that_of_the_first_job_is_not(run_of):
    run = run_of(2)
    lane, worker = run.give(2)
    run.say(AGREE, AGREE)
    run.scheduler._on_worker_died(worker, "crash", "SIGSEGV")
    assert [(job.unit.index, job.unit.trials[0].data) for job in lane.suspects] == [(1, "exact")]
    run = run_of(1)
    lane, worker = run.give(1)
    run.scheduler._on_worker_died(worker, "crash", "SIGSEGV")
    assert [outcome.verdict for _, outcome in run.verdicts] == ["crash"]
    assert not lane.suspects


def test_a_suspect_waits_for_a_worker_that_has_not_worked(run_of):
    run = run_of(2)
    lane, worker = run.give(1)
    run.say(AGREE, AGREE)
    suspect = lane.waiting.popleft()
    lane.suspects.append(suspect)
    started = []
    run.scheduler._pool.start = lambda lane: started.append(lane.target)
    assert run.scheduler._occupy(lane)
    assert (worker.gone, started, list(worker.jobs)) == (True, [GOOD], [])


def test_the_last_words_while_the_oracle_computed_say_so(run_of):
    run = run_of(2, local=True)
    _, worker = run.give(1)
    worker.ending = "SIGKILL"
    run.scheduler._on_worker_died(worker, "crash", "")
    assert run.verdicts[-1][1].reason == "SIGKILL while the oracle computed"
    run.replace()
    _, worker = run.give(1)
    worker.ending = "SIGKILL"
    run.say(messages.ARRAYS_COMPUTED)
    run.scheduler._on_worker_died(worker, "crash", "")
    assert run.verdicts[-1][1].reason == "SIGKILL"


def test_arrays_that_failed_are_an_error_of_every_trial_and_are_freed(run_of):
    run = run_of(1)
    lane, _ = run.give(0)
    job = lane.waiting.popleft()
    run.scheduler._fail(lane, job, "the oracle failed: boom")
    found = [(o.verdict, o.reason, o.evidence, o.support) for _, o in run.verdicts]
    assert found == [("error", "the oracle failed: boom", {"unreached": True}, "unknown")] * 2
    assert (lane.left, run.dropped) == (0, [job.lease.arrays.path])


@pytest.mark.parametrize(("held", "ends"), [(101 << 20, True), (100 << 20, False)])
def test_a_busy_worker_that_holds_more_than_the_limit_is_ended(run_of, monkeypatch, held, ends):
    run = run_of(1, memory=100 << 20)
    monkeypatch.setattr(scheduler, "resident", lambda _: held)
    worker = run.workers[GOOD]
    run.scheduler._check_clocks()
    assert not worker.gone  # idle: what it holds is no layer's fault
    run.give(1)
    run.scheduler._looked = 0.0
    run.scheduler._check_clocks()
    assert worker.gone is ends
    assert [outcome.reason for _, outcome in run.verdicts] == ["memory: 101MiB held, 100MiB allowed"] * ends


def test_a_worker_that_is_late_is_a_timeout_and_an_idle_one_is_never_late(run_of):
    run = run_of(1)
    worker = run.workers[GOOD]
    worker.deadline = time.monotonic() - 1
    run.scheduler._check_clocks()
    assert not worker.gone
    run.give(1)
    worker.deadline = time.monotonic() - 1
    run.scheduler._check_clocks()
    assert worker.gone
    assert [(o.verdict, o.reason) for _, o in run.verdicts] == [("timeout", "no answer within 5 s")]


# -- arrays ahead of their use -----------------------------------------------------------------------------------------


@pytest.fixture
def prefetch_of():
    made = []

    def make(sizes, capacity, **options):
        layers = [Case(ConvSpec(2, 3, 1, ndim=1), (1, 2, size), seed=size) for size in sizes]
        problems = Selection(("a", "b"), layouts=("NCHW",), data=("exact",)).problems(layers)
        made.append(OraclePrefetch(problems, 1, capacity, lambda: None, local=False, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ready(prefetch):
    wait(prefetch.pending)
    return [lease for _, lease in prefetch.ready()]


def test_arrays_are_computed_ahead_within_the_capacity_and_one_however_large(prefetch_of):
    prefetch = prefetch_of([1000, 1000, 1000, 9], capacity=150_000)  # 64 KB each
    prefetch.fill(10)
    first = ready(prefetch)
    assert len(first) == 2
    prefetch.fill(10)
    assert not prefetch.pending
    prefetch.release(first[0])
    prefetch.fill(10)
    assert not prefetch.pending  # the other target still reads them
    prefetch.release(first[0])
    prefetch.fill(10)
    assert len(ready(prefetch)) == 2
    huge = prefetch_of([1000, 1000], capacity=10)
    huge.fill(10)
    assert len(ready(huge)) == 1
    assert huge.unfinished


def test_no_more_is_computed_than_is_wanted(prefetch_of):
    prefetch = prefetch_of([5, 5, 5, 5], capacity=1 << 20)
    prefetch.fill(3)
    assert len(prefetch.pending) == 3
    assert len(ready(prefetch)) == 3
    assert prefetch.unfinished
    prefetch.fill(1)
    assert len(ready(prefetch)) == 1
    assert not prefetch.unfinished


def test_a_file_is_written_again_only_when_nobody_reads_it(prefetch_of):
    prefetch = prefetch_of([7, 7, 7], capacity=1 << 20)
    prefetch.fill(1)
    (first,) = ready(prefetch)
    prefetch.release(first)
    prefetch.fill(1)
    (second,) = ready(prefetch)
    assert second.arrays.path != first.arrays.path
    prefetch.release(first)
    prefetch.fill(1)
    (third,) = ready(prefetch)
    assert third.arrays.path == first.arrays.path


def test_unused_files_are_kept_up_to_a_quarter_of_the_capacity():
    store = ArrayStore(4000)
    try:
        paths = [store.folder / f"{n}.bin" for n in range(3)]
        for path in paths:
            path.write_bytes(bytes(600))
        for path in paths:
            store.drop(SharedArrays(str(path), nbytes=600))
        assert [path.exists() for path in paths] == [True, False, False]
        assert store._file(9, 600) == (paths[0], "r+b")
        store.drop(SharedArrays(str(paths[0]), nbytes=600))
        assert paths[0].exists()
        store.drop(SharedArrays(None))
    finally:
        store.close()


def test_a_job_has_grace_only_without_a_file():
    made = functools.partial(Job, None)
    assert made(Lease(SharedArrays(None), 1, 0)).grace == GRACE
    assert made(Lease(SharedArrays("file"), 1, 0)).grace == 0

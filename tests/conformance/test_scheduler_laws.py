"""What the scheduler owes to every job, whatever its worker does: tried with workers that are no processes."""

import functools
import os
import time
from collections import deque
from concurrent.futures import wait

import pytest

from convspec import Case, ConvSpec
from convspec.conformance.checks.expected import expected_bytes
from convspec.conformance.execution import messages, scheduler, worker_pool
from convspec.conformance.execution.scheduler import Scheduler
from convspec.conformance.execution.shared_arrays import ArrayStore, Lease, OraclePrefetch, SharedArrays
from convspec.conformance.execution.worker_pool import Job, Lane, Worker, WorkerPool
from convspec.conformance.trials.work_plan import Selection, Target

GOOD = Target("convspec_fakes:GOOD")
AGREE = ["native", "", "agree", "", None, {}, 0.1]
TIMEOUT = 5.0


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
        self.verdicts, self.dropped, self.absences = [], [], []
        layers = [Case(ConvSpec(2, 3, (1, 2)), (1, 2, 3, 4 + n), seed=n) for n in range(cases)]
        self.problems = [*Selection(tuple(requests), layouts=("NCHW",), data=("exact", "random")).problems(layers)]
        self.scheduler = Scheduler(
            lambda unit, outcome: self.verdicts.append((unit, outcome)),
            lambda *absence: self.absences.append(absence),
            jobs=jobs,
            timeout=TIMEOUT,
            **limits,
        )
        one = self.scheduler
        one._keep = lambda worker: None
        for unit in (unit for problem in self.problems for unit in problem.units):
            one._lanes.setdefault(unit.target, Lane(unit.target, 0)).left += 1
        self.collect(local=local)
        self.workers = {target: StillWorker(target) for target in one._lanes}
        for worker in self.workers.values():
            one._pool.adopt(worker)

    def collect(self, *, local=False):
        """Compute the arrays of all problems, and queue their units."""
        one = self.scheduler
        self.prefetch = one._prefetch = OraclePrefetch(iter(self.problems), 1, 1 << 20, one._pool.wake, local=local)
        drop = self.prefetch._store.drop
        self.prefetch._store.drop = lambda arrays: (self.dropped.append(arrays.path), drop(arrays))
        self.prefetch.fill(len(self.problems))
        wait(self.prefetch.pending)
        one._collect()

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
    assert (worker.gone, lane.workers, lane.units) == (True, [], 1)
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
    first, second = (job.grace for job in worker.jobs)
    assert first == second == 10
    assert worker.patience == TIMEOUT + first
    run.say(messages.ARRAYS_COMPUTED)
    assert worker.patience == TIMEOUT
    run.say(AGREE)
    assert worker.patience == TIMEOUT
    run.say(AGREE)
    assert worker.patience == TIMEOUT + second
    assert not worker.has_arrays
    run.say(messages.ARRAYS_COMPUTED, AGREE, AGREE)
    assert worker.patience == TIMEOUT
    run.give(1)
    (third,) = (job.grace for job in worker.jobs)
    assert worker.patience == TIMEOUT + third
    assert (lane.left, worker.deadline > time.monotonic() + third) == (1, True)


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


# -- the first message of a worker -------------------------------------------------------------------------------------


def test_a_worker_that_is_ready_may_have_said_more_at_once(run_of):
    run = run_of(1)
    lane, worker = run.give(1)
    worker.process, worker.started = 0, time.monotonic() - 7
    run.say({"ready": 4321}, AGREE, AGREE)
    assert (worker.process, len(run.verdicts), lane.left, worker.served) == (4321, 2, 0, 2)
    assert 7 <= lane.startup < 8


@pytest.mark.parametrize(
    ("message", "verdicts", "absences"),
    [
        ({"absent": "no such library"}, [], [(GOOD, "no such library")]),
        ({"failed": "no licence"}, ["the worker did not start: no licence"] * 4, []),
    ],
)
def test_work_that_no_worker_can_do_is_left_out_or_fails_now_and_later(run_of, message, verdicts, absences):
    run = run_of(2)
    lane, worker = run.scheduler._lanes[GOOD], run.workers[GOOD]
    worker.process = 0
    run.say(message)
    assert ([outcome.reason for _, outcome in run.verdicts], run.absences) == (verdicts, absences)
    assert (worker.gone, lane.left, list(lane.waiting), len(run.dropped)) == (True, 0, [], 2)
    run.prefetch.close()
    lane.left = 2
    run.collect()  # arrays that were under way
    assert ([outcome.reason for _, outcome in run.verdicts], run.absences) == (2 * verdicts, absences)
    assert (lane.left, list(lane.waiting), len(run.dropped)) == (0, [], 4)
    assert {unit.index for unit, _ in run.verdicts} == ({0, 1} if verdicts else set())
    run.replace()
    run.workers[GOOD].process = 0
    run.say({"absent": "again"})  # said once
    assert run.absences == absences + ([(GOOD, "again")] if verdicts else [])


# -- how much work, and to whom ----------------------------------------------------------------------------------------


def test_a_worker_is_sent_what_its_lane_is_ahead_and_no_more_than_its_pipe_takes(run_of):
    run = run_of(9)
    lane, worker = run.scheduler._lanes[GOOD], run.workers[GOOD]
    lane.pace = 0.02
    for _ in range(2):
        run.scheduler._send(lane, worker)
        assert (len(worker.jobs), len(lane.waiting)) == (lane.ahead, 4) == (5, 4)
    lane.waiting.append(worker.jobs.pop())
    run.scheduler._assign()  # one that works gets more before it is idle
    assert (len(worker.jobs), len(lane.waiting)) == (5, 4)
    worker.finish()
    worker._sizes[0] = 1 << 30
    run.scheduler._send(lane, worker)
    assert (len(worker.jobs), len(lane.waiting)) == (4, 4)
    worker._sizes.clear()
    worker.jobs.clear()
    run.scheduler._send(lane, worker)
    assert (len(worker.jobs), len(lane.waiting)) == (4, 0)


def test_the_place_is_that_of_the_lane_with_the_most_work(run_of):
    targets = [Target("convspec_fakes:GOOD"), Target("convspec_fakes:GOOD:other")]
    for most in (0, 1):
        run = run_of(3, [target.request for target in targets])
        lanes = [run.scheduler._lanes[target] for target in targets]
        lanes[most].pace, lanes[1 - most].pace = 2.0, 1.0
        run.scheduler._assign()
        busy = [len(run.workers[target].jobs) for target in targets]
        assert busy == ([1, 0] if most == 0 else [0, 1])


def test_a_worker_without_work_ends_where_nobody_keeps_it(run_of):
    run = run_of(1)
    run.give(1)
    run.say(AGREE, AGREE)
    run.scheduler._assign()
    assert not run.workers[GOOD].gone
    run.scheduler._keep = None
    run.scheduler._assign()
    assert run.workers[GOOD].gone


def test_nobody_is_occupied_where_nothing_waits(run_of):
    run = run_of(1, jobs=2)
    lane, _ = run.give(1)
    lane.left, lane.pace = 10**6, 1.0
    assert run.scheduler._worth_starting(lane)
    assert not run.scheduler._occupy(lane)
    assert len(lane.workers) == 1


@pytest.mark.parametrize(
    ("memory", "replaced_at"), [(None, scheduler.MEMORY), (100 << 20, 75 << 20), (1 << 40, scheduler.MEMORY)]
)
def test_a_worker_is_replaced_at_three_quarters_of_its_limit_at_most(run_of, memory, replaced_at):
    run = run_of(2, memory=memory)
    _, worker = run.give(2)
    asked = []
    worker.exceeds = asked.append
    run.say(AGREE, AGREE)
    assert asked == [replaced_at]


def test_a_worker_has_the_start_timeout_to_start(run_of):
    costly = "convspec_fakes:GOOD:costly"
    for request, limits, patience in (
        ("convspec_fakes:GOOD", {}, worker_pool.START), (costly, {}, 5 * worker_pool.START),
        ("convspec_fakes:GOOD", {"start_timeout": 3.5}, 3.5), (costly, {"start_timeout": 3.5}, 3.5),
    ):  # fmt: skip
        assert run_of(1, **limits).scheduler._pool.patience(request) == patience


def test_a_costly_variant_has_five_times_as_long_for_a_layer(run_of):
    for request, times in (("convspec_fakes:GOOD", 1), ("convspec_fakes:GOOD:costly", 5)):
        scheduler = run_of(1).scheduler
        assert scheduler._limit(StillWorker(Target(request))) == times * scheduler._timeout


def test_nobody_is_occupied_with_a_suspect_before_its_worker_has_started(run_of):
    run = run_of(1, jobs=2)
    lane, worker = run.give(1)
    run.say(AGREE)
    lane.suspects.append(worker.jobs[0])
    run.say(AGREE)
    starting = StillWorker()
    starting.process = 0
    run.scheduler._pool.adopt(starting)
    assert not run.scheduler._occupy(lane)
    assert (len(worker.jobs), len(starting.jobs), len(lane.suspects)) == (0, 0, 1)


@pytest.mark.parametrize(("left", "worth"), [(80, True), (79, False)])
def test_a_further_worker_is_worth_its_start_if_each_has_twice_as_much_work(run_of, left, worth):
    run = run_of(1, jobs=3)
    lane = run.scheduler._lanes[GOOD]
    run.scheduler._pool.adopt(StillWorker())
    lane.startup, lane.pace, lane.left = 4.0, 0.3, left  # with the third worker: 24 s of work
    assert run.scheduler._worth_starting(lane) is worth
    run.scheduler._pool.adopt(StillWorker())
    lane.left = 10**6
    assert not run.scheduler._worth_starting(lane)  # no place is left
    for one in list(lane.workers):
        run.scheduler._pool.dismiss(one)
    lane.left = 1
    assert run.scheduler._worth_starting(lane)  # the first is always


@pytest.mark.parametrize("worth", [True, False])
def test_before_the_pace_is_known_the_number_of_units_decides(run_of, worth):
    run = run_of(1, jobs=3)
    lane = run.scheduler._lanes[GOOD]
    run.scheduler._pool.adopt(StillWorker())
    lane.left = 3 * scheduler._MANY - (not worth)
    assert run.scheduler._worth_starting(lane) is worth
    run.scheduler._lanes[Target("another")] = Lane(Target("another"), 1)
    assert not run.scheduler._worth_starting(lane)


def test_the_time_left_is_known_with_the_pace_of_every_lane_that_has_work(run_of):
    run = run_of(4, ("convspec_fakes:GOOD", "convspec_fakes:GOOD:other"), jobs=2)
    first, second = run.scheduler._lanes.values()
    assert run.scheduler.seconds_left() is None
    first.record_time(3.0, 2)
    assert run.scheduler.seconds_left() is None
    second.record_time(0.5)
    assert run.scheduler.seconds_left() == (4 * 1.5 + 4 * 0.5) / 2
    second.units = 0
    second.absent = True
    assert run.scheduler.seconds_left() == 4 * 1.5 / 2
    first.left = 0
    assert run.scheduler.seconds_left() == 0


# -- why a worker died -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "ending", "words", "why"),
    [
        (1 << 30, "SIGABRT", "x\nstd::bad_alloc", "memory: SIGABRT: std::bad_alloc"),
        (None, "SIGABRT", "x\nstd::bad_alloc", "SIGABRT: std::bad_alloc"),
        (1 << 30, "memory", "MemoryError", "memory: MemoryError"), (1 << 30, "SIGSEGV", "", "SIGSEGV"),
        (1 << 30, "SIGSEGV", "a\nb", "SIGSEGV: b"),
    ],
)  # fmt: skip
def test_the_reason_is_the_ending_and_the_last_line_and_says_if_memory_was_short(run_of, memory, ending, words, why):
    assert run_of(1, memory=memory).scheduler._why(ending, words) == why


def test_the_seconds_of_a_trial_that_ended_its_worker_are_those_since_it_began(run_of):
    run = run_of(1)
    lane, worker = run.give(1)
    worker.began -= 30
    run.scheduler._on_worker_died(worker, "timeout", "late")
    assert 30 <= run.verdicts[0][1].seconds < 31
    assert (run.verdicts[0][1].verdict, run.verdicts[0][1].support) == ("timeout", "unknown")
    assert (lane.units, round(lane.seconds)) == (1, 30)


def test_only_a_worker_that_may_have_ended_by_itself_is_waited_for(run_of):
    for verdict, reason, patience in (("crash", "", 1.0), ("crash", "SIGSEGV", 0.0), ("timeout", "", 0.0)):
        run, waited = run_of(1), []
        _, worker = run.give(1)
        worker.end = lambda seconds=0.0, worker=worker, waited=waited: (
            waited.append(seconds),
            StillWorker.end(worker),
        )[1]
        run.scheduler._on_worker_died(worker, verdict, reason)
        assert waited == [patience]


# -- whole runs --------------------------------------------------------------------------------------------------------


class AnsweringWorker(StillWorker):
    """One that agrees with everything, as soon as it is asked."""

    def __init__(self, target=GOOD):
        super().__init__(target)
        self.process, self.alone = 0, set()  # whether it computes the arrays itself
        self.answer({"ready": 1})

    def answer(self, *says):
        self.says += says
        os.write(self.pipe[1], b".")

    def give(self, job):
        super().give(job)
        self.alone.add(job.lease.arrays.path is None)
        if job.lease.arrays.path is None:
            self.answer(messages.ARRAYS_COMPUTED)
        self.answer(*[AGREE] * len(job.unit.trials))

    def receive(self):
        os.read(self.pipe[0], 1 << 16)
        return super().receive()


@pytest.mark.parametrize("memory", [None, 1 << 40])
@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("requests", [("a",), ("a", "b", "c")])
def test_a_run_judges_every_trial_once_and_keeps_the_idle_workers(monkeypatch, jobs, requests, memory):
    monkeypatch.setattr(WorkerPool, "start", lambda pool, lane: pool.adopt(AnsweringWorker(lane.target)))
    layers = [Case(ConvSpec(2, 3, (1, 2)), (1, 2, 3, 4 + n % 5), seed=n) for n in range(17)]
    problems = functools.partial(Selection(requests, layouts=("NCHW", "NHWC"), data=("exact",)).problems, layers)
    seen, kept, known = [], [], AnsweringWorker(Target("a"))
    one = Scheduler(lambda unit, outcome: seen.append((unit.target.request, unit.index, outcome.trial)),
                    lambda *absence: seen.append(absence), jobs=jobs, timeout=TIMEOUT, memory=memory)  # fmt: skip
    known.process, known.served = 5, 1
    known.receive()
    one.run(problems, known, kept.append)
    assert {alone for worker in kept for alone in worker.alone} == {memory is None and len(requests) == 1}
    expected = [(u.target.request, u.index, trial) for p in problems() for u in p.units for trial in u.trials]
    assert sorted(seen, key=repr) == sorted(expected, key=repr)
    assert known in kept
    assert {worker.target.request for worker in kept} == set(requests)
    assert not any(worker.gone for worker in kept)
    assert one.seconds_left() == 0
    for worker in kept:
        worker.end()


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


@pytest.mark.parametrize("data", [("exact",), ("exact", "random")])
@pytest.mark.parametrize("size", [1, 10, 10**4, 10**5, 10**7])
def test_the_grace_for_arrays_grows_with_their_work_and_is_none_for_a_file(size, data):
    """A worker that hangs before it has said a word of a small layer does not cost ten minutes."""
    for spec in (ConvSpec(2, 3, 1, ndim=1), ConvSpec(2, 3, 10**8, ndim=1)):  # the second has no output
        case = Case(spec, (1, 2, size))
        (problem,) = Selection(("a",), layouts=("NCHW",), data=data).problems([case])
        grace, none = (Job(problem.units[0], Lease(SharedArrays(path), 1, 0)).grace for path in (None, "file"))
        nbytes = expected_bytes(case, problem.recipes)
        assert none == 0
        assert grace == min(10 + (problem.work() + nbytes) // 10**6, 600)
        assert (grace == 600) == (size == 10**7 or spec.kernel_size[0] > 1)

"""How work is dealt out to the local workers: what comes first, and how soon every core is at it."""

import functools
import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec import Case, ConvSpec
from convspec.conformance.execution import worker_pool
from convspec.conformance.execution.scheduler import Scheduler
from convspec.conformance.execution.worker_pool import Lane, Worker, WorkerPool
from convspec.conformance.trials.work_plan import Selection, Target, large_first
from convspec.contract.isolation import fork_server

GOOD, ABSENT = "convspec_fakes:GOOD", "convspec_fakes:ABSENT"


def problems(sizes, requests=(GOOD,)):
    """One problem for each size; a size is the layer's output columns, 0 one whose kernel does not fit."""
    cases = [
        Case(ConvSpec(2, 3, (1, 4)), (1, 2, 5, size + 3 if size else 1), seed=seed) for seed, size in enumerate(sizes)
    ]
    return functools.partial(Selection(requests, layouts=("NHWC",), data=("exact",)).problems, cases)


def dealt(sizes, jobs):
    return [problem.units[0].index for problem in large_first(problems(sizes), jobs)]


def test_a_large_layer_near_the_end_comes_first_and_the_rest_stays_in_order():
    assert dealt([1, 2, 1, 400, 1, 500, 1], jobs=2) == [3, 5, 0, 1, 2, 4, 6]
    sizes = [30] + [1] * 30 + [30] + [1] * 220
    assert dealt(sizes, jobs=2) == list(range(252))
    assert dealt(sizes, jobs=5) == [31, *range(31), *range(32, 252)]
    assert dealt([7] * 40, jobs=2) == list(range(40))
    assert dealt([0, 0], jobs=2) == [0, 1]


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(2, 5))
def test_nothing_is_dealt_twice_or_left_out_and_at_the_end_no_worker_is_alone_with_much(sizes, jobs):
    order = dealt(sizes, jobs)
    assert sorted(order) == list(range(len(sizes)))
    assert any(
        order[:early] == sorted(order[:early]) and order[early:] == sorted(order[early:])
        and all(
            sizes[index] * 16 * jobs <= sum(sizes)
            or sizes[index] * (jobs - 1) * 2 <= sum(sizes[i] for i in order[after:])
            for after, index in enumerate(order[early:], early + 1)
        )
        for early in range(len(order) + 1)
    )  # fmt: skip


def started(monkeypatch, made, jobs):
    """The targets of the workers started before the first verdict, and the numbers of verdicts and absences."""
    starts, seen, absences = [], [], []
    start = WorkerPool.start
    monkeypatch.setattr(WorkerPool, "start", lambda pool, lane: (starts.append(lane.target), start(pool, lane)))
    one = Scheduler(
        lambda unit, outcome: seen.append(list(starts)), lambda target, reason: absences.append(reason),
        jobs=jobs, timeout=60.0,
    )  # fmt: skip
    one.run(made)
    return (seen or [[]])[0], len(seen), len(absences)


@pytest.mark.parametrize(("number", "workers"), [(95, 2), (96, 3), (6, 1)])
def test_much_work_for_one_target_starts_every_worker_at_once(number, workers, monkeypatch):
    assert started(monkeypatch, problems([3] * number), jobs=3) == ([Target(GOOD)] * workers, number, 0)


def test_while_other_targets_wait_none_takes_two_places(monkeypatch):
    others = (GOOD, f"{GOOD}:other")
    first, verdicts, _ = started(monkeypatch, problems([3] * 96, others), jobs=2)
    assert (first, verdicts) == ([Target(name) for name in others], 192)


def test_a_framework_that_is_absent_is_missed_once_by_however_many_workers(monkeypatch):
    assert started(monkeypatch, problems([3] * 96, (ABSENT,)), jobs=3) == ([], 0, 1)


@pytest.mark.parametrize(("pace", "ahead"), [(None, 1), (3.0, 1), (0.02, 5), (0.004, 25), (0.0, 64)])
def test_a_worker_is_sent_a_tenth_of_a_second_of_brief_units(pace, ahead):
    assert Lane(Target(GOOD), 9, pace=pace).ahead == ahead


def test_the_pace_is_that_of_each_unit_however_many_ends_are_seen_at_once():
    one, many = Lane(Target(GOOD), 99), Lane(Target(GOOD), 99)
    for seconds in (0.5, 0.1, 0.1, 0.1):
        one.record_time(seconds)
    many.record_time(0.5)
    many.record_time(0.3, units=3)
    assert many.pace == pytest.approx(one.pace)
    assert 0.3 < many.pace < 0.5
    assert (many.units, many.seconds) == (4, pytest.approx(0.8))
    assert many.seconds_left() == pytest.approx(99 * 0.2)


def test_no_more_is_sent_than_the_pipe_to_a_worker_holds(monkeypatch):
    loads = []
    give = Worker.give

    def noted(worker, job):
        assert worker.has_room
        give(worker, job)
        loads.append((len(worker.jobs), sum(worker._sizes)))

    monkeypatch.setattr(Worker, "give", noted)
    monkeypatch.setattr(worker_pool, "_ROOM", 1500)
    verdicts = []
    one = Scheduler(lambda *outcome: verdicts.append(outcome), lambda *absent: None, jobs=1, timeout=60.0)
    one.run(problems([3] * 300))
    assert len(verdicts) == 300
    assert max(jobs for jobs, _ in loads) > 1
    assert 1500 <= max(sizes for _, sizes in loads) < 2500


def test_workers_that_die_at_their_start_do_not_end_those_that_run(monkeypatch):
    starts, start = [], WorkerPool.start

    def once(pool, lane):
        start(pool, lane)
        starts.append(lane.workers[-1])
        if len(starts) > 1:
            starts[-1].stop()

    monkeypatch.setattr(WorkerPool, "start", once)
    verdicts = []
    one = Scheduler(lambda _, outcome: verdicts.append(outcome.verdict), lambda *absent: None, jobs=4, timeout=60.0)
    one.run(problems([3] * 400))
    assert verdicts == ["agree"] * 400
    assert len(starts) > 2


def test_a_worker_that_is_stopped_while_it_starts_costs_the_start_limit_and_no_verdict(monkeypatch):
    starts, start = [], WorkerPool.start

    def stopped(pool, lane):
        start(pool, lane)
        starts.append(lane.workers[-1].patience)
        if len(starts) == 1:
            os.kill(lane.workers[-1]._process.pid, signal.SIGSTOP)

    monkeypatch.setattr(fork_server, "_CORE", "nothing")  # a forked one is ready before it can be stopped
    monkeypatch.setattr(WorkerPool, "start", stopped)
    monkeypatch.setattr(worker_pool, "START", 1.0)
    verdicts, began = [], time.monotonic()
    one = Scheduler(lambda _, outcome: verdicts.append(outcome.verdict), lambda *absent: None, jobs=1, timeout=8.0)
    one.run(problems([3] * 4))
    assert verdicts == ["agree"] * 4
    assert starts == [8.0, 8.0]
    assert 8 <= time.monotonic() - began < 60


def test_workers_that_are_stopped_while_they_start_cost_the_start_timeout_whatever_the_timeout(monkeypatch):
    starts, start = [], WorkerPool.start

    def stopped(pool, lane):
        start(pool, lane)
        starts.append(lane.workers[-1].patience)
        os.kill(lane.workers[-1]._process.pid, signal.SIGSTOP)

    monkeypatch.setattr(fork_server, "_CORE", "nothing")  # a forked one is ready before it can be stopped
    monkeypatch.setattr(WorkerPool, "start", stopped)
    outcomes, began = [], time.monotonic()
    one = Scheduler(
        lambda _, outcome: outcomes.append(outcome), lambda *absent: None, jobs=1, timeout=600.0, start_timeout=0.5
    )
    one.run(problems([3] * 4))
    assert [outcome.verdict for outcome in outcomes] == ["error"] * 4
    assert {outcome.reason for outcome in outcomes} == {
        "the worker did not start: no answer within 0.5 s; last words: "
    }
    assert starts == [0.5, 0.5]
    assert time.monotonic() - began < 60


def test_a_worker_may_take_a_minute_to_start_however_short_the_timeout():
    limits = ((2.0, None), (300.0, None), (300.0, 7.0), (2.0, 600.0))
    pools = [WorkerPool(1, 1, timeout, start_timeout=start) for timeout, start in limits]
    assert [pool.patience("torch") for pool in pools] == [60.0, 300.0, 7.0, 600.0]
    assert [pool.patience("torch:compile") for pool in pools] == [300.0, 1500.0, 7.0, 600.0]  # a costly variant
    for pool in pools:
        pool.close()


def test_brief_verdicts_are_read_several_at_a_time(monkeypatch):
    waits = []
    wait = WorkerPool.wait
    monkeypatch.setattr(WorkerPool, "wait", lambda pool: (waits.append(None), wait(pool))[1])
    verdicts = []
    one = Scheduler(lambda *outcome: verdicts.append(outcome), lambda *absent: None, jobs=1, timeout=60.0)
    one.run(problems([3] * 400))
    assert len(verdicts) == 400
    assert len(waits) < 200

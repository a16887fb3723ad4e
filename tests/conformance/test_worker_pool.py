"""The workers of a run: which cores they may use."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from convspec.conformance import environment
from convspec.conformance.execution import worker_pool
from convspec.conformance.execution.worker_pool import Lane, Worker, WorkerPool
from convspec.conformance.trials.work_plan import Target


def lane(pool, name="convspec_fakes:GOOD"):
    target = Target(name)
    return pool.lanes.setdefault(target, Lane(target, 9))


@pytest.fixture
def pool_of():
    pools = []

    def make(jobs, threads):
        pools.append(WorkerPool(jobs, threads, 60.0))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_workers_of_one_target_have_cores_of_their_own(pool_of, monkeypatch):
    monkeypatch.setattr(environment, "core_numbers", lambda: (0, 1, 2, 3, 8, 9, 10))
    pool, places = pool_of(3, 2), []
    for _ in range(3):
        places.append(pool._cores(lane(pool)))
        lane(pool).workers.append(SimpleNamespace(cores=places[-1], fileno=lambda: 0))
    lane(pool).workers.clear()
    assert places == [(0, 1), (2, 3), (8, 9)]


@pytest.mark.parametrize(("jobs", "lanes", "threads"), [(2, 2, 2), (1, 1, 4), (4, 1, 1), (3, 1, 4)])
def test_workers_share_the_cores_where_they_take_turns_or_have_too_few(jobs, lanes, threads, pool_of, monkeypatch):
    monkeypatch.setattr(environment, "core_numbers", lambda: tuple(range(8)))
    pool = pool_of(jobs, threads)
    assert {pool._cores(one) for one in [lane(pool, f"fake{name}") for name in range(lanes)]} == {()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_a_worker_uses_the_cores_that_it_is_given():
    (core, *_) = environment.core_numbers()
    worker = Worker(Target("convspec_fakes:GOOD"), 1, 60, None, (core,))
    try:
        end = time.monotonic() + 60
        while not worker.ready and time.monotonic() < end:
            for message in worker.receive()[0]:
                worker.process = message["ready"]
            time.sleep(0.02)
        threads = [int(thread.name) for thread in Path(f"/proc/{worker.process}/task").iterdir()]
        assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {frozenset({core})}
    finally:
        worker.end()


def busy(pool, idle):
    """As many workers as may be alive, busy but for those of the lanes that are named."""
    pool.dismissed = []
    pool.dismiss = pool.dismissed.append
    for number in range(2 * pool._jobs + 4):
        one = lane(pool, f"fake{number}")
        one.workers.append(SimpleNamespace(target=one.target, idle=one.target.request in idle))


@pytest.mark.parametrize(("idle", "waiting", "ended"), [
    ([], [], []), (["fake1"], [], ["fake1"]), (["fake1"], ["fake1"], []), (["fake1", "fake3"], ["fake1"], ["fake3"]),
])  # fmt: skip
def test_only_an_idle_worker_without_work_makes_place_for_another(idle, waiting, ended, pool_of):
    pool = pool_of(2, 1)
    busy(pool, idle)
    for name in waiting:
        lane(pool, name).waiting.append(None)
    allowed = pool.may_start(lane(pool, "new"))
    assert (allowed, [worker.target.request for worker in pool.dismissed]) == (bool(ended), ended)
    for one in pool.lanes.values():
        one.workers.clear()


def test_many_problems_are_prepared_while_a_pace_is_unknown_and_else_what_the_lanes_can_take(pool_of):
    pool = pool_of(2, 1)
    assert pool.wanted() == worker_pool._UNKNOWN
    first, second = lane(pool, "fake1"), lane(pool, "fake2")
    first.pace = 10.0
    assert pool.wanted() == worker_pool._UNKNOWN
    second.pace = 10.0
    second.waiting.append(None)
    assert pool.wanted() == 3  # one for each worker and one more
    first.left = 0
    assert pool.wanted() == 2

"""The workers of a run: which cores they may use."""

import os
import time
from pathlib import Path

import pytest

from convspec.conformance import environment
from convspec.conformance.crew import Crew, Lane
from convspec.conformance.units import Target


def allowed(crew):
    """The cores that each worker may use, once it is ready."""
    found = []
    for worker in crew.workers:
        end = time.monotonic() + 60
        while not worker.ready and time.monotonic() < end:
            for message in worker.receive()[0]:
                worker.process = message["ready"]
            time.sleep(0.02)
        masks = {os.sched_getaffinity(int(thread)) == set(worker.cores) for thread in tasks(worker.process)}
        found.append((worker.cores, masks))
    return found


def tasks(process):
    return [thread.name for thread in Path(f"/proc/{process}/task").iterdir()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
@pytest.mark.skipif(environment.cores() < 2, reason="needs two cores")
def test_workers_of_one_target_have_cores_of_their_own():
    target, every = Target("convspec_fakes:GOOD"), environment.core_numbers()
    crew = Crew(2, len(every) // 2, None)
    lane = crew.lanes[target] = Lane(target, 9)
    try:
        crew.start(lane)
        crew.start(lane)
        (first, exact), (second, also) = allowed(crew)
        assert exact == also == {True}
        assert set(first).isdisjoint(second)
        assert len(first) == len(second) == len(every) // 2
    finally:
        crew.close()


@pytest.mark.parametrize(("jobs", "lanes", "threads"), [(2, 2, 1), (1, 1, 1), (64, 1, 64)])
def test_workers_share_the_cores_where_they_take_turns_or_are_too_many(jobs, lanes, threads):
    crew = Crew(jobs, threads, None)
    try:
        for name in range(lanes):
            crew.lanes[Target(f"fake{name}")] = Lane(Target(f"fake{name}"), 9)
        assert {crew._place(lane) for lane in crew.lanes.values()} == {()}
    finally:
        crew.close()

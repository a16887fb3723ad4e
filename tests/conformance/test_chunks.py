"""Work on an executor: the same verdicts as in local workers, whatever becomes of the executor's processes."""

import os
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import convspec
from convspec import Case, ConvSpec, ExecutorError, RequestError
from convspec.conformance import journal
from convspec.conformance.remote import executor
from convspec.conformance.remote.executor import IDLE_WORKERS

FAKES = str(Path(__file__).parents[1] / "fakes")
CASES = [Case(ConvSpec(3, 3 if n == 5 else 2 + 2 * (n % 3), (1, 3)), (2, 3, 5, 7), seed=n) for n in range(12)]
NAMES = ["convspec_fakes:GOOD", "convspec_fakes:SEGFAULTS"]


def plain(report):
    found = [result.to_dict() for result in report.results]
    for result in found:
        del result["seconds"]
        result["evidence"].pop("first", None)
    return found, [tally.to_dict() for tally in report.gaps], report.summary


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    defaults = executor.Submitter.__init__.__kwdefaults__
    monkeypatch.setattr(executor.Submitter.__init__, "__kwdefaults__", {**defaults, "units": 4})
    yield
    IDLE_WORKERS.clear()


@pytest.fixture(scope="module")
def local():
    return plain(convspec.check(CASES, NAMES, layouts=["NCHW"]))


def importable():
    sys.path.append(FAKES)


def test_threads_give_what_local_workers_give(local):
    with ThreadPoolExecutor(2) as pool:
        assert plain(convspec.check(CASES, NAMES, layouts=["NCHW"], executor=pool)) == local


def test_processes_give_what_local_workers_give_and_each_chunk_is_in_the_journal(local, tmp_path):
    file, seen = tmp_path / "run.jsonl", []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=importable) as pool:
        report = convspec.check(
            CASES, NAMES, layouts=["NCHW"], executor=pool, journal=file,
            progress=lambda _: seen.append(len(journal.read(file).results)),
        )  # fmt: skip
    assert plain(report) == local
    assert plain(journal.read(file).report()) == local
    assert seen == list(range(1, 49))


def test_a_run_goes_on_on_an_executor(local, tmp_path):
    file = tmp_path / "run.jsonl"
    convspec.check(CASES, NAMES, layouts=["NCHW"], journal=file)
    os.truncate(file, file.stat().st_size // 2)
    with ThreadPoolExecutor(2) as pool:
        assert plain(convspec.resume(file, executor=pool)) == local


def test_an_executor_may_be_chosen_by_target(local):
    asked = set()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:

        def of(target):
            asked.add(target.request)
            return one if target.request.endswith("GOOD") else two

        assert plain(convspec.check(CASES, NAMES, layouts=["NCHW"], executor=of)) == local
    assert asked == set(NAMES)


class Loses(Executor):
    """Loses what holds the case with this seed, so many times."""

    def __init__(self, seed, times):
        self.seed, self.left, self.sizes = seed, times, []

    def submit(self, function, chunk):
        future = Future()
        self.sizes.append(len(chunk.units))
        if any(unit.case.seed == self.seed for unit in chunk.units) and self.left:
            self.left -= 1
            future.set_exception(ConnectionError("the machine is gone"))
        else:
            future.set_result(function(chunk))
        return future


def test_a_lost_chunk_is_tried_again_unit_by_unit():
    pool = Loses(seed=2, times=2)
    report = convspec.check(CASES, NAMES[:1], layouts=["NCHW"], executor=pool)
    assert report.summary["agree"] == len(report.results) == 24
    assert sorted(pool.sizes) == [1] * 5 + [4, 4, 4]


def test_what_is_lost_always_costs_its_own_case():
    report = convspec.check(CASES, NAMES[:1], layouts=["NCHW"], executor=Loses(seed=2, times=99))
    lost = [result for result in report.results if result.verdict != "agree"]
    assert {(result.case.seed, result.verdict) for result in lost} == {(2, "crash")}
    assert lost[0].reason == "the executor lost it 3 times: ConnectionError: the machine is gone"
    assert len(report.results) == 24


def test_an_executor_that_is_shut_down_is_an_error():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ExecutorError, match="accepts no more work: cannot schedule new futures after shutdown"):
        convspec.check(CASES, NAMES[:1], executor=pool)


def test_an_absent_framework_is_absent_there():
    with ThreadPoolExecutor(1) as pool, pytest.raises(RequestError, match="no device 'cuda' here"):
        convspec.check(CASES, NAMES[:1], devices=["cuda"], executor=pool)


def test_a_worker_is_kept_from_chunk_to_chunk_until_it_dies():
    cases = [case for case in CASES if case.spec.out_channels != 3]
    pids = set()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            convspec.check(cases, NAMES[:1], layouts=["NCHW"], executor=pool)
            pids.update(IDLE_WORKERS.processes())
        (process,) = pids
        os.kill(process, signal.SIGKILL)
        assert convspec.check(cases, NAMES[:1], layouts=["NCHW"], executor=pool).summary["agree"] == 22
    assert not any(isinstance(thread, threading.Timer) and not thread.daemon for thread in threading.enumerate())

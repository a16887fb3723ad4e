"""A child process: its messages, its deadlines, its ends, and that nothing of it is left."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from convspec.contract.isolation import ChildError, ChildProcess, ChildTimeout, child_process, encode, fork_server

SECONDS = 100


@pytest.fixture(autouse=True, params=["forked", "started"])
def way(request, monkeypatch):
    """Both ways to a child: forked from a prepared process, and started."""
    monkeypatch.setattr(fork_server, "_CORE", "fake_child" if request.param == "forked" else "nothing")
    return request.param


@pytest.fixture
def child():
    with ChildProcess("fake_child", 3, {"OF_ITS_OWN": "yes"}) as process:
        yield process


def gone(process, seconds=10):
    end = time.monotonic() + seconds
    while child_process.alive(process) and time.monotonic() < end:
        time.sleep(0.01)
    return not child_process.alive(process)


def test_answers_are_the_values_that_were_sent(child):
    for value in (None, [1, {"a": "é\n"}], math.inf, "x" * 100_000, 1.5):
        assert child.ask(["echo", value], SECONDS) == value
    assert math.isnan(child.ask(["echo", math.nan], SECONDS))
    assert child.ask(["echo", {"a": np.float32(0.5), "b": np.arange(3)}], SECONDS) == {"a": 0.5, "b": [0, 1, 2]}
    message = ["echo", "é"]
    assert child.send(message) == len(encode(message)) == len(json.dumps(message, separators=(",", ":"))) + 1
    assert child.next(SECONDS) == "é"
    with pytest.raises(TypeError, match="object has no JSON form"):
        encode(object())


def test_its_threads_and_variables_are_those_given(child):
    names = ["OMP_NUM_THREADS", "TF_NUM_INTEROP_THREADS", "OF_ITS_OWN", "PYTHONUNBUFFERED"]
    assert child.ask(["variable", *names], SECONDS) == ["3", "3", "yes", "1"]


def test_without_a_number_of_threads_the_environment_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with ChildProcess("fake_child") as child:
        assert child.ask(["variable", "OMP_NUM_THREADS", "OF_ITS_OWN"], SECONDS) == ["7", None]


def test_several_messages_are_taken_one_by_one_but_a_question_has_one_answer(child):
    child.send(["twice", 1, 2])
    assert (child.next(SECONDS), child.next(SECONDS)) == (1, 2)
    child.send(["twice", 1, 2])
    arriving = child.messages(SECONDS)
    assert [next(arriving), next(arriving)] == [1, 2]
    with pytest.raises(ChildError, match="nonsense"):
        child.ask(["twice", 1, 2], SECONDS)


def test_a_late_answer_is_a_timeout_with_the_limit_in_words(child):
    assert child.ask(["echo", 1], SECONDS) == 1
    child.send(["sleep", 600])
    with pytest.raises(ChildTimeout, match=r"no answer within 0\.2 s"):
        child.next(0.2)
    with pytest.raises(ChildTimeout, match=r"no answer within 0\.5 s"):
        list(child.messages(0.5))
    assert not child.dead
    assert child.end() == "killed"
    assert child.dead


@pytest.mark.parametrize(("command", "ending", "words"), [
    (["exit", 3], "exit status 3", "ended with exit status 3"),
    (["exit", 0], "exit status 0", "ended with exit status 0"),
    (["signal", signal.SIGSEGV], "SIGSEGV", "ended with SIGSEGV"), (["signal", signal.SIGABRT], "SIGABRT", "SIGABRT"),
])  # fmt: skip
def test_how_it_ended_is_said(command, ending, words):
    with ChildProcess("fake_child") as child:
        assert child.ask(["print", "last words"], SECONDS) == "printed"
        child.send(command)
        with pytest.raises(ChildError, match=words) as caught:
            child.next(SECONDS)
        assert str(caught.value).endswith(": last words")
        assert child.end(5.0) == ending


@pytest.mark.parametrize("text", ["no JSON\n", "[1, 2\n", "[" * 100_000 + "\n"])
def test_what_is_not_a_message_is_nonsense_and_nothing_after_it_is_trusted(child, text):
    child.send(["raw", text])
    child.send(["echo", 1])
    with pytest.raises(ChildError, match="nonsense"):
        child.next(SECONDS)
    assert child.receive() == ([], True)


def test_half_a_message_waits_for_the_rest(child):
    child.send(["raw", '{"a": '])
    with pytest.raises(ChildTimeout):
        child.next(0.3)
    child.send(["raw", "1}\n"])
    assert child.next(SECONDS) == {"a": 1}


def test_a_message_without_an_end_is_given_up(child, monkeypatch):
    monkeypatch.setattr(child_process, "_LONGEST", 1 << 20)
    child.send(["long", 64])
    with pytest.raises(ChildError, match="more than 1 MiB"):
        child.next(SECONDS)


def test_what_it_prints_is_kept_as_its_last_words_and_can_be_forgotten(child, monkeypatch):
    for text in ("one\ntwo", "three\n\n", "four\x1b[31m"):
        child.ask(["print", text], SECONDS)
    assert child.last_words(3) == "two\nthree\nfour\\x1b[31m"
    assert child.last_words(1) == "four\\x1b[31m"
    child.forget_words()  # little is kept
    assert child.last_words(1) == "four\\x1b[31m"
    monkeypatch.setattr(child_process, "_STDERR_LIMIT", 4)
    child.forget_words()
    assert child.last_words() == ""
    child.ask(["print", "five"], SECONDS)
    assert child.last_words() == "five"


def test_nothing_of_it_is_left(tmp_path):
    with ChildProcess("fake_child") as child:
        own, grandchild = child.ask(["spawn"], SECONDS)
        stubborn = child.ask(["ignore"], SECONDS)
        assert own == stubborn
        assert child.folder.is_dir()
        (child.folder / "file").touch()
        folder = child.folder
        assert child_process.alive(grandchild)
    assert gone(own)
    assert gone(grandchild)
    assert not folder.exists()
    assert child.dead
    child.end()  # a second time does nothing


def test_stopping_does_not_wait_and_a_dead_one_takes_messages_in_silence(child):
    (own,) = child.ask(["variable", "NO_SUCH"], SECONDS) and [child.ask(["ignore"], SECONDS)]
    child.stop()
    assert gone(own)
    with pytest.raises(ChildError):
        child.next(SECONDS)
    assert child.send(["echo", 1]) > 0
    child.stop()


def test_a_process_of_another_user_is_alive(monkeypatch):
    errors = [ProcessLookupError(), PermissionError()]

    def kill(process, number):
        assert (process, number) == (123, 0)
        raise errors.pop()

    monkeypatch.setattr(child_process.os, "kill", kill)
    assert child_process.alive(123)
    assert not child_process.alive(123)


def test_it_is_alive():
    assert child_process.alive(os.getpid())


ORPHANED = """
import os, signal, sys
from convspec.contract.isolation import ChildProcess, fork_server
fork_server._CORE = sys.argv[1]
child = ChildProcess("fake_child")
print(child.folder, *child.ask(["spawn"], 100), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_of_it_is_left_when_the_parent_is_killed_and_others_keep_theirs(tmp_path):
    others = [tmp_path / f"convspec-{process}-{'0' * 16}" for process in (os.getpid(), 999_999_999)]
    for other in others:
        other.mkdir()
    path = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))
    done = subprocess.run(
        [sys.executable, "-c", ORPHANED, fork_server._CORE], capture_output=True, text=True, timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    folder, own, grandchild = done.stdout.split()
    assert done.returncode == -signal.SIGKILL
    assert gone(int(own))
    assert gone(int(grandchild))
    end = time.monotonic() + 10
    while os.path.exists(folder) and time.monotonic() < end:  # noqa: PTH110
        time.sleep(0.01)
    assert not os.path.exists(folder)  # noqa: PTH110
    assert sorted(tmp_path.iterdir()) == sorted(others)


# -- the process that forks --------------------------------------------------------------------------------------------


def kinds(module="fake_child", **options):
    """A child, and the class of its process: which way it came."""
    child = ChildProcess(module, **options)
    return child, type(child._process).__name__


def test_the_way_is_the_one_that_this_run_tests(way):
    child, kind = kinds()
    with child:
        assert kind == {"forked": "ForkedProcess", "started": "Popen"}[way]


def test_a_child_has_the_folder_and_the_variables_of_the_time_of_its_start(monkeypatch, tmp_path):
    with ChildProcess("fake_child") as first, monkeypatch.context() as now:
        now.chdir(tmp_path)
        now.setenv("SET_LATER", "yes")
        with ChildProcess("fake_child") as second:
            assert second.ask(["variable", "SET_LATER"], SECONDS) == ["yes"]
            assert os.path.samefile(second.ask(["folder"], SECONDS), tmp_path)  # noqa: PTH121
        assert first.ask(["variable", "SET_LATER"], SECONDS) == [None]


def test_a_child_has_no_file_of_another(child):
    before = child.ask(["files"], SECONDS)
    with ChildProcess("fake_child", 3, {"OF_ITS_OWN": "yes"}) as other:
        assert len(other.ask(["files"], SECONDS)) == len(before)


def test_children_of_one_server_end_each_by_itself(way):
    children = [ChildProcess("fake_child") for _ in range(3)]
    numbers = [child.ask(["ignore"], SECONDS) for child in children]
    children[1].send(["exit", 7])
    assert children[1].end(SECONDS) == "exit status 7"
    assert [child.ask(["echo", n], SECONDS) for n, child in enumerate(children) if n != 1] == [0, 2]
    for child in children:
        child.end()
    assert all(gone(number) for number in numbers)
    del way


def test_when_the_server_is_killed_its_children_end_and_the_next_has_another(way):
    if way == "started":
        return
    child = ChildProcess("fake_child")
    number = child.ask(["ignore"], SECONDS)
    (server,) = (one for one in fork_server._servers.values() if not one.idle)
    os.kill(server._process.pid, signal.SIGKILL)
    assert gone(number)
    assert child.end(SECONDS) == "SIGKILL"
    with ChildProcess("fake_child") as other:
        assert other.ask(["echo", 1], SECONDS) == 1


@pytest.mark.parametrize("known", [False, True], ids=["before it forks", "later"])
def test_a_server_that_is_stopped_costs_seconds_and_not_the_run(way, monkeypatch, known):
    if way == "started":
        return
    monkeypatch.setattr(fork_server, "_PATIENCE", 0.3)
    monkeypatch.setattr(child_process, "_PATIENCE", 0.3)
    fork_server._servers.clear()
    child = ChildProcess("fake_child")
    number = child.ask(["ignore"], SECONDS)
    (server,) = fork_server._servers.values()
    os.kill(server._process.pid, signal.SIGSTOP)
    other = child if known else ChildProcess("fake_child")
    with pytest.raises(ChildTimeout):
        other.next(0.2)
    other.end()
    assert server._process.wait(SECONDS) == -signal.SIGKILL
    assert gone(number)
    child.end()
    with ChildProcess("fake_child") as another:
        assert another.ask(["echo", 1], SECONDS) == 1


def test_servers_that_are_not_used_are_ended_and_those_in_use_are_not(way):
    if way == "started":
        return
    child = ChildProcess("fake_child", 1)
    for threads in range(2, 8):
        ChildProcess("fake_child", threads).end()
    assert len(fork_server._servers) <= fork_server._MOST + 1
    assert child.ask(["echo", 1], SECONDS) == 1
    child.end()


def test_a_module_that_cannot_be_imported_is_started_and_says_why(monkeypatch):
    monkeypatch.setattr(fork_server, "_CORE", "no_such_module")
    with ChildProcess("no_such_module") as child, pytest.raises(ChildError, match="No module named 'no_such_module'"):
        child.next(SECONDS)


def test_a_fork_of_the_parent_has_a_server_of_its_own(child):
    assert child.ask(["echo", 1], SECONDS) == 1
    process = os.fork()
    if not process:
        try:
            with ChildProcess("fake_child", 3, {"OF_ITS_OWN": "yes"}) as other:
                os._exit(0 if other.ask(["echo", 2], SECONDS) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert child.ask(["echo", 1], SECONDS) == 1

"""Isolation: whatever a framework does, it costs its own trial, no neighbour is blamed, and no process is left."""

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import convspec
from convspec import Case, ConvSpec, RequestError
from convspec.conformance.journal import read
from convspec.contract.isolation import format_size, out_of_memory, parse_size
from tests import prepared

FAKES = Path(__file__).parents[1] / "fakes"
EVEN = [Case(ConvSpec(3, 2 * n, (3, 5)), (2, 3, 5, 7), seed=n) for n in (1, 2)]
ODD = Case(ConvSpec(3, 5, (3, 5)), (2, 3, 5, 7), seed=7)


def check(name, cases, **options):
    options = {"timeout": 20, "layouts": ["NCHW"], "data": ["exact"], "jobs": 1, **options}
    return convspec.check(cases, [f"convspec_fakes:{n}" for n in name.split(",")], **options)


def test_200_good_cases_among_every_kind_of_bad_one_keep_their_verdict():
    """One adapter that segfaults, hangs, leaks 4 GiB, prints megabytes, is wrong, forks, exits and aborts."""
    good = [Case(ConvSpec(1 + n % 8, 2 * n + 2, 1), (1, 1 + n % 8, 2, 3), seed=n) for n in range(200)]
    bad = [Case(ConvSpec(n, 3, 1), (1, n, 2, 3), seed=n) for n in range(1, 9)]
    cases = [case for n in range(8) for case in (*good[25 * n : 25 * n + 12], bad[n], *good[25 * n + 12 : 25 * n + 25])]
    report = check("ALL_AT_ONCE", cases, jobs=2, timeout=4.0, memory=256 << 20)
    assert [r.case for r in report.results] == cases
    assert {r.verdict for r in report.results if r.case.spec.out_channels % 2 == 0} == {"agree"}
    ends = {r.case.spec.in_channels: r for r in report.results if r.case.spec.out_channels == 3}
    found = {n: (r.verdict, r.reason.partition(":")[0]) for n, r in ends.items()}
    assert found == {
        1: ("crash", "SIGSEGV"), 2: ("timeout", "no answer within 4 s"), 3: ("crash", "memory"), 4: ("agree", ""),
        5: ("disagree", "shape (1, 3, 2, 2) where (1, 3, 2, 3) is right"), 6: ("crash", "exit status 5"),
        7: ("crash", "exit status 3"), 8: ("crash", "SIGABRT"),
    }  # fmt: skip


def test_a_suspect_runs_again_alone_and_a_neighbour_is_not_blamed():
    """The odd case poisons its process: the next one dies of it there, and agrees in one of its own."""
    report = check("POISONS", [EVEN[0], ODD, EVEN[1]])
    assert [r.verdict for r in report.results] == ["agree", "agree", "agree"]
    first = report.results[2].evidence["first"]
    assert (first["verdict"], first["evidence"]["ending"]) == ("crash", "SIGSEGV")
    assert "first" not in report.results[1].evidence


def test_a_guilty_one_is_guilty_alone_too_and_both_runs_are_recorded():
    report = check("SEGFAULTS", [EVEN[0], ODD, EVEN[1]])
    assert [r.verdict for r in report.results] == ["agree", "crash", "agree"]
    evidence = report.results[1].evidence
    assert (evidence["ending"], evidence["last_words"]) == ("SIGSEGV", "about to touch address zero")
    assert evidence["first"]["reason"] == "SIGSEGV: about to touch address zero"


def test_the_first_of_a_process_was_alone_and_does_not_run_again():
    report = check("SEGFAULTS", [ODD])
    assert [r.verdict for r in report.results] == ["crash"]
    assert "first" not in report.results[0].evidence


def test_a_crash_carries_the_line_that_reproduces_it(tmp_path):
    report = check("SEGFAULTS", [ODD], timeout=30, memory=2 << 30)
    line = report.results[0].evidence["reproduce"]
    assert shlex.split(line)[2:5] == ["|", "convspec", "check"]
    assert line.endswith("--layouts NCHW --timeout 30 --memory 2147483648")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FAKES), *sys.path])}
    words = f"{prepared.python(environment)} -m convspec check --data exact --json -"
    done = subprocess.run(
        line.replace("convspec check", words), shell=True, capture_output=True, text=True, timeout=100, check=False,
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 1
    (result,) = json.loads(done.stdout)["results"]
    assert (result["verdict"], result["reason"]) == ("crash", report.results[0].reason)


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LEAKS", "TAKES_TOO_MUCH"])
def test_a_memory_blow_up_is_a_crash_by_memory_and_costs_its_own_case(name):
    report = check(name, [EVEN[0], ODD, EVEN[1]], memory=256 << 20)
    assert [r.verdict for r in report.results] == ["agree", "crash", "agree"]
    assert report.results[1].reason.startswith("memory: ")


def test_without_a_limit_an_allocation_that_fails_is_the_adapters_error():
    report = check("RAISES", [ODD])
    assert report.results[0].verdict == "error"


@pytest.mark.parametrize(("text", "size"), [("4GiB", 4 << 30), ("1.5g", 3 << 29), ("500 MB", 500 << 20), ("7", 7)])
def test_sizes_are_read(text, size):
    assert parse_size(text) == size
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "4GiBs", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(RequestError, match="must be a size"):
        parse_size(text)


def test_a_limit_that_no_framework_can_keep_is_refused():
    with pytest.raises(RequestError, match="must be at least"):
        check("GOOD", EVEN, memory=1000)


@pytest.mark.parametrize(
    "words",
    ["MemoryError: Unable to allocate 32.0 GiB for an array", "std::bad_alloc", "OOM when allocating tensor",
     "DefaultCPUAllocator: can't allocate memory: you tried to allocate 34359738368 bytes",
     "RESOURCE_EXHAUSTED: Out of memory allocating 34359738368 bytes.",
     "Failed to allocate memory for requested buffer of size 34359738368"],
)  # fmt: skip
def test_the_words_of_frameworks_that_got_no_memory_are_known(words):
    assert out_of_memory(words)
    assert not out_of_memory("Expected more than 1 value per channel; BLOOM, ROOM")


# -- processes -------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import convspec
from convspec import Case, ConvSpec
cases = [Case(ConvSpec(1, 3, 3), (1, 1, 4, 5))]
convspec.check(cases, ["convspec_fakes:BREEDS"], layouts=["NCHW"], data=["exact"], timeout=float(sys.argv[1]))
"""


def running(duration):
    """The processes that sleep for this long."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", duration.encode()]:
                found.append(int(place.name))
    return found


def children_of(process):
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def workers_of(process):
    """The runner's descendants: workers, their reapers, and the process that forks them."""
    found = children_of(process)
    return found + [further for child in found for further in workers_of(child)]


def until(condition, patience):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {patience} s")


def alive(process):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def start(duration, timeout):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FAKES), *sys.path]),
        "CONVSPEC_TEST_SLEEP": duration,
    }
    return prepared.Program("-c", textwrap.dedent(SCRIPT), timeout, env=environment)


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@needs_linux
def test_after_kill_9_no_worker_and_no_grandchild_survives():
    duration = f"{5000 + os.getpid()}.25"
    main = start(duration, "600")
    try:
        until(lambda: len(running(duration)) == 2, 60)
        family = workers_of(main.pid)
        assert len(family) >= 5, "server, reaper, worker, and two grandchildren that the reaper has adopted"
    finally:
        main.send_signal(signal.SIGKILL)
        main.wait()
    until(lambda: not running(duration) and not any(alive(process) for process in family), 5)


@needs_linux
def test_after_a_timeout_no_grandchild_survives():
    duration = f"{5000 + os.getpid()}.75"
    main = start(duration, "3")
    until(lambda: len(running(duration)) == 2, 60)
    assert main.wait(60) == 0
    until(lambda: not running(duration), 5)


@needs_linux
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path):
    journal = tmp_path / "my run.jsonl"
    duration = f"{5000 + os.getpid()}.5"
    corpus = tmp_path / "cases.jsonl"
    corpus.write_text("".join(case.to_json() + "\n" for case in (EVEN[0], ODD)))
    # a process that was started in the background, as CI may be, ignores Ctrl-C, and its children do
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = listening + "from convspec.cli.app import main; main()"
    command = ["-c", code, "check", "--corpus", corpus, "--adapters", "convspec_fakes:BREEDS",
               "--journal", journal, "-j", "1"]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FAKES), *sys.path]),
        "CONVSPEC_TEST_SLEEP": duration,
    }
    main = prepared.Program(*command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until(lambda: len(running(duration)) == 2, 60)
    main.send_signal(signal.SIGINT)
    out, err = main.communicate(timeout=60)
    assert (main.returncode, out) == (130, "")
    assert err == f"convspec: interrupted; resume with: convspec check --resume '{journal}'\n"
    until(lambda: not running(duration), 5)
    report = read(journal).report()
    assert (len(report.results), len(report.missing)) == (4, 1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_a_worker_that_dies_over_the_oracle_is_told_from_one_that_the_framework_ends():
    small = Case(ConvSpec(1, 2, 3), (1, 1, 5, 6))
    large = Case(ConvSpec(512, 128, 3), (1, 512, 100, 100))  # its arrays and the oracle take half a second

    def kill():
        reapers = [reaper for server in children_of(os.getpid()) for reaper in children_of(server)]
        (worker,) = (worker for reaper in reapers for worker in children_of(reaper))
        os.kill(worker, signal.SIGKILL)

    def look(progress):
        if progress.done == 1:
            threading.Timer(0.1, kill).start()

    report = convspec.check(
        [small, large], ["convspec_fakes:GOOD"], ["NCHW"], data=["exact"], jobs=1, timeout=600, progress=look
    )
    assert [r.verdict for r in report.results] == ["agree", "agree"]
    first = report.results[1].evidence["first"]
    assert (first["verdict"], first["reason"]) == ("crash", "SIGKILL while the oracle computed")

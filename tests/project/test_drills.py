"""A drill can fail; CI runs the short form of all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_drills.bench import Bench, Done

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "drills.py"


def drills(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
    )  # fmt: skip


BROKEN = """
from convspec.cli import console
def dumps(document):
    raise ValueError("planted")
console.dumps = dumps
"""


@pytest.mark.processes
def test_a_traceback_fails_a_drill(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = drills("--short", "--only", "full-disk", PYTHONPATH=path)
    assert done.returncode == 1
    assert "full-disk: the run before: a traceback: ValueError: planted" in done.stdout


def test_an_unknown_drill_is_refused():
    done = drills("--only", "flood")
    assert done.returncode == 2
    assert "unknown drill 'flood'; the drills are kill, stop" in done.stderr


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, 0, short=True)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("true", ""),
        ("exit 1", "exit status 1: "),
        ("echo 'Traceback (most recent call last)' >&2; exit 0", "a traceback"),
        ("sleep 60", "it hangs"),
        ("mkdir $TMPDIR/convspec-1-x", "left behind: convspec-1-x"),
        ("setsid sleep 60 > /dev/null &", "left behind: process "),
        ("rmdir $TMPDIR", "/"),
    ],
)
def test_the_bench_sees_every_fault(bench, monkeypatch, line, problem):
    monkeypatch.setattr("fault_drills.bench.GRACE", 0.5)
    found = bench.shell(line, limit=2.0).problem({0})
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


@pytest.mark.processes
def test_many_requests_survive_one_that_hangs(bench):
    os.mkfifo(bench.folder / "nobody-writes")
    hanging = ["check", "--corpus", str(bench.folder / "nobody-writes"), "--adapters", "convspec_fakes:GOOD"]
    good = [
        ["show", '{"in_channels": 3, "out_channels": 4, "kernel_size": [3, 3]}', "--adapters", "torch"],
        ["show", "("],
    ]
    assert [done.status for done in bench.many(good)] == [0, 2]
    assert [done.problem({0, 1}) for done in bench.many([hanging], each=4)] == ["it hangs: "]


def test_a_command_that_ends_within_a_request_is_a_problem():
    assert Done(256, "", "gone").problem({0, 1, 2}) == "exit status 256: gone"

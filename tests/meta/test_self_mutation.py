"""The command that plants faults in convspec's own code: what it plants, in which processes, and its numbers."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mutmut")
import self_mutation
from self_mutants import blocks
from self_mutants.mutants import ROOT, Mutant, mutants

MODULE = '''\
"""A module."""
import subprocess
import sys

SIZE = 3


def add(a: int, b: int = 1) -> int:
    """Return a sum."""
    if a > 90:
        raise ValueError("a is too large" + str(a + 1))
    return a + b


class Box:
    @property
    def double(self):
        def twice(n):
            return n * 2

        return twice(len("abc"))

    def __repr__(self):
        return "Box" + str(1)


def child():
    code = "import convspec_sample; print(convspec_sample.add(3, 4))"
    return int(subprocess.check_output([sys.executable, "-c", code]))


def idle():
    return 5 - 2


def count():
    n = 3
    while n > 0:
        n -= 1
    return n
'''
TESTS = """
import convspec_sample as sample

def test_double(): assert sample.Box().double == 6
def test_child(): assert sample.child() == 7
def test_count(): assert sample.count() == 0
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "convspec_sample.py").write_text(MODULE, "utf-8")
    (tmp_path / "test_sample.py").write_text(TESTS, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    return tmp_path


@pytest.fixture
def planted(folder):
    return {(m.function, m.change): m for m in mutants(str(folder / "convspec_sample.py"), folder / "cache")}


def test_what_is_planted_and_what_is_left_alone(planted, folder):
    functions = {name for name, _ in planted}
    assert functions == {"add", "Box.double", "child", "idle", "count"}  # not __repr__, nor what an import computes
    assert ("add", "a + b → a - b") in planted
    assert ("add", "a > 90 → a >= 90") in planted or ("add", "> 90 → >= 90") in planted
    assert not [change for name, change in planted if name == "add" and ("int" in change or "str" in change)]
    text = planted["add", "a + b → a - b"].source()
    assert text == MODULE.replace("return a + b", "return a - b")
    assert sorted(planted.values(), key=str) == sorted(
        mutants(str(folder / "convspec_sample.py"), folder / "cache"), key=str
    )


def test_a_sample_depends_on_the_seed_and_on_each_mutant_alone(planted):
    ranks = {seed: {m.key: m.rank(seed) for m in planted.values()} for seed in (1, 2)}
    assert len(set(ranks[1].values())) == len(planted)
    assert not set(ranks[1].values()) & set(ranks[2].values())
    one = next(iter(planted.values()))
    assert one.rank(1) == Mutant(one.file, one.function, one.line, one.change, one.number, position=999).rank(1)


def test_each_block_that_runs_is_reported_once_the_innermost_has_the_line():
    tree, seen = blocks.instrument(MODULE, "m.py", 100), []
    namespace = {blocks.HIT: seen.append, "__name__": "m"}
    exec(compile(tree, "m.py", "exec"), namespace)
    assert seen == []
    assert namespace["add"](1, 2) == 3
    first = blocks.block_of(MODULE, MODULE.splitlines().index("    return a + b") + 1)
    error = blocks.block_of(MODULE, next(n for n, line in enumerate(MODULE.splitlines(), 1) if "raise" in line))
    assert seen == [100 + first]
    assert first != error
    assert ast.get_docstring(next(n for n in tree.body if isinstance(n, ast.FunctionDef))) == "Return a sum."


def test_what_a_test_reaches_is_still_known_where_a_module_has_changed():
    """A block that is as it was moves with its function; a changed function's blocks are reached by its tests."""
    changed = MODULE.replace("def add", "def first():\n    return 0\n\n\ndef add").replace("n -= 1", "n -= 2")
    numbers = blocks.moved(MODULE, changed)

    def at(text, line):
        return blocks.block_of(text, text.splitlines().index(line) + 1)

    for line in ("    return a + b", "            return n * 2", "    return 5 - 2"):
        assert numbers[at(MODULE, line)] == [at(changed, line)]
    counted = sorted({at(changed, "    n = 3"), at(changed, "        n -= 2")})
    assert numbers[at(MODULE, "        n -= 1")] == numbers[at(MODULE, "    n = 3")] == counted
    assert at(changed, "    return 0") not in [number for found in numbers for number in found]
    assert blocks.moved(MODULE, MODULE) == [[number] for number in range(len(numbers))]


def harness(folder, *options, **environment):
    path = [
        ROOT / "scripts" / "self_mutants" / "hook",
        ROOT / "scripts",
        folder,
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    (folder / "only").write_text("test_sample.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "self_mutants.harness",
        "--only",
        "only",
    ]
    done = subprocess.run(
        [*command, *options, "."], cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environment},
    )  # fmt: skip
    assert done.returncode in (0, 5), done.stdout + done.stderr


def test_a_fault_holds_in_child_processes_and_costs_a_loop_its_time(folder, planted):
    wanted = {
        ("add", "a + b → a - b"): "killed", ("Box.double", "n * 2 → n / 2"): "killed",
        ("idle", "5 - 2 → 5 + 2"): "survived", ("count", "n -= 1 → n = 1"): "timeout",
    }  # fmt: skip
    jobs = []
    for number, key in enumerate(wanted):
        text = folder / f"{number}.txt"
        text.write_text(planted[key].source(), "utf-8")
        seconds = {f"test_sample.py::test_{name}": 0.01 for name in ("double", "child", "count")}
        seconds["test_sample.py::test_child"] = 30
        job = {"file": str(folder / "convspec_sample.py"), "function": key[0], "text": str(text)}
        jobs.append({**job, "seconds": seconds, "is": {"key": list(key)}})
    (folder / "jobs").write_text("".join(json.dumps(job) + "\n" for job in jobs), "utf-8")
    harness(folder, "--jobs", "jobs", "--results", "results", SELF_MUTANT="", SELF_MUTATION_SLOWER="1")
    results = [json.loads(line) for line in (folder / "results").read_text().splitlines()]
    assert {tuple(result["key"]): result["verdict"] for result in results} == wanted
    killers = {result["key"][0]: result["test"] for result in results}
    assert killers["add"] == "test_sample.py::test_child"
    assert killers["Box.double"] == "test_sample.py::test_double"


def test_the_map_knows_what_a_child_process_runs(folder):
    (folder / "map").mkdir()
    (folder / "map" / "files").write_text(f"{folder / 'convspec_sample.py'}\t0\t-", "utf-8")
    harness(folder, "--map", "map", SELF_MUTATION_MAP=str(folder / "map"))
    tests = {json.loads(line)[1]: json.loads(line)[0] for line in (folder / "map" / "tests").read_text().splitlines()}
    hits = [tuple(map(int, line.split())) for line in (folder / "map" / "hits").read_text().splitlines()]
    adds = blocks.block_of(MODULE, MODULE.splitlines().index("    return a + b") + 1)
    assert [test for test, block in hits if block == adds] == [tests["test_sample.py::test_child"]]
    assert len(tests) == 3


# -- what is published ---


def test_equivalent_mutants_exist_and_say_why():
    kept = {mutant.key for files in self_mutation.files().values() for file in files for mutant in _known(file)}
    equivalent = self_mutation.equivalent()
    assert set(equivalent) <= kept, sorted(set(equivalent) - kept)
    assert all(len(reason) >= 30 for reason in equivalent.values())


def _known(file):
    named = {key.split(" ")[0] for key in self_mutation.equivalent()}
    return mutants(file, Path(self_mutation.WORK) / "mutants") if file in named else []

"""What no test is collected from is not imported: importing a framework takes seconds.

That is every helper (``--doctest-modules`` would look into it), and every test file that ``-m`` leaves out whole.
"""

from __future__ import annotations

import ast
import atexit
import faulthandler
import functools
import os
import re
import sys
import threading
from itertools import product
from pathlib import Path

import hypothesis
import pytest
from _pytest.mark.expression import Expression

# JAX's default way to draw random numbers takes seconds to compile, for every shape of weights anew
os.environ.setdefault("JAX_THREEFRY_PARTITIONABLE", "false")
# without oneDNN, which is off by default on some processors, TensorFlow has fewer convolutions on the CPU
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

hypothesis.settings.register_profile("convspec", deadline=None)  # a busy machine is slow, and fails nothing
hypothesis.settings.load_profile("convspec")

SUITES = {"torch", "flax", "keras", "onnx", "equinox", "openvino", "mlx", "litert", "ncnn", "browser"}


def _marks(path: Path) -> dict[str, bool]:
    """Which marks every test of the file has, and which none has; the others are open: single tests may have them."""
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"\bpytest\.mark\.(\w+)", text))
    known = dict.fromkeys(_left_out(path), True)
    if not re.search(r"\bpytest\.mark\b(?!\.)", text):  # marks by computed names may be any
        known |= dict.fromkeys(SUITES - named, False)
    for node in ast.parse(text).body if "pytestmark" in text else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            own = set(re.findall(r"\bpytest\.mark\.(\w+)", ast.unparse(node.value)))
            known |= dict.fromkeys(own, True)
            if own & SUITES and own & SUITES == named & SUITES:
                known |= {name: name in own for name in SUITES}
    return known


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    expression = config.option.markexpr
    if collection_path.suffix != ".py":
        return None
    if not collection_path.name.startswith("test_"):
        return True
    if not expression:
        return None
    known, compiled = _marks(collection_path), Expression.compile(expression)
    others = sorted(set(re.findall(r"\w+", expression)) - {"and", "or", "not"} - known.keys())
    for values in product((False, True), repeat=len(others)):
        marks = known | dict(zip(others, values, strict=True))
        if compiled.evaluate(lambda name, marks=marks, **_: marks[name]):
            return None
    return True


def pytest_collection_finish() -> None:
    """Have the tests build the command's parser once, not for each call: that takes longer than most calls."""
    if testing := sys.modules.get("typer.testing"):
        testing._get_command = functools.cache(testing._get_command)


_FINISHED: list[int] = []  # the exit status, when all tests have run


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    if getattr(sys.modules["__main__"].__spec__, "name", "") == "pytest.__main__":
        _FINISHED.append(int(exitstatus))
        watch = threading.Timer(60, _leave, (True,))
        watch.daemon = True
        watch.start()


def _leave(late: bool = False) -> None:
    """End the process as the tests ended: what frameworks do when an interpreter ends has hung before, for hours."""
    if _FINISHED:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if late:
            faulthandler.dump_traceback(sys.__stderr__)
        os._exit(_FINISHED[-1])


atexit.register(_leave)  # here, so that it is the last of all: they run in reverse


PROCESSES = {  # below tests/: files whose tests start workers, clusters or other interpreters, and kill some
    "cli": ["test_app", "test_completion", "test_kept_reports", "test_replay"],
    "conformance": [
        "test_check", "test_chunks", "test_cluster", "test_diagnose", "test_fuzzing", "test_isolation", "test_journal",
        "test_kills", "test_records", "test_saved_runs", "test_scheduler", "test_validation", "test_worker_pool",
    ],
    "contract": ["test_adapter_import", "test_child_process", "test_scaffold"],
    "models": ["test_files", "test_verification"],
    "project": ["test_prepared", "test_readme", "test_run_for_hours", "test_run_on_a_cluster", "test_sample_plugin"],
    "testing": ["test_pytest_plugin"],
}  # fmt: skip
SLOW = {"corpora": ["test_covering", "test_library", "test_regressions"], "layers": ["test_calculator"], "meta": ["*"]}


def _left_out(path: Path) -> list[str]:
    """The marks by which ``make test-fast`` leaves out the whole file."""
    folders = {"processes": PROCESSES, "slow": SLOW}
    return [mark for mark, files in folders.items() if {"*", path.stem} & set(files.get(path.parent.name, ()))]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in _left_out(item.path):
            item.add_marker(mark)
    items.sort(key=lambda item: not _left_out(item.path))  # the longest first: at the end no process waits for another

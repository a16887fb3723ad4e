"""What no test is collected from is not imported: importing a framework takes seconds.

That is every helper (``--doctest-modules`` would look into it), and every test file whose framework ``-m`` leaves out.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

SUITES = {"torch", "flax", "keras", "onnx", "equinox", "openvino", "browser"}


def _marks(path: Path) -> set[str]:
    """The suites that every test of the file belongs to; none where single tests have marks of their own."""
    text = path.read_text(encoding="utf-8")
    every = set(re.findall(r"\bpytest\.mark\.(\w+)", text)) & SUITES
    for node in ast.parse(text).body if every else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            own = set(re.findall(r"\bpytest\.mark\.(\w+)", ast.unparse(node.value))) & SUITES
            return own if own == every else set()
    return set()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    expression = config.option.markexpr
    if collection_path.suffix != ".py":
        return None
    if not collection_path.name.startswith("test_"):
        return True
    if not expression or set(re.findall(r"\w+", expression)) - SUITES - {"and", "or", "not"}:
        return None
    marks = _marks(collection_path)
    return True if marks and not Expression.compile(expression).evaluate(lambda name, **_: name in marks) else None


PROCESSES = {  # below tests/: files whose tests start workers, clusters or other interpreters, and kill some
    "cli": ["test_app", "test_completion", "test_kept_reports", "test_replay"],
    "conformance": [
        "test_check", "test_chunks", "test_cluster", "test_diagnose", "test_fuzzing", "test_isolation", "test_journal",
        "test_kills", "test_records", "test_scheduler", "test_validation", "test_worker_pool",
    ],
    "contract": ["test_scaffold"],
    "models": ["test_files", "test_verification"],
    "project": ["test_readme", "test_run_for_hours", "test_run_on_a_cluster", "test_sample_plugin"],
    "testing": ["test_pytest_plugin"],
}  # fmt: skip
SLOW = {"corpora": ["test_covering", "test_library", "test_regressions"], "layers": ["test_calculator"], "meta": ["*"]}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what ``make test-fast`` leaves out, file by file."""
    for item in items:
        folder, name = item.path.parent.name, item.path.stem
        if name in PROCESSES.get(folder, ()):
            item.add_marker("processes")
        if SLOW.get(folder) == ["*"] or name in SLOW.get(folder, ()):
            item.add_marker("slow")

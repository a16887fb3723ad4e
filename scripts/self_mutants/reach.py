"""Which tests run which block of which file: every test runs once on modules that count, in all its processes."""

from __future__ import annotations

import ast
import bisect
import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from self_mutants.blocks import block_of, blocks, moved
from self_mutants.mutants import ROOT, Mutant

_FRAMEWORKS = ("torch", "onnx", "keras", "flax", "equinox", "openvino", "mlx", "litert", "ncnn")
GROUPS = {  # tests that share a process; one that needs several frameworks is in the last of them
    "none": " and ".join(f"not {name}" for name in ("browser", *_FRAMEWORKS)),
    **{
        name: " and not ".join((name, "browser", *_FRAMEWORKS[number + 1 :])) for number, name in enumerate(_FRAMEWORKS)
    },
}
EARLY = ("flax", "equinox")  # groups whose framework, JAX, does not survive a fork
_FOLDERS = ("spec", "reference", "contract", "diagnosis", "models", "conformance", "adapters", "networks")  # of tests
_LONG = ("test_cluster", "test_chunks", "test_kills", "test_fuzzing")  # each test takes minutes, and judges little
_FILES = 4  # in one run: an update that is killed goes on there
_LONGEST = 30.0  # seconds of a test
_ENOUGH, _ENOUGH_OTHERS = 60.0, 15.0  # seconds on one mutant, of its package's tests and of others, in each group

Seconds = dict[str, float]  # by test
Reached = dict[tuple[str, int], Seconds]  # by file and block; −1 is any block


class Reach:
    """The tests that reach each block; ``update`` runs those of test files that are new or have changed."""

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self._folder, self._texts, self._targets = folder, folder / "texts", targets

    def update(self, processes: int) -> None:
        folders = [ROOT / "tests" / name for name in _FOLDERS]
        paths = [path for folder in folders for path in sorted(folder.rglob("test_*.py")) if path.stem not in _LONG]
        every = [str(path.relative_to(ROOT)) for path in paths]
        for group, expression in GROUPS.items():
            known = {entry for run in self._runs(group) for entry in run["tests"]}
            new = [file for file in every if f"{file} {digest(file)}" not in known]
            parts = [new[start : start + _FILES] for start in range(0, len(new), _FILES)]
            for start in range(0, len(parts), processes):
                running = [self._start(group, expression, part) for part in parts[start : start + processes]]
                for folder, process in running:
                    if process.wait() not in (0, 1, 5):
                        sys.exit(f"pytest ended with status {process.returncode}: see {folder / 'log'}")
                    (folder / "done").touch()

    def _start(self, group: str, expression: str, tests: list[str]) -> tuple[Path, subprocess.Popen[bytes]]:
        folder, first, lines = self._folder / f"{group}-{time.time_ns()}", 0, []
        folder.mkdir(parents=True)
        for file in self._targets:
            self._texts.mkdir(exist_ok=True)
            (self._texts / digest(file)).write_bytes((ROOT / file).read_bytes())
            lines.append(f"{ROOT / file}\t{first}\t{digest(file)}")
            first += len(blocks(ast.parse((ROOT / file).read_text("utf-8"))))
        (folder / "files").write_text("\n".join(lines), "utf-8")
        (folder / "run.json").write_text(json.dumps({"tests": [f"{test} {digest(test)}" for test in tests]}))
        (folder / "hits").touch()
        return folder, start_pytest(
            folder, expression, tests, ["--map", str(folder)], {"SELF_MUTATION_MAP": str(folder)}
        )

    def _runs(self, group: str) -> Iterator[dict[str, Any]]:
        for folder in sorted(self._folder.glob(f"{group}-*")):
            if (folder / "done").exists():
                yield {"folder": folder, **json.loads((folder / "run.json").read_text())}

    @functools.cache  # noqa: B019 – one object per run
    def _reached(self, group: str) -> Reached:
        reached: Reached = defaultdict(dict)
        for run in self._runs(group):
            entries = [entry.split(" ") for entry in run["tests"]]
            self._load(run["folder"], {file for file, known in entries if digest(file) == known}, reached)
        return reached

    @functools.cache  # noqa: B019 – one object per run
    def _now(self, file: str, known: str, block: int) -> list[int]:
        """Return the numbers that a block of a version of a file has now."""
        if digest(file) == known:
            return [block]
        text = self._texts / known
        return moved(text.read_text("utf-8"), _text(file))[block] if digest(file) and text.exists() else []

    def _load(self, folder: Path, current: set[str], reached: Reached) -> None:
        entries = [line.split("\t") for line in (folder / "files").read_text("utf-8").splitlines()]
        starts = [int(first) for _, first, _ in entries]
        names = [str(Path(file).relative_to(ROOT)) for file, _, _ in entries]
        tests: dict[int, dict[str, float]] = {}  # by number; negative: a fixture's, so all of the test's file
        of_file: dict[str, dict[str, float]] = defaultdict(dict)
        for line in (folder / "tests").read_text().splitlines():
            number, name, seconds, passed = json.loads(line)
            file = name.partition("::")[0]
            if file in current:
                tests[-number] = of_file[file]
                if passed and seconds <= _LONGEST:
                    tests[number] = {name: seconds}
                    of_file[file][name] = seconds
        for line in (folder / "hits").read_text().splitlines():
            number, _, block = line.partition(" ")
            at = bisect.bisect_right(starts, int(block)) - 1
            for one in (-1, *self._now(names[at], entries[at][2], int(block) - starts[at])):
                reached[names[at], one].update(tests.get(int(number or 0), {}))

    def tests(self, mutant: Mutant, group: str) -> Seconds:
        """Return the tests of a group to run on a mutant: those of its package and then others, fastest first."""
        reached, block = self._reached(group), block_of(_text(mutant.file), mutant.position)
        found = reached.get((mutant.file, block)) or reached.get((mutant.file, -1), {})
        near = mutant.file.replace("convspec/", "tests/", 1).replace("adapters/convspec_", "tests/adapters/")
        near = near[: near.index("/", len("tests/adapters/") if "adapters" in near else len("tests/")) + 1]
        chosen: Seconds = {}
        for wanted, enough in ((True, _ENOUGH), (False, _ENOUGH_OTHERS)):
            total = 0.0
            for name, seconds in sorted(found.items(), key=lambda item: (round(item[1], 1), item)):
                if name.startswith(near) is wanted and total + seconds <= enough:
                    total += seconds
                    chosen[name] = seconds
        return chosen


@functools.cache
def digest(file: str) -> str:
    """Return a digest of a file of the repository."""
    path = ROOT / file
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


@functools.cache
def _text(file: str) -> str:
    return (ROOT / file).read_text("utf-8")


def start_pytest(
    folder: Path, expression: str, tests: list[str], options: list[str], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start pytest on test files with the plug-in of this package, and with the hook in all processes."""
    (folder / "only").write_text("\n".join(tests), "utf-8")
    here = Path(__file__).parent
    path = [here / "hook", here.parent, ROOT, ROOT / "adapters", *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    options += ["-q", "-p", "no:cacheprovider", "-p", "self_mutants.harness", f"--basetemp={folder / 'tmp'}"]
    options += ["-m", expression, "--only", str(folder / "only"), "tests"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *options],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(map(str, path)), **environment},
        )  # fmt: skip

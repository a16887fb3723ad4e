"""A sample of mutants, and their verdicts: kept in a folder, and true as long as the code and the tests are the same."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from self_mutants.mutants import ROOT, Mutant, mutants
from self_mutants.reach import GROUPS, Reach, Seconds, digest, start_pytest

_EVERY = 50  # one job in so many runs twice: the second time on the code as it is


class Run:
    """The verdicts on mutants drawn by seed from each package's files, in proportion, and at least half an equal share."""

    def __init__(
        self, folder: Path, packages: Mapping[str, Sequence[str]], size: int, seed: int, chosen: Sequence[str]
    ) -> None:
        pools = {name: [m for file in files for m in mutants(file, folder / "mutants")] for name, files in packages.items()}
        least, total = size // (2 * len(pools)), sum(map(len, pools.values()))
        self.numbers = {name: len(pool) for name, pool in pools.items()}
        self.sample = {
            name: sorted(pool, key=lambda mutant: mutant.rank(seed))[: max(least, round(size * len(pool) / total))]
            for name, pool in pools.items() if name in chosen
        }  # fmt: skip
        self._folder = folder
        self._reach = Reach(folder / "map", [file for files in packages.values() for file in files])
        self._tests: dict[tuple[str, str], tuple[Seconds, str]] = {}
        self._results: dict[tuple[str, str], dict[str, Any]] = {}
        self._load()

    def execute(self, processes: int) -> None:
        """Run what is not known, group by group; a mutant that is killed meets no further group."""
        self._reach.update(processes)
        self._tests.clear()
        for group, expression in GROUPS.items():
            for _ in range(3):  # the process that runs jobs may die with a mutant
                chosen = [mutant for package in self.sample.values() for mutant in package]
                jobs = [job for number, mutant in enumerate(chosen) for job in self._jobs(mutant, group, number)]
                if not jobs:
                    break
                sys.stderr.write(f"{time.strftime('%X')} group {group}: {len(jobs)} mutants\n")
                running = [self._start(group, expression, n, jobs[n::processes]) for n in range(processes)]
                for process in running:
                    process.wait()
                self._load()

    def verdict(self, mutant: Mutant) -> tuple[str, str]:
        """Return the verdict on a mutant and the test that killed it; ``pending`` if the tests of a group are to come."""
        pending = False
        for group in GROUPS:
            result = self._result(mutant, group)
            pending |= result is None
            if result and result["verdict"] != "survived":
                return result["verdict"], result["test"] or ""
        return ("pending" if pending else "survived"), ""

    def controls(self) -> list[str]:
        """Return the tests that failed on the code as it is: their kills prove nothing."""
        return [r["test"] for (key, _), r in self._results.items() if key.startswith("control") and r["verdict"] != "survived"]

    def tested(self, mutant: Mutant) -> int:
        """Return how many tests reach a mutant."""
        return sum(len(self._chosen(mutant, group)[0]) for group in GROUPS)

    def _load(self) -> None:
        lines = [line for path in sorted(self._folder.glob("results-*")) for line in path.read_text("utf-8").splitlines()]
        results = sorted((json.loads(line) for line in lines if line.endswith("}")), key=lambda result: result["at"])
        self._results = {(result["key"], result["group"]): result for result in results}

    def _result(self, mutant: Mutant, group: str) -> dict[str, Any] | None:
        """Return what is known of a mutant and the tests of a group, and still true."""
        result = self._results.get((mutant.key, group))
        if result and result["source"] == digest(mutant.file):
            killed = result["verdict"] != "survived"
            if killed and result["test_file"] == digest(result["test"].partition("::")[0]):
                return result
            if not killed and result["tests"] == self._chosen(mutant, group)[1]:
                return result
        return None if self._chosen(mutant, group)[0] else {"verdict": "survived"}

    def _chosen(self, mutant: Mutant, group: str) -> tuple[Seconds, str]:
        """Return the tests to run, and a digest of them."""
        if (mutant.key, group) not in self._tests:
            tests = self._reach.tests(mutant, group)
            state = "\n".join(f"{name} {digest(name.partition('::')[0])}" for name in sorted(tests))
            self._tests[mutant.key, group] = tests, hashlib.sha256(state.encode()).hexdigest()[:16]
        return self._tests[mutant.key, group]

    def _jobs(self, mutant: Mutant, group: str, number: int) -> list[dict[str, Any]]:
        if self.verdict(mutant)[0] != "pending" or self._result(mutant, group):
            return []
        tests, state = self._chosen(mutant, group)
        text = self._folder / "texts" / f"{mutant.rank(0)}.py"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(mutant.source(), "utf-8")
        job = {"file": str(ROOT / mutant.file), "function": mutant.function, "text": str(text), "seconds": tests}
        job["is"] = {"key": mutant.key, "group": group, "source": digest(mutant.file), "tests": state}
        control = {**job, "text": job["file"], "is": {**job["is"], "key": f"control {mutant.key}"}}
        return [job, control] if number % _EVERY == 0 else [job]

    def _start(self, group: str, expression: str, number: int, jobs: list[dict[str, Any]]) -> subprocess.Popen[bytes]:
        folder = self._folder / f"{group}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "jobs").write_text("".join(json.dumps(job) + "\n" for job in jobs), "utf-8")
        tests = sorted({name.partition("::")[0] for job in jobs for name in job["seconds"]})
        results = self._folder / f"results-{number}"
        options = ["--jobs", str(folder / "jobs"), "--results", str(results)]
        return start_pytest(folder, expression, tests, options, {"SELF_MUTANT": ""})

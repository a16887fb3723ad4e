"""A sample of mutants, and their verdicts: kept in a folder, and true as long as code and tests are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from self_mutants.mutants import ROOT, Mutant, mutants
from self_mutants.reach import EARLY, GROUPS, Reach, Seconds, digest, start_pytest

_CONTROL = "="  # begins the key of a test that runs alone, on the code as it is
_ROUNDS = 4  # a process that runs jobs may die with a mutant, and tests may fail without one


class Run:
    """The verdicts on mutants drawn by seed: of each package in proportion, and at least half an equal share."""

    def __init__(
        self, folder: Path, packages: Mapping[str, Sequence[str]], size: int, seed: int, chosen: Sequence[str]
    ) -> None:
        pools = {
            name: [m for file in files for m in mutants(file, folder / "mutants")] for name, files in packages.items()
        }
        least, total = size // (2 * len(pools)), sum(map(len, pools.values()))
        self.numbers = {name: len(pool) for name, pool in pools.items()}
        self.sample = {
            name: sorted(pool, key=lambda mutant: mutant.rank(seed))[: max(least, round(size * len(pool) / total))]
            for name, pool in pools.items() if name in chosen
        }  # fmt: skip
        self._folder = folder
        self._reach = Reach(folder / "map", [file for files in packages.values() for file in files])
        self._tests: dict[tuple[str, str], Seconds] = {}
        self._results: dict[tuple[str, str], dict[str, Any]] = {}
        self._load()

    def execute(self, processes: int) -> None:
        """Run what is not known, group by group; a mutant that is killed meets no further group."""
        self._reach.update(processes)
        self._tests.clear()
        for group, expression in GROUPS.items():
            for number in range(_ROUNDS):
                chosen = [mutant for package in self.sample.values() for mutant in package]
                self._run(group, expression, list(self._controls(chosen, group, every=number > 0)), processes)
                jobs = [job for mutant in chosen for job in self._jobs(mutant, group)]
                if not jobs:
                    break
                jobs.sort(key=lambda job: sum(job["seconds"].values()))  # a run that is cut short has most of them
                self._run(group, expression, jobs, processes)

    def verdict(self, mutant: Mutant) -> tuple[str, str]:
        """Return the verdict on a mutant and the test that killed it; ``pending`` if a group is to come."""
        pending = False
        for group in GROUPS:
            result = self._result(mutant, group)
            pending |= result is None
            if result and result["verdict"] != "survived":
                return result["verdict"], result["test"] or ""
        return ("pending" if pending else "survived"), ""

    def failing(self) -> set[str]:
        """Return the tests that fail where they run alone on the code as it is: they are left out."""
        return {test for test, passes in self._alone.items() if not passes}

    def tested(self, mutant: Mutant) -> int:
        """Return how many tests reach a mutant."""
        return sum(len(self._chosen(mutant, group)) for group in GROUPS)

    def _load(self) -> None:
        lines = [
            line for path in sorted(self._folder.glob("results-*")) for line in path.read_text("utf-8").splitlines()
        ]
        results = sorted((json.loads(line) for line in lines if line.endswith("}")), key=lambda result: result["at"])
        self._results = {(result["key"], result["group"]): result for result in results}
        alone = [(key, one) for (key, _), one in self._results.items() if key.startswith(_CONTROL)]
        self._alone = {
            test[1:]: one["verdict"] == "survived" for test, one in alone if one["source"] == digest(file_of(test[1:]))
        }

    def _result(self, mutant: Mutant, group: str) -> dict[str, Any] | None:
        """Return what is known of a mutant and the tests of a group, and still true."""
        result = self._results.get((mutant.key, group))
        true = result and result["source"] == digest(mutant.file) and self._alone.get(result["test"]) is not False
        if result and true and result["verdict"] != "survived":
            return result if result["test"] and result["test_file"] == digest(file_of(result["test"])) else None
        return None if self._new(mutant, group) else {"verdict": "survived"}

    def _new(self, mutant: Mutant, group: str) -> Seconds:
        """Return the tests that reach a mutant and that it has not survived."""
        result = self._results.get((mutant.key, group))
        same = result and result["source"] == digest(mutant.file) and result["verdict"] == "survived"
        known = result["tests"] if result and same else {}
        found = self._chosen(mutant, group)
        return {name: seconds for name, seconds in found.items() if known.get(file_of(name)) != digest(file_of(name))}

    def _chosen(self, mutant: Mutant, group: str) -> Seconds:
        if (mutant.key, group) not in self._tests:
            found = self._reach.tests(mutant, group).items()
            self._tests[mutant.key, group] = {test: n for test, n in found if self._alone.get(test) is not False}
        return self._tests[mutant.key, group]

    def _jobs(self, mutant: Mutant, group: str) -> list[dict[str, Any]]:
        if self.verdict(mutant)[0] != "pending" or self._result(mutant, group):
            return []
        known = {file: digest(file) for file in map(file_of, self._chosen(mutant, group))}
        text = self._folder / "texts" / f"{mutant.rank(0)}-{digest(mutant.file)}.py"
        if not text.exists():
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(mutant.source(), "utf-8")
        return [{
            "file": str(ROOT / mutant.file), "function": mutant.function, "text": str(text),
            "seconds": self._new(mutant, group),
            "is": {"key": mutant.key, "group": group, "source": digest(mutant.file), "tests": known},
        }]  # fmt: skip

    def _controls(self, chosen: Sequence[Mutant], group: str, *, every: bool) -> Iterator[dict[str, Any]]:
        """Yield a job for each test that killed a mutant: alone, on the code as it is.

        With ``every`` also for each that is to run on a mutant: where some fail without one, as those of JAX in a fork,
        many do.
        """
        known = set(self._alone)
        for mutant in chosen:
            result = self._results.get((mutant.key, group))
            pending = every and self.verdict(mutant)[0] == "pending" and not self._result(mutant, group)
            for test in [*filter(None, [(result or {}).get("test")]), *(self._new(mutant, group) if pending else ())]:
                if test in known:
                    continue
                known.add(test)
                file = str(ROOT / mutant.file)
                named = {"key": _CONTROL + test, "group": group, "source": digest(file_of(test)), "tests": {}}
                seconds = {test: self._chosen(mutant, group).get(test, 1.0)}
                yield {"file": file, "function": mutant.function, "text": file, "seconds": seconds, "is": named}

    def _run(self, group: str, expression: str, jobs: list[dict[str, Any]], processes: int) -> None:
        sys.stderr.write(f"{time.strftime('%X')} group {group}: {len(jobs)} jobs\n")
        running = [self._start(group, expression, n, own) for n in range(processes) if (own := jobs[n::processes])]
        for process in running:
            process.wait()
        self._load()
        self._tests.clear()

    def _start(self, group: str, expression: str, number: int, jobs: list[dict[str, Any]]) -> subprocess.Popen[bytes]:
        folder = self._folder / f"{group}-{os.getpid()}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "jobs").write_text("".join(json.dumps(job) + "\n" for job in jobs), "utf-8")
        tests = sorted({name.partition("::")[0] for job in jobs for name in job["seconds"]})
        results = self._folder / f"results-{os.getpid()}-{number}"
        options = ["--jobs", str(folder / "jobs"), "--results", str(results)]
        options += ["--early"] if group in EARLY else []
        return start_pytest(folder, expression, tests, options, {"SELF_MUTANT": ""})


def file_of(test: str) -> str:
    return test.partition("::")[0]

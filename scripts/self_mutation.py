"""Plant faults in convspec's own code and run the tests that reach them: ``python scripts/self_mutation.py``.

Mutants are drawn by seed. The tests that reach a mutant run on it, fastest first, until one fails. Results are kept in
``build/self-mutation``: a run that was killed resumes. ``--write`` publishes the numbers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from self_mutants.mutants import ROOT, Mutant
from self_mutants.run import Run

STORE = ROOT / "docs" / "_data" / "self_mutation.json"
EQUIVALENT = Path(__file__).parent / "self_mutants" / "equivalent.toml"
WORK = ROOT / "build" / "self-mutation"
PACKAGES = {  # a file belongs to the first that names it
    "verdict": ["convspec/reference/verdict.py"],
    "bounds": ["convspec/reference/error_bounds.py"],
    "gaps": ["convspec/contract/*gap*.py", "convspec/conformance/gap_ledger.py"],
    "journal": ["convspec/conformance/journal.py"],
    "scheduler": ["convspec/conformance/execution/scheduler.py"],
    "spec": ["convspec/spec/*.py"],
    "reference": ["convspec/reference/*.py"],
    "contract": ["convspec/contract/*.py", "convspec/contract/tracing/*.py", "convspec/contract/isolation/*.py"],
    "diagnosis": ["convspec/diagnosis/**/*.py"],
    "models": ["convspec/models/**/*.py"],
    "conformance": [f"convspec/conformance/{name}/*.py" for name in ("execution", "records", "checks", "trials")],
    "adapters": [f"adapters/*/{module}.py" for module in ("plan", "weights", "read")],
    "ONNX judge": [f"adapters/convspec_onnx/{package}/*.py" for package in ("verify", "graph", "source")],
}
CRITICAL = ("verdict", "bounds", "gaps", "journal", "scheduler")  # in these no mutant may survive


def files() -> dict[str, list[str]]:
    """Return the files of each package."""
    found: dict[str, str] = {}
    for name, patterns in PACKAGES.items():
        for path in (path for pattern in patterns for path in sorted(ROOT.glob(pattern))):
            found.setdefault(str(path.relative_to(ROOT)), name)
    return {name: [file for file, package in found.items() if package == name] for name in PACKAGES}


def equivalent() -> dict[str, str]:
    """Return the keys of the mutants that change no verdict, with the reason."""
    entries = tomllib.loads(EQUIVALENT.read_text("utf-8")).get("equivalent", [])
    return {
        Mutant(e["file"], e["function"], e["line"], change, number).key: e["reason"]
        for e in entries for change in e["changes"] for number in e.get("numbers", [0])
    }  # fmt: skip


def counts(run: Run, chosen: Iterable[Mutant]) -> dict[str, Any]:
    """Return how many mutants were run, how many the tests killed, and which live without being equivalent."""
    verdicts, known = {mutant.key: run.verdict(mutant)[0] for mutant in chosen}, equivalent()
    number = Counter(verdicts.values())
    return {
        "run": len(verdicts), "killed": number["killed"] + number["timeout"], "timeouts": number["timeout"],
        "equivalent": sum(verdict == "survived" and key in known for key, verdict in verdicts.items()),
        "alive": sorted(key for key, verdict in verdicts.items() if verdict == "survived" and key not in known),
        "pending": number["pending"], "broken": number["broken"],
    }  # fmt: skip


def content(run: Run, seed: int) -> dict[str, Any]:
    """Return what is published."""
    rows = {name: {"mutants": run.numbers[name], **counts(run, chosen)} for name, chosen in run.sample.items()}
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return {"seed": seed, "commit": commit, "packages": rows}


def score(row: dict[str, Any]) -> float:
    """Return the share of those mutants killed that are not equivalent."""
    return row["killed"] / max(row["run"] - row["equivalent"], 1)


def summary(stored: dict[str, Any]) -> Iterator[str]:
    rows = stored["packages"]
    keys = ("mutants", "run", "killed", "timeouts", "equivalent", "pending", "broken")
    rows |= {"all": {key: sum(row[key] for row in rows.values()) for key in keys} | {"alive": []}}
    for name, row in rows.items():
        numbers = "".join(f"{row[key]:>{len(key) + 2}}" for key in keys)
        yield f"{name:12}{numbers}{score(row):>8.1%}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1200, help="number of mutants, e.g. 1000000 for all")
    parser.add_argument("--seed", type=int, default=1, help="random seed of the sample")
    parser.add_argument("--packages", default=",".join(PACKAGES), help="comma-separated names of packages")
    parser.add_argument("--processes", type=int, default=2, help="number of processes")
    parser.add_argument("--alive", action="store_true", help="run nothing; list the mutants that live, by file")
    parser.add_argument("--write", action="store_true", help=f"publish the numbers into {STORE.name}")
    chosen = parser.parse_args()
    run = Run(WORK, files(), chosen.size, chosen.seed, chosen.packages.split(","))
    if not chosen.alive:
        run.execute(chosen.processes)
    stored = content(run, chosen.seed)
    alive = {key for row in stored["packages"].values() for key in row["alive"]}
    for mutant in (m for package in run.sample.values() for m in package if m.key in alive):
        print(f"{mutant.file}:{mutant.position} {mutant.function}, {run.tested(mutant)} tests")
        print(f"    {mutant.line}\n    {mutant.change}")
    print(*summary(stored), sep="\n")
    if failing := run.failing():
        print("Left out, as they fail where they run alone without a fault:", *sorted(failing), sep="\n")
    if chosen.write:
        STORE.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return int(any(row["pending"] or row["broken"] for row in stored["packages"].values()))


if __name__ == "__main__":
    sys.exit(main())

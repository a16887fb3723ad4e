"""Plant faults in convspec's own code and run the tests that reach them: ``python scripts/self_mutation.py``.

Mutants are drawn by seed. The tests that reach a mutant run on it, fastest first, until one fails. Results are kept in
``build/self-mutation``: a run that was killed resumes. ``--write`` publishes the numbers.
"""

from __future__ import annotations

import argparse
import json
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
PACKAGES = {
    "spec": ["convspec/spec/*.py"],
    "reference": ["convspec/reference/*.py"],
    "contract": ["convspec/contract/*.py", "convspec/contract/tracing/*.py", "convspec/contract/isolation/*.py"],
    "diagnosis": ["convspec/diagnosis/**/*.py"],
    "models": ["convspec/models/**/*.py"],
    "conformance": ["convspec/conformance/journal.py", "convspec/conformance/gap_ledger.py"]
    + [f"convspec/conformance/{package}/*.py" for package in ("execution", "records", "checks", "trials")],
    "adapters": [f"adapters/*/{module}.py" for module in ("plan", "weights", "read")],
    "ONNX judge": [f"adapters/convspec_onnx/{package}/*.py" for package in ("verify", "graph", "source")],
}
CRITICAL = {  # no mutant may survive in them
    "verdict": ["convspec/reference/verdict.py"],
    "bounds": ["convspec/reference/error_bounds.py"],
    "gaps": ["convspec/contract/known_gaps.py", "convspec/contract/gap_expressions.py"]
    + ["convspec/conformance/gap_ledger.py"],
    "journal": ["convspec/conformance/journal.py"],
    "scheduler": ["convspec/conformance/execution/scheduler.py"],
}


def files(patterns: Iterable[str]) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def equivalent() -> dict[str, str]:
    """Return the keys of the mutants that change no verdict, with the reason."""
    entries = tomllib.loads(EQUIVALENT.read_text("utf-8")).get("equivalent", [])
    return {
        Mutant(e["file"], e["function"], e["line"], change, number, 0, ()).key: e["reason"]  # type: ignore[arg-type]
        for e in entries for change in e["changes"] for number in range(e.get("times", 1))
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
    """Return what is published: the numbers of each package, and of the modules in which nothing may survive."""
    every = [mutant for chosen in run.sample.values() for mutant in chosen]
    critical = {name: set(files(patterns)) for name, patterns in CRITICAL.items()}
    return {
        "seed": seed,
        "packages": {name: {"mutants": run.numbers[name], **counts(run, run.sample[name])} for name in run.sample},
        "critical": {name: counts(run, [m for m in every if m.file in critical[name]]) for name in critical},
    }


def score(row: dict[str, Any]) -> float:
    """Return the share of those mutants killed that are not equivalent."""
    return row["killed"] / max(row["run"] - row["equivalent"], 1)


def lines(stored: dict[str, Any]) -> Iterator[str]:
    for name, row in (stored["packages"] | stored["critical"]).items():
        yield f"{name:12} " + "  ".join(f"{k} {len(v) if k == 'alive' else v}" for k, v in row.items()) + f"  {score(row):.1%}"
    every = list(stored["packages"].values())
    total = {key: sum(row[key] for row in every) for key in ("run", "killed", "equivalent", "pending")}
    yield f"{total['run']} mutants, {total['killed']} killed, {total['equivalent']} equivalent: {score(total):.1%}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1200, help="number of mutants, e.g. 1000000 for all")
    parser.add_argument("--seed", type=int, default=1, help="random seed of the sample")
    parser.add_argument("--packages", default=",".join(PACKAGES), help="comma-separated names of packages")
    parser.add_argument("--processes", type=int, default=2, help="number of processes")
    parser.add_argument("--alive", action="store_true", help="run nothing; list the mutants that live, by file")
    parser.add_argument("--write", action="store_true", help=f"publish the numbers into {STORE.name}")
    chosen = parser.parse_args()
    names = chosen.packages.split(",")
    run = Run(WORK, {name: files(PACKAGES[name]) for name in names}, chosen.size * len(names) // len(PACKAGES), chosen.seed)
    if not chosen.alive:
        run.execute(chosen.processes)
    stored = content(run, chosen.seed)
    for mutant in (m for package in run.sample.values() for m in package):
        if mutant.key in {key for row in stored["packages"].values() for key in row["alive"]}:
            print(f"{mutant.file}:{mutant.position} {mutant.function}, {run.tested(mutant)} tests\n    {mutant.line}\n    {mutant.change}")
    print(*lines(stored), sep="\n")
    if broken := run.controls():
        print("These tests fail without a fault, so what they kill proves nothing:", *sorted(set(broken)), sep="\n")
    if chosen.write:
        STORE.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return int(bool(broken) or any(row["pending"] or row["broken"] for row in stored["packages"].values()))


if __name__ == "__main__":
    sys.exit(main())

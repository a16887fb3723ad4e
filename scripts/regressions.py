"""Run the corpus ``regressions`` and note what each bug does today: ``python scripts/regressions.py``.

Writes ``docs/_data/regressions.json``: versions, and for every case and adapter the worst verdict of both layouts with
the gap that declares it. Bugs of gradients are run with their gradients, those of NaN and infinity on such data.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import convspec
from convspec import corpora
from convspec.cli.console import console
from convspec.cli.reports.progress import display
from convspec.conformance import Report
from convspec.reference import VERDICTS

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "convspec" / "corpora" / "regressions.jsonl"
STORE = ROOT / "docs" / "_data" / "regressions.json"
OTHERS = ROOT / "docs" / "_data" / "bugs.jsonl"
ADAPTERS = ("torch", "flax", "keras", "onnx")
WORST = ("agree", "unsupported", "disagree", "error", "timeout", "crash")
assert set(WORST) == set(VERDICTS)

# The frameworks that a bug can be found in, and the adapter that runs them here.
RUN_BY = {"torch": "torch", "flax": "flax", "jax": "flax", "xla": "flax", "keras": "keras", "tensorflow": "keras"}
RUN_BY |= {"onednn": "torch", "onnx": "onnx", "onnxruntime": "onnx"}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def reports() -> Iterable[Report]:
    """Three runs: all cases on exact data, those of gradients with them, those of NaN and infinity on such data."""
    cases = corpora.load("regressions")
    about = {line["name"]: line for line in lines(CORPUS)}
    of_gradients = [case for case in cases if "gradient" in case.name or "backward" in case.name]
    special = sorted({case.data for case in cases} - {"exact", "random"})
    with display(console(stderr=True)) as progress:
        yield convspec.check(cases, ADAPTERS, data=["exact"], progress=progress)
        yield convspec.check(of_gradients, ADAPTERS, data=["exact"], gradients=True, progress=progress)
        for data in special:
            chosen = [case for case in cases if about[case.name]["data"] == data]
            yield convspec.check(chosen, ADAPTERS, data=[data], progress=progress)


def outcomes(found: Iterable[Report]) -> dict[str, Any]:
    """The store's content."""
    worst: dict[str, dict[str, list[str]]] = defaultdict(dict)
    versions: dict[str, str] = {}
    for report in found:
        versions |= report.environment["versions"]
        for result in report.results:
            before = worst[result.case.name].get(result.adapter, ["agree"])
            if WORST.index(result.verdict) >= WORST.index(before[0]):
                words = [result.verdict] if result.gap is None else [result.verdict, result.gap]
                worst[result.case.name][result.adapter] = words
    return {"versions": dict(sorted(versions.items())), "cases": worst}


def today(bug: dict[str, Any], found: dict[str, list[str]]) -> str:
    """One word: whether the bug shows itself in the adapters of its own frameworks."""
    own = {RUN_BY[name] for name in bug["frameworks"] if name in RUN_BY}
    verdicts = {found[name][0] for name in own if name in found}
    if not verdicts:
        return "elsewhere"
    if verdicts - {"agree", "unsupported"}:
        return "bites"
    return "unsupported" if "unsupported" in verdicts else "right"


if __name__ == "__main__":
    STORE.write_text(json.dumps(outcomes(reports()), indent=1) + "\n", "utf-8")
    sys.stderr.write(f"{STORE}\n")

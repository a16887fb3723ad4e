"""Drills on broken adapters of other distributions: a command skips them, and says why."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from fault_drills.bench import FAKES, PATH, Bench, Done, Trial
from fault_drills.interruptions import write_corpus
from fault_drills.storage import LAYER

sys.path.append(str(FAKES))
from broken_adapters import ASKED, CALLS, ENDS, GOOD, REFUSED, WAYS, install

# Without convspec's own adapters, whose frameworks would take minutes
_SITE = """
import importlib.metadata as metadata
points = metadata.entry_points
metadata.entry_points = lambda **of: [p for p in points(**of) if p.dist and p.dist.name == "others"]
"""
_GOOD = "good"


def broken_adapters(bench: Bench) -> Iterator[Trial]:
    """Every way to break at import, and every method that raises, exits or returns something else."""
    write_corpus(bench.folder / "cases.jsonl", 2)
    every = {name: text for name, (text, _) in WAYS.items()}
    modules = {name: text for name, text in every.items() if name != "hangs"}  # each try takes half a minute
    calls = {f"{method}-{way}": text for (method, way), text in CALLS.items()}
    asked = {f"{method}-{way}": calls[f"{method}-{way}"] for method, way in CALLS if method in ASKED}
    yield from _all_at_once(bench, (modules if bench.short else every) | asked)
    for name in bench.chosen(modules, 1):
        yield Trial(f"{name}: adapters", _listed(_run(bench, {name: modules[name]}, "adapters", "--json", "-"), name))
    for method, way in bench.chosen(CALLS, 2):
        name = f"{method}-{way}"
        alone = {name: calls[name]}
        check = ("check", "-j", "1", "--corpus", "cases.jsonl", "--timeout", "20", "--json", "report.json")
        works = method in ASKED or (method, way) == ("configure", "returns-none")
        problem = _run(bench, alone, *check).problem({0} if works else {0, 1})
        yield Trial(f"{name}: check", problem or _checked(bench.folder / "report.json", method, way, name))
        if method in ASKED:
            for words in (("show", LAYER, "--json", "-"), ("source", LAYER, "--to", name)):
                statuses = {0} if words[0] == "show" else {0, 2}
                yield Trial(f"{name}: {words[0]}", _run(bench, alone, *words).problem(statuses))


def _run(bench: Bench, modules: dict[str, str], *words: str) -> Done:
    """Run a command where these adapters and a good one are installed; convspec's own only where they read a layer."""
    site = bench.folder / f"site-{bench.chance.randrange(10**9)}"
    install(site, "others", {**modules, _GOOD: GOOD})
    if LAYER not in words:
        (site / "sitecustomize.py").write_text(_SITE)
    return bench.run(*words, PYTHONPATH=os.pathsep.join([str(site), str(FAKES), *PATH]))


def _all_at_once(bench: Bench, modules: dict[str, str]) -> Iterator[Trial]:
    done = _run(bench, modules, "adapters", "--json", "-")
    yield Trial("all at once: adapters", done.problem({0}))
    done = _run(bench, modules, "check", "-j", "1", "--corpus", "cases.jsonl", "--json", "report.json")
    problem = done.problem({0})
    if not problem:
        absent = json.loads((bench.folder / "report.json").read_text("utf-8"))["environment"]["absent"]
        wanted = {name for name in modules if name in WAYS} | {f"{method}-{way}" for method, way in REFUSED}
        problem = "" if set(absent) == wanted else f"skipped are {sorted(set(absent) ^ wanted)}"
    yield Trial("all at once: check", problem)


def _listed(done: Done, name: str) -> str:
    if problem := done.problem({0}):
        return problem
    faults = {entry["name"]: entry["fault"] for entry in json.loads(done.out)["adapters"]}
    if faults.get(_GOOD, "lost"):
        return f"the good adapter: {faults.get(_GOOD, 'lost')}"
    return "" if WAYS[name][1] in (faults[name] or "") else f"its reason is {faults[name]}"


def _checked(path: Path, method: str, way: str, name: str) -> str:
    """Return what is wrong with a report on a good and a broken adapter."""
    report = json.loads(path.read_text("utf-8"))
    if any(result["verdict"] != "agree" for result in report["results"] if result["adapter"] == _GOOD):
        return "the good adapter does not agree"
    skipped = name in report["environment"]["absent"]
    if skipped != ((method, way) in REFUSED):
        return f"skipped: {skipped}"
    verdicts = {result["verdict"] for result in report["results"] if result["adapter"] == name}
    wrong = method not in ASKED and way in (*ENDS, "raises") and "agree" in verdicts
    return f"it has verdicts {sorted(verdicts)}" if wrong else ""

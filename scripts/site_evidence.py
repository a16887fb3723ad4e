"""The site's tables of mutants that corpora and tests catch, and of public bugs today, from the stored runs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import mutation
import regressions
from mutants import MUTANTS

_ROOT = Path(__file__).parents[1]
SELF_MUTATION = _ROOT / "docs" / "_data" / "self_mutation.json"
FRAMEWORKS = ("torch", "flax", "keras", "onnx", "equinox", "openvino", "mlx", "litert")  # each an extra
VERSIONS = _ROOT / "docs" / "_data" / "tested_versions.json"
EQUIVALENT = _ROOT / "scripts" / "self_mutants" / "equivalent.toml"

Table = Callable[[tuple[str, ...], list[tuple[object, ...]]], str]

_TODAY = {
    "bites": "Still bite",
    "unsupported": "Unsupported: the framework's adapter declares that it has no such layer",
    "right": "Right today",
    "elsewhere": "In frameworks without an adapter: as reported, and the layer's result in the frameworks with one",
}


def mutation_tables(table: Table) -> str:
    """Return the scores, every mutant with the corpora that catch it, and the equivalent mutants with their proofs."""
    stored = json.loads(mutation.STORE.read_text("utf-8"))
    names = list(stored["sizes"])
    faulty, equivalent = ([m for m in MUTANTS if bool(m.proof) is proved] for proved in (False, True))
    caught = {name: {m.id for m in faulty if stored["mutants"][m.id][name] is not None} for name in names}
    caught["features + pairwise"] = caught["features"] | caught["pairwise"]
    sizes = stored["sizes"] | {"features + pairwise": stored["sizes"]["features"] + stored["sizes"]["pairwise"]}
    scores: list[tuple[object, ...]] = [
        (name, sizes[name], f"{len(caught[name])} of {len(faulty)}", f"{100 * len(caught[name]) / len(faulty):.1f} %")
        for name in ("features", "pairwise", "features + pairwise", "threewise", mutation.PACK, mutation.ONNX)
    ]
    rows: list[tuple[object, ...]] = [
        (f"`{m.id}`", m.title, *("✓" if m.id in caught[name] else "–" for name in names)) for m in faulty
    ]
    proofs = "".join(f"`{m.id}`\n: {m.title[0].upper()}{m.title[1:]}. *Proof:* {m.proof}\n\n" for m in equivalent)
    return (
        f"## Scores\n\n{table(('cases', 'number', 'caught', 'score'), scores)}\n"
        f"## The mutants\n\n{table(('mutant', 'fault', *names), rows)}\n"
        f"## Equivalent mutants\n\n{proofs}"
    )


def self_mutation_tables(table: Table) -> str:
    """Return the numbers of each package, and the mutants that are equivalent with the reasons."""
    entries = tomllib.loads(EQUIVALENT.read_text("utf-8"))["equivalent"]
    reasons = [(f"`{e['file']}`", f"`{e['function']}`", "; ".join(f"`{c}`" for c in e["changes"]), e["reason"])
               for e in entries]  # fmt: skip
    proofs = (
        f"## Mutants of convspec that change no verdict\n\n{table(('file', 'function', 'change', 'why'), reasons)}\n"
    )
    if not SELF_MUTATION.exists():
        return f"No sample of this version has been run to its end.\n\n{proofs}"
    stored = json.loads(SELF_MUTATION.read_text("utf-8"))
    rows: list[tuple[object, ...]] = []
    numbers = ("mutants", "run", "killed", "timeouts", "equivalent", "alive")
    for name, row in stored["packages"].items():
        rows.append((name, *(row[key] for key in numbers[:-1]), len(row["alive"])))
    total = ["all", *(sum(int(str(row[place])) for row in rows) for place in range(1, len(numbers) + 1))]
    rows = [
        (*row, f"{100 * int(str(row[3])) / max(int(str(row[2])) - int(str(row[5])), 1):.1f} %")
        for row in (*rows, total)
    ]
    head = ("package", "mutants", "in the sample", "killed", "of these by time", "equivalent", "alive", "score")
    drawn = f"Sample drawn with seed {stored['seed']}, run on the code of commit {stored['commit']}."
    return f"{drawn}\n\n{table(head, rows)}\n{proofs}"


def bug_tables(table: Table) -> str:
    """Return the public bugs by their state today, then the bugs that no layer expresses."""
    stored = json.loads(regressions.STORE.read_text("utf-8"))
    bugs = [list(lines) for _, lines in groupby(regressions.lines(regressions.CORPUS), key=lambda line: line["bug"])]
    parts: dict[str, list[tuple[object, ...]]] = {kind: [] for kind in _TODAY}
    for cases in bugs:
        verdicts = _worst([stored["cases"][case["name"]] for case in cases])
        row = (_linked(cases[0]), cases[0]["title"], ", ".join(cases[0]["frameworks"]), cases[0]["reported"])
        shown = ", ".join(f"{name} {_word(verdict)}" for name, verdict in verdicts.items() if verdict[0] != "agree")
        parts[regressions.today(cases[0], verdicts)].append((*row, shown or "all agree"))
    versions = ", ".join(f"{name} {version}" for name, version in stored["versions"].items())
    text = f"Run with {versions}.\n\n"
    head = ("bug", "layer", "found in", "reported", "here")
    for kind, title in _TODAY.items():
        if parts[kind]:
            number = len(parts[kind])
            text += f"## {title}\n\n{number} bug{'s' * (number != 1)}.\n\n{table(head, parts[kind])}\n"
    others = regressions.lines(regressions.OTHERS)
    rows: list[tuple[object, ...]] = [
        (_linked(bug), ", ".join(bug["frameworks"]), bug["reported"], bug["of"]) for bug in others
    ]
    text += f"## No layer\n\n{len(others)} bugs that no layer expresses.\n\n"
    return text + table(("bug", "found in", "reported", "a matter"), rows)


def _linked(bug: dict[str, Any]) -> str:
    return f"[{bug['bug']}]({bug['links'][0]})"


def _word(verdict: list[str]) -> str:
    return verdict[0] if len(verdict) == 1 else f"{verdict[0]} (`{verdict[1]}`)"


def _worst(cases: list[dict[str, list[str]]]) -> dict[str, list[str]]:
    worst: dict[str, list[str]] = {}
    for verdicts in cases:
        for name, verdict in verdicts.items():
            order = regressions.WORST.index
            if name not in worst or order(verdict[0]) > order(worst[name][0]):
                worst[name] = verdict
    return {name: worst[name] for name in regressions.ADAPTERS if name in worst}


def version_tables(table: Table) -> str:
    """The versions that this site is built with, and those of the runs that ``scripts/tested_versions.py`` has kept."""
    runs = json.loads(VERSIONS.read_text("utf-8")) if VERSIONS.exists() else []
    kept = {(one["set"], one["framework"]): one for one in runs}
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    rows: list[tuple[object, ...]] = []
    for name in FRAMEWORKS:
        pins = [requirement.partition(">=")[0].partition("[")[0] for requirement in extras[name]]
        here = "<br>".join(f"{pin} {metadata.version(pin)}" for pin in pins)
        rows.append((f"`{name}`", here, *(_run_of(kept.get((kind, name)), pins) for kind in ("lowest", "newest"))))
    return table(("extra", "all tests", "lowest", "newest"), rows)


def _run_of(one: dict[str, Any] | None, pins: list[str]) -> str:
    if one is None:
        return "not tried"
    if one["problem"]:
        return f"not tried: {one['problem']}"
    versions = "<br>".join(f"{pin} {one['versions'].get(pin, '')}" for pin in pins)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in one["verdicts"].items() if count)
    return f"{versions}<br>{'passes' if one['passes'] else 'fails'}: {counts}"

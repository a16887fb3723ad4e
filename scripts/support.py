"""What each adapter does with each feature, counted: ``python scripts/support.py REPORT.json …``.

The reports, which together hold the corpus ``features`` on every adapter and variant, in every dtype, with gradients,
are condensed into ``docs/_data/support.json``: the cases, the versions, and for every adapter and feature how many
results on exact data came from a native layer, from a composed one, were declared unsupported, or fell under which gap.
The site's table and the page on the run are written from it. ``make support`` does the run, too.

Counts add up: ``--new`` prints the cases that are not counted yet, ``--add`` adds a report of them to what is there;
``make support-new`` does both. ``--adapters`` adds reports of adapters or variants, or replaces their counts.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convspec import corpora
from convspec.cli.reports import load, matrix

if TYPE_CHECKING:
    from convspec.conformance import Report, Result

STORE = Path(__file__).parents[1] / "docs" / "_data" / "support.json"

_OF_CASES: dict[str, Callable[[Result], bool]] = {
    "no samples": lambda r: r.case.input_shape[0] == 0,
    "axis of no cells": lambda r: 0 in r.case.input_shape[2:],
    "transposed, groups": lambda r: r.case.spec.transposed and r.case.spec.groups > 1,
    "transposed, same": lambda r: r.case.spec.transposed and r.case.spec.padding == "same",
}


def counted() -> dict[str, Any]:
    """What is stored."""
    stored: dict[str, Any] = json.loads(STORE.read_text("utf-8"))
    return stored


def condensed(report: Report, cases: Collection[str]) -> dict[str, Any]:
    """The counts of a run over these cases.

    Raises:
        SystemExit: where one of the cases is missing for an adapter, or something is unexpected.
    """
    wanted = set(cases)
    results = [result for result in report.results if result.case.id in wanted]
    for request in sorted({result.request for result in results}):
        missing = wanted - {result.case.id for result in results if result.request == request}
        if missing:
            raise SystemExit(f"{request}: {len(missing)} cases of features are in none of the reports")
    unexpected = [result for result in results if result.unexpected]
    if unexpected:
        raise SystemExit(f"{len(unexpected)} results are unexpected, the first is of {unexpected[0].request}")
    return {
        "cases": sorted(wanted),
        "versions": report.environment["versions"],
        "support": _counts((r, name) for r in results if r.case.data == "exact" for name in _features(r)),
        "runs": _counts((r, f"{r.case.dtype} {_ran(r)}") for r in results),
        "classes": _classes(results),
        "seconds": _seconds(results),
    }


def added(old: Any, new: Any) -> Any:
    """Two condensed runs of different cases as one: numbers are summed, lists of words joined."""
    if isinstance(old, dict):
        return {
            key: added(old[key], new[key]) if key in old and key in new else {**old, **new}[key]
            for key in {**old, **new}
        }
    if isinstance(old, list):
        return sorted({*old, *new})
    return round(old + new, 1) if isinstance(old, int | float) else new


def replaced(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Counts in which the adapters of ``new``, of the same cases, stand in the place of their old ones.

    Raises:
        SystemExit: where the others were counted with other versions.
    """
    differ = [name for name, version in new["versions"].items() if old["versions"].get(name, version) != version]
    if differ or old["cases"] != new["cases"]:
        raise SystemExit(f"the others were counted with other cases or versions ({', '.join(differ)}): make support")
    return {key: {**old[key], **new[key]} if isinstance(old[key], dict) else new[key] for key in old}


def _features(result: Result) -> Iterator[str]:
    """Of the outputs: the layer's features, layout and dtype; of the gradients only whose they are."""
    if result.direction != "forward":
        yield f"gradient of {result.direction}"
        return
    case = result.case
    yield from ("", case.dtype)
    if case.dtype == "float32":
        yield from (name for name in matrix.features(result) if name not in (case.dtype, case.device, "exact data"))
        yield from (name for name, holds in _OF_CASES.items() if holds(result))


def _ran(result: Result) -> str:
    return "gradients" if result.direction != "forward" else "probes" if result.case.data == "probe" else "outputs"


def _kind(result: Result) -> str:
    """``native``, ``composed``, ``unsupported``, or ``gap`` and its name."""
    if result.gap is not None:
        return f"gap {result.gap}"
    return "unsupported" if result.verdict == "unsupported" else result.support


def _counts(entries: Iterator[tuple[Result, str]]) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, Counter[str]]] = {}
    for result, name in entries:
        found.setdefault(result.request, {}).setdefault(name, Counter())[_kind(result)] += 1
    return {
        request: {name: dict(sorted(counts.items())) for name, counts in sorted(rows.items())}
        for request, rows in sorted(found.items())
    }


def _classes(results: list[Result]) -> dict[str, dict[str, list[str]]]:
    """The accuracy class that the probes measured, by adapter and dtype; more than one where they differ by layer."""
    found: dict[str, dict[str, set[str]]] = {}
    for result in results:
        if result.accuracy_class is not None and result.verdict == "agree":
            found.setdefault(result.request, {}).setdefault(result.case.dtype, set()).add(result.accuracy_class)
    return {
        request: {dtype: sorted(names) for dtype, names in sorted(rows.items())}
        for request, rows in sorted(found.items())
    }


def _seconds(results: list[Result]) -> dict[str, float]:
    spent: defaultdict[str, float] = defaultdict(float)
    for result in results:
        spent[result.request] += result.seconds
    return {request: round(seconds, 1) for request, seconds in sorted(spent.items())}


def main() -> None:
    """Condense the reports that are named, or add one of new cases, or print those."""
    words = sys.argv[1:]
    cases = {case.id: case for case in corpora.load("features")}
    if words == ["--new"]:
        sys.stdout.write(
            "".join(f"{case.to_json()}\n" for name, case in cases.items() if name not in counted()["cases"])
        )
        return
    option = words[0] if words[:1] in (["--add"], ["--adapters"]) else ""
    if not words[bool(option) :]:
        raise SystemExit(f"usage: {sys.argv[0]} [--add | --adapters] REPORT.json … | --new")
    report = load.merge([load.load(path) for path in words[bool(option) :]])
    if option == "--adapters":
        found = replaced(counted(), condensed(report, cases))
    elif option:
        old = counted()
        new = condensed(report, cases.keys() - set(old["cases"]))
        if {**old["versions"], **new["versions"]} != old["versions"] or new["support"].keys() != old["support"].keys():
            raise SystemExit("counts of other adapters or versions do not add up: make support")
        found = added(old, new)
    else:
        found = condensed(report, cases)
    STORE.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    sys.stdout.write(f"{len(found['cases'])} cases of {', '.join(found['support'])}\n")


if __name__ == "__main__":
    main()

"""The site's table of support, and of the run that it was counted from, from ``docs/_data/support.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import support

from convspec.cli.reports.matrix import LAYER_FEATURES

Table = Callable[[tuple[str, ...], list[tuple[object, ...]]], str]

DTYPES = ("float64", "float32", "float16", "bfloat16")
_EDGES = ("transposed, groups", "transposed, same", "no samples", "axis of no cells")
_ROWS = (*LAYER_FEATURES, *_EDGES, "NCHW", "NHWC", *DTYPES, *(f"gradient of {x}" for x in ("input", "kernel", "bias")))
_SHARES = ("native", "composed", "unsupported", "gap")


def shares(counts: Mapping[str, int]) -> dict[str, int]:
    """How many results are native, composed, unsupported, and under any gap."""
    gaps = sum(number for kind, number in counts.items() if kind.startswith("gap "))
    return {kind: counts.get(kind, 0) for kind in _SHARES[:3]} | {"gap": gaps}


def told(counts: Mapping[str, int]) -> str:
    """``native`` where all are, else counts: ``310 n, 40 c, 2 u, 6 g``."""
    found = {kind: number for kind, number in shares(counts).items() if number}
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{number} {kind[0]}" for kind, number in found.items()) or "–"


def versions(stored: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(stored["versions"].items()))


def support_table(table: Table) -> str:
    """Every feature on every adapter and variant."""
    stored = support.counted()
    names = list(stored["support"])
    rows: list[tuple[object, ...]] = [
        (feature, *(told(stored["support"][name].get(feature, {})) for name in names)) for feature in _ROWS
    ]
    return f"Counted with {versions(stored)}.\n\n" + table(("", *(f"`{name}`" for name in names)), rows)


def run_tables(table: Table) -> str:
    """The run behind it: results by adapter, dtype and kind of check, the gaps met, the accuracy classes."""
    stored = support.counted()
    rows: list[tuple[object, ...]] = []
    gaps: dict[tuple[str, str], int] = {}
    for name, runs in stored["runs"].items():
        for dtype in DTYPES:
            found = {what: runs.get(f"{dtype} {what}", {}) for what in ("outputs", "probes", "gradients")}
            cells = [told(counts) for counts in found.values()]
            rows.append((f"`{name}`", dtype, *cells, ", ".join(stored["classes"].get(name, {}).get(dtype, "–"))))
            for counts in found.values():
                for kind, number in counts.items():
                    if kind.startswith("gap "):
                        gaps[name, kind[4:]] = gaps.get((name, kind[4:]), 0) + number
    total = sum(sum(counts.values()) for runs in stored["runs"].values() for counts in runs.values())
    met: list[tuple[object, ...]] = [(f"`{key[0]}`", f"`{key[1]}`", number) for key, number in sorted(gaps.items())]
    seconds: list[tuple[object, ...]] = [(f"`{name}`", spent) for name, spent in stored["seconds"].items()]
    return (
        f"{total:,} results with {versions(stored)}: {sum(gaps.values()):,} under declared gaps, nothing else.\n\n"
        + table(("adapter", "dtype", "outputs", "probes", "gradients", "accuracy class"), rows)
        + "\n## Gaps met\n\n"
        + table(("adapter", "gap", "results"), met)
        + "\n## Time\n\nBuilding and running, in one worker's seconds; oracle, judging and start-up not counted.\n\n"
        + table(("adapter", "seconds"), seconds)
    )

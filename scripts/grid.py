"""The grid: kernel × stride × padding × output_padding × dilation × groups × transposed, on any adapters.

``python scripts/grid.py --cells`` prints its cases; ``make grid`` checks them, resuming where it was, and calls
``python scripts/grid.py REPORT.json``, which stores every adapter's verdicts in ``docs/_data/grid.json``. Adapters
that are not in the report keep what is stored. Where an adapter was stored with other versions, the cells that differ
are stored too. The site's page is written from the file.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from convspec import Case, ConvSpec, SpecError
from convspec.cli.reports import load
from convspec.conformance import Report

STORE = Path(__file__).parents[1] / "docs" / "_data" / "grid.json"
KERNELS = ((1, 1), (3, 3), (2, 3), (5, 4), (1, 3), (4, 2))
STRIDES = ((1, 1), (2, 2), (1, 3), (4, 2))
PADDINGS = (0, 1, ((0, 1), (2, 0)), "same")
DILATIONS = ((1, 1), (2, 2), (1, 3))
GROUPS = (1, 2, 4)
OUTPUT_PADDINGS = (0, 1, (0, 1))
CHANNELS, OUTPUTS, SIZE = 4, 8, (13, 14)
MARKS = {"agree": "✓", "unsupported": "–", "gap": "gap", "unexpected": "✗"}
AXES = ("kernel", "stride", "padding", "output_padding", "dilation", "groups", "transposed")


def cells() -> Iterator[Case]:
    """Every combination that is a layer, each layer once, on one input size that fits all of them."""
    met = set()
    every = itertools.product(KERNELS, STRIDES, PADDINGS, DILATIONS, GROUPS, (False, True), OUTPUT_PADDINGS)
    for kernel, stride, padding, dilation, groups, transposed, extra in every:
        if extra and not transposed:
            continue
        try:
            spec = ConvSpec(
                CHANNELS, OUTPUTS, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
                transposed=transposed, output_padding=extra,
            )  # fmt: skip
        except SpecError:
            continue
        if spec in met:  # "same" at a stride of 1 is a padding in numbers
            continue
        met.add(spec)
        row = (kernel, stride, padding, extra, dilation, groups, transposed)
        yield Case(spec, (1, CHANNELS, *SIZE), name="; ".join(map(str, row)))


def counted(report: Report, stored: dict[str, Any]) -> dict[str, Any]:
    """What is stored, with the verdicts of the report's adapters: the worst over layouts and data.

    Raises:
        SystemExit: where an adapter has results of other cases than the grid's.
    """
    names = {case.id: case.name for case in cells()}
    found: dict[str, dict[str, str]] = {}
    ranks = list(MARKS)
    for result in report.results:
        state = "unexpected" if result.unexpected else "gap" if result.gap else result.verdict
        own = found.setdefault(result.request, {})
        if result.case.id not in names:
            raise SystemExit(f"{result.case} is not a cell of the grid")
        name = names[result.case.id]
        own[name] = max(state, own.get(name, state), key=ranks.index)
    versions = report.environment["versions"]
    old = stored.get("adapters", {})
    new = {
        name: {
            "versions": dict(versions),
            "cells": rows,
            "changed": _changed(old.get(name), rows, versions),
        }
        for name, rows in found.items()
    }
    return {"cells": list(names.values()), "adapters": dict(sorted({**old, **new}.items()))}


def _changed(old: dict[str, Any] | None, rows: dict[str, str], versions: dict[str, str]) -> list[list[str]]:
    """Cells whose verdict is another than with the versions before; kept where the versions are the same."""
    if old is None:
        return []
    if old["versions"] == versions:
        kept: list[list[str]] = old["changed"]
        return kept
    return [[name, old["cells"][name], state] for name, state in rows.items() if old["cells"].get(name, state) != state]


def page() -> str:
    """What was run, what changed, and the matrix with a field that filters its rows."""
    stored: dict[str, Any] = json.loads(STORE.read_text("utf-8"))
    total, adapters = len(stored["cells"]), stored["adapters"]
    legend = "✓ agrees, – is unsupported, *gap* fails as declared, ✗ is unexpected"
    lines = [f"The grid has {total:,} cells, each checked in both layouts: {legend}.\n"]
    for name, own in adapters.items():
        states = list(own["cells"].values())
        counts = ", ".join(f"{states.count(state):,} {mark}" for state, mark in MARKS.items() if state in states)
        done = "" if len(states) == total else f" – the run reached {len(states):,} cells"
        versions = ", ".join(f"{package} {version}" for package, version in sorted(own["versions"].items()))
        lines.append(f"* `{name}` ({versions}): {counts}{done}")
        lines += [f"  * {cell}: {before} became {after}" for cell, before, after in own["changed"]]
    head = "".join(f"<th>{escape(word)}</th>" for word in (*AXES, *adapters))
    rows = (
        "".join(
            f"<td>{escape(word)}</td>" for word in (*cell.split("; "), *(_mark(a, cell) for a in adapters.values()))
        )
        for cell in stored["cells"]
    )
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return "\n".join([*lines, "", _TABLE.replace("HEAD", head).replace("BODY", body)])


def _mark(own: dict[str, Any], cell: str) -> str:
    return MARKS.get(own["cells"].get(cell, ""), "")


_TABLE = """```{raw} html
<p><label>Show rows with all of these words:
<input id="grid-words" size="50" placeholder="(2, 3) same True gap"></label></p>
<div style="overflow-x:auto"><table id="grid"><thead><tr>HEAD</tr></thead><tbody>
BODY
</tbody></table></div>
<script>
const text = (row) => [...row.cells].map((cell) => cell.textContent).join(" | ");
const rows = [...document.querySelectorAll("#grid tbody tr")].map((row) => [row, text(row)]);
document.getElementById("grid-words").addEventListener("input", (event) => {
  const words = event.target.value.match(/\\([^)]*\\)|\\S+/g) || [];
  for (const [row, shown] of rows) row.hidden = !words.every((word) => shown.includes(word));
});
</script>
```
"""


def main() -> None:
    if sys.argv[1:] == ["--cells"]:
        sys.stdout.write("".join(f"{case.to_json()}\n" for case in cells()))
        return
    if not sys.argv[1:]:
        raise SystemExit(f"usage: {sys.argv[0]} --cells | REPORT.json …")
    report = load.merge([load.load(path) for path in sys.argv[1:]])
    stored = json.loads(STORE.read_text("utf-8")) if STORE.exists() else {}
    STORE.write_text(json.dumps(counted(report, stored), indent=0, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()

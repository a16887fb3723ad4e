"""The results of a gate: lines for the terminal, Markdown for a pull request, JUnit and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convspec.cli.reports import formats
from convspec.cli.reports.formats import Entry, md
from convspec.errors import printable

if TYPE_CHECKING:
    from convspec.cli.gate import Outcome

_SHOWN = 20  # unexpected findings of one check
_RESULTS = ("passed", "failed", "error")
_MARKS = {"passed": "✅", "failed": "❌", "error": "⚠️"}
_STYLES = {"passed": "", "failed": "red", "error": "red"}


def document(file: str, status: int, outcomes: Sequence[Outcome], stale: Sequence[str]) -> dict[str, Any]:
    """Return the JSON document of schema ``convspec.gate/1``."""
    return {
        "schema": "convspec.gate/1", "file": file, "status": status, "summary": _counts(outcomes),
        "stale": list(stale), "checks": [outcome.to_dict() for outcome in outcomes],
    }  # fmt: skip


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    counts = Counter(outcome.result for outcome in outcomes)
    return {result: counts[result] for result in _RESULTS}


def conclusion(outcomes: Sequence[Outcome]) -> str:
    """Return the number of checks with each result: ``3 checks: 2 passed, 1 failed``."""
    counts = [f"{n} {result}" for result, n in _counts(outcomes).items() if n]
    known = sum(len(outcome.known) for outcome in outcomes)
    counts += [f"{known} known finding{'s' * (known != 1)}"] * bool(known)
    return f"{len(outcomes)} check{'s' * (len(outcomes) != 1)}: {', '.join(counts)}"


def _summary(outcome: Outcome) -> str:
    known = f" ({len(outcome.known)} known)" if outcome.known else ""
    return f"{printable(outcome.summary, 300)}{known}"


def lines(outcomes: Sequence[Outcome], stale: Sequence[str]) -> list[tuple[str, str]]:
    """Return the table, what is unexpected, and the conclusion, with their styles."""
    rows = [(one.result, one.command, printable(one.name, 60), _summary(one)) for one in outcomes]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    shown = [
        ("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]), _STYLES[row[0]])
        for row in rows
    ]
    for one in outcomes:
        findings = [f"{one.name}: {node}: {kind}: {title}" for node, kind, title in one.unexpected]
        shown += [(printable(line, 600), "") for line in findings[:_SHOWN]]
        shown += [(f"… and {len(findings) - _SHOWN} more", "")] * (len(findings) > _SHOWN)
    shown += [(printable(f"the baseline accepts what no longer occurs: {line}", 600), "yellow") for line in stale]
    good = all(one.result == "passed" for one in outcomes)
    return [*shown, (conclusion(outcomes), "bold green" if good else "bold red")]


def markdown(outcomes: Sequence[Outcome], stale: Sequence[str]) -> str:
    """Return a summary in GitHub's Markdown: the table, then the unexpected findings of each check."""
    rows = [(_MARKS[one.result], one.name, one.command, one.subject, _summary(one)) for one in outcomes]
    text = [f"## convspec gate: {md(conclusion(outcomes))}", ""]
    text += formats.md_table(("", "check", "command", "of", "result"), rows)
    for one in outcomes:
        if one.unexpected:
            text += ["", f"### {_MARKS[one.result]} {md(one.name)}", ""]
            text += [f"* {md(f'{node}: {kind}: {title}')}" for node, kind, title in one.unexpected[:_SHOWN]]
            text += [f"* … and {len(one.unexpected) - _SHOWN} more"] * (len(one.unexpected) > _SHOWN)
    text += ["", *(f"* the baseline accepts what no longer occurs: {md(line)}" for line in stale)] if stale else []
    return "\n".join(text) + "\n"


def junit(file: str, outcomes: Sequence[Outcome]) -> str:
    """Return one test case for each check."""
    entries = []
    for one in outcomes:
        failures = [(kind, f"{node}: {title}") for node, kind, title in one.unexpected]
        failures += [("error", one.summary)] * (one.result == "error")
        entries.append(Entry(f"convspec.gate.{one.command}", one.name, failures, seconds=one.seconds))
    return formats.junit(file, entries)

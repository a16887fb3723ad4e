"""A run on the terminal: the table of verdicts, the unexpected results, and the commands that reproduce them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from convspec.cli.terminal import print_line
from convspec.conformance import (
    Report,
    Result,
    Tally,
    conclusion,
    count_rows,
    reproduction,
    rounding_lines,
    table_lines,
)

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 100
_MESSAGE = 6  # lines of an exception's message


def show(report: Report, console: Console) -> None:
    """Print table, roundings of quantised layers, gaps, notes, unexpected results and the conclusion."""
    rows = count_rows(report.results)
    header, *lines = table_lines(rows, console.width)
    print_line(console, header, "bold")
    for row, line in zip(rows.values(), lines, strict=True):
        print_line(console, line, "red" if row.counts["unexpected"] else "")
    for number, line in enumerate(rounding_lines(report.results)):
        if not number:
            console.print()
        print_line(console, line, "" if number else "bold")
    for tally in report.gaps:
        if tally.status != "unmatched":
            print_line(console, gap_line(tally))
    for note in notes(report):
        print_line(console, note)
    for name, reason in report.absent.items():
        print_line(console, skipped(name, reason), "yellow")
    for result in report.results:
        if result.evidence.get("first", {}).get("verdict", result.verdict) != result.verdict:
            print_line(console, f"rerun alone: {result}; {before(result)}", "yellow")
    failures = [item for item in report.unexpected if isinstance(item, Result)]
    for result in failures[:_SHOWN]:
        console.print()
        for number, line in enumerate(failure(result)):
            print_line(console, line, "bold red" if number == 0 else "")
    if len(failures) > _SHOWN:
        console.print()
        print_line(console, f"… and {len(failures) - _SHOWN} more; --json FILE has them all", "bold red")
    console.print()
    for sentence in report.missing:
        print_line(console, f"unfinished: {sentence}", "bold red")
    print_line(console, conclusion(report), "bold red" if report.unexpected else "bold green")


def notes(report: Report) -> list[str]:
    """Sentences on a saved run – what was left out – and on outputs: how many are recorded, left out, equal."""
    evidence = [result.evidence for result in report.results]
    saved = [entry["record"] for entry in evidence if isinstance(entry.get("record"), dict)]
    compared = [entry["recorded"] for entry in evidence if isinstance(entry.get("recorded"), dict)]
    sentences = [*report.notes]
    if saved:
        left_out = Counter(str(entry["left_out"]) for entry in saved if "left_out" in entry)
        reasons = ", ".join(f"{number} × {reason}" for reason, number in left_out.items())
        total = left_out.total()
        sentences.append(
            f"record: {len(saved) - total} outputs saved, {total} left out" + f": {reasons}" * bool(reasons)
        )
    if compared:
        equal = sum(entry.get("differing") == 0 for entry in compared)
        sentences.append(f"replay: {equal} of {len(compared)} outputs are bit-for-bit equal to the recorded ones")
    replayed = report.environment.get("replay")
    if isinstance(replayed, dict) and (without := replayed.get("without")):
        reasons = ", ".join(f"{number} × {reason}" for reason, number in sorted(without.items()))
        sentences.append(f"replay: recorded results without an output, not compared: {reasons}")
    return sentences


def failure(result: Result) -> list[str]:
    """The wrong and the right value, the cause, and the command that reproduces it."""
    return [*evidence_lines(result), *_diagnosis(result), f"  reproduce  {reproduction(result)}"]


def _diagnosis(result: Result) -> list[str]:
    """The error position, and the known mistakes that give these numbers."""
    location, lines = result.evidence.get("location"), []
    if isinstance(location, dict):
        lines.append(f"  where      {location.get('where')}")
        lines += [f"             {row}" for row in location.get("picture", ())]
    for finding in result.evidence.get("findings", ()):
        lines.append(f"  mistake    {finding.get('title')} [{finding.get('id')}]: {finding.get('fix')}")
    return lines


def evidence_lines(result: Result) -> list[str]:
    """The wrong and the right value; the first line is the summary."""
    case, evidence = result.case, result.evidence
    lines = [f"{result.subject}: {result.verdict} – {result.reason}", f"  spec       {case.spec!r}"]
    lines.append(f"  input      {case.input_shape}, seed {case.seed}" + (f"  ({case.name})" if case.name else ""))
    lines.append(f"  support    {result.support}" + (f": {result.support_reason}" if result.support_reason else ""))
    if "index" in evidence:
        source = "recorded" if "recorded" in evidence else "expected"
        lines.append(f"  value      {source} {evidence.get('expected')}, got {evidence.get('got')}")
        lines.append(f"  index      {tuple(evidence['index'])}, canonical order (N, C, …)")
    if "wrong" in evidence:
        lines.append(f"  wrong      {evidence['wrong']} of {evidence.get('total')} elements")
    if "bound" in evidence:
        unit = evidence.get("unit", "u*G")
        lines.append(f"  error      {evidence.get('worst_q')}, bound {evidence['bound']}, in {unit}")
    if isinstance(recorded := evidence.get("recorded"), dict):
        by, device, verdict = (recorded.get(key) for key in ("by", "device", "verdict"))
        lines.append(f"  recorded   by {by} on {device}, with verdict {verdict}")
    lines += [f"  message    {line}" for line in str(evidence.get("message", "")).splitlines()[1:_MESSAGE] if line]
    lines += [f"  last words {line}" for line in str(evidence.get("last_words", "")).splitlines()]
    if "first" in evidence:
        lines.append(f"  before     {before(result)}")
    return lines


def skipped(name: str, reason: str) -> str:
    """The line on an adapter that did not run: it is not installed, cannot be imported, or its device is missing."""
    if "cannot be imported: " in reason or "cannot be used: " in reason:
        return f"skipped: {reason}"
    return f"skipped: {name}: {reason}" if " on " in name else f"skipped (not installed): {name}: {reason}"


def before(result: Result) -> str:
    """The earlier verdict on the same result, in a worker that had run other cases."""
    first = result.evidence["first"]
    return f"{first['verdict']} ({first['reason']}) in a process that had run other cases"


def gap_line(tally: Tally) -> str:
    """The number of results that a gap covers, and its reason."""
    gap = tally.gap
    text = f"gap {gap.id} ({tally.adapter}, {gap.kind}): {tally.failed} results; {gap.reason}"
    if tally.unexpected:
        example = ", ".join(f"{key} {value}" for key, value in tally.example.items())
        state = f"is {tally.status.upper()}: {tally.passed} matching results agree"
        text = f"gap {gap.id} ({tally.adapter}) {state}, {example}"
    return f"{text} {gap.link}".rstrip()

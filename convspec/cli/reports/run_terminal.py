"""A report for people: the matrix of verdicts, what is unexpected, and the lines that reproduce it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from convspec.conformance import Report, Result, Tally, describe, record_notes, reproduction, what
from convspec.errors import printable
from convspec.reference import VERDICTS

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"agree": "green", "disagree": "red", "unsupported": "dim", "error": "red", "crash": "red", "timeout": "red"}
_SHOWN = 100
_MESSAGE = 6  # lines of an exception's message


def show(report: Report, console: Console) -> None:
    """Print everything that a person wants to know after a run."""
    console.print(matrix(report))
    for line in _gap_lines(report):
        plain(console, line)
    for sentence in notes(report):
        plain(console, sentence)
    for name, reason in report.absent.items():
        plain(console, f"absent: {name}: {reason}", "yellow")
    for result in report.results:
        if result.evidence.get("first", {}).get("verdict", result.verdict) != result.verdict:
            plain(console, f"run again alone: {describe(result)}; {before(result)}", "yellow")
    failures = [item for item in report.unexpected if isinstance(item, Result)]
    for result in failures[:_SHOWN]:
        console.print()
        for number, line in enumerate(failure(result)):
            plain(console, line, "bold red" if number == 0 else "")
    if len(failures) > _SHOWN:
        plain(console, f"\n… and {len(failures) - _SHOWN} more; --json FILE has them all", "bold red")
    console.print()
    for sentence in report.missing:
        plain(console, f"unfinished: {sentence}", "bold red")
    plain(console, conclusion(report), "bold red" if report.unexpected else "bold green")


def notes(report: Report) -> list[str]:
    """What there is to say of a record that was made or replayed: what is kept, left out, equal."""
    told = record_notes(result.evidence for result in report.results)
    replayed = report.environment.get("replay")
    if isinstance(replayed, dict) and (without := replayed.get("without")):
        reasons = ", ".join(f"{number} × {reason}" for reason, number in without.items())
        told.append(f"replay: recorded results without an output, not compared: {reasons}")
    return told


def matrix(report: Report) -> Table:
    """One row for each adapter and layout (and dtype and device, where there are several), counts by verdict."""
    parts: dict[tuple[str, ...], _Row] = {}
    for result in report.results:
        parts.setdefault(_key(result), _Row()).take(result)
    varied = [n for n in range(len(_KEYS)) if n < 2 or len({key[n] for key in parts}) > 1]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n in varied:
        table.add_column(_KEYS[n])
    for title in (*VERDICTS, "declared gap", "unexpected", "seconds"):
        table.add_column(title, justify="right")
    probed = any(row.classes for row in parts.values())
    if probed:
        table.add_column("class")
    for key, row in parts.items():
        table.add_row(*(Text(key[n]) for n in varied), *row.cells(), *([row.measured()] if probed else []))
    return table


@dataclass(slots=True)
class _Row:
    """What the results of one row come to."""

    counts: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    unexpected: int = 0
    seconds: float = 0.0
    classes: set[str] = field(default_factory=set)

    def take(self, result: Result) -> None:
        self.counts[result.verdict] += 1
        self.gaps += result.gap is not None
        self.unexpected += result.unexpected
        self.seconds += result.seconds
        if result.accuracy_class:
            self.classes.add(result.accuracy_class)

    def cells(self) -> list[Text]:
        verdicts = [_count(self.counts[name], _STYLES[name]) for name in VERDICTS]
        declared, unexpected = _count(self.gaps, "yellow"), _count(self.unexpected, "bold red")
        return [*verdicts, declared, unexpected, Text(f"{self.seconds:.1f}")]

    def measured(self) -> Text:
        return Text(", ".join(sorted(self.classes)))


_KEYS = ("adapter", "layout", "dtype", "device", "precision", "direction")


def _key(result: Result) -> tuple[str, ...]:
    case = result.case
    return (_adapter(result), case.layout, case.dtype, case.device, result.precision, result.direction)


def failure(result: Result) -> list[str]:
    """What went wrong, what was right, why, and the line that reproduces it."""
    return [*evidence_lines(result), *_explained(result), f"  reproduce  {reproduction(result)}"]


def _explained(result: Result) -> list[str]:
    """Where the error lives, and the known mistakes that give these numbers."""
    place, lines = result.evidence.get("location"), []
    if isinstance(place, dict):
        lines.append(f"  where      {place.get('where')}")
        lines += [f"             {row}" for row in place.get("picture", ())]
    for finding in result.evidence.get("findings", ()):
        lines.append(f"  mistake    {finding.get('title')} [{finding.get('id')}]: {finding.get('fix')}")
    return lines


def evidence_lines(result: Result) -> list[str]:
    """What went wrong and what would have been right; the first line says it in short."""
    case, evidence = result.case, result.evidence
    lines = [f"{subject(result)}: {result.verdict} – {result.reason}", f"  spec       {case.spec!r}"]
    lines.append(f"  input      {case.input_shape}, seed {case.seed}" + (f"  ({case.name})" if case.name else ""))
    lines.append(f"  support    {result.support}" + (f": {result.support_reason}" if result.support_reason else ""))
    if "index" in evidence:
        right = "was recorded" if "recorded" in evidence else "is right"
        lines.append(f"  got        {evidence.get('got')} where {evidence.get('expected')} {right}")
        lines.append(f"  index      {tuple(evidence['index'])}, canonical order (N, C, …)")
    if "wrong" in evidence:
        lines.append(f"  wrong      {evidence['wrong']} of {evidence.get('total')} elements")
    if "bound" in evidence:
        lines.append(
            f"  error      {evidence.get('worst_q')}, bound {evidence['bound']}, in {evidence.get('unit', 'u*G')}"
        )
    if isinstance(told := evidence.get("recorded"), dict):
        lines.append(f"  recorded   by {told.get('by')} on {told.get('device')}, {told.get('verdict')} over there")
    lines += [f"  message    {line}" for line in str(evidence.get("message", "")).splitlines()[1:_MESSAGE] if line]
    lines += [f"  last words {line}" for line in str(evidence.get("last_words", "")).splitlines()]
    if "first" in evidence:
        lines.append(f"  before     {before(result)}")
    return lines


def subject(result: Result) -> str:
    """What was run, but for the layer: adapter, layout, dtype, data and device."""
    case = result.case
    return f"{_adapter(result)} {case.layout} {case.dtype} {what(result)} on {case.device}"


def before(result: Result) -> str:
    """How a result had ended in a worker that had done others before."""
    first = result.evidence["first"]
    return f"{first['verdict']} ({first['reason']}) in a process that had run others before"


def conclusion(report: Report) -> str:
    """The last line: how much was checked, and whether anything is unexpected."""
    counts = ", ".join(f"{report.summary[v]} {v}" for v in VERDICTS if report.summary[v])
    seconds = report.environment.get("seconds")
    timing = f" in {seconds:.1f} s" if seconds is not None else ""
    what = f"{report.summary['unexpected']} unexpected" if report.unexpected else "nothing unexpected"
    return f"{len(report.results)} results{timing}: {counts or 'none'}; {what}"


def _adapter(result: Result) -> str:
    """The adapter's name, with the variant where one was asked for."""
    return result.request if result.request.startswith(f"{result.adapter}:") else result.adapter


def _count(number: int, style: str) -> Text:
    return Text(str(number), style) if number else Text("·", "dim")


def _gap_lines(report: Report) -> list[str]:
    return [gap_line(tally) for tally in report.gaps if tally.status != "unmatched"]


def gap_line(tally: Tally) -> str:
    """How many results a gap stands for, and why it is there."""
    gap = tally.gap
    text = f"gap {gap.id} ({tally.adapter}, {gap.kind}): {tally.failed} results; {gap.reason}"
    if tally.unexpected:
        example = ", ".join(f"{key} {value}" for key, value in tally.example.items())
        state = f"is {tally.status.upper()}: {tally.passed} matching results agree"
        text = f"gap {gap.id} ({tally.adapter}) {state}, {example}"
    return f"{text} {gap.link}".rstrip()


def plain(console: Console, line: str, style: str = "") -> None:
    """A line as it is: no markup, no wrapping, so that commands can be copied; nothing that a terminal would obey."""
    lines = "\n".join(printable(part, None) for part in line.split("\n"))
    console.print(Text(lines, style), soft_wrap=True)

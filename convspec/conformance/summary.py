"""A run in short: a row of counts for each adapter and layout, and one sentence for the whole run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from convspec.errors import printable
from convspec.reference import VERDICTS

if TYPE_CHECKING:
    from convspec.conformance.results import Report, Result

_NAMES = ("adapter", "layout", "dtype", "device", "precision", "direction")
_ALWAYS = ("unexpected", "agree")
_COUNTS = (*_ALWAYS, "known", *(verdict for verdict in VERDICTS if verdict != "agree"))
_SHOWN = 10


@dataclass(slots=True)
class Row:
    """Counts over the results of one adapter and layout.

    Attributes:
        counts: by verdict; ``unexpected``, and ``known``: failures that a gap or the adapter's ``support`` declares.
        classes: the measured accuracy classes.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    classes: set[str] = field(default_factory=set)

    def add(self, result: Result) -> None:
        self.counts[result.verdict] += 1
        self.counts["unexpected"] += result.unexpected
        self.counts["known"] += result.verdict != "agree" and not result.unexpected
        self.seconds += result.seconds
        self.classes |= {result.accuracy_class} if result.accuracy_class else set()


def count_rows(results: Iterable[Result]) -> dict[tuple[str, ...], Row]:
    """A row for each adapter, layout, dtype, device, precision and direction."""
    found: dict[tuple[str, ...], Row] = {}
    for result in results:
        case = result.case
        key = (result.adapter_name, case.layout, case.dtype, case.device, result.precision, result.direction)
        found.setdefault(key, Row()).add(result)
    return found


def cells(table: dict[tuple[str, ...], Row], *, seconds: bool = True) -> tuple[list[list[str]], int]:
    """Header and rows as texts, without the columns that have no number; and how many columns are names."""
    names = [n for n in range(len(_NAMES)) if n < 2 or len({key[n] for key in table}) > 1]
    counts = [name for name in _COUNTS if name in _ALWAYS or any(row.counts[name] for row in table.values())]
    measured = any(row.classes for row in table.values())
    lines = [[*(_NAMES[n] for n in names), *counts, *["seconds"] * seconds, *["class"] * measured]]
    for key, row in table.items():
        numbers = [str(row.counts[name] or ("0" if name in _ALWAYS else "·")) for name in counts]
        time, classes = [f"{row.seconds:.1f}"] * seconds, [", ".join(sorted(row.classes))] * measured
        lines.append([*(key[n] for n in names), *numbers, *time, *classes])
    return lines, len(names)


def table_lines(table: dict[tuple[str, ...], Row], width: int) -> list[str]:
    """The table, header first; where ``width`` columns are too few, without the seconds, or else a sentence a row."""
    for seconds in (True, False):
        texts, names = cells(table, seconds=seconds)
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        if sum(widths) + 2 * (len(widths) - 1) <= width:
            left = [n < names or texts[0][n] == "class" for n in range(len(widths))]
            return [_align(line, widths, left) for line in texts]
    header, *body = texts
    return ["results by adapter and layout:", *(_sentence(header, line, names) for line in body)]


def _align(texts: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    padded = (t.ljust(n) if on else t.rjust(n) for t, n, on in zip(texts, widths, left, strict=True))
    return "  ".join(padded).rstrip()


def _sentence(header: Sequence[str], texts: Sequence[str], names: int) -> str:
    pairs = [*zip(header, texts, strict=True)][names:]
    return f"{' '.join(texts[:names])}: " + ", ".join(
        f"{title} {text}" if title == "class" else f"{text} {title}" for title, text in pairs if text not in ("·", "")
    )


def conclusion(report: Report) -> str:
    """The last line: how much was checked, agrees, is known to fail, and is unexpected."""
    total, summary = len(report.results), report.summary
    known = total - summary["agree"] - sum(result.unexpected for result in report.results)
    seconds = report.environment.get("seconds")
    timing = "" if seconds is None else f" in {seconds:.1f} s"
    parts = [f"{summary['agree']} agree", *[f"{known} known framework bugs and limits"] * bool(known)]
    return f"{total} results{timing}: {', '.join(parts)}, {summary['unexpected']} unexpected"


def text(report: Report, width: int) -> str:
    """The table, what is unexpected, and the conclusion."""
    found = [
        *table_lines(count_rows(report.results), width),
        *(f"unexpected: {item}" for item in report.unexpected[:_SHOWN]),
    ]
    if (more := len(report.unexpected) - _SHOWN) > 0:
        found.append(f"… and {more} more")
    found += [*(f"unfinished: {sentence}" for sentence in report.missing), *report.notes, conclusion(report)]
    return "\n".join(printable(line, None) for line in found)


def html(report: Report) -> str:
    """The table and the conclusion as HTML, for notebooks."""
    texts, _ = cells(count_rows(report.results))
    header, body = _html_row(texts[0], "th"), "".join(_html_row(line, "td") for line in texts[1:])
    return f"<table><thead>{header}</thead><tbody>{body}</tbody></table><p>{escape(conclusion(report))}</p>"


def _html_row(texts: Iterable[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in texts)}</tr>"

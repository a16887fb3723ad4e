"""A run as Markdown, JUnit and HTML, and the difference of two runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convspec.cli.reports import formats, matrix, run_terminal
from convspec.cli.reports.diff import Difference
from convspec.cli.reports.formats import Entry, md
from convspec.cli.reports.matrix import Matrix
from convspec.conformance import Report, Result, Tally, conclusion, reproduction
from convspec.layers import pictures

_MARKS = {"agree": "✅", "gap": "⚠️", "unsupported": "➖", "unexpected": "❌", "": ""}
_CASES = 300  # unexpected failures on a page, and as many covered by gaps
_EACH_GAP = 3


def markdown(report: Report) -> str:
    """A summary in GitHub's Markdown: the unexpected results, then the matrix."""
    lines = [f"## convspec check: {md(conclusion(report))}", ""]
    lines += [f"* unfinished: {md(sentence)}" for sentence in report.missing]
    lines += [f"* {md(sentence)}" for sentence in run_terminal.notes(report)]
    lines += [f"* {md(run_terminal.skipped(name, reason))}" for name, reason in report.absent.items()]
    lines += [f"* ❌ {md(item)}" for item in report.unexpected[: formats.ROWS]]
    if (more := len(report.unexpected) - formats.ROWS) > 0:
        lines.append(f"* … and {more} more")
    table = Matrix.of(report)
    rows = [
        (name or "all", *(_cell(row.get(adapter)) for adapter in table.adapters)) for name, row in table.rows.items()
    ]
    lines += ["", *formats.md_table(["", *map(md, table.adapters)], rows)]
    lines += ["", *(f"* {md(run_terminal.gap_line(tally))}" for tally in report.gaps if tally.status != "unmatched")]
    return "\n".join(lines) + "\n"


def _cell(counts: Any) -> str:
    return f"{_MARKS[matrix.worst(counts)]} {matrix.sentence(counts)}" if counts else ""


def junit(report: Report) -> str:
    """One test case for each result, and one for each gap that is too wide or closed."""
    return formats.junit("convspec check", [*_entries(report)])


def _entries(report: Report) -> Iterator[Entry]:
    for result in report.results:
        c = result.case
        words = (c.layout, c.dtype, c.device, result.data_title, result.precision, f"case {c.id}", c.name)
        name = " ".join(words)
        group, state = f"convspec.check.{result.request}", matrix.state(result)
        if state == "unexpected":
            details = run_terminal.failure(result)
            yield Entry(group, name, [(result.verdict, result.reason)], seconds=result.seconds, details=details)
        else:
            why = "" if state == "agree" else result.gap or result.support_reason
            yield Entry(group, name, skipped=f"{state}: {why}" if why else "", seconds=result.seconds)
    for item in report.unexpected:
        if isinstance(item, Tally):
            name = f"gap {item.gap.id}"
            yield Entry(f"convspec.check.{item.adapter}", name, [(item.status, run_terminal.gap_line(item))])


def page(report: Report) -> str:
    """A self-contained HTML page: the matrix, the failing cases with evidence, the gaps, the environment."""
    shown, left_out = _select(report)
    return formats.html(
        "run", title="convspec check", conclusion=conclusion(report), failed=bool(report.unexpected or report.missing),
        matrix=Matrix.of(report), parts=matrix.parts, cases=[_case(result) for result in shown], left_out=left_out,
        verdicts=sorted({result.verdict for result in shown}), missing=report.missing, notes=run_terminal.notes(report),
        gaps=[tally for tally in report.gaps if tally.status != "unmatched"], environment=environment(report),
        skipped=[run_terminal.skipped(name, reason) for name, reason in report.absent.items()],
    )  # fmt: skip


def _select(report: Report) -> tuple[list[Result], int]:
    """The failures to show – unexpected ones, then a few of each gap –, and the number of others."""
    failures = [result for result in report.results if matrix.state(result) in ("unexpected", "gap")]
    unexpected = [result for result in failures if result.unexpected]
    seen: dict[tuple[str, str | None], int] = {}
    declared = []
    for result in failures:
        if not result.unexpected and seen.setdefault((result.request, result.gap), 0) < _EACH_GAP:
            seen[result.request, result.gap] += 1
            declared.append(result)
    shown = [*unexpected[:_CASES], *declared[:_CASES]]
    return shown, len(failures) - len(shown)


def _case(result: Result) -> dict[str, Any]:
    """A failing case for the template."""
    evidence = result.evidence
    location = evidence.get("location") or {}
    _, _, *lines = run_terminal.evidence_lines(result)  # the head shows the first two
    return {
        "result": result, "state": matrix.state(result), "head": f"{result.subject} – {result.reason}",
        "features": " ".join(name.replace(" ", "_") for name in matrix.features(result)),
        "lines": [line.strip() for line in lines], "where": location.get("where", ""), "open": False,
        "picture": _draw(location), "findings": evidence.get("findings") or (),
        "reproduction": reproduction(result),
    }  # fmt: skip


def _draw(location: dict[str, Any]) -> str:
    """The error positions in the worst channel, as SVG that convspec has drawn and escaped."""
    from markupsafe import Markup

    rows = location.get("picture")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, str) for row in rows):
        return ""
    channel = location.get("channel") or (0, 0)
    return Markup(pictures.errors(rows, f"sample {channel[0]}, output channel {channel[1]}"))


def environment(report: Report) -> list[tuple[str, str]]:
    """Name and value of everything that the numbers may depend on."""
    rows = []
    for name, value in report.environment.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{name} {key}".strip(), _plain(entry)) for key, entry in entries]
    return rows


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


# -- two runs ----------------------------------------------------------------------------------------------------------


def difference_markdown(difference: Difference) -> str:
    """The differences in GitHub's Markdown."""
    return "\n".join(["## convspec report diff", "", *(f"* {md(line)}" for line in difference.lines())]) + "\n"


def difference_page(difference: Difference) -> str:
    """The differences as a self-contained HTML page."""
    sides = [dict(environment(report)) for report in (difference.old, difference.new)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return formats.html(
        "difference", title="convspec report diff", changed=difference.changed, difference=difference,
        conclusion=list(difference.lines())[-1],
        verdicts=[
            {**_case(b), "old": a.verdict, "new": b.verdict, "old_gap": a.gap, "new_gap": b.gap}
            for a, b in difference.verdicts[:_CASES]
        ],
        adapters=sorted({b.request for _, b in difference.verdicts}),
        kinds=sorted({b.verdict for _, b in difference.verdicts}),
        environment=[(name, sides[0].get(name, "–"), sides[1].get(name, "–")) for name in names],
    )  # fmt: skip

"""A run as Markdown, JUnit and HTML, and the difference of two runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from convspec.cli.reports import formats, matrix, run_terminal
from convspec.cli.reports.formats import Entry, md
from convspec.cli.reports.matrix import Matrix
from convspec.conformance import Report, Result, Tally, describe, reproduction, what
from convspec.layers import pictures

if TYPE_CHECKING:
    from convspec.cli.reports.diff import Difference

_MARKS = {"agree": "✅", "gap": "⚠️", "unsupported": "➖", "unexpected": "❌", "": ""}
_CASES = 300  # shown in full, and so many more of the failures that a gap declares
_EACH_GAP = 3


def markdown(report: Report) -> str:
    """A summary in GitHub's Markdown: what is unexpected, then the matrix."""
    lines = [f"## convspec check: {md(run_terminal.conclusion(report))}", ""]
    lines += [f"* unfinished: {md(sentence)}" for sentence in report.missing]
    lines += [f"* {md(sentence)}" for sentence in run_terminal.notes(report)]
    lines += [f"* absent: {md(name)}: {md(reason)}" for name, reason in report.absent.items()]
    lines += [f"* ❌ {md(describe(item))}" for item in report.unexpected[: formats.ROWS]]
    if (more := len(report.unexpected) - formats.ROWS) > 0:
        lines.append(f"* … and {more} more")
    found = Matrix.of(report)
    rows = [
        (name or "all", *(_cell(row[adapter]) if adapter in row else "" for adapter in found.adapters))
        for name, row in found.rows.items()
    ]
    lines += ["", *formats.md_table(["", *map(md, found.adapters)], rows)]
    lines += ["", *(f"* {md(run_terminal.gap_line(tally))}" for tally in report.gaps if tally.status != "unmatched")]
    return "\n".join(lines) + "\n"


def _cell(counts: Any) -> str:
    return f"{_MARKS[matrix.worst(counts)]} {matrix.told(counts)}"


def junit(report: Report) -> str:
    """One test case for each result, and one for each gap that is too wide or closed."""
    return formats.junit("convspec check", [*_entries(report)])


def _entries(report: Report) -> Iterator[Entry]:
    for result in report.results:
        case = result.case
        name = " ".join(
            (case.layout, case.dtype, case.device, what(result), result.precision, f"case {case.id}", case.name)
        )
        group, worth = f"convspec.check.{result.request}", matrix.state(result)
        if worth == "unexpected":
            details = "\n".join(run_terminal.failure(result))
            failures = [(result.verdict, result.reason)]
            yield Entry(group, name, failures, seconds=result.seconds, details=details)
        else:
            why = "" if worth == "agree" else result.gap or result.support_reason
            yield Entry(group, name, skipped=f"{worth}: {why}" if why else "", seconds=result.seconds)
    for item in report.unexpected:
        if isinstance(item, Tally):
            name = f"gap {item.gap.id}"
            yield Entry(f"convspec.check.{item.adapter}", name, [(item.status, run_terminal.gap_line(item))])


def page(report: Report) -> str:
    """A page of its own: the matrix, every failing case with its evidence, the gaps, the environment."""
    shown, left_out = _chosen(report)
    return formats.html(
        "run",
        title="convspec check",
        conclusion=run_terminal.conclusion(report),
        failed=bool(report.unexpected or report.missing),
        matrix=Matrix.of(report),
        parts=matrix.parts,
        cases=[_case(result) for result in shown],
        left_out=left_out,
        verdicts=sorted({result.verdict for result in shown}),
        gaps=[tally for tally in report.gaps if tally.status != "unmatched"],
        missing=report.missing,
        notes=run_terminal.notes(report),
        absent=report.absent,
        environment=environment(report),
    )


def _chosen(report: Report) -> tuple[list[Result], int]:
    """The failures that are shown: those that nobody declared, then a few for each gap; and how many are not."""
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
    """What a page shows of a failing case."""
    evidence = result.evidence
    place = evidence.get("location") or {}
    _, _, *lines = run_terminal.evidence_lines(result)  # the summary has what the first two say
    return {
        "result": result,
        "state": matrix.state(result),
        "features": " ".join(name.replace(" ", "_") for name in matrix.features(result)),
        "head": f"{run_terminal.subject(result)} – {result.reason}",
        "lines": [line.strip() for line in lines],
        "where": place.get("where", ""),
        "picture": _safe(_drawn(place)),
        "findings": evidence.get("findings") or (),
        "open": False,
        "reproduction": reproduction(result),
    }


def _drawn(place: dict[str, Any]) -> str:
    """Where the error lives, in the worst channel."""
    rows = place.get("picture")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, str) for row in rows):
        return ""
    channel = place.get("channel") or (0, 0)
    return pictures.errors(rows, f"sample {channel[0]}, output channel {channel[1]}")


def _safe(svg: str) -> Any:
    """SVG that convspec has drawn, and escaped, itself."""
    from markupsafe import Markup

    return Markup(svg)


def environment(report: Report) -> list[tuple[str, str]]:
    """What the numbers may depend on: name and value, line by line."""
    rows = []
    for name, value in report.environment.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{name} {key}".strip(), _plain(entry)) for key, entry in entries]
    return rows


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


# -- two runs ----------------------------------------------------------------------------------------------------------


def difference_markdown(found: Difference) -> str:
    """What changed, in GitHub's Markdown."""
    return "\n".join(["## convspec report diff", "", *(f"* {md(line)}" for line in found.lines())]) + "\n"


def difference_page(found: Difference) -> str:
    """What changed, as a page of its own."""
    sides = [dict(environment(report)) for report in (found.old, found.new)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return formats.html(
        "difference",
        title="convspec report diff",
        changed=found.changed,
        conclusion=list(found.lines())[-1],
        difference=found,
        verdicts=[_change(a, b) for a, b in found.verdicts[:_CASES]],
        adapters=sorted({b.request for _, b in found.verdicts}),
        kinds=sorted({b.verdict for _, b in found.verdicts}),
        environment=[(name, sides[0].get(name, "–"), sides[1].get(name, "–")) for name in names],
    )


def _change(old: Result, new: Result) -> dict[str, Any]:
    return {**_case(new), "old": old.verdict, "new": new.verdict, "old_gap": old.gap, "new_gap": new.gap}

"""A verification as Markdown, JUnit and HTML. Every name comes from a file of unknown origin, and is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convspec.cli.reports import formats
from convspec.cli.reports.formats import ROWS, Entry, md
from convspec.cli.reports.verify_terminal import changes, conclusion, layer, number, size
from convspec.errors import printable

if TYPE_CHECKING:
    from convspec.models import VerifyReport

_MARKS = {"agree": "✅", "unsupported": "⚠️"}


def markdown(report: VerifyReport) -> str:
    """A summary in GitHub's Markdown, the worst node first."""
    lines = [f"## convspec verify: {md(report.model)}", "", md(conclusion(report)), ""]
    if report.first_departure:
        lines += [f"First departure: {md(report.first_departure)}", ""]
    lines += [f"* {md(f'{node}: {name}: {title}')}" for node, name, title in report.unexpected[:ROWS]]
    rows = [
        (_MARKS.get(node.verdict, "❌"), node.name, layer(node), size(node.input_shape), node.verdict,
         number(node.worst_q), number(node.bound))
        for node in report.worst_first[:ROWS]
    ]  # fmt: skip
    lines += ["", *formats.md_table(("", "node", "layer", "input", "verdict", "error", "bound"), rows)]
    if len(report.nodes) > ROWS:
        lines.append(f"\n… and {len(report.nodes) - ROWS} more")
    return "\n".join([*lines, *(f"\n{md(line)}" for line in changes(report))]) + "\n"


def junit(report: VerifyReport) -> str:
    """One test case a node, and one for the model as a whole."""
    unexpected: dict[str, list[tuple[str, str]]] = {}
    for node, name, title in report.unexpected:
        unexpected.setdefault(node, []).append((name, title))
    entries = [*((node.name, node.op_type) for node in report.nodes), ("model", "graph")]
    cases = [Entry(f"convspec.verify.{kind}", name, unexpected.get(name, ())) for name, kind in entries]
    return formats.junit(report.model, cases)


def page(report: VerifyReport) -> str:
    """A page that needs nothing but itself: the nodes, worst first, to be filtered by words and verdict."""
    return formats.html(
        "verified",
        title=f"convspec verify: {printable(report.model)}",
        report=report,
        conclusion=conclusion(report),
        problems=report.unexpected[:ROWS],
        changes=changes(report),
        verdicts=sorted({node.verdict for node in report.nodes}),
        layer=layer,
        size=size,
        number=number,
        short=printable,
    )

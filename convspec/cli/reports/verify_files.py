"""Write a verification as Markdown, JUnit and HTML. Names come from files of unknown origin and are escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convspec.cli.reports import formats
from convspec.cli.reports.formats import ROWS, Entry, md
from convspec.errors import printable
from convspec.models.text_table import (
    conclusion,
    judged_words,
    layer_words,
    number_words,
    optimisation_changes,
    shape_words,
)

if TYPE_CHECKING:
    from convspec.models import VerifyReport

_MARKS = {"agree": "✅", "unsupported": "⚠️"}


def markdown(report: VerifyReport) -> str:
    """Return a summary in GitHub's Markdown, the worst node first."""
    lines = [f"## convspec verify: {md(report.model)}", "", md(conclusion(report)), ""]
    lines += [*map(md, judged_words(report)), ""]
    if report.first_divergence:
        lines += [f"First divergence: {md(report.first_divergence)}", ""]
    lines += [f"* {md(f'{node}: {name}: {title}')}" for node, name, title in report.unexpected[:ROWS]]
    rows = [
        (_MARKS.get(node.verdict, "❌"), node.name, layer_words(node), shape_words(node.input_shape), node.verdict,
         number_words(node.worst_q), number_words(node.bound))
        for node in report.worst_first[:ROWS]
    ]  # fmt: skip
    lines += ["", *formats.md_table(("", "node", "layer", "input", "verdict", "error", "bound"), rows)]
    if noisy := [(node.name, node.matched or "", f"{node.snr_db:.1f}") for node in report.noisiest_first[:ROWS]]:
        lines += ["", *formats.md_table(("node", "source", "signal over noise, dB"), noisy)]
    if len(report.nodes) > ROWS:
        lines.append(f"\n… and {len(report.nodes) - ROWS} more")
    return "\n".join([*lines, *(f"\n{md(line)}" for line in optimisation_changes(report))]) + "\n"


def junit(report: VerifyReport) -> str:
    """Return one test case per convolution and per other node that is wrong, and one for the model as a whole."""
    unexpected: dict[str, list[tuple[str, str]]] = {}
    for node, name, title in report.unexpected:
        unexpected.setdefault(node, []).append((name, title))
    entries = [(node.name, node.op_type) for node in report.nodes]
    entries += [(own.name, own.op_type) for own in report.operators.values() if own.verdict == "disagree"]
    entries.append(("model", "graph"))
    cases = [Entry(f"convspec.verify.{kind}", name, unexpected.get(name, ())) for name, kind in entries]
    return formats.junit(report.model, cases)


def page(report: VerifyReport) -> str:
    """Return a self-contained page: the nodes, worst first, filtered by text and verdict."""
    return formats.html(
        "verified", title=f"convspec verify: {printable(report.model)}", report=report, conclusion=conclusion(report),
        judged=judged_words(report),
        problems=report.unexpected[:ROWS], changes=optimisation_changes(report), layer=layer_words, size=shape_words,
        verdicts=sorted({node.verdict for node in report.nodes}), number=number_words, short=printable,
    )  # fmt: skip

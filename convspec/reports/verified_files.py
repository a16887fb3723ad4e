"""A verification as Markdown, JUnit and HTML. Every name comes from a file of unknown origin, and is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from convspec.reports.verified import changes, conclusion, layer, number, plain, size

if TYPE_CHECKING:
    from convspec.models.verification import Node, VerifyReport

_MARKS = {"agree": "✅", "unsupported": "⚠️"}
_ROWS = 200  # of a summary that a web site shows
_SPECIAL = set("\\`*_{}[]()<>#+-!|~&@$:/")


def markdown(report: VerifyReport) -> str:
    """A summary in GitHub's Markdown, the worst node first."""
    lines = [f"## convspec verify: {_md(report.model)}", "", _md(conclusion(report)), ""]
    if report.first_departure:
        lines += [f"First departure: {_md(report.first_departure)}", ""]
    lines += [f"* {_md(f'{node}: {name}: {title}')}" for node, name, title in report.unexpected[:_ROWS]]
    lines += ["", "| | node | layer | input | verdict | error | bound |", "|-|-|-|-|-|-|-|"]
    for node in report.worst_first[:_ROWS]:
        cells = (node.name, layer(node), size(node.input_shape), node.verdict, number(node.worst_q), number(node.bound))
        lines.append(f"| {_MARKS.get(node.verdict, '❌')} | {' | '.join(map(_md, cells))} |")
    if len(report.nodes) > _ROWS:
        lines.append(f"\n… and {len(report.nodes) - _ROWS} more")
    return "\n".join([*lines, *(f"\n{_md(line)}" for line in changes(report))]) + "\n"


def _md(text: object) -> str:
    return "".join(f"&#{ord(c)};" if c in _SPECIAL else c for c in plain(text, 500))


def junit(report: VerifyReport) -> str:
    """One test case a node, and one for the model as a whole."""
    unexpected: dict[str, list[tuple[str, str]]] = {}
    for node, name, title in report.unexpected:
        unexpected.setdefault(node, []).append((name, title))
    cases = []
    for name, kind in [*((node.name, node.op_type) for node in report.nodes), ("model", "graph")]:
        failures = "".join(
            f"<failure type={_attribute(i)} message={_attribute(t)}/>" for i, t in unexpected.get(name, [])
        )
        where = f"classname={_attribute(f'convspec.verify.{kind}')} name={_attribute(name)}"
        cases.append(f"  <testcase {where}>{failures}</testcase>")
    head = f'tests="{len(cases)}" failures="{len(unexpected)}" errors="0" name={_attribute(report.model)}'
    body = "\n".join(cases)
    suite = f" <testsuite {head}>\n{body}\n </testsuite>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n{suite}\n</testsuites>\n'


def _attribute(text: object) -> str:
    return quoteattr(plain(text, 500))


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;
vertical-align:top;overflow-wrap:anywhere}th{position:sticky;top:0;background:#fff}.agree{color:#116329}
.disagree,.error,.crash,.timeout{color:#b3261e;font-weight:600}.unsupported{color:#7a5900}small{color:#555}
input,select{font:inherit;padding:.3rem .5rem;margin:0 .5rem 1rem 0}
@media(prefers-color-scheme:dark){body,th{background:#141414;color:#eee}small{color:#aaa}.agree{color:#6fcf8b}
.disagree,.error,.crash,.timeout{color:#ff8a80}.unsupported{color:#ffd166}}
"""
_SCRIPT = """
const words=document.getElementById('words'),verdict=document.getElementById('verdict');
function filter(){const w=words.value.toLowerCase(),v=verdict.value;let n=0;
for(const row of document.querySelectorAll('tbody tr')){
const on=(!v||row.dataset.verdict===v)&&row.textContent.toLowerCase().includes(w);row.hidden=!on;n+=on;}
document.getElementById('count').textContent=n+' shown';}
words.addEventListener('input',filter);verdict.addEventListener('change',filter);filter();
"""


def page(report: VerifyReport) -> str:
    """A page that needs nothing but itself: the nodes, worst first, to be filtered by words and verdict."""
    verdicts = sorted({node.verdict for node in report.nodes})
    options = "".join(f"<option>{_h(v)}</option>" for v in verdicts)
    rows = "\n".join(_row(node) for node in report.worst_first)
    problems = "".join(f"<li>{_h(n)}: {_h(i)}: {_h(t)}</li>" for n, i, t in report.unexpected[:_ROWS])
    first = f"<p>First departure: <b>{_h(report.first_departure)}</b></p>" if report.first_departure else ""
    heads = "".join(
        f"<th scope='col'>{h}</th>" for h in ("node", "layer", "input", "verdict", "error / bound", "source", "notes")
    )
    more = "".join(f"<p>{_h(line)}</p>" for line in changes(report))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>convspec verify: {_h(report.model)}</title><style>{_STYLE}</style></head><body>
<h1>{_h(report.model)}</h1><p>{_h(conclusion(report))}</p>{first}<ul>{problems}</ul>{more}
<label>Filter <input id="words" type="search"></label>
<label>Verdict <select id="verdict"><option value="">all</option>{options}</select></label> <span id="count"></span>
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table><script>{_SCRIPT}</script></body></html>
"""


def _row(node: Node) -> str:
    said = [*(f"{f['id']}: {f['title']}" for f in (*node.findings, *node.notes))]
    reason = f"<br><small>{_h(node.reason)}</small>" if node.reason and node.verdict != "agree" else ""
    cells: Iterable[str] = (
        f"{_h(node.name)}<br><small>{_h(node.op_type)}</small>", _h(layer(node)), _h(size(node.input_shape)),
        f"<span class='{_h(node.verdict)}'>{_h(node.verdict)}</span>{reason}",
        f"{_h(number(node.worst_q))} / {_h(number(node.bound))}", _h(node.matched or ""), "<br>".join(map(_h, said)),
    )  # fmt: skip
    return f"<tr data-verdict='{_h(node.verdict)}'>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _h(text: object) -> str:
    return html.escape(plain(text, 500), quote=True)

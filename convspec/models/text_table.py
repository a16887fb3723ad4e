"""Write comparisons, ports and verifications as text: lines with styles for terminals, and HTML for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from convspec.errors import printable

if TYPE_CHECKING:
    from convspec.models.comparison.results import Comparison, Row
    from convspec.models.porting import PortReport
    from convspec.models.verification.report import Node, VerifyReport

    Line: TypeAlias = tuple[str, str]

_STYLES = {"agree": "green", "not judged": "", "not run": "", "downstream": "yellow", "unsupported": "yellow"}
_LEVELS = {"error": "red", "warning": "yellow"}
_WIDEST = 44
_SHOWN = 60  # nodes of a verification
_STEPS = 3


class Text(NamedTuple):
    """A result in words: one line, a table whose first row has the headings, and lines; a style for each."""

    headline: str
    rows: list[tuple[list[str], str]]
    lines: list[Line]


class Printable:
    """A result that prints as the text that its command shows, with a table in notebooks."""

    __slots__ = ()

    def _text(self) -> Text:
        raise NotImplementedError

    def styled_lines(self) -> Iterator[Line]:
        """Return the lines that the command prints, each with its style on a terminal with colours."""
        text = self._text()
        yield from zip(table([cells for cells, _ in text.rows]), (style for _, style in text.rows), strict=True)
        yield "", ""
        yield from ((printable(line, None), style) for line, style in text.lines)

    def __str__(self) -> str:
        return "\n".join(line for line, _ in self.styled_lines())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {printable(self._text().headline)}>"

    def _repr_html_(self) -> str:
        text = self._text()
        (heads, _), *rows = [([escape(printable(cell, None)) for cell in cells], style) for cells, style in text.rows]
        parts = ["<table><thead><tr>", *(f"<th>{cell}</th>" for cell in heads), "</tr></thead><tbody>"]
        for cells, _ in rows:
            parts += ["<tr>", *(f"<td>{cell}</td>" for cell in cells), "</tr>"]
        lines = "\n".join(escape(printable(line, None)) for line, _ in text.lines)
        return f"{''.join(parts)}</tbody></table><pre>{lines}</pre>"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines of cells, long cells cut."""
    cells = [[_cut(printable(cell, None)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _path(path: str) -> str:
    """Return a path or –, shortened in the middle: names of one network differ at the end, those of parts before."""
    path = printable(path, None)
    if len(path) <= _WIDEST:
        return path or "–"
    return f"{path[: _WIDEST // 3]}…{path[_WIDEST // 3 + 1 - _WIDEST :]}"


# -- comparisons and ports ---------------------------------------------------------------------------------------------


def comparison(result: Comparison) -> Text:
    """Describe a comparison: all layers, what differs without an effect, and the verdict with its evidence."""
    ran = bool(result.outcomes)
    heads = ["", f"a: {result.names[0]}", f"b: {result.names[1]}", "settings", "weights"]
    heads += ["input", "output", "verdict"] if ran else []
    wrong = "yellow" if result.agrees else "bold red"
    rows = [(_row_cells(row, ran=ran), _STYLES.get(row.verdict, wrong)) for row in result.rows]
    lines = [(f"{note}.", "") for note in result.notes]
    lines += [(f"warning: {warning}", "yellow") for warning in result.warnings]
    lines += [(f"no effect on any result: {unused}", "yellow") for unused in result.unused]
    if result.verdict == "unknown":
        headline = f"Unknown: {result.unknown}"
        return Text(headline, [(heads, ""), *rows], [*lines, (f"{headline}.", "bold yellow")])
    if result.agrees:
        if result.unjudged:
            lines.append((f"Not judged by itself: {shorten(result.unjudged)}.", ""))
        if result.untried:
            lines.append((f"Not tried: {', '.join(result.untried)}.", ""))
        headline = agreement(result)
        return Text(headline, [(heads, ""), *rows], [*lines, (headline, "green")])
    headline = f"First divergence: {result.divergence}"
    lines.append((headline, "bold red"))
    if result.diagnosis is not None:
        from convspec.diagnosis import lines as diagnosis_lines

        lines += [("", ""), *((f"  {line}", style) for line, style in diagnosis_lines(result.diagnosis))]
    further = [row for row in result.rows if row.verdict == "diverges" and row is not result.first]
    lines += [(f"Diverges again at {row.label} ({row.a}): {row.reason}", "red") for row in further]
    if result.outcome is not None and result.outcome.reason not in headline:
        lines.append((f"Differ on {result.outcome.inputs}: {result.outcome.reason}.", "red"))
    return Text(headline, [(heads, ""), *rows], lines)


def agreement(result: Comparison) -> str:
    """Return the sentence for models that agree: the difference, what explains it, and what shows that."""
    proved = result.evidence == "proved"
    worst = max(result.outcomes, key=lambda one: (one.difference or 0.0) if proved else one.ratio)
    number = len(result.outcomes)
    count = f", on {number} inputs" if number > 1 else ""
    if not worst.difference:
        return f"The models agree: their results are equal{count}."
    if proved:
        how = "every step of both models is within its own rounding bound (proved)"
        more = "measured on" if result.runs else "as close, for their size, on"
        count = f"; {more} {number - 1} more input{'s' * (number > 2)}" if number > 1 else ""
    else:
        runs = f"{result.runs} perturbed run{'s' * (result.runs != 1)} of each model"
        how = f"rounding explains {worst.limit:.1e} (measured: {runs})"
    return f"The models agree: their results differ by at most {worst.difference:.1e}; {how}{count}."


def _row_cells(row: Row, *, ran: bool) -> list[str]:
    equal = "equal" if row.a and row.b else ""
    cells = [row.label, _path(row.a), _path(row.b), "; ".join(row.spec) or equal, "; ".join(row.weights) or equal]
    return cells + ([_difference(row.input), _difference(row.output), row.verdict] if ran else [])


def shorten(steps: Sequence[str]) -> str:
    """Return the first steps, and the number of the others."""
    more = f" and {len(steps) - _STEPS} more" if len(steps) > _STEPS else ""
    return f"{', '.join(steps[:_STEPS])}{more}"


def _difference(size: float | None) -> str:
    return "" if size is None else "0" if size == 0 else f"{size:.1e}"


def port(report: PortReport) -> Text:
    """Describe a port: which weights went where, and which did not."""
    rows = [([m.kind, _path(m.source), _path(m.target), m.how, "; ".join(m.notes)], "") for m in report.moves]
    lines = [(f"ambiguous: {problem}", "bold red") for problem in report.ambiguous]
    lines += [(f"no counterpart: {left}", "yellow") for left in report.left]
    lines += [(f"no effect on any result, not moved: {unused}", "yellow") for unused in report.unused]
    lines += [(f"not moved: {parameter}", "yellow") for parameter in report.unmoved]
    lines += [(f"warning: {warning}", "yellow") for warning in report.warnings]
    lines.append((report.summary, "green" if report.written and report.complete else "bold"))
    return Text(report.summary, [(["", *report.names, "matched by", ""], ""), *rows], lines)


# -- verifications -----------------------------------------------------------------------------------------------------


def verification(report: VerifyReport) -> Text:
    """Describe a verification: nodes, notes, the effects of optimisation, unexpected results, and the conclusion."""
    heads = ["node", "layer", "input", "verdict", "error", "bound"] + ["source"] * bool(report.against)
    rows = [(_node_cells(node)[: len(heads)], _STYLES.get(node.verdict, "red")) for node in report.nodes[:_SHOWN]]
    lines: list[Line] = []
    if (more := len(report.nodes) - _SHOWN) > 0:
        lines.append((f"… and {more} more; the HTML and JSON reports have them all", ""))
    notes = [(node.name, note, note.get("level")) for node in report.nodes for note in node.notes]
    lines += [(_note(name, note), _LEVELS[level]) for name, note, level in notes if level in _LEVELS]
    lines += [(_note("model", note), _LEVELS.get(note.get("level", ""), "")) for note in report.notes]
    lines += [(line, "") for line in (*noise_table(report), *optimisation_changes(report))]
    lines += [(f"{_path(name)}: {kind}: {title}", "red") for name, kind, title in report.unexpected[:_SHOWN]]
    if report.first_divergence:
        lines.append((f"first divergence: {report.first_divergence}", "bold red"))
        first = [node for node in report.nodes if node.name == report.first_divergence]
        fixes = [finding["fix"] for node in first for finding in node.findings if finding.get("fix")]
        lines += [(f"fix: {fix}", "") for fix in dict.fromkeys(fixes)]
    words = conclusion(report)
    lines += [(line, "bold") for line in judged_words(report)]
    lines.append((words, "bold red" if report.unexpected else "bold green"))
    return Text(words, [(heads, ""), *rows], lines)


def noise_table(report: VerifyReport) -> list[str]:
    """Return the signal-to-noise ratio of each output of a quantised graph, the worst first."""
    rows = [[node.name, node.matched or "", f"{node.snr_db:.1f} dB"] for node in report.noisiest_first[:_SHOWN]]
    return table([["signal over noise", "source", ""], *rows]) if rows else []


def _node_cells(node: Node) -> list[str]:
    return [_path(node.name), layer_words(node), shape_words(node.input_shape), node.verdict,
            number_words(node.worst_q), number_words(node.bound), _path(node.matched or "")]  # fmt: skip


def _note(name: str, note: dict[str, str]) -> str:
    return f"{_path(name)}: {note['id']}: {note['title']}"


def optimisation_changes(report: VerifyReport) -> list[str]:
    """Return a line per level of optimisation that changed bits of the outputs, with the passes that did it."""
    lines = []
    for change in report.optimisation:
        level = f"optimisation {change['level']}" + (f" on {change['provider']}" * (change["provider"] != "CPU"))
        if change.get("problem"):
            lines.append(f"{level}: does not run: {change['problem']}")
        elif change["changed"]:
            size = f"by up to {change['largest']:.2g} of the largest output"
            passes = f", in {', '.join(change['passes'])}" if change["passes"] else ""
            lines.append(f"{level} changes {', '.join(change['changed'][:3])} {size}{passes}")
    return list(dict.fromkeys(lines))


def judged_words(report: VerifyReport) -> list[str]:
    """Return ``187 of 187 nodes judged: rounding, proved``, and the nodes that no reference can judge."""
    if not report.operators:
        return []
    judged, total = report.judged
    lines = [f"{judged} of {total} node{'s' * (total != 1)} judged: {report.rounding}"]
    if missing := report.not_judged:
        lines.append("not judged: " + ", ".join(f"{n} {name}" for name, n in sorted(missing.items())))
    return lines


def conclusion(report: VerifyReport) -> str:
    """Return the last line: ``2 convolutions: 1 agree, 1 disagree, 1 accepted, 0 unexpected``."""
    counts = [f"{n} {name}" for name, n in report.summary.items() if n and name != "convs"]
    accepted = len(report.problems()) - len(report.unexpected)
    counts += [f"{accepted} accepted"] * bool(accepted)
    size = len(report.nodes)
    return f"{size} convolution{'s' * (size != 1)}: {', '.join([*counts, f'{len(report.unexpected)} unexpected'])}"


def layer_words(node: Node) -> str:
    """Return the layer in few characters: ``3→16 k3×3 s2×2 g1``."""
    spec = node.spec
    if spec is None:
        return node.op_type
    words = [f"{spec.in_channels}→{spec.out_channels}", f"k{_times(spec.kernel_size)}"]
    words += [f"s{_times(spec.stride)}"] if set(spec.stride) != {1} else []
    words += [f"d{_times(spec.dilation)}"] if set(spec.dilation) != {1} else []
    words += [f"g{spec.groups}"] if spec.groups > 1 else []
    return " ".join([*words, "transposed"] if spec.transposed else words)


def shape_words(shape: Sequence[int | str] | None) -> str:
    """Return a shape as ``1×3×32×32``."""
    return "?" if shape is None else printable(_times(shape))


def _times(sizes: Sequence[int | str]) -> str:
    return "×".join(map(str, sizes))


def number_words(value: float | str | None) -> str:
    """Return a number in three digits, or –."""
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float | int) else str(value)

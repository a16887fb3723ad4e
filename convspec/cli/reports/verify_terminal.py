"""A verification for people at a terminal. Names come from files of unknown origin: they are shown, never obeyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from convspec.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.models import Node, VerifyReport

_STYLES = {"agree": "green", "unsupported": "yellow"}
_SHOWN = 60
_LEVELS = {"error": "red", "warning": "yellow"}


def show(report: VerifyReport, console: Console) -> None:
    """Print the table, the notes, what the optimisation changed, and the conclusion."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("node", "layer", "input", "verdict", "error", "bound"):
        table.add_column(title, overflow="fold")
    if report.against:
        table.add_column("source", overflow="fold")
    for node in report.nodes[:_SHOWN]:
        row = [Text(printable(node.name)), Text(layer(node)), Text(size(node.input_shape))]
        row += [
            Text(node.verdict, _STYLES.get(node.verdict, "red")),
            Text(number(node.worst_q)),
            Text(number(node.bound)),
        ]
        table.add_row(*row, *([Text(printable(node.matched or "–"))] if report.against else []))
    console.print(table)
    if len(report.nodes) > _SHOWN:
        _line(console, f"… and {len(report.nodes) - _SHOWN} more; --html and --json have them all")
    for node in report.nodes:
        for note in node.notes:
            if note.get("level") in _LEVELS:
                _line(console, f"{node.name}: {note['id']}: {note['title']}", _LEVELS[note["level"]])
    for note in report.notes:
        _line(console, f"model: {note['id']}: {note['title']}", _LEVELS.get(note.get("level", ""), ""))
    for line in changes(report):
        _line(console, line)
    for name, kind, title in report.unexpected[:_SHOWN]:
        _line(console, f"{name}: {kind}: {title}", "red")
    if report.first_departure:
        _line(console, f"first departure: {report.first_departure}", "bold red")
        first = next(node for node in report.nodes if node.name == report.first_departure)
        for fix in dict.fromkeys(f["fix"] for f in first.findings if f.get("fix")):
            _line(console, f"fix: {fix}")
    _line(console, conclusion(report), "bold red" if report.unexpected else "bold green")


def changes(report: VerifyReport) -> list[str]:
    """Which level of optimisation changed bits of the outputs, and by which passes: a line for each kind of change."""
    lines = []
    for change in report.optimisation:
        where = f"optimisation {change['level']}" + (f" on {change['provider']}" * (change["provider"] != "CPU"))
        if change.get("problem"):
            lines.append(f"{where}: does not run: {change['problem']}")
        elif change["changed"]:
            far = f"{change['largest']:.2g} of the largest output away from those without optimisation"
            by = ", ".join(change["passes"])
            lines.append(f"{where} changes the bits of {', '.join(change['changed'][:3])} by {by}: now {far}")
    return list(dict.fromkeys(lines))


def conclusion(report: VerifyReport) -> str:
    """The last line."""
    counts = ", ".join(f"{n} {name}" for name, n in report.summary.items() if n and name != "convs")
    known = len(report.problems()) - len(report.unexpected)
    what = f"{len(report.unexpected)} unexpected" if report.unexpected else "nothing unexpected"
    return f"{len(report.nodes)} convolutions: {counts or 'none'}; {what}" + (f", {known} accepted" if known else "")


def layer(node: Node) -> str:
    """The layer in few characters: ``3→16 k3×3 s2 p1 g1``."""
    spec = node.spec
    if spec is None:
        return node.op_type
    words = [f"{spec.in_channels}→{spec.out_channels} k{'×'.join(map(str, spec.kernel_size))}"]
    words += [f"s{'×'.join(map(str, spec.stride))}"] if set(spec.stride) != {1} else []
    words += [f"d{'×'.join(map(str, spec.dilation))}"] if set(spec.dilation) != {1} else []
    words += [f"g{spec.groups}"] if spec.groups > 1 else []
    return " ".join([*words, "transposed"] if spec.transposed else words)


def size(shape: list[int | str] | None) -> str:
    return "?" if shape is None else "×".join(printable(n) for n in shape)


def number(value: float | str | None) -> str:
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float | int) else str(value)


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text, 500), style), soft_wrap=True)

"""The text of ``show``: facts of a layer, or of a chain of layers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.text import Text

from convspec.layers import FEATURES, NAMES, drawing, sentences
from convspec.layers.sentences import times
from convspec.spec import ConvSpec

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 110
_STYLES = {drawing.READ: "bold green", drawing.READ_PAD: "yellow", drawing.PAD: "dim", drawing.CELL: "dim"}


def show(facts: dict[str, Any], console: Console) -> None:
    """Print the facts, without trailing blanks."""
    for line, style in _chain_lines(facts) if "layers" in facts else _lines(facts):
        text = Text(line.rstrip(), style)
        for sign, colour in _STYLES.items():
            text.highlight_words([sign], colour)
        console.print(text, soft_wrap=True)


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    spec = ConvSpec.from_dict(facts["spec"])
    yield repr(spec), "bold"
    yield facts["summary"], ""
    yield from _heading("What the numbers mean")
    for name, value, text in sentences.meanings(spec):
        yield f"  {name:15} {value:17} {text}", ""
    yield from _heading("Sizes")
    yield from _sizes(facts, sentences.parameter_formula(spec))
    yield from _heading("In the frameworks")
    yield from _written_lines(facts["frameworks"])
    yield from _drawn(facts, spec)


def _heading(text: str) -> Iterator[tuple[str, str]]:
    yield "", ""
    yield text, "bold"


def _sizes(facts: dict[str, Any], parameters: str) -> Iterator[tuple[str, str]]:
    if "input" in facts:
        yield f"  {'input':16} {times(facts['input'])}  ({facts['layout']})", ""
    for letter, formula in facts.get("sizes", {}).items():
        yield f"  {letter:>16} {formula}", ""
    if "output" in facts:
        yield f"  {'output':16} {times(facts['output'])}", ""
    yield f"  {'parameters':16} {parameters}", ""
    if "macs" in facts:
        yield f"  {'MACs':16} {facts['macs']:,}", ""
    if "receptive field" in facts:
        yield f"  {'receptive field':16} {sentences.field(facts)}", ""
    if "flatten" not in facts:
        return
    flat = facts["flatten"]
    yield f"  {'flatten':16} in_features = {flat['in_features']:,}", ""
    for name, axes in flat["axes"].items():
        yield f"  {name:>16} flattens ({axes}), the last axis fastest", ""
    first = ", ".join(map(str, flat["order of NHWC in NCHW"]))
    dots = ", …" if flat["in_features"] > FEATURES else ""
    yield f"  {'':16} the features of NHWC, by their index in NCHW: {first}{dots}", ""


def _written_lines(frameworks: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, entry in frameworks.items():
        reason = f": {entry['reason']}" if "reason" in entry else ""
        head = f"  {NAMES.get(name, name):9} {entry['layout']}, {entry['support']}{reason}"
        yield from ((line, "") for line in textwrap.wrap(head, _WIDTH, subsequent_indent=" " * 12))
        if "constructor" in entry:
            whole = [f"{'':12}{line}".rstrip() for line in entry.get("code", "").splitlines()]
            yield from ((line, "cyan") for line in whole or _folded(entry["constructor"]))
            yield f"            kernel of shape {_tuple(entry['kernel'])}, axes {entry['order']}", ""


def _folded(code: str) -> list[str]:
    """Return the call in lines that break between arguments only."""
    lines = [" " * 12]
    for part in re.split(r"(?<=,) (?=\w+=)", code):
        fits = len(lines[-1]) + len(part) < _WIDTH
        if not fits:
            lines.append(" " * 16)
        lines[-1] += part if not lines[-1].strip() else f" {part}"
    return lines


def _drawn(facts: dict[str, Any], spec: ConvSpec) -> Iterator[tuple[str, str]]:
    drawn = facts["drawing"]["lines"]
    if not drawn:
        return
    name, size = sentences.unit(spec.ndim), times(facts["drawing"]["input"])
    what = f"What one input {name} writes" if spec.transposed else f"What one output {name} reads"
    yield from _heading(f"{what}, for an input of {size} {name}s")
    for line in drawn:
        yield f"  {line}", ""
    yield f"  {drawing.legend(spec, drawn)}", ""


def _chain_lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    rows = [("", "layer", "output", "parameters", "MACs")]
    for number, entry in enumerate(facts["layers"]):
        macs = f"{entry['macs']:,}" if "macs" in entry else ""
        output = times(entry["output"]) if "output" in entry else ""
        rows.append((str(number), repr(ConvSpec.from_dict(entry["spec"])), output, f"{entry['parameters']:,}", macs))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [f"{c:>{w}}" if i > 2 else f"{c:{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        yield "  ".join(cells), "" if number else "bold"
    yield "", ""
    yield from _sizes(facts, f"{facts['parameters']:,}")


def _tuple(values: list[Any]) -> str:
    return str(values[0]) if len(values) == 1 else f"({', '.join(map(str, values))})"

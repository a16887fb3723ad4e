"""A diagnosis in words: lines of text, each with a style for terminals that have colours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from convspec.diagnosis.findings import Diagnosis, Finding
    from convspec.diagnosis.location import Location

    Lines: TypeAlias = Iterator[tuple[str, str]]

_WIDTH = 100
_LINKS = 3


def lines(diagnosis: Diagnosis) -> Lines:
    """What was found and how to mend it, or where the error lives."""
    if diagnosis.agrees:
        yield "The numbers are right: nothing to diagnose.", "bold green"
        return
    yield from _shapes(diagnosis)
    if diagnosis.location is not None:
        yield f"{diagnosis.location.sentence}.", ""
    if diagnosis.findings:
        yield _headline(len(diagnosis.findings)), "bold"
        first, *others = diagnosis.findings
        yield from _finding(first)
        for finding in others:
            yield from _other(finding, first)
        return
    yield from _wrapped("", _nothing(diagnosis), "bold red")
    if diagnosis.location is not None:
        yield from _picture(diagnosis.location)
    if diagnosis.nearest:
        yield "The nearest, by the part of the elements that they leave unexplained:", ""
        for finding in diagnosis.nearest:
            yield f"  {finding.wrong:6.1%}  {finding.what} [{finding.id}]", ""


def _shapes(diagnosis: Diagnosis) -> Lines:
    expected, actual = diagnosis.shapes
    if expected != actual:
        yield f"The shape is {actual} where {expected} is right (N, C, then the spatial axes).", ""


def _headline(count: int) -> str:
    if count == 1:
        return "One known mistake gives exactly these numbers:"
    return f"{count} explanations give exactly these numbers; this input cannot tell them apart:"


def _nothing(diagnosis: Diagnosis) -> str:
    text = f"None of the {diagnosis.tried} mistakes and pairs of mistakes that were tried gives these numbers."
    return text if diagnosis.complete else f"{text} The time ran out before all pairs were: give it more seconds."


def _finding(finding: Finding) -> Lines:
    how = "to the last bit" if finding.exact else f"within rounding, {finding.distance:.2g} of the bound"
    yield "", ""
    yield f"{finding.title} [{finding.id}]", "bold red"
    yield from _wrapped("what: ", f"{finding.what} ({how})", "")
    for kind in finding.mistakes:
        yield from _wrapped("why:  ", kind.explanation, "")
        yield from _wrapped("fix:  ", kind.fix, "green")
        for link in kind.evidence[:_LINKS]:
            yield f"  seen: {link}", "dim"


def _other(finding: Finding, first: Finding) -> Lines:
    """An explanation besides the first: only what is not said yet."""
    yield "", ""
    yield f"Or: {finding.title} [{finding.id}]", "bold red"
    yield from _wrapped("what: ", finding.what, "")
    for kind in finding.mistakes:
        if kind not in first.mistakes:
            yield from _wrapped("fix:  ", kind.fix, "green")


def _picture(place: Location) -> Lines:
    yield f"Sample {place.channel[0]}, channel {place.channel[1]}; darker is further off:", ""
    for row in place.picture:
        yield f"  {row}", ""


def _wrapped(label: str, text: str, style: str) -> Lines:
    indent = "  " if label else ""
    after = " " * len(indent + label)
    for line in textwrap.wrap(text, _WIDTH, initial_indent=indent + label, subsequent_indent=after):
        yield line, style

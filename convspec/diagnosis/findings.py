"""The result of a diagnosis, as data and as text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, TypeAlias, overload

from convspec.diagnosis.error_location import Location
from convspec.diagnosis.evidence import Distance
from convspec.diagnosis.mistakes.catalogue import Mistake

Lines: TypeAlias = Iterator[tuple[str, str]]

_WIDTH = 100
_LINKS = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One explanation of the numbers.

    Attributes:
        mistakes: one mistake, or two made at once.
        what: what exactly is wrong, one phrase per mistake.
        measured: distance of the simulated numbers from the actual ones.
        layer: the wrong :class:`Layer`, whose ``output()`` simulates it; of a quantised layer an ``Integers``.
    """

    mistakes: tuple[Mistake, ...]
    what: str
    measured: Distance
    layer: Any = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The ids of the mistakes, joined by ``+``."""
        return "+".join(kind.id for kind in self.mistakes)

    @property
    def title(self) -> str:
        return " – and: ".join(kind.title for kind in self.mistakes)

    @property
    def fix(self) -> str:
        return " ".join(kind.fix for kind in self.mistakes)

    @property
    def distance(self) -> float:
        """The largest |actual - simulated| in units of the rounding bound; an explanation has at most 1."""
        return self.measured.worst

    @property
    def exact(self) -> bool:
        """Whether the simulated numbers, rounded once, are the actual ones to the last bit."""
        return self.measured.exact

    @property
    def wrong(self) -> float:
        """Fraction of the elements that the simulation does not explain."""
        return self.measured.wrong

    def __str__(self) -> str:
        return "\n".join(line for line, _ in _finding(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the finding, JSON-ready."""
        return {
            "id": self.id, "title": self.title, "what": self.what, "exact": self.exact,
            "distance": self.distance if math.isfinite(self.distance) else str(self.distance),
            "unexplained": self.wrong, "why": [kind.explanation for kind in self.mistakes],
            "fix": [kind.fix for kind in self.mistakes],
            "frameworks": sorted({name for kind in self.mistakes for name in kind.frameworks}),
            "evidence": [link for kind in self.mistakes for link in kind.evidence],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diagnosis(Sequence[Finding]):
    """The result of a diagnosis; as a sequence, its findings, likeliest first.

    Attributes:
        agrees: whether the numbers are right; then there are no findings.
        findings: the mistakes that give exactly these numbers.
        nearest: the closest mistakes, if none gives exactly these numbers.
        location: error position; None if the numbers are right or the shape is wrong.
        tried: number of wrong layers simulated.
        complete: False if the time limit ended the search before every pair of mistakes was tried.
        shapes: the expected and the actual shape, ``(N, O, *out)``.
    """

    agrees: bool
    findings: tuple[Finding, ...] = ()
    nearest: tuple[Finding, ...] = ()
    location: Location | None = None
    tried: int = 0
    complete: bool = True
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        return "\n".join(line for line, _ in lines(self))

    def _repr_html_(self) -> str:
        if not self.findings and not self.nearest:
            return f"<pre>{escape(str(self))}</pre>"
        summary = "".join(f"<p>{escape(line)}</p>" for line, _ in _summary(self))
        head = "".join(f"<th>{name}</th>" for name in ("mistake", "what", "fix", "unexplained", "seen in"))
        rows = "".join(f"<tr>{_html_cells(finding)}</tr>" for finding in self.findings or self.nearest)
        return f"{summary}<table><tr>{head}</tr>{rows}</table>"

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis, JSON-ready."""
        place = self.location
        return {
            "schema": "convspec.diagnosis/1", "agrees": self.agrees, "tried": self.tried, "complete": self.complete,
            "expected_shape": list(self.shapes[0]), "actual_shape": list(self.shapes[1]),
            "location": None if place is None else place.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "nearest": [finding.to_dict() for finding in self.nearest],
        }  # fmt: skip


def lines(diagnosis: Diagnosis) -> Lines:
    """Yield the text of a diagnosis, each line with a style: the findings and fixes, or the error position."""
    yield from _summary(diagnosis)
    if diagnosis.findings:
        first, *others = diagnosis.findings
        yield "", ""
        yield from _finding(first)
        for finding in others:
            yield from _alternative(finding, first)
        return
    if diagnosis.location is not None:
        sample, channel = diagnosis.location.channel
        yield f"Errors of sample {sample}, channel {channel} (darker: larger):", ""
        yield from ((f"  {row}", "") for row in diagnosis.location.picture)
    if diagnosis.nearest:
        yield "Nearest mistakes, with the fraction of elements that each leaves unexplained:", ""
        for finding in diagnosis.nearest:
            yield f"  {finding.wrong:6.1%}  {finding.what} [{finding.id}]", ""


def _summary(diagnosis: Diagnosis) -> Lines:
    """Yield shapes, error position and the number of explanations."""
    expected, actual = diagnosis.shapes
    count = len(diagnosis.findings)
    if diagnosis.agrees:
        yield "The numbers are right: nothing to diagnose.", "bold green"
        return
    if expected != actual:
        yield f"The shape is wrong: expected {expected}, got {actual} (N, C, then the spatial axes).", ""
    if diagnosis.location is not None:
        yield f"{diagnosis.location.sentence}.", ""
    if count:
        several = f"{count} explanations give exactly these numbers; this input cannot tell them apart:"
        yield "One known mistake gives exactly these numbers:" if count == 1 else several, "bold"
        return
    yield f"None of the {diagnosis.tried} simulated mistakes and pairs of mistakes gives these numbers.", "bold red"
    if not diagnosis.complete:
        yield "The time limit was reached before all pairs were tried: allow more seconds.", "bold red"


def _finding(finding: Finding) -> Lines:
    how = "to the last bit" if finding.exact else f"within rounding, {finding.distance:.2g} of the bound"
    if finding.distance > 1:
        how = f"leaves {finding.wrong:.1%} of the elements unexplained"
    yield f"{finding.title} [{finding.id}]", "bold red"
    yield from _wrap("  what: ", f"{finding.what} ({how})", "")
    for kind in finding.mistakes:
        yield from _wrap("  why:  ", kind.explanation, "")
        yield from _wrap("  fix:  ", kind.fix, "green")
        for link in kind.evidence[:_LINKS]:
            yield f"  seen: {link}", "dim"


def _alternative(finding: Finding, first: Finding) -> Lines:
    """Yield an explanation besides the first, without the text that both share."""
    yield "", ""
    yield f"Or: {finding.title} [{finding.id}]", "bold red"
    yield from _wrap("  what: ", finding.what, "")
    for kind in finding.mistakes:
        if kind not in first.mistakes:
            yield from _wrap("  fix:  ", kind.fix, "green")


def _wrap(label: str, text: str, style: str) -> Lines:
    indent = " " * len(label)
    for line in textwrap.wrap(text, _WIDTH, initial_indent=label, subsequent_indent=indent):
        yield line, style


def _html_cells(finding: Finding) -> str:
    texts = (f"{finding.title} [{finding.id}]", finding.what, finding.fix, f"{finding.wrong:.1%}")
    links = [link for kind in finding.mistakes for link in kind.evidence[:_LINKS]]
    anchors = ", ".join(f'<a href="{link}">{link.removeprefix("https://github.com/")}</a>' for link in links)
    return "".join(f"<td>{cell}</td>" for cell in (*map(escape, texts), anchors))

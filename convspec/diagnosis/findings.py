"""What a diagnosis says."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, overload

if TYPE_CHECKING:
    from convspec.diagnosis.error_location import Location
    from convspec.diagnosis.evidence import Distance
    from convspec.diagnosis.faulty_layer import Layer
    from convspec.diagnosis.mistakes.catalogue import Mistake

    Lines: TypeAlias = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One explanation of the numbers.

    Attributes:
        mistakes: the one mistake, or the two, that were made.
        what: what exactly was done, one phrase a mistake.
        measured: how near the simulated numbers come to the actual ones.
        layer: the wrong layer; ``layer.output()`` simulates it.
    """

    mistakes: tuple[Mistake, ...]
    what: str
    measured: Distance
    layer: Layer = field(repr=False, compare=False)

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "id": self.id,
            "title": self.title,
            "what": self.what,
            "exact": self.exact,
            "distance": self.distance if math.isfinite(self.distance) else str(self.distance),
            "unexplained": self.wrong,
            "why": [kind.explanation for kind in self.mistakes],
            "fix": [kind.fix for kind in self.mistakes],
            "frameworks": sorted({name for kind in self.mistakes for name in kind.frameworks}),
            "evidence": [link for kind in self.mistakes for link in kind.evidence],
        }


@dataclass(frozen=True, slots=True)
class Diagnosis(Sequence[Finding]):
    """What the search found; as a sequence, its findings, likeliest first.

    Attributes:
        agrees: whether the numbers are right; then there is nothing to find.
        findings: the explanations: mistakes that give exactly these numbers.
        nearest: the candidates that came closest, for when nothing fits.
        location: where the error lives; None where the numbers are right or the shape is wrong.
        tried: how many wrong layers were simulated.
        complete: False where the time ran out before every pair of mistakes was tried.
        shapes: the right one and the actual one, ``(N, O, *out)``.
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        place = self.location
        return {
            "schema": "convspec.diagnosis/1",
            "agrees": self.agrees,
            "tried": self.tried,
            "complete": self.complete,
            "expected_shape": list(self.shapes[0]),
            "actual_shape": list(self.shapes[1]),
            "location": None if place is None else place.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "nearest": [finding.to_dict() for finding in self.nearest],
        }


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

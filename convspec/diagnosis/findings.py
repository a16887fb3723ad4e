"""What a diagnosis says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from convspec.diagnosis.catalogue import Mistake
    from convspec.diagnosis.evidence import Distance
    from convspec.diagnosis.layer import Layer
    from convspec.diagnosis.location import Location


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
        from convspec.diagnosis.words import lines

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

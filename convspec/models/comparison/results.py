"""The result of a comparison: the verdict, the results on each input, and the pairs of layers that explain it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from convspec.diagnosis import Diagnosis
from convspec.models import text_table
from convspec.models.comparison.outcomes import Outcome
from convspec.models.text_table import Printable, Text

_WRONG = ("diverges", "missing")


@dataclass(slots=True, repr=False)
class Row:
    """One pair of layers.

    Attributes:
        label: the kind and its number: ``conv 7``.
        a, b: the paths, empty where a model has no such layer.
        spec: the differences of the settings, a's value before b's.
        weights: the differences of the weights.
        input, output: the largest difference of the activations; None where unknown or of different shapes.
        verdict: ``agree``; ``diverges``: its output does not follow from its input; ``input_differs``: its input does
            not follow from the layers before it; ``downstream`` of one of those; ``missing``; ``not judged``;
            ``not run``.
        reason: of the verdict.
        diagnosis: of a convolution that diverges.
    """

    label: str
    a: str
    b: str
    spec: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    input: float | None = None
    output: float | None = None
    verdict: str = "not run"
    reason: str = ""
    diagnosis: Diagnosis | None = None

    def __str__(self) -> str:
        return ": ".join(filter(None, (f"{self.label} ({self.a or '–'}, {self.b or '–'})", self.verdict, self.reason)))

    def __repr__(self) -> str:
        return f"<Row {self.label}: {self.verdict}>"

    @property
    def place(self) -> str:
        """The label and the path: ``conv 7 (layer2.0.conv1)``."""
        return f"{self.label} ({self.a or self.b})"

    @property
    def differences(self) -> str:
        """What differs in settings and weights; else the reason of a verdict that is not fine."""
        return "; ".join(self.spec + self.weights) or (self.reason if self.verdict in _WRONG else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the row, JSON-ready."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return document | {"diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict()}


@dataclass(slots=True, repr=False)
class Comparison(Printable):
    """Two models compared: their results decide, their layers explain.

    Attributes:
        names: the two models' frameworks.
        rows: all layers, in the order of the first model's run.
        verdict: ``agree``: the results have the same number, order and shape, and differ by no more than rounding
            explains; ``differ``: they do not; ``unknown``: the models were not run, or rounding hides the answer.
        outcomes: the results on each input that was tried.
        evidence: what shows that rounding explains a difference: ``proved``, every step of both models is within its
            own bound; ``measured``, the models' own sensitivity; ``equal``, there is no difference.
        runs: how often each model was run with its numbers perturbed, to measure its sensitivity.
        unjudged: what stands between inputs and results and was not judged by itself.
        warnings: settings and weights that differ, although the results do not.
        unused: layers that have no effect on any result.
        untried: what the inputs cannot show.
        notes: further remarks.
        problem: why the models were not run.
    """

    names: tuple[str, str]
    rows: list[Row] = field(default_factory=list)
    verdict: str = "unknown"
    outcomes: list[Outcome] = field(default_factory=list)
    evidence: str = ""
    runs: int = 0
    unjudged: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the verdict is ``agree``."""
        return self.verdict == "agree"

    @property
    def output(self) -> float | None:
        """The largest difference of the results, on the inputs that decide; None where it is not known."""
        outcome = self.outcome
        return None if outcome is None else outcome.difference

    @property
    def outcome(self) -> Outcome | None:
        """The results that decide: the first that do not agree, else those on the given inputs."""
        return next((one for one in self.outcomes if one.verdict != "agree"), next(iter(self.outcomes), None))

    @property
    def unknown(self) -> str:
        """Why the verdict is ``unknown``; empty for another."""
        if self.verdict != "unknown":
            return ""
        return self.problem or (self.outcome.reason if self.outcome else "nothing was compared")

    @property
    def first(self) -> Row | None:
        """The first layer that diverges, or whose inputs differ; None where there is none."""
        return next((row for row in self.rows if row.verdict in ("diverges", "input_differs")), None)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The mistake in the first convolution that diverges."""
        return None if self.first is None else self.first.diagnosis

    @property
    def divergence(self) -> str:
        """Where and how the models diverge, in one sentence; empty unless they differ."""
        if self.verdict != "differ":
            return ""
        assert self.outcome is not None
        where = "" if self.outcome is self.outcomes[0] else f"on {self.outcome.inputs}: "
        return where + (self._layer_divergence() or f"after the last layer: {self.outcome.reason}")

    def _layer_divergence(self) -> str:
        first = self.first
        missing = next((row for row in self.rows if row.verdict == "missing"), None)
        if first is not None and (first.verdict == "diverges" or missing is None):
            hint = "" if first.verdict == "diverges" else self._settings_hint()
            return f"{'before ' if first.verdict == 'input_differs' else ''}{first.place}: {first.reason}{hint}"
        if missing is not None:
            return f"{missing.place}: {missing.reason}"
        differing = next((row for row in self.rows if row.spec or row.weights), None)
        return "" if differing is None else f"{differing.place}: {differing.differences}"

    def _settings_hint(self) -> str:
        rows = [row for row in self.rows if row.spec and row.verdict != "diverges"]
        return f"; settings differ in {rows[0].place}: {'; '.join(rows[0].spec)}" if rows else ""

    def _text(self) -> Text:
        return text_table.comparison(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison, JSON-ready."""
        return {
            "schema": "convspec.comparison/1", "models": list(self.names), "verdict": self.verdict,
            "agrees": self.agrees, "evidence": self.evidence, "runs": self.runs, "divergence": self.divergence,
            "problem": self.problem, "output": self.output,
            "outcomes": [outcome.to_dict() for outcome in self.outcomes], "unjudged": self.unjudged,
            "warnings": self.warnings, "unused": self.unused, "untried": self.untried, "notes": self.notes,
            "rows": [row.to_dict() for row in self.rows],
        }  # fmt: skip

"""Two models, layer by layer: specs, weights, activations, and the first layer that departs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convspec.models.comparison import layer_pair
from convspec.models.comparison.layer_check import Glue, furthest
from convspec.models.comparison.layer_pair import Row
from convspec.models.matching.layers import Pair, aligned
from convspec.models.run_model import Model, canonical, open_model

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from convspec.diagnosis import Diagnosis

    Inputs = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]

SECONDS = 20.0
FINE = ("agree", "downstream", "not judged", "not run")


@dataclass(slots=True)
class Comparison:
    """What two models have in common, and where they part.

    Attributes:
        names: of the two models' frameworks.
        rows: all layers, in the order of the first model's run.
        output: how far the models' results are apart; None where not seen, or of other shapes.
        notes: what else there is to know.
    """

    names: tuple[str, str]
    rows: list[Row]
    output: float | None = None
    notes: list[str] = field(default_factory=list)
    _after: str = ""

    @property
    def first(self) -> Row | None:
        """The first layer that departs, or is fed differently; None where there is none."""
        return next((row for row in self.rows if row.verdict in ("departs", "fed")), None)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Which mistake the first departing convolution makes."""
        return None if self.first is None else self.first.diagnosis

    @property
    def agrees(self) -> bool:
        """Whether every layer has its partner and, where the models were run, nothing departs anywhere."""
        static = any(row.verdict == "not run" and (row.spec or row.weights) for row in self.rows)
        return not static and not self._after and all(row.verdict in FINE for row in self.rows)

    @property
    def departure(self) -> str:
        """Where and how the models part, in one sentence; empty where they agree."""
        row = self.first
        if row is None:
            missing = next((row for row in self.rows if row.verdict == "missing"), None)
            static = next((row for row in self.rows if row.verdict == "not run" and (row.spec or row.weights)), None)
            found = missing or static
            if found is None:
                return self._after
            return f"{found.label} ({found.a or found.b}): {found.reason or '; '.join(found.spec + found.weights)}"
        if row.verdict == "fed":
            return f"before {row.label} ({row.a}): {row.reason}"
        return f"{row.label} ({row.a}): {row.reason}"

    def __str__(self) -> str:
        from convspec.models.text_table import comparison

        return "\n".join(line for line, _ in comparison(self))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema": "convspec.comparison/1",
            "models": list(self.names),
            "agrees": self.agrees,
            "departure": self.departure,
            "output": self.output,
            "notes": self.notes,
            "rows": [row.to_dict() for row in self.rows],
        }


def compare(
    a: Any,
    b: Any,
    inputs: Inputs | None = None,
    *,
    layouts: tuple[str | None, str | None] = (None, None),
    seconds: float = SECONDS,
    fold_pads: bool = False,
) -> Comparison:
    """Align the layers of two models of any two frameworks, run both, and find the first that departs.

    A layer departs where the output of b's is not, within the bound of rounding, what a's makes of the very input that
    b's was given. So a departure is not blamed on the layers behind it, and every departing layer is found at once.

    Args:
        a: the model that is right: a module, a model, ``(module, variables)``, a ``ModelProto`` or the path of one.
        b: the model that may be wrong, likewise.
        inputs: one array, or several in order or by name, in a's layout. None: specs and weights alone are compared.
        layouts: of the inputs that a and b take; None: the layout of the model's first convolution.
        seconds: for the search among pairs of mistakes in the first convolution that departs.
        fold_pads: whether a pad that stands right before a convolution is counted as the convolution's own, as by
            :func:`convspec.convs`.

    Raises:
        UnsupportedError: where a model cannot be looked into, or has no convolutions; says what it has.
        RequestError: where an object is no model that is known, or does not take the inputs.
    """
    first = open_model(a, inputs, layouts[0], fold_pads=fold_pads)
    second = open_model(b, inputs, layouts[1], layouts[0] or first.layout, fold_pads=fold_pads)
    return compared(first, second, seconds)


def compared(a: Model, b: Model, seconds: float = SECONDS) -> Comparison:
    """The comparison of two models that are open, and run where they are to be run."""
    found = Comparison((a.adapter.name, b.adapter.name), [])
    counts: dict[str, int] = {}
    glue = Glue()
    others = a.ordered("conv")
    for pair in aligned(a, b):
        part = pair.a or pair.b
        assert part is not None
        label = f"{part.kind} {counts.get(part.kind, 0)}"
        counts[part.kind] = counts.get(part.kind, 0) + 1
        found.rows += _rows(label, pair, a, b, glue, found, others, seconds)
    folds = [(pair.fold_a, pair.fold_b) for pair in aligned(a, b)]
    for place in (0, 1):
        count = sum(pair[place] is not None for pair in folds)
        if count:
            found.notes.append(f"{count} batch norms of model {'ab'[place]} are within the other model's kernels")
    found.notes += [f"{part.path}: {part.note}" for model in (a, b) for part in model.parts if part.note]
    _compare_outputs(a, b, glue, found)
    return found


def _rows(
    label: str, pair: Pair, a: Model, b: Model, glue: Glue, found: Comparison, others: list[Any], seconds: float
) -> list[Row]:
    """The rows of one pair: as many as there are calls."""
    if pair.a is None or pair.b is None:
        there, lacking = (pair.a, "b") if pair.a else (pair.b, "a")
        reason = f"model {lacking} has no such {there.kind} ({there.name})" if there else ""
        unseen = there is not None and there.function and a.adapter.name != b.adapter.name  # which sees no functions
        verdict = "not judged" if unseen else "missing"
        row = Row(label, pair.a.path if pair.a else "", pair.b.path if pair.b else "", verdict=verdict, reason=reason)
        return [row]
    static = layer_pair.static(label, pair, others)
    seen = layer_pair.calls(pair, a, b)
    if not seen:
        if a.executed:
            static.verdict, static.reason = "not judged", "one of the models did not call it, or not visibly"
        return [static]
    rows = []
    for number, both in enumerate(seen):
        row = static if number == 0 else layer_pair.static(f"{label} call {number + 1}", pair, others)
        judged = layer_pair.JUDGES[pair.a.kind](row, pair, both, a, b, glue)
        _settle(row, judged, glue, found)
        if row.verdict == "departs" and judged.diagnose is not None:
            row.diagnosis = judged.diagnose(seconds if found.first is None else 0.0)
            _explain(row)
        rows.append(row)
    return rows


def _settle(row: Row, judged: layer_pair.Judged, glue: Glue, found: Comparison) -> None:
    """The verdict, from what the layer did by itself and from what it was fed."""
    row.input, row.output = judged.input, judged.output
    strange = judged.input is None or not glue.explains(judged.input, judged.x)
    if judged.local.ok is False:
        row.verdict, row.reason = "departs", judged.reason or judged.local.reason
    elif strange and judged.local.ok is None and judged.input is None:
        row.verdict, row.reason = "not judged", judged.local.reason
    elif strange:
        row.verdict = "fed" if found.first is None else "downstream"
        row.reason = judged.fed if row.verdict == "fed" else ""
    else:
        row.verdict = "agree" if judged.local.ok else "not judged"
        row.reason = judged.local.reason
        glue.passed(judged.output, judged.x, judged.y)


def _explain(row: Row) -> None:
    """Put the first finding of the diagnosis into the reason."""
    assert row.diagnosis is not None
    static = "; ".join(row.spec)
    if len(row.diagnosis):
        named = row.diagnosis[0]
        row.reason = f"{named.id}: {named.what}" + (f" ({static})" if static else "")
    elif static or row.weights:
        row.reason = "; ".join([*row.spec, *row.weights])


def _compare_outputs(a: Model, b: Model, glue: Glue, found: Comparison) -> None:
    """Hold the models' results together where they have as many."""
    if not a.executed or not b.executed:
        return
    if len(a.outputs) != len(b.outputs):
        found.notes.append(f"the models have {len(a.outputs)} and {len(b.outputs)} results, which are not compared")
        return
    apart: list[float] = []
    for x, y in zip(a.outputs, b.outputs, strict=True):
        # as they are, or both brought to channels first: where sizes coincide, the shapes do not tell which
        both = furthest(x, y), furthest(canonical(x, a.layout), canonical(y, b.layout))
        distance = min((one for one in both if one is not None), default=None)
        if distance is None:
            found.notes.append(f"the results have shapes {x.shape} and {y.shape}")
            return
        apart.append(distance)
        if found.first is None and not glue.explains(distance, x):
            found._after = f"after the last layer: the results differ by up to {distance:.3g}"
    found.output = max(apart, default=None)

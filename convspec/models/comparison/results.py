"""Compare two models layer by layer: specs, weights, activations, and the first layer that diverges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convspec.models import text_table
from convspec.models.comparison.layer_check import ErrorPropagation, largest_difference
from convspec.models.comparison.layer_pair import JUDGES, CallCheck, Row, compare_unrun, pair_calls
from convspec.models.matching.layers import Pair, align
from convspec.models.run_model import Model, canonical, open_model
from convspec.models.text_table import Printable, Text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from convspec.contract import Part
    from convspec.diagnosis import Diagnosis

    Inputs = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]

SECONDS = 20.0
FINE = ("agree", "downstream", "not judged", "not run")


@dataclass(slots=True, repr=False)
class Comparison(Printable):
    """Two models compared layer by layer.

    Attributes:
        names: the two models' frameworks.
        rows: all layers, in the order of the first model's run.
        output: the largest difference of the models' results; None where unknown or of different shapes.
        notes: further remarks.
    """

    names: tuple[str, str]
    rows: list[Row]
    output: float | None = None
    notes: list[str] = field(default_factory=list)
    _after: str = ""

    @property
    def first(self) -> Row | None:
        """The first layer that diverges, or whose inputs differ; None where there is none."""
        return next((row for row in self.rows if row.verdict in ("diverges", "input_differs")), None)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """The mistake in the first convolution that diverges."""
        return None if self.first is None else self.first.diagnosis

    @property
    def agrees(self) -> bool:
        """Whether every layer has a counterpart and, where the models were run, nothing diverges."""
        return not self._after and all(row.verdict in FINE and not row.differs_unrun for row in self.rows)

    @property
    def divergence(self) -> str:
        """Where and how the models diverge, in one sentence; empty where they agree."""
        if (row := self.first) is not None:
            before = "before " if row.verdict == "input_differs" else ""
            return f"{before}{row.label} ({row.a}): {row.reason}"
        missing = [row for row in self.rows if row.verdict == "missing"]
        for row in [*missing, *(row for row in self.rows if row.differs_unrun)]:
            return f"{row.label} ({row.a or row.b}): {row.reason or '; '.join(row.spec + row.weights)}"
        return self._after

    def _text(self) -> Text:
        return text_table.comparison(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison, JSON-ready."""
        return {
            "schema": "convspec.comparison/1",
            "models": list(self.names),
            "agrees": self.agrees,
            "divergence": self.divergence,
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
    """Align the layers of two models of any two frameworks, run both, and find the first that diverges.

    A layer diverges where b's output is not, within the rounding bound, what a's layer computes from the input that b's
    layer read. So no layer is blamed for a divergence before it, and every diverging layer is found at once.

    Args:
        a: the model that is right: a module, a model, ``(module, variables)``, a ``ModelProto`` or the path of one.
        b: the model that may be wrong, likewise.
        inputs: one array, or several in order or by name, in a's layout. None: only specs and weights are compared.
        layouts: the layouts of a's and b's inputs; None: the layout of the model's first convolution.
        seconds: time limit for the search among pairs of mistakes in the first convolution that diverges.
        fold_pads: whether a pad right before a convolution counts as the convolution's own, as in
            :func:`convspec.convs`.

    Raises:
        UnsupportedError: if a model cannot be read or has no convolutions; the message names its layers.
        RequestError: if an object is not a known model, or does not take the inputs.
    """
    first = open_model(a, inputs, layouts[0], fold_pads=fold_pads)
    second = open_model(b, inputs, layouts[1], layouts[0] or first.layout, fold_pads=fold_pads)
    return compare_open(first, second, seconds)


def compare_open(a: Model, b: Model, seconds: float = SECONDS) -> Comparison:
    """Compare two models that are open, and run where they are to be run."""
    result = Comparison((a.adapter.name, b.adapter.name), [])
    counts: dict[str, int] = {}
    errors = ErrorPropagation()
    others = a.ordered("conv")
    pairs = align(a, b)
    for pair in pairs:
        part = pair.a or pair.b
        assert part is not None
        label = f"{part.kind} {counts.get(part.kind, 0)}"
        counts[part.kind] = counts.get(part.kind, 0) + 1
        _add_rows(result, label, pair, a, b, errors, others, seconds)
    for name, folds in zip("ab", zip(*((pair.fold_a, pair.fold_b) for pair in pairs), strict=True), strict=False):
        if count := sum(fold is not None for fold in folds):
            result.notes.append(f"{count} batch norms of model {name} are folded into the other model's kernels")
    result.notes += [f"{part.path}: {part.note}" for model in (a, b) for part in model.parts if part.note]
    _compare_outputs(a, b, errors, result)
    return result


def _add_rows(
    result: Comparison, label: str, pair: Pair, a: Model, b: Model, errors: ErrorPropagation, others: list[Part],
    seconds: float,
) -> None:  # fmt: skip
    """Add a row per call of one pair."""
    if pair.a is None or pair.b is None:
        result.rows.append(_lone_row(label, pair, a, b))
        return
    row = compare_unrun(label, pair, others)
    calls = pair_calls(pair, a, b)
    if not calls:
        if a.executed:
            row.verdict, row.reason = "not judged", "one of the models did not call it, or not visibly"
        result.rows.append(row)
    for number, call in enumerate(calls):
        if number:
            row = compare_unrun(f"{label} call {number + 1}", pair, others)
        check = JUDGES[pair.a.kind](row, pair, call, a, b, errors)
        first = result.first is None
        _settle(row, check, errors, first=first)
        if row.verdict == "diverges" and check.diagnose is not None:
            row.diagnosis = check.diagnose(seconds if first else 0.0)
            _explain(row)
        result.rows.append(row)


def _lone_row(label: str, pair: Pair, a: Model, b: Model) -> Row:
    """Return the row of a layer without a counterpart."""
    part, lacking = (pair.a, "b") if pair.a else (pair.b, "a")
    assert part is not None
    # only models of one framework are known to show the same functions
    verdict = "not judged" if part.function and a.adapter.name != b.adapter.name else "missing"
    return Row(label, pair.a.path if pair.a else "", pair.b.path if pair.b else "", verdict=verdict,
               reason=f"model {lacking} has no such {part.kind} ({part.name})")  # fmt: skip


def _settle(row: Row, check: CallCheck, errors: ErrorPropagation, *, first: bool) -> None:
    """Set the verdict from the layer's own computation and from its input; ``first``: nothing diverged before."""
    row.input, row.output = check.input, check.output
    ok, reason = check.check.ok, check.check.reason
    unexplained = check.input is None or not errors.explains(check.input, check.x)
    if ok is False:
        row.verdict, row.reason = "diverges", check.reason or reason
    elif ok is None and check.input is None:
        row.verdict, row.reason = "not judged", reason
    elif unexplained:
        row.verdict, row.reason = ("input_differs", check.input_reason) if first else ("downstream", "")
    else:
        row.verdict, row.reason = "agree" if ok else "not judged", reason
        errors.add(check.output, check.x, check.y)


def _explain(row: Row) -> None:
    """Put the first finding of the diagnosis into the reason."""
    assert row.diagnosis is not None
    settings = "; ".join(row.spec)
    if len(row.diagnosis):
        finding = row.diagnosis[0]
        row.reason = f"{finding.id}: {finding.what}" + (f" ({settings})" if settings else "")
    elif settings or row.weights:
        row.reason = "; ".join([*row.spec, *row.weights])


def _compare_outputs(a: Model, b: Model, errors: ErrorPropagation, result: Comparison) -> None:
    """Compare the models' results if they have the same number of them."""
    if not a.executed or not b.executed:
        return
    if len(a.outputs) != len(b.outputs):
        result.notes.append(f"the models have {len(a.outputs)} and {len(b.outputs)} results, which are not compared")
        return
    differences: list[float] = []
    for x, y in zip(a.outputs, b.outputs, strict=True):
        # as they are, and both brought to channels first: where sizes coincide, the shapes cannot tell which
        both = largest_difference(x, y), largest_difference(canonical(x, a.layout), canonical(y, b.layout))
        difference = min((one for one in both if one is not None), default=None)
        if difference is None:
            result.notes.append(f"the results have shapes {x.shape} and {y.shape}")
            return
        differences.append(difference)
        if result.first is None and not errors.explains(difference, x):
            result._after = f"after the last layer: the results differ by up to {difference:.3g}"
    result.output = max(differences, default=None)

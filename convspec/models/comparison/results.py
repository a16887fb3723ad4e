"""Compare two models layer by layer: specs, weights, activations, and the first layer that diverges."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import diagnosis
from convspec.models import text_table
from convspec.models.comparison import layer_check
from convspec.models.comparison.layer_check import ErrorPropagation, LayerCheck, crop, largest_difference, zero_margins
from convspec.models.matching import layers
from convspec.models.matching.differences import array_differences, spec_differences
from convspec.models.matching.kernels import add_zero_pads
from convspec.models.matching.layers import Pair, align
from convspec.models.run_model import Model, canonical, open_model
from convspec.models.text_table import Printable, Text
from convspec.spec import Flattened
from convspec.spec import layouts as layout_names

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from convspec.contract import Call, Part
    from convspec.diagnosis import Diagnosis
    from convspec.spec import Array, ConvSpec

    Calls = tuple[Call, Call, Call | None, Call | None]
    Inputs = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]

SECONDS = 20.0
FINE = ("agree", "downstream", "not judged", "not run")


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
    def differs_unrun(self) -> bool:
        """Whether the pair was not run and differs in settings or weights."""
        return self.verdict == "not run" and bool(self.spec or self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Return the row, JSON-ready."""
        document = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return document | {"diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict()}


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
            "schema": "convspec.comparison/1", "models": list(self.names), "agrees": self.agrees,
            "divergence": self.divergence, "output": self.output, "notes": self.notes,
            "rows": [row.to_dict() for row in self.rows],
        }  # fmt: skip


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
            row.diagnosis = check.diagnose(seconds=seconds if first else 0.0)
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


# -- one pair of layers: what they are, and what they did in one call ---


@dataclass(frozen=True, eq=False, slots=True)
class CallCheck:
    """The result of one call of both layers.

    Attributes:
        check: whether b's layer did to its own input what a's would.
        input, output: the largest difference of the activations, canonical; None where their shapes differ.
        x, y: a's activations.
        reason: what is wrong with the layer itself, where that is more specific than the check's reason.
        input_reason: what is wrong with its input.
        diagnose: the search for the mistake, given seconds.
    """

    check: LayerCheck
    input: float | None
    output: float | None
    x: Array
    y: Array
    reason: str = ""
    input_reason: str = ""
    diagnose: Callable[..., Diagnosis] | None = None


def compare_unrun(label: str, pair: Pair, others: Sequence[Part]) -> Row:
    """Return the row of a pair with everything known without a run."""
    a, b = pair.both
    row = Row(label, a.path, b.path)
    if a.kind == "norm":
        row.spec, row.weights = layers.norm_differences(a, b)
    elif a.kind == "linear":
        row.weights = array_differences(a.arrays, b.arrays)
    elif a.reading is None or b.reading is None:
        row.reason = a.problem or b.problem
    else:
        row.spec = spec_differences(a.reading.spec, b.reading.spec)
        row.weights = [difference.title for difference in layers.pair_differences(pair, others)]
    return row


def pair_calls(pair: Pair, a: Model, b: Model) -> list[Calls]:
    """Return the calls of both layers side by side, with the calls of norms that the other model folded."""
    wanted = ((a, pair.a), (b, pair.b), (a, pair.fold_a), (b, pair.fold_b))
    lists = [[call for call in model.calls if part and call.path == part.path] for model, part in wanted]
    folds = (itertools.chain(calls, itertools.repeat(None)) for calls in lists[2:])
    return list(zip(*lists[:2], *folds, strict=False))


def _explain_input(xa: Array, xb: Array) -> str:
    if xa.shape != xb.shape:
        return f"the inputs have shapes {xa.shape} and {xb.shape}"
    return (
        f"the inputs differ by up to {largest_difference(xa, xb):.3g}, which the layers before it do not explain: "
        f"look at the operations between them (activation, pooling, padding, reshape)"
    )


# -- convolutions ------------------------------------------------------------------------------------------------------


def judge_conv(row: Row, pair: Pair, calls: Calls, a: Model, b: Model, errors: ErrorPropagation) -> CallCheck:  # noqa: ARG001
    """Judge one call of a convolution; its row gets the pads at this size, a separate pad before it included."""
    part_a, part_b = pair.both
    ours, theirs = part_a.reading, part_b.reading
    own = (reading.layout if reading else model.layout for reading, model in ((ours, a), (theirs, b)))
    (xa, ya), (xb, yb) = (
        (crop(canonical(call.x, layout), part.pads), canonical(call.y, layout))
        for call, part, layout in zip(calls[:2], pair.both, own, strict=True)
    )
    end_a, end_b = (
        canonical(fold.y, model.layout) if fold else y for fold, model, y in ((calls[2], a, ya), (calls[3], b, yb))
    )
    if ours is None or theirs is None:
        unread = LayerCheck(None, row.reason)
        return CallCheck(unread, largest_difference(xa, xb), largest_difference(end_a, end_b), xa, end_a)
    spec_a, spec_b = (reading.spec.explicit(x.shape) for reading, x in ((ours, xa), (theirs, xb)))
    (spec_a, xa), (spec_b, xb) = _include_pads(spec_a, xa, spec_b, xb)
    row.spec = spec_differences(spec_a, spec_b)
    folded = pair.fold_a is not None or pair.fold_b is not None
    params = theirs.params if (folded or theirs.dtype != ours.dtype) and not row.weights else ours.params
    right = replace(spec_a, bias=params.bias is not None)
    search: Callable[..., Diagnosis] | None = None
    if folded and row.weights:
        check = LayerCheck(False, "; ".join(row.weights))
    else:
        check = layer_check.check_layer(right, params, xb, yb, b.adapter, theirs.dtype)
        search = functools.partial(diagnosis.diagnose, right, params, xb, yb, dtype=theirs.dtype)
    return CallCheck(check, largest_difference(xa, xb), largest_difference(end_a, end_b), xa, end_a,
                     input_reason=_explain_input(xa, xb), diagnose=search)  # fmt: skip


def _include_pads(spec_a: ConvSpec, xa: Array, spec_b: ConvSpec, xb: Array) -> tuple[tuple[ConvSpec, Array], ...]:
    """Return the same layers with a separate pad of one model included in the convolution's own padding."""
    if xa.shape != xb.shape and xa.ndim == xb.ndim and not spec_a.transposed and spec_a.padding_mode == "zeros":
        if (pads := zero_margins(xb, xa)) and (wider := add_zero_pads(spec_b, pads)):
            return (spec_a, xa), (wider, crop(xb, pads))
        if (pads := zero_margins(xa, xb)) and (wider := add_zero_pads(spec_a, pads)):
            return (wider, crop(xa, pads)), (spec_b, xb)
    return (spec_a, xa), (spec_b, xb)


# -- norms and linear layers -------------------------------------------------------------------------------------------


def judge_norm(row: Row, pair: Pair, calls: Calls, a: Model, b: Model, errors: ErrorPropagation) -> CallCheck:  # noqa: ARG001
    """Judge one call of a norm; layer and group norms are compared, not computed."""
    part_a, part_b = pair.both
    xa, ya = (np.moveaxis(t, part_a.axis, 1) for t in (calls[0].x, calls[0].y))
    xb, yb = (np.moveaxis(t, part_b.axis, 1) for t in (calls[1].x, calls[1].y))
    if part_a.batch_norm and part_b.batch_norm:
        check = layer_check.check_batch_norm(layers.batch_norm(part_a), xb, yb)
    else:
        check = LayerCheck(None, f"{part_b.name} is not computed, only compared")
    return CallCheck(check, largest_difference(xa, xb), largest_difference(ya, yb), xa, ya,
                     "; ".join(row.spec + row.weights), _explain_input(xa, xb))  # fmt: skip


def judge_linear(row: Row, pair: Pair, calls: Calls, a: Model, b: Model, errors: ErrorPropagation) -> CallCheck:
    """Judge one call of a linear layer, whose features may have been flattened in the other layout."""
    part_a, part_b = pair.both
    xa, xb = calls[0].x, calls[1].x
    kernel, bias = part_a.arrays["kernel"], part_a.arrays.get("bias")
    order = _flatten_order(xa, xb, (kernel, part_b.arrays["kernel"]), a, b, errors)
    reason = ""
    if order is not None:
        xa, kernel = xa[..., order], kernel[:, order]
        if np.array_equal(part_b.arrays["kernel"], kernel):
            row.weights = [w for w in row.weights if not w.startswith("the kernel")]
        else:
            axes_a, axes_b = (layout_names.name(model.layout, 2).removeprefix("N") for model in (a, b))
            reason = (
                f"flatten-order: model a flattens the features as {axes_a}, model b as {axes_b}, but the rows of the "
                f"weights were not permuted: use convspec.port_weights, or Flattened.order"
            )
            row.weights.append("rows in the wrong order")
    check = layer_check.check_linear(kernel, bias, xb, calls[1].y)
    if not reason and check.ok is False:
        reason = "; ".join(row.weights)
    output = largest_difference(calls[0].y, calls[1].y)
    return CallCheck(check, largest_difference(xa, xb), output, xa, calls[0].y, reason, _explain_input(xa, xb))


def _flatten_order(
    xa: Array, xb: Array, kernels: tuple[Array, Array], a: Model, b: Model, errors: ErrorPropagation
) -> list[int] | None:
    """Return for each feature of b's input its place in a's, where the two were flattened in different layouts."""
    difference = largest_difference(xa, xb)
    if difference is None or a.layout == b.layout or errors.explains(difference, xa):
        return None
    features = xa.shape[-1]
    channels = {part.reading.spec.out_channels for part in a.parts if part.reading}
    counts = sorted(n for n in channels if features % n == 0 and 1 < n < features)
    orders = [list(Flattened(n, (features // n,)).order(b.layout, a.layout)) for n in counts]
    tries = [(order, largest_difference(xa[..., order], xb)) for order in orders]
    for order, distance in tries:
        if distance is not None and errors.explains(distance, xa):
            return order
    # After a divergence no difference is explained any more: the weights decide, else an order that is much nearer.
    for order, distance in tries:
        if np.array_equal(kernels[1], kernels[0][:, order]) or (distance is not None and distance < difference / 2):
            return order
    return None


JUDGES: dict[str, Callable[[Row, Pair, Calls, Model, Model, ErrorPropagation], CallCheck]] = {
    "conv": judge_conv, "norm": judge_norm, "linear": judge_linear,
}  # fmt: skip

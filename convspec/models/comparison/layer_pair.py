"""Compare one pair of layers: what they are, and what they did in one call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import diagnosis
from convspec.models.comparison import layer_check
from convspec.models.comparison.layer_check import ErrorPropagation, LayerCheck, crop, largest_difference, zero_margins
from convspec.models.matching import layers
from convspec.models.matching.differences import array_differences, spec_differences
from convspec.models.matching.kernels import add_zero_pads
from convspec.models.matching.layers import Pair
from convspec.models.run_model import canonical
from convspec.spec import Flattened
from convspec.spec import layouts as layout_names

if TYPE_CHECKING:
    from convspec.contract import Call, Part
    from convspec.diagnosis import Diagnosis
    from convspec.models.run_model import Array, Model
    from convspec.spec import ConvSpec

    Calls = tuple[Call, Call, Call | None, Call | None]


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
        names = ("label", "a", "b", "spec", "weights", "input", "output", "verdict", "reason")
        document = {name: getattr(self, name) for name in names}
        return document | {"diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict()}


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
    diagnose: Callable[[float], Diagnosis] | None = None


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
    return [
        (ours, theirs, *(fold[place] if place < len(fold) else None for fold in lists[2:]))  # type: ignore[misc]
        for place, (ours, theirs) in enumerate(zip(lists[0], lists[1], strict=False))
    ]


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
    (xa, ya), (xb, yb) = (
        (crop(canonical(call.x, layout), part.pads), canonical(call.y, layout))
        for call, part, layout in zip(calls[:2], pair.both, (_layout(part_a, a), _layout(part_b, b)), strict=True)
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
    search: Callable[[float], Diagnosis] | None = None
    if folded and row.weights:
        check = LayerCheck(False, "; ".join(row.weights))
    else:
        check = layer_check.check_layer(right, params, xb, yb, b.adapter, theirs.dtype)
        search = functools.partial(_diagnose, right, params, xb, yb, theirs.dtype)
    return CallCheck(check, largest_difference(xa, xb), largest_difference(end_a, end_b), xa, end_a,
                     input_reason=_explain_input(xa, xb), diagnose=search)  # fmt: skip


def _layout(part: Part, model: Model) -> str:
    return part.reading.layout if part.reading else model.layout


def _diagnose(spec: ConvSpec, params: Any, x: Array, y: Array, dtype: str, seconds: float) -> Diagnosis:
    return diagnosis.diagnose(spec, params, x, y, dtype=dtype, seconds=seconds)


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

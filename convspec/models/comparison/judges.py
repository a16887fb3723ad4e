"""Judge one call of a pair of layers: does b's layer do to its own input what a's would?"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec import diagnosis
from convspec.contract import Call, Part
from convspec.diagnosis import Diagnosis, Finding
from convspec.errors import ShapeError
from convspec.models.comparison import layer_check
from convspec.models.comparison.layer_check import (
    ErrorPropagation,
    LayerCheck,
    check_norm,
    crop,
    is_computed,
    largest_difference,
    outer_zeros,
    zero_margins,
)
from convspec.models.comparison.results import Row
from convspec.models.matching import layers
from convspec.models.matching.differences import array_differences, spec_differences
from convspec.models.matching.kernels import add_zero_pads
from convspec.models.matching.layers import Pair
from convspec.models.run_model import Model, canonical
from convspec.spec import Array, ConvParams, ConvSpec, Flattened, Pads
from convspec.spec import layouts as layout_names

Calls: TypeAlias = tuple[Call, Call, Call | None, Call | None]

_MARGIN = 8  # pixels of a crop that are looked for


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
        cropped: which margins one model's layer has and the other's lacks, where that is all that differs.
    """

    check: LayerCheck
    input: float | None
    output: float | None
    x: Array
    y: Array
    reason: str = ""
    input_reason: str = ""
    diagnose: Callable[..., Diagnosis] | None = None
    cropped: str = ""


def compare_unrun(label: str, pair: Pair, a: Model, b: Model, others: Sequence[Part]) -> Row:
    """Return the row of a pair with everything known without a run."""
    part_a, part_b = pair.both
    row = Row(label, part_a.path, part_b.path)
    if part_a.kind == "norm":
        row.spec, row.weights = layers.norm_differences(part_a, part_b, (a.layout, b.layout))
    elif part_a.kind == "linear":
        row.weights = array_differences(part_a.arrays, part_b.arrays)
    elif part_a.reading is None or part_b.reading is None:
        row.reason = part_a.problem or part_b.problem
    else:
        row.spec = spec_differences(part_a.reading.spec, part_b.reading.spec)
        row.weights = [difference.title for difference in layers.pair_differences(pair, others)]
    return row


def pair_calls(pair: Pair, a: Model, b: Model, order: Sequence[int] | None) -> list[Calls]:
    """Return the calls of both layers side by side, with the calls of norms that the other model folded.

    ``order``: the number of b's call for each of a; None: their order of execution.
    """
    wanted = ((a, pair.a), (b, pair.b), (a, pair.fold_a), (b, pair.fold_b))
    lists = [[call for call in model.calls if part and call.path == part.path] for model, part in wanted]
    if order is not None and len(order) == len(lists[0]) == len(lists[1]):
        lists[1::2] = [[calls[i] for i in order] if len(calls) == len(order) else calls for calls in lists[1::2]]
    folds = (itertools.chain(calls, itertools.repeat(None)) for calls in lists[2:])
    return list(zip(*lists[:2], *folds, strict=False))


def in_order(call: Call, part: Part, places: Mapping[int, NDArray[np.intp]], layout: str) -> Call:
    """Return a call with its features in these orders: of its result, and of the operand of a linear layer."""
    if not places:
        return call
    axis = layers.channel_axis(part, layout, call.x.ndim) if part.kind == "norm" else call.x.ndim - 1
    sides = zip((call.x, call.y), (0 if part.kind == "norm" else 1, 0), strict=True)
    x, y = (side.take(places[i], axis) if i in places else side for side, i in sides)
    return replace(call, x=x, y=y)


def _did_the_same(row: Row, difference: float | None, ya: Array, yb: Array) -> bool:
    """Whether two layers of equal settings and weights gave equal results from equal inputs."""
    return difference == 0 and not row.spec and not row.weights and np.array_equal(ya, yb)


def _explain_input(xa: Array, xb: Array, difference: float | None) -> str:
    if difference is None:
        return f"the inputs have shapes {xa.shape} and {xb.shape}"
    return (
        f"the inputs differ by up to {difference:.3g}, which the layers before it do not explain: "
        f"look at the operations between them (activation, pooling, padding, reshape)"
    )


# -- convolutions ------------------------------------------------------------------------------------------------------


def judge_conv(row: Row, pair: Pair, calls: Calls, a: Model, b: Model, errors: ErrorPropagation) -> CallCheck:
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
    difference = largest_difference(xa, xb)
    if difference is None or not errors.explains(difference, xa):
        (spec_a, xa), (spec_b, xb) = _include_pads(spec_a, xa, spec_b, xb)
        difference = largest_difference(xa, xb)
    row.spec = spec_differences(spec_a, spec_b)
    folded = pair.fold_a is not None or pair.fold_b is not None
    params = theirs.params if (folded or theirs.dtype != ours.dtype) and not row.weights else ours.params
    right = replace(spec_a, bias=params.bias is not None)
    search: Callable[..., Diagnosis] | None = None
    if folded and row.weights:
        check = LayerCheck(False, "; ".join(row.weights))
    else:
        equal = spec_a == spec_b and _did_the_same(row, difference, ya, yb)
        check = LayerCheck(True) if equal else layer_check.check_layer(right, params, xb, yb, b.adapter, theirs.dtype)
        search = functools.partial(_diagnose, right, params, xb, read=spec_b, y=yb, dtype=theirs.dtype)
    cropped = "" if check.ok is not False or row.weights else _crop_words(right, params, xb, yb, b, theirs.dtype)
    return CallCheck(check, difference, largest_difference(end_a, end_b), xa, end_a,
                     input_reason=_explain_input(xa, xb, difference), diagnose=search, cropped=cropped)  # fmt: skip


def _crop_words(spec: ConvSpec, params: ConvParams, x: Array, y: Array, b: Model, dtype: str) -> str:
    """Return the margins without which one model's result is the other's; a crop after the layer removes them."""
    try:
        shape = spec.output_shape(x.shape)
    except ShapeError:
        return ""
    extra = [n - m for n, m in zip(shape[2:], y.shape[2:], strict=False)]
    if shape[:2] != y.shape[:2] or len(shape) != y.ndim or not any(extra) or max(map(abs, extra)) > _MARGIN:
        return ""
    if min(extra) < 0 < max(extra):
        return ""
    larger = "a" if max(extra) > 0 else "b"
    for pads in itertools.product(*[[(lo, abs(n) - lo) for lo in range(abs(n) + 1)] for n in extra]):
        of_a, of_b = (pads, ()) if larger == "a" else ((), pads)
        if layer_check.check_layer(spec, params, x, crop(y, of_b), b.adapter, dtype, of_a).ok:
            return f"model {larger} computes margins of {pads} more, (before, after) per axis"
    return ""


def _diagnose(right: ConvSpec, params: ConvParams, x: Array, *, read: ConvSpec, y: Array, **options: Any) -> Diagnosis:
    """Return the diagnosis, first the mistakes that give the settings that were read from b's layer."""
    found = diagnosis.diagnose(right, params, x, y, **options)
    settings = replace(read, bias=right.bias)

    def is_read(finding: Finding) -> bool:
        layer = finding.layer
        plain = not layer.moves and layer.added is None and layer.finish is None
        plain = plain and np.array_equal(layer.params.kernel, params.kernel)
        return plain and layer.spec.explicit(x.shape) == settings

    return replace(found, findings=tuple(sorted(found.findings, key=lambda finding: not is_read(finding))))


def _include_pads(spec_a: ConvSpec, xa: Array, spec_b: ConvSpec, xb: Array) -> tuple[tuple[ConvSpec, Array], ...]:
    """Return the same layers with separate pads before them included in the convolutions' own padding."""
    if xa.shape == xb.shape and not spec_a.transposed and (both := _unequal_pads(xa, xb)):
        wide_a, wide_b = add_zero_pads(spec_a, both[0]), add_zero_pads(spec_b, both[1])
        if wide_a is not None and wide_b is not None:
            return (wide_a, crop(xa, both[0])), (wide_b, crop(xb, both[1]))
    if xa.shape != xb.shape and xa.ndim == xb.ndim and not spec_a.transposed:
        if (pads := zero_margins(xb, xa)) and (wider := add_zero_pads(spec_b, pads)):
            return (spec_a, xa), (wider, crop(xb, pads))
        if (pads := zero_margins(xa, xb)) and (wider := add_zero_pads(spec_a, pads)):
            return (wider, crop(xa, pads)), (spec_b, xb)
    return (spec_a, xa), (spec_b, xb)


def _unequal_pads(xa: Array, xb: Array) -> tuple[Pads, Pads] | None:
    """Return the zeros around two inputs of one shape, where only these are in different places; else None."""
    margins = outer_zeros(xa), outer_zeros(xb)
    inside = crop(xa, margins[0]), crop(xb, margins[1])
    apart, within = largest_difference(xa, xb), largest_difference(*inside)
    if margins[0] == margins[1] or not inside[0].size or not apart or within is None or within > apart / 2:
        return None
    return margins


# -- norms and linear layers -------------------------------------------------------------------------------------------


def judge_norm(row: Row, pair: Pair, calls: Calls, a: Model, b: Model, errors: ErrorPropagation) -> CallCheck:  # noqa: ARG001
    """Judge one call of a norm."""
    part_a, part_b = pair.both
    places = [layers.channel_axis(part, model.layout, call.x.ndim)
              for part, model, call in zip(pair.both, (a, b), calls[:2], strict=True)]  # fmt: skip
    xa, ya = (np.moveaxis(t, places[0], 1) for t in (calls[0].x, calls[0].y))
    xb, yb = (np.moveaxis(t, places[1], 1) for t in (calls[1].x, calls[1].y))
    difference = largest_difference(xa, xb)
    if part_a.norm == part_b.norm and _did_the_same(row, difference, ya, yb):
        check = LayerCheck(True)
    elif is_computed(part_a):
        x, y = (np.moveaxis(t, 1, places[0]) for t in (xb, yb))
        check = check_norm(part_a, x, y, fast_variance=part_b.fast_variance)
    else:
        check = LayerCheck(None, f"{part_a.name} is not computed, only compared")
    if check.ok:  # two forms of one function, such as one group and all axes
        row.spec = [words for words in row.spec if words != layers.form_difference(part_a, part_b)]
    return CallCheck(check, difference, largest_difference(ya, yb), xa, ya,
                     "; ".join(row.spec + row.weights), _explain_input(xa, xb, difference))  # fmt: skip


def judge_linear(row: Row, pair: Pair, calls: Calls, a: Model, b: Model, errors: ErrorPropagation) -> CallCheck:
    """Judge one call of a linear layer, whose features may have been flattened in the other layout."""
    part_a, part_b = pair.both
    xa, xb, ya, yb = calls[0].x, calls[1].x, calls[0].y, calls[1].y
    if xa.shape != xb.shape and xa.size == xb.size and xa.shape[-1] == xb.shape[-1]:  # axes of samples and pixels
        xa, xb, ya, yb = (one.reshape(-1, one.shape[-1]) for one in (xa, xb, ya, yb))
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
    difference, output = largest_difference(xa, xb), largest_difference(ya, yb)
    if _did_the_same(row, difference, ya, yb):
        check = LayerCheck(True)
    else:
        check = layer_check.check_linear(kernel, bias, xb, yb)
    if not reason and check.ok is False:
        reason = "; ".join(row.weights)
    return CallCheck(check, difference, output, xa, ya, reason, _explain_input(xa, xb, difference))


def _flatten_order(
    xa: Array, xb: Array, kernels: tuple[Array, Array], a: Model, b: Model, errors: ErrorPropagation
) -> list[int] | None:
    """Return for each feature of b's input its place in a's, where the two were flattened in different layouts."""
    difference = largest_difference(xa, xb)
    if difference is None or a.layout == b.layout or errors.explains(difference, xa):
        return None
    features = xa.shape[-1]
    orders = {n: list(Flattened(n, (features // n,)).order(b.layout, a.layout))
              for n in range(2, features) if features % n == 0}  # fmt: skip
    channels = {part.reading.spec.out_channels for part in a.parts if part.reading}
    tries = [(order, largest_difference(xa[..., order], xb)) for n, order in orders.items() if n in channels]
    for order, distance in tries:
        if distance is not None and errors.explains(distance, xa):
            return order
    # After a divergence no difference is explained any more: the weights decide, else an order that is much nearer.
    for order in orders.values():  # of any number of channels, as after a pixel shuffle
        if all(np.array_equal(kernels[1][:n], kernels[0][:n, order]) for n in (1, len(kernels[0]))):
            return order
    return next((order for order, near in tries if near is not None and near < difference / 2), None)


JUDGES: dict[str, Callable[[Row, Pair, Calls, Model, Model, ErrorPropagation], CallCheck]] = {
    "conv": judge_conv, "norm": judge_norm, "linear": judge_linear,
}  # fmt: skip

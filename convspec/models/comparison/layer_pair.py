"""One pair of layers held together: what they are, and what they did in one call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import diagnosis
from convspec.models.comparison import layer_check as local
from convspec.models.comparison.layer_check import Glue, Local
from convspec.models.matching import layers
from convspec.models.matching.layers import Pair
from convspec.models.run_model import canonical
from convspec.spec import Flattened, add_pads, layouts

if TYPE_CHECKING:
    from convspec.contract import Call, Part
    from convspec.diagnosis import Diagnosis
    from convspec.models.run_model import Array, Model
    from convspec.spec import ConvSpec

    Calls = tuple[Call, Call, Call | None, Call | None]


@dataclass(slots=True)
class Row:
    """One pair of layers.

    Attributes:
        label: the kind and its number: ``conv 7``.
        a, b: the paths, empty where one model has no such layer.
        spec: in what the settings differ, a's before b's.
        weights: in what the weights differ.
        input, output: how far the two activations are apart; None where they were not seen or have other shapes.
        verdict: ``agree``; ``departs``, what it wrote does not follow from what it read; ``fed`` differently, what it
            read does not follow from the layers before; ``downstream`` of one of those; ``missing``; ``not judged``;
            ``not run``.
        reason: of the verdict.
        diagnosis: of a convolution that departs.
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = ("label", "a", "b", "spec", "weights", "input", "output", "verdict", "reason")
        found = {name: getattr(self, name) for name in names}
        return found | {"diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict()}


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """What one call showed.

    Attributes:
        local: whether b's layer did to its own input what a's would.
        input, output: how far the activations are apart, canonical; None where their shapes differ.
        x, y: a's.
        reason: what is wrong with the layer itself, in better words than the local judgement's.
        fed: what is wrong with its input.
        diagnose: the search for the mistake, given seconds.
    """

    local: Local
    input: float | None
    output: float | None
    x: Array
    y: Array
    reason: str = ""
    fed: str = ""
    diagnose: Callable[[float], Diagnosis] | None = None


def static(label: str, pair: Pair, others: Sequence[Part]) -> Row:
    """The row of a pair, with all that is known without running."""
    a, b = pair.a, pair.b
    assert a is not None
    assert b is not None
    row = Row(label, a.path, b.path)
    if a.kind == "norm":
        found = layers.norm_differences(a, b)
        row.spec, row.weights = [f for f in found if f.startswith("epsilon")], [f for f in found if "epsilon" not in f]
    elif a.kind == "linear":
        row.weights = _linear_differences(a, b)
    elif a.reading is None or b.reading is None:
        row.reason = a.problem or b.problem
    else:
        row.spec = layers.spec_differences(a.reading.spec, b.reading.spec)
        row.weights = [difference.title for difference in layers.weight_differences(pair, others)]
    return row


def _linear_differences(a: Part, b: Part) -> list[str]:
    found = []
    for name in ("kernel", "bias"):
        ours, theirs = a.arrays.get(name), b.arrays.get(name)
        if ours is None or theirs is None:
            found += (
                [f"model {'a' if ours is None else 'b'} has no {name}"] if (ours is None) != (theirs is None) else []
            )
        elif ours.shape != theirs.shape:
            found.append(f"{name} of shape {ours.shape} against {theirs.shape}")
        elif not np.array_equal(ours, theirs):
            order = "in another order" if np.array_equal(np.sort(ours, None), np.sort(theirs, None)) else "differ"
            found.append(f"the {name}'s numbers {order}" if order != "differ" else f"the {name} differs")
    return found


def calls(pair: Pair, a: Model, b: Model) -> list[Calls]:
    """The calls of both layers side by side, and those of norms that the other model has within its kernel."""
    wanted = ((a, pair.a), (b, pair.b), (a, pair.fold_a), (b, pair.fold_b))
    lists = [[call for call in model.calls if part and call.path == part.path] for model, part in wanted]
    return [
        (ours, theirs, *(fold[place] if place < len(fold) else None for fold in lists[2:]))  # type: ignore[misc]
        for place, (ours, theirs) in enumerate(zip(lists[0], lists[1], strict=False))
    ]


# -- convolutions ------------------------------------------------------------------------------------------------------


def conv(row: Row, pair: Pair, seen: Calls, a: Model, b: Model, glue: Glue) -> Judged:  # noqa: ARG001
    """Judge one call of a convolution; its row learns the pads at this size, those of a pad before it counted."""
    assert pair.a is not None
    assert pair.b is not None
    ours, theirs = pair.a.reading, pair.b.reading
    (xa, ya), (xb, yb) = (
        (canonical(call.x, layout), canonical(call.y, layout))
        for call, layout in zip(seen[:2], (_layout(pair.a, a), _layout(pair.b, b)), strict=True)
    )
    xa, xb = local.cropped(xa, pair.a.pads), local.cropped(xb, pair.b.pads)
    ends = [canonical(fold.y, model.layout) if fold else y for fold, model, y in ((seen[2], a, ya), (seen[3], b, yb))]
    if ours is None or theirs is None:
        apart = local.furthest(xa, xb), local.furthest(*ends)
        return Judged(Local(None, row.reason), *apart, xa, ends[0])
    spec_a, spec_b = (reading.spec.explicit(x.shape) for reading, x in ((ours, xa), (theirs, xb)))
    (spec_a, xa), (spec_b, xb) = _inner(spec_a, xa, spec_b, xb)
    row.spec = layers.spec_differences(spec_a, spec_b)
    folded = pair.fold_a is not None or pair.fold_b is not None
    own = (folded or theirs.dtype != ours.dtype) and not row.weights
    params = theirs.params if own else ours.params
    meant = replace(spec_a, bias=params.bias is not None)
    if folded and row.weights:
        found = Local(False, "; ".join(row.weights))
    else:
        found = local.conv(meant, params, xb, yb, b.adapter, theirs.dtype)
    fed = f"the inputs have shapes {xa.shape} and {xb.shape}" if xa.shape != xb.shape else _apart(xa, xb)
    search = functools.partial(_diagnose, meant, params, xb, yb, theirs.dtype)
    return Judged(found, local.furthest(xa, xb), local.furthest(*ends), xa, ends[0], fed=fed,
                  diagnose=None if folded and row.weights else search)  # fmt: skip


def _layout(part: Part, model: Model) -> str:
    return part.reading.layout if part.reading else model.layout


def _diagnose(spec: ConvSpec, params: Any, x: Array, y: Array, dtype: str, seconds: float) -> Diagnosis:
    return diagnosis.diagnose(spec, params, x, y, dtype=dtype, seconds=seconds)


def _apart(xa: Array, xb: Array) -> str:
    return (
        f"the inputs differ by up to {local.furthest(xa, xb):.3g}, which the layers before it do not explain: "
        f"look at what stands between them (activation, pooling, padding, reshape)"
    )


def _inner(spec_a: ConvSpec, xa: Array, spec_b: ConvSpec, xb: Array) -> tuple[tuple[ConvSpec, Array], ...]:
    """The same layers with a pad that one model does before its convolution counted as the convolution's own."""
    if xa.shape != xb.shape and xa.ndim == xb.ndim and not spec_a.transposed and spec_a.padding_mode == "zeros":
        if pads := local.margins(xb, xa):
            return (spec_a, xa), (add_pads(spec_b, pads) or spec_b, local.cropped(xb, pads))
        if pads := local.margins(xa, xb):
            return (add_pads(spec_a, pads) or spec_a, local.cropped(xa, pads)), (spec_b, xb)
    return (spec_a, xa), (spec_b, xb)


# -- norms and linear layers -------------------------------------------------------------------------------------------


def norm(row: Row, pair: Pair, seen: Calls, a: Model, b: Model, glue: Glue) -> Judged:  # noqa: ARG001
    """Judge one call of a norm; layer and group norms are held together, not computed."""
    assert pair.a is not None
    assert pair.b is not None
    xa, ya = (np.moveaxis(t, pair.a.axis, 1) for t in (seen[0].x, seen[0].y))
    xb, yb = (np.moveaxis(t, pair.b.axis, 1) for t in (seen[1].x, seen[1].y))
    if pair.a.batch_norm and pair.b.batch_norm:
        found = local.batch_norm(layers.normalised(pair.a), 1, xb, yb)
    else:
        found = Local(None, f"{pair.b.name} is not computed, only compared")
    fed = f"the inputs have shapes {xa.shape} and {xb.shape}" if xa.shape != xb.shape else _apart(xa, xb)
    return Judged(found, local.furthest(xa, xb), local.furthest(ya, yb), xa, ya, "; ".join(row.spec + row.weights), fed)


def linear(row: Row, pair: Pair, seen: Calls, a: Model, b: Model, glue: Glue) -> Judged:
    """Judge one call of a linear layer, whose features may have been flattened in the other layout."""
    assert pair.a is not None
    assert pair.b is not None
    xa, xb = seen[0].x, seen[1].x
    kernel, bias = pair.a.arrays["kernel"], pair.a.arrays.get("bias")
    order = _reordered(xa, xb, (kernel, pair.b.arrays["kernel"]), a, b, glue)
    reason = ""
    if order is not None:
        xa, kernel = xa[..., order], kernel[:, order]
        axes = [layouts.name(m.layout, 2).removeprefix("N") for m in (a, b)]
        if np.array_equal(pair.b.arrays["kernel"], kernel):
            row.weights = [w for w in row.weights if not w.startswith("the kernel")]
        else:
            reason = (
                f"flatten-order: the features are flattened as {axes[1]} here and as {axes[0]} there, but the rows of "
                f"the weights were not permuted: use convspec.port_weights, or Flattened.order"
            )
            row.weights.append("rows in the wrong order")
    found = local.linear(kernel, bias, xb, seen[1].y)
    if not reason and found.ok is False:
        reason = "; ".join(row.weights)
    fed = _apart(xa, xb) if xa.shape == xb.shape else f"the inputs have shapes {xa.shape} and {xb.shape}"
    apart = local.furthest(xa, xb), local.furthest(seen[0].y, seen[1].y)
    return Judged(found, *apart, xa, seen[0].y, reason, fed)


def _reordered(xa: Array, xb: Array, kernels: tuple[Array, Array], a: Model, b: Model, glue: Glue) -> list[int] | None:
    """For every feature of b's input its place in a's, where they are not the same, but those of another flatten."""
    apart = local.furthest(xa, xb)
    if apart is None or a.layout == b.layout or glue.explains(apart, xa):
        return None
    features = xa.shape[-1]
    channels = {part.reading.spec.out_channels for part in a.parts if part.reading}
    counts = sorted(n for n in channels if features % n == 0 and 1 < n < features)
    orders = [list(Flattened(n, (features // n,)).order(b.layout, a.layout)) for n in counts]
    moved = [local.furthest(xa[..., order], xb) for order in orders]
    for order, distance in zip(orders, moved, strict=True):
        if distance is not None and glue.explains(distance, xa):
            return order
    # Behind a departure nothing is explained any more: the weights tell, else the order that is the nearer by far.
    for order, distance in zip(orders, moved, strict=True):
        if np.array_equal(kernels[1], kernels[0][:, order]) or (distance is not None and distance < apart / 2):
            return order
    return None


JUDGES: dict[str, Callable[[Row, Pair, Calls, Model, Model, Glue], Judged]] = {
    "conv": conv, "norm": norm, "linear": linear,
}  # fmt: skip

"""Align the layers of two models, and compare those pairs before anything is run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convspec.contract import KINDS, Part
from convspec.models.dataflow.array_keys import ArrayKey
from convspec.models.dataflow.forms import Orders
from convspec.models.matching.differences import Difference, is_folded, weight_differences
from convspec.models.matching.flow import Flow, match_by_flow
from convspec.models.matching.kernels import BatchNorm, Key, Layer, match, pairs_of
from convspec.models.run_model import Model
from convspec.spec import Array
from convspec.spec.layouts import CHANNELS_FIRST

_GENERIC = {"conv", "conv1d", "conv2d", "conv3d", "node", "model", "graph", "dense", "linear", "gemm", "module",
            "layers", "batch", "norm", "normalization", "batchnorm", "depthwise", "bn"}  # fmt: skip
_STEP_NAMES = {("linear", "kernel"): "weight", ("norm", "gain"): "scale", ("norm", "shift"): "bias"}


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """A layer of model a and its counterpart in model b; one of them may be None.

    ``fold_a`` and ``fold_b`` are batch norms right after a convolution that the other model has folded into its kernel.
    """

    a: Part | None
    b: Part | None
    fold_a: Part | None = None
    fold_b: Part | None = None

    @property
    def both(self) -> tuple[Part, Part]:
        """The two layers of a pair that is complete."""
        assert self.a is not None
        assert self.b is not None
        return self.a, self.b


def align(a: Model, b: Model, *, differ: bool = False) -> list[Pair]:
    """Pair all layers of both models in the order of a's execution; b's layers without a counterpart come last.

    By names and numbers, in any order of elements, unless layers have each other's numbers; by what they read and feed,
    where the adapters see that; then by name, shape and order; batch norms by the convolutions before them.

    ``differ``: whether the results do, so that weights may have been exchanged.
    """
    pairs: list[Pair] = []
    before: dict[int, int] = {}
    known = _pairs_by_numbers(a, b)
    exchanged = _exchanged(a, b, known) if differ else {}
    flow = _path_key(pairs_by_flow(a, b, known | exchanged), b)
    keys = (_path_key(exchanged, b), *_BY_NUMBERS, flow, *_BY_SHAPE)
    convs = a.ordered("conv"), b.ordered("conv")
    for place, (ours, theirs) in enumerate(pairs_of(*convs, match(*convs, keys))):
        norms = norm_after(a, ours), norm_after(b, theirs)
        folded = ours is not None and theirs is not None and _is_folded(ours, theirs, *norms)
        pairs.append(Pair(ours, theirs, *(norms if folded else (None, None))))
        before |= {id(norm): place for norm in norms if norm is not None}
    inside = {id(norm) for pair in pairs for norm in (pair.fold_a, pair.fold_b) if norm is not None}
    mine, others = ([n for n in model.ordered("norm") if id(n) not in inside] for model in (a, b))
    by_conv: tuple[Key[Part], ...] = (flow, lambda norm: before.get(id(norm)), *keys)
    linears = a.ordered("linear"), b.ordered("linear")
    pairs += [Pair(*both) for both in pairs_of(mine, others, match(mine, others, by_conv))]
    pairs += [Pair(*both) for both in pairs_of(*linears, match(*linears, keys))]
    if not a.executed:
        return pairs
    order = {call.path: place for place, call in reversed(list(enumerate(a.calls)))}
    return sorted(pairs, key=lambda pair: order.get(pair.a.path, len(order)) if pair.a else len(order) + 1)


def flow_of(model: Model) -> Flow | None:
    """Return the layers of a model in their data flow; None where its adapter does not see it."""
    graph = model.graph
    if graph is None or not model.followed:
        return None
    return Flow(graph, [part.path for part in model.parts])


def pairs_by_flow(a: Model, b: Model, known: Mapping[str, str]) -> dict[str, str]:
    """Return b's layers by those of a, ``known`` ones included, as far as the data flow of both tells."""
    ours, theirs = flow_of(a), flow_of(b)
    return dict(known) if ours is None or theirs is None else match_by_flow(ours, theirs, known)


def _pairs_by_numbers(a: Model, b: Model) -> dict[str, str]:
    """Return b's layers by those of a that names and numbers pair."""
    known: dict[str, str] = {}
    for kind in KINDS:
        sides = a.ordered(kind), b.ordered(kind)
        found = match(*sides, (*_BY_NUMBERS, _BY_SHAPE[0]))
        known |= {sides[0][i].path: sides[1][j].path for i, j in found.items()}
    return known


def _exchanged(a: Model, b: Model, known: Mapping[str, str]) -> dict[str, str]:
    """Return b's layers by those of a, of one shape, of which each has the numbers of another one in b.

    The data flow must pair all of them without a doubt.
    """
    shapes = [{part.path: shape_key(part) for part in model.parts} for model in (a, b)]
    groups: dict[Hashable, list[str]] = {}
    for path, other in known.items():
        if shapes[0][path] == shapes[1][other]:
            groups.setdefault(shapes[0][path], []).append(path)
    ours, theirs = flow_of(a), flow_of(b)
    found: dict[str, str] = {}
    for group in groups.values():
        if len(group) < 2 or ours is None or theirs is None:
            continue
        rest = {path: other for path, other in known.items() if path not in group}
        by_flow = match_by_flow(ours, theirs, rest, strict=True)
        moved = {path: by_flow[path] for path in group if by_flow.get(path, known[path]) != known[path]}
        if {*moved.values()} == {known[path] for path in moved}:
            found |= moved
    return found


def _path_key(pairs: Mapping[str, str], b: Model) -> Key[Part]:
    """Return a key that is equal for a layer of a and its counterpart among these pairs."""
    of_b = {id(part) for part in b.parts}

    def key(part: Part) -> Hashable:
        path = part.path if id(part) in of_b else pairs.get(part.path)
        return path and (part.kind, path)

    return key


def _is_folded(ours: Part, theirs: Part, norm_a: Part | None, norm_b: Part | None) -> bool:
    """Whether only one model has a batch norm after the convolution, and the other's kernel shows its factors."""
    if (norm_a is None) == (norm_b is None):
        return False
    with_norm, alone = (
        (layer_of(ours, norm_a), layer_of(theirs)) if norm_a else (layer_of(theirs, norm_b), layer_of(ours))
    )
    return with_norm is not None and alone is not None and is_folded(with_norm, alone)


def norm_after(model: Model, conv: Part | None) -> Part | None:
    """Return the batch norm that reads exactly the output of this convolution, or None."""
    graph = model.graph
    if conv is None or graph is None:
        return None
    paths = [graph.trace.steps[node.place].path for node in graph.nodes]
    values = {value for path, node in zip(paths, graph.nodes, strict=True) if path == conv.path
              for value in node.writes}  # fmt: skip
    after = {
        path for path, node in zip(paths, graph.nodes, strict=True) if node.reads and node.reads[0].value in values
    }
    return next((part for part in model.parts if part.batch_norm and part.path in after), None)


def feature_orders(model: Model, path: str) -> Orders:
    """Return the place of each feature of a layer's arrays in canonical order, by array and axis, where it is known."""
    graph = model.graph
    nodes = () if graph is None else graph.nodes
    return next((node.orders for node in nodes if graph and graph.trace.steps[node.place].path == path), {})


def feature_places(ours: Part, theirs: Part, a: Model, b: Model) -> Orders:
    """Return the place in a's arrays of each feature of b's, by array and axis, where the data flow orders them."""
    orders = [feature_orders(model, part.path) for model, part in ((a, ours), (b, theirs))]
    found: dict[str, dict[int, NDArray[np.intp]]] = {}
    for name in ours.weights:
        of_a, of_b = (order.get(_STEP_NAMES.get((ours.kind, name), name), {}) for order in orders)
        for axis in {*of_a, *of_b}:
            count = np.arange(len((of_a if axis in of_a else of_b)[axis]))
            if len(of_a.get(axis, count)) != len(of_b.get(axis, count)):
                continue  # arrays of other sizes
            places = np.empty_like(count)
            places[of_b.get(axis, count)] = of_a.get(axis, count)
            if not np.array_equal(places, count):
                found.setdefault(name, {})[axis] = places
    return found


def in_order_of_b(pair: Pair, a: Model, b: Model) -> tuple[Pair, Mapping[int, NDArray[np.intp]]]:
    """Return a pair whose arrays of a are in the order of b's features, and the orders of the results and the operands.

    What one model flattens or unflattens in another layout has its features in another order, and the weights of a
    right port too. Orders of which b's arrays show nothing are left: of operands always, of results where b's arrays
    are those of a without them.
    """
    ours, theirs = pair.both
    places = feature_places(ours, theirs, a, b) if a.followed and b.followed and ours.kind != "conv" else {}
    shapes = {name: array.shape for name, array in ours.weights.items()}
    if not places or any(own[i].size != shapes[name][i] for name, own in places.items() for i in own):
        return pair, {}

    def arrays(axes: Sequence[int]) -> dict[str, Array]:
        found = dict(ours.arrays)
        for name, axis in itertools.product(places, axes):
            found[name] = found[name].take(places[name][axis], axis) if axis in places[name] else found[name]
        return found

    def equal(axes: Sequence[int]) -> int:
        return sum(np.array_equal(array, theirs.arrays.get(name, ())) for name, array in arrays(axes).items())

    best: tuple[int, ...] = max(((0,), (), (0, 1), (1,)), key=equal)
    kept = {axis: own[axis] for own in places.values() for axis in own if axis in best}
    return replace(pair, a=replace(ours, arrays=arrays(best))), kept


# -- keys: equal ones belong together ----------------------------------------------------------------------------------


def main_array(part: Part) -> Array | None:
    """Return the array that tells a layer from others: the kernel, or a norm's mean, else its gain or shift."""
    arrays = part.weights
    return next((arrays[name] for name in ("kernel", "mean", "gain", "shift") if name in arrays), None)


def shape_key(part: Part, others: Sequence[Part] = ()) -> Hashable:
    """Return what two layers must have in common for weights to be moved between them.

    ``others``: layers of the other model, for a convolution that is not read: it is as these with its kernel's shape.
    """
    array = main_array(part)
    shape = () if array is None else array.shape
    alike = (one for one in others if one.reading is not None and one.weights["kernel"].shape == shape)
    if (other := next(alike, None)) is not None:
        return shape_key(other)
    spec = part.reading.spec if part.reading else None
    return None if array is None else (part.kind, spec and spec.transposed, spec and spec.groups, array.shape)


def name_key(part: Part) -> str | None:
    """Return the specific words of a layer's path in lower case, or None where there are none."""
    split = re.sub(r"([a-z])([A-Z])", r"\1.\2", part.path).lower()
    words = [word for word in re.split(r"[/._]+", split) if word and word not in _GENERIC]
    return ".".join(words) if any(re.search("[a-z]", word) for word in words) else None


def _array_key(key: Callable[[Array], Hashable]) -> Key[Part]:
    return lambda part: None if (array := main_array(part)) is None else key(array)


def _tells_nothing(array: Array) -> bool:
    """Whether all numbers are equal, as those of a layer that was never trained."""
    return array.size == 0 or bool((array == array.flat[0]).all())


_numbers = _array_key(ArrayKey)
_BY_NUMBERS: tuple[Key[Part], ...] = (
    lambda part: name_key(part) and (name_key(part), _numbers(part)),
    _array_key(lambda array: None if _tells_nothing(array) else ArrayKey(array)),
    _array_key(lambda array: None if _tells_nothing(array) else np.sort(array, axis=None).tobytes()),
)
_BY_SHAPE: tuple[Key[Part], ...] = (
    lambda part: name_key(part) and (name_key(part), shape_key(part)),
    shape_key,
    _array_key(lambda array: array.size),
    lambda part: part.kind,
)


# -- differences that need no run --------------------------------------------------------------------------------------


def batch_norm(norm: Part) -> BatchNorm:
    """Return a batch norm with all its arrays; missing ones are ones and zeros."""
    arrays = norm.arrays
    mean = arrays["mean"]
    gain, shift = arrays.get("gain", np.ones_like(mean)), arrays.get("shift", np.zeros_like(mean))
    return BatchNorm(gain, shift, mean, arrays["variance"], norm.epsilon)


def pair_differences(pair: Pair, others: Sequence[Part] = ()) -> list[Difference]:
    """Return the differences of b's weights from a's, folded norms included; ``others`` are a's layers."""
    source, target = pair.both
    ours, theirs = layer_of(target, pair.fold_b), layer_of(source, pair.fold_a)
    if ours is None or theirs is None:
        return []
    rest = [layer for part in others if part is not source and (layer := layer_of(part)) is not None]
    return weight_differences(ours, theirs, rest)


def layer_of(conv: Part, norm: Part | None = None) -> Layer | None:
    """Return a convolution, with the batch norm after it; None where it could not be read."""
    if conv.reading is None:
        return None
    return Layer(conv.path, conv.reading.spec, conv.reading.params, None if norm is None else batch_norm(norm))


def norm_differences(a: Part, b: Part, layouts: tuple[str, str]) -> tuple[list[str], list[str]]:
    """Return the differences of two norms in settings and in arrays, a's value first.

    ``layouts``: of the two models, which say where the channel axis should be.
    """
    form = form_difference(a, b)
    settings = [form] if form else []
    if a.epsilon != b.epsilon:
        settings.append(f"epsilon {a.epsilon:g} against {b.epsilon:g}")
    if {a.norm, b.norm} <= {"batch", "group"} and len(
        {_axis_role(p, x) for p, x in zip((a, b), layouts, strict=True)}
    ) > 1:
        of_a, of_b = ("", "") if layouts[0] == layouts[1] else (f" of {layouts[0]}", f" of {layouts[1]}")
        settings.append(f"axis {a.axis}{of_a} against {b.axis}{of_b}")
    arrays, differing = [], []
    for name, neutral in (("gain", 1.0), ("shift", 0.0), ("mean", 0.0), ("variance", 1.0)):
        ours, theirs = (part.arrays.get(name, np.asarray(neutral)) for part in (a, b))
        if ours.size != theirs.size and 1 not in (ours.size, theirs.size):
            arrays.append(f"{name} of {ours.size} numbers against {theirs.size}")
        elif not (ours.reshape(-1) == theirs.reshape(-1)).all():
            differing.append(name)
    if differing:
        arrays.append(f"{', '.join(differing)} {'differs' if len(differing) == 1 else 'differ'}")
    return settings, arrays


def form_difference(a: Part, b: Part) -> str:
    """Return the difference of two norms' forms; empty where it is none, or one is not known."""
    forms = [(part.norm, part.groups, len(part.axes), part.batch_norm) for part in (a, b)]
    if not a.norm or not b.norm or forms[0] == forms[1]:
        return ""
    if a.norm == b.norm == "group":
        return f"groups {a.groups} against {b.groups}"
    if a.norm == b.norm and len(a.axes) != len(b.axes):
        return f"over {len(a.axes)} axes against {len(b.axes)}"
    return f"{norm_words(a)} against {norm_words(b)}"


def norm_words(norm: Part) -> str:
    """Return the form of a norm: ``group norm with 4 groups``."""
    if norm.norm == "group":
        return f"group norm with {norm.groups} group{'s' * (norm.groups != 1)}"
    if norm.norm in ("layer", "rms"):
        kind = "RMS norm" if norm.norm == "rms" else "layer norm"
        return f"{kind} over {len(norm.axes)} ax{'is' if len(norm.axes) == 1 else 'es'}"
    if norm.norm == "batch" and not norm.batch_norm:
        return "batch norm with the statistics of the batch"
    return f"{norm.norm} norm" if norm.norm else norm.name


def channel_axis(norm: Part, layout: str, ndim: int) -> int:
    """Return the axis of the channels in a norm's input: of a norm over one axis that one, else the layout's."""
    if norm.norm in ("layer", "rms") and len(norm.axes) == 1:
        return norm.axes[0] % ndim
    if not norm.norm:
        return norm.axis % ndim
    return 1 if layout == CHANNELS_FIRST else ndim - 1


def _axis_role(norm: Part, layout: str) -> int:
    """Return 0 for the axis of the channels in this layout, else the axis itself."""
    return 0 if norm.axis == (1 if layout == CHANNELS_FIRST else -1) else norm.axis

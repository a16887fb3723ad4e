"""The graph of one run: the steps that compute, with settings, arrays and values in canonical order.

Layouts are followed through the steps by :mod:`~convspec.models.dataflow.views`: what only moves elements is no step of
the graph, and what is left reads its operands in the order of the values before it, whatever the framework's layout is.
So two models compute the same where their results are made of the same steps.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.contract import StepTrace, TracedStep
from convspec.models.dataflow import views
from convspec.models.dataflow.forms import Form, Orders, arrange, form, viewed
from convspec.models.dataflow.settings import ZEROS, Windows, crops, is_not_negative, kind_of, pooled_and_divided
from convspec.models.dataflow.views import Axis, View, canonical_order, merge, move
from convspec.spec import Array, ConvSpec, steps

Shape: TypeAlias = tuple[int, ...]

INPUT = -1
_FOLLOWING = {
    name
    for name, kind in steps.KINDS.items()
    if issubclass(kind, steps.Activation | steps.Elementwise | steps.LayerNorm | steps.BatchNorm)
    and kind is not steps.PReLU
}


class Read(NamedTuple):
    """An operand: the elements of a value, in this order."""

    value: int
    order: Axis


@dataclass(frozen=True, slots=True)
class Value:
    """What a node gives, or an input of the model: its shape in canonical order, and which output of which node."""

    shape: Shape
    node: int
    output: int


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A step that computes.

    Attributes:
        place: its position in the trace.
        settings: equal for steps that compute the same with the same arrays.
        reads: its operands.
        writes: the values that it gives.
        arrays: its arrays in the order of the values.
        commutes: whether the order of its operands does not matter.
        moves: positions of the steps before it that only move or fill its operands.
        orders: the place of each feature of ``arrays`` in the framework's array, by array and axis.
    """

    place: int
    settings: Hashable
    reads: tuple[Read, ...]
    writes: tuple[int, ...]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    commutes: bool = False
    moves: tuple[int, ...] = ()
    orders: Orders = field(default_factory=dict)


class _Seen(NamedTuple):
    """A tensor of the trace: a view of a value, through steps at these positions."""

    value: int
    view: View
    moves: tuple[int, ...] = ()


class Graph:
    """One run of a model as nodes.

    Attributes:
        nodes: in the order of execution.
        values: what nodes give, and the inputs.
        results: each as it is, and in channels-first order where the model's layout is another.
        ends: the positions of the steps that only move the elements of each result.
    """

    def __init__(self, trace: StepTrace, layout: str) -> None:
        """Follow a trace; ``layout``: of its inputs and results of three to five axes."""
        self.trace = trace
        self.nodes: list[Node] = []
        self.values: list[Value] = []
        self._tensors: dict[int, _Seen] = {}
        self._writers: dict[int, int] = {}
        for number, tensor in enumerate(trace.inputs):
            shape, view = viewed(self._shape(tensor), self._order(tensor, layout))
            self._tensors[tensor] = _Seen(len(self.values), view)
            self.values.append(Value(shape, INPUT, number))
        for place, step in enumerate(trace.steps):
            self._add_step(place, step)
        self.results = [self._result(tensor, layout) for tensor in trace.outputs]
        self.ends = [self._tensors[tensor].moves for tensor in trace.outputs]
        self._reordered: dict[int, NDArray[np.intp]] = {}
        for number, node in enumerate(self.nodes):
            if kind_of(node.settings) == "Linear":
                self._reorder_features(number)

    @property
    def live(self) -> set[int]:
        """The positions in the trace of all steps that a result depends on."""
        found: set[int] = set()
        waiting = [result[0].value for result in self.results]
        while waiting:
            number = self.values[waiting.pop()].node
            if number != INPUT and number not in found:
                found.add(number)
                waiting += [read.value for read in self.nodes[number].reads]
        return {place for number in found for place in (self.nodes[number].place, *self.nodes[number].moves)}

    def numbers(self, value: int) -> Array | None:
        """Return the elements of a value in canonical order; None where no tensor of the trace has all of them."""
        shape = self.values[value].shape
        for tensor, seen in self._tensors.items():
            factors = [factor for axis in seen.view for factor in axis]
            if seen.value == value and all(s for _, s in factors) and prod(n for n, _ in factors) == prod(shape):
                x = views.restore(np.asarray(self.trace.tensors[tensor]), seen.view, shape)
                return x.take(self._reordered[value], -1) if value in self._reordered else x
        return None

    # -- building ------------------------------------------------------------------------------------------------------

    def _shape(self, tensor: int) -> Shape:
        return tuple(np.shape(self.trace.tensors[tensor]))

    def _order(self, tensor: int, layout: str) -> tuple[int, ...]:
        rank = len(self._shape(tensor))
        return canonical_order(layout if rank <= 5 else "", rank)

    def _result(self, tensor: int, layout: str) -> tuple[Read, ...]:
        seen = self._tensors[tensor]
        orders = range(len(seen.view)), self._order(tensor, layout)
        return tuple(Read(seen.value, merge(f for i in order for f in seen.view[i])) for order in orders)

    def _add_step(self, place: int, step: TracedStep) -> None:
        self._writers |= dict.fromkeys(step.writes, place)
        ys = [self._shape(i) for i in step.writes]
        if not step.note and len(step.reads) == len(step.writes) == 1:
            seen = self._tensors[step.reads[0]]
            moved = move(step, seen.view, ys[0])
            if moved is not None:
                own = () if isinstance(step.step, steps.Identity | steps.Dropout) else (place,)
                self._tensors[step.writes[0]] = _Seen(seen.value, moved, (*seen.moves, *own))
                return
        if isinstance(step.step, steps.Split) and not step.note:
            for part, write in zip(_slices(step.step, len(self._shape(step.reads[0]))), step.writes, strict=True):
                self._add_step(place, replace(step, step=part, writes=(write,)))
            return
        if self._crop(place, step) or self._scale(place, step):
            return
        operands = [self._tensors[i] for i in step.reads]
        values = [self.values[seen.value].shape for seen in operands]
        found = form(step, [seen.view for seen in operands], values, [self._shape(i) for i in step.reads], ys)
        moves = tuple(dict.fromkeys(i for seen in operands for i in seen.moves))
        if (pad := self._pad_before(step, found)) is not None:
            before, found = pad
            operands[0] = self._tensors[self.trace.steps[before].reads[0]]
            moves = (*moves, before)
        self._add_node(place, step.writes, operands, found, moves)

    def _add_node(self, place: int, writes: tuple[int, ...], operands: list[_Seen], found: Form,
                  moves: tuple[int, ...]) -> None:  # fmt: skip
        reads = tuple(Read(seen.value, merge(f for axis in axes for f in axis))
                      for seen, axes in zip(operands, found.reads, strict=True))  # fmt: skip
        numbers = tuple(range(len(self.values), len(self.values) + len(writes)))
        for output, (shape, view) in enumerate(found.writes):
            self._tensors[writes[output]] = _Seen(len(self.values), view)
            self.values.append(Value(shape, len(self.nodes), output))
        self.nodes.append(
            Node(place, found.settings, reads, numbers, found.arrays, found.commutes, moves, found.orders)
        )

    # -- features that become pixels -----------------------------------------------------------------------------------

    def _reorder_features(self, number: int) -> None:
        """Bring the features of a linear layer into the order in which a later step reads them as channels and pixels.

        What stands between follows: functions of each element, and batch norms.
        """
        value = self.nodes[number].writes[0]
        features = self.values[value].shape[-1] if self.values[value].shape else 0
        reordered, layers, order = {value}, [number], None
        whole = merge([(prod(self.values[value].shape), 1)])
        readers = []
        for i, node in enumerate(self.nodes):
            for place, read in enumerate(node.reads):
                if read.value not in reordered:
                    continue
                if read.order == whole and len(node.reads) == 1 and kind_of(node.settings) in _FOLLOWING:
                    reordered.update(node.writes)
                    layers += [i] * bool(node.arrays)
                    continue
                found = views.inner_order(read.order, features)
                if found is None or (order is not None and not np.array_equal(order, found)):
                    return
                order = found
                readers.append((i, place))
        if order is None or any(read.value in reordered for result in self.results for read in result):
            return
        self._reordered |= dict.fromkeys(reordered, order)
        for i, place in readers:
            reads = list(self.nodes[i].reads)
            reads[place] = Read(reads[place].value, whole)
            self.nodes[i] = replace(self.nodes[i], reads=tuple(reads))
        for i in layers:
            self.nodes[i] = _with_features(self.nodes[i], order)

    # -- pads before windows, and crops after them ---------------------------------------------------------------------

    def _pad_before(self, step: TracedStep, found: Form) -> tuple[int, Form] | None:
        """Return the pad that a step with windows reads, and the step's form on what is padded."""
        before = self._writers.get(step.reads[0], INPUT) if step.reads else INPUT
        if before == INPUT or not isinstance(found.settings, Windows):
            return None
        pad, rank = self.trace.steps[before].step, len(found.writes[0][0])
        if not isinstance(pad, steps.Pad) or len(pad.padding) > rank:
            return None
        pairs = [(0, 0)] * (rank - len(pad.padding)) + list(pad.padding)
        ordered = [pairs[i] for i in canonical_order(step.layout, rank)]
        seen = self._tensors[self.trace.steps[before].reads[0]]
        mode: Hashable = ("constant", pad.value) if pad.mode == "constant" else (pad.mode,)
        writer = self.values[seen.value].node
        if mode == ZEROS and writer != INPUT and is_not_negative(self.nodes[writer].settings):
            own = step.step  # a maximum does not see zeros beside numbers that are not negative
            within = isinstance(own, steps.MaxPool) and all(
                max(pair) < size for pair, size in zip(ordered[2:], own.kernel_size, strict=True)
            )
            mode = found.settings.mode if within else mode
        widened = found.settings.widened(ordered, mode)
        if widened is None:
            return None
        axes = [seen.view[i] for i in canonical_order(step.layout, rank)]
        return before, found._replace(settings=widened, reads=[axes, *found.reads[1:]])

    def _crop(self, place: int, step: TracedStep) -> bool:
        """Add a crop right after a step with windows as that step with fewer windows; return whether it is one."""
        before = self._writers.get(step.reads[0], INPUT) if len(step.reads) == 1 else INPUT
        ranges = _crop_ranges(step.step, self._shape(step.reads[0])) if before != INPUT else None
        node = next((n for n in reversed(self.nodes) if n.place == before), None) if ranges else None
        if ranges is None or node is None or not isinstance(node.settings, Windows):
            return False
        layout = self.trace.steps[before].layout
        ordered = [ranges[i] for i in canonical_order(layout, len(ranges))]
        if any(r != range(n) for r, n in zip(ordered[:2], self.values[node.writes[0]].shape, strict=False)):
            return False
        shape, view = viewed(self._shape(step.writes[0]), canonical_order(layout, len(ranges)))
        number = len(self.values)
        self.values.append(Value(shape, len(self.nodes), 0))
        self._tensors[step.writes[0]] = _Seen(number, view)
        cropped = node.settings.cropped([(r.start, len(r)) for r in ordered[2:]])
        self.nodes.append(replace(node, settings=cropped, writes=(number,), moves=(*node.moves, place)))
        return True

    def _scale(self, place: int, step: TracedStep) -> bool:
        """Add a division of an average pool as that pool with another divisor; return whether it is one."""
        seen = self._tensors[step.reads[0]] if len(step.reads) == 1 and not step.note else None
        divisor = _divisor(step.step)
        if seen is None or not divisor or self.values[seen.value].node == INPUT:
            return False
        node = self.nodes[self.values[seen.value].node]
        settings = pooled_and_divided(node.settings, divisor)
        if settings is None or not all(stride for axis in seen.view for _, stride in axis):
            return False
        number = len(self.values)
        self._tensors[step.writes[0]] = _Seen(number, seen.view)
        self.values.append(Value(self.values[seen.value].shape, len(self.nodes), 0))
        moves = (*node.moves, *seen.moves, place)
        self.nodes.append(replace(node, settings=settings, writes=(number,), moves=moves))
        return True


def _divisor(step: steps.Step | ConvSpec) -> float:
    """Return the number that a step divides by; 0 for another step."""
    if not isinstance(step, steps.Divide | steps.Multiply) or not step.constant or getattr(step, "reflected", False):
        return 0.0
    return step.constant if isinstance(step, steps.Divide) else 1 / step.constant


def _with_features(node: Node, order: NDArray[np.intp]) -> Node:
    """Return a linear layer or batch norm whose features are in another order."""
    orders = {name: dict(own) for name, own in node.orders.items()}
    for name in ("weight", "bias", "scale", "mean", "variance"):
        before = orders.setdefault(name, {}).get(0)
        orders[name][0] = order if before is None else before[order]
    return replace(node, arrays=arrange(node.arrays, {name: {0: order} for name in node.arrays}), orders=orders)


def _slices(split: steps.Split, rank: int) -> list[steps.Slice]:
    """Return the parts of a split as slices."""
    ends = list(accumulate(split.sizes, initial=0))
    whole = [(None, None, 1)] * (split.axis % rank)
    return [steps.Slice([*whole, (start, stop, 1)]) for start, stop in pairwise(ends)]


def _crop_ranges(step: steps.Step | ConvSpec, shape: Shape) -> list[range] | None:
    """Return the positions that a crop keeps along each axis; None for another step."""
    if isinstance(step, steps.Slice):
        parts = [range(n)[part] for n, part in zip(shape, step.slices(shape), strict=False)]
        parts += [range(n) for n in shape[len(parts) :]]
        return parts if all(part.step == 1 and len(part) for part in parts) else None
    if isinstance(step, steps.Pad) and crops(step):
        first = len(shape) - len(step.padding)
        pads = [(0, 0)] * first + list(step.padding)
        return [range(-lo, n + hi) for n, (lo, hi) in zip(shape, pads, strict=True)]
    return None

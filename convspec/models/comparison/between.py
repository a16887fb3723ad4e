"""Name the steps between two layers that differ: from their settings, confirmed by the numbers before and after them.

The steps that lead from layers which belong together to what is compared are aligned with the fewest changes: a step
that only one model has, one with other settings, operands in another order. The first change whose operands agree and
whose results differ is the difference.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np

from convspec.contract import TracedStep
from convspec.models.comparison.layer_check import ErrorPropagation, largest_difference
from convspec.models.comparison.step_check import step_words
from convspec.models.dataflow.expressions import Expressions
from convspec.models.dataflow.graph import INPUT, Graph, Node, Read
from convspec.models.dataflow.settings import Windows
from convspec.spec import steps

_ELSEWHERE = 6  # changes that a read of another layer costs
_MOST = 4000  # pairs of values that are aligned
_OF_AXES = ("padding", "axis", "axes", "ranges", "sizes", "shape", "parameter_axes")  # as the framework counts
_IDS = {
    "add-missing": "skip-missing", "add-extra": "skip-extra", "dropout-extra": "dropout-active",
    "dropout-missing": "dropout-active", "relu-as-clip": "relu-as-relu6", "clip-as-relu": "relu6-as-relu",
}  # fmt: skip


class Change(NamedTuple):
    """A step of one model or of both that differs; None where a model has no such step.

    ``before`` and ``after`` are values of both graphs, ``kind`` is ``"order"`` where only elements are moved.
    """

    a: Node | None
    b: Node | None
    before: Sequence[tuple[int, int]]
    after: tuple[int, int]
    kind: str = ""


class Between:
    """The steps of two graphs between layers that belong together; ``layers``: pairs of their nodes."""

    def __init__(self, a: Graph, b: Graph, layers: Mapping[int, int]) -> None:
        self.a, self.b = a, b
        names = {i: ("layer", i) for i in layers}
        self._pairs = dict(layers)
        self._layers = set(layers), set(layers.values())
        expressions = Expressions()
        self._ours = expressions.of(a, layers=names)
        self._theirs = expressions.of(b, layers={j: names[i] for i, j in layers.items()})
        self._ends: tuple[Sequence[int], Sequence[int]] = (), ()
        self._known: dict[tuple[Read, Read], tuple[int, tuple[Change, ...]]] = {}

    def before(self, layer: int) -> str:
        """Return what differs on the way to the first operand of a layer of a and its counterpart, in words."""
        if layer not in self._pairs:
            return ""
        ours, theirs = self.a.nodes[layer], self.b.nodes[self._pairs[layer]]
        words = self._words(self._align(ours.reads[0], theirs.reads[0], (ours, theirs))[1])
        columns = [node.orders.get("weight", {}).get(1, np.empty(0)) for node in (ours, theirs)]
        if not words and not np.array_equal(columns[0], columns[1]):  # a linear layer with other columns
            return self._say_order(Change(ours, theirs, (), (0, 0), "order"))
        return words or self._rows(ours, theirs)

    def _rows(self, *ends: Node) -> str:
        """Return the moves after a linear layer whose features one model reads in another order, in words."""
        ways = [list(self._way(side, end)) for side, end in enumerate(ends)]
        first = [way[-1] for way in ways]
        orders = [node.orders.get("weight", {}).get(0, np.empty(0)) for node in first]
        arrays = [node.arrays.get("weight", np.empty(0)) for node in first]
        if min(map(len, ways)) < 2 or any(np.array_equal(x, y) for x, y in (orders, arrays)):
            return ""
        ours, theirs = (replace(way[0], moves=tuple(i for node in way[:-1] for i in node.moves)) for way in ways)
        return self._say_order(Change(ours, theirs, (), (0, 0), "order"))

    def _way(self, side: int, node: Node) -> Iterator[Node]:
        """Yield the nodes from a layer back to the layer before it, along their first operands."""
        graph = (self.a, self.b)[side]
        while True:
            yield node
            number = graph.values[node.reads[0].value].node if node.reads else INPUT
            if number == INPUT:
                return
            node = graph.nodes[number]
            if number in self._layers[side]:
                yield node
                return

    def layer(self, layer: int) -> str:
        """Return in what the settings of a layer of a and of its counterpart differ, in words."""
        if layer not in self._pairs:
            return ""
        ours, theirs = self.a.nodes[layer], self.b.nodes[self._pairs[layer]]
        return "" if ours.settings == theirs.settings else self._say(Change(ours, theirs, (), (0, 0)))

    def results(self) -> str:
        """Return what differs on the way from the last layers to the results, in words."""
        for number, forms in enumerate(zip(self.a.results, self.b.results, strict=False)):
            self._ends = self.a.ends[number], self.b.ends[number]
            best = min((self._align(x, y, (None, None)) for x, y in zip(*forms, strict=True)), key=lambda c: c[0])
            if words := self._words(best[1]):
                return words
        return ""

    # -- alignment -----------------------------------------------------------------------------------------------------

    def _align(self, x: Read, y: Read, readers: tuple[Node | None, Node | None]) -> tuple[int, tuple[Change, ...]]:
        """Return the fewest changes between two operands, the first ones first, and their number."""
        if self._ours[x.value] == self._theirs[y.value]:
            if x.order == y.order:
                return 0, ()
            return 1, (Change(*readers, (), (x.value, y.value), "order"),)
        if (known := self._known.get((x, y))) is not None:
            return known
        if len(self._known) > _MOST:
            return _ELSEWHERE, ()
        self._known[x, y] = _ELSEWHERE, ()
        self._known[x, y] = min(self._ways(x, y), key=lambda way: way[0])
        return self._known[x, y]

    def _ways(self, x: Read, y: Read) -> Iterator[tuple[int, tuple[Change, ...]]]:
        yield _ELSEWHERE, ()
        ours, theirs = self._node(0, x), self._node(1, y)
        if ours is not None and theirs is not None:
            yield self._replace(x, y, ours, theirs)
        after = x.value, y.value
        for operand in ours.reads if ours is not None else ():
            count, changes = self._align(operand, y, (ours, theirs))
            yield count + 1, (*changes, Change(ours, None, ((operand.value, y.value),), after))
        for operand in theirs.reads if theirs is not None else ():
            count, changes = self._align(x, operand, (ours, theirs))
            yield count + 1, (*changes, Change(None, theirs, ((x.value, operand.value),), after))

    def _replace(self, x: Read, y: Read, ours: Node, theirs: Node) -> tuple[int, tuple[Change, ...]]:
        """Return the changes where one step is the counterpart of the other."""
        mine, others = list(ours.reads), list(theirs.reads)
        if len(mine) != len(others):
            return _ELSEWHERE, ()
        if ours.commutes and theirs.commutes:
            mine, others = self._unequal(mine, others)
        elif self._keys(0, mine) != self._keys(1, others) and Counter(self._keys(0, mine)) == Counter(
            self._keys(1, others)
        ):
            return 1, (Change(ours, theirs, (), (x.value, y.value), "operands"),)
        aligned = [self._align(*both, (ours, theirs)) for both in zip(mine, others, strict=True)]
        changes = tuple(change for _, own in aligned for change in own)
        count = sum(number for number, _ in aligned)
        if ours.settings == theirs.settings and not ours.arrays and not theirs.arrays:
            return count, changes
        before = tuple((one.value, other.value) for one, other in zip(mine, others, strict=True))
        same_kind = self._kind(0, ours) == self._kind(1, theirs)
        return count + (1 if same_kind else 2), (*changes, Change(ours, theirs, before, (x.value, y.value)))

    def _unequal(self, mine: Sequence[Read], others: Sequence[Read]) -> tuple[list[Read], list[Read]]:
        """Return the operands that the other step does not have."""
        free = list(zip(self._keys(1, others), others, strict=True))
        left = []
        for key, read in zip(self._keys(0, mine), mine, strict=True):
            same = next((one for one in free if one[0] == key), None)
            if same is None:
                left.append(read)
            else:
                free.remove(same)
        return left, [read for _, read in free]

    def _keys(self, side: int, reads: Sequence[Read]) -> list[tuple[int, object]]:
        numbers = (self._ours, self._theirs)[side]
        return [(numbers[read.value], read.order) for read in reads]

    def _node(self, side: int, read: Read) -> Node | None:
        """Return the step that gives an operand; None for an input and a layer that has a counterpart."""
        graph = (self.a, self.b)[side]
        number = graph.values[read.value].node
        return None if number == INPUT or number in self._layers[side] else graph.nodes[number]

    # -- words ---------------------------------------------------------------------------------------------------------

    def _words(self, changes: Sequence[Change]) -> str:
        return next((self._say(change) for change in changes if self._is_seen(change)), "")

    def _is_seen(self, change: Change) -> bool:
        """Whether the numbers after a change differ by more than those before it and rounding explain."""
        errors = ErrorPropagation()
        for x, y in change.before:
            ours, theirs = self.a.numbers(x), self.b.numbers(y)
            if ours is not None and theirs is not None:
                errors.add(largest_difference(ours, theirs), ours)
        ours, theirs = (graph.numbers(value) for graph, value in zip((self.a, self.b), change.after, strict=True))
        if change.kind or ours is None or theirs is None:
            return True
        difference = largest_difference(ours, theirs)
        return difference is None or not errors.explains(difference, ours)

    def _kind(self, side: int, node: Node) -> type:
        return type((self.a, self.b)[side].trace.steps[node.place].step)

    def _say(self, change: Change) -> str:
        """Return the difference as its id and the words of both steps."""
        if change.kind == "order":
            return self._say_order(change)
        ours, theirs = self._step(0, change.a), self._step(1, change.b)
        words = "; ".join(
            f"model {name}: {'none' if step is None else step_words(step)}"
            for name, step in (("a", ours), ("b", theirs))
        )
        if change.kind == "operands":
            return f"{_kebab(ours)}-order: {words}: the operands are in another order"
        if change.a is not None and change.b is not None and change.a.settings == change.b.settings:
            return f"weights-differ: {words}: their settings are equal, their weights are not"
        return f"{_id(ours, theirs)}: {words}{_shift(change)}"

    def _step(self, side: int, node: Node | None) -> TracedStep | None:
        return None if node is None else (self.a, self.b)[side].trace.steps[node.place]

    def _say_order(self, change: Change) -> str:
        """Return the difference of moves: of the steps before the operand that only one model has."""
        places = [
            end if node is None else [i for i in node.moves if i < node.place]  # not the crops after it
            for node, end in zip((change.a, change.b), self._ends, strict=True)
        ]
        moves = [[graph.trace.steps[i] for i in own] for graph, own in zip((self.a, self.b), places, strict=True)]
        kinds = {type(step.step) for own in moves for step in own}
        name = next((_kebab_name(kind) for kind in (steps.PixelShuffle, steps.PixelUnshuffle, steps.ChannelShuffle,
                                                    steps.Flatten) if kind in kinds), "axes")  # fmt: skip
        words = "; ".join(f"model {side}: {', '.join(map(step_words, own)) or 'none'}"
                          for side, own in zip("ab", moves, strict=True))  # fmt: skip
        return f"{name}-order: {words}: the same elements in another order"


def _kebab_name(kind: type) -> str:
    name = re.sub("P?ReLU|SiLU", lambda match: match.group().capitalize(), kind.__name__)
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def _kebab(step: TracedStep | None) -> str:
    return "" if step is None else _kebab_name(type(step.step))


def _id(ours: TracedStep | None, theirs: TracedStep | None) -> str:
    """Return the stable id of a difference: ``relu-missing``, ``max-pool-as-average-pool``, ``gelu-approximation``."""
    if ours is None or theirs is None:
        found = f"{_kebab(ours or theirs)}-{'missing' if theirs is None else 'extra'}"
    elif not isinstance(ours.step, steps.Step):
        found = "convolution-differs"
    elif type(ours.step) is not type(theirs.step):
        found = f"{_kebab(ours)}-as-{_kebab(theirs)}"
    else:
        names = [f.name for f in fields(ours.step) if not isinstance(ours.step, steps.Parameter)]  # type: ignore[arg-type]
        differing = [n for n in names if getattr(ours.step, n) != getattr(theirs.step, n)] or ["numbers"]
        differing.sort(key=lambda name: name in _OF_AXES and not isinstance(ours.step, steps.WindowPool))
        found = f"{_kebab(ours)}-{differing[0].replace('_', '-')}"
    return _IDS.get(found, found)


def _shift(change: Change) -> str:
    """Return how far the windows of one model are from those of the other."""
    ours, theirs = (None if node is None else node.settings for node in (change.a, change.b))
    if not isinstance(ours, Windows) or not isinstance(theirs, Windows) or ours.kind != theirs.kind:
        return ""
    shifts = {a - b for a, b in zip(ours.starts, theirs.starts, strict=True)} - {0}
    if len(shifts) != 1:
        return ""
    shift = shifts.pop()
    return f": b's windows start {abs(shift)} pixel{'s' * (abs(shift) > 1)} {'later' if shift > 0 else 'earlier'}"

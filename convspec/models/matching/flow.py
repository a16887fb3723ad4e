"""Match layers by the data flow: layers belong together that read and feed what belongs together.

Colours are refined as in the test of Weisfeiler and Leman: a node's colour takes in those of the nodes that it reads
and of those that read it, round by round. A pair that is known has a colour of its own, from which more follow. Many
rounds tell branches apart; few leave a step that only one model has without an effect on what is far from it.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from convspec.models.dataflow.graph import INPUT, Graph, Node
from convspec.models.dataflow.settings import kind_of

Seeds: TypeAlias = Mapping[str, Hashable]
_ROUNDS = (16, 8, 4, 2, 1)


class Flow:
    """The layers of a graph and what stands between them, to be matched with those of another.

    Attributes:
        layers: the positions of the nodes of each layer, by its path, in the order of execution. A layer that calls a
            function with its arrays has the node of that function.
    """

    def __init__(self, graph: Graph, parts: Sequence[str]) -> None:
        self.graph = graph
        own = list(dict.fromkeys(step.path for step in graph.trace.steps if step.arrays))
        inner = {path: [one for one in own if re.match(rf"{re.escape(path)}\W", one)]
                 for path in parts if path not in own}  # fmt: skip
        owner = {path: path for path in own} | {one[0]: path for path, one in inner.items() if len(one) == 1}
        self.layers: dict[str, list[int]] = {path: [] for path in [*parts, *owner.values()]}
        self._paths: dict[int, str] = {}
        used = {read.value for reads in (*(node.reads for node in graph.nodes), *graph.results) for read in reads}
        last = {node.place: number for number, node in enumerate(graph.nodes)}  # a layer that is cropped has two nodes
        for number, node in enumerate(graph.nodes):
            step = graph.trace.steps[node.place]
            cropped = number != last[node.place] and used.isdisjoint(node.writes)
            if step.arrays and not cropped:
                self.layers[owner[step.path]].append(number)
                self._paths[number] = owner[step.path]

    def colours(self, seeds: Seeds, rounds: int, *, fine: bool) -> list[int]:
        """Return the colour of each node; ``fine``: of all steps and settings, else of layers and joins and shapes."""
        nodes = self.graph.nodes
        kept = [fine or i in self._paths or len(node.reads) != 1 for i, node in enumerate(nodes)]
        reads = [[(self._source(read.value, kept), i) for i, read in enumerate(node.reads)] for node in nodes]
        readers: list[list[tuple[int, int]]] = [[] for _ in nodes]
        for number, sources in enumerate(reads):
            for source, i in sources:
                if source >= 0 and kept[number]:
                    readers[source].append((number, 0 if nodes[number].commutes else i))
        ends = defaultdict(list)
        for place, result in enumerate(self.graph.results):
            ends[self._source(result[0].value, kept)].append(place)
        found = [hash((seeds.get(self._paths.get(i, "")), _kind(node, fine=fine))) for i, node in enumerate(nodes)]
        for _ in range(rounds):
            found = [
                hash((
                    found[i],
                    tuple(_operands(((found[s] if s >= 0 else s, o) for s, o in reads[i]), commutes=node.commutes)),
                    tuple(sorted((found[n], o) for n, o in readers[i])), tuple(ends[i]),
                ))
                for i, node in enumerate(nodes)
            ]  # fmt: skip
        return found

    def _source(self, value: int, kept: Sequence[bool]) -> int:
        """Return the node that gives a value, or the first that is kept before it; of an input a negative number."""
        while (number := self.graph.values[value].node) != INPUT and not kept[number]:
            value = self.graph.nodes[number].reads[0].value
        return number if number != INPUT else INPUT - self.graph.values[value].output


def _kind(node: Node, *, fine: bool) -> Hashable:
    shapes = tuple(sorted((name, array.shape) for name, array in node.arrays.items() if name in ("kernel", "weight")))
    return (node.settings if fine else kind_of(node.settings)), shapes


def _operands(operands: Iterable[tuple[int, int]], *, commutes: bool) -> Iterator[tuple[int, int]]:
    return iter(sorted((colour, 0) for colour, _ in operands)) if commutes else iter(operands)


def match_by_flow(a: Flow, b: Flow, known: Mapping[str, str], *, strict: bool = False) -> dict[str, str]:
    """Return b's layers by those of a, ``known`` ones included, as far as the data flow tells.

    ``strict``: layers that are alike in all that they read and feed are not paired.
    """
    matches = dict(known)
    if matches.keys() >= a.layers.keys() or {*matches.values()} >= b.layers.keys():
        return matches
    for fine, rounds in itertools.product((True, False), _ROUNDS):
        while more := _pairs(a, b, matches, rounds, fine=fine, strict=strict):
            matches |= more
    return matches


def _seeds(matches: Mapping[str, str]) -> tuple[Seeds, Seeds]:
    return ({path: ("pair", i) for i, path in enumerate(matches)},
            {path: ("pair", i) for i, path in enumerate(matches.values())})  # fmt: skip


def _pairs(a: Flow, b: Flow, matches: Mapping[str, str], rounds: int, *, fine: bool, strict: bool) -> dict[str, str]:
    """Return the layers that have a colour which no other has, in both models.

    Where there are none, and many rounds tell as many layers apart in both, these are alike in all that they read and
    feed: the first of them, one pair, tells the others apart.
    """
    sides = []
    for flow, seeds, done in zip((a, b), _seeds(matches), (set(matches), set(matches.values())), strict=True):
        colours = flow.colours(seeds, rounds, fine=fine)
        own: defaultdict[Hashable, list[str]] = defaultdict(list)
        for path, nodes in flow.layers.items():
            if nodes and path not in done:
                own[tuple(sorted(colours[i] for i in nodes))].append(path)
        sides.append(own)
    shared = [(paths, sides[1][colour]) for colour, paths in sides[0].items() if colour in sides[1]]
    unique = {ours[0]: theirs[0] for ours, theirs in shared if len(ours) == len(theirs) == 1}
    if unique or strict or rounds < _ROUNDS[0]:
        return unique
    return next(({ours[0]: theirs[0]} for ours, theirs in shared if len(ours) == len(theirs)), {})


def match_calls(a: Flow, b: Flow, matches: Mapping[str, str], path: str) -> list[int] | None:
    """Return for each call of a layer of a the number of b's call; None where only their order is known."""
    ours, theirs = a.layers.get(path, []), b.layers.get(matches.get(path, ""), [])
    if len(ours) != len(theirs) or len(ours) < 2:
        return None
    found: dict[int, int] = {}
    for fine, rounds in itertools.product((True, False), _ROUNDS):
        colours = [flow.colours(own, rounds, fine=fine) for flow, own in zip((a, b), _seeds(matches), strict=True)]
        left = [colours[0][node] for i, node in enumerate(ours) if i not in found]
        free = {j: colours[1][node] for j, node in enumerate(theirs) if j not in found.values()}
        for i, node in enumerate(ours):
            same = [j for j, colour in free.items() if colour == colours[0][node]]
            if i not in found and len(same) == left.count(colours[0][node]) == 1:
                found[i] = same[0]
    rest = iter([j for j in range(len(theirs)) if j not in found.values()])
    return [found[i] if i in found else next(rest) for i in range(len(ours))]

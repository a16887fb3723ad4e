"""Whether values of two graphs are made of the same steps, settings and arrays, wired the same way."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeAlias

import numpy as np

from convspec.models.dataflow.array_keys import ArrayKey
from convspec.models.dataflow.graph import INPUT, Graph, Node
from convspec.spec import Array

Names: TypeAlias = Mapping[str, Hashable]


class Expressions:
    """Numbers for values: equal ones, of any graph, are equal functions of the inputs."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def of(
        self, graph: Graph, convolutions: Names | None = None, norms: Names | None = None,
        layers: Mapping[int, Hashable] | None = None,
    ) -> list[int]:  # fmt: skip
        """Return the expression of each value of a graph.

        Args:
            convolutions: the name of a fold by the path of a convolution that contains a batch norm.
            norms: the same by the path of the batch norm after the convolution of the other graph.
            layers: names of nodes that count as inputs.
        """
        found: list[int] = []
        for one in graph.values:
            if one.node == INPUT:
                key: Hashable = ("input", one.output)
            elif layers and one.node in layers:
                key = (layers[one.node], one.output)
            else:
                key = (self._node(graph, one.node, found, convolutions or {}, norms or {}), one.output)
            found.append(self._number(key))
        return found

    def _node(self, graph: Graph, number: int, found: list[int], convolutions: Names, norms: Names) -> int:
        node = graph.nodes[number]
        path = graph.trace.steps[node.place].path
        arrays: Hashable = tuple((name, _key(node.arrays[name])) for name in sorted(node.arrays))
        if path in convolutions:
            arrays = convolutions[path]
        elif path in norms and graph.values[node.reads[0].value].node != INPUT:
            arrays, node = norms[path], graph.nodes[graph.values[node.reads[0].value].node]
        return self._number((node.settings, arrays, _operands(node, found)))

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def _operands(node: Node, found: list[int]) -> tuple[tuple[int, Hashable], ...]:
    operands = [(found[read.value], read.order) for read in node.reads]
    return tuple(sorted(operands) if node.commutes else operands)


def _key(array: Array) -> ArrayKey:
    return ArrayKey(array.astype(np.float32) if array.dtype == np.float16 else array)

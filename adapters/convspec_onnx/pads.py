"""Pads right before the convolutions of ONNX models: ``Pad`` nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from convspec.contract.tracing import Pad, described
from convspec_onnx import read
from convspec_onnx.graph.convolutions import value_of


def before(model: Any, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:  # noqa: ARG001 – the contract's
    """By the path of each convolution, the Pads before it, the nearest first."""
    nodes = read.nodes(read._expanded(model))
    return {path: list(_chain(graph, node)) for path, graph, node in nodes}


def _chain(graph: Any, conv: Any) -> Iterator[Pad | str]:
    name = conv.input[0]
    while (maker := graph.scope.maker(name)) is not None and maker.op_type in ("Pad", "Identity"):
        if maker.op_type == "Pad":
            yield _of(graph, maker, len(graph.constant(conv.input[1]).shape))
        name = maker.input[0]


def _of(graph: Any, node: Any, rank: int) -> Pad | str:
    given = {a.name: value_of(a) for a in node.attribute}
    flat, value, axes = (graph.constant(name) if name else None for name in [*node.input, "", "", ""][1:4])
    flat = given.get("pads") if flat is None else flat  # attributes before opset 11
    computed = any(node.input[i] for i in range(len(node.input)) if i and graph.constant(node.input[i]) is None)
    if flat is None or computed:
        return "it is computed"
    half = len(flat) // 2
    places = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    pairs = [(0, 0)] * rank
    for i, axis in enumerate(places):
        pairs[axis] = int(flat[i]), int(flat[half + i])
    put = given.get("value", 0.0) if value is None else float(np.ravel(value)[0])
    return described(given.get("mode", "constant"), pairs, put)

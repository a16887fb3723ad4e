"""Bring a model into the form that ONNX's checker wants where runtimes are lenient: sizes and the order of nodes."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop

import onnx

from convspec_onnx.loading.inline_functions import subgraphs, tensors_read

_SHOWN = 3  # nodes in a note


def normalize(model: onnx.ModelProto) -> list[dict[str, str]]:
    """Sort the nodes of a model and drop sizes below 1, which mean unknown, in place; return notes on the model."""
    graph = model.graph
    for entry in (*graph.input, *graph.value_info, *graph.output):
        for dim in entry.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 1:
                dim.ClearField("dim_value")
    early = _sort_graph(graph) + [name for function in model.functions for name in _sort(function)]
    if not early:
        return []
    names = ", ".join(map(repr, early[:_SHOWN])) + (f" and {len(early) - _SHOWN} more" if early[_SHOWN:] else "")
    title = f"nodes are listed before a node that they read from: {names}; convspec sorted them, some runtimes do not"
    return [{"id": "unsorted-nodes", "title": title, "level": "warning"}]


def _sort_graph(graph: onnx.GraphProto) -> list[str]:
    bodies = [body for node in graph.node for attribute in node.attribute for body in subgraphs(attribute)]
    return [name for body in bodies for name in _sort_graph(body)] + _sort(graph)


def _sort(graph: onnx.GraphProto | onnx.FunctionProto) -> list[str]:
    """Sort the nodes in place, otherwise in their order, and return those that were listed too early.

    Nodes in a circle are left for the checker to refuse.
    """
    nodes = list(graph.node)
    producers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    sources = {place: {producers[name] for name in tensors_read(node) if name in producers}
               for place, node in enumerate(nodes)}  # fmt: skip
    early = [place for place, read in sources.items() if max(read, default=-1) >= place]
    if not early:
        return []
    order: list[int] = []
    sorter = TopologicalSorter(sources)
    try:
        sorter.prepare()
    except CycleError:
        return []
    ready = list(sorter.get_ready())
    while ready:
        heapify(ready)
        order.append(heappop(ready))
        sorter.done(order[-1])
        ready += sorter.get_ready()
    del graph.node[:]
    graph.node.extend(nodes[place] for place in order)
    return [nodes[place].name or nodes[place].op_type for place in early]

"""A graph run piece by piece: what its convolutions read and wrote, in bounded memory.

The nodes are cut into segments of a few convolutions each. A segment is a model of its own, with the weights that its
nodes use; what later segments need is handed on. So weights are loaded once, every node runs once, and no more is held
than what is alive between two segments and what one segment shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper

from convspec_onnx.graph.convolutions import Scope
from convspec_onnx.loading.inline_functions import bodies, uses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec_onnx.graph.convolutions import Conv

    Arrays = dict[str, NDArray[Any]]

_CONVS = 8  # of one segment
_BYTES = 1 << 26  # that one segment shows, as far as the shapes are known


@dataclass
class Segment:
    """Some nodes in a row, and the convolutions among them or in their bodies."""

    nodes: list[onnx.NodeProto]
    convs: list[Conv] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    """A tensor to be captured: under which name it comes out, and what it is called in its own graph."""

    tag: str
    name: str
    element: int
    owners: tuple[tuple[str, str], ...]


def segments(graph: onnx.GraphProto, convs: Sequence[Conv]) -> list[Segment]:
    """The nodes of the graph, cut behind every few convolutions."""
    inside: dict[str, list[Conv]] = {}
    for conv in convs:
        inside.setdefault(conv.owners[0][0] if conv.owners else conv.node.name, []).append(conv)
    found = [Segment([])]
    size = 0
    for node in graph.node:
        here = inside.get(node.name, [])
        more = sum(map(_cost, here))
        if here and found[-1].convs and (len(found[-1].convs) + len(here) > _CONVS or size + more > _BYTES):
            found.append(Segment([]))
            size = 0
        found[-1].nodes.append(node)
        found[-1].convs += here
        size += more
    return found


def _cost(conv: Conv) -> int:
    total = 0
    for name in (conv.data, conv.node.output[0]):
        cells = 4
        for n in conv.scope.shape(name) or ():
            cells *= n if isinstance(n, int) else 1
        total += cells
    return total


def single(segment: Segment) -> Iterator[Segment]:
    """The same nodes, one a segment: to find the one that fails."""
    for node in segment.nodes:
        yield Segment([node], [c for c in segment.convs if (c.owners[0][0] if c.owners else c.node.name) == node.name])


def wanted(conv: Conv) -> list[str]:
    """What must be seen to judge a node: its output and those of its inputs that are no constants."""
    names = [name for name in conv.node.input if name and conv.scope.constant(name) is None]
    return [*dict.fromkeys(names), conv.node.output[0]]


def shown(convs: Sequence[Conv], *, inside: bool) -> list[Shown]:
    """The captures for these nodes; those in bodies only where asked for."""
    found = []
    for conv in convs:
        if conv.owners and not inside:
            continue
        for number, name in enumerate(wanted(conv)):
            tag = f"convspec_shows/{conv.path}/{number}" if conv.owners else name
            element = conv.scope.element(name) or conv.scope.element(conv.weight) or _of_weights(conv)
            found.append(Shown(tag, name, element, conv.owners))
    return found


def _of_weights(conv: Conv) -> int:
    weight = conv.scope.constant(conv.weight)
    return TensorProto.FLOAT if weight is None else int(helper.np_dtype_to_tensor_dtype(weight.dtype))


def submodel(
    model: onnx.ModelProto, segment: Segment, values: Arrays, keep: set[str], captures: Sequence[Shown]
) -> tuple[onnx.ModelProto, list[str]]:
    """The segment as a model, and the names of its outputs: what is to be kept, and the captures.

    ``values`` are the tensors that are there already; those that the segment reads are its inputs.
    """
    nodes = [_lifted(node, [c for c in captures if c.owners and c.owners[0][0] == node.name]) for node in segment.nodes]
    made = {name for node in nodes for name in node.output if name}
    read = set().union(*map(uses, nodes)) if nodes else set()
    weights = [t for t in model.graph.initializer if t.name in read and t.name not in values]
    sparse = [t for t in model.graph.sparse_initializer if t.values.name in read and t.values.name not in values]
    declared = {entry.name: entry for entry in model.graph.input}  # as in the whole graph, sizes left open
    inputs = [declared.get(n) or _entry(n, values[n]) for n in sorted(read & set(values)) if n not in made]
    tags = [c.tag for c in captures]
    outputs = sorted((keep & made) | {tag for tag in tags if tag in made})
    scope = Scope(model.graph)
    entries = [helper.make_tensor_value_info(name, _element(scope, name, captures), None) for name in outputs]
    graph = helper.make_graph(nodes, "segment", inputs, entries, weights, sparse_initializer=sparse)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return part, outputs


def _element(scope: Scope, name: str, captures: Sequence[Shown]) -> int:
    return next((c.element for c in captures if c.tag == name), 0) or scope.element(name)


def _entry(name: str, value: NDArray[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, int(helper.np_dtype_to_tensor_dtype(value.dtype)), list(value.shape))


def _lifted(node: onnx.NodeProto, captures: Sequence[Shown], depth: int = 0) -> onnx.NodeProto:
    """A copy of the node whose bodies also return the captures: of the taken branch, of all steps of a loop."""
    if not captures:
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        for body in bodies(attribute):
            here = [c for c in captures if c.owners[depth][1] == attribute.name]
            _return(body, here, depth)
            if node.op_type == "If":
                _pad_branch(body, [c for c in captures if c not in here], depth)
                _sort_outputs(body, captures, depth)
    if node.op_type == "Scan":
        for attribute in copy.attribute:
            if attribute.name in ("scan_output_axes", "scan_output_directions"):
                attribute.ints.extend([0] * len(captures))
    copy.output.extend(c.tag for c in captures)
    return copy


def _return(body: onnx.GraphProto, captures: Sequence[Shown], depth: int) -> None:
    """Make a body return the captures of its own nodes and of the bodies within."""
    for index, inner in enumerate(body.node):
        below = [c for c in captures if len(c.owners) > depth + 1 and c.owners[depth + 1][0] == inner.name]
        if below:
            body.node[index].CopyFrom(_lifted(inner, below, depth + 1))
    for capture in captures:
        source = capture.name if len(capture.owners) == depth + 1 else capture.tag
        body.node.add().CopyFrom(helper.make_node("Identity", [source], [_local(capture, depth)]))
        body.output.append(helper.make_tensor_value_info(_local(capture, depth), capture.element, None))


def _pad_branch(body: onnx.GraphProto, captures: Sequence[Shown], depth: int) -> None:
    """Make the other branch return nothing, in the right type, under the same place."""
    for capture in captures:
        empty = helper.make_tensor("", capture.element, [0], [])
        body.node.add().CopyFrom(helper.make_node("Constant", [], [_local(capture, depth)], value=empty))
        body.output.append(helper.make_tensor_value_info(_local(capture, depth), capture.element, None))


def _sort_outputs(body: onnx.GraphProto, captures: Sequence[Shown], depth: int) -> None:
    """Both branches must return their outputs in the same order."""
    added = {entry.name: entry for entry in body.output}
    plain = [entry for entry in body.output if entry.name not in {_local(c, depth) for c in captures}]
    order = [*plain, *(added[_local(c, depth)] for c in captures)]
    copies = [onnx.ValueInfoProto.FromString(entry.SerializeToString()) for entry in order]
    del body.output[:]
    body.output.extend(copies)


def _local(capture: Shown, depth: int) -> str:
    return f"{capture.tag}/depth_{depth}"

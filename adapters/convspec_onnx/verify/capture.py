"""Cut a graph into segments whose outputs include what its convolutions read and write.

A segment has a few convolutions, and is a model with the weights that its nodes use; the values that later segments
read are passed on. So weights are loaded once, every node runs once, and memory holds no more than the tensors alive
between two segments and the captures of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper

from convspec_onnx.graph import Conv, Scope
from convspec_onnx.loading import Array, Arrays, subgraphs, tensors_read

_CONVS = 8  # of one segment
_NODES = 64
_BYTES = 1 << 26  # captured from one segment, as far as shapes are known


@dataclass
class Segment:
    """Consecutive nodes, and the convolutions among them or in their bodies."""

    nodes: list[onnx.NodeProto]
    convs: list[Conv] = field(default_factory=list)

    def single_nodes(self) -> list[Segment]:
        """Return a segment for each node, to find the one that fails."""
        return [Segment([node], [c for c in self.convs if c.top_node == node.name]) for node in self.nodes]


@dataclass(frozen=True)
class Capture:
    """A tensor to be captured: its name among the outputs of the segment, and its name in its own graph."""

    tag: str
    name: str
    element: int
    owners: tuple[tuple[str, str], ...]


def cut_segments(graph: onnx.GraphProto, convs: Sequence[Conv]) -> list[Segment]:
    """Return the nodes of the graph, cut after every few convolutions."""
    inside: dict[str, list[Conv]] = {}
    for conv in convs:
        inside.setdefault(conv.top_node, []).append(conv)
    segments = [Segment([])]
    size = 0
    for node in graph.node:
        own = inside.get(node.name, [])
        more = sum(map(_captured_bytes, own))
        last = segments[-1]
        if len(last.nodes) >= _NODES or (
            own and last.convs and (len(last.convs) + len(own) > _CONVS or size + more > _BYTES)
        ):
            segments.append(Segment([]))
            size = 0
        segments[-1].nodes.append(node)
        segments[-1].convs += own
        size += more
    return segments


def _captured_bytes(conv: Conv) -> int:
    shapes = [conv.scope.shape(name) or () for name in (conv.data, conv.node.output[0])]
    return sum(4 * math.prod(n for n in shape if isinstance(n, int)) for shape in shapes)


def captures_of(conv: Conv) -> list[Capture]:
    """Return the captures that judge a node: its output and its inputs that are no constants."""
    if not conv.judged:
        return []
    names = [name for name in (*conv.node.input, *(conv.dynamic or ())) if name and conv.scope.constant(name) is None]
    captures = []
    for number, name in enumerate([*dict.fromkeys(names), conv.node.output[0]]):
        tag = f"convspec_captures/{conv.path}/{number}" if conv.owners else name
        element = conv.scope.element_type(name) or (_guess_element_type(conv, name) if conv.owners else 0)
        captures.append(Capture(tag, name, element, conv.owners))
    return captures


def _guess_element_type(conv: Conv, name: str) -> int:
    """Return the element type of a tensor in a body, where outputs must have one: as of the zero point or the weight.

    Outputs of the main graph need none: the runtime infers it.
    """
    written = name == conv.node.output[0]
    if conv.node.op_type == "ConvInteger" and written:
        return int(TensorProto.INT32)
    zero = 7 if written else 2  # of QLinearConv; ConvInteger has that of x at the same place
    if (
        conv.node.op_type in ("ConvInteger", "QLinearConv")
        and (written or name == conv.data)
        and (known := conv.scope.element_type([*conv.node.input, *[""] * 8][zero]))
    ):
        return known
    weight = conv.scope.constant(conv.weight)
    return conv.scope.element_type(conv.weight) or (
        int(TensorProto.FLOAT) if weight is None else int(helper.np_dtype_to_tensor_dtype(weight.dtype))
    )


def extract_segment(
    model: onnx.ModelProto, segment: Segment, values: Arrays, keep: set[str], captures: Sequence[Capture]
) -> tuple[onnx.ModelProto, list[str]]:
    """Return the segment as a model, and the names of its outputs: those in ``keep``, and the captures.

    ``values``: the tensors that are known already; those that the segment reads become its inputs.
    """
    nodes = [_capture_in(node, [c for c in captures if c.owners and c.owners[0][0] == node.name])
             for node in segment.nodes]  # fmt: skip
    made = {name for node in nodes for name in node.output if name}
    read = set().union(*map(tensors_read, nodes)) if nodes else set()
    weights = [t for t in model.graph.initializer if t.name in read and t.name not in values]
    sparse = [t for t in model.graph.sparse_initializer if t.values.name in read and t.values.name not in values]
    declared = {entry.name: entry for entry in model.graph.input}  # as in the whole graph, with symbolic axes
    inputs = [declared.get(n) or _declare(n, values[n]) for n in sorted(read & set(values)) if n not in made]
    elements = {c.tag: c.element for c in captures if c.element}
    outputs = sorted((keep | {c.tag for c in captures}) & made)
    scope = Scope(model.graph)
    entries = [_entry(name, elements.get(name) or scope.element_type(name)) for name in outputs]
    graph = helper.make_graph(nodes, "segment", inputs, entries, weights, sparse_initializer=sparse)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return part, outputs


def _entry(name: str, element: int) -> onnx.ValueInfoProto:
    """Return an output; the runtime infers an unknown type."""
    return helper.make_tensor_value_info(name, element, None) if element else onnx.ValueInfoProto(name=name)


def _declare(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, int(helper.np_dtype_to_tensor_dtype(value.dtype)), list(value.shape))


def _capture_in(node: onnx.NodeProto, captures: Sequence[Capture], depth: int = 0) -> onnx.NodeProto:
    """Return a copy of the node that also outputs its bodies' captures: of the branch taken, of all loop iterations."""
    if not captures:
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        for body in subgraphs(attribute):
            own = [c for c in captures if c.owners[depth][1] == attribute.name]
            _return_captures(body, own, depth)
            if node.op_type == "If":
                _return_empty(body, [c for c in captures if c not in own], depth)
                _sort_outputs(body, captures, depth)
    if node.op_type == "Scan":
        for attribute in copy.attribute:
            if attribute.name in ("scan_output_axes", "scan_output_directions"):
                attribute.ints.extend([0] * len(captures))
    copy.output.extend(c.tag for c in captures)
    return copy


def _return_captures(body: onnx.GraphProto, captures: Sequence[Capture], depth: int) -> None:
    """Make a body return the captures of its own nodes and of the bodies inside it."""
    for index, inner in enumerate(body.node):
        below = [c for c in captures if len(c.owners) > depth + 1 and c.owners[depth + 1][0] == inner.name]
        if below:
            body.node[index].CopyFrom(_capture_in(inner, below, depth + 1))
    for capture in captures:
        source = capture.name if len(capture.owners) == depth + 1 else capture.tag
        _add_output(body, capture, depth, helper.make_node("Identity", [source], [_local(capture, depth)]))


def _return_empty(body: onnx.GraphProto, captures: Sequence[Capture], depth: int) -> None:
    """Make the other branch of an If return empty tensors of the right types."""
    for capture in captures:
        empty = helper.make_tensor("", capture.element, [0], [])
        _add_output(body, capture, depth, helper.make_node("Constant", [], [_local(capture, depth)], value=empty))


def _add_output(body: onnx.GraphProto, capture: Capture, depth: int, node: onnx.NodeProto) -> None:
    body.node.add().CopyFrom(node)
    body.output.append(helper.make_tensor_value_info(_local(capture, depth), capture.element, None))


def _sort_outputs(body: onnx.GraphProto, captures: Sequence[Capture], depth: int) -> None:
    """Give both branches their outputs in the same order."""
    added = {entry.name: entry for entry in body.output}
    plain = [entry for entry in body.output if entry.name not in {_local(c, depth) for c in captures}]
    order = [*plain, *(added[_local(c, depth)] for c in captures)]
    copies = [onnx.ValueInfoProto.FromString(entry.SerializeToString()) for entry in order]
    del body.output[:]
    body.output.extend(copies)


def _local(capture: Capture, depth: int) -> str:
    return f"{capture.tag}/depth_{depth}"

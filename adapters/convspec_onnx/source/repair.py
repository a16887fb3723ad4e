"""Repair a graph where one attribute or one array of a node is wrong, and its source has the right one.

In go the differences of nodes from their source layers; out comes the graph with the right attributes and arrays, all
else as it was, and what was changed, in words. The caller verifies it anew: an edit that does not help is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convspec.errors import ConvspecError, printable
from convspec.models import Difference, Layer, fold
from convspec.models.comparison.common_rank import AlignedSpecs, CommonRank
from convspec.spec import ConvSpec, Pads
from convspec_onnx.graph import Conv, attributes_of
from convspec_onnx.loading import Array, load_proto

_FIELDS = {"stride-differs": "strides", "dilation-differs": "dilations", "groups-differs": "group",
           "padding-differs": "pads", "output-padding-differs": "output_padding"}  # fmt: skip
_WEIGHTS = ("kernel", "bias", "batch-norm")
_PLACES = {  # of the arrays among the inputs of a node
    "Conv": {"weight": 1, "bias": 2}, "ConvTranspose": {"weight": 1, "bias": 2},
    "QLinearConv": {"x_scale": 1, "x_zero": 2, "weight": 3, "weight_scale": 4, "weight_zero": 5, "bias": 8},
    "DequantizeLinear": {"": 0, "_scale": 1, "_zero": 2},
}  # fmt: skip


@dataclass
class Edit:
    """What must change at one node: attributes (None: removed), and arrays by what they are to the node."""

    conv: Conv
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    epsilon: float | None = None  # of the batch normalisation after the node


def plan_edit(
    conv: Conv, form: CommonRank, settled: AlignedSpecs, shape: Sequence[int], differences: Sequence[Difference]
) -> Edit | None:
    """Return the edit that gives a node its source's settings and weights; None if none is known."""
    if conv.owners or conv.rows or conv.joined or form.theirs.part:
        return None
    edit, ids = Edit(conv), {d.id for d in differences}
    if wrong := [_FIELDS[name] for name in ids if name in _FIELDS]:
        edit.attributes = _attributes(conv, form, settled, shape, wrong)
    for difference in differences:
        edit.arrays |= {name: np.asarray(array) for name, array in (difference.right or {}).items()}
    if not edit.arrays and any(name.startswith(_WEIGHTS) for name in ids):
        if "batch-norm-epsilon" in ids and form.ours.norm is not None and form.theirs.norm is not None:
            edit.epsilon = form.theirs.norm.epsilon
        else:
            edit.arrays = _weights(conv, form.ours, form.theirs)
    return edit if edit.attributes or edit.arrays or edit.epsilon is not None else None


def _attributes(
    conv: Conv, form: CommonRank, settled: AlignedSpecs, shape: Sequence[int], wrong: Sequence[str]
) -> dict[str, Any]:
    """Return the attributes of the node that make it the source's layer; pads explicit."""
    own, theirs = _explicit(form.ours.spec, shape), settled.theirs
    if theirs is None or own is None or isinstance(theirs.padding, str) or isinstance(settled.ours.padding, str):
        return {}
    more = zip(own.padding, theirs.padding, settled.ours.padding, strict=True)
    pads: Pads = tuple((lo + a - c, hi + b - d) for (lo, hi), (a, b), (c, d) in more)
    if min(n for pair in pads for n in pair) < 0:
        return {}

    def whole(values: Iterable[Any], idle: Any) -> list[Any]:
        listed = list(values)
        return listed if form.dropped is None else [*listed[: form.dropped], idle, *listed[form.dropped :]]

    pairs = whole(pads, (0, 0))
    values = {"strides": whole(theirs.stride, 1), "dilations": whole(theirs.dilation, 1), "group": theirs.groups,
              "pads": [lo for lo, _ in pairs] + [hi for _, hi in pairs],
              "output_padding": whole(theirs.output_padding, 0)}  # fmt: skip
    automatic = [name for name in ("auto_pad", "output_shape") if conv.attributes.get(name) not in (None, "NOTSET")]
    names = dict.fromkeys([*wrong, *(["pads"] if automatic else [])])
    return {name: values[name] for name in names} | dict.fromkeys(automatic)


def _explicit(spec: ConvSpec, shape: Sequence[int]) -> Any:
    try:
        return spec.explicit(shape)
    except ConvspecError:
        return None


def _weights(conv: Conv, ours: Layer, theirs: Layer) -> dict[str, Array]:
    """Return the source's kernel and bias, with the operations folded in that the node does not have after it."""
    stored = conv.scope.constant(conv.weight)
    if stored is None or stored.dtype.kind != "f":
        return {}
    operations = [[*((layer.norm,) if layer.norm else ()), *layer.epilogue] for layer in (ours, theirs)]
    folded = max(len(operations[1]) - len(operations[0]), 0)
    kernel, bias = replace(theirs, norm=None).fold_norm()
    for norm in operations[1][:folded]:
        kernel, bias = fold(theirs.spec, kernel, bias, norm)
    arrays = {}
    shape = stored.shape if kernel.size == stored.size else kernel.shape
    if not np.array_equal(kernel.reshape(shape).astype(stored.dtype), stored):
        arrays["weight"] = kernel.reshape(shape).astype(stored.dtype)
    own = ours.params.bias
    if len(operations[0]) <= len(operations[1]) and (bias.any() or own is not None):
        arrays["bias"] = bias.astype(stored.dtype)
    return arrays


# -- the graph ---


def write_repaired(path: str, edits: Mapping[str, Edit], out: str) -> list[str]:
    """Write the graph with the edits; return what was changed, in words. Nothing is written without a change."""
    proto = load_proto(path)
    nodes = {name: node for node in proto.graph.node for name in node.output}
    changes: list[str] = []
    for edit in edits.values():
        node = nodes.get(edit.conv.node.output[0])
        if node is not None and node.op_type == edit.conv.node.op_type:
            changes += [f"{edit.conv.path}: {words}" for words in _apply(proto.graph, nodes, node, edit)]
    if changes:
        used = {name for node in proto.graph.node for name in node.input} | {e.name for e in proto.graph.output}
        bodies = any(a.HasField("g") or a.graphs for node in proto.graph.node for a in node.attribute)
        for tensor in [t for t in proto.graph.initializer if t.name not in used and not bodies]:
            proto.graph.initializer.remove(tensor)
        onnx.save(proto, out)
    return changes


def _apply(graph: onnx.GraphProto, nodes: Mapping[str, onnx.NodeProto], node: onnx.NodeProto, edit: Edit) -> list[str]:
    changes = []
    before = attributes_of(node)
    for name, value in edit.attributes.items():
        _set(node, name, value)
        old = before.get(name)
        shown = list(old) if isinstance(old, tuple) else old
        changes.append(f"{name}: removed" if value is None else f"{name}: {'none' if old is None else shown} → {value}")
    if edit.epsilon is not None:
        for reader in graph.node:
            if reader.op_type == "BatchNormalization" and reader.input[0] == node.output[0]:
                changes.append(f"epsilon after it: {attributes_of(reader).get('epsilon', 1e-5):g} → {edit.epsilon:g}")
                _set(reader, "epsilon", edit.epsilon)
    for name, array in edit.arrays.items():
        place = _place(nodes, node, name)
        if place is None:
            continue
        owner, index = place
        if name.endswith("_axis"):
            _set(owner, "axis", int(array))
            changes.append(f"{_words(name)} → {int(array)}")
            continue
        tensor = f"{owner.output[0]}_{name}_repaired"
        owner.input.extend([""] * (index + 1 - len(owner.input)))
        changes.append(f"{_words(name)}: {'written' if owner.input[index] else 'added'} as in the source")
        owner.input[index] = tensor
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), tensor))
    return changes


def _place(nodes: Mapping[str, onnx.NodeProto], node: onnx.NodeProto, name: str) -> tuple[onnx.NodeProto, int] | None:
    """Return the node and the input that hold an array: a DequantizeLinear before the node, or the node itself."""
    places = _PLACES[node.op_type]
    base, _, suffix = name.partition("_")
    input_index = {"x": 0, "weight": 1, "bias": 2}[base]
    maker = nodes.get(node.input[input_index]) if len(node.input) > input_index else None
    if node.op_type != "QLinearConv" and maker is not None and maker.op_type == "DequantizeLinear":
        return maker, _PLACES["DequantizeLinear"].get(f"_{suffix}" if suffix else "", 0)
    return (node, places[name]) if name in places else None


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


def _words(name: str) -> str:
    base, _, suffix = name.partition("_")
    return printable(
        {"x": "input", "weight": "kernel", "bias": "bias"}[base]
        + f"'s {suffix} {'point' * (suffix == 'zero')}".rstrip() * bool(suffix)
    )

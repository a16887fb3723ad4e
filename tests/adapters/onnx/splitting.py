"""Graphs as exporters write them that have no groups: each grouped convolution as Split, one for each part, Concat."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from tests.adapters.onnx.faulty import CONVS, attribute, put


def split(proto, node, *, groups=1, bias="inside", grouped=True, parts=None, cut="Split"):
    """Replace a node by parts of ``groups`` groups each, or of equal output channels; returns the parts.

    ``bias``: inside the parts, ``apart`` behind each, or ``behind`` the Concat.
    """
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    whole, kernel = node.name, tensors[node.input[1]]
    vector = tensors[node.input[2]] if len(node.input) > 2 else None
    ndim, transposed = kernel.ndim - 2, node.op_type == "ConvTranspose"
    count = parts or (attribute(node, "group").i // groups)
    reads = kernel.shape[0] if transposed else kernel.shape[1] * attribute(node, "group").i
    kernels = np.split(kernel, count, 1 if transposed and not grouped else 0)
    biases = [None] * count if vector is None else np.split(vector, count)
    place, made = list(proto.graph.node).index(node), []

    def put_in(name, value):
        proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{whole}/{name}"))
        return f"{whole}/{name}"

    data = [f"{whole}/x{k}" for k in range(count)] if grouped else [node.input[0]] * count
    if grouped and cut == "Split":
        sizes = put_in("sizes", np.full(count, reads // count))
        made.append(helper.make_node("Split", [node.input[0], sizes], data, f"{whole}/Split", axis=1))
    elif grouped:
        ends = np.arange(count + 1) * reads // count
        for k in range(count):
            bounds = [put_in(f"{name}{k}", np.array([n])) for name, n in zip("sea", (*ends[k : k + 2], 1), strict=True)]
            made.append(helper.make_node("Slice", [node.input[0], *bounds], [data[k]], f"{whole}/Slice{k}"))
    outputs = []
    for k in range(count):
        inputs = [data[k], put_in(f"w{k}", kernels[k])]
        if vector is not None and bias == "inside":
            inputs.append(put_in(f"b{k}", biases[k]))
        outputs.append(f"{whole}/y{k}")
        part = helper.make_node(node.op_type, inputs, [outputs[-1]], f"{whole}/part{k}")
        part.attribute.extend(node.attribute)
        put(part, group=groups if grouped else 1)
        made.append(part)
        if vector is not None and bias == "apart":
            added = put_in(f"b{k}", biases[k].reshape(-1, *(1,) * ndim))
            outputs.append(f"{outputs.pop()}/biased")
            made.append(helper.make_node("Add", [part.output[0], added], [outputs[-1]], f"{whole}/Add{k}"))
    behind = vector is not None and bias == "behind"
    joined = f"{whole}/joined" if behind else node.output[0]
    made.append(helper.make_node("Concat", outputs, [joined], f"{whole}/Concat", axis=1))
    if behind:
        added = put_in("b", vector.reshape(1, -1, *(1,) * ndim))
        made.append(helper.make_node("Add", [joined, added], [node.output[0]], f"{whole}/Add"))
    proto.graph.node.remove(node)
    for number, entry in enumerate(made):
        proto.graph.node.insert(place + number, entry)
    return [n for n in proto.graph.node if n.name.startswith(f"{whole}/") and n.op_type in CONVS]

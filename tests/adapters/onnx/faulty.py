"""Faults that are planted into graphs: each changes one convolution, or what belongs to it, in place."""

from __future__ import annotations

import numpy as np
from convspec_onnx.loading import to_array
from onnx import helper, numpy_helper

CONVS = ("Conv", "ConvTranspose")


def convs(model):
    return [node for node in model.graph.node if node.op_type in CONVS]


def attribute(node, name):
    return next((a for a in node.attribute if a.name == name), None)


def put(node, **values):
    for name, value in values.items():
        old = attribute(node, name)
        if old is not None:
            node.attribute.remove(old)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))


def change(model, name, function):
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(function(to_array(tensor).copy())), name))


def pad_moved(model, node):
    pads = list(attribute(node, "pads").ints)
    half = len(pads) // 2
    put(node, pads=[p + 1 if i < half else p - 1 for i, p in enumerate(pads)])


def pads_on_the_other_side(model, node):
    pads = list(attribute(node, "pads").ints)
    half = len(pads) // 2
    put(node, pads=[*pads[half:], *pads[:half]])


def pad_of_one_axis_moved(model, node):
    pads = list(attribute(node, "pads").ints)
    half = len(pads) // 2
    put(node, pads=[p - 1 if i == 0 else p + 1 if i == half else p for i, p in enumerate(pads)])


def dilation_dropped(model, node):
    put(node, dilations=[1, 1], pads=[1, 1, 1, 1])


def dilation_added(model, node):
    put(node, dilations=[2, 2], pads=[2, 2, 2, 2])


def stride_moved_to_pads(model, node):
    """The stride is changed, and the shape kept by a Slice behind the node that takes the wrong rows."""
    put(node, strides=[1, 1])
    target = node.output[0]
    node.output[0] = target + "/full"
    for name, values in (("starts", [1, 1]), ("ends", [99, 99]), ("axes", [2, 3]), ("steps", [2, 2])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), f"fault/{name}"))
    cut = helper.make_node(
        "Slice", [node.output[0], *(f"fault/{n}" for n in ("starts", "ends", "axes", "steps"))], [target]
    )
    model.graph.node.insert(list(model.graph.node).index(node) + 1, cut)


def auto_pad_swapped(model, node):
    put(node, pads=None, auto_pad="SAME_UPPER")  # SAME_LOWER would be right for 7 taps, stride 2 and 3 pads


def spatially_transposed(model, node):
    change(model, node.input[1], lambda w: np.swapaxes(w, 2, 3))


def flipped(model, node):
    change(model, node.input[1], lambda w: w[..., ::-1, ::-1])


def channels_transposed(model, node):
    change(model, node.input[1], lambda w: np.swapaxes(w, 0, 1))


def outputs_reversed(model, node):
    change(model, node.input[1], lambda w: w[::-1])


def one_sign(model, node):
    def flip(w):
        w.reshape(-1)[w.size // 2] *= -1
        return w

    change(model, node.input[1], flip)


def one_weight_zero(model, node):
    def zero(w):
        w.reshape(-1)[w.size // 3] = 0
        return w

    change(model, node.input[1], zero)


def one_weight_nan(model, node):
    def spoil(w):
        w.reshape(-1)[w.size // 3] = np.nan
        return w

    change(model, node.input[1], spoil)


def half_weights(model, node):
    change(model, node.input[1], lambda w: w.astype(np.float16).astype(np.float32))


def bias_of_another(model, node):
    mine = next(t for t in model.graph.initializer if t.name == node.input[2])
    other = next(n.input[2] for n in convs(model) if n is not node and len(n.input) > 2
                 and list(_dims(model, n.input[2])) == list(mine.dims))  # fmt: skip
    change(model, node.input[2], lambda b: to_array(next(t for t in model.graph.initializer if t.name == other)))


def _dims(model, name):
    return next(t.dims for t in model.graph.initializer if t.name == name)


def bias_lost(model, node):
    del node.input[2]


def groups_one(model, node):
    put(node, group=1)

    def spread(w):
        wide = np.zeros((w.shape[0], w.shape[0], *w.shape[2:]), w.dtype)
        wide[:] = w / w.shape[0]
        return wide

    change(model, node.input[1], spread)


def group_does_not_divide(model, node):
    put(node, group=5)


def _normalisation(model, node):
    return next(n for n in model.graph.node if n.op_type == "BatchNormalization" and n.input[0] == node.output[0])


def epsilon_wrong(model, node):
    put(_normalisation(model, node), epsilon=1e-3)


def statistics_of_another(model, node):
    norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    mine = _normalisation(model, node)
    other = next(n for n in norms if n is not mine and _dims(model, n.input[3]) == _dims(model, mine.input[3]))
    mine.input[3] = other.input[3]


def folded_twice(model, node):
    """Applied to the unfolded graph: the fold is done, and the normalisation left in."""
    norm = _normalisation(model, node)
    gain, shift, mean, variance = (
        to_array(next(t for t in model.graph.initializer if t.name == n)) for n in norm.input[1:]
    )
    scale = gain / np.sqrt(variance + 1e-5)
    change(model, node.input[1], lambda w: w * scale.reshape(-1, 1, 1, 1))
    model.graph.initializer.append(
        numpy_helper.from_array(((0 - mean) * scale + shift).astype(np.float32), "fault/bias")
    )
    node.input[:] = [*node.input[:2], "fault/bias"]


def normalisation_lost(model, node):
    norm = _normalisation(model, node)
    target = norm.output[0]
    node.output[0] = target
    model.graph.node.remove(norm)


def crop_moved(model, node):
    put(node, pads=[0, 0, 0, 0], strides=[2, 2], output_padding=[0, 0], kernel_shape=None)
    change(model, node.input[1], lambda w: w[..., ::-1, :])


def activation_lost(model, node):
    """Between two convolutions: the second one already reads other numbers."""
    before = next(n for n in model.graph.node if n.output[0] == node.input[0])
    before.op_type = "Identity"
    del before.attribute[:]


def names(network, place, fault):
    return f"{network}-{place}-{fault.__name__}"

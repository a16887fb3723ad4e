"""What follows a convolution in a graph, as far as it is read, computes what the runtime's own nodes compute."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from convspec_onnx.graph import find_convolutions
from convspec_onnx.loading import DetachedModel
from convspec_onnx.source.match_nodes import epilogue_of, layer_of
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tests.adapters.onnx.verifying import audited, conv, model, saved, weights

pytestmark = pytest.mark.onnx

O, H, W = 4, 5, 4  # as many channels as columns: a vector along the columns must not be read as one along the channels
SHAPE = (2, 3, H + 2, W + 2)


class Chain:
    """A convolution and the nodes after it, each of which reads the last tensor."""

    def __init__(self):
        self.nodes, self.tensors, self.name = [conv("conv", "x", "t0", "w", "b")], {}, "t0"
        self.tensors |= {"w": weights(O, 3, 3, 3), "b": weights(O)}

    def constant(self, value, dtype=None):
        name = f"c{len(self.tensors)}"
        self.tensors[name] = np.asarray(value, dtype)
        return name

    def add(self, op, *inputs, first=True, **attributes):
        target = f"t{len(self.nodes)}"
        names = [self.name, *inputs] if first else [*inputs, self.name]
        self.nodes.append(helper.make_node(op, names, [target], f"n{len(self.nodes)}", **attributes))
        self.name = target
        return self

    def proto(self, *further):
        proto = model([*self.nodes, *further], self.tensors, SHAPE, output=self.name)
        proto.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info(self.name))
        return onnx.shape_inference.infer_shapes(proto)

    def read(self):
        return self.conv(self.proto())

    @staticmethod
    def conv(proto):
        (found,) = find_convolutions(DetachedModel(proto))
        return found


def run(proto, *names):
    """The tensors of these names, by onnx's own evaluator."""
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    x = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
    values = dict(zip(dict.fromkeys(names), ReferenceEvaluator(watched).run(None, {"x": x}), strict=True))
    return [values[name] for name in names]


def by_hand(y, epilogue):
    """What an epilogue says that its nodes compute of the convolution's output."""
    y = y.astype(np.float64)
    for norm in filter(None, (epilogue.norm, *epilogue.sums)):
        gain, shift, mean, variance = (
            np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (norm.gain, norm.shift, norm.mean, norm.variance)
        )
        y = (y - mean) / np.sqrt(variance + norm.epsilon) * gain + shift
    *_, window = epilogue.windows(((0, H), (0, W)), (H, W))
    y = y[(slice(None), slice(None), *(slice(start, start + size) for start, size in window))]
    name, axes = epilogue.end
    order = [axis for axis in axes if axis is not None]
    return name, np.transpose(y, order).reshape([1 if axis is None else y.shape[axis] for axis in axes])


def random_node(chain, axes, rng):
    """Append a node that a chain may or may not be read through; return the axes after it."""
    shape = [{0: 2, 1: O, 2: H, 3: W}[axis] for axis in axes]
    match rng.integers(8):
        case 0 | 1 | 2 | 3:
            along = rng.integers(-1, len(axes))  # the axis of the numbers; none: one number
            kept = [n if place == along else 1 for place, n in enumerate(shape)]
            kept = kept[along:] if along > 0 and rng.integers(2) else kept
            value = rng.choice([0.5, 2.0, -1.5, 3.0], size=kept)
            chain.add(rng.choice(["Add", "Sub", "Mul", "Div"]), chain.constant(value, np.float32),
                      first=bool(rng.integers(4)))  # fmt: skip
        case 4:
            order = [int(place) for place in rng.permutation(len(axes))]
            chain.add("Transpose", perm=order)
            return [axes[place] for place in order]
        case 5:
            values = [chain.constant(rng.uniform(0.5, 2, O), np.float32) for _ in range(4)]
            if axes[1] == 1:
                chain.add("BatchNormalization", *values, epsilon=0.01)
        case 6:
            place = axes.index(int(rng.choice([1, 2, 3])))
            start, step = (int(n) for n in rng.integers((0, 1), (2, 3)))
            numbers = ([start], [int(rng.choice([3, 1 << 40]))], [place - int(rng.choice([0, 4]))], [step])
            chain.add("Slice", *(chain.constant(n, np.int64) for n in numbers))
        case 7:
            chain.add("Relu" if rng.integers(2) else "Identity")
    return axes


@pytest.mark.parametrize("seed", range(80))
def test_what_is_read_of_a_chain_is_what_its_nodes_compute(seed):
    rng, chain, axes, steps = np.random.default_rng(seed), Chain(), [0, 1, 2, 3], 0
    while steps < 1 + seed % 4 and not any(node.op_type == "Slice" for node in chain.nodes):
        axes, steps = random_node(chain, axes, rng), steps + 1
    proto = chain.proto()
    epilogue = epilogue_of(Chain.conv(proto))
    y, end = run(proto, "t0", epilogue.end[0])
    name, computed = by_hand(y, epilogue)
    assert name == epilogue.end[0]
    np.testing.assert_allclose(computed, end, rtol=1e-5, atol=1e-5)


def column(values):
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


VECTOR = [1.0, 2.0, -3.0, 0.5]
READ = {  # how far each chain is read: to its end, or not at all
    "sum by channel": (lambda c: c.add("Add", c.constant(column(VECTOR))), True),
    "sum by channel, all axes": (lambda c: c.add("Add", c.constant(column(VECTOR)[None])), True),
    "one number": (lambda c: c.add("Mul", c.constant(np.float32(2))), True),
    "constant first": (lambda c: c.add("Add", c.constant(column(VECTOR)), first=False), True),
    "conv - c": (lambda c: c.add("Sub", c.constant(column(VECTOR))), True),
    "conv / c": (lambda c: c.add("Div", c.constant(column(VECTOR))), True),
    "c - conv": (lambda c: c.add("Sub", c.constant(column(VECTOR)), first=False), False),
    "c / conv": (lambda c: c.add("Div", c.constant(column(VECTOR)), first=False), False),
    "along the columns": (lambda c: c.add("Add", c.constant(np.float32(VECTOR))), False),
    "along the columns, all axes": (lambda c: c.add("Add", c.constant(np.float32(VECTOR).reshape(1, 1, 1, 4))), False),
    "one number per pixel": (lambda c: c.add("Mul", c.constant(weights(1, O, H, W))), False),
    "more axes": (lambda c: c.add("Add", c.constant(weights(1, 1, O, 1, 1))), False),
    "integers": (lambda c: c.add("Add", c.constant(np.int64(1))), False),
    "activation": (lambda c: c.add("Relu"), False),
    "crop": (lambda c: c.add("Slice", *map(c.constant, ([1, 0], [4, 3], [2, -1]))), True),
    "crop without axes": (lambda c: c.add("Slice", *map(c.constant, ([0, 0, 1, 1], [1 << 40, 1 << 40, 4, 9]))), True),
    "every second row": (lambda c: c.add("Slice", *map(c.constant, ([0], [9], [2], [2]))), False),
    "crop of channels": (lambda c: c.add("Slice", *map(c.constant, ([1], [9], [1]))), False),
    "crop of the last channel": (lambda c: c.add("Slice", *map(c.constant, ([0], [3], [1]))), False),
    "cast to its own type": (lambda c: c.add("Cast", to=TensorProto.FLOAT), True),
    "cast to another": (lambda c: c.add("Cast", to=TensorProto.FLOAT16), False),
    "channels last": (lambda c: c.add("Transpose", perm=[0, 2, 3, 1]), True),
    "reshape with the channels last": (
        lambda c: c.add("Transpose", perm=[0, 2, 3, 1]).add("Reshape", c.constant([2, H * W, O])), True,
    ),
    "reshape with the channels first": (lambda c: c.add("Reshape", c.constant([2, O, H * W])), False),
    "unit axis": (lambda c: c.add("Unsqueeze", c.constant([2])), True),
    "norm": (lambda c: c.add("BatchNormalization", *(c.constant(np.float32(np.abs(VECTOR))) for _ in range(4))), True),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_belongs_to_a_layer_and_what_does_not(name):
    build, whole = READ[name]
    chain = Chain()
    build(chain)
    found = epilogue_of(chain.read())
    taken = chain.name if whole else chain.nodes[-2].output[0] if len(chain.nodes) > 2 else "t0"
    assert found.end[0] == taken
    assert whole or not found.sums


def test_the_first_norm_is_the_layers_and_a_later_one_a_sum():
    chain = Chain()
    for _ in range(2):
        chain.add("BatchNormalization", *(chain.constant(np.float32(np.abs(VECTOR)) + 1) for _ in range(4)))
    found = layer_of(chain.read())
    assert (found.norm is not None, len(found.epilogue)) == (True, 1)


def test_a_tensor_with_two_readers_ends_the_layer():
    chain = Chain()
    chain.add("BatchNormalization", *(chain.constant(np.float32(np.abs(VECTOR))) for _ in range(4)))
    fork = chain.proto(helper.make_node("Relu", ["t0"], ["other"]))
    assert layer_of(chain.conv(chain.proto())).norm is not None
    found = epilogue_of(chain.conv(fork))
    assert (found.norm, found.end) == (None, ("t0", [0, 1, 2, 3]))


# -- before a convolution ----------------------------------------------------------------------------------------------


def padded(pads, value=None, mode="constant", op="Conv"):
    tensors = {"pads": np.array(pads, np.int64), "w": weights(3, 3, 3, 3)}
    tensors |= {} if value is None else {"value": np.array(value, np.float32)}
    nodes = [helper.make_node("Pad", ["x", "pads", *(["value"] if value is not None else [])], ["p"], "pad", mode=mode),
             conv("conv", "p", "y", "w", op=op)]  # fmt: skip
    (found,) = find_convolutions(DetachedModel(model(nodes, tensors)))
    return found.pads_before()


def test_a_pad_of_zeros_before_a_convolution_is_its_padding_and_no_other_pad_is():
    assert padded([0, 0, 1, 2, 0, 0, 3, 4]) == ((1, 3), (2, 4))
    assert padded([0, 0, 1, 2, 0, 0, 3, 4], 0.0) == ((1, 3), (2, 4))
    assert padded([0, 0, 1, 1, 0, 0, 1, 1], 1.0) is None
    assert padded([0, 0, 1, 1, 0, 0, 1, 1], -0.5) is None
    assert padded([0, 0, 1, 1, 0, 0, 1, 1], mode="reflect") is None
    assert padded([0, 1, 1, 1, 0, 0, 1, 1]) is None
    assert padded([1, 0, 1, 1, 0, 0, 1, 1]) is None
    assert padded([0, 0, 1, 1, 0, 0, -1, 1]) is None
    assert padded([0, 0, 1, 1, 0, 0, 1, 1], op="ConvTranspose") is None


def test_a_convolution_behind_anything_else_has_no_padding_before_it():
    nodes = [helper.make_node("Relu", ["x"], ["p"]), conv("conv", "p", "y", "w")]
    (found,) = find_convolutions(DetachedModel(model(nodes, {"w": weights(3, 3, 3, 3)})))
    assert found.pads_before() == ((0, 0), (0, 0))


# -- fused by a runtime ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [["x", "w", "b"], ["x", "w", "b", "z"]])
@pytest.mark.parametrize("activation", ["Relu", None, "LeakyRelu"])
def test_a_fused_convolution_is_judged_with_its_sum_and_activation(inputs, activation, tmp_path):
    attributes = {} if activation is None else {"activation": activation}
    if activation == "LeakyRelu":
        attributes["activation_params"] = [0.1]
    node = helper.make_node("FusedConv", inputs, ["y"], "fused", domain="com.microsoft", **attributes)
    tensors = {"w": weights(4, 3, 3, 3), "b": weights(4), "z": weights(2, 4, 5, 4)}
    proto = model([node], tensors, SHAPE)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    report = audited(saved(proto, tmp_path / "fused.onnx"))
    assert [found.verdict for found in report.nodes] == ["agree"], report.nodes

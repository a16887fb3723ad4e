"""Convolutions of integers: legal roundings, the rule that was used, and what explains wrong outputs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from convspec_onnx.verify import run as running
from convspec_onnx.verify import runtimes
from onnx import TensorProto, helper, numpy_helper

from convspec import ConvParams, ConvSpec, reference
from tests.adapters.onnx.verifying import audited, model, saved, weights
from tests.adapters.quantized import PAIRS_SATURATE

pytestmark = pytest.mark.onnx
PADS = ((1, 2), (1, 2))  # before and after, of two axes
STRIDES = (2, 1)
SEVEN_BITS = 63
"""The most that a weight may be, so that on no processor a sum of two products saturates."""


def integers(shape, dtype, seed=0, most=None):
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if most is None else (-most if info.min else 0, most)
    return np.random.default_rng([seed, *shape]).integers(low, high + 1, shape).astype(dtype)


class Quantised:
    """A QLinearConv with its numbers, the graph that holds it, and outputs as a runtime with a fault computes them."""

    def __init__(self, kind=np.uint8, weight=np.int8, channels=4, inputs=3, output=None, bias=True, scale=0.5,
                 most=None):  # fmt: skip
        output = output or kind
        rng = np.random.default_rng(1)
        self.w = integers((channels, inputs, 3, 5), weight, most=most)
        self.x_zero, self.y_zero = np.array(7, kind), np.array(100 if output == np.uint8 else -20, output)
        self.w_zero = np.array(3 if weight == np.uint8 else 0, weight)
        self.x_scale, self.y_scale = np.float32(0.02), np.float32(scale)
        self.w_scale = rng.uniform(0.004, 0.03, channels).astype(np.float32)
        self.b = rng.integers(-999, 999, channels).astype(np.int32) if bias else None
        self.x = integers((2, inputs, 9, 11), kind)

    def proto(self, **more):
        tensors = {"xs": self.x_scale, "xz": self.x_zero, "w": self.w, "ws": self.w_scale, "wz": self.w_zero,
                   "ys": self.y_scale, "yz": self.y_zero}  # fmt: skip
        names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
        if self.b is not None:
            names, tensors = [*names, "b"], tensors | {"b": self.b}
        pads = [before for before, _ in PADS] + [after for _, after in PADS]
        node = helper.make_node("QLinearConv", names, ["y"], "c", pads=pads, strides=STRIDES, **more)
        proto = model([node], tensors, self.x.shape)
        proto.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(self.x.dtype)
        proto.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(self.y_zero.dtype)
        return proto

    def sums(self, x=None, w=None, x_zero=None, w_zero=None, bias=None, pad_zero=True):
        x, w = (self.x if x is None else x).astype(float), (self.w if w is None else w).astype(float)
        zero = float(self.x_zero if x_zero is None else x_zero)
        x, w = x - zero, w - float(self.w_zero if w_zero is None else w_zero)
        x = np.pad(x, ((0, 0), (0, 0), *PADS), constant_values=0.0 if pad_zero else -zero)
        bias = self.b if bias is None else bias
        spec = ConvSpec(w.shape[1], len(w), w.shape[2:], stride=STRIDES, bias=bias is not None)
        return reference.conv(spec, ConvParams(w, None if bias is None else bias.astype(float)), x)

    def factors(self, w_scale=None):
        own = self.w_scale if w_scale is None else w_scale
        return (self.x_scale.astype(float) * own / self.y_scale).reshape(-1, 1, 1)

    def outputs(self, sums, factors=None, rule=np.rint, low=None, high=None, zero=None):
        info = np.iinfo(self.y_zero.dtype)
        values = rule(sums * (self.factors() if factors is None else factors))
        values = values + float(self.y_zero if zero is None else zero)
        return np.clip(values, info.min if low is None else low, info.max if high is None else high)

    def judged(self, monkeypatch, folder, y=None):
        """The node's entry in the report of a runtime that returns ``y``."""
        honest = runtimes.run

        def run(*arguments):
            found = honest(*arguments)
            return {n: y.astype(v.dtype) if n == "y" and y is not None else v for n, v in found.items()}

        monkeypatch.setattr(running.runtimes, "run", run)
        np.savez(folder / "in.npz", x=self.x)
        (node,) = audited(saved(self.proto(), folder / "m.onnx"), inputs=str(folder / "in.npz")).nodes
        return node


KINDS = [
    (np.uint8, np.int8, None),
    (np.uint8, np.int8, SEVEN_BITS),
    (np.uint8, np.uint8, None),
    (np.int8, np.int8, None),
]


@pytest.mark.parametrize("level", ["off", "all", "evaluator"])
@pytest.mark.parametrize(("kind", "weight", "most"), KINDS)
def test_runtimes_agree_with_every_sign(tmp_path, kind, weight, most, level):
    """But for uint8 data and int8 weights of 8 bits in ONNX Runtime, on processors without VNNI."""
    one = Quantised(kind, weight, most=most)
    np.savez(tmp_path / "in.npz", x=one.x)
    report = audited(saved(one.proto(), tmp_path / "m.onnx"), inputs=str(tmp_path / "in.npz"), levels=[level])
    (node,) = report.nodes
    if PAIRS_SATURATE and level != "evaluator" and (kind, weight, most) == KINDS[0]:
        assert node.verdict == "disagree"
        assert "sums of two products may saturate in 16 bits" in node.reason
        return
    assert node.verdict == "agree", node.reason
    assert node.worst_q <= 0.5 + 1e-4
    (title,) = [note["title"] for note in node.notes if note["id"] == "rounding"]
    assert title.startswith("every output is rounded half to even")


def test_each_legal_rounding_agrees_by_its_name(tmp_path, monkeypatch):
    """Scales that are powers of two, so that many values are ties."""
    one = Quantised()
    one.w //= 16
    one.x_scale, one.y_scale, one.w_scale = np.float32(0.25), np.float32(1), np.full(4, 2.0**-3, np.float32)
    sums = one.sums()
    layers = {
        "half to even": np.rint,
        "half away from zero": lambda v: np.copysign(np.floor(np.abs(v) + 0.5), v),
        "half up": lambda v: np.floor(v + 0.5),
    }
    outputs = {name: one.outputs(sums, rule=rule) for name, rule in layers.items()}
    assert len({y.tobytes() for y in outputs.values()}) == 3
    for name, y in outputs.items():
        node = one.judged(monkeypatch, tmp_path, y)
        assert node.verdict == "agree"
        (title,) = [note["title"] for note in node.notes if note["id"] == "rounding"]
        assert title.startswith(f"every output is rounded {name}")


def test_a_fixed_point_rounding_is_legal_though_it_rounds_twice(tmp_path, monkeypatch):
    one = Quantised(inputs=1, scale=0.05)
    sums = one.sums()
    name = "fixed point, half away from zero"
    y = np.clip(reference.quantized.RULES[name](sums, one.factors()) + 100, 0, 255)
    node = one.judged(monkeypatch, tmp_path, y)
    assert node.verdict == "agree"
    assert any(name in note["title"] for note in node.notes)


@pytest.mark.parametrize("step", [-1, 1])
def test_one_step_beside_the_legal_roundings_is_wrong(tmp_path, monkeypatch, step):
    one = Quantised()
    sums = one.sums()
    y = one.outputs(sums)
    inside = np.argwhere((y > 1) & (y < 254))[5]
    y[tuple(inside)] += step
    node = one.judged(monkeypatch, tmp_path, y)
    assert node.verdict == "disagree"
    assert (
        f"1 of {y.size} elements are no legal rounding of the exact result; at {tuple(inside.tolist())}" in node.reason
    )


def faults():
    one = Quantised()
    sums, plain, square = one.sums(), Quantised(bias=False, inputs=4), Quantised(inputs=4)
    swapped, shared = one.w_scale.copy(), one.w_scale.copy()
    swapped[2] = one.w_scale[0]
    shared[:] = one.w_scale[1]
    along = plain.w.astype(float) * plain.w_scale.reshape(1, -1, 1, 1)
    gained = one.w_scale * np.float32([1, 1, 1, 1.25])
    signed = Quantised(np.int8)
    yield "the weight's scales are applied along its input channels", plain, plain.outputs(
        plain.sums(w=along), factors=plain.x_scale.astype(float) / plain.y_scale)  # fmt: skip
    along = square.w.astype(float) * square.w_scale.reshape(1, -1, 1, 1)
    yield "the weight's scales are applied along its input channels", square, square.outputs(
        square.sums(w=along, bias=square.b * square.w_scale.astype(float)),
        factors=square.x_scale.astype(float) / square.y_scale)  # fmt: skip
    yield "channel 2 has the scale of channel 0", one, one.outputs(sums, one.factors(swapped))
    yield "every wrong channel has the scale of channel 1", one, one.outputs(sums, one.factors(shared))
    yield "channel 3 is scaled by 1.25 times its scale", one, one.outputs(sums, one.factors(gained))
    yield "the pads hold 0, where the zero point 7 belongs", one, one.outputs(one.sums(pad_zero=False))
    yield "the zero point of x is left out", one, one.outputs(one.sums(x_zero=0))
    yield "the zero point of y is left out", one, one.outputs(sums, zero=0)
    yield "the bias is left out", one, one.outputs(one.sums(bias=np.zeros(4)))
    both = one.x.view(np.int8), one.x_zero.view(np.int8)
    yield "x is read as int8, but is uint8", one, one.outputs(one.sums(x=both[0], x_zero=both[1]))
    yield "w is read as uint8, but is int8", one, one.outputs(one.sums(w=one.w.view(np.uint8)))
    turned = signed.outputs(signed.sums(), low=0, high=255, zero=-20).astype(np.uint8).view(np.int8)
    yield "y is written as uint8, but is int8", signed, turned
    yield "wrap around, where they must saturate", one, np.mod(one.outputs(sums, low=-1e9, high=1e9), 256)
    yield "clipped to 100 (the zero point: a ReLU) … 255", one, one.outputs(sums, low=100)
    yield "clipped to 0 … 199, where the range is that of uint8", one, one.outputs(sums, high=199)
    yield "the outputs are rounded towards zero", one, np.trunc(
        np.clip(sums * one.factors() + 100, 0, 255))  # fmt: skip
    yield "may saturate in 16 bits", one, saturated(one)


def saturated(one):
    """The sums of all taps of two channels each, as a processor without VNNI forms them; the third channel alone."""
    x = np.pad(one.x.astype(int), ((0, 0), (0, 0), *PADS), constant_values=int(one.x_zero))
    total = np.zeros(one.sums().shape)
    for i in range(3):
        for j in range(5):
            part = x[:, :, i : i + 2 * (total.shape[2] - 1) + 1 : 2, j : j + total.shape[3]]
            products = part[:, None] * one.w[None, :, :, i, j, None, None].astype(int)
            total += np.clip(products[:, :, 0] + products[:, :, 1], -32768, 32767) + products[:, :, 2]
    total -= float(one.x_zero) * one.w.reshape(4, -1).sum(1, dtype=int).reshape(-1, 1, 1)
    return one.outputs(total + one.b.reshape(-1, 1, 1))


@pytest.mark.parametrize(("words", "one", "y"), list(faults()), ids=lambda v: v if isinstance(v, str) else "")
def test_what_explains_wrong_outputs_is_named(tmp_path, monkeypatch, words, one, y):
    node = one.judged(monkeypatch, tmp_path, y)
    assert node.verdict == "disagree"
    assert words in node.reason


def test_channels_last_after_an_operator_of_microsoft(tmp_path):
    """The types of both tensors between are declared nowhere."""
    one = Quantised(most=SEVEN_BITS)
    add = ["x", "xs", "xz", "x", "xs", "xz", "xs", "xz"]
    proto = one.proto(channels_last=1, domain="com.microsoft")
    node = proto.graph.node[0]
    node.input[0] = "t"
    before = [helper.make_node("QLinearAdd", add, ["a"], "add", domain="com.microsoft"),
              helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1])]  # fmt: skip
    nodes = [*before, node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    report = audited(saved(proto, tmp_path / "m.onnx"), levels=["off", "all"])
    assert [(n.verdict, n.input_shape) for n in report.nodes] == [("agree", [2, 3, 9, 11])], report.nodes[0].reason
    assert not report.unexpected


# -- ConvInteger -------------------------------------------------------------------------------------------------------


def dynamic():
    """A float input that is quantised as it comes, and a convolution of integers with both zero points."""
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
             helper.make_node("ConvInteger", ["q", "w", "z", "wz"], ["i"], "c", pads=[1, 1, 1, 1]),
             helper.make_node("Cast", ["i"], ["f"], to=1), helper.make_node("Mul", ["f", "s"], ["y"])]  # fmt: skip
    return model(nodes, {"w": integers((4, 3, 3, 3), np.uint8), "wz": np.array(121, np.uint8)}, (2, 3, 9, 11))


def test_a_dynamically_quantised_convolution_is_exact(tmp_path, monkeypatch):
    path = saved(dynamic(), tmp_path / "m.onnx")
    (node,) = audited(path, levels=["off", "all"]).nodes
    assert (node.verdict, node.worst_q, node.bound) == ("agree", 0.0, 0.0)
    honest = runtimes.run

    def run(detached, feeds, outputs, *more):
        found = honest(detached, feeds, outputs, *more)
        if "q" in found:
            q, zero = found["q"].astype(float), float(found["z"])
            x = np.pad(q - zero, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-zero)
            w = integers((4, 3, 3, 3), np.uint8).astype(float) - 121
            found["i"] = reference.conv(ConvSpec(3, 4, 3, bias=False), ConvParams(w, None), x).astype(np.int32)
        return found

    monkeypatch.setattr(running.runtimes, "run", run)
    (node,) = audited(path).nodes
    assert node.verdict == "disagree"
    assert "elements are not the exact sum" in node.reason
    assert "the pads hold 0, where the zero point" in node.reason


# -- lint --------------------------------------------------------------------------------------------------------------


def padded(value, *, between=(), quantised=True):
    """A Pad of integers before a convolution of integers, or before a DequantizeLinear and a convolution."""
    one = Quantised(most=SEVEN_BITS)
    tensors = {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "xz": np.array(100, np.uint8), "xs": one.x_scale}
    inputs = ["x", "p"]
    if value is not None:
        tensors, inputs = tensors | {"v": np.array(value, np.uint8)}, ["x", "p", "v"]
    nodes = [helper.make_node("Pad", inputs, ["padded"], "border"), *between]
    source = between[-1].output[0] if between else "padded"
    if quantised:
        tensors |= {"w": one.w, "ws": one.w_scale, "wz": one.w_zero, "ys": one.y_scale, "yz": one.y_zero}
        nodes.append(helper.make_node("QLinearConv", [source, "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], "c"))
    else:
        tensors["w"] = weights(4, 3, 3, 5)
        nodes += [helper.make_node("DequantizeLinear", [source, "xs", "xz"], ["d"]),
                  helper.make_node("Conv", ["d", "w"], ["y"], "c")]  # fmt: skip
    proto = model(nodes, tensors, (1, 3, 9, 11))
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8 if quantised else TensorProto.FLOAT
    return proto


IDENTITY = (helper.make_node("Identity", ["padded"], ["same"]),)


@pytest.mark.parametrize("quantised", [True, False])
@pytest.mark.parametrize(("value", "between"), [(0, ()), (None, ()), (7, IDENTITY)])
def test_a_pad_that_does_not_hold_the_zero_point_is_an_error(tmp_path, value, between, quantised):
    report = audited(saved(padded(value, between=between, quantised=quantised), tmp_path / "m.onnx"))
    (node,) = report.nodes
    (note,) = [note for note in node.notes if note["id"] == "pad-is-not-zero-point"]
    assert note["level"] == "error"
    assert f"Pad 'border' before it adds {value or 0}, where the zero point 100 belongs" in note["title"]
    assert [(where, name) for where, name, _ in report.unexpected] == [("c", "pad-is-not-zero-point")]


@pytest.mark.parametrize("quantised", [True, False])
def test_a_pad_that_holds_the_zero_point_is_right(tmp_path, quantised):
    report = audited(saved(padded(100, quantised=quantised), tmp_path / "m.onnx"))
    assert "pad-is-not-zero-point" not in {note["id"] for note in report.nodes[0].notes}
    assert not report.unexpected


@pytest.mark.parametrize("flag", [True, False])
def test_types_in_a_body_are_those_of_the_zero_points(tmp_path, flag):
    """The convolution reads what an operator of Microsoft writes, and the other branch must return the same types."""
    one = Quantised(most=SEVEN_BITS)
    add = ["x", "xs", "xz", "x", "xs", "xz", "xs", "xz"]
    proto = one.proto()
    node = proto.graph.node[0]
    node.input[0] = "a"
    nodes = [helper.make_node("QLinearAdd", add, ["a"], "add", domain="com.microsoft"), node]
    then = helper.make_graph(nodes, "then", [], [helper.make_tensor_value_info("y", TensorProto.UINT8, None)])
    constant = helper.make_node("ConstantOfShape", ["s"], ["e"], value=helper.make_tensor("", 2, [1], [5]))
    other = helper.make_graph([constant], "else", [], [helper.make_tensor_value_info("e", TensorProto.UINT8, None)])
    proto.graph.initializer.extend([numpy_helper.from_array(np.array([2, 4, 5, 11]), "s"),
                                    numpy_helper.from_array(np.array(flag), "flag")])  # fmt: skip
    del proto.graph.node[:]
    choice = helper.make_node("If", ["flag"], ["y"], "choice", then_branch=then, else_branch=other)
    proto.graph.node.append(choice)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    (node,) = audited(saved(proto, tmp_path / "m.onnx")).nodes
    assert node.verdict == "agree", node.reason
    assert node.runs[0]["inputs"].startswith("x ") == flag

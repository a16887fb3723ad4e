"""Quantised graphs against their float source: rounding is no difference, and what exceeds it is named by its cause."""

from __future__ import annotations

import json
import logging

import jsonschema
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from typer.testing import CliRunner

from convspec.cli.app import app
from convspec.models.verification.report import VerifyReport
from tests.adapters.onnx.verifying import audited, conv, saved, weights
from tests.adapters.quantized import PAIRS_SATURATE

pytestmark = pytest.mark.onnx
SHAPE = (2, 3, 20, 18)


def relu(source, target):
    return helper.make_node("Relu", [source], [target])


def network():
    """Depthwise, pointwise, strided, a shuffle of channels, two branches, and a pool."""
    nodes = [
        conv("stem", "x", "h", "w0", "b0", pads=[1] * 4), relu("h", "r"),
        conv("depthwise", "r", "d", "w1", "b1", group=8, pads=[1] * 4),
        conv("point", "d", "p", "w2", "b2"), relu("p", "q"),
        helper.make_node("Split", ["q"], ["s", "t"], axis=1, num_outputs=2),
        conv("branch", "t", "u", "w3", "b3"), relu("u", "v"),
        helper.make_node("Concat", ["s", "v"], ["c"], axis=1),
        helper.make_node("Reshape", ["c", "split"], ["g"]),
        helper.make_node("Transpose", ["g"], ["k"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["k", "joined"], ["m"]),
        helper.make_node("MaxPool", ["m"], ["n"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("strided", "n", "o", "w4", "b4", strides=[2, 2]),
        conv("head", "o", "y", "w5", "b5"),
    ]  # fmt: skip
    shapes = [(8, 3, 3, 3), (8, 1, 3, 3), (8, 8, 1, 1), (4, 4, 1, 1), (8, 8, 3, 3), (6, 8, 1, 1)]
    tensors = {f"w{n}": weights(*shape) / np.float32(np.sqrt(np.prod(shape[1:]))) for n, shape in enumerate(shapes)}
    tensors |= {f"b{n}": weights(shape[0]) / np.float32(2) for n, shape in enumerate(shapes)}
    tensors |= {"split": np.int64([2, 2, 4, 20, 18]), "joined": np.int64([2, 8, 20, 18])}
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )  # fmt: skip
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    )


class Data(quantization.CalibrationDataReader):
    def __init__(self):
        self.draws = iter([{"x": np.random.default_rng(seed).standard_normal(SHAPE).astype("f4")} for seed in range(4)])

    def get_next(self):
        return next(self.draws, None)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The float graph, and what ONNX Runtime's quantiser makes of it: weights of 7 bits, which are right everywhere."""
    folder = tmp_path_factory.mktemp("quantised")
    source = saved(network(), folder / "source.onnx")
    logging.disable(logging.WARNING)
    for name, form, per_channel, activation, reduced in (
        ("qdq", "QDQ", True, "QUInt8", True), ("qdq signed", "QDQ", False, "QInt8", True),
        ("operators", "QOperator", True, "QUInt8", True), ("eight bits", "QOperator", True, "QUInt8", False),
    ):  # fmt: skip
        quantization.quantize_static(
            str(source), str(folder / f"{name}.onnx"), Data(), quant_format=quantization.QuantFormat[form],
            per_channel=per_channel, activation_type=quantization.QuantType[activation], reduce_range=reduced,
            weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
    quantization.quantize_dynamic(str(source), str(folder / "dynamic.onnx"))
    logging.disable(logging.NOTSET)
    return folder


@pytest.mark.parametrize("name", ["qdq", "qdq signed", "operators", "dynamic"])
def test_rounding_is_no_difference(files, name):
    report = audited(files / f"{name}.onnx", against=str(files / "source.onnx"), levels=["off", "all"])
    assert not report.unexpected, report.unexpected
    assert [node.matched for node in report.nodes] == ["stem", "depthwise", "point", "branch", "strided", "head"]
    assert all(25 < node.snr_db < 70 for node in report.nodes), [node.snr_db for node in report.nodes]


def test_weights_of_eight_bits_saturate_without_vnni(files):
    report = audited(files / "eight bits.onnx", against=str(files / "source.onnx"), levels=["off", "all"])
    wrong = [node for node in report.nodes if node.verdict != "agree"]
    assert bool(report.unexpected) == bool(wrong) == PAIRS_SATURATE, report.unexpected
    assert all("sums of two products may saturate in 16 bits" in node.reason for node in wrong)


def test_the_ratio_is_that_of_the_errors(files, tmp_path):
    """By hand, for the first convolution of the graph with QuantizeLinear and DequantizeLinear."""
    import onnxruntime as ort

    report = audited(files / "qdq.onnx", against=str(files / "source.onnx"))
    x = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    report = audited(files / "qdq.onnx", against=str(files / "source.onnx"), inputs=str(tmp_path / "x.npz"))
    outputs = []
    for name in ("source", "qdq"):
        proto = onnx.load(files / f"{name}.onnx")
        node = next(n for n in proto.graph.node if n.op_type == "Conv")
        proto.graph.output.append(helper.make_empty_tensor_value_info(node.output[0]))
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        outputs.append(ort.InferenceSession(proto.SerializeToString(), options).run([node.output[0]], {"x": x})[0])
    right, mine = (a.astype(np.float64) for a in outputs)
    assert report.nodes[0].snr_db == pytest.approx(
        10 * np.log10((right**2).sum() / ((mine - right) ** 2).sum()), abs=0.01
    )


# -- planted faults ----------------------------------------------------------------------------------------------------


def parts(proto, node):
    """The names of a quantised convolution's constants."""
    made = {name: other for other in proto.graph.node for name in other.output}
    if node.op_type == "QLinearConv":
        names = ("xs", "xz", "w", "ws", "wz", "ys", "yz", "b")
        return dict(zip(names, node.input[1:], strict=True)) | {"reader": node, "places": {"xs": 1, "xz": 2}}
    weight, bias, x = (made[node.input[n]] for n in (1, 2, 0))
    quantise = next(n for n in proto.graph.node if node.output[0] in n.input)
    quantise = quantise if quantise.op_type == "QuantizeLinear" else next(
        n for n in proto.graph.node if quantise.output[0] in n.input)  # fmt: skip
    names = {"w": weight.input[0], "ws": weight.input[1], "wz": weight.input[2], "b": bias.input[0],
             "xs": x.input[1], "xz": x.input[2], "ys": quantise.input[1], "yz": quantise.input[2]}  # fmt: skip
    return names | {"reader": x, "places": {"xs": 1, "xz": 2}}


def edit(key, function, *, alone=False):
    """Change a constant for all that read it, or for the node ``alone``."""

    def fault(proto, node):
        own = parts(proto, node)
        tensor = next(t for t in proto.graph.initializer if t.name == own[key])
        array = np.ascontiguousarray(function(numpy_helper.to_array(tensor).copy(), proto, own))
        name = f"{own[key]}_changed" if alone else own[key]
        made = numpy_helper.from_array(array, name)
        if alone:
            proto.graph.initializer.append(made)
            own["reader"].input[own["places"][key]] = name
        else:
            tensor.CopyFrom(made)

    return fault


def at(index, function):
    def change(array, *_):
        flat = array.reshape(-1)
        flat[index] = function(flat[index])
        return array

    return change


def at_scale_sx(bias, proto, own):
    scale = numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == own["ws"]))
    return np.round(bias * scale).astype(np.int32)


FAULTS = {
    "one channel's scale": (edit("ws", at(2, lambda v: v * 2)), "weight-scale", "channel 2 is 2 times"),
    "all scales": (edit("ws", lambda a, *_: a * np.float32(1.5)), "weight-scale", "1.5 times"),
    "scales reversed": (edit("ws", lambda a, *_: a[::-1]), "scale-axis", "in reverse"),
    "zero point": (edit("wz", lambda a, *_: (a + 3).astype(a.dtype)), "weight-zero-point", "3 too large"),
    "one weight": (edit("w", at(1, lambda v: v ^ 64)), "kernel-differs", "steps"),
    "bias at sx": (edit("b", at_scale_sx), "bias-scale", "scale sx,"),
    "bias lost": (edit("b", lambda a, *_: a * 0), "bias-lost", "bias"),
    "output scale": (edit("ys", lambda a, *_: a * np.float32(0.5)), "activation-saturates", "% of the elements"),
    "input scale": (edit("xs", lambda a, *_: a * np.float32(2), alone=True), "scale-mismatch", "as its scale"),
    "input zero point": (edit("xz", lambda a, *_: a + 20, alone=True), "scale-mismatch", "as its zero point"),
}


@pytest.mark.parametrize("name", ["qdq", "operators"])
@pytest.mark.parametrize("place", [1, 4])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_first(files, tmp_path, name, place, fault):
    plant, finding, words = FAULTS[fault]
    proto = onnx.load(files / f"{name}.onnx")
    node = [n for n in proto.graph.node if "Conv" in n.op_type][place]
    plant(proto, node)
    report = audited(saved(proto, tmp_path / "m.onnx"), against=str(files / "source.onnx"))
    assert (report.first_divergence, report.unexpected[0][1]) == (node.name, finding), report.unexpected[:3]
    assert words in report.unexpected[0][2]


def test_scales_on_another_axis(files, tmp_path):
    """As many output channels as input channels: nothing but the numbers shows it."""
    proto = onnx.load(files / "qdq.onnx")
    node = next(n for n in proto.graph.node if n.name == "strided")
    weight = next(n for n in proto.graph.node if node.input[1] in n.output)
    weight.attribute[0].i = 1
    report = audited(saved(proto, tmp_path / "m.onnx"), against=str(files / "source.onnx"))
    assert (report.first_divergence, report.unexpected[0][1]) == ("strided", "scale-axis"), report.unexpected[:3]


def test_a_dynamic_graph_with_another_weight_scale(files, tmp_path):
    proto = onnx.load(files / "dynamic.onnx")
    tensor = next(t for t in proto.graph.initializer if t.name.startswith("w2") and t.name.endswith("scale"))
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(tensor) * 2, np.float32), tensor.name))
    report = audited(saved(proto, tmp_path / "m.onnx"), against=str(files / "source.onnx"))
    assert report.first_divergence.startswith("point")
    assert report.unexpected[0][1:] == ("weight-scale", "the weight's scale is 2 times the right one")


def test_a_wrong_operator_between_the_convolutions_is_seen(files, tmp_path):
    proto = onnx.load(files / "qdq.onnx")
    next(n for n in proto.graph.node if n.op_type == "Transpose").attribute[0].ints[:] = [0, 1, 2, 3, 4]
    report = audited(saved(proto, tmp_path / "m.onnx"), against=str(files / "source.onnx"))
    assert (report.first_divergence, report.unexpected[0][1]) == ("strided", "input-differs"), report.unexpected


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_report_has_the_table_worst_first(files, tmp_path):
    command = ["verify", str(files / "qdq.onnx"), "--against", str(files / "source.onnx"), "--levels", "off"]
    written = [*command, "--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")]
    done = CliRunner().invoke(app, written)
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "r.json").read_text())
    ratios = {node["name"]: node["snr_db"] for node in sorted(document["nodes"], key=lambda node: node["snr_db"])}
    for text, unit in ((done.output, " dB"), ((tmp_path / "r.md").read_text("utf-8"), "")):
        _, _, table = text.partition("signal over noise")
        places = [table.index(name) for name in ratios]
        assert places == sorted(places)
        for ratio in ratios.values():  # the document has two decimals, and the table one
            assert any(f"{ratio + half:.1f}{unit}" in table for half in (-0.005, 0.005))
    from importlib.resources import files as resources

    schema = json.loads((resources("convspec.models.verification") / "verify.schema.json").read_text())
    jsonschema.validate(document, schema)


def test_a_graph_in_float_has_no_table(files):
    report = audited(files / "source.onnx", against=str(files / "source.onnx"))
    assert isinstance(report, VerifyReport)
    assert [node.snr_db for node in report.nodes] == [None] * 6
    assert "signal over noise" not in str(report)


@pytest.mark.parametrize("order", [1, -1])
def test_the_command_compare_does_what_verify_does(files, order):
    names = [str(files / "source.onnx"), str(files / "operators.onnx")][::order]
    done = CliRunner().invoke(app, ["compare", *names, "--shape", ",".join(map(str, SHAPE))])
    assert done.exit_code == 0, done.output
    assert "6 agree, 0 unexpected" in done.output
    assert "signal over noise" in done.output


# -- repairs -----------------------------------------------------------------------------------------------------------

REPAIRS = ["one channel's scale", "scales reversed", "zero point", "one weight", "bias at sx", "bias lost",
           "input scale", "input zero point"]  # fmt: skip


@pytest.mark.parametrize("name", ["qdq", "operators"])
@pytest.mark.parametrize("fault", REPAIRS)
def test_a_planted_fault_is_repaired(files, tmp_path, name, fault):
    proto = onnx.load(files / f"{name}.onnx")
    node = [n for n in proto.graph.node if "Conv" in n.op_type][4]
    FAULTS[fault][0](proto, node)
    wrong, out = saved(proto, tmp_path / "wrong.onnx"), tmp_path / "out.onnx"
    repaired = audited(wrong, against=str(files / "source.onnx"), repair=str(out)).repaired
    assert [words.partition(":")[0] for words in repaired] == [node.name] * len(repaired), repaired
    report = audited(out, against=str(files / "source.onnx"))
    assert not report.unexpected, report.unexpected


def test_scales_on_another_axis_are_repaired_by_one_attribute(files, tmp_path):
    proto = onnx.load(files / "qdq.onnx")
    node = next(n for n in proto.graph.node if n.name == "strided")
    next(n for n in proto.graph.node if node.input[1] in n.output).attribute[0].i = 1
    wrong, out = saved(proto, tmp_path / "wrong.onnx"), tmp_path / "out.onnx"
    repaired = audited(wrong, against=str(files / "source.onnx"), repair=str(out)).repaired
    assert repaired == ["strided: kernel's axis → 0"]
    right, mine = (onnx.load(path) for path in (files / "qdq.onnx", out))
    assert [n.SerializeToString() for n in mine.graph.node] == [n.SerializeToString() for n in right.graph.node]

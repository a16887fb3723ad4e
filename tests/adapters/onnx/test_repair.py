"""`convspec verify --repair`: a graph with one wrong attribute or array is written right, and verified anew."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

pytest.importorskip("onnxruntime")

from convspec.cli.app import app
from tests.adapters.onnx import faulty
from tests.adapters.onnx.verifying import audited, conv, saved, weights

pytestmark = pytest.mark.onnx
SHAPE = (2, 4, 17, 20)


def network():
    """Pads on one side, strides, dilations, groups, a transposed layer with output padding, a normalisation."""
    nodes = [
        conv("stem", "x", "h", "w0", "b0", pads=[0, 1, 1, 0]), helper.make_node("Relu", ["h"], ["r"]),
        conv("strided", "r", "s", "w1", "b1", strides=[2, 1], auto_pad="SAME_UPPER"),
        helper.make_node("BatchNormalization", ["s", "g", "o", "m", "v"], ["n"], "norm", epsilon=1e-3),
        conv("grouped", "n", "t", "w2", "b2", group=2, dilations=[1, 2], pads=[1, 2, 1, 2]),
        conv("up", "t", "u", "w3", "b3", op="ConvTranspose", strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1]),
        conv("head", "u", "y", "w4", "b4"),
    ]  # fmt: skip
    shapes = [(8, 4, 3, 3), (8, 8, 3, 3), (8, 4, 3, 3), (8, 4, 3, 3), (4, 4, 1, 1)]
    tensors = {f"w{n}": weights(*shape) / np.float32(6) for n, shape in enumerate(shapes)}
    tensors |= {f"b{n}": weights(size) for n, size in enumerate((8, 8, 8, 4, 4))}
    tensors |= {name: np.abs(weights(8, seed=seed)) + np.float32(0.5) for seed, name in enumerate("gomv")}
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


def node_of(proto, name):
    return next(node for node in proto.graph.node if node.name == name)


def put(name, **values):
    return lambda proto: faulty.put(node_of(proto, name), **values)


def change(tensor, function):
    return lambda proto: faulty.change(proto, tensor, function)


def bias_lost(proto):
    del node_of(proto, "head").input[2:]


def norm_epsilon(proto):
    faulty.put(node_of(proto, "norm"), epsilon=1e-5)


FAULTS = {  # what was changed must say the words
    "pads on the other side": (put("stem", pads=[1, 0, 0, 1]), "stem: pads: [1, 0, 0, 1] → [0, 1, 1, 0]"),
    "no pads": (put("grouped", pads=[0, 0, 0, 0]), "grouped: pads"),
    "auto_pad": (put("strided", auto_pad="SAME_LOWER"), "strided: auto_pad: removed"),
    "strides": (put("strided", strides=[1, 2]), "strided: strides: [1, 2] → [2, 1]"),
    "dilations": (put("grouped", dilations=[2, 1], pads=[2, 1, 2, 1]), "grouped: dilations: [2, 1] → [1, 2]"),
    "output_padding": (put("up", output_padding=[1, 0]), "up: output_padding: [1, 0] → [1, 1]"),
    "kernel flipped": (change("w0", lambda w: w[..., ::-1, ::-1]), "stem: kernel"),
    "kernel transposed": (change("w1", lambda w: w.swapaxes(0, 1)), "strided: kernel"),
    "kernel of a transposed layer flipped": (change("w3", lambda w: w[..., ::-1, ::-1]), "up: kernel"),
    "one weight": (change("w2", lambda w: np.where(np.arange(w.size).reshape(w.shape) == 7, 1, w)), "grouped: kernel"),
    "bias lost": (bias_lost, "head: bias: added"),
    "bias wrong": (change("b1", lambda b: -b), "strided: bias"),
    "epsilon": (norm_epsilon, "strided: epsilon after it: 1e-05 → 0.001"),
}  # fmt: skip


def command(*arguments):
    return CliRunner().invoke(app, ["verify", *map(str, arguments), "--levels", "off"])


@functools.cache
def right():
    return network().SerializeToString()


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_repaired(name, tmp_path):
    fault, words = FAULTS[name]
    source = saved(onnx.ModelProto.FromString(right()), tmp_path / "source.onnx")
    proto = onnx.ModelProto.FromString(right())
    fault(proto)
    wrong, out = saved(proto, tmp_path / "wrong.onnx"), tmp_path / "repaired.onnx"
    before = wrong.read_bytes()
    assert audited(wrong, against=str(source)).unexpected
    done = command(wrong, "--against", source, "--repair", out)
    assert done.exit_code == 0, done.output
    assert f"repaired: {words}" in done.output
    assert "5 agree, 0 unexpected" in done.output
    assert wrong.read_bytes() == before
    assert not audited(out, against=str(source)).unexpected
    onnx.checker.check_model(out)
    same = {n.name: n.SerializeToString() for n in proto.graph.node}
    repaired = onnx.load(out)
    changed = [n.name for n in repaired.graph.node if n.SerializeToString() != same[n.name]]
    assert changed == ["norm" if name == "epsilon" else words.partition(":")[0]]


def test_a_group_that_was_lost_brings_its_kernel_along(tmp_path):
    source = saved(onnx.ModelProto.FromString(right()), tmp_path / "source.onnx")
    proto = onnx.ModelProto.FromString(right())
    faulty.put(node_of(proto, "grouped"), group=1)
    faulty.change(proto, "w2", lambda w: np.concatenate([w, w], 1))
    wrong, out = saved(proto, tmp_path / "wrong.onnx"), tmp_path / "repaired.onnx"
    done = command(wrong, "--against", source, "--repair", out)
    assert done.exit_code == 0, done.output
    assert "group: 1 → 2" in done.output
    assert not audited(out, against=str(source)).unexpected


def test_two_faults_are_repaired_together(tmp_path):
    source = saved(onnx.ModelProto.FromString(right()), tmp_path / "source.onnx")
    proto = onnx.ModelProto.FromString(right())
    FAULTS["pads on the other side"][0](proto)
    FAULTS["bias lost"][0](proto)
    wrong, out = saved(proto, tmp_path / "wrong.onnx"), tmp_path / "repaired.onnx"
    done = command(wrong, "--against", source, "--repair", out)
    assert done.exit_code == 0, done.output
    assert done.output.count("repaired: ") == 2


# -- what is refused, and what cannot be repaired ----------------------------------------------------------------------


def test_the_model_itself_is_never_written(tmp_path):
    source = saved(onnx.ModelProto.FromString(right()), tmp_path / "source.onnx")
    proto = onnx.ModelProto.FromString(right())
    bias_lost(proto)
    wrong = saved(proto, tmp_path / "wrong.onnx")
    (tmp_path / "link.onnx").hardlink_to(wrong)
    before = wrong.read_bytes()
    for out in (wrong, tmp_path / "." / "wrong.onnx", tmp_path / "link.onnx"):
        done = command(wrong, "--against", source, "--repair", out)
        assert (done.exit_code, wrong.read_bytes()) == (2, before), done.output


def test_without_a_source_nothing_is_repaired(tmp_path):
    model = saved(onnx.ModelProto.FromString(right()), tmp_path / "m.onnx")
    done = command(model, "--repair", tmp_path / "out.onnx")
    assert done.exit_code == 2
    assert not (tmp_path / "out.onnx").exists()


def right_graph(proto):
    """Change nothing."""


def activation_lost(proto):
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    relu.op_type = "Identity"


@pytest.mark.parametrize(("fault", "words"), [(right_graph, "nothing is wrong"), (activation_lost, "no finding")])
def test_where_nothing_could_be_repaired_nothing_is_written(fault, words, tmp_path):
    source = saved(onnx.ModelProto.FromString(right()), tmp_path / "source.onnx")
    proto = onnx.ModelProto.FromString(right())
    fault(proto)
    done = command(saved(proto, tmp_path / "m.onnx"), "--against", source, "--repair", tmp_path / "out.onnx")
    assert (done.exit_code, (tmp_path / "out.onnx").exists()) == (1, False), done.output
    assert f"was not written: {words}" in done.output

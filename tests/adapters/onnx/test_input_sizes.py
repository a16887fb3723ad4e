"""Sizes of axes that a graph leaves open, and graphs that ONNX's checker refuses and runtimes run."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from convspec_onnx.verify import input_sizes
from onnx import TensorProto, helper
from typer.testing import CliRunner

from convspec.cli.app import app
from convspec.errors import RequestError
from tests.adapters.onnx.verifying import audited, conv, model, saved, weights

pytestmark = pytest.mark.onnx


def shapes(report):
    """The input shapes of the first convolution, one per set."""
    runs = {run["inputs"]: run["shapes"]["x"] for run in report.nodes[0].runs}
    return list(runs.values())


def declared(proto, name, *dims, kind=TensorProto.FLOAT):
    """Add an input of these axes."""
    proto.graph.input.append(helper.make_tensor_value_info(name, kind, list(dims)))
    return proto


@pytest.mark.parametrize("size", [-1, 0, -7])
def test_a_size_below_one_means_unknown(tmp_path, size):
    proto = model([conv("c", "x", "y", "w")], {"w": weights(4, 3, 3, 5)}, (size, 3, size, size))
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert shapes(report) == [[1, 3, 64, 64], [2, 3, 96, 96]]
    assert not report.unexpected


def test_an_axis_of_minus_one_is_set_by_dim(tmp_path):
    proto = model([conv("c", "x", "y", "w")], {"w": weights(4, 3, 3, 5)}, (-1, 3, 9, -1))
    assert shapes(audited(saved(proto, tmp_path / "m.onnx"), dims={"x.0": [3], "x.3": [7]})) == [[3, 3, 9, 7]]


def test_one_symbol_has_one_size_in_all_inputs(tmp_path):
    """``n`` counts samples in one input, and stands second in the other."""
    nodes = [conv("c", "x", "h", "w"), helper.make_node("ReduceSum", ["s", "one"], ["t"], keepdims=0),
             helper.make_node("Transpose", ["u"], ["v"], perm=[1, 0, 2, 3]), helper.make_node("Add", ["h", "v"], ["z"]),
             helper.make_node("Mul", ["z", "t"], ["y"])]  # fmt: skip
    tensors = {"w": weights(4, 3, 3, 5), "one": np.array([0])}
    proto = declared(declared(model(nodes, tensors, ("n", 3, "H", "W")), "u", 4, "n", 1, 1), "s", "n")
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert shapes(report) == [[1, 3, 64, 64], [2, 3, 96, 96]]
    assert not report.unexpected


def test_windows_that_are_longer_than_the_default_are_filled(tmp_path):
    nodes = [helper.make_node("Unsqueeze", ["x", "axis"], ["u"]), conv("c", "u", "y", "w", strides=[160])]
    proto = model(nodes, {"w": weights(5, 1, 512), "axis": np.array([1])}, ("batch", "samples"))
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert not report.unexpected
    first, second = shapes(report)
    assert (first[0], second[0]) == (1, 2)
    assert 512 <= first[2] < second[2]


def test_sizes_that_strides_divide_are_found(tmp_path):
    """An encoder of strides 3 and 5, its decoder, and a sum that needs the same size again."""
    nodes = [
        conv("a", "x", "h", "w3", strides=[3]),
        conv("b", "h", "i", "w5", strides=[5]),
        conv("d", "i", "j", "v5", op="ConvTranspose", strides=[5]),
        conv("e", "j", "k", "v3", op="ConvTranspose", strides=[3]),
        helper.make_node("Add", ["k", "x"], ["y"]),
    ]
    tensors = {"w3": weights(4, 2, 3), "w5": weights(6, 4, 5), "v5": weights(6, 4, 5), "v3": weights(4, 2, 3)}
    report = audited(saved(model(nodes, tensors, ("N", 2, "L")), tmp_path / "m.onnx"))
    assert not report.unexpected
    assert all(length % 15 == 0 for _, _, length in shapes(report))


def test_channels_last_is_recognised(tmp_path):
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), conv("c", "t", "y", "w", strides=[8, 8])]
    proto = model(nodes, {"w": weights(4, 3, 9, 11)}, ("N", "H", "W", 3))
    assert shapes(audited(saved(proto, tmp_path / "m.onnx"))) == [[1, 3, 64, 64], [2, 3, 96, 96]]


def classifier(*shape):
    """A convolution whose features a matrix multiplies: it takes images of one size."""
    nodes = [conv("c", "x", "h", "w", strides=[2, 2]), helper.make_node("Flatten", ["h"], ["f"]),
             helper.make_node("Gemm", ["f", "m"], ["y"], "head")]  # fmt: skip
    proto = model(nodes, {"w": weights(2, 3, 2, 2), "m": weights(2 * 56 * 56, 3)}, shape)
    del proto.graph.output[0].type.tensor_type.shape.dim[2:]
    return proto


def test_an_image_of_one_size_is_found_and_the_other_axes_are_still_varied(tmp_path):
    report = audited(saved(classifier("N", 3, "S", "S"), tmp_path / "m.onnx"))
    assert shapes(report) == [[1, 3, 112, 112], [2, 3, 112, 112]]
    (note,) = [note for note in report.notes if note["id"] == "fixed-size"]
    assert (note["level"], "axis 'S'" in note["title"], "node 'head' (Gemm)" in note["title"]) == ("info", True, True)
    assert not report.unexpected


def test_a_batch_that_is_baked_in_is_unexpected(tmp_path):
    nodes = [conv("c", "x", "h", "w"), helper.make_node("Reshape", ["h", "s"], ["y"], "traced")]
    tensors = {"w": weights(4, 3, 3, 5), "s": np.array([1, 4, -1, 10])}
    report = audited(saved(model(nodes, tensors, ("N", 3, 12, 14)), tmp_path / "m.onnx"))
    assert (shapes(report), report.unexpected) == ([[1, 3, 12, 14], [2, 3, 12, 14]], [])  # -1 takes what a batch adds
    tensors["s"] = np.array([1, 4, 10, 10])
    report = audited(saved(model(nodes, tensors, ("N", 3, 12, 14)), tmp_path / "m.onnx"))
    assert [(where, name) for where, name, _ in report.unexpected] == [("model", "fixed-size")]
    assert "node 'traced' (Reshape) refuses x (2, 3, 12, 14)" in report.unexpected[0][2]


def test_sizes_that_nobody_finds_are_the_user_s_to_say(tmp_path):
    nodes = [conv("c", "x", "h", "w"), helper.make_node("Reshape", ["h", "s"], ["y"], "odd")]
    proto = model(nodes, {"w": weights(4, 3, 3, 5), "s": np.array([1, 4, 35, 33])}, (1, 3, "H", "W"))
    path = saved(proto, tmp_path / "m.onnx")
    done = CliRunner().invoke(app, ["verify", str(path)])
    assert done.exit_code == 2
    assert "node 'odd' (Reshape) refuses x (1, 3, 64, 64)" in done.output
    assert "--dim H=N" in done.output
    done = CliRunner().invoke(app, ["verify", str(path), "--dim", "H=37", "--dim", "W=37"])
    assert (done.exit_code, "1 agree, 0 unexpected" in done.output) == (0, True)


def test_the_search_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(input_sizes, "_MAX_SECONDS", 0.0)
    proto = model([conv("c", "x", "y", "w")], {"w": weights(4, 3, 3, 5)}, ("N", "C", "H", "W"))
    with pytest.raises(RequestError, match="no sizes of the symbolic axes were found"):
        audited(saved(proto, tmp_path / "m.onnx"))


def test_sizes_do_not_excuse_a_node_that_is_refused_whatever_they_are(tmp_path):
    nodes = [conv("refused", "x", "h", "w", auto_pad="SAME_UPPER", dilations=[2, 2]), conv("good", "h", "y", "v")]
    proto = model(nodes, {"w": weights(3, 3, 3, 3), "v": weights(4, 3, 3, 5)}, ("N", 3, "H", "W"))
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert [node.verdict for node in report.nodes] == ["error", "agree"]


# -- the order of nodes ------------------------------------------------------------------------------------------------


def shuffled(*order):
    nodes = [conv("a", "x", "h", "w"), helper.make_node("Relu", ["h"], ["i"], "act"), conv("b", "i", "y", "v")]
    return model([nodes[i] for i in order], {"w": weights(3, 3, 3, 3), "v": weights(4, 3, 3, 5)}, (1, 3, 9, 11))


@pytest.mark.parametrize(("order", "early"), [((2, 1, 0), "'b', 'act'"), ((1, 2, 0), "'act'"), ((0, 2, 1), "'b'")])
def test_nodes_out_of_order_are_sorted_and_noted(tmp_path, order, early):
    report = audited(saved(shuffled(*order), tmp_path / "m.onnx"), levels=["off", "all"])
    assert [(node.name, node.verdict) for node in report.nodes] == [("a", "agree"), ("b", "agree")]
    (note,) = [note for note in report.notes if note["id"] == "unsorted-nodes"]
    assert (note["level"], f"read from: {early};" in note["title"]) == ("warning", True)
    assert not report.unexpected


def test_nodes_in_order_are_left_alone(tmp_path):
    assert not audited(saved(shuffled(0, 1, 2), tmp_path / "m.onnx")).notes


def test_nodes_in_a_body_are_sorted(tmp_path):
    nodes = [helper.make_node("Relu", ["c"], ["t"], "act"), conv("inner", "x", "c", "w")]
    out = [helper.make_tensor_value_info("t", 1, list("abcd"))]
    body = helper.make_graph(nodes, "body", [], out)
    choice = helper.make_node("If", ["flag"], ["y"], "choice", then_branch=body, else_branch=body)
    proto = model([choice], {"w": weights(4, 3, 3, 5), "flag": np.array(True)}, (1, 3, 9, 11))
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert {node.verdict for node in report.nodes} == {"agree"}


@pytest.mark.parametrize("source", ["nowhere", "y"])
def test_an_input_that_no_node_writes_and_a_circle_stay_errors(tmp_path, source):
    proto = shuffled(2, 1, 0)
    proto.graph.node[2].input[0] = source
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(RequestError, match=f"input '{source}'|input 'i'"):
        audited(path)
    assert CliRunner().invoke(app, ["verify", str(path)]).exit_code == 2


def test_unsorted_files_are_compared_too(tmp_path):
    """``--against`` and ``compare`` read the same files."""
    from convspec import compare

    right, wrong = (saved(shuffled(*order), tmp_path / f"{order[0]}.onnx") for order in ((0, 1, 2), (2, 1, 0)))
    assert not audited(wrong, against=str(right)).unexpected
    assert compare(str(right), str(wrong), weights(1, 3, 9, 11)).agrees
    assert onnx.load(wrong).graph.node[0].name == "b"  # the file itself stays as it is

"""Graphs of other formats than float32: what a runtime keeps in a finer one, and kernels that it lacks."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from convspec_onnx.verify import input_sizes, runtimes
from convspec_onnx.verify import run as running
from onnx import TensorProto, helper

from tests.adapters.onnx.verifying import audited, conv, model, saved, weights

pytestmark = pytest.mark.onnx


def chain(dtype=np.float16, opset=19):
    """Two transposed convolutions whose few products per pixel leave no room for a rounded input."""
    nodes = [
        conv("a", "x", "h", "w", op="ConvTranspose", strides=[2, 2]),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        conv("b", "r", "y", "v", op="ConvTranspose", strides=[2, 2]),
    ]
    tensors = {"w": weights(8, 16, 4, 4).astype(dtype), "v": weights(16, 8, 3, 3).astype(dtype)}
    proto = model(nodes, tensors, (1, 8, 10, 12))
    for entry in (*proto.graph.input, *proto.graph.output):
        entry.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    proto.opset_import[0].version = opset
    return proto


def disturbed(monkeypatch, change):
    honest = runtimes.run

    def run(*arguments):
        return change(honest(*arguments))

    monkeypatch.setattr(running.runtimes, "run", run)


def kept(node):
    return [note["title"] for note in node.notes if note["id"] == "kept-in-float32"]


@pytest.mark.parametrize("level", ["off", "all"])
def test_what_is_not_rounded_between_two_nodes_is_legal_and_said(tmp_path, level):
    a, b = audited(saved(chain(), tmp_path / "m.onnx"), levels=[level]).nodes
    assert (a.verdict, b.verdict) == ("agree", "agree"), b.reason
    assert not kept(a)
    (title,) = kept(b)
    assert "keeps 'r' in float32" in title
    assert " of 19080 elements are not for the rounded one" in title


def test_what_no_rounding_explains_stays_wrong(tmp_path, monkeypatch):
    def spoil(found):
        if "r" in found:
            found["y"][0, 1, 2, 3] += 0.5
        return found

    disturbed(monkeypatch, spoil)
    b = audited(saved(chain(), tmp_path / "m.onnx")).nodes[1]
    assert (b.verdict, kept(b)) == ("disagree", [])


def test_a_node_that_is_wrong_by_itself_stays_wrong(tmp_path, monkeypatch):
    """The fault is smaller than what an input that is not rounded explains, but it is there without one, too."""
    honest = runtimes.run

    def run(detached, feeds, outputs, *more):
        found = honest(detached, feeds, outputs, *more)
        if len(detached.graph.node) == 1:
            found["y"][0, 1, 2, 3] += 0.5
        return found

    monkeypatch.setattr(runtimes, "run", run)
    b = audited(saved(chain(), tmp_path / "m.onnx")).nodes[1]
    assert (b.verdict, kept(b)) == ("disagree", [])


def test_an_input_of_the_graph_is_what_it_is(tmp_path, monkeypatch):
    nodes = [conv("c", "x", "y", "w", strides=[3, 3], op="ConvTranspose")]
    proto = model(nodes, {"w": weights(2, 3, 3, 3, dtype=np.float16)}, (1, 2, 9, 9))
    for entry in (*proto.graph.input, *proto.graph.output):
        entry.type.tensor_type.elem_type = TensorProto.FLOAT16

    def spoil(found):
        return {n: (v.astype(np.float32) * np.float32(1 + 2.0**-9)).astype(v.dtype) for n, v in found.items()}

    disturbed(monkeypatch, spoil)
    (node,) = audited(saved(proto, tmp_path / "m.onnx")).nodes
    assert (node.verdict, kept(node)) == ("disagree", [])


@pytest.mark.parametrize("dtype", [np.float64, ml_dtypes.bfloat16])
def test_a_format_without_a_kernel_is_judged_by_the_evaluator_and_the_hint_says_so(tmp_path, dtype):
    path = saved(chain(dtype, 22), tmp_path / "m.onnx")
    report = audited(path)
    for node in report.nodes:
        assert node.verdict == "unsupported"
        assert node.reason.endswith("--levels evaluator")
        assert "half-precision-weights" not in {note["id"] for note in node.notes}
    assert all(reason.endswith("--levels evaluator") for reason in report.broken)
    report = audited(path, levels=["evaluator"])
    assert {node.verdict for node in report.nodes} == {"agree"}
    assert not report.unexpected


@pytest.mark.parametrize("opset", [10, 13, 17, 19])
def test_the_evaluator_dequantises_in_every_opset(tmp_path, opset):
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]), conv("c", "d", "y", "w")]  # fmt: skip
    many = opset >= 13  # scales of channels
    tensors = {"w": weights(4, 3, 3, 5), "s": np.float32([0.02, 0.03, 0.01]) if many else np.float32(0.02),
               "z": np.uint8([128, 100, 7]) if many else np.uint8(128)}  # fmt: skip
    proto = model(nodes, tensors, (1, 3, 9, 11))
    proto.opset_import[0].version = opset
    report = audited(saved(proto, tmp_path / "m.onnx"), levels=["off", "evaluator"])
    assert [node.verdict for node in report.nodes] == ["agree"]
    assert not report.unexpected


def test_sizes_that_need_too_much_memory_are_not_called_refused(tmp_path, monkeypatch):
    def fails(*_):
        def run(_):
            raise runtimes.RunError("RuntimeException: std::bad_alloc")

        return run

    monkeypatch.setattr(input_sizes.runtimes, "prepare", fails)
    proto = model([conv("c", "x", "y", "w")], {"w": weights(4, 3, 3, 5)})
    with pytest.raises(MemoryError):
        audited(saved(proto, tmp_path / "m.onnx"))

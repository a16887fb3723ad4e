"""Graphs saved by ONNX Runtime after its optimisation: fused activations and sums, channels last, blocked channels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")
import onnxruntime
from convspec_onnx.graph import convolutions
from convspec_onnx.loading import DetachedModel
from convspec_onnx.verify import run as running
from convspec_onnx.verify import runtimes
from onnx import TensorProto, helper
from typer.testing import CliRunner

from convspec.cli.app import app
from tests.adapters.onnx.verifying import audited, conv, model, saved, weights

pytestmark = pytest.mark.onnx
ACTIVATIONS = {  # attributes of the operator, and of FusedConv
    "Relu": ({}, []),
    "LeakyRelu": ({"alpha": 0.3}, [0.3]),
    "Tanh": ({}, []),
    "Sigmoid": ({}, []),
    "Clip": ({}, [-0.5, 0.7]),
    "HardSigmoid": ({"alpha": 0.3, "beta": 0.4}, [0.3, 0.4]),
}


def microsoft(proto, version=1):
    proto.opset_import.append(helper.make_opsetid("com.microsoft", version))
    return proto


def network():
    """Two convolutions before each activation that a convolution is fused with; no tensor between is declared."""
    nodes, tensors, source, channels = [], {"lo": np.float32(-0.5), "hi": np.float32(0.7)}, "x", 3
    for name, (attributes, _) in ACTIVATIONS.items():
        for i in (0, 1):
            key = f"{name}{i}"
            tensors |= {f"w{key}": weights(8, channels, 3, 3) / 3, f"b{key}": weights(8)}
            nodes.append(conv(f"c{key}", source, f"h{key}", f"w{key}", f"b{key}", pads=[1, 1, 1, 1]))
            inputs = [f"h{key}", "lo", "hi"] if name == "Clip" else [f"h{key}"]
            nodes.append(helper.make_node(name, inputs, [f"a{key}"], f"a{key}", **attributes))
            source, channels = f"a{key}", 8
    return model([*nodes, conv("last", source, "y", "w", pads=[0, 1, 2, 1])], tensors | {"w": weights(5, 8, 3, 3)},
                 (1, 3, 12, 14))  # fmt: skip


def optimised(proto, path, level):
    """Save the graph as ONNX Runtime saves it after optimisation at that level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = runtimes.LEVELS[level]
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


def test_a_graph_saved_at_level_extended_is_judged_to_its_end(tmp_path):
    path = optimised(network(), tmp_path / "m.onnx", "extended")
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds == ["FusedConv"] * 12 + ["Conv"]
    report = audited(path, levels=["off", "all"])
    assert [node.op_type for node in report.nodes] == kinds
    assert report.summary["agree"] == 13
    assert not report.unexpected


def test_blocked_convolutions_are_counted_and_named_and_do_not_pass(tmp_path):
    path = optimised(network(), tmp_path / "m.onnx", "all")
    nodes = onnx.load(path).graph.node
    blocked = [n.name for n in nodes if n.domain == "com.microsoft.nchwc" and n.op_type == "Conv"]
    if not blocked:
        pytest.skip("this processor has no blocked convolutions")
    report = audited(path)
    assert not report.broken
    found = {node.name: (node.verdict, node.reason) for node in report.nodes}
    assert set(blocked) <= set(found)
    for name in blocked:
        assert found[name][0] == "unsupported"
        assert "domain 'com.microsoft.nchwc'" in found[name][1]
    assert CliRunner().invoke(app, ["verify", str(path)]).exit_code == 1


def test_blocked_convolutions_do_not_hide_the_others(tmp_path):
    """The first one has three channels in and is blocked; the transposed one is not."""
    nodes = [conv("a", "x", "h", "w", pads=[1, 1, 1, 1]), conv("b", "h", "y", "v", op="ConvTranspose")]
    proto = model(nodes, {"w": weights(8, 3, 3, 3), "v": weights(8, 5, 3, 3)}, (1, 3, 12, 14))
    path = optimised(proto, tmp_path / "m.onnx", "all")
    if "com.microsoft.nchwc" not in {n.domain for n in onnx.load(path).graph.node}:
        pytest.skip("this processor has no blocked convolutions")
    report = audited(path)
    assert [node.verdict for node in report.nodes] == ["unsupported", "agree"]
    assert {node for node, _, _ in report.unexpected} == {report.nodes[0].name}


def test_a_convolution_that_is_not_known_is_counted_by_name(tmp_path):
    node = helper.make_node("ConvTransposeWithDynamicPads", ["x", "w", "p"], ["h"], "dynamic", domain="com.microsoft")
    tensors = {"w": weights(3, 4, 3, 3), "p": np.zeros(4, np.int64), "v": weights(2, 4, 3, 3)}
    proto = microsoft(model([node, conv("c", "h", "y", "v")], tensors, (1, 3, 9, 11)))
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert [(n.name, n.verdict) for n in report.nodes] == [("dynamic", "unsupported"), ("c", "agree")]
    assert "ConvTransposeWithDynamicPads" in report.nodes[0].reason


# -- fused -------------------------------------------------------------------------------------------------------------


def fused(name, params, *, addend=False):
    inputs = ["x", "w", "b", "z"] if addend else ["x", "w", "b"]
    more = {"activation": name} if name else {}
    more |= {"activation_params": params} if params else {}
    node = helper.make_node("FusedConv", inputs, ["y"], "c", domain="com.microsoft", pads=[1, 2, 1, 2], **more)
    tensors = {"w": weights(4, 3, 3, 5) / 3, "b": weights(4)}
    proto = microsoft(model([node], tensors, (2, 3, 9, 11)))
    if addend:
        proto.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 4, 9, 11]))
    return proto


def disturbed(monkeypatch, change):
    honest = runtimes.run

    def run(*arguments):
        found = honest(*arguments)
        return {name: change(value.copy()) if name == "y" else value for name, value in found.items()}

    monkeypatch.setattr(running.runtimes, "run", run)


@pytest.mark.parametrize("addend", [False, True])
@pytest.mark.parametrize("name", [*ACTIVATIONS, ""])
def test_every_fused_activation_and_sum_is_judged(tmp_path, monkeypatch, name, addend):
    path = saved(fused(name, ACTIVATIONS[name][1] if name else [], addend=addend), tmp_path / "m.onnx")
    (node,) = audited(path, levels=["off", "all"]).nodes
    assert node.verdict == "agree", node.reason

    def nudge(y):
        y[1, 2, 3, 4] += 1e-4
        return y

    disturbed(monkeypatch, nudge)
    (node,) = audited(path).nodes
    assert (node.verdict, "(1, 2, 3, 4)" in node.reason) == ("disagree", True)


WRONG = {  # what a runtime computes instead
    "LeakyRelu": lambda y: np.maximum(y, 0),
    "Tanh": lambda y: np.clip(np.arctanh(np.clip(y, -0.999, 0.999)), -1, 1).astype(np.float32),
    "Clip": lambda y: np.clip(y, -0.5, 0.6),
    "HardSigmoid": lambda y: y * np.float32(0.999),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_activation_disagrees(tmp_path, monkeypatch, name):
    path = saved(fused(name, ACTIVATIONS[name][1]), tmp_path / "m.onnx")
    disturbed(monkeypatch, WRONG[name])
    assert audited(path).nodes[0].verdict == "disagree"


def test_a_forgotten_sum_disagrees(tmp_path, monkeypatch):
    path = saved(fused("Relu", [], addend=True), tmp_path / "m.onnx")
    honest = runtimes.run

    def forgets(proto, feeds, *more):
        return honest(proto, {n: np.zeros_like(v) if n == "z" else v for n, v in feeds.items()}, *more)

    monkeypatch.setattr(running.runtimes, "run", forgets)
    assert audited(path).nodes[0].verdict == "disagree"


# -- channels last -----------------------------------------------------------------------------------------------------


def channels_last(op="NhwcConv"):
    kernel = weights(4, 3, 3, 5)
    node = helper.make_node(op, ["x", "w", "b"], ["h"], "c", domain="com.microsoft", strides=[2, 1], pads=[1, 2, 0, 1])
    own = np.moveaxis(kernel, 1, -1) if op == "NhwcConv" else kernel
    nodes = [node, helper.make_node("Transpose", ["h"], ["t"], perm=[0, 3, 1, 2]), conv("d", "t", "y", "v")]
    tensors = {"w": np.ascontiguousarray(own), "b": weights(4), "v": weights(2, 4, 1, 3)}
    return microsoft(model(nodes, tensors, (2, 9, 11, 3))), kernel


@pytest.mark.parametrize("op", ["NhwcConv", "NhwcFusedConv"])
def test_a_convolution_with_channels_last_is_judged(tmp_path, monkeypatch, op):
    """By a runtime that has one; that of the processor has none, and the oracle takes its place."""
    proto, kernel = channels_last(op)
    path = saved(proto, tmp_path / "m.onnx")
    report = audited(path)
    assert [node.verdict for node in report.nodes] == ["unsupported", "agree"]
    assert "NOT_IMPLEMENTED" in report.nodes[0].reason
    honest = runtimes.run

    def run(detached, feeds, outputs, config, without=()):
        copy = detached.attach()
        place = next((i for i, n in enumerate(copy.graph.node) if n.op_type == op), None)
        if place is not None:
            node = copy.graph.node[place]
            turned = [
                helper.make_node("Transpose", [node.input[0]], ["in"], perm=[0, 3, 1, 2]),
                helper.make_node("Conv", ["in", "turned", node.input[2]], ["out"], strides=[2, 1], pads=[1, 2, 0, 1]),
                helper.make_node("Transpose", ["out"], [node.output[0]], perm=[0, 2, 3, 1]),
            ]
            nodes = [*copy.graph.node[:place], *turned, *copy.graph.node[place + 1 :]]
            del copy.graph.node[:]
            copy.graph.node.extend(nodes)
            copy.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "turned"))
        return honest(DetachedModel(copy), feeds, outputs, config, without)

    monkeypatch.setattr(running.runtimes, "run", run)
    report = audited(path)
    assert [node.verdict for node in report.nodes] == ["agree", "agree"]
    assert report.nodes[0].input_shape == [2, 3, 9, 11]
    kernel[1, 2, 0, 3] += 1e-3
    assert [node.verdict for node in audited(path).nodes] == ["disagree", "agree"]


def test_the_weights_of_a_convolution_with_channels_last_are_read():
    proto, kernel = channels_last()
    first, _ = convolutions.find_convolutions(DetachedModel(proto))
    np.testing.assert_array_equal(first.params.kernel, kernel)
    assert (first.spec.stride, first.spec.padding) == ((2, 1), ((1, 0), (2, 1)))

"""PyTorch's models as ONNX graphs: ported, every layer agreeing; and graphs that are wrong, located."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

import onnx
import torch
from onnx import helper, numpy_helper

import convspec
from convspec.errors import RequestError, UnsupportedError
from tests.networks import onnx_models, torch_models

pytestmark = [pytest.mark.onnx, pytest.mark.torch]

RESNET = np.random.default_rng(0).standard_normal((2, 3, 64, 48), np.float32)
MOBILENET = np.random.default_rng(0).standard_normal((2, 3, 48, 32), np.float32)


@pytest.fixture(scope="module")
def resnet():
    source, target = torch_models.resnet(), onnx_models.checked(onnx_models.resnet())
    report = convspec.port_weights(source, target, RESNET)
    assert report.comparison.agrees, str(report.comparison)
    assert [*report.left, *report.ambiguous, *report.warnings] == []
    return source, report.model


def test_a_resnet_is_ported(resnet, tmp_path):
    source, target = resnet
    onnx.save(target, tmp_path / "resnet.onnx")
    found = convspec.compare(source, tmp_path / "resnet.onnx", RESNET)
    assert found.agrees, str(found)
    assert len(found.rows) == 41


def test_a_mobilenet_is_ported_there_and_back():
    source, third = torch_models.mobilenet(), torch_models.MobileNet()
    report = convspec.port_weights(source, onnx_models.checked(onnx_models.mobilenet()), MOBILENET)
    assert report.comparison.agrees, str(report.comparison)
    back = convspec.port_weights(report.model, third, MOBILENET)
    assert back.comparison.agrees, str(back.comparison)
    for name, tensor in source.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(tensor, third.state_dict()[name]), name


def test_pads_on_the_wrong_side_are_named(resnet):
    source, right = resnet
    wrong = onnx.ModelProto.FromString(right.SerializeToString())
    (node,) = [n for n in wrong.graph.node if n.name == "s2b0c1"]
    for attribute in node.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [0, 0, 2, 2]
    found = convspec.compare(source, wrong, RESNET, seconds=1)
    assert [row.b for row in found.rows if row.verdict == "diverges"] == ["s2b0c1"]
    assert found.first.spec == ["stride (2, 2): pads (1, 1) against (0, 2)"]
    assert len(found.diagnosis)


def test_a_missing_activation_is_found_between_two_layers(resnet):
    source, right = resnet
    wrong = onnx.ModelProto.FromString(right.SerializeToString())
    (node,) = [n for n in wrong.graph.node if n.name == "s1b1r1"]
    node.op_type = "Identity"
    found = convspec.compare(source, wrong, RESNET)
    assert found.first.verdict == "input_differs"
    assert found.first.b == "s1b1c2"


def test_norms_within_the_kernels_are_seen_as_such(resnet):
    source, right = resnet
    folded = _folded(right)
    found = convspec.compare(source, folded, RESNET)
    assert found.agrees, str(found)
    assert found.notes == ["20 batch norms of model a are folded into the other model's kernels"]


def _folded(model):
    """Every BatchNormalization in the Conv before it, as exporters do it, in float32."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    tensors = {t.name: t for t in copy.graph.initializer}
    array = {name: onnx.numpy_helper.to_array(t) for name, t in tensors.items()}
    makers = {n.output[0]: n for n in copy.graph.node}
    for norm in [n for n in copy.graph.node if n.op_type == "BatchNormalization"]:
        conv = makers[norm.input[0]]
        scale, shift, mean, variance = (array[name] for name in norm.input[1:])
        factor = (scale / np.sqrt(variance + np.float32(1e-5))).astype(np.float32)
        kernel = array[conv.input[1]] * factor.reshape(-1, 1, 1, 1)
        tensors[conv.input[1]].CopyFrom(onnx.numpy_helper.from_array(kernel, conv.input[1]))
        bias = onnx.numpy_helper.from_array((shift - mean * factor).astype(np.float32), f"{conv.name}.bias")
        copy.graph.initializer.append(bias)
        conv.input.append(bias.name)
        conv.output[0] = norm.output[0]
        copy.graph.node.remove(norm)
    return onnx_models.checked(copy)


def test_models_without_convolutions_say_what_they_have(resnet):
    with pytest.raises(UnsupportedError, match="no convolutions; its layers: Linear"):
        convspec.compare(torch.nn.Sequential(torch.nn.Linear(3, 4)), resnet[1])


def test_inputs_that_do_not_fit_are_refused(resnet):
    with pytest.raises(RequestError, match="does not take these inputs"):
        convspec.compare(*resnet, RESNET[:, :2])
    with pytest.raises(RequestError, match="1 inputs, but 2"):
        convspec.compare(resnet[1], resnet[1], [RESNET, RESNET])


def test_names_from_a_file_reach_no_terminal_as_commands(resnet):
    copy = onnx.ModelProto.FromString(resnet[1].SerializeToString())
    copy.graph.node[0].name = "conv\x1b[2J"
    assert "\x1b" not in str(convspec.compare(resnet[0], copy))


def test_linear_layers_of_two_nodes():
    weights = [onnx.numpy_helper.from_array(np.random.default_rng(i).standard_normal(s, np.float32), n)
               for i, (n, s) in enumerate({"w": (5, 3, 3, 1), "m": (5, 7), "b": (7,)}.items())]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "m"], ["y"], name="matmul"),
        helper.make_node("Add", ["y", "b"], ["z"], name="add"),
    ]
    kinds = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in
             (("x", ["n", 3, 8, 6]), ("z", ["n", 7]))]  # fmt: skip
    graph = helper.make_graph(nodes, "net", kinds[:1], kinds[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    target = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, (3, 1), bias=False),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(5, 7),
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 6), np.float32)
    report = convspec.port_weights(model, target, x)
    assert report.comparison.agrees, str(report.comparison)


def _normed(kind, attributes, shapes, opset=21):
    """A convolution and a norm of this kind, whose arrays have these shapes."""
    rng = np.random.default_rng(2)
    arrays = {"w": rng.standard_normal((8, 3, 3, 3)), "g": rng.uniform(0.5, 2, shapes[0])}
    arrays |= {"s": rng.standard_normal(shapes[1])} if len(shapes) > 1 else {}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node(kind, ["c", *list(arrays)[1:]], ["y"], name="norm", **attributes),
    ]
    sizes = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [1, 3, 8, 6]), ("y", [1, 8, 6, 4]))]
    weights = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    graph = helper.make_graph(nodes, "net", [sizes[0]], [sizes[1]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize(
    ("kind", "attributes", "shapes", "wrong"),
    [
        ("GroupNormalization", {"num_groups": 4}, [8, 8], {"num_groups": 2}),
        ("InstanceNormalization", {}, [8, 8], {"epsilon": 1e-3}),
        ("LayerNormalization", {"axis": 1}, [(8, 6, 4), (8, 6, 4)], {"axis": 1, "epsilon": 1e-3}),
        ("LayerNormalization", {"axis": -1}, [4, 4], {"axis": -1, "epsilon": 1e-3}),
    ],
)
def test_norms_are_judged_and_their_settings_compared(kind, attributes, shapes, wrong):
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 6)).astype(np.float32)
    right, other = _normed(kind, attributes, shapes), _normed(kind, wrong, shapes)
    found = convspec.compare(right, _normed(kind, attributes, shapes), x)
    assert [row.verdict for row in found.rows] == ["agree", "agree"], str(found)
    found = convspec.compare(right, other, x)
    assert found.verdict == "differ"
    assert found.rows[1].verdict == "diverges"
    word = "groups 4 against 2" if "num_groups" in wrong else "epsilon 1e-05 against 0.001"
    assert found.divergence == f"norm 0 (norm): {word}"

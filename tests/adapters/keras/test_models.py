"""PyTorch's models as Keras models: ported, every layer agreeing; then classic mistakes, located and named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("torch")


import keras

import convspec
from tests.adapters.keras.backend import BACKEND
from tests.networks import keras_models, planted, torch_models

pytestmark = [pytest.mark.keras, pytest.mark.torch]

PAGE = Path(__file__).parents[3] / "docs/how-to/port-a-model.md"


@pytest.fixture(scope="module")
def resnet():
    return torch_models.resnet()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_resnet_is_ported_and_every_layer_agrees(resnet, tmp_path):
    target = keras_models.resnet()
    report = convspec.port_weights(resnet, target, planted.RESNET_INPUT)
    assert report.written
    assert [*report.left, *report.ambiguous, *report.warnings] == []
    assert report.comparison.agrees, str(report.comparison)
    assert len([row for row in report.comparison.rows if row.label.startswith("conv")]) == 20
    assert {row.verdict for row in report.comparison.rows} == {"agree"}
    report.save(tmp_path / "ported.weights.h5")
    other = keras_models.resnet()
    other.load_weights(tmp_path / "ported.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), target.get_weights(), strict=True))


def test_a_mobilenet_is_ported_back_and_forth():
    source, target, third = torch_models.mobilenet(), keras_models.mobilenet(), torch_models.MobileNet()
    report = convspec.port_weights(source, target, planted.MOBILENET_INPUT)
    assert report.comparison.agrees, str(report.comparison)
    back = convspec.port_weights(target, third, planted.MOBILENET_INPUT.transpose(0, 2, 3, 1))
    assert back.comparison.agrees, str(back.comparison)
    for name, tensor in source.state_dict().items():
        if "num_batches" not in name:
            assert np.array_equal(tensor.numpy(), third.state_dict()[name].numpy()), name


def test_same_where_pytorch_pads_both_sides(resnet):
    found = convspec.compare(resnet, planted.resnet_same(), planted.RESNET_INPUT)
    assert [row.a for row in found.rows if row.verdict == "diverges"] == ["layer2.0.conv1"]
    assert found.first.label == "conv 5"
    assert found.first.spec == ["stride (2, 2): pads (1, 1) against (0, 1)"]
    assert found.diagnosis[0].id == "symmetric-as-same"


def test_epsilon(resnet):
    found = convspec.compare(resnet, planted.resnet_epsilon(), planted.RESNET_INPUT)
    assert [row.b for row in found.rows if row.verdict == "diverges"] == ["stage3_block1_1_bn"]
    assert found.divergence == "norm 10 (layer3.0.bn1): epsilon 1e-05 against 0.001"


def test_flatten_order():
    found = convspec.compare(torch_models.mobilenet(), planted.mobilenet_flatten(), planted.MOBILENET_INPUT)
    assert [row.label for row in found.rows if row.verdict == "diverges"] == ["linear 0"]
    assert "flatten-order" in found.divergence


def test_a_depthwise_kernel_with_its_axes_swapped():
    model = planted.mobilenet()
    layer = model.get_layer("block2_1_depthwise")
    layer.kernel.assign(keras.ops.convert_to_numpy(layer.kernel).transpose(1, 0, 2, 3).copy())
    found = convspec.compare(torch_models.mobilenet(), model, planted.MOBILENET_INPUT, seconds=1)
    assert found.first.b == "block2_1_depthwise"
    assert found.first.weights == ["the kernel is that of the source with its spatial axes swapped"]


def test_depthwise_filters_in_the_wrong_order():
    """Channel by channel in PyTorch, multiplier by multiplier where someone has only reshaped the kernel."""
    import torch

    source = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 12, (3, 5), groups=4)).eval()
    layers = [keras.layers.Conv2D(4, 1), keras.layers.DepthwiseConv2D((3, 5), depth_multiplier=3)]
    target = keras.Sequential([keras.Input((9, 11, 3)), *layers])
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 11), np.float32)
    assert convspec.port_weights(source, target, x).comparison.agrees
    kernel = source[1].weight.detach().numpy()  # (4·3, 1, 3, 5)
    layers[1].kernel.assign(kernel.transpose(2, 3, 0, 1).reshape(3, 5, 3, 4).swapaxes(2, 3))
    found = convspec.compare(source, target, x)
    assert found.first.label == "conv 1"
    assert "depthwise" in found.diagnosis[0].id


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_both_parts_of_a_separable_convolution_are_judged(data_format):
    import torch

    source = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, (3, 5), 2, groups=3, bias=False), torch.nn.Conv2d(6, 5, 1), torch.nn.ReLU()
    ).eval()
    shape = (9, 11, 3) if data_format == "channels_last" else (3, 9, 11)
    layer = keras.layers.SeparableConv2D(
        5, (3, 5), 2, depth_multiplier=2, activation="relu", name="s", data_format=data_format
    )
    target = keras.Sequential([keras.Input(shape), layer])
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 11), np.float32)
    report = convspec.port_weights(source, target, x)
    assert report.comparison.agrees, str(report.comparison)
    rows = report.comparison.rows
    assert [(row.a, row.b, row.verdict) for row in rows] == [
        ("0", "s/depthwise", "agree"),
        ("1", "s/pointwise", "agree"),
    ]
    layer.bias.assign(layer.bias + 1)
    found = convspec.compare(source, target, x)
    assert [row.verdict for row in found.rows] == ["agree", "diverges"]
    layer.depthwise_kernel.assign(keras.ops.flip(layer.depthwise_kernel, 0))
    found = convspec.compare(source, target, x)
    assert found.first.b == "s/depthwise"
    assert "kernel-flipped" in found.diagnosis[0].id


def test_activations_within_a_convolution_are_left_out():
    import torch

    source = torch.nn.Sequential(torch.nn.Conv2d(3, 4, (3, 5)), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1)).eval()
    target = keras.Sequential(
        [keras.Input((9, 11, 3)), keras.layers.Conv2D(4, (3, 5), activation="relu"), keras.layers.Conv2D(2, 1)]
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 11), np.float32)
    report = convspec.port_weights(source, target, x)
    assert report.comparison.agrees, str(report.comparison)
    target.layers[0].activation = keras.activations.linear
    found = convspec.compare(source, target, x)
    assert found.divergence.startswith("before conv 1 (2)")


@pytest.fixture(scope="module")
def nets():
    """The module of the page, ``nets.py``."""
    names: dict[str, object] = {"__name__": "nets"}
    exec(re.search(r"```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)[1], names)
    return names


@pytest.mark.skipif(BACKEND.backend != "tensorflow", reason="the page shows Keras on TensorFlow")
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("port", "target"),
        *(("compare", name) for name in ("ported", "wrong_pad", "wrong_pool", "wrong_epsilon", "wrong_order")),
    ],
)
def test_the_page_shows_what_came_out(nets, command, name):
    """But for the digits of distances, which differ from machine to machine."""
    run = {"port": convspec.port_weights, "compare": convspec.compare}[command]
    actual = [_without_distances(line) for line in str(run(nets["source"](), nets[name](), nets["x"])).splitlines()]
    shape = ",".join(map(str, nets["x"].shape))
    told = rf"\$ convspec {command} nets:source nets:{name} --shape {shape}[^\n]*\n(.*?)```"
    (block,) = re.findall(told, PAGE.read_text("utf-8"), re.DOTALL)
    lines = [_without_distances(line) for line in block.splitlines() if line.strip() not in ("", "…")]
    assert len(lines) > 1
    assert [line for line in lines if line not in actual] == []


def _without_distances(line: str) -> str:
    numbers = r"\d(\.\d+)?e[+-]\d\d\b(?! against)|0\.\d+ of the bound|\b0(?= )"
    return re.sub(r"\s+", " ", re.sub(numbers, "#", line)).strip()

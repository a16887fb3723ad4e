"""Networks to ONNX: written, run, given the weights, and judged by what both compute."""

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

import torch
from torch import nn

from convspec import Network
from convspec.models import translate_model
from tests.pairs.translate import judge_translation

pytestmark = [pytest.mark.onnx, pytest.mark.torch]


@pytest.mark.parametrize("seed", [1, 3, 200])  # 200: a norm without weights, which ONNX gives some, and a layer norm
def test_random_networks_are_right(seed):
    assert judge_translation(seed, "torch", "onnx")[0] in ("proved", "measured")


class Twice(nn.Module):
    """A layer that is used twice, a parameter of its own, and a result that is the input of a later step."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.prelu = nn.PReLU(4)
        self.gamma = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x):
        x = self.prelu(self.conv(x))
        return x, self.conv(x) * self.gamma


def test_a_layer_that_is_used_twice_has_its_weights_once():
    made = translate_model(Twice().eval(), "onnx", (2, 4, 8, 9))
    assert made.agrees
    assert made.port.unmoved == made.port.left == []
    names = [tensor.name for tensor in made.model.graph.initializer]
    assert names == ["conv.weight", "conv.bias", "prelu.slope", "gamma"]
    assert [tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim) for one in made.model.graph.output] == [
        (0, 4, 8, 9), (0, 4, 8, 9),
    ]  # fmt: skip


def test_what_has_no_counterpart_raises_in_its_place():
    code = Network.parse("nn.Conv2d(3, 8, 3)\nnn.AdaptiveAvgPool2d(5)\nnn.Flatten()").source("onnx", (1, 3, 10, 10))
    assert len(code.missing) == 1
    assert "ONNX's pools have windows of one size: (8, 8) are no (5, 5)" in code.missing[0][1]
    with pytest.raises(NotImplementedError, match="windows of one size"):
        exec(code.source, {})

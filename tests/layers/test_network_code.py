"""A network in the words of each framework; that these programs run and agree is shown by the frameworks' own tests."""

import ast
import os
from pathlib import Path

import pytest

from convspec import Network, UnsupportedError

GOLDEN = Path(__file__).parents[1] / "golden" / "source"
TARGETS = ("torch", "keras", "flax", "flax-linen", "equinox")
SEQUENCE = (
    "nn.Sequential(nn.Conv2d(1, 6, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), "
    "nn.Linear(96, 10))"
)
BRANCHES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        x = self.norm(x) * 2
        return self.head(x.mean((2, 3)))
"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "text", "shape"), [
    ("sequence", SEQUENCE, (2, 1, 16, 18)), ("branches", BRANCHES, (2, 3, 6, 8)),
])  # fmt: skip
def test_golden(target, name, text, shape):
    code = Network.parse(text).source(target, shape)
    assert code.missing == ()
    ast.parse(code.source)
    path = GOLDEN / f"network_{name}_{target}.txt"
    if os.environ.get("CONVSPEC_UPDATE_GOLDEN"):
        path.write_text(str(code), "utf-8")
    assert str(code) == path.read_text("utf-8")


def test_what_has_no_counterpart_raises_in_its_place():
    code = Network.parse("nn.Sequential(nn.Conv2d(1, 2, 3), nn.LPPool2d(2, 2))").source("keras", (1, 1, 8, 8))
    assert [path for path, _ in code.missing] == ["1"]
    assert "raise NotImplementedError('1: " in code.source
    assert "# 1 has no counterpart: " in str(code)


def test_an_adapter_without_words_is_named():
    with pytest.raises(UnsupportedError, match="adapter 'openvino' writes no networks"):
        Network.parse(SEQUENCE).source("openvino", (2, 1, 16, 18))


KERAS = "model = keras.Sequential([keras.Input(shape=(6, 8, 3)), {}])"


def torch_code(text: str, *shapes: tuple[int, ...]):
    code = Network.parse(text).source("torch", *shapes)
    assert code.missing == ()
    return code


def test_an_image_of_keras_has_its_channels_first_in_pytorch_whatever_reads_it_first():
    """A pad, a dense layer and a batch norm take the target's axes, so that no statement moves the input's."""
    layers = "layers.ZeroPadding2D((1, 2)), layers.Dense(4), layers.BatchNormalization(), layers.Conv2D(5, 3)"
    code = torch_code(KERAS.format(layers), (2, 6, 8, 3))
    assert code.inputs == ((2, 3, 6, 8),)
    assert "permute" not in code.source
    assert "F.pad(x, [2, 2, 1, 1])" in code.source


@pytest.mark.parametrize(("behind", "moved"), [
    ("layers.ReLU(), layers.Dense(4)", False), ("layers.BatchNormalization(), layers.Dense(4)", True),
    ("layers.ReLU()", True), ("layers.Reshape((6, 4, 5))", True),
])  # fmt: skip
def test_flattened_features_are_in_another_order_only_before_linear_layers(behind, moved):
    """The weights of a linear layer are put in that order; whatever else reads the features needs the source's."""
    code = torch_code(KERAS.format(f"layers.Conv2D(5, 3), layers.Flatten(), {behind}"), (2, 6, 8, 3))
    assert ("x.permute(0, 2, 3, 1)" in code.source) == moved
    assert any("in another order" in remark for remark in code.remarks) == (not moved)


def test_a_layer_that_needs_its_axes_moved_is_no_member_of_a_sequence():
    code = torch_code(KERAS.format("layers.Conv2D(5, 3), layers.LayerNormalization()"), (2, 6, 8, 3))
    assert "self.layer_normalization(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)" in code.source


def test_channels_that_are_first_in_keras_stay_there_in_pytorch():
    layers = ("layers.Conv2D(5, 3, data_format='channels_first'), layers.BatchNormalization(axis=1), "
              "layers.Flatten(data_format='channels_first')")  # fmt: skip
    code = torch_code(f"model = keras.Sequential([keras.Input(shape=(3, 6, 8)), {layers}])", (2, 3, 6, 8))
    assert code.inputs == ((2, 3, 6, 8),)
    assert "permute" not in code.source
    assert "torch.flatten(x.movedim(1, -1), 1)" in code.source
    text = "keras.Sequential([keras.Input(shape=(3, 6, 8)), layers.Conv2D(5, 3, data_format='channels_first')])"
    (missing,) = Network.parse(text).source("flax", (2, 3, 6, 8)).missing
    assert missing == ("conv2d", "its channels are on another axis than those of other layers")


def test_a_norm_without_a_scale_has_one_of_ones_in_pytorch():
    code = torch_code(KERAS.format("layers.BatchNormalization(scale=False)"), (2, 6, 8, 3))
    assert "nn.BatchNorm2d(3, eps=0.001)" in code.source
    assert code.remarks == (
        "PyTorch's norms have a weight and a bias, or none: keep weight at ones where the source has none.",
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_number_has_all_its_digits(target):
    code = Network.parse(KERAS.format("layers.Rescaling(1. / 255), layers.Conv2D(5, 3)")).source(target, (2, 6, 8, 3))
    assert f"x * {1 / 255}\n" in code.source


@pytest.mark.parametrize("to", ["torch", "keras", "flax", "onnx"])
def test_a_pad_by_an_infinite_number_is_python(to):
    text = "x = keras.Input((6, 6, 3))\nmodel = keras.Model(x, ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "
    code = Network.parse(text + 'constant_values=float("-inf")))').source(to, (1, 6, 6, 3))
    assert code.missing == ()
    assert 'float("-inf")' in code.source


def test_a_layer_of_keras_has_no_name_that_a_function_gets():
    text = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gelu = nn.GELU()

    def forward(self, x):
        return self.gelu(x) + F.gelu(x, approximate="tanh")
"""
    source = Network.parse(text).source("keras", (1, 3, 8, 9)).source
    assert "keras.activations.gelu(" in source
    assert "name='gelu_layer'" in source

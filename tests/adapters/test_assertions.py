"""What other projects' tests assert: layers and models of two frameworks; the text of a failure is kept."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("torch")

from convspec_keras import ADAPTER

ADAPTER.configure(threads=1)

import keras  # noqa: E402
import torch  # noqa: E402

import convspec  # noqa: E402
from convspec.testing.assertions import assert_layers_agree, assert_models_agree  # noqa: E402

pytestmark = [pytest.mark.keras, pytest.mark.torch]

GOLDEN = Path(__file__).parents[1] / "golden" / "layers_disagree.txt"


def ported(padding, **changes):
    """A PyTorch layer, and the Keras layer that a port by hand makes of it."""
    torch.manual_seed(0)
    theirs = torch.nn.Conv2d(3, 5, (3, 4), stride=2, padding=1)
    ours = keras.layers.Conv2D(5, (3, 4), strides=2, padding=padding, **changes)
    ours.build((None, None, None, 3))
    ours.set_weights([theirs.weight.detach().numpy().transpose(2, 3, 1, 0), theirs.bias.detach().numpy()])
    return theirs, ours


def kept(text, golden):
    """The text as it was once read, but for lines with digits of the results, and numbers in a table."""
    if os.environ.get("CONVSPEC_UPDATE_GOLDEN"):
        golden.write_text(text, "utf-8")

    def steady(words):
        lines = [line for line in words.splitlines() if "elements are wrong" not in line and "what:" not in line]
        return [re.sub(r" +", " ", re.sub(r"\d\.\d+e[-+]\d+|(?<= )0(?= )", "#", line)) for line in lines]

    assert steady(text) == steady(golden.read_text("utf-8"))


def test_layers_that_agree_pass():
    layer, _ = ported("same")
    assert_layers_agree(layer, layer)
    assert_layers_agree(layer, convspec.port(layer, to="onnx"))
    assert_layers_agree(layer, convspec.port(layer, to="keras"), (2, 3, 14, 17))  # a pad before it: read by running
    assert_layers_agree(convspec.port(layer, to="keras"), layer, (2, 14, 17, 3))
    plain = torch.nn.Conv2d(3, 5, (3, 4), stride=2)
    assert_layers_agree(plain, convspec.port(plain, to="keras"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_text_of_a_failure_ends_in_the_diagnosis():
    with pytest.raises(AssertionError) as failure:
        assert_layers_agree(*ported("same"), (2, 3, 14, 17))
    text = f"{failure.value}\n"
    kept(text, GOLDEN)
    assert "pads (1, 1) against" in text
    assert "[symmetric-as-same]" in text


def test_weights_in_another_order_are_named():
    layer, other = ported("valid")
    kernel, bias = other.get_weights()
    other.set_weights([kernel[::-1, ::-1], bias])
    right = torch.nn.Conv2d(3, 5, (3, 4), stride=2)
    right.load_state_dict(layer.state_dict())
    with pytest.raises(AssertionError, match=r"(?s)weights:  the kernel's numbers are in another order.*flipped"):
        assert_layers_agree(right, other)


def test_another_dtype_and_other_channels_are_said():
    layer, _ = ported("same")
    with pytest.raises(AssertionError, match="the weights of actual are float16, those of expected float32"):
        assert_layers_agree(layer, torch.nn.Conv2d(3, 5, 3).half())
    with pytest.raises(AssertionError, match="expected has 2 spatial axes, actual 1"):
        assert_layers_agree(layer, torch.nn.Conv1d(3, 5, 3))
    with pytest.raises(AssertionError, match="in channels 3 against 4"):
        assert_layers_agree(layer, torch.nn.Conv2d(4, 5, (3, 4), stride=2, padding=1))


def test_the_text_of_two_models_that_disagree_names_the_layer_and_the_mistake():
    torch.manual_seed(0)
    first, second = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 5, 3, stride=2, padding=1)
    theirs = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU())
    ours = keras.Sequential([
        keras.Input((12, 14, 3)),
        keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="stem"),
        keras.layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", name="down"),
    ])  # fmt: skip
    ours.set_weights([
        array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        for array in (tensor.detach().numpy() for tensor in theirs.parameters())
    ])  # fmt: skip
    x = np.random.default_rng(3).standard_normal((2, 3, 12, 14)).astype(np.float32)
    with pytest.raises(AssertionError) as failure:
        assert_models_agree(theirs, ours, x, seconds=0)
    text = f"{failure.value}\n"
    assert text.startswith("the models disagree: conv 1 (2): symmetric-as-same: ")
    kept(text, GOLDEN.with_name("models_disagree.txt"))


def test_models():
    def model(bias):
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, (1, 3), bias=bias))

    x = np.random.default_rng(2).standard_normal((2, 3, 8, 9)).astype(np.float32)
    assert_models_agree(model(True), model(True), x)
    with pytest.raises(AssertionError, match=r"the models disagree: conv 1 .*(?s:.*)verdict"):
        assert_models_agree(model(True), model(False), x)

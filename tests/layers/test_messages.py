# ruff: noqa: E501 – messages are long
"""Messages of frameworks explained: found in any text, with its numbers, and nothing where none is known."""

import pytest

from convspec import explain

TRACEBACK = """Traceback (most recent call last):
  File "/home/me/train.py", line 12, in <module>
    model(x)
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/linear.py", line 125, in forward
    return F.linear(input, self.weight, self.bias)
RuntimeError: mat1 and mat2 shapes cannot be
multiplied (896x28 and 784x10)
"""


def first(text):
    found = explain(text)
    return (found[0].id, found[0].fix) if found else ("", "")


@pytest.mark.parametrize(
    ("text", "id_", "words"),
    [
        (TRACEBACK, "torch-linear-after-conv", "896 × 28 numbers are 32 × 784. If your tensor still has its spatial axes"),
        ("mat1 and mat2 shapes cannot be multiplied (4x512 and 2048x1000)", "torch-linear-after-conv", "nn.Linear(512, 1000)"),
        ("mat1 and mat2 shapes cannot be multiplied (4x500 and 2048x1000)", "torch-linear-after-conv", "Each sample of your tensor has 500 features"),
        ("Given groups=1, weight of size [64, 3, 7, 7], expected input[8, 224, 224, 3] to have 3 channels, but got 224 channels instead", "torch-given-groups-1", "permute(0, 3, 1, 2)"),
        ("Given groups=1, weight of size [64, 3, 7, 7], expected input[8, 1, 28, 28] to have 3 channels, but got 1 channels instead", "torch-given-groups-1", "grey"),
        ("Given groups=1, weight of size [64, 3, 7, 7], expected input[8, 4, 28, 28] to have 3 channels, but got 4 channels instead", "torch-given-groups-1", "x[:, :3]"),
        ("Given groups=1, weight of size [64, 32, 3, 3], expected input[1, 16, 26, 26] to have 32 channels, but got 16 channels instead", "torch-next-layer", "previous layer's `out_channels` to 32"),
        ("Given groups=1, weight of size [8, 3, 5], expected input[2, 100, 3] to have 3 channels, but got 100 channels instead", "torch-given-groups-1", "permute(0, 2, 1)"),
        ("size mismatch for fc.weight: copying a param with shape torch.Size([1000, 512]) from checkpoint, the shape in current model is torch.Size([10, 512]).", "torch-weights-order", "1000 outputs in the checkpoint, 10 in your model"),
        ("Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same", "torch-dtype", "model.to(x.device)"),
        ("The size of tensor a (64) must match the size of tensor b (128) at non-singleton dimension 1", "torch-skip-sizes", "1×1 convolution"),
        ("Expected input batch_size (1568) to match target batch_size (32).", "torch-target-batch", "49 times too many"),
        ("ValueError: Input 0 of layer “conv2d” is incompatible with the layer: expected min_ndim=4, found ndim=3. Full shape received: (None, 28, 28)", "keras-min-ndim", "(None, 28, 28)"),
        ('Input 0 of layer "dense" is incompatible with the layer: expected axis -1 of input shape to have value 3136, but received input with shape (None, 2304)', "keras-axis-value", "3136 features and gets 2304"),
        ("Got invalid dimensions for input: input.1 for the following indices\n index: 0 Got: 4 Expected: 1\n Please fix", "onnx-invalid-dimensions", "batch of 1"),
        ("Negative dimension size caused by subtracting 5 from 2 for '{{node conv}}'", "tf-negative-dimension", "reads 5 pixels, the image has 2"),
    ],
)  # fmt: skip
def test_a_message_is_known_and_its_numbers_are_filled_in(text, id_, words):
    found, fix = first(text)
    assert found == id_
    assert words in fix


def test_an_unknown_text_has_no_explanation():
    for text in ("", "hello", "ZeroDivisionError: division by zero", "KeyError: 'conv1.weight'", "AssertionError"):
        assert explain(text) == []


def test_a_short_message_is_known_where_the_text_names_its_framework():
    short = "ZeroDivisionError: division by zero"
    assert first(f'File "/venv/site-packages/flax/nnx/nn/linear.py", in __init__\n{short}')[0] == "flax-kernel-0"


def test_what_several_frameworks_say_is_explained_for_each_or_for_the_one_that_is_named():
    text = "lhs feature dimension size divided by feature_group_count must equal the rhs input feature dimension size, but 28 // 1 != 1."
    assert {found.framework for found in explain(text)} == {"Flax", "Equinox"}
    assert [found.framework for found in explain(f"site-packages/flax/nnx/linear.py jax {text}")] == ["Flax"]
    assert [found.framework for found in explain(f"site-packages/equinox/nn/_conv.py jax {text}")] == ["Equinox"]


def test_two_messages_in_one_log_are_both_explained():
    log = "running_mean should contain 16 elements not 8\n…\nmat1 and mat2 shapes cannot be multiplied (1x20 and 10x2)"
    assert {found.id for found in explain(log)} == {"torch-batch-norm-features", "torch-linear-after-conv"}


def test_a_long_log_is_read_at_its_end():
    log = "noise 123\n" * 100_000 + "running_mean should contain 16 elements not 8\n"
    assert first(log)[0] == "torch-batch-norm-features"

"""Constructors as text: what is read, what is refused, and where the finger points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convspec
from convspec import ConvSpec, RequestError, SpecError
from convspec.contract.constructor_calls import Unread, adapter_of, parse_call
from convspec.errors import CallError

READ = [
    ("torch", "nn.Conv2d(3, 16, 3, stride=2, padding=1)", None, ConvSpec(3, 16, 3, 2, 1)),
    ("torch", "self.conv = torch.nn.Conv1d(4, 6, 5, 2, 3, 2, 2, False)", None, ConvSpec(4, 6, (5,), 2, 3, 2, 2, False)),
    ("torch", "Conv2d(3, 16, (3, 5), padding='same')", None, ConvSpec(3, 16, (3, 5), padding=(1, 2))),
    ("torch", "Conv2d(3, 16, 4, padding='same')", None, ConvSpec(3, 16, 4, padding=((1, 2), (1, 2)))),
    ("torch", "nn.Conv2d(3, 16, 3, padding=(1, 2), padding_mode='circular')", None,
     ConvSpec(3, 16, 3, padding=(1, 2), padding_mode="circular")),
    ("torch", "nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 3)", None,
     ConvSpec(4, 6, 3, 2, 1, 3, 2, False, transposed=True, output_padding=1)),
    ("torch", "nn.LazyConv3d(8, 3, device='cuda', dtype=torch.float16)", 5, ConvSpec(5, 8, (3, 3, 3))),
    ("keras", "keras.layers.Conv2D(16, 3, strides=2, padding='same')", 3, ConvSpec(3, 16, 3, 2, "same")),
    ("keras", "layers.Conv1D(8, 4, padding='causal', dilation_rate=2, activation='relu')", 3,
     ConvSpec(3, 8, (4,), padding="causal", dilation=2)),
    ("keras", "Conv2D(8, (3, 5), 1, 'SAME', 'channels_first', 1, 2, None, False)", 4,
     ConvSpec(4, 8, (3, 5), padding="same", groups=2, bias=False)),
    ("keras", "DepthwiseConv2D(3, depth_multiplier=2, kernel_initializer='zeros')", 5, ConvSpec(5, 10, 3, groups=5)),
    ("keras", "Conv2D(8, 3, activation='relu', input_shape=(28, 30, 5))", None, ConvSpec(5, 8, 3)),
    ("keras", "Conv2D(8, 3, data_format='channels_first', input_shape=(5, None, None))", None, ConvSpec(5, 8, 3)),
    ("keras", "DepthwiseConv1D(3, input_shape=(28, 5))", None, ConvSpec(5, 5, (3,), groups=5)),
    ("keras", "Conv2DTranspose(8, 3, 2, 'same')", 4, ConvSpec(4, 8, 3, 2, "same", transposed=True)),
    ("keras", "Conv2DTranspose(8, 3, 2, 'same', 1)", 4, ConvSpec(4, 8, 3, 2, ((0, 1), (0, 1)), transposed=True)),
    ("keras", "Conv2DTranspose(8, 2, 3)", 4, ConvSpec(4, 8, 2, 3, transposed=True, output_padding=1)),
    ("keras", "Conv2DTranspose(8, 2, 3, output_padding=0)", 4, ConvSpec(4, 8, 2, 3, transposed=True)),
    ("keras", "Conv3DTranspose(8, 3, 2, 'valid', 'channels_first', 1)", 4,
     ConvSpec(4, 8, (3, 3, 3), 2, transposed=True, output_padding=1)),
    ("flax", "nnx.Conv(3, 16, (3, 3), rngs=nnx.Rngs(0))", None, ConvSpec(3, 16, 3, padding="same")),
    ("flax", "nnx.Conv(3, 16, kernel_size=3, strides=2, padding='VALID', rngs=rngs)", None, ConvSpec(3, 16, (3,), 2)),
    ("flax", "linen.Conv(16, (3, 5), 2, [(0, 1), 2], kernel_dilation=(2, 1))", 3,
     ConvSpec(3, 16, (3, 5), 2, ((0, 1), (2, 2)), (2, 1))),
    ("flax", "nn.Conv(features=16, kernel_size=(4,), strides=2, padding='CIRCULAR')", 3,
     ConvSpec(3, 16, (4,), 2, ((1, 2),), padding_mode="circular")),
    ("flax", "nnx.ConvTranspose(3, 16, (3, 4), strides=(2, 2), padding=[(1, 2), (2, 2)], rngs=rngs)", None,
     ConvSpec(3, 16, (3, 4), 2, ((1, 0), (1, 1)), transposed=True)),
    ("flax", "nnx.ConvTranspose(3, 16, (2,), 3, padding='VALID', transpose_kernel=True, rngs=rngs)", None,
     ConvSpec(3, 16, (2,), 3, transposed=True, output_padding=1)),
    ("flax", "nnx.ConvTranspose(3, 16, (3,), 2, padding=[(1, 3)], rngs=rngs)", None,
     ConvSpec(3, 16, (3,), 2, ((1, 0),), transposed=True, output_padding=1)),
    ("onnx", "Conv(W=[16, 3, 3, 3], B=[16], strides=[2, 2], pads=[0, 1, 2, 3])", None,
     ConvSpec(3, 16, 3, 2, ((0, 2), (1, 3)))),
    ("onnx", 'node = helper.make_node("Conv", ["x", "w"], ["y"], W=[6, 2, 3], group=2, auto_pad="SAME_LOWER")', None,
     ConvSpec(4, 6, (3,), padding="same_lower", groups=2, bias=False)),
    ("onnx", "ConvTranspose(W=(4, 3, 3, 3), group=2, strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1])", 4,
     ConvSpec(4, 6, 3, 2, 1, groups=2, bias=False, transposed=True, output_padding=1)),
    ("onnx", "ConvTranspose(W=(4, 3, 4), strides=[1], auto_pad='SAME_LOWER')", 4,
     ConvSpec(4, 3, (4,), padding=((2, 1),), bias=False, transposed=True)),
]  # fmt: skip


@pytest.mark.parametrize(("adapter", "text", "channels", "spec"), READ)
def test_constructors_are_read(adapter, text, channels, spec):
    assert convspec.adapter(adapter).parse(text, channels) == spec


REFUSED = [
    ("torch", "nn.Conv2d(3, n, 3)", "out_channels must be a literal, not 'n'"),
    ("torch", "nn.Conv2d(3, 16)", "needs kernel_size"),
    ("torch", "nn.Conv2d(3, 16, 3, strides=2)", "no argument 'strides' (did you mean 'stride'?)"),
    ("torch", "nn.Conv2d(3, 16, 3, 1, stride=2)", "stride is given twice"),
    ("torch", "nn.Conv2d(3, 16, 3, *rest)", "*arguments"),
    ("torch", "nn.Conv2d(3, 16, 3, **rest)", "**arguments"),
    ("torch", "nn.Linear(3, 16)", "no convolution 'Linear'"),
    ("torch", "nn.Conv2d(3, 16, 3, 2, 'same')", "PyTorch refuses it"),
    ("torch", "nn.Conv2d(3, 16, 3, padding='SAME')", "must be 'valid', 'same'"),
    ("torch", "nn.Conv2d(3, 16, 3, padding=((0, 1), (0, 1)))", "one int per axis, in PyTorch"),
    ("torch", "nn.LazyConv2d(16, 3)", "infer their input channels: give in_channels as well (--in-channels N)"),
    ("torch", "__import__('os').system('true')", "must be a plain name"),
    ("torch", "(lambda: 0)()", "must be a plain name"),
    ("torch", "nn.Conv2d(3, 16, __import__('os').getpid())", "kernel_size must be a literal"),
    ("torch", "nn.Conv2d(3, 16, 3); nn.Conv2d(3, 16, 3)", "one constructor call"),
    ("torch", "nn.Conv2d(3, 16, 3", "not a valid Python expression"),
    ("torch", "", "one constructor call"),
    ("torch", "nn.Conv2d(3, 16, " + "[" * 15 + "3" + "]" * 15 + ")", "levels of brackets"),
    ("torch", f"nn.Conv2d(3, 16, {10**10})", "more than 9 digits"),
    ("torch", "nn.Conv2d(" + "1, " * 1000 + ")", "more than 2000"),
    ("torch", "nn.Conv2d(" + "1, " * 40 + ")", "at most"),
    ("keras", "Conv2D(16, 3)", "give in_channels as well"),
    ("keras", "Conv2D(16, 3, input_shape=(28, 28))", "give in_channels as well"),
    ("keras", "Conv2D(16, 3, input_shape=(28, 28, None))", "give in_channels as well"),
    ("keras", "SeparableConv2D(16, 3)", "two layers"),
    ("flax", "linen.Conv(16, (3, 3))", "give in_channels as well"),
    ("flax", "nn.Conv(16, (3, 3))", "linen layers infer their input channels: give in_channels"),
    ("flax", "nn.Conv(16, kernel_size=(3, 3))", "linen layers infer their input channels"),
    ("flax", "nnx.Conv(16, (3, 3))", "Conv needs kernel_size"),
    ("onnx", "make_node('Conv', ['x', 'w'], ['y'])", "add the weight's shape"),
    ("onnx", "Conv(W=[16, 3, 3, 3], kernel_shape=[5, 5])", "must equal the weight's"),
    ("onnx", "ConvTranspose(W=[4, 3, 3], output_shape=[7])", "runtimes differ"),
]  # fmt: skip


@pytest.mark.parametrize(("adapter", "text", "message"), REFUSED)
def test_anything_else_is_refused(adapter, text, message):
    with pytest.raises((CallError, SpecError)) as caught:
        convspec.adapter(adapter).parse(text)
    assert message in str(caught.value)


def test_the_place_is_shown():
    with pytest.raises(CallError) as caught:
        convspec.adapter("torch").parse("nn.Conv2d(3, filters, 3)")
    lines = str(caught.value).splitlines()
    assert lines[1].strip() == "nn.Conv2d(3, filters, 3)"
    assert lines[2].index("^") == lines[1].index("filters")


def test_what_is_no_literal_is_kept_apart():
    call = parse_call("Conv(1, (2, x), dtype=jnp.float16, name='a')")
    assert call.args == (1, Unread("x", 12))
    assert call.kwargs == {"dtype": Unread("jnp.float16", 22), "name": "a"}


@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text):
    with pytest.raises((RequestError, SpecError)):
        convspec.adapter("torch").parse(text)


@pytest.mark.parametrize(("text", "adapter"), [
    ("eqx.nn.Conv2d(3, 4, 3, key=k)", "equinox"), ("Conv2d(3, 4, 3, key=k)", "equinox"),
    ("equinox.nn.Conv2d(3, 4, 3)", "equinox"),
    ("Conv(num_spatial_dims=2, in_channels=3)", "equinox"), ("torch.nn.Conv2d(3, 4, 3)", "torch"),
    ("keras.layers.Conv2D(3, 4)", "keras"), ("nnx.Conv(3, 4, (3,))", "flax"), ("linen.Conv(4, 3)", "flax-linen"),
    ("Conv(features=4, kernel_size=3)", "flax-linen"), ("Conv(3, 4, (3,), rngs=r)", "flax"),
    ("Conv(W=[1, 2, 3])", "onnx"),
    ("Conv(4, (3, 3))", "flax-linen"), ("Conv(4, kernel_size=(3, 3))", "flax-linen"),
    ("Conv(3, 4, kernel_size=(3, 3))", "flax"),
    ("helper.make_node('Conv', [], [])", "onnx"),
])  # fmt: skip
def test_a_constructor_belongs_to_the_framework_of_its_module_or_of_its_words(text, adapter):
    assert adapter_of(parse_call(text)) == adapter


@pytest.mark.parametrize("text", ["Conv(3, 4, (3,))", "Conv(3, 4)", "other.Conv(3)", "Conv2(3)"])
def test_a_constructor_that_could_be_of_several_is_not_guessed(text):
    with pytest.raises(CallError):
        adapter_of(parse_call(text))


@pytest.mark.parametrize(("text", "column"), [("Conv2d(3, 4 5)", 10), ("Conv2d(3,, 4)", 9), ("nn.Conv2d(3, 4))", 15)])
def test_a_slip_of_the_pen_is_pointed_at(text, column):
    with pytest.raises(CallError) as caught:
        parse_call(text)
    assert caught.value.column == column


@pytest.mark.parametrize("text", [
    "(conv1): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=same, padding_mode=reflect)",
    "  (layer1.0-conv): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=same, padding_mode=reflect),",
    "nn.Conv2d(3, 2*4, 3, padding='same', padding_mode='reflect'),",
    "nn.Conv2d(9 // 3, 10 - 2, 3 % 5, padding='same', padding_mode='reflect')",
    "weight_norm(nn.Conv2d(3, 8, 3, padding='same', padding_mode='reflect'))",
    "self.c = nn.utils.spectral_norm(nn.Conv2d(3, 8, 3, padding='same', padding_mode='reflect'), name='weight')",
    "x = nn.Conv2d(3, 8, 3, padding='same', padding_mode='reflect')(x)",
])  # fmt: skip
def test_a_layer_is_read_as_pytorch_prints_it_and_as_it_stands_in_code(text):
    spec = convspec.adapter("torch").parse(text)
    assert spec == convspec.ConvSpec(3, 8, 3, padding="same", padding_mode="reflect")


def test_the_layer_that_a_call_makes_and_applies_is_the_one_that_is_meant():
    call = parse_call("x = layers.Conv2D(32, 3, padding='same')(x)")
    assert (call.function, call.args, call.kwargs) == ("Conv2D", (32, 3), {"padding": "same"})


def test_the_zero_that_a_lazy_layer_prints_is_no_number_of_channels():
    spec = convspec.adapter("torch").parse("LazyConv2d(0, 8, kernel_size=(3, 3), stride=(1, 1))", 5)
    assert (spec.in_channels, spec.out_channels) == (5, 8)


@pytest.mark.parametrize(("text", "title"), [
    ("hk.Conv2D(32, 3)", "Haiku"), ("snt.Conv2D(32, 3)", "Sonnet"), ("paddle.nn.Conv2D(3, 32, 3)", "PaddlePaddle"),
    ("mindspore.nn.Conv2d(3, 64, 3)", "MindSpore"),
    ("other.Conv2d(3, 4, 3)", "other"),
])  # fmt: skip
def test_a_layer_of_a_library_that_is_not_read_is_refused_by_name(text, title):
    with pytest.raises(CallError, match=title):
        adapter_of(parse_call(text))


@pytest.mark.parametrize(("text", "name", "adapter"), [
    ("mlx.nn.Conv2d(3, 64, 3)", "mlx.nn.Conv2d", "mlx"),
    ("import mlx.nn as nn\nnn.Conv2d(3, 64, 3)", "mlx.nn.Conv2d", "mlx"),
    ("import mlx.core as mx\nfrom mlx import nn\nconv = nn.Conv2d(3, 64, 3)", "mlx.nn.Conv2d", "mlx"),
    ("import torch.nn as nn\nnn.Conv2d(3, 64, 3)", "torch.nn.Conv2d", "torch"),
    ("from equinox import nn\nnn.ConvTranspose2d(3, 64, 3)", "equinox.nn.ConvTranspose2d", "equinox"),
    ("from flax import linen as nn\nnn.Conv(64, (3, 3))", "flax.linen.Conv", "flax-linen"),
    ("from keras.layers import Conv2D\nConv2D(64, 3)", "keras.layers.Conv2D", "keras"),
    ("nn.Conv2d(3, 64, 3)", "nn.Conv2d", "torch"),
])  # fmt: skip
def test_imports_say_whose_layer_a_name_is(text, name, adapter):
    call = parse_call(text)
    assert (call.name, adapter_of(call)) == (name, adapter)

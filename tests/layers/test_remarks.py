"""Each remark: when it is made, what it says, that its code does it, and when it is not made."""

import itertools
import re

import numpy as np
import pytest

from convspec import Chain, ConvSpec, translate
from convspec.layers.remarks import Remark
from convspec.spec import shapes as arithmetic


def remarks(text, to, channels=None, **options):
    return {remark.id: remark for remark in translate(text, to, channels, **options).remarks}


TORCH_1 = "nn.Conv2d(3, 16, 3, stride=2, padding=1)"
KERAS_SAME = "Conv2D(16, 3, strides=2, padding='same')"

SAID = [
    # strided "same"
    (
        KERAS_SAME,
        "torch",
        {"input_shape": (1, 32, 32, 3)},
        "strided-same",
        '"same" with a stride pads an input of 32 × 32 by (0, 1); padding=1 pads by (1, 1).',
    ),
    (KERAS_SAME, "torch", {"input_shape": (1, 32, 31, 3)}, "strided-same", "by (0, 1) along H and (1, 1) along W"),
    (KERAS_SAME, "torch", {"input_shape": (1, 31, 33, 3)}, "strided-same", "as padding=1 does; at other sizes they"),
    (
        KERAS_SAME,
        "torch",
        {},
        "strided-same",
        "(0, 1) for an even size, (1, 1) for an odd one. padding=1 always pads (1, 1).",
    ),
    (
        "Conv2D(16, (3, 4), strides=2, padding='same')",
        "torch",
        {},
        "strided-same",
        "W: (1, 1) for an even size, (1, 2)",
    ),
    (
        "Conv2D(16, 5, strides=3, padding='same')",
        "onnx",
        {},
        "strided-same",
        "(1, 1) where size mod 3 is 0, (2, 2) where size mod 3 is 1, (1, 2) where size mod 3 is 2",
    ),
    (
        "Conv2D(16, 2, strides=2, padding='same')",
        "torch",
        {},
        "strided-same",
        "(0, 0) for an even size, (0, 1) for an odd",
    ),
    (
        TORCH_1,
        "keras",
        {"input_shape": (1, 3, 32, 32)},
        "same-is-not-symmetric",
        "of the same shape with different numbers: it pads an input of 32 × 32 by (0, 1), this layer by (1, 1).",
    ),
    (TORCH_1, "flax", {}, "same-is-not-symmetric", 'padding="SAME" gives'),
    (
        TORCH_1,
        "onnx",
        {"input_shape": (1, 3, 31, 31)},
        "same-is-not-symmetric",
        "pads as this layer does at this input size, but not at others",
    ),
    # sides
    (
        "Conv2D(4, 4, padding='same')",
        "torch",
        {},
        "even-kernel",
        "pads (1, 2): 2 on both sides makes the output too large by 1.",
    ),
    (
        "make_node('Conv', ['x', 'w'], ['y'], W=[4, 3, 4, 4], auto_pad='SAME_LOWER')",
        "flax",
        {},
        "odd-cell-before",
        "(2, 1)",
    ),
    ("Conv(W=[4, 3, 3, 3], strides=[2, 2], auto_pad='SAME_LOWER')", "keras", {}, "odd-cell-before", "before the input"),
    ("Conv1D(4, 3, padding='causal', dilation_rate=2)", "torch", {}, "causal", "all 4 pads are before"),
    ("Conv(W=[4, 3, 3, 3], pads=[0, 1, 2, 3])", "torch", {}, "order-of-pads", "F.pad takes the last axis first: W, H."),
    (
        "nnx.Conv(3, 4, (3, 3), padding=((0, 2), (1, 3)), rngs=r)",
        "onnx",
        {},
        "order-of-pads",
        "[0, 1, 2, 3] is H begin, W begin, H end, W end.",
    ),
    ("Conv(W=[4, 3, 3, 3], pads=[0, 1, 2, 3])", "flax", {}, "order-of-pads", "Flax: one pair per axis"),
    # defaults of padding
    ("nnx.Conv(3, 4, (3, 3), rngs=r)", "torch", {}, "default-padding", 'Flax: "SAME"; all other frameworks: none'),
    ("nn.Conv2d(3, 4, 3)", "flax", {}, "default-padding", 'Flax needs padding="VALID"'),
    ("nnx.Conv(3, 4, (4,), 2, 'CIRCULAR', rngs=r)", "torch", {}, "padding-mode", "pads (1, 2) at any stride"),
    ("Conv(W=[4, 3, 3, 3], dilations=[2, 2], auto_pad='SAME_UPPER')", "torch", {}, "auto-pad", "rejects auto_pad"),
    (KERAS_SAME, "onnx", {"input_shape": (1, 32, 31, 3)}, "auto-pad", "pads=[0, 1, 1, 1] is equivalent"),
    # transposed
    (
        "nn.ConvTranspose2d(4, 6, 3, 2, 1, 1)",
        "keras",
        {},
        "same-size-other-rows",
        "of the full result it crops 0 before and 1 after; this layer crops 1 before and 0 after.",
    ),
    (
        "Conv2DTranspose(8, 3, 2, 'same')",
        "torch",
        {"channels": 4},
        "same-size-other-rows",
        "padding=1, output_padding=1 gives an output of the same size, but shifted",
    ),
    ("nn.ConvTranspose2d(4, 6, 3, 2, 1, 1)", "flax", {}, "pads-of-the-input", "(1, 2) crops 1 before"),
    ("nnx.ConvTranspose(4, 6, (3,), 2, [(1, 2)], rngs=r)", "torch", {}, "pads-of-the-input", "span - 1 - crop: (1, 2)"),
    ("nn.ConvTranspose2d(4, 6, 3, 2, 1, 1)", "onnx", {}, "output-padding", "and adds no zeros."),
    (
        "nn.ConvTranspose2d(4, 6, 3, 2, 0, 1)",
        "keras",
        {},
        "output-padding",
        "only the bias. Keras' own output_padding",
    ),
    (
        "Conv2DTranspose(8, 2, 3)",
        "torch",
        {"channels": 4},
        "short-kernel",
        "Keras: 1 pixel(s) added at the end; PyTorch: as output_padding",
    ),
    (
        "nn.ConvTranspose2d(4, 6, 2, 3)",
        "keras",
        {},
        "short-kernel",
        'Keras: "valid" adds 1 pixel(s) at the end; PyTorch: none.',
    ),
    # data and weights
    (TORCH_1, "keras", {}, "data-layout", "PyTorch: NCHW; Keras: NHWC."),
    (
        "Conv2D(4, 3, data_format='channels_first')",
        "keras-jax",
        {},
        "data-layout",
        "Keras (source): NCHW; Keras (target): NHWC.",
    ),
    (TORCH_1, "keras", {}, "flatten-order", "PyTorch: (C, H, W); Keras: (H, W, C)."),
    (
        "nn.Conv2d(3, 16, 3, stride=2)",
        "keras",
        {"layout": "NCHW", "input_shape": (1, 3, 20, 33)},
        "keras-bias-along-the-width",
        "For this input it does, and the result is wrong.",
    ),
    ("nn.Conv2d(3, 16, 3, stride=2)", "keras", {"layout": "NCHW"}, "keras-bias-along-the-width", "filters (16)."),
    ("nn.Conv2d(6, 12, 3, groups=6)", "keras", {}, "kernel-order", "Filter m of channel c is output channel c·M + m."),
    (
        "nn.ConvTranspose2d(4, 6, 3, 2, groups=2)",
        "keras",
        {},
        "kernel-order",
        "The kernels are a list, one for each group.",
    ),
    (
        "nnx.ConvTranspose(4, 6, (3, 3), 2, rngs=r)",
        "torch",
        {},
        "kernel-order",
        "also flipped along every spatial axis",
    ),
    (
        "nnx.ConvTranspose(4, 6, (3, 3), 2, rngs=r)",
        "torch",
        {},
        "transpose-kernel",
        "With transpose_kernel=False, its default",
    ),
    ("nn.Conv2d(3, 3, 3)", "flax", {}, "kernel-order", "PyTorch: (3, 3, 3, 3) as (O, I, H, W)"),
    ("nn.Conv2d(3, 3, 3)", "flax", {}, "kernel-order", "the shapes are equal, so a wrong order raises no error"),
    ("nn.ConvTranspose2d(3, 4, 3)", "flax", {}, "transpose-kernel", "Flax needs transpose_kernel=True"),
    ("nn.Conv2d(3, 4, 3)", "keras", {}, "built-late", "an input of 3 channels"),
    ("nn.Conv2d(3, 4, 3)", "flax-linen", {}, "built-late", "layer.init"),
    # what stays behind
    ("Conv2D(4, 3, activation='relu', kernel_regularizer='l2')", "torch", {}, "activation", "activation='relu'"),
    ("Conv2D(4, 3, 1, 'valid', None, 1, 1, 'relu')", "torch", {}, "activation", "activation='relu'"),
    (
        "Conv2D(4, 3, kernel_regularizer='l2', bias_constraint=c)",
        "torch",
        {},
        "left-behind",
        "kernel_regularizer and bias_constraint are not translated.",
    ),
    ("nn.Conv2d(3, 4, 3, dtype=torch.float16)", "keras", {}, "dtype", "not translated"),
    ("nnx.Conv(3, 4, 3, rngs=r)", "torch", {}, "int-kernel-size", "means one spatial axis"),
    ("nn.Conv2d(3, 4, 3)", "flax", {}, "int-kernel-size", "kernel_size=(3, 3) must be a tuple"),
    ("nn.Conv2d(3, 4, 3)", "keras", {}, "batch-axis", "Keras does not: pass x[None]"),
    ("nn.Conv2d(3, 4, 3)", "flax", {}, "initialisers", "Flax: lecun_normal kernels, zero biases."),
    (
        "nn.Conv2d(3, 4, 3)",
        "keras",
        {},
        "batch-norm",
        "Keras: epsilon=1e-3, momentum=0.99 (weight of the old statistics)",
    ),
    # support
    (KERAS_SAME, "torch", {}, "composed", "PyTorch has no padding='same' with a stride"),
]


def channels_of(text, options):
    return options.pop("channels", 3 if re.match(r"Conv\dD", text) else None)


@pytest.mark.parametrize(("text", "to", "options", "name", "words"), SAID)
def test_a_remark_is_made(text, to, options, name, words):
    options = dict(options)
    found = remarks(text, to, channels_of(text, options), **options)
    assert name in found
    assert words in found[name].text


NOT_SAID = [
    (
        "nn.Conv2d(3, 16, 3, stride=2, padding='valid')",
        "keras",
        None,
        {"strided-same", "same-is-not-symmetric", "even-kernel", "composed", "output-padding"},
    ),
    (
        "nn.Conv2d(3, 16, 3, padding='same')",
        "keras",
        None,
        {"even-kernel", "strided-same", "composed", "odd-cell-before"},
    ),
    (TORCH_1, "onnx", None, {"data-layout", "flatten-order", "kernel-order", "initialisers", "order-of-pads"}),
    ("Conv2DTranspose(8, 4, 2, 'same')", "torch", 4, {"same-size-other-rows", "composed"}),
    ("nn.ConvTranspose2d(4, 6, 4, 2, 1)", "keras", None, {"same-size-other-rows", "composed"}),
    ("Conv2D(4, 3, activation=None)", "flax", 3, {"activation", "data-layout", "kernel-order", "int-kernel"}),
    ("Conv2D(4, 3)", "keras-jax", 3, {"initialisers", "batch-norm", "built-late", "batch-axis", "kernel-order"}),
    (
        "nnx.ConvTranspose(4, 6, (3, 3), 2, transpose_kernel=True, rngs=r)",
        "keras",
        None,
        {"transpose-kernel", "kernel-order"},
    ),
    ("nn.Conv2d(3, 16, 3, bias=False)", "keras", None, {"keras-bias-along-the-width"}),
]


@pytest.mark.parametrize(("text", "to", "channels", "names"), NOT_SAID)
def test_a_remark_is_not_made_where_the_naive_translation_is_right(text, to, channels, names):
    assert not names & set(remarks(text, to, channels))


def test_the_general_statement_about_same_holds_for_every_size():
    """The sizes that the sentence distinguishes are all there are: pads follow from the size modulo the stride."""
    for kernel, stride in itertools.product(range(1, 7), range(2, 5)):
        for size in range(kernel, 40):
            wanted = arithmetic.same_pads(size, kernel, stride, 1)
            assert arithmetic.same_pads(size % stride + stride * kernel, kernel, stride, 1) == wanted


@pytest.mark.parametrize("source", ["torch", "keras", "flax", "onnx", None])
@pytest.mark.parametrize("to", ["torch", "keras", "flax", "onnx"])
def test_the_code_for_the_dense_layer_permutes_its_rows(source, to):
    spec = ConvSpec(2, 3, (2, 3))
    shapes = {
        "torch": (1, 2, 4, 7),
        "onnx": (1, 2, 4, 7),
        None: (1, 2, 4, 7),
        "keras": (1, 4, 7, 2),
        "flax": (1, 4, 7, 2),
    }
    texts = {
        "torch": "nn.Conv2d(2, 3, (2, 3))", "keras": "Conv2D(3, (2, 3))", None: spec,
        "flax": "nnx.Conv(2, 3, (2, 3), padding='VALID', rngs=r)", "onnx": "Conv(W=[3, 2, 2, 3], B=[3])",
    }  # fmt: skip
    found = remarks(texts[source], to, 2, input_shape=shapes[source])
    first = {"torch", "onnx", None}
    if (source in first) == (to in first):
        assert "flatten-order" not in found
        return
    flat = Chain([spec]).flatten((1, 2, 4, 7))
    layouts = ["NHWC", "NCHW"] if to in first else ["NCHW", "NHWC"]
    weight = np.arange(5 * flat.in_features).reshape(5, -1)  # (out, in)
    names = {"dense": weight if source in first else weight.T}
    exec(found["flatten-order"].code, names)
    wanted = weight[:, list(flat.order(layouts[1], layouts[0]))]
    np.testing.assert_array_equal(names["dense"] if to in first else names["dense"].T, wanted)


def test_remarks_are_data():
    assert str(Remark("a", "b", "c")) == "a: b"
    assert Remark("a", "b").to_dict() == {"id": "a", "text": "b"}
    assert Remark("a", "b", "c").to_dict() == {"id": "a", "text": "b", "code": "c"}

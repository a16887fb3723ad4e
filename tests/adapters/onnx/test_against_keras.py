"""Graphs that tf2onnx made of Keras models, against the models: layouts, folds and rewritten layers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
import onnx  # noqa: E402

from tests.adapters.onnx import faulty  # noqa: E402
from tests.adapters.onnx.verifying import audited, saved  # noqa: E402

pytestmark = [pytest.mark.onnx, pytest.mark.slow]
L = keras.layers


def images():
    """Pads apart, 'same' with a stride, depthwise, separable and transposed layers, and normalisations behind them."""
    x = start = keras.Input((33, 24, 3), batch_size=2)
    x = L.ZeroPadding2D(((0, 1), (2, 1)))(x)
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, (3, 5), strides=2, use_bias=False)(x)))
    x = L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same", strides=2)(x)))
    x = L.SeparableConv2D(10, (3, 5), padding="same", activation="relu")(x)
    x = L.Conv2DTranspose(6, 3, strides=2, padding="same")(x)
    return keras.Model(start, L.Dense(5)(L.Conv2D(7, 1)(x)))


def sequences():
    """One spatial axis, which tf2onnx makes two of."""
    x = start = keras.Input((40, 3), batch_size=2)
    x = L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    x = L.Conv1D(6, 4, strides=2, padding="same")(x)
    return keras.Model(start, L.SeparableConv1D(5, 3)(x))


def upsampled():
    """Transposed layers of one axis: tf2onnx computes their crops from shapes, and adds the bias after them."""
    x = start = keras.Input((12, 3), batch_size=2)
    x = L.BatchNormalization()(L.Conv1DTranspose(4, 5, strides=2, padding="same")(x))
    return keras.Model(start, L.Cropping1D(1)(L.Conv1DTranspose(4, 4, strides=3, padding="same")(x)))


def trained(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        positive = any(word in weight.path for word in ("gamma", "variance"))
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(size=weight.shape) * 0.4)
    return model


def exported(model, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf2onnx = pytest.importorskip("tf2onnx")
        signature = [tf.TensorSpec(model.inputs[0].shape, tf.float32, name="x")]
        function = tf.function(lambda x: model(x, training=False), input_signature=signature)
        tf2onnx.convert.from_function(function, signature, opset=18, output_path=str(path), **options)
    return path


LAYERS = {
    images: ["conv2d", "depthwise_conv2d", "depthwise", "pointwise", "conv2d_transpose", "conv2d"],
    sequences: ["conv1d", "conv1d", "depthwise", "pointwise"],
    upsampled: ["conv1d_transpose", "conv1d_transpose"],
}


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("build", LAYERS)
def test_a_right_export_agrees_in_both_layouts(build, channels_first, tmp_path):
    model = trained(build())
    options = {"inputs_as_nchw": ["x"]} if channels_first and build is images else {}
    report = audited(exported(model, tmp_path / "m.onnx", **options), source=model)
    assert not report.unexpected, report.unexpected
    assert [node.verdict for node in report.nodes] == ["agree"] * len(LAYERS[build])
    for node, name in zip(report.nodes, LAYERS[build], strict=True):
        assert node.matched.rpartition("/")[2].startswith(name)


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    model = trained(images())
    return model, exported(model, tmp_path_factory.mktemp("keras") / "m.onnx")


FAULTS = [
    (0, faulty.pads_on_the_other_side),
    (1, faulty.pads_on_the_other_side),
    (2, faulty.one_sign),
    (2, faulty.flipped),
    (3, faulty.one_weight_zero),
    (4, faulty.bias_lost),
    (5, faulty.half_weights),
]


@pytest.mark.parametrize(("place", "fault"), FAULTS, ids=[faulty.names("images", *fault) for fault in FAULTS])
def test_a_planted_fault_is_seen_and_its_node_named_first(right, tmp_path, place, fault):
    model, path = right
    proto = onnx.load(path)
    node = faulty.convs(proto)[place]
    fault(proto, node)
    report = audited(saved(proto, tmp_path / "faulty.onnx"), source=model)
    assert report.first_divergence == node.name, report.unexpected[:3]


def test_a_normalisation_with_another_epsilon_is_named(right):
    model, path = right
    other = trained(images())
    for theirs, ours in zip(other.weights, model.weights, strict=True):
        theirs.assign(ours)
    norm = next(layer for layer in other.layers if isinstance(layer, L.BatchNormalization))
    norm.epsilon = 1e-2
    report = audited(path, source=other)
    assert report.first_divergence == report.nodes[0].name
    assert report.nodes[0].findings[0]["id"] == "batch-norm-epsilon"


def test_a_grouped_layer_that_was_written_as_a_split(tmp_path):
    """tf2onnx takes no grouped convolution of Keras'; its users write them as ``tf.split`` and ``tf.concat``."""
    x = start = keras.Input((9, 12, 6), batch_size=2)
    layer = L.Conv2D(12, 3, strides=2, groups=3, padding="same")
    model = trained(keras.Model(start, L.Conv2D(4, 1)(L.ReLU()(layer(x)))))
    last, kernels, bias = model.layers[-1], np.split(layer.kernel.numpy(), 3, 3), layer.bias.numpy()

    def forward(x):
        parts = [tf.nn.conv2d(a, b, 2, "SAME") for a, b in zip(tf.split(x, 3, 3), kernels, strict=True)]
        return last(tf.nn.relu(tf.concat(parts, 3) + bias))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf2onnx = pytest.importorskip("tf2onnx")
        signature = [tf.TensorSpec((2, 9, 12, 6), tf.float32, name="x")]
        proto, _ = tf2onnx.convert.from_function(tf.function(forward, input_signature=signature), signature, opset=18)
    assert [node.op_type for node in proto.graph.node].count("Split") == 1
    report = audited(saved(proto, tmp_path / "m.onnx"), source=model)
    assert not report.unexpected, report.unexpected
    assert [node.matched for node in report.nodes] == [layer.name] * 3 + [last.name]

    concat = next(node for node in proto.graph.node if node.op_type == "Concat")
    second = next(node for node in faulty.convs(proto) if node.output[0] == concat.input[1])
    faulty.one_sign(proto, second)
    report = audited(saved(proto, tmp_path / "wrong.onnx"), source=model)
    assert (report.first_divergence, report.missing) == (second.name, [])

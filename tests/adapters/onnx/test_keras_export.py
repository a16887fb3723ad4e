"""A model that Keras itself exported: what `model.export(format="onnx")` writes is accounted for and right.

Keras exports with what its backend has: PyTorch's exporter on PyTorch. On TensorFlow it wants tf2onnx, on JAX jax2onnx,
which are no requirements here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")
import onnx

from tests.adapters.onnx import faulty
from tests.adapters.onnx.verifying import audited, saved

NEEDED = ("keras", "torch", "onnxscript")
pytestmark = [
    pytest.mark.onnx,
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason=f"needs {', '.join(NEEDED)}"),
]

EXPORT = """
import sys
import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(0)
inputs = x = layers.Input((32, 40, 3))
x = layers.Conv2D(8, (3, 5), strides=2, padding="same", use_bias=False)(x)
x = norm = layers.BatchNormalization()(x)
x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(layers.ReLU()(x))
x = layers.SeparableConv2D(10, 3, dilation_rate=2)(x)
x = layers.Conv2D(10, (1, 3), groups=2)(x)
x = layers.Conv2DTranspose(6, (3, 2), strides=2, padding="same")(x)
x = layers.Cropping2D(((1, 0), (0, 1)))(x)  # after the layer's own crop, which the exporter writes as a Slice
x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
model = keras.Model(inputs, x)
rng = np.random.default_rng(0)
for layer in model.layers:
    weights = layer.get_weights()
    if isinstance(layer, layers.BatchNormalization):
        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in weights])
    elif weights:
        layer.set_weights([rng.normal(size=w.shape) / 3 for w in weights])
model.save(sys.argv[1].replace(".onnx", ".keras"))
model(np.zeros((1, 32, 40, 3), "float32"))  # without it, export says that the model has never been called
model.export(sys.argv[1], format="onnx", verbose=False)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The file, made in a process of its own: the backend of Keras is chosen when it is imported."""
    path = tmp_path_factory.mktemp("keras") / "model.onnx"
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXPORT, str(path)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert path.exists(), done.stderr[-1000:]
    return path


def test_every_convolution_that_keras_exported_is_accounted_for_and_agrees(exported):
    report = audited(exported, levels=["off", "all"])
    specs = [node.spec for node in report.nodes]
    assert sorted((s.kernel_size, s.groups, s.dilation[0], s.transposed) for s in specs) == [
        ((1, 1), 1, 2, False),  # the separable layer's dilation is given to its pointwise part, too, where it is idle
        ((1, 3), 2, 1, False),
        ((3, 2), 1, 1, True),
        ((3, 3), 8, 1, False),
        ((3, 3), 16, 2, False),
        ((3, 5), 1, 1, False),
    ]
    assert report.summary["agree"] == report.summary["convs"] == 6, report.unexpected
    assert not report.unexpected
    assert len({run["inputs"] for node in report.nodes for run in node.runs}) == 2  # the batch is open


def against(path, source):
    """What the command says of a graph and the Keras file that it was made from."""
    command = [sys.executable, "-m", "convspec", "verify", str(path), "--against", str(source), "--levels", "off"]
    done = subprocess.run(
        [*command, "--json", "-"], env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr[-1000:]
    return done.returncode, json.loads(done.stdout)


def test_the_bias_of_a_depthwise_layer_is_seen_though_its_shape_is_computed(exported, tmp_path):
    source = exported.with_suffix(".keras")
    status, report = against(exported, source)
    assert (status, report["unexpected"], report["summary"]["agree"]) == (0, [], 6)
    matched = [node["matched"] for node in report["nodes"]]
    assert len(set(matched)) == 6, matched

    proto = onnx.load(exported)
    makers = {name: node for node in proto.graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    (reshape,) = (n for n in proto.graph.node if n.op_type == "Reshape" and n.input[0] in tensors)
    assert (list(tensors[reshape.input[0]].dims), makers[reshape.input[1]].op_type) == ([16], "Concat")
    faulty.change(proto, reshape.input[0], lambda b: b * 0)
    status, report = against(saved(proto, tmp_path / "lost.onnx"), source)
    node = next(n for n in report["nodes"] if n["spec"]["groups"] == 8)
    assert (status, report["first_divergence"]) == (1, node["name"])
    assert node["findings"][0]["id"] == "bias-lost"

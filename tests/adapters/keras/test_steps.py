"""Every kind of step on Keras, against the float64 reference; on the backend that KERAS_BACKEND names."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from keras import layers as L
from keras import ops

from convspec.spec import steps as S
from tests.adapters.keras.backend import BACKEND as ADAPTER
from tests.adapters.steps import assert_step, draw, normal
from tests.adapters.suite import to_canonical, to_layout

pytestmark = pytest.mark.keras

BACKEND = ADAPTER.backend
X = (2, 6, 9, 8)
EVEN = (1, 3, 7, 5)  # windows of "same" that need an even number of pads: Keras on PyTorch replicates edges otherwise
CUBIC = {
    "tensorflow": {"cubic_coefficient": -0.5, "exclude_outside": True, "table_steps": 1024},
    "jax": {"cubic_coefficient": -0.5, "exclude_outside": True},
    "torch": {"cubic_coefficient": -0.75},
}
# name: (layer or function, step); the input is X in NHWC unless a third element gives its canonical shape
TABLE = {
    "max": (L.MaxPooling2D(), S.MaxPool(2)),
    "max-same": (L.MaxPooling2D((3, 2), (2, 3), "same"), S.MaxPool((3, 2), (2, 3), "same")),
    "max-1d": (L.MaxPooling1D(3, 2), S.MaxPool((3,), 2), (2, 3, 8)),
    "max-3d": (L.MaxPooling3D((1, 2, 3)), S.MaxPool((1, 2, 3)), (1, 2, 3, 5, 7)),
    "average": (L.AveragePooling2D((3, 2)), S.AveragePool((3, 2))),
    "average-same": (L.AveragePooling2D(3, 2, "same"), S.AveragePool(3, 2, "same"), EVEN),
    "global": (L.GlobalAveragePooling2D(), S.GlobalPool(keepdims=False)),
    "global-keep": (L.GlobalAveragePooling2D(keepdims=True), S.GlobalPool()),
    "global-max": (L.GlobalMaxPooling2D(), S.GlobalPool("max", keepdims=False)),
    "adaptive": (L.AdaptiveAveragePooling2D((4, 3)), S.AdaptivePool((4, 3))),
    "adaptive-max": (L.AdaptiveMaxPooling2D((4, 3)), S.AdaptivePool((4, 3), "max")),
    "upsampling": (L.UpSampling2D((2, 3)), S.Resize(scale=(2, 3))),
    "upsampling-bilinear": (L.UpSampling2D(2, interpolation="bilinear"), S.Resize(scale=2, mode="linear")),
    "nearest": (L.Resizing(5, 17, "nearest"), S.Resize((5, 17))),
    "bilinear": (L.Resizing(5, 17), S.Resize((5, 17), mode="linear")),
    "bicubic": (L.Resizing(5, 17, "bicubic"), S.Resize((5, 17), mode="cubic", **CUBIC[BACKEND])),
    "zero-pad": (L.ZeroPadding2D(((3, 0), (1, 2))), S.Pad(((3, 0), (1, 2)))),
    "zero-pad-short": (L.ZeroPadding2D((1, 2)), S.Pad((1, 2))),
    "crop": (L.Cropping2D(((1, 3), (1, 2))), S.Pad(((-1, -3), (-1, -2)))),
    "reflect": (
        lambda x: ops.pad(x, ((0, 0), (1, 4), (3, 2), (0, 0)), "reflect"),
        S.Pad(((1, 4), (3, 2)), "reflect"),
    ),
    "flatten": (L.Flatten(), S.Flatten(order="NHWC")),
    "dropout": (L.Dropout(0.3), S.Dropout(0.3)),
    "spatial-dropout": (L.SpatialDropout2D(0.3), S.Dropout(0.3, "channel")),
    "relu": (L.ReLU(), S.ReLU()),
    "relu6": (L.ReLU(6.0), S.Clip(0, 6)),
    "relu-settings": (L.ReLU(2.0, 0.1, 0.5), S.ThresholdedReLU(0.5, 0.1, 2.0)),
    "leaky": (L.LeakyReLU(), S.LeakyReLU(0.3)),
    "leaky-name": (L.Activation("leaky_relu"), S.LeakyReLU(0.2)),
    "elu": (L.ELU(), S.ELU()),
    "selu": (L.Activation("selu"), S.SELU()),
    "celu": (ops.celu, S.CELU()),
    "gelu": (L.Activation("gelu"), S.GELU()),
    "gelu-ops": (ops.gelu, S.GELU("tanh")),
    "silu": (L.Activation("silu"), S.SiLU()),
    "mish": (L.Activation("mish"), S.Mish()),
    "sigmoid": (L.Activation("sigmoid"), S.Sigmoid()),
    "log-sigmoid": (ops.log_sigmoid, S.Sigmoid(log=True)),
    "hard-sigmoid": (L.Activation("hard_sigmoid"), S.HardSigmoid()),
    "hard-silu": (L.Activation("hard_silu"), S.HardSwish()),
    "tanh": (L.Activation("tanh"), S.Tanh()),
    "tanh-shrink": (ops.tanh_shrink, S.TanhShrink()),
    "softplus": (L.Activation("softplus"), S.Softplus(threshold=20 if BACKEND == "torch" else None)),
    "softsign": (L.Activation("softsign"), S.Softsign()),
    "squareplus": (ops.squareplus, S.Squareplus()),
    "hard-tanh": (ops.hard_tanh, S.Clip(-1, 1)),
    "hard-shrink": (ops.hard_shrink, S.HardShrink()),
    "soft-shrink": (ops.soft_shrink, S.SoftShrink()),
    "softmax": (L.Softmax(), S.Softmax(1)),
    "log-softmax": (ops.log_softmax, S.Softmax(1, log=True)),
    "glu": (ops.glu, S.GLU(1)),
    "unit": (L.UnitNormalization(), S.LpNorm(1, epsilon=1e-6)),
    "mean": (lambda x: ops.mean(x, (1, 2)), S.Reduce("mean", (2, 3))),
    "rescaling": (L.Rescaling(1 / 255), S.Multiply(1 / 255)),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_step_without_arrays(name):
    function, step, *shape = TABLE[name]
    x = normal(shape[0] if shape else X, scale=3.0)
    y = ops.convert_to_numpy(function(ops.convert_to_tensor(to_layout(x, "NHWC"))))
    assert_step(step, [x], to_canonical(y, "NHWC") if y.ndim > 2 else y)


LAYERS = {
    "dense": (L.Dense(5), S.Linear(6, 5, axis=1), ["weight", "bias"]),
    "batch": (L.BatchNormalization(), S.BatchNorm(6, epsilon=1e-3), ["scale", "bias", "mean", "variance"]),
    "batch-wrong-axis": (
        L.BatchNormalization(axis=1),
        S.BatchNorm(9, axis=2, epsilon=1e-3),
        ["scale", "bias", "mean", "variance"],
    ),
    "layer": (L.LayerNormalization(), S.LayerNorm(6, 1, epsilon=1e-3), ["scale", "bias"]),
    "layer-axes": (
        L.LayerNormalization(axis=(2, 3), center=False),
        S.LayerNorm((8, 6), (3, 1), epsilon=1e-3, bias=False),
        ["scale"],
    ),
    "group": (
        L.GroupNormalization(3),
        S.GroupNorm(6, 3, epsilon=1e-3, fast_variance=BACKEND == "torch"),
        ["scale", "bias"],
    ),
    "instance": (
        L.GroupNormalization(-1),
        S.InstanceNorm(6, epsilon=1e-3, fast_variance=BACKEND == "torch"),
        ["scale", "bias"],
    ),
    "rms": (L.RMSNormalization(), S.RMSNorm(6, 1, epsilon=1e-6), ["scale"]),
    "prelu": (L.PReLU(), S.PReLU((6, 9, 8)), ["slope"]),
    "prelu-shared": (L.PReLU(shared_axes=[1, 2]), S.PReLU(6), ["slope"]),
}


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_arrays(name, shift):
    layer, step, order = LAYERS[name]
    x, arrays = normal(X) + np.float32(shift), draw(step)
    data = ops.convert_to_tensor(to_layout(x, "NHWC"))
    if not layer.built:
        layer.build(data.shape)
    theirs = {"weight": np.transpose, "slope": lambda a: np.moveaxis(a.reshape(a.shape + (1,) * (3 - a.ndim)), 0, -1)}
    layer.set_weights([theirs.get(n, np.asarray)(arrays[n]) for n in order])
    assert step.num_parameters == sum(int(np.prod(w.shape)) for w in layer.trainable_weights)
    y = ops.convert_to_numpy(layer(data))
    assert_step(step, [x], to_canonical(y, "NHWC"), arrays)


PAIRS = {
    "add": (L.Add(), S.Add()),
    "subtract": (L.Subtract(), S.Subtract()),
    "multiply": (L.Multiply(), S.Multiply()),
    "concat": (L.Concatenate(), S.Concat(1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_of_two_inputs(name):
    layer, step = PAIRS[name]
    inputs = [normal(X, seed) for seed in (0, 1)]
    y = ops.convert_to_numpy(layer([ops.convert_to_tensor(to_layout(x, "NHWC")) for x in inputs]))
    assert_step(step, inputs, to_canonical(y, "NHWC"))


@pytest.mark.parametrize("factor_order", ["depth_to_space", "space_to_depth"])
def test_channels_and_space(factor_order):
    step = (S.PixelShuffle if factor_order == "depth_to_space" else S.PixelUnshuffle)(2, "DCR")
    x = normal((2, 12, 4, 6))
    y = ops.convert_to_numpy(
        getattr(ops, factor_order)(ops.convert_to_tensor(to_layout(x, "NHWC")), 2, data_format="channels_last")
    )
    assert_step(step, [x], to_canonical(y, "NHWC"))


def test_the_average_pool_of_keras_on_pytorch_repeats_edges():
    """With an odd number of pads; the reference counts elements inside alone, as the other backends do."""
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)
    y = L.AveragePooling2D((1, 3), (1, 2), "same")(ops.convert_to_tensor(to_layout(x, "NHWC")))
    last = float(ops.convert_to_numpy(y)[0, 0, -1, 0])
    assert last == pytest.approx(20 / 3 if BACKEND == "torch" else 6.5)

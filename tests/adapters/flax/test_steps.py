"""Every kind of step on JAX, Flax NNX and Linen, against the float64 reference within its bounds."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from convspec.spec import steps as S
from tests.adapters.steps import assert_step, draw, normal
from tests.adapters.suite import to_canonical, to_layout

pytestmark = pytest.mark.flax

X = (2, 6, 9, 8)


def call(function, **settings):
    return functools.partial(function, **settings)


def resized(height, width, method, **settings):
    return lambda x: jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), method, **settings)


def padded(mode):
    return call(jnp.pad, pad_width=((0, 0), (1, 4), (3, 2), (0, 0)), mode=mode)


TABLE = {  # name: (function of NHWC data, step); the input is X unless a third element gives its canonical shape
    "max": (call(nnx.max_pool, window_shape=(3, 2)), S.MaxPool((3, 2), 1)),
    "max-same": (
        call(linen.max_pool, window_shape=(3, 2), strides=(2, 3), padding="SAME"),
        S.MaxPool((3, 2), (2, 3), "same"),
    ),
    "max-pads": (
        call(nnx.max_pool, window_shape=(3, 2), strides=(2, 3), padding=((0, 1), (3, 2))),
        S.MaxPool((3, 2), (2, 3), ((0, 1), (3, 2))),
    ),
    "average": (call(nnx.avg_pool, window_shape=(3, 2)), S.AveragePool((3, 2), 1)),
    "average-same": (
        call(linen.avg_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME"),
        S.AveragePool(3, 2, "same", count_include_pad=True),
    ),
    "average-inside": (
        call(linen.avg_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME", count_include_pad=False),
        S.AveragePool(3, 2, "same"),
    ),
    "nearest": (resized(5, 17, "nearest"), S.Resize((5, 17))),
    "linear": (resized(5, 17, "linear"), S.Resize((5, 17), mode="linear", antialias=True, exclude_outside=True)),
    "linear-plain": (resized(5, 17, "linear", antialias=False), S.Resize((5, 17), mode="linear")),
    "cubic": (
        resized(5, 17, "cubic"),
        S.Resize((5, 17), mode="cubic", cubic_coefficient=-0.5, antialias=True, exclude_outside=True),
    ),
    "lanczos3": (
        resized(5, 17, "lanczos3", antialias=False),
        S.Resize((5, 17), mode="lanczos3", exclude_outside=True),
    ),
    "lanczos5": (
        resized(5, 17, "lanczos5"),
        S.Resize((5, 17), mode="lanczos5", antialias=True, exclude_outside=True),
    ),
    "reflect": (padded("reflect"), S.Pad(((1, 4), (3, 2)), "reflect")),
    "symmetric": (padded("symmetric"), S.Pad(((1, 4), (3, 2)), "symmetric")),
    "edge": (padded("edge"), S.Pad(((1, 4), (3, 2)), "replicate")),
    "wrap": (padded("wrap"), S.Pad(((1, 4), (3, 2)), "circular")),
    "constant": (padded("constant"), S.Pad(((1, 4), (3, 2)))),
    "slice": (lambda x: x[:, ::3, 1:-1, 1:5:2], S.Slice([(None, None, 1), (1, 5, 2), (None, None, 3), (1, -1, 1)])),
    "flatten": (lambda x: x.reshape(x.shape[0], -1), S.Flatten(order="NHWC")),
    "dropout": (nnx.Dropout(0.3, deterministic=True), S.Dropout(0.3)),
    "mean": (call(jnp.mean, axis=(1, 2)), S.Reduce("mean", (2, 3))),
    "max-reduced": (call(jnp.max, axis=(1, 2)), S.Reduce("max", (2, 3))),
    "relu": (nnx.relu, S.ReLU()),
    "relu6": (nnx.relu6, S.Clip(0, 6)),
    "leaky": (nnx.leaky_relu, S.LeakyReLU()),
    "elu": (nnx.elu, S.ELU()),
    "celu": (nnx.celu, S.CELU()),
    "selu": (nnx.selu, S.SELU()),
    "gelu": (nnx.gelu, S.GELU("tanh")),
    "gelu-erf": (call(nnx.gelu, approximate=False), S.GELU()),
    "silu": (nnx.silu, S.SiLU()),
    "mish": (jax.nn.mish, S.Mish()),
    "sigmoid": (nnx.sigmoid, S.Sigmoid()),
    "log-sigmoid": (nnx.log_sigmoid, S.Sigmoid(log=True)),
    "hard-sigmoid": (nnx.hard_sigmoid, S.HardSigmoid()),
    "hard-silu": (nnx.hard_silu, S.HardSwish()),
    "tanh": (nnx.tanh, S.Tanh()),
    "softplus": (nnx.softplus, S.Softplus()),
    "soft-sign": (nnx.soft_sign, S.Softsign()),
    "squareplus": (jax.nn.squareplus, S.Squareplus()),
    "hard-tanh": (nnx.hard_tanh, S.Clip(-1, 1)),
    "softmax": (nnx.softmax, S.Softmax(1)),
    "log-softmax": (nnx.log_softmax, S.Softmax(1, log=True)),
    "glu": (nnx.glu, S.GLU(1)),
    "standardize": (jax.nn.standardize, S.LayerNorm(6, 1, scale=False, bias=False, fast_variance=True)),
    "exp": (jnp.exp, S.Pointwise("exp")),
    "cos": (jnp.cos, S.Pointwise("cos")),
    "cube": (lambda x: x**3, S.Power(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_step_without_arrays(name):
    function, step, *shape = TABLE[name]
    x = normal(shape[0] if shape else X, scale=3.0)
    y = np.asarray(function(jnp.asarray(to_layout(x, "NHWC"))))
    assert_step(step, [x], to_canonical(y, "NHWC") if y.ndim > 2 else y)


RNGS = nnx.Rngs(0)
LAYERS = {  # name: (layer, step)
    "linear": (nnx.Linear(6, 5, rngs=RNGS), S.Linear(6, 5, axis=1)),
    "batch": (nnx.BatchNorm(6, use_running_average=True, rngs=RNGS), S.BatchNorm(6)),
    "batch-fresh": (nnx.BatchNorm(6, rngs=RNGS), S.BatchNorm(6, batch_statistics=True, fast_variance=True)),
    "layer": (nnx.LayerNorm(6, rngs=RNGS), S.LayerNorm(6, 1, epsilon=1e-6, fast_variance=True)),
    "layer-slow": (nnx.LayerNorm(6, use_fast_variance=False, rngs=RNGS), S.LayerNorm(6, 1, epsilon=1e-6)),
    "layer-image": (
        nnx.LayerNorm(6, reduction_axes=(1, 2, 3), rngs=RNGS),
        S.LayerNorm(6, (1, 2, 3), (1,), epsilon=1e-6, fast_variance=True),
    ),
    "group": (nnx.GroupNorm(6, 3, rngs=RNGS), S.GroupNorm(6, 3, epsilon=1e-6, fast_variance=True)),
    "instance": (nnx.InstanceNorm(6, rngs=RNGS), S.InstanceNorm(6, epsilon=1e-6, fast_variance=True)),
    "rms": (nnx.RMSNorm(6, rngs=RNGS), S.RMSNorm(6, 1, epsilon=1e-6)),
    "prelu": (nnx.PReLU(), S.PReLU()),
}
NAMES = {"weight": "kernel", "slope": "negative_slope", "variance": "var"}


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_arrays(name, shift):
    layer, step = LAYERS[name]
    arrays, x = draw(step), normal(X) + np.float32(shift)
    for own, array in arrays.items():
        parameter = getattr(layer, NAMES.get(own, own))
        parameter[...] = jnp.asarray(array.T.reshape(parameter.shape))
    y = np.asarray(layer(jnp.asarray(to_layout(x, "NHWC"))))
    assert_step(step, [x], to_canonical(y, "NHWC"), arrays)


def test_linen_norms_are_those_of_nnx():
    x = normal(X)
    data = jnp.asarray(to_layout(x, "NHWC"))
    for layer, step in (
        (linen.LayerNorm(), S.LayerNorm(6, 1, epsilon=1e-6, fast_variance=True)),
        (linen.GroupNorm(3), S.GroupNorm(6, 3, epsilon=1e-6, fast_variance=True)),
        (linen.BatchNorm(use_running_average=True), S.BatchNorm(6)),
    ):
        arrays = {
            name: np.full(shape, name in ("scale", "variance"), np.float32) for name, shape in step.arrays.items()
        }
        y = layer.apply(layer.init(jax.random.key(0), data), data)
        assert_step(step, [x], to_canonical(np.asarray(y), "NHWC"), arrays)


def test_an_embedding():
    step, x = S.Embedding(7, 5), np.array([[0, 6, 3], [2, 2, 1]])
    layer = nnx.Embed(7, 5, rngs=RNGS)
    assert_step(step, [x], np.asarray(layer(jnp.asarray(x))), {"weight": np.asarray(layer.embedding[...])})


@pytest.mark.parametrize(
    ("function", "step", "shapes"),
    [
        (jnp.add, S.Add(), [(2, 3, 1, 5), (3, 4, 5)]),
        (jnp.divide, S.Divide(), [X, X]),
        (jnp.matmul, S.MatMul(), [(2, 1, 5, 300), (3, 300, 4)]),
    ],
)
def test_a_step_of_two_inputs(function, step, shapes):
    inputs = [normal(shape, i) for i, shape in enumerate(shapes)]
    assert_step(step, inputs, np.asarray(function(*map(jnp.asarray, inputs))))

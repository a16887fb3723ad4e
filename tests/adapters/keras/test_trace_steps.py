"""Traces of every step of Keras models: the laws of the data flow, and the settings of layers and operations.

On the backend that KERAS_BACKEND names.
"""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")

import keras
from convspec_keras import model as models
from keras import layers as L
from keras import ops

from convspec import ConvSpec
from convspec.spec import steps as S
from tests.adapters.keras import test_steps as tables
from tests.adapters.keras.backend import BACKEND as ADAPTER
from tests.adapters.keras.step_networks import NETWORKS, heads, unet
from tests.adapters.step_traces import assert_data_flow, assert_replays, flow, same
from tests.adapters.steps import normal
from tests.adapters.suite import to_layout

pytestmark = pytest.mark.keras

BACKEND = ADAPTER.backend
X = (2, 4, 8, 6)


def randomised(model, seed=0):
    """Give a model random weights; variances stay positive."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" not in weight.name:
            low = 0.5 if "variance" in weight.name else -0.5
            weight.assign(random.uniform(low, low + 1, weight.shape).astype("float32"))
    return model


def inputs_of(shapes, name=""):
    return [np.arange(12).reshape(2, 6) % 7 if name == "tokens" else normal(shape) for shape in shapes]


class Called(keras.Model):
    """A function as a model; layers may be among its parts."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def call(self, x):
        return self.function(self, x)


def traced(function, *shapes, **parts):
    model = Called(function, **parts)
    inputs = [normal(shape) if isinstance(shape, tuple) else shape for shape in shapes]
    return models.trace_steps(model, inputs)


# -- laws --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_replays_a_network(name):
    kind, shapes, others = NETWORKS[name]
    model, inputs = kind(), inputs_of(shapes, name)
    if not model.built:
        models.trace_model(model, inputs)
    randomised(model)
    before = [np.array(weight) for weight in model.weights]
    plain = models.trace_model(model, inputs).outputs
    trace = models.trace_steps(model, inputs)
    assert_replays(trace, others)
    assert len(plain) == len(trace.outputs)
    assert all(same(trace.tensors[i], y) for i, y in zip(trace.outputs, plain, strict=True))
    used = {path for step in trace.steps for paths in step.sources.values() for path in paths}
    assert used == set(trace.parameters)
    assert all(same(weight, old) for weight, old in zip(model.weights, before, strict=True))


def test_what_reads_what_in_a_network():
    found = flow(models.trace_steps(heads(), [normal((1, 8, 7, 4)), normal((1, 4, 4, 4))]))
    assert sorted((path, *reads) for path, kind, reads in found if kind == "ConvSpec") == [
        ("boxes", "input0"), ("classes", "input0"), ("classes", "input1")
    ]  # fmt: skip
    ((_, _, joined),) = [line for line in found if line[1] == "Concat"]
    written = {path: reads for path, kind, reads in found if kind == "Reshape"}
    assert [written[path] for path in joined] == [["classes"], ["classes"]]


def test_what_reads_what_where_a_skip_is_joined():
    found = {kind: reads for _, kind, reads in flow(models.trace_steps(unet(), [normal((1, 12, 12, 2))]))}
    assert [path.rpartition("/")[2] for path in found["Concat"]] == ["relu_0", "leaky_relu_0"]


def test_a_layer_without_effect_is_a_step_that_nothing_reads():
    trace = traced(lambda self, x: (self.conv(x), self.norm(x))[1], X, conv=L.Conv2D(3, 2, name="dead"),
                   norm=L.LayerNormalization())  # fmt: skip
    read = {number for step in trace.steps for number in step.reads} | set(trace.outputs)
    assert [step.path for step in trace.steps if not read & set(step.writes)] == ["dead"]


# -- settings ----------------------------------------------------------------------------------------------------------

# axes as Keras counts them, and steps that say the same in another way
SPELT = {
    "zero-pad": S.Pad(((3, 0), (1, 2), (0, 0))), "zero-pad-short": S.Pad(((1, 1), (2, 2), (0, 0))),
    "crop": S.Pad(((-1, -3), (-1, -2), (0, 0))), "reflect": S.Pad(((1, 4), (3, 2), (0, 0)), "reflect"),
    "softmax": S.Softmax(-1), "log-softmax": S.Softmax(-1, log=True), "glu": S.GLU(-1),
    "unit": S.LpNorm(-1, epsilon=1e-6), "mean": S.Reduce("mean", (1, 2)),
    "dense": S.Linear(6, 5), "batch": S.BatchNorm(6, axis=-1, epsilon=1e-3),
    "batch-wrong-axis": S.BatchNorm(9, axis=1, epsilon=1e-3), "layer": S.LayerNorm(6, -1, epsilon=1e-3),
    "layer-axes": S.LayerNorm((8, 6), (2, 3), epsilon=1e-3, bias=False), "rms": S.RMSNorm(6, -1, epsilon=1e-6),
    "group": S.GroupNorm(6, 3, axis=-1, epsilon=1e-3, fast_variance=BACKEND == "torch"),
    "instance": S.InstanceNorm(6, axis=-1, epsilon=1e-3, fast_variance=BACKEND == "torch"),
    "prelu": S.PReLU((9, 8, 6)), "prelu-shared": S.PReLU((1, 1, 6)), "concat": S.Concat(-1),
}  # fmt: skip


@pytest.mark.parametrize("name", tables.TABLE)
def test_the_settings_of_a_step_without_arrays(name):
    function, step, *shape = tables.TABLE[name]
    x = to_layout(normal(shape[0] if shape else tables.X, scale=3.0), "NHWC")
    layer = function if isinstance(function, L.Layer) else None
    trace = models.trace_steps(Called(lambda self, x: function(x), **({"layer": layer} if layer else {})), [x])
    assert_replays(trace)
    (found,) = trace.steps
    assert (found.step, found.note) == (SPELT.get(name, step), "")
    if layer is not None:
        assert (found.path, found.name) == (layer.name, type(layer).__name__)


@pytest.mark.parametrize("name", tables.LAYERS)
def test_the_settings_and_arrays_of_a_layer(name):
    layer, step, order = tables.LAYERS[name]
    model = keras.Sequential([copy.deepcopy(layer)])
    x = to_layout(normal(tables.X), "NHWC")
    models.trace_model(model, [x])
    trace = models.trace_steps(randomised(model), [x])
    assert_replays(trace)
    (found,) = trace.steps
    assert (found.path, found.step, found.name) == (layer.name, SPELT.get(name, step), type(layer).__name__)
    own = dict(zip(order, model.layers[0].weights, strict=True))
    assert dict(found.sources) == {array: (f"{layer.name}/{weight.name}",) for array, weight in own.items()}


@pytest.mark.parametrize("name", tables.PAIRS)
def test_a_step_of_two_inputs(name):
    layer, step = tables.PAIRS[name]
    trace = models.trace_steps(Called(lambda self, x: self.layer(x), layer=layer), [normal(X), normal(X, 1)])
    assert_replays(trace)
    assert [(one.step, one.reads) for one in trace.steps] == [(SPELT.get(name, step), (0, 1))]


W = np.random.default_rng(0).standard_normal((6, 5)).astype("float32")
ALL = (None, None, 1)  # a whole axis
CALLS = {
    "max pool": (lambda x: ops.max_pool(x, 3, 2, "same"), [S.MaxPool(3, 2, "same")]),
    "resize": (lambda x: ops.image.resize(x, (3, 5), antialias=True),
               [S.Resize((3, 5), mode="linear", antialias=True, exclude_outside=True)]),
    "depth to space": (lambda x: ops.depth_to_space(ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, 2))), 2),
                       [S.Pad([(0, 2)]), S.PixelShuffle(2, "DCR")]),
    "pads": (lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0), (3, 0)), constant_values=2),
             [S.Pad([(1, 2), (0, 0), (3, 0)], value=2)]),
    "symmetric": (lambda x: ops.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0)), "symmetric"),
                  [S.Pad([(2, 1), (0, 0), (0, 0)], "replicate" if BACKEND == "torch" else "symmetric")]),
    "slice": (lambda x: x[:, :-2, ::2], [S.Slice([ALL, (None, -2, 1), (None, None, 2)])]),
    "mixed index": (lambda x: x[0, 1:, None, :, 2],
                    [S.Slice([ALL, (1, None, 1)]), S.Select(3, 2), S.Select(0, 0), S.Unsqueeze(1)]),
    "position": (lambda x: x[..., -1], [S.Select(3, -1)]),
    "core slice": (lambda x: ops.slice(x, (0, 1, 0, 0), (2, 2, 8, 6)), [S.Slice([ALL, (1, 3, 1)])]),
    "reshape": (lambda x: ops.reshape(x, (2, -1)), [S.Reshape((2, -1))]),
    "transpose": (lambda x: ops.transpose(x, (0, 3, 1, 2)), [S.Permute((0, 3, 1, 2))]),
    "swapaxes": (lambda x: ops.swapaxes(x, 1, -1), [S.Permute((0, 3, 2, 1))]),
    "moveaxis": (lambda x: ops.moveaxis(x, -1, 1), [S.Permute((0, 3, 1, 2))]),
    "squeeze": (lambda x: ops.squeeze(x[:, :1], 1), [S.Slice([ALL, (None, 1, 1)]), S.Squeeze(1)]),
    "new axis": (lambda x: ops.expand_dims(x, 1), [S.Unsqueeze(1)]),
    "broadcast": (lambda x: ops.broadcast_to(x[:, :1], X), [S.Slice([ALL, (None, 1, 1)]), S.Expand(X)]),
    "tile": (lambda x: ops.tile(x, (1, 1, 2, 1)), [S.Concat(2)]),
    "repeat": (lambda x: ops.repeat(x, 2, axis=1),
               [S.Unsqueeze(2), S.Expand((2, 4, 2, 8, 6)), S.Reshape((2, 8, 8, 6))]),
    "flip": (lambda x: ops.flip(x, 1), [S.Slice([ALL, (None, None, -1)])]),
    "split": (lambda x: ops.split(x, [1, 4], axis=-1), [S.Split((1, 3, 2), -1)]),
    "unstack": (lambda x: ops.unstack(x, axis=0), [S.Split((1, 1), 0), S.Squeeze(0), S.Squeeze(0)]),
    "iteration": (list, [S.Select(0, 0), S.Select(0, 1)]),
    "stack": (lambda x: ops.stack([x, x], -1), [S.Unsqueeze(4), S.Unsqueeze(4), S.Concat(4)]),
    "concat": (lambda x: ops.concatenate([x, x], 1), [S.Concat(1)]),
    "take": (lambda x: ops.take(x, 2, axis=1), [S.Select(1, 2)]),
    "sum": (lambda x: ops.sum(x, -1, keepdims=True), [S.Reduce("sum", (-1,), keepdims=True)]),
    "max": (lambda x: ops.max(x, (1, 2)), [S.Reduce("max", (1, 2))]),
    "reversed": (lambda x: 1 - 2 / x, [S.Divide(2, reflected=True), S.Subtract(1, reflected=True)]),
    "negative": (lambda x: -x, [S.Pointwise("negative")]),
    "power": (lambda x: x**2, [S.Power(2)]),
    "clip": (lambda x: ops.clip(x, -1, 2), [S.Clip(-1, 2)]),
    "functions": (lambda x: ops.rsqrt(ops.exp(ops.sin(x))),
                  [S.Pointwise("sin"), S.Pointwise("exp"), S.Pointwise("rsqrt")]),
    "matrix": (lambda x: ops.matmul(x, W), [S.Linear(6, 5, bias=False)]),
    "operator": (lambda x: x @ ops.convert_to_tensor(W), [S.Linear(6, 5, bias=False)]),
    "einsum along an axis": (lambda x: ops.einsum("nhwc,co->nhwo", x, W), [S.Linear(6, 5, bias=False, axis=3)]),
    "einsum of two": (lambda x: ops.einsum("nhwc,nhcv->nhwv", x, ops.swapaxes(x, 2, 3)),
                      [S.Permute((0, 1, 3, 2)), S.MatMul()]),
    "convolution": (lambda x: ops.conv(x, np.ones((3, 3, 6, 4), "float32"), 2, "same"),
                    [ConvSpec(6, 4, 3, 2, "same", bias=False)]),
    "depthwise": (lambda x: ops.depthwise_conv(x, np.ones((3, 2, 6, 2), "float32")),
                  [ConvSpec(6, 12, (3, 2), groups=6, bias=False)]),
    "transposed": (lambda x: ops.conv_transpose(x, np.ones((2, 2, 4, 6), "float32"), 2, "valid"),
                   [ConvSpec(6, 4, 2, 2, transposed=True, bias=False)]),
    "condition": (lambda x: ops.cond(ops.max(x) < 0, lambda: x * 2, lambda: x * 3),
                  [S.Reduce("max"), S.Other("less"), S.Multiply(3)]),
    "array first": (lambda x: np.float32(2) * x, [S.Multiply(2)]),
    "activation": (lambda x: keras.activations.relu(x, negative_slope=0.1, max_value=2.0),
                   [S.ThresholdedReLU(0, 0.1, 2)]),
    "repeat vector": (lambda x: L.RepeatVector(3)(x[:, 0, 0]),
                      [S.Select(2, 0), S.Select(1, 0), S.Reshape((2, 1, 6)), S.Expand((2, 3, 6))]),
    "average": (lambda x: L.Average()([x, x]), [S.Add(), S.Divide(2)]),
    "three": (lambda x: L.Add()([x, x, x]), [S.Add()]),
    "subtract": (lambda x: L.Subtract()([x, x]), [S.Subtract()]),
    "dot": (lambda x: L.Dot(1)([x[:, 0], x[:, 1]]),
            [S.Select(1, 0), S.Select(1, 1), S.Permute((0, 2, 1)), S.MatMul()]),
    "no step": (lambda x: L.Identity()(ops.stop_gradient(ops.copy(ops.cast(x, "float32")))), []),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_settings_of_a_call(name):
    function, expected = CALLS[name]
    trace = traced(lambda _, x: function(x), X)
    assert_replays(trace, [step.step.name for step in trace.steps if isinstance(step.step, S.Other)])
    assert [step.step for step in trace.steps] == expected


WITHOUT = {
    "cumsum": (lambda x: ops.cumsum(x, 1), "cumsum", ""),
    "index": (lambda x: ops.take(x, [0, 2], axis=1), "take", "by positions in a tensor or list"),
    "decimals": (lambda x: ops.round(x, 2), "round", "to 2 decimals"),
    "threshold": (lambda x: ops.threshold(x, 0.1, 20), "threshold", "values up to 0.1 become 20"),
    "floor division": (lambda x: x // 2, "floor_divide", ""),
    "several axes": (L.Softmax(axis=(1, 2)), "Softmax",
                     "its code is not seen: it computes with functions of the backend"),
    "cast": (lambda x: ops.cast(x, "float16"), "cast to float16", ""),
    "recurrent": (lambda x: L.LSTM(3)(x[:, 0]), "LSTM", ""),
    "wrapped": (L.TimeDistributed(L.Dense(3)), "TimeDistributed", ""),
    "aspect ratio": (L.Resizing(3, 3, crop_to_aspect_ratio=True), "Resizing", "it keeps the aspect ratio"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT)
def test_a_call_without_a_word_is_listed_with_the_reason(name):
    function, kind, note = WITHOUT[name]
    step = traced(lambda _, x: function(x), X).steps[-1]
    assert (step.step, step.note) == (S.Other(kind), note)


# -- code that is not seen, weights that are computed ------------------------------------------------------------------


def of_the_backend(x):
    """A function of the backend, which does not know Keras's tensors."""
    if BACKEND == "tensorflow":
        return sys.modules["tensorflow"].nn.relu(x) * 2
    return sys.modules["jax"].nn.relu(x) * 2 if BACKEND == "jax" else sys.modules["torch"].relu(x) * 2


class Unseen(L.Layer):
    """A layer that computes with functions of the backend, after a layer of Keras."""

    def __init__(self):
        super().__init__(name="unseen")
        self.dense = L.Dense(6, name="dense")

    def call(self, x):
        return of_the_backend(self.dense(x))


def test_a_layer_of_functions_of_the_backend_is_one_step():
    trace = traced(lambda self, x: ops.tanh(self.layer(x)), X, layer=Unseen())
    assert_replays(trace, ["Unseen"])
    step, after = trace.steps
    assert (step.path, step.name, after.reads) == ("unseen", "Unseen", step.writes)
    assert "functions of the backend" in step.note
    assert step.sources == {"dense/kernel": ("unseen/dense/kernel",), "dense/bias": ("unseen/dense/bias",)}
    expected = np.maximum(trace.tensors[0] @ step.arrays["dense/kernel"], 0) * 2
    assert np.allclose(trace.tensors[1], expected, atol=1e-5)


def test_an_activation_of_the_users_is_a_step_after_its_layer():
    model = keras.Sequential([keras.Input(X[1:]), L.Conv2D(3, 2, activation=of_the_backend, name="a"),
                              L.Dense(4, activation=lambda x: ops.relu(x) + 1, name="b"),
                              L.Dense(4, activation=L.LeakyReLU(0.1, name="leaky"), name="c"),
                              L.Activation(of_the_backend, name="d"), L.Dense(2, activation="mish", name="e")]
                             )  # fmt: skip
    trace = models.trace_steps(model, [normal(X)])
    assert_replays(trace, ["of_the_backend"] * 2)
    assert [step.path for step in trace.steps] == ["a", "a/of_the_backend_0", "b", "b/relu_0", "b/add_0", "c",
                                                   "c/leaky", "d", "e", "e/mish_0"]  # fmt: skip


class Standardised(L.Conv2D):
    """A convolution with a kernel that is computed from its weights."""

    def call(self, x):
        kernel = (self.kernel - ops.mean(self.kernel)) / (ops.std(self.kernel) + 1e-5)
        return ops.conv(x, kernel) + self.bias


def test_a_kernel_that_is_computed_is_an_array_with_its_sources():
    trace = traced(lambda self, x: self.layer(x), X, layer=Standardised(3, 2, name="layer"))
    assert_replays(trace)
    convolution, bias, _ = trace.steps
    assert convolution.sources == {"kernel": ("layer/kernel",)}
    assert bias.sources == {"value": ("layer/bias",)}
    assert convolution.step == ConvSpec(6, 3, 2, bias=False)


def test_a_kernel_that_is_computed_from_the_data_is_read():
    trace = traced(lambda _, x: ops.conv(x, ops.reshape(x[0, :2, :3], (2, 3, 6, 1))), X)
    assert_replays(trace)
    assert trace.steps[-1].reads == (0, trace.steps[-2].writes[0])
    assert "computed from the data" in trace.steps[-1].note


# -- state, identity, inputs -------------------------------------------------------------------------------------------


def test_layers_in_training_are_told_and_keep_their_state():
    layers = {"drop": L.Dropout(0.4), "norm": L.BatchNormalization()}
    model = Called(lambda self, x: self.norm(self.drop(x, training=True), training=True), **layers)
    model(normal(X))
    before = [np.array(variable) for variable in model.variables]
    trace = models.trace_steps(model, [normal(X)])
    assert [step.step for step in trace.steps] == [
        S.Dropout(0.4, training=True),
        S.BatchNorm(6, axis=-1, epsilon=1e-3, batch_statistics=True, fast_variance=BACKEND == "torch"),
    ]
    assert all(same(variable, old) for variable, old in zip(model.variables, before, strict=True))


class OwnDropout(L.Dropout):
    def call(self, x, training=None):
        return super().call(x, True) * 2


class OwnNorm(L.BatchNormalization):
    def call(self, x, training=None):
        return super().call(x, training=self.name == "on")


@pytest.mark.parametrize("name", ["on", "off"])
def test_what_a_subclass_gets_from_its_class_is_that_step(name):
    call = vars(L.BatchNormalization)["call"]
    trace = traced(lambda m, x: m.norm(x) + m.drop(x), X, norm=OwnNorm(name=name), drop=OwnDropout(0.25))
    assert vars(L.BatchNormalization)["call"] is call
    steps = {type(step.step): step for step in trace.steps}
    assert steps[S.BatchNorm].step.batch_statistics is (name == "on")
    assert steps[S.BatchNorm].path == name
    assert steps[S.Dropout].step == S.Dropout(0.25, training=True)
    assert steps[S.Multiply].step.constant == 2
    assert_data_flow(trace)


def test_a_trace_leaves_no_trace_in_keras():
    model = unet()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    own = [dict(vars(kind)) for kind in (keras.Operation, L.Layer, type(model.variables[0]))]
    models.trace_steps(model, [normal((1, 12, 12, 2))])
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert [dict(vars(kind)) for kind in (keras.Operation, L.Layer, type(model.variables[0]))] == own


def test_random_numbers_are_told():
    def run(self, x):
        return x + keras.random.normal((6,), seed=self.seed)

    (noise, _) = traced(run, X, seed=keras.random.SeedGenerator(1)).steps
    assert (noise.step, noise.note) == (S.Parameter((6,)), "drawn at random")


def test_losses_and_comparisons_do_not_hide_a_layer():
    def run(self, x):
        self.add_loss(ops.mean(x))
        return ops.where(x == 0, 1.0, ops.exp(x))

    trace = traced(run, X)
    assert [step.step.words for step in trace.steps] == ["mean over all axes", "equal", "exp", "where"]


def test_a_layer_that_gives_its_input_is_no_step():
    trace = models.trace_steps(keras.Sequential([L.Identity(), L.ReLU(name="r"), L.GaussianNoise(0.1)]), [normal(X)])
    assert [(step.path, step.reads) for step in trace.steps] == [("r", (0,))]


def test_the_same_layer_twice_has_one_path():
    layer = L.Dense(6, activation="relu", name="dense")
    trace = traced(lambda self, x: self.layer(self.layer(x)), X, layer=layer)
    assert [step.path for step in trace.steps] == ["dense", "dense/relu_0"] * 2
    assert [step.reads for step in trace.steps] == [(0,), (1,), (2,), (3,)]


def test_a_model_that_is_one_layer_has_the_path_of_its_part():
    layer = L.Conv2D(3, 2, name="alone")
    layer(normal(X))
    (step,) = models.trace_steps(layer, [normal(X)]).steps
    assert step.path == models.parts(layer)[0].path == "alone"


def test_inputs_by_name_and_nested_results():
    def run(_, x):
        return [{"b": x["b"] - x["a"], "a": (x["a"], ops.ones((2,)))}]

    trace = models.trace_steps(Called(run), {"b": normal(X), "a": normal(X, 1)})
    assert_replays(trace)
    assert [(step.step, step.reads) for step in trace.steps] == [(S.Subtract(), (0, 1)), (S.Parameter((2,)), ())]
    assert trace.outputs == (1, 3, 2)


def test_half_precision_is_kept_as_float32():
    model = keras.Sequential([L.Dense(3, dtype="mixed_bfloat16", name="half"), L.ReLU(dtype="bfloat16")])
    trace = models.trace_steps(model, [normal(X)])
    assert [step.step for step in trace.steps] == [S.Other("cast to bfloat16"), S.Linear(6, 3), S.ReLU()]
    assert {t.dtype for t in trace.tensors} == {np.dtype("float32")}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone compiles a layer's code")
def test_functions_that_tensorflow_compiles_are_seen_through():
    import tensorflow as tf

    class Compiled(L.Layer):
        @tf.function
        def call(self, x):
            return ops.tanh(x) * 2

    compiled = tf.function(lambda x: ops.relu(x) + 1)
    trace = traced(lambda self, x: self.layer(compiled(x)), X, layer=Compiled(name="layer"))
    assert [step.step for step in trace.steps] == [S.ReLU(), S.Add(1), S.Tanh(), S.Multiply(2)]
    assert trace.steps[-1].path == "layer/multiply_0"


def test_a_grouped_convolution_computes_as_it_does_in_the_model():
    model = randomised(keras.Sequential([keras.Input((24, 24, 96)), L.Conv2D(96, 7, padding="same", groups=96)]))
    x = normal((1, 24, 24, 96))
    trace, plain = models.trace_steps(model, [x]), models.trace_model(model, [x])
    assert_replays(trace)
    assert same(trace.tensors[1], plain.outputs[0])


def test_paths_of_layers_with_two_convolutions_are_those_of_the_parts():
    model = keras.Sequential([keras.Input(X[1:]), L.SeparableConv2D(5, 3, name="s", activation="relu")])
    trace = models.trace_steps(model, [normal(X)])
    assert [step.path for step in trace.steps] == [part.path for part in models.parts(model)] + ["s/relu_0"]

"""Traces of every step of nnx and linen models: the laws of the data flow, and the settings of layers and functions."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convspec_flax import model as models
from convspec_flax.linen import model as linen_models
from flax import linen, nnx

from convspec import ConvSpec
from convspec.errors import RequestError
from convspec.spec import steps as S
from tests.adapters.flax import test_steps as tables
from tests.adapters.flax.step_networks import LINEN, NNX, ResNet, WaveNet
from tests.adapters.step_traces import assert_replays, flow, same
from tests.adapters.steps import normal
from tests.adapters.suite import to_layout
from tests.networks.jax_weights import draw_weights, linen_variables, nnx_model

pytestmark = pytest.mark.flax


def drawn(inputs):
    return [normal(x, i) if isinstance(x, tuple) else np.asarray(x) for i, x in enumerate(inputs)]


def network(name):
    kind, inputs, others = NNX[name]
    return nnx_model(lambda rngs: kind(rngs=rngs)), drawn(inputs), others


class Called(nnx.Module):
    """A function as a model."""

    def __init__(self, function, **parts):
        self.function = nnx.static(function)
        for name, part in parts.items():
            setattr(self, name, part)

    def __call__(self, *args):
        return self.function(self, *args)


def traced(function, *inputs, **parts):
    return models.trace_steps(Called(function, **parts), [normal(x) if isinstance(x, tuple) else x for x in inputs])


# -- laws --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NNX)
def test_the_reference_replays_a_network(name):
    model, inputs, others = network(name)
    trace = models.trace_steps(model, inputs)
    assert_replays(trace, others)
    plain = models.trace_model(model, inputs).outputs
    assert len(plain) == len(trace.outputs)
    assert all(same(trace.tensors[i], y) for i, y in zip(trace.outputs, plain, strict=True))
    used = {path for step in trace.steps for paths in step.sources.values() for path in paths}
    assert used == set(trace.parameters)


@pytest.mark.parametrize("name", LINEN)
def test_the_reference_replays_a_network_of_linen(name):
    kind, inputs, others = LINEN[name]
    inputs, module = drawn(inputs), kind()
    model = (module, linen_variables(module, *inputs))
    trace = linen_models.trace_steps(model, inputs)
    assert_replays(trace, others)
    plain = jax.tree.leaves(module.apply(model[1], *inputs))
    assert all(same(trace.tensors[i], y) for i, y in zip(trace.outputs, plain, strict=True))
    used = {path for step in trace.steps for paths in step.sources.values() for path in paths}
    assert used == set(trace.parameters)
    parts = {part.path for part in linen_models.parts(model, inputs)}
    assert parts <= {step.path for step in trace.steps}


@pytest.mark.parametrize("name", NNX)
def test_layers_have_the_paths_of_the_parts(name):
    model, inputs, _ = network(name)
    parts = {part.path for part in models.parts(model)}
    calls = [call.path for call in models.trace_model(model, inputs).calls]
    assert [step.path for step in models.trace_steps(model, inputs).steps if step.path in parts] == calls


def test_what_reads_what():
    model, inputs, _ = network("branches")
    found = flow(models.trace_steps(model, inputs))
    assert [(path, reads) for path, kind, reads in found if kind == "ConvSpec"] == [
        ("branches/0", ["input0"]), ("branches/1", ["input0"]), ("pooled", ["slice_0"]), ("head", ["concatenate_0"]),
        ("up", ["head"]), ("head", ["pad_0"]),
    ]  # fmt: skip
    assert ("concatenate_0", "Concat", ["elu_0", "elu_1", "resize_0"]) in found


def test_a_block_that_is_called_again_and_compiled_has_its_path_again():
    model, inputs, _ = network("resnet")
    trace = models.trace_steps(model, inputs)
    paths = [step.path for step in trace.steps]
    assert paths.count("blocks/0/first") == 2
    assert paths.count("blocks/0/act") == 2
    assert [step.name for step in trace.steps if step.path == "blocks/0/act"] == ["Swish", "Swish"]
    assert [step.path for step in models.trace_steps(model, inputs).steps] == paths


def test_a_layer_without_effect_is_a_step_that_nothing_reads():
    model, inputs, _ = network("wavenet")
    trace = models.trace_steps(model, inputs)
    read = {number for step in trace.steps for number in step.reads} | set(trace.outputs)
    assert [step.path for step in trace.steps if not set(step.writes) & read] == ["mul_3"]  # after residual/1


def test_the_model_is_as_it_was():
    model = nnx_model(WaveNet)
    before = {path: type(module) for path, module in nnx.iter_modules(model)}
    models.trace_steps(model, [normal((1, 12, 2))])
    assert {path: type(module) for path, module in nnx.iter_modules(model)} == before
    assert not any("convspec" in name for _, module in nnx.iter_modules(model) for name in vars(module))


# -- settings ----------------------------------------------------------------------------------------------------------

# what the operation says where the step of the reference's table says the same in another way
CHANNELS = {"mean": S.Reduce("mean", (1, 2)), "max-reduced": S.Reduce("max", (1, 2)), "softmax": S.Softmax(3),
            "log-softmax": S.Softmax(3, log=True), "glu": S.GLU(3), "flatten": S.Flatten(),
            "max-same": S.MaxPool((3, 2), (2, 3), ((1, 1), (0, 0))),
            "average-same": S.AveragePool(3, 2, ((1, 1), (0, 1)), count_include_pad=True),
            "average-inside": S.AveragePool(3, 2, ((1, 1), (0, 1))),
            **{mode: S.Pad([(1, 4), (3, 2), (0, 0)], word) for mode, word in
               (("reflect", "reflect"), ("symmetric", "symmetric"), ("edge", "replicate"), ("wrap", "circular"),
                ("constant", "constant"))},
            "slice": S.Slice([(None, None, 1), (None, None, 3), (1, 7, 1), (1, 5, 2)])}  # fmt: skip
COMPOSED = ("standardize",)


@pytest.mark.parametrize("name", [name for name in tables.TABLE if name not in COMPOSED])
def test_the_settings_of_a_step_without_arrays(name):
    function, step, *shape = tables.TABLE[name]
    x = to_layout(normal(shape[0] if shape else tables.X, scale=3.0), "NHWC")
    layer = {"layer": function} if isinstance(function, nnx.Module) else {}
    trace = models.trace_steps(Called(lambda self, x: (self.layer if layer else function)(x), **layer), [x])
    assert_replays(trace)
    assert [one.step for one in trace.steps] == [CHANNELS.get(name, step)]
    assert not trace.steps[0].note


LAST = {"linear": S.Linear(6, 5), "batch": S.BatchNorm(6, axis=-1),
        "batch-fresh": S.BatchNorm(6, axis=-1),  # the model is run in evaluation mode
        "group": S.GroupNorm(6, 3, axis=-1, epsilon=1e-6, fast_variance=True),
        "instance": S.InstanceNorm(6, axis=-1, epsilon=1e-6, fast_variance=True),
        "layer": S.LayerNorm(6, -1, epsilon=1e-6, fast_variance=True), "layer-slow": S.LayerNorm(6, -1, epsilon=1e-6),
        "layer-image": S.LayerNorm(6, (1, 2, 3), (-1,), epsilon=1e-6, fast_variance=True),
        "rms": S.RMSNorm(6, -1, epsilon=1e-6)}  # fmt: skip


@pytest.mark.parametrize("name", tables.LAYERS)
def test_the_settings_and_arrays_of_a_layer(name):
    layer, step = tables.LAYERS[name]
    nnx.update(layer, draw_weights(nnx.state(layer, nnx.Any(nnx.Param, nnx.BatchStat))))
    trace = models.trace_steps(
        Called(lambda self, x: self.layer(x), layer=layer), [to_layout(normal(tables.X), "NHWC")]
    )
    assert_replays(trace)
    (found,) = trace.steps
    assert (found.path, found.step, found.name) == ("layer", LAST.get(name, step), type(layer).__name__)
    for array, values in found.arrays.items():
        own = tables.NAMES.get(array, array)
        assert same(values, np.asarray(getattr(layer, own).get_value()).T.reshape(values.shape))
        assert found.sources[array] == (f"layer/{own}",)


X = (2, 6, 4, 8)
W, Q = jnp.asarray(normal((8, 5))), jnp.asarray(normal((8, 2, 3)))
ALL = (None, None, 1)  # a whole axis
CALLS = {
    "sum pool": (lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 1, 2, 3), (1, 1, 1, 2), "VALID"),
                 [S.AveragePool((2, 3), (1, 2), divisor=1)]),
    "dilated pool": (lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID",
                                                     window_dilation=(1, 3, 1, 1)), [S.MaxPool(2, 1, dilation=(3, 1))]),
    "resize of rows": (lambda x: jax.image.resize(x, (2, 6, 9, 8), "cubic"),
                       [S.Resize((6, 9), mode="cubic", cubic_coefficient=-0.5, antialias=True, exclude_outside=True)]),
    "resize of columns": (lambda x: jax.image.resize(x, (2, 6, 4, 3), "nearest"), [S.Resize((4, 3))]),
    "crop": (lambda x: jax.lax.pad(x, 2.0, ((0, 0, 0), (0, 0, 0), (-1, 2, 0), (1, -3, 0))),
             [S.Pad([(-1, 2), (1, -3)], value=2)]),
    "slice": (lambda x: x[:, :, :-2, ::2], [S.Slice([ALL, ALL, (None, 2, 1), (None, None, 2)])]),
    "position": (lambda x: x[:, -1], [S.Slice([ALL, (5, None, 1)]), S.Squeeze(1)]),
    "traced position": (lambda x: jax.lax.dynamic_index_in_dim(x, jnp.int32(2), 1),
                        [S.Slice([ALL, (2, 3, 1)])]),
    "new axis": (lambda x: x[:, None, ..., None], [S.Unsqueeze((1, 5))]),
    "reshape": (lambda x: x.reshape(2, 3, 2, 32), [S.Reshape((2, 3, 2, 32))]),
    "flatten": (lambda x: x.reshape(2, 6, -1), [S.Flatten(2)]),
    "flatten middle": (lambda x: x.reshape(2, -1, 8), [S.Flatten(1, 2)]),
    "flatten all": (jnp.ravel, [S.Flatten(0)]),
    "moveaxis": (lambda x: jnp.moveaxis(x, 1, -1), [S.Permute((0, 2, 3, 1))]),
    "flip": (lambda x: x[:, ::-1], [S.Slice([ALL, (None, None, -1)])]),
    "roll": (lambda x: jnp.roll(x, 1, 2),
             [S.Slice([ALL, ALL, (3, None, 1)]), S.Slice([ALL, ALL, (None, 3, 1)]), S.Concat(2)]),
    "repeat": (lambda x: jnp.repeat(x, 2, axis=1), [S.Unsqueeze(2), S.Expand((2, 6, 2, 4, 8)), S.Flatten(1, 2)]),
    "tile": (lambda x: jnp.tile(x, (1, 2, 1, 1)), [S.Concat(1)]),
    "broadcast": (lambda x: jnp.broadcast_to(x[:, :1], X), [S.Slice([ALL, (None, 1, 1)]), S.Expand(X)]),
    "split": (lambda x: jnp.split(x, [1, 3], axis=1), [S.Split((1, 2, 3), 1)]),
    "stack": (lambda x: jnp.stack([x, x], 1), [S.Unsqueeze(1), S.Unsqueeze(1), S.Concat(1)]),
    "squeeze": (lambda x: jnp.squeeze(x[:, :1], 1), [S.Slice([ALL, (None, 1, 1)]), S.Squeeze(1)]),
    "mean with axes kept": (lambda x: jnp.mean(x, (1, 2), keepdims=True), [S.Reduce("mean", (1, 2), keepdims=True)]),
    "mean of all": (jnp.mean, [S.Reduce("mean", (0, 1, 2, 3))]),
    "sum": (lambda x: jnp.sum(x, 1), [S.Reduce("sum", (1,))]),
    "another mean": (lambda x: jnp.sum(x, 1) / 5, [S.Reduce("sum", (1,)), S.Divide(5)]),
    "max of two": (lambda x: jnp.maximum(x, -x), [S.Pointwise("negative"), S.Maximum()]),
    "add": (lambda x: x + 2, [S.Add(2)]),
    "reversed": (lambda x: 1 - 2 / x, [S.Divide(2, reflected=True), S.Subtract(1, reflected=True)]),
    "a row": (lambda x: x * x[:, :1, :1], [S.Slice([ALL, (None, 1, 1), (None, 1, 1)]), S.Multiply()]),
    "a vector": (lambda x: x * x[0, 0, 0], [S.Slice([(None, 1, 1)] * 3), S.Squeeze((0, 1, 2)), S.Multiply()]),
    "a number": (lambda x: x * x.max(), [S.Reduce("max", (0, 1, 2, 3)), S.Multiply()]),
    "maximum with 0": (lambda x: jnp.maximum(x, 0), [S.Maximum(0)]),
    "square": (jnp.square, [S.Pointwise("square")]),
    "root": (lambda x: (x + 9) ** 0.25, [S.Add(9), S.Power(0.25)]),
    "clip": (lambda x: jnp.clip(x, -1, 2), [S.Clip(-1, 2)]),
    "clip below": (lambda x: jnp.clip(x, max=0.5), [S.Clip(None, 0.5)]),
    "elu": (lambda x: nnx.elu(x, 0.3), [S.ELU(0.3)]),
    "celu": (lambda x: nnx.celu(x, 0.3), [S.CELU(0.3)]),
    "squareplus": (lambda x: jax.nn.squareplus(x, 2.0), [S.Squareplus(2)]),
    "softmax": (lambda x: nnx.softmax(x, 1), [S.Softmax(1)]),
    "an own softmax": (lambda x: jnp.exp(x) / jnp.exp(x).sum(1, keepdims=True),
                       [S.Pointwise("exp"), S.Pointwise("exp"), S.Reduce("sum", (1,)), S.Unsqueeze(1), S.Divide()]),
    "matrix": (lambda x: x @ W, [S.Linear(8, 5, bias=False)]),
    "a matrix first": (lambda x: jnp.einsum("oc,nhcw->onhw", W[:4], x[..., :5, :].swapaxes(2, 3)[..., :5, :4]), None),
    "along an axis": (lambda x: jnp.einsum("nchw,cd->ndhw", x, W[:6]), None),
    "heads": (lambda x: jnp.einsum("nchw,wab->nchab", x, Q), [S.Linear(8, 6, bias=False), S.Reshape((2, 6, 4, 2, 3))]),
    "heads joined": (lambda x: jnp.einsum("nhab,abo->nho", x[..., :2, :3], Q.transpose(1, 2, 0)), None),
    "product of two": (lambda x: x @ x.swapaxes(2, 3), [S.Permute((0, 1, 3, 2)), S.MatMul()]),
    "attention": (lambda x: jnp.einsum("bthd,bshd->bhts", x, x),
                  [S.Permute((0, 2, 1, 3)), S.Permute((0, 2, 3, 1)), S.MatMul()]),
    "a leaky relu": (lambda x: jnp.where(x > 0, x, 0.25 * x), [S.LeakyReLU(0.25)]),
    "a leaky relu from below": (lambda x: jnp.where(x <= 0, x * 0.25, x), [S.LeakyReLU(0.25)]),
    "a prelu": (lambda x: jnp.where(jnp.less_equal(0, x), x, W[:, 0] * x), [S.PReLU((1, 1, 8))]),
    "a prelu of rows": (lambda x: jnp.where(x < 0, W[:6, :1, None] * x, x), [S.PReLU((6, 1, 1))]),
    "a scale": (lambda x: W[:, 0] * x, [S.Parameter((8,)), S.Multiply()]),
    "no step": (lambda x: jax.lax.stop_gradient(jnp.asarray(x, jnp.float32)) * 1.5, [S.Multiply(1.5)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_settings_of_a_call(name):
    function, expected = CALLS[name]
    trace = traced(lambda _, x: function(x), X)
    assert_replays(trace)
    if expected is not None:
        assert [step.step for step in trace.steps] == expected
    else:
        assert any(isinstance(step.step, S.Linear) for step in trace.steps)


WITHOUT = {
    "cumsum": (lambda x: jnp.cumsum(x, 1), "cumsum", ""),
    "mask": (lambda x: jnp.where(x > 0, x, 0), "select_n", "a choice by a tensor"),
    "leaky above one": (lambda x: jnp.where(x > 1, x, 0.2 * x), "select_n", "a choice by a tensor"),
    "another's sign": (lambda x: jnp.where(-x > 0, x, 0.2 * x), "select_n", "a choice by a tensor"),
    "a slope by the data": (lambda x: jnp.where(x > 0, x, x[:1] * x), "select_n", "a choice between tensors"),
    "zeros between": (lambda x: jax.lax.pad(x, 0.0, ((0, 0, 0),) * 3 + ((0, 0, 1),)), "pad", "zeros between elements"),
    "pool of channels": (lambda x: nnx.max_pool(x.swapaxes(1, 3), (2, 2))[..., 0] * 0 + jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 2, 2, 2), (1, 1, 1, 1), "SAME")[0, 0, 0, 0], "reduce_window_max",
        "not over the spatial axes of images"),
    "cast": (lambda x: x.astype(jnp.float16), "convert_element_type", ""),
    "scan": (lambda x: jax.lax.scan(lambda c, y: (c + y, c), x[0], x)[0], "scan", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT)
def test_a_call_without_a_word_is_listed_with_the_reason(name):
    function, kind, note = WITHOUT[name]
    found = [step for step in traced(lambda _, x: function(x), X).steps if isinstance(step.step, S.Other)]
    assert (kind, note) in [(step.step.name, step.note) for step in found]


def test_a_function_of_the_users_with_the_name_of_another_is_seen_through():
    @jax.jit
    def relu(x):
        return jnp.abs(x) * 2

    trace = traced(lambda _, x: relu(x), X)
    assert_replays(trace)
    assert [step.step for step in trace.steps] == [S.Pointwise("abs"), S.Multiply(2)]


# -- layers ------------------------------------------------------------------------------------------------------------

RNGS = nnx.Rngs(0)
CONVOLUTIONS = {
    "same": (nnx.Conv(8, 4, (3, 2), strides=2, rngs=RNGS), ConvSpec(8, 4, (3, 2), 2, "same")),
    "reflect": (nnx.Conv(8, 4, (3, 3), padding="REFLECT", rngs=RNGS),
                ConvSpec(8, 4, 3, padding="same", padding_mode="reflect")),
    "grouped and transposed": (nnx.Conv(8, 4, (3, 3), padding=1, input_dilation=2, feature_group_count=2, rngs=RNGS),
                               ConvSpec(8, 4, 3, 2, 1, groups=2, transposed=True)),
    "transposed": (nnx.ConvTranspose(8, 4, (3, 3), strides=2, transpose_kernel=True, rngs=RNGS),
                   ConvSpec(8, 4, 3, 2, "same", transposed=True)),
    "masked": (nnx.Conv(8, 4, (1, 1), mask=jnp.ones((1, 1, 8, 4)).at[0, 0, 0].set(0), rngs=RNGS), ConvSpec(8, 4, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution(name):
    layer, spec = CONVOLUTIONS[name]
    trace = traced(lambda self, x: self.layer(x), X, layer=layer)
    assert_replays(trace)
    (step,) = trace.steps
    assert (step.path, step.step, step.layout) == ("layer", models.parts(layer)[0].reading.spec, "NHWC")
    assert step.step.explicit((2, 8, 6, 4)) == spec.explicit((2, 8, 6, 4))


def test_a_convolution_with_other_batch_axes():
    trace = traced(
        lambda self, x: self.layer(x[0])[None] + self.layer(x[None])[0], X, layer=nnx.Conv(8, 4, (3, 3), rngs=RNGS)
    )
    assert_replays(trace)
    assert [step.path for step in trace.steps if "layer" in step.path] == [
        "layer/reshape_0", "layer", "layer/reshape_1", "layer/reshape_0", "layer", "layer/reshape_1",
    ]  # fmt: skip


FUNCTIONS = {
    "lax": (lambda x: jax.lax.conv_general_dilated(x, K, (2, 1), "SAME", (1, 1), (1, 2), ("NHWC", "OIHW", "NHWC")),
            ConvSpec(8, 4, 3, (2, 1), ((0, 1), (2, 2)), (1, 2), bias=False)),
    "channels first": (lambda x: jax.lax.conv(x, K[:, :6], (1, 1), "VALID"), ConvSpec(6, 4, 3, bias=False)),
    "transposed": (lambda x: jax.lax.conv_transpose(x, K.transpose(2, 3, 1, 0), (2, 2), "VALID"),
                   ConvSpec(8, 4, 3, 2, bias=False, transposed=True)),
}  # fmt: skip
K = jnp.asarray(normal((4, 8, 3, 3)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_convolution_that_is_called_as_a_function(name):
    function, spec = FUNCTIONS[name]
    trace = traced(lambda _, x: function(x), X)
    assert_replays(trace)
    assert [step.step for step in trace.steps] == [spec]


def test_a_kernel_that_is_computed_from_the_data_is_read():
    trace = traced(lambda _, x: jax.lax.conv_general_dilated(x, x[0, :3, :3, :, None], (1, 1), "SAME",
                                                            dimension_numbers=("NHWC", "HWIO", "NHWC")), X)  # fmt: skip
    assert trace.steps[-1].reads[0] == 0
    assert len(trace.steps[-1].reads) == 2
    assert "computed from the data" in trace.steps[-1].note


def test_a_subclass_with_a_call_of_its_own_is_seen_through():
    class Standardised(nnx.Conv):
        def __call__(self, x):
            return super().__call__(x) * 2

    trace = traced(lambda self, x: self.layer(x), X, layer=Standardised(8, 4, (1, 1), rngs=RNGS))
    assert_replays(trace)
    assert {type(step.step).__name__ for step in trace.steps} >= {"ConvSpec", "Multiply"}


def test_several_layers_in_one_are_one_step_without_a_word():
    class Stacked(nnx.Module):
        def __init__(self):
            self.layers = nnx.vmap(lambda key: nnx.Linear(8, 8, rngs=nnx.Rngs(key)))(
                jax.random.split(jax.random.key(0), 3)
            )

        def __call__(self, x):
            return nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(self.layers, x)

    (step,) = models.trace_steps(Stacked(), [normal((2, 8))]).steps
    assert (step.path, step.step, step.note) == ("layers", S.Other("Linear"), "several layers at once")


def test_a_layer_under_vmap_has_its_own_axes():
    trace = traced(lambda self, x: jax.vmap(self.norm, 1, 1)(x), X, norm=nnx.LayerNorm(8, rngs=RNGS))
    assert_replays(trace)
    assert [type(step.step).__name__ for step in trace.steps] == ["Permute", "LayerNorm", "Permute"]


def test_batch_statistics_and_active_dropout():
    trace = traced(lambda self, x: self.norm(x, use_running_average=False), X, norm=nnx.BatchNorm(8, rngs=RNGS))
    assert_replays(trace)
    assert trace.steps[0].step == S.BatchNorm(8, axis=-1, batch_statistics=True, fast_variance=True)
    trace = traced(lambda self, x: self.drop(x, deterministic=False), X, drop=nnx.Dropout(0.3, rngs=nnx.Rngs(0)))
    assert [(step.path, step.step) for step in trace.steps] == [("drop", S.Dropout(0.3, training=True))]


# -- parameters and results --------------------------------------------------------------------------------------------


def test_a_constant_result_and_a_computed_parameter():
    def run(self, x):
        return x * (self.scale * 2 + jnp.arange(8.0)), self.scale[...]

    trace = traced(run, X, scale=nnx.Param(jnp.ones(1)))
    assert_replays(trace)
    made, multiplied, alone = trace.steps
    assert (made.step, made.sources) == (S.Parameter((8,)), {"value": ("scale",)})
    assert (multiplied.reads, alone.path) == ((0, 1), "scale")


def test_a_layer_that_no_input_reaches_is_a_step():
    trace = traced(lambda self, x: x + self.layer(self.query[...]), X, layer=nnx.Linear(3, 8, rngs=RNGS),
                   query=nnx.Param(jnp.ones(3)))  # fmt: skip
    assert_replays(trace)
    assert [(step.path, step.reads) for step in trace.steps] == [("query", ()), ("layer", (1,)), ("add_0", (0, 2))]


def test_random_numbers_are_told():
    (noise, _) = traced(lambda _, x: x + jax.random.normal(jax.random.key(0), x.shape), X).steps
    assert noise.note == "drawn at random"


def test_a_model_that_is_one_layer_and_one_that_gives_its_input():
    (step,) = models.trace_steps(nnx.Linear(8, 3, rngs=RNGS), [normal(X)]).steps
    assert (step.path, step.name) == ("", "Linear")
    assert models.trace_steps(Called(lambda _, x: x), [normal(X)]).outputs == (0,)


def test_half_precision_and_inputs_by_name():
    model = nnx.Sequential(nnx.Linear(8, 3, param_dtype=jnp.bfloat16, rngs=RNGS), nnx.relu)
    assert {t.dtype for t in models.trace_steps(model, [normal(X)]).tensors} == {np.dtype("float32")}

    class Named(nnx.Module):
        def __call__(self, a, b):
            return b / a

    trace = models.trace_steps(Named(), {"a": normal(X), "b": normal(X, 1)})
    assert [step.reads for step in trace.steps] == [(1, 0)]


def test_a_model_that_branches_on_values_is_refused():
    with pytest.raises(RequestError, match="Flax model does not take these inputs"):
        traced(lambda _, x: x if x.sum() > 0 else -x, X)


def test_linen_shares_paths_with_its_parts():
    module = linen.Sequential([linen.Conv(4, (3, 3)), linen.relu, linen.Dense(3)])
    variables = linen_variables(module, jnp.ones(X))
    trace = linen_models.trace_steps((module, variables), [normal(X)])
    assert [step.path for step in trace.steps] == ["layers_0", "relu_0", "layers_2"]
    bound = linen_models.trace_steps(module.bind(variables), [normal(X)])
    assert [step.step for step in bound.steps] == [step.step for step in trace.steps]


def test_the_network_of_the_cost_is_traced():
    assert len(models.trace_steps(nnx_model(partial(ResNet, width=8)), [normal((1, 16, 16, 3))]).steps) > 20

"""Traces of every step of Equinox models: the laws of the data flow, the settings of layers, and axes under vmap."""

from __future__ import annotations

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convspec_equinox import model as models

from convspec import ConvSpec
from convspec.errors import RequestError, UnsupportedError
from convspec.spec import steps as S
from tests.adapters.equinox.step_networks import KEY, NETWORKS, nn
from tests.adapters.step_traces import assert_replays, flow
from tests.adapters.steps import normal
from tests.networks.equinox_models import drawn

pytestmark = [pytest.mark.equinox, pytest.mark.filterwarnings("ignore:When `eqx.nn.BatchNorm")]


def network(name):
    """Return a model – with its state, where it has one – of random numbers, its inputs, and what has no word."""
    kind, inputs, others = NETWORKS[name]
    model, state = drawn(kind)
    given = [normal(x, i) if isinstance(x, tuple) else np.asarray(x) for i, x in enumerate(inputs)]
    return (model, state) if jax.tree.leaves(state) else model, given, others


def run_by_vmap(model, inputs):
    """Return the results of a model as its users run it on a batch."""
    module, state = model if isinstance(model, tuple) else (model, None)
    words = {"key": KEY} if "key" in inspect.signature(module).parameters else {}

    @eqx.filter_jit
    def run(module, state, inputs):
        def sample(*args):
            return module(*args, **words) if state is None else module(*args, state, **words)[0]

        return jax.vmap(sample)(*inputs)

    return jax.tree.leaves(run(eqx.nn.inference_mode(module), state, list(map(jnp.asarray, inputs))))


class Called(eqx.Module):
    """A function of one sample as a model."""

    function: object = eqx.field(static=True)
    layer: object = None

    def __call__(self, *args):
        return self.function(self, *args)


def traced(function, *inputs, layer=None):
    return models.trace_steps(Called(function, layer), [normal(x) if isinstance(x, tuple) else x for x in inputs])


# -- laws --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_replays_a_network(name):
    model, inputs, others = network(name)
    trace = models.trace_steps(model, inputs)
    assert_replays(trace, others)
    plain, traced = run_by_vmap(model, inputs), models.trace_model(model, inputs)
    assert len(plain) == len(trace.outputs) == len(traced.outputs)
    for i, y in zip(trace.outputs, plain, strict=True):  # vmap orders axes in another way: sums may differ
        np.testing.assert_allclose(trace.tensors[i], y, rtol=1e-5, atol=1e-5 * np.abs(y).max())
    used = {path for step in trace.steps for paths in step.sources.values() for path in paths}
    assert used == set(trace.parameters)
    parts = {part.path for part in models.parts(model)}
    assert {call.path for call in traced.calls} == parts


def test_what_reads_what():
    model, inputs, _ = network("branches")
    found = flow(models.trace_steps(model, inputs))
    assert [(path, reads) for path, kind, reads in found if kind == "ConvSpec"] == [
        ("branches[0]", ["input0"]), ("branches[1]", ["input0"]), ("pooled.layers[1]", ["pooled.layers[0]"]),
        ("head", ["concatenate_0"]), ("up", ["head"]), ("head", ["pad_0"]),
    ]  # fmt: skip
    assert ("concatenate_0", "Concat", ["elu_0", "elu_1", "resize_0"]) in found


def test_the_model_and_its_state_are_as_they_were():
    (model, state), inputs, _ = network("resnet")
    before = jax.tree.leaves((model, state))
    models.trace_steps((model, state), inputs)
    assert all(a is b for a, b in zip(before, jax.tree.leaves((model, state)), strict=True))
    assert not model.drop.inference
    trace = models.trace_steps((model, state), inputs)
    assert [step.path for step in trace.steps if isinstance(step.step, S.BatchNorm)] == [
        "blocks[0].norm1", "blocks[1].norm1", "blocks[0].norm1"
    ]  # fmt: skip


# -- layers ------------------------------------------------------------------------------------------------------------

X = (2, 6, 4, 8)
LAYERS = {
    "conv": (nn.Conv2d(6, 4, (3, 2), 2, (1, 0), use_bias=False, key=KEY),
             ConvSpec(6, 4, (3, 2), 2, (1, 0), bias=False)),
    "reflect": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="REFLECT", key=KEY),
                ConvSpec(6, 4, 3, padding=1, padding_mode="reflect")),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, groups=2, key=KEY),
                   ConvSpec(6, 4, 3, 2, 1, output_padding=1, groups=2, transposed=True)),
    "group": (nn.GroupNorm(3, 6), S.GroupNorm(6, 3)),
    "group without weights": (nn.GroupNorm(3, channelwise_affine=False), S.GroupNorm(6, 3, scale=False, bias=False)),
    "layer": (nn.LayerNorm(X[1:], use_bias=False), S.LayerNorm(X[1:], (-3, -2, -1), bias=False)),
    "rms": (nn.RMSNorm(X[1:], use_bias=False, eps=0.1), S.RMSNorm(X[1:], (-3, -2, -1), epsilon=0.1)),
    "max": (nn.MaxPool2d((3, 2), 2, ((1, 0), (0, 1))), S.MaxPool((3, 2), 2, ((1, 0), (0, 1)))),
    "max, rounded up": (nn.MaxPool2d(3, 2, use_ceil=True), S.MaxPool(3, 2, ceil_mode=True)),
    "average": (nn.AvgPool2d(3, 2, 1), S.AveragePool(3, 2, 1, divisor=9)),
    "adaptive": (nn.AdaptiveMaxPool2d((3, 5)), S.AdaptivePool((3, 5), "max", "disjoint")),
    "prelu": (nn.PReLU(), S.PReLU()),
    "prelu of channels": (nn.PReLU(jnp.linspace(0.1, 1, 6)[:, None, None]), S.PReLU(6)),
    "dropout": (nn.Dropout(0.3), S.Dropout(0.3)),
    "function": (nn.Lambda(jax.nn.mish), S.Mish()),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_the_settings_and_arrays_of_a_layer(name):
    layer, step = LAYERS[name]
    trace = traced(lambda self, x: self.layer(x), X, layer=layer)
    assert_replays(trace)
    (found,) = trace.steps
    assert (found.path, found.step, found.name) == ("layer", step, type(layer).__name__)
    assert {path for paths in found.sources.values() for path in paths} == set(trace.parameters)


def test_a_model_that_is_one_layer():
    (step,) = models.trace_steps(nn.Linear(5, 3, key=KEY), [normal((2, 5))]).steps
    assert (step.path, step.step) == ("", S.Linear(5, 3))


def test_a_linear_layer_of_every_pixel():
    trace = traced(lambda self, x: jax.vmap(jax.vmap(self.layer, 1, 1), 2, 2)(x), X, layer=nn.Linear(6, 5, key=KEY))
    assert_replays(trace)
    assert {(step.path, type(step.step)) for step in trace.steps if step.arrays} == {("layer", S.Linear)}
    assert {type(step.step) for step in trace.steps} == {S.Linear, S.Permute}


def test_a_convolution_of_several_frames():
    trace = traced(lambda self, x: jax.vmap(self.layer)(x), (2, 3, 6, 5, 4), layer=nn.Conv2d(6, 4, 3, key=KEY))
    assert_replays(trace)
    assert [step.path for step in trace.steps] == ["layer.reshape_0", "layer", "layer.reshape_1"]


def test_several_layers_in_one_are_one_step_without_a_word():
    layers = eqx.filter_vmap(lambda key: nn.Linear(8, 8, key=key))(jax.random.split(KEY, 3))
    trace = traced(
        lambda self, x: eqx.filter_vmap(lambda layer, x: layer(x), in_axes=(0, None))(self.layer, x),
        (2, 8),
        layer=layers,
    )
    (step,) = trace.steps
    assert (step.path, step.step, step.note) == ("layer", S.Other("Linear"), "several layers at once")


def test_a_pool_of_another_operation_is_named():
    trace = traced(lambda self, x: self.layer(x), X, layer=nn.AdaptivePool(2, 2, jnp.min))
    assert [(step.step.name, step.note) for step in trace.steps] == [
        ("AdaptivePool", "of another operation than the mean or the maximum")
    ]


def test_a_subclass_with_a_call_of_its_own_is_seen_through():
    class Doubled(nn.Linear):
        def __call__(self, x):
            return super().__call__(x) * 2

    trace = traced(lambda self, x: self.layer(x), (2, 6), layer=Doubled(6, 5, key=KEY))
    assert_replays(trace)
    assert {type(step.step).__name__ for step in trace.steps} >= {"Linear", "Multiply"}


# -- operations on the samples of a batch ------------------------------------------------------------------------------

W, Q = jnp.asarray(normal((5, 6))), jnp.asarray(normal((8, 2, 3)))
ALL = (None, None, 1)
CALLS = {
    "softmax": (lambda x: jax.nn.softmax(x, 0), [S.Softmax(1)]),
    "glu": (lambda x: jax.nn.glu(x, 0), [S.GLU(1)]),
    "mean": (lambda x: x.mean((1, 2)), [S.Reduce("mean", (2, 3))]),
    "mean with axes kept": (lambda x: x.mean((1, 2), keepdims=True), [S.Reduce("mean", (2, 3), keepdims=True)]),
    "resize": (lambda x: jax.image.resize(x, (6, 8, 16), "nearest"), [S.Resize((8, 16))]),
    "pool": (lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2), (1, 2, 2), "VALID"), [S.MaxPool(2)]),
    "layer of a pool": (eqx.nn.MaxPool2d(2, 2), [
        S.Permute((0, 2, 3, 1)), S.Unsqueeze(1), S.Reshape((2, 4, 8, 6)), S.MaxPool(2), S.Reshape((2, 1, 2, 4, 6)),
        S.Squeeze(1), S.Permute((0, 3, 1, 2))]),
    "layer of an average": (eqx.nn.AvgPool2d(2, 1, 1), None),
    "pad": (lambda x: jnp.pad(x, ((0, 0), (1, 2), (3, 0)), mode="edge"),
            [S.Pad([(0, 0), (1, 2), (3, 0)], "replicate")]),
    "slice": (lambda x: x[1:, ::-1], [S.Slice([ALL, (1, None, 1)]), S.Slice([ALL, ALL, (None, None, -1)])]),
    "position": (lambda x: x[-1], [S.Slice([ALL, (5, None, 1)]), S.Squeeze(1)]),
    "flatten": (jnp.ravel, [S.Flatten(1)]),
    "transpose": (lambda x: x.transpose(2, 0, 1), [S.Permute((0, 3, 1, 2))]),
    "a row": (lambda x: x * x[:, :1, :1], [S.Slice([ALL, ALL, (None, 1, 1), (None, 1, 1)]), S.Multiply()]),
    "a vector": (lambda x: x * x[0, 0], None),
    "a number": (lambda x: x * x.max(), [S.Reduce("max", (1, 2, 3)), S.Unsqueeze((1, 2, 3)), S.Multiply()]),
    "a constant": (lambda x: jnp.stack([x, jnp.ones_like(x)]), None),
    "a constant part": (lambda x: jnp.concatenate([x, jnp.ones((1, 4, 8))]),
                        [S.Parameter((1, 4, 8)), S.Expand((2, 1, 4, 8)), S.Concat(1)]),
    "split": (lambda x: jnp.split(x, 3), [S.Split((2, 2, 2), 1)]),
    "matrix": (lambda x: W @ x[:, 0, :1], None),
    "along channels": (lambda x: jnp.einsum("oc,chw->ohw", W, x), [S.Linear(6, 5, bias=False, axis=1)]),
    "heads": (lambda x: jnp.einsum("chw,wab->chab", x, Q), [S.Linear(8, 6, bias=False), S.Reshape((2, 6, 4, 2, 3))]),
    "attention": (lambda x: jnp.einsum("thd,shd->hts", x, x),
                  [S.Permute((0, 2, 1, 3)), S.Permute((0, 2, 3, 1)), S.MatMul()]),
    "cumsum": (lambda x: jnp.cumsum(x, 1), [S.Other("cumsum")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_settings_of_a_call(name):
    function, expected = CALLS[name]
    trace = traced(lambda _, x: function(x), X)
    assert_replays(trace, ["cumsum"] if name == "cumsum" else [])
    if expected is not None:
        assert [step.step for step in trace.steps] == expected
    y = jax.tree.leaves(jax.vmap(function)(normal(X)))
    assert all(np.allclose(trace.tensors[i], b, 1e-5, 1e-5) for i, b in zip(trace.outputs, y, strict=True))


def test_a_convolution_that_is_called_as_a_function():
    k = jnp.asarray(normal((4, 6, 3, 3)))
    trace = traced(lambda _, x: jax.lax.conv(x[None], k, (1, 2), "VALID")[0], X)
    assert_replays(trace)
    assert [step.step for step in trace.steps if isinstance(step.step, ConvSpec)] == [
        ConvSpec(6, 4, 3, (1, 2), bias=False)
    ]


def test_inputs_that_do_not_fit_and_what_is_no_module():
    with pytest.raises(RequestError, match="Equinox model does not take these inputs"):
        models.trace_steps(nn.Conv2d(3, 4, 3, key=KEY), [normal((2, 5, 4, 4))])
    with pytest.raises(UnsupportedError, match="is not a module of Equinox"):
        models.trace_steps(jnp.tanh, [normal(X)])


def test_a_key_that_a_model_wants_and_inputs_by_name():
    class Keyed(eqx.Module):
        drop: nn.Dropout

        def __call__(self, a, b, *, key):
            return self.drop(b / a, key=key)

    trace = models.trace_steps(Keyed(nn.Dropout(0.1)), {"a": normal(X), "b": normal(X, 1)})
    assert [(step.path, step.reads) for step in trace.steps] == [("div_0", (1, 0)), ("drop", (2,))]

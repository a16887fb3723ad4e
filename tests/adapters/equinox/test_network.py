"""The words of Equinox: what is read of a network's text is what Equinox does with it, for one sample."""

from __future__ import annotations

import os

import pytest

from convspec.errors import ShapeError
from convspec.layers.networks import Network, NetworkError, find_mends
from tests.networks.jax_published import EQUINOX_CNN, PUBLISHED
from tests.networks.jax_runs import RUNS, read
from tests.networks.jax_texts import network_text

pytestmark = [pytest.mark.equinox, pytest.mark.filterwarnings("ignore:When `eqx.nn.BatchNorm:UserWarning")]
SEEDS = range(int(os.environ.get("CONVSPEC_NETWORKS", "30")))


@pytest.mark.parametrize("name", [name for name, (flavour, *_) in PUBLISHED.items() if flavour == "equinox"])
def test_published_models_are_read_as_they_run(name):
    _, text, shapes = PUBLISHED[name]
    assert read(text, *shapes) == RUNS["equinox"](text, *shapes)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_are_read_as_they_run(seed):
    text, shape, _ = network_text("equinox", seed)
    assert read(text, shape) == RUNS["equinox"](text, shape), text


def test_steps_have_the_batch_axis_that_samples_lack():
    rows = Network.parse(EQUINOX_CNN).shapes((1, 28, 28))
    assert [row.path for row in rows if row.is_layer] == [f"layers[{i}]" for i in (0, 1, 4, 6, 8)]
    conv, flatten = rows[0], next(row for row in rows if row.kind == "ravel")
    assert conv.steps[0].output_shape((1, *conv.inputs[0]), "NCHW") == (1, *conv.shape)
    assert flatten.steps[0].output_shape((5, *flatten.inputs[0])) == (5, 1728)


LAYERS = """
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

class Net(eqx.Module):
    table: dict
    mlp: eqx.nn.MLP
    scalar: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    token: jax.Array

    def __init__(self, key):
        a, b, *rest = jr.split(key, 5)
        self.table = {"one": eqx.nn.Linear(4, 4, key=a), "more": [eqx.nn.Linear(4, 4, key=b)]}
        self.mlp = eqx.nn.MLP(4, "scalar", 8, 2, activation=jax.nn.gelu, final_activation=jnp.tanh, key=rest[0])
        self.scalar = eqx.nn.Linear("scalar", 3, key=rest[1])
        self.norm = eqx.nn.LayerNorm(4, use_bias=False)
        self.attention = eqx.nn.MultiheadAttention(2, 4, use_output_bias=True, key=rest[2])
        self.token = jnp.zeros((1, 4))

    def __call__(self, x, *, key=None):
        x = jnp.concatenate([self.token, x])
        x = self.attention(x, x, x)
        x = self.table["more"][0](self.table["one"](x[0]))
        return self.scalar(self.mlp(self.norm(x)))

model = Net(jr.key(0))
"""


def test_layers_and_arrays_have_equinox_paths_and_parameters():
    run, results = RUNS["equinox"](LAYERS, (3, 4))
    layers, read_results = read(LAYERS, (3, 4))
    inside = [call for call in run if not call[0].startswith(("mlp.", "attention."))]  # layers within layers
    assert (sorted(layers), read_results) == (sorted(inside), results)
    token = next(row for row in Network.parse(LAYERS).shapes((3, 4)) if row.kind == "Parameter")
    assert (token.path, token.parameters) == ("token", 4)


def test_a_batch_in_the_place_of_a_sample_does_not_fit():
    with pytest.raises((TypeError, ValueError)):
        RUNS["equinox"](EQUINOX_CNN, (8, 1, 28, 28))
    with pytest.raises(ShapeError, match=r"layers\[0\]"):
        Network.parse(EQUINOX_CNN).shapes((8, 1, 28, 28))


def test_vmap_of_a_layer_applies_it_along_the_first_axis():
    text = """
import equinox as eqx
import jax
class Net(eqx.Module):
    layer: eqx.nn.Linear
    def __init__(self, key):
        self.layer = eqx.nn.Linear(4, 5, key=key)
    def __call__(self, x):
        return jax.vmap(self.layer)(x)
model = Net(jax.random.key(0))
"""
    (row,) = Network.parse(text).shapes((7, 4))
    assert (row.shape, row.parameters) == ((7, 5), 25)
    assert RUNS["equinox"](text, (7, 4))[1] == [(7, 5)]
    unmapped = text.replace("jax.vmap(self.layer)", "self.layer")
    with pytest.raises(TypeError):
        RUNS["equinox"](unmapped, (7, 4))
    with pytest.raises(ShapeError, match=r"layer does not fit: it takes a vector, but gets .*\(7, 4\).*jax.vmap"):
        Network.parse(unmapped).shapes((7, 4))


def test_a_missing_flatten_is_the_mend():
    network = Network.parse(EQUINOX_CNN.replace("jnp.ravel,", ""))
    with pytest.raises(NetworkError) as raised:
        network.shapes((1, 28, 28))
    assert [str(mend) for mend in find_mends(network, raised.value, [(1, 28, 28)]).found] == [
        "a flatten before layers[3]"
    ]

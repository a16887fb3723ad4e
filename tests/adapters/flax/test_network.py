"""The words of nnx and linen: what is read of a network's text is what Flax does with it."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from convspec.errors import ShapeError
from convspec.layers.networks import Network
from tests.networks.jax_published import PUBLISHED
from tests.networks.jax_runs import RUNS, built, read
from tests.networks.jax_texts import network_text

pytestmark = pytest.mark.flax
SEEDS = range(int(os.environ.get("CONVSPEC_NETWORKS", "15")))  # networks of each API


@pytest.mark.parametrize("name", [name for name, (flavour, *_) in PUBLISHED.items() if flavour != "equinox"])
def test_published_models_are_read_as_they_run(name):
    flavour, text, shapes = PUBLISHED[name]
    assert read(text, *shapes) == RUNS[flavour](text, *shapes)


@pytest.mark.parametrize("flavour", ["nnx", "linen"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_are_read_as_they_run(flavour, seed):
    text, shape, _ = network_text(flavour, seed)
    assert read(text, shape) == RUNS[flavour](text, shape), text


LINEN_NAMES = """
import jax.numpy as jnp
from flax import linen as nn

class Heads(nn.Module):
    def setup(self):
        self.seq = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
        self.layers = [nn.Dense(3), nn.Dense(4)]
        self.table = {'a': nn.Dense(3), 'b': [nn.Dense(2)]}
        self.named = nn.Dense(3, name="other")
    def __call__(self, x):
        x = self.seq(x)
        for layer in self.layers:
            x = layer(x)
        return self.table['b'][0](self.table['a'](self.named(x)))

class Body(nn.Module):
    width: int = 4
    @nn.compact
    def __call__(self, x):
        scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
        x = nn.Sequential([nn.Dense(self.width), nn.relu, nn.Dense(2)])(x * scale)
        x = nn.Dense(3)(nn.relu(nn.Dense(5)(x)))
        shared = nn.Dense(3)
        return nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)], name="head")(shared(shared(x)))

class Model(nn.Module):
    inner: nn.Module
    make: type = nn.Dense
    @nn.compact
    def __call__(self, x):
        body = Body(width=6)
        x = body(self.make(8)(x))
        x = body(nn.Dense(8)(x))
        return Heads(name='heads')(self.inner(Body()(x)))

model = Model(nn.Dense(7))
"""


def test_linen_names_layers_when_they_are_made():
    assert read(LINEN_NAMES, (2, 8)) == RUNS["linen"](LINEN_NAMES, (2, 8))
    rows = Network.parse(LINEN_NAMES).shapes((2, 8))
    assert [(row.path, row.parameters) for row in rows if row.kind == "Parameter"] == [
        ("Body_0.scale", 8), ("Body_0.scale", 0), ("Body_1.scale", 2),
    ]  # fmt: skip


NNX_HOLDERS = """
from flax import nnx
import jax.numpy as jnp

class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.blocks = nnx.List([nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.relu) for _ in range(2)])
        self.heads = nnx.Dict({"a": nnx.Linear(4, 2, rngs=rngs), "b": nnx.Linear(4, 3, rngs=rngs)})
        self.shared = nnx.Linear(4, 4, use_bias=False, rngs=rngs)
        self.scale = nnx.Param(jnp.ones((4,)))

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        x = self.shared(self.shared(x * self.scale[...]))
        return self.heads["a"](x), self.heads["b"](x)

model = Net(nnx.Rngs(0))
"""


def test_holders_of_nnx_name_their_layers():
    assert read(NNX_HOLDERS, (2, 4)) == RUNS["nnx"](NNX_HOLDERS, (2, 4))
    scale = next(row for row in Network.parse(NNX_HOLDERS).shapes((2, 4)) if row.kind == "Parameter")
    assert (scale.path, scale.parameters) == ("scale", 4)


@pytest.mark.parametrize(
    ("layer", "shape", "output", "parameters"),
    [
        ("nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)", (2, 5, 4), (2, 5, 4), 80),
        ("nnx.MultiHeadAttention(2, 4, 8, 3, decode=False, rngs=rngs)", (2, 5, 4), (2, 5, 3), 147),
        ("nnx.LinearGeneral((3, 4), (5, 2), axis=(-2, -1), rngs=rngs)", (2, 3, 4), (2, 5, 2), 130),
        ("nnx.Conv(3, 4, (3, 3), rngs=rngs)", (9, 9, 3), (9, 9, 4), 112),
        ("nnx.Conv(3, 4, (3, 3), padding='VALID', rngs=rngs)", (2, 5, 9, 9, 3), (2, 5, 7, 7, 4), 112),
    ],
)
def test_layers_outside_images(layer, shape, output, parameters):
    """Layers without a step of their own, and batches of other numbers of axes: as Flax counts them."""
    (row,) = Network.parse(f"rngs = nnx.Rngs(0)\nmodel = {layer}").shapes(shape)
    assert (row.shape, row.parameters) == (output, parameters)
    run, results = RUNS["nnx"](f"from flax import nnx\nrngs = nnx.Rngs(0)\nmodel = nnx.Sequential({layer})", shape)
    assert results == [output]
    if "General" in layer or "Conv" in layer:
        assert [count for _, _, count in run] == [parameters]


@pytest.mark.parametrize(
    ("text", "adapter"),
    [
        ("nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.relu)", "flax"),
        ("nn.Sequential([nn.Dense(3), nn.relu, nn.Dropout(0.5, deterministic=True)])", "flax-linen"),
        (
            "class Net(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n        return nn.LayerNorm()(x)",
            "flax-linen",
        ),
        ("import jax.numpy as jnp\nnn.Conv(features=3, kernel_size=(3, 3))", "flax-linen"),
    ],
)
def test_the_api_is_told_by_its_names(text, adapter):
    assert Network.parse(text).adapter == adapter


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5, 6])  # networks with a layer that has a number of channels
def test_what_flax_refuses_is_refused(seed):
    text, shape, _ = network_text("nnx", seed)
    wrong = (*shape[:-1], shape[-1] + 1)
    with pytest.raises((TypeError, ValueError, AssertionError)):
        RUNS["nnx"](text, wrong)
    with pytest.raises(ShapeError):
        Network.parse(text).shapes(wrong)


@pytest.mark.parametrize("seed", [None, *range(1, 6)])
def test_a_printed_model_of_nnx_has_the_layers_of_its_text(seed):
    text, shape = (PUBLISHED["nnx MNIST"][1], (2, 28, 28, 1)) if seed is None else network_text("nnx", seed)[:2]
    words = Network.parse(text).vocabulary
    printed = words.read_printed(str(nnx.eval_shape(lambda: built(text)["model"])))
    wanted = {row.path: row.steps for row in Network.parse(text).shapes(shape) if row.is_layer}
    found = {}
    for layer in printed.layers:
        (row,) = Network.parse(layer.call, framework="flax").shapes()
        found[layer.path] = row.steps
    assert found == wanted
    assert words.read_printed(text) is None


def test_a_shape_that_decides_is_asked_for_when_it_is_known():
    _, text, shapes = PUBLISHED["linen ResNet"]
    network = Network.parse(text)
    assert network.shapes(*shapes)[0].path == "conv_init"


PRODUCTS = """
import jax
import jax.numpy as jnp
from flax import nnx

class Net(nnx.Module):
    def __init__(self, rngs):
        self.attend = nnx.MultiHeadAttention(4, 16, decode=False, rngs=rngs)
        self.general = nnx.LinearGeneral((4, 4), 6, axis=(-2, -1), rngs=rngs)

    def __call__(self, x):
        x = self.attend(x)
        y = jnp.einsum("...ij,...kj->...ik", x, x)
        z = x.reshape(x.shape[0], x.shape[1], 4, 4)
        return self.general(jax.nn.dot_product_attention(z, z, z)), y @ y
"""


def test_the_cost_of_attention_and_einsum_is_that_of_the_products_that_run():
    names, shape = {}, (2, 6, 16)
    exec(PRODUCTS, names)
    rows = Network.parse(PRODUCTS).shapes(shape)
    live = Network.read(names["Net"](nnx.Rngs(0)), shape).shapes(shape)
    assert sum(row.macs for row in rows) == sum(row.macs for row in live)
    assert [row.macs for row in rows if row.macs] == [14592, 1152, 2304, 1152, 432]


def table_of(flavour: str, text: str, shape: tuple[int, ...], width: int) -> str:
    """Return what Flax prints of a model as a table."""
    x, console = jnp.zeros(shape), {"width": width, "force_terminal": False}
    model = built(text)["model"]
    if flavour == "nnx":
        return str(nnx.tabulate(model, x, console_kwargs=console))
    return str(model.tabulate(jax.random.key(0), x, console_kwargs=console))


@pytest.mark.parametrize("flavour", ["nnx", "linen"])
@pytest.mark.parametrize("seed", range(3))
def test_a_table_has_the_layers_that_run_with_their_shapes_and_parameters(flavour, seed):
    text, shape, _ = network_text(flavour, seed)
    (layers, _) = read(text, shape)
    expected = {path: (output, count) for path, output, count in reversed(layers)}
    rows = Network.parse(table_of(flavour, text, shape, 200)).shapes()
    found = {row.path: (row.shape, row.parameters) for row in rows}
    assert {path: one for path, one in found.items() if one[1]} == {p: one for p, one in expected.items() if one[1]}
    assert {path: expected[path] for path in found} == found


@pytest.mark.parametrize("flavour", ["nnx", "linen"])
def test_a_narrow_table_says_less(flavour):
    text, shape, _ = network_text(flavour, 1)
    wide, narrow = (Network.parse(table_of(flavour, text, shape, width)).shapes() for width in (200, 100))
    for one, cut in zip(wide, narrow, strict=True):
        assert cut.parameters in (one.parameters, None)
        assert cut.shape in (one.shape, None)

"""Flax layers read, nnx and linen: those that convspec built, and those of other hands."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flax")
pytest.importorskip("jax")

import jax
import jax.numpy as jnp
from convspec_flax import ADAPTER, LINEN
from flax import linen as nn
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convspec import ConvSpec, reference, strategies
from convspec.errors import UnsupportedError
from convspec.spec import layouts
from tests.adapters import round_trip

pytestmark = pytest.mark.flax


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    strategies.cases(),
    st.sampled_from(layouts.LAYOUTS),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.sampled_from([ADAPTER, LINEN]),
)
def test_what_was_built_is_read_back(case, layout, dtype, adapter):
    round_trip.check(adapter, case, layout, dtype)


RNGS = nnx.Rngs(0)
PAIR = {"rngs": RNGS}


def kernel_of(layer):
    return np.asarray(layer.kernel.get_value())


def agrees(call, found, shape):
    """That the layer gives what the reading says, on integers: exactly."""
    x = np.random.default_rng(1).integers(-3, 4, shape).astype(np.float32)
    y = np.asarray(call(jnp.asarray(x)))
    axes = layouts.permutation(layouts.order(found.layout, found.spec.ndim), "NC*", found.spec.ndim)
    np.testing.assert_array_equal(y.transpose(axes), reference.conv(found.spec, found.params, x.transpose(axes)))


def whole(layer):
    """The layer with integers for weights."""
    rng = np.random.default_rng(0)
    structure, state = nnx.split(layer)
    state = jax.tree.map(lambda leaf: jnp.asarray(rng.integers(-3, 4, leaf.shape), leaf.dtype), state)
    return nnx.merge(structure, state)


NATIVE = {
    "same": (nnx.Conv(3, 4, (3, 4), (2, 3), **PAIR), ConvSpec(3, 4, (3, 4), (2, 3), "same"), (1, 8, 9, 3)),
    "one int": (nnx.Conv(3, 4, 3, **PAIR), ConvSpec(3, 4, (3,), padding=1), (1, 8, 3)),
    "causal": (
        nnx.Conv(3, 4, (3,), 2, padding="CAUSAL", kernel_dilation=2, **PAIR),
        ConvSpec(3, 4, (3,), 2, "causal", 2),
        (1, 9, 3),
    ),
    "circular": (
        nnx.Conv(3, 4, (3, 4), (2, 1), padding="CIRCULAR", **PAIR),
        ConvSpec(3, 4, (3, 4), (2, 1), ((1, 1), (1, 2)), padding_mode="circular"),
        (1, 8, 9, 3),
    ),
    "reflect": (
        nnx.Conv(4, 6, (2, 3), padding="REFLECT", feature_group_count=2, use_bias=False, **PAIR),
        ConvSpec(4, 6, (2, 3), padding=((0, 1), (1, 1)), groups=2, bias=False, padding_mode="reflect"),
        (1, 8, 9, 4),
    ),
    "flipped": (
        nnx.ConvTranspose(3, 4, (3, 2), (2, 3), padding="SAME", **PAIR),
        ConvSpec(3, 4, (3, 2), (2, 3), "same", transposed=True),
        (1, 4, 5, 3),
    ),
    "not flipped": (
        nnx.ConvTranspose(3, 4, (3, 2), (2, 3), padding="VALID", transpose_kernel=True, **PAIR),
        ConvSpec(3, 4, (3, 2), (2, 3), transposed=True, output_padding=(0, 1)),
        (1, 4, 5, 3),
    ),
    "pads of the dilated input": (
        nnx.ConvTranspose(3, 4, (3, 5), (2, 3), padding=((1, 2), (4, 3)), **PAIR),
        ConvSpec(3, 4, (3, 5), (2, 3), ((1, 0), (0, 1)), transposed=True),
        (1, 4, 5, 3),
    ),
    "dilated input": (
        nnx.Conv(3, 4, (3, 2), input_dilation=(2, 3), padding=((1, 1), (0, 1)), **PAIR),
        ConvSpec(3, 4, (3, 2), (2, 3), ((1, 1), (1, 0)), transposed=True),
        (1, 4, 5, 3),
    ),
    "dilated input, groups": (
        nnx.Conv(4, 6, (3, 2), input_dilation=2, padding=0, feature_group_count=2, **PAIR),
        ConvSpec(4, 6, (3, 2), 2, (2, 1), groups=2, transposed=True),
        (1, 4, 5, 4),
    ),
    "mask": (
        nnx.Conv(3, 4, (3,), padding=0, mask=jnp.asarray(np.arange(36).reshape(3, 3, 4) % 2, jnp.float32), **PAIR),
        ConvSpec(3, 4, (3,)),
        (1, 9, 3),
    ),
}


@pytest.mark.parametrize("name", NATIVE)
def test_plain_layers(name):
    layer, spec, shape = NATIVE[name]
    layer = whole(layer)
    found = ADAPTER.read(layer)
    assert (found.spec, found.layout, found.dtype) == (spec, "NHWC", "float32")
    agrees(layer, found, shape)


class Padded(nnx.Module):
    def __init__(self, before=lambda x: x, after=lambda y: y, **arguments):
        self.layers = nnx.List([nnx.Conv(3, 4, (3, 2), padding="VALID", rngs=RNGS, **arguments)])
        self.dropout = nnx.Dropout(0.5, deterministic=True)
        self.before, self.after = before, after

    def __call__(self, x):
        return self.after(self.layers[0](self.dropout(self.before(x))))


@pytest.mark.parametrize(
    ("layer", "spec"),
    [
        (
            Padded(lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)), mode="edge")),
            ConvSpec(3, 4, (3, 2), padding=((1, 0), (0, 2)), padding_mode="replicate"),
        ),
        (
            Padded(lambda x: jnp.concatenate([x[:, -1:], x, x[:, :2]], 1), strides=(2, 1)),
            ConvSpec(3, 4, (3, 2), (2, 1), ((1, 2), (0, 0)), padding_mode="circular"),
        ),
        (Padded(after=lambda y: y[:, ::2, ::3]), ConvSpec(3, 4, (3, 2), (2, 3))),
    ],
)
def test_layers_of_other_hands(layer, spec):
    layer = whole(layer)
    found = ADAPTER.read(layer, (1, 7, 9, 3))
    assert found.spec == spec
    agrees(layer, found, (1, 7, 9, 3))
    assert type(layer.layers[0]) is nnx.Conv


class Model(nnx.Module):
    def __init__(self):
        self.stem = nnx.Conv(3, 4, (3, 5), (2, 3), rngs=RNGS)
        self.blocks = nnx.List([nnx.Linear(4, 4, rngs=RNGS), nnx.ConvTranspose(4, 2, (2, 3), rngs=RNGS)])
        self.wrapped = nnx.ConvTranspose(2, 2, (3, 3), padding="CIRCULAR", rngs=RNGS)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 5), (2, 3), name="stem")(x))
        return nn.ConvTranspose(2, (2, 3))(nn.Dense(4)(x))


def test_convs_of_models():
    found = ADAPTER.convs(Model())
    assert [f.path for f in found] == ["blocks/1", "stem", "wrapped"]
    specs = {f.path: f.reading.spec for f in found if f.reading}
    expected = [ConvSpec(3, 4, (3, 5), (2, 3), "same"), ConvSpec(4, 2, (2, 3), padding="same", transposed=True)]
    assert [specs["stem"], specs["blocks/1"]] == expected
    assert "CIRCULAR" in found[2].problem
    module = Linen()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 9, 11, 3)))
    for model in (module.bind(variables), (module, variables)):
        found = LINEN.convs(model, (1, 9, 11, 3))
        assert [f.path for f in found] == ["stem", "ConvTranspose_0"]
        assert [f.reading.spec for f in found] == expected
        kernel = np.asarray(variables["params"]["stem"]["kernel"])
        np.testing.assert_array_equal(found[0].reading.params.kernel, kernel.transpose(3, 2, 0, 1))
    with pytest.raises(UnsupportedError, match="pass input_shape"):
        LINEN.convs((module, variables))
    with pytest.raises(UnsupportedError, match="has no variables"):
        LINEN.convs(module, (1, 9, 11, 3))
    with pytest.raises(UnsupportedError, match="cannot be given"):
        LINEN.convs((module, variables), (1, 9, 11, 5))


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return nn.Conv(3, (3, 5))(x), None


class Transformed(nn.Module):
    """Layers whose weights are not what is stored, or are seen as symbols only."""

    @nn.compact
    def __call__(self, x):
        x = nn.remat(nn.Conv)(3, (3, 5), name="remat")(x)
        x = nn.jit(nn.Conv)(3, (3, 5), name="jit")(x)
        x = nn.WeightNorm(nn.Conv(3, (3, 5), name="normed"))(x)
        return nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)(name="scan")(x, None)[
            0
        ]


def test_layers_under_transformations():
    module, x = Transformed(), jax.random.normal(jax.random.key(1), (1, 9, 11, 3))
    variables = jax.tree.map(lambda a: 1.5 * a, module.init(jax.random.key(0), x))
    found = {f.path: f for f in LINEN.convs((module, variables), x.shape)}
    assert list(found) == ["remat", "jit", "normed", "scan/Conv_0"]
    assert "several layers at once" in found["scan/Conv_0"].problem
    for name in ("remat", "jit"):
        kernel = np.asarray(variables["params"][name]["kernel"]).transpose(3, 2, 0, 1)
        np.testing.assert_array_equal(found[name].reading.params.kernel, kernel)
    _, state = module.apply(variables, x, capture_intermediates=True)
    calls = state["intermediates"]
    given, y = (np.asarray(calls[name]["__call__"][0]).transpose(0, 3, 1, 2) for name in ("jit", "WeightNorm_0"))
    normed = found["normed"].reading
    stored = np.asarray(variables["params"]["normed"]["kernel"]).transpose(3, 2, 0, 1)
    assert not np.array_equal(normed.params.kernel, stored)
    assert np.abs(reference.conv(normed.spec, normed.params, given) - y).max() < 1e-4
    several = nnx.vmap(lambda key: nnx.Conv(3, 3, (3, 5), rngs=nnx.Rngs(key)))(jax.random.split(jax.random.key(0), 2))
    assert "several layers at once" in ADAPTER.convs(several)[0].problem


PADS = ((0, 0), (1, 0), (2, 3), (0, 0))


class Pads(nnx.Module):
    def __init__(self):
        self.convs = nnx.List([nnx.Conv(3, 3, (3, 2), padding=0, rngs=RNGS) for _ in range(6)])
        self.own = nnx.Conv(3, 3, (3, 2), padding=((1, 1), (0, 2)), rngs=RNGS)

    def __call__(self, x):
        x = self.convs[0](jnp.pad(jax.nn.relu(x), PADS, mode="reflect"))
        x = self.convs[1](jnp.pad(x, PADS, mode="edge"))
        x = self.convs[2](jnp.pad(x, PADS, mode="wrap"))
        x = self.convs[3](jnp.pad(x, PADS, constant_values=1))
        x = self.convs[4](jnp.pad(x, PADS, mode="symmetric"))
        x = self.convs[5](jax.jit(lambda x: x + 1)(x))
        return self.own(jnp.pad(jnp.pad(x, PADS), ((0, 0), (0, 1), (0, 0), (0, 0))))


class LinenPads(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(4, (3, 3), padding="VALID")(jnp.pad(x, PADS, mode="wrap"))


def test_pads_before_convolutions_are_folded_on_request():
    shape, cells, none = (1, 16, 17, 3), PADS[1:3], ((0, 0), (0, 0))
    found = {f.path: f for f in ADAPTER.convs(Pads(), shape, fold_pads=True)}
    assert {path: (f.reading.spec.padding, f.reading.spec.padding_mode) for path, f in found.items()} == {
        "convs/0": (cells, "reflect"),
        "convs/1": (cells, "replicate"),
        "convs/2": (cells, "circular"),
        "convs/3": (none, "zeros"),
        "convs/4": (none, "zeros"),
        "convs/5": (none, "zeros"),
        "own": (((2, 2), (2, 5)), "zeros"),
    }
    assert "no padding of a spec" in found["convs/3"].note
    assert "no padding of a spec" in found["convs/4"].note
    assert found["own"].pads == ((1, 1), (2, 3))
    module = LinenPads()
    variables = module.init(jax.random.key(0), jnp.zeros(shape))
    (one,) = LINEN.convs((module, variables), shape, fold_pads=True)
    assert (one.reading.spec.padding, one.reading.spec.padding_mode) == (cells, "circular")
    with pytest.raises(UnsupportedError, match="pass input_shape"):
        ADAPTER.convs(Pads(), fold_pads=True)


def test_models_without_convolutions_list_their_layers():
    with pytest.raises(UnsupportedError, match="Sequential has no convolutions; its layers: Linear"):
        ADAPTER.convs(nnx.Sequential(nnx.Linear(3, 4, rngs=RNGS)))
    module = nn.Sequential([nn.Dense(3), nn.relu])
    variables = module.init(jax.random.key(0), jnp.zeros((1, 3)))
    with pytest.raises(UnsupportedError, match="Sequential has no convolutions; its layers: Dense"):
        LINEN.convs((module, variables), (1, 3))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Padded(jax.nn.relu), "numbers are changed before"),
        (Padded(after=jax.nn.relu), "results are changed"),
        (Padded(after=lambda y: (y, y)), "returns tuple"),
        (Padded(lambda x: x[..., :2]), "3 channels|must be in_channels"),
        (nnx.ConvTranspose(2, 2, (3,), padding="CIRCULAR", rngs=RNGS), "wraps its result"),
        (nnx.ConvTranspose(2, 2, (3,), padding=((3, 0),), rngs=RNGS), "no spec describes this layer"),
        (
            nnx.Conv(2, 2, (3,), 2, input_dilation=2, rngs=RNGS),
            "must be numbers where the input is dilated|must be 1 where",
        ),
        (nnx.Conv(2, 2, (3,), conv_general_dilated=lambda *a, **k: None, rngs=RNGS), "computes in its own way"),
        (nnx.Linear(3, 4, rngs=RNGS), "no convolution was called"),
        (nn.Conv(3, (3,)), "not a module of flax.nnx"),
    ],
)
def test_what_cannot_be_read_says_why(layer, words):
    with pytest.raises(UnsupportedError, match=words):
        ADAPTER.read(layer, (1, 7, 9, 3))

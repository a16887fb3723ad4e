"""Keras layers read: those that convspec built, and those of other hands; on the backend that KERAS_BACKEND names."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras")

import keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from convspec import ConvParams, ConvSpec, reference, strategies
from convspec.errors import UnsupportedError
from convspec.spec import layouts
from tests.adapters import round_trip
from tests.adapters.keras.backend import BACKEND

pytestmark = [
    pytest.mark.keras,
    # Keras on PyTorch hands its tensors to NumPy so
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(strategies.cases(), st.sampled_from(layouts.LAYOUTS), st.sampled_from(["float32", "float16", "bfloat16"]))
def test_what_was_built_is_read_back(case, layout, dtype):
    if BACKEND.support(case.spec, layout, dtype) != "unsupported":
        round_trip.check(BACKEND, case, layout, dtype)


def test_a_bias_that_no_cell_shows_is_read_from_a_larger_input():
    spec = ConvSpec(2, 3, (1, 1, 1), (1, 1, 3), ((0, 0), (0, 0), (2, 2)), transposed=True)
    layer = BACKEND.build(spec, ConvParams.random(spec), "NCHW")
    assert spec.output_shape((1, 2, 1, 1, 2)) == (1, 3, 1, 1, 0)
    assert BACKEND.read(layer, (1, 2, 1, 1, 2)).spec == spec


def whole(layer):
    """The layer, which must be built, with integers for weights."""
    rng = np.random.default_rng(0)
    layer.set_weights([rng.integers(-3, 4, w.shape).astype(np.float32) for w in layer.get_weights()])
    return layer


def agrees(layer, found, shape):
    """That the layer gives what the reading says, on integers: exactly."""
    x = np.random.default_rng(1).integers(-3, 4, shape).astype(np.float32)
    y = ops.convert_to_numpy(layer(ops.convert_to_tensor(x)))
    axes = layouts.permutation(layouts.order(found.layout, found.spec.ndim), "NC*", found.spec.ndim)
    np.testing.assert_array_equal(y.transpose(axes), reference.conv(found.spec, found.params, x.transpose(axes)))


LAST = (1, 8, 9, 3)
PLAIN = {
    "same": (layers.Conv2D(4, (3, 4), (2, 3), "same"), LAST, ConvSpec(3, 4, (3, 4), (2, 3), "same")),
    "first": (
        layers.Conv2D(4, (3, 5), data_format="channels_first", use_bias=False),
        (1, 3, 8, 9),
        ConvSpec(3, 4, (3, 5), bias=False),
    ),
    "causal": (layers.Conv1D(4, 3, 2, "causal"), (1, 9, 3), ConvSpec(3, 4, (3,), 2, "causal")),
    "depthwise": (
        layers.DepthwiseConv2D((3, 4), 2, "same", depth_multiplier=2),
        LAST,
        ConvSpec(3, 6, (3, 4), 2, "same", groups=3),
    ),
    "transposed": (
        layers.Conv2DTranspose(4, (3, 2), (2, 3), "same"),
        (1, 4, 5, 3),
        ConvSpec(3, 4, (3, 2), (2, 3), "same", transposed=True),
    ),
    "output padding": (
        layers.Conv2DTranspose(4, 3, 2, "same", output_padding=1),
        (1, 4, 5, 3),
        ConvSpec(3, 4, 3, 2, ((0, 1), (0, 1)), transposed=True),
    ),
    "groups": (layers.Conv1D(6, 3, groups=2, dilation_rate=2), (1, 9, 4), ConvSpec(4, 6, (3,), dilation=2, groups=2)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_layers(name):
    layer, shape, spec = PLAIN[name]
    layer.build(shape)
    whole(layer)
    found = BACKEND.read(layer)
    assert (found.spec, found.dtype) == (spec, "float32")
    assert found.layout == ("NCHW" if name == "first" else "NHWC")
    agrees(layer, found, shape)


def functional(*steps, shape=LAST):
    x = inputs = keras.Input(shape[1:])
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("sequential", [True, False])
def test_a_pad_before_a_convolution_is_part_of_its_spec(sequential):
    steps = [layers.ZeroPadding2D(((0, 1), (2, 3))), layers.Conv2D(4, (3, 5), (2, 3))]
    model = whole(keras.Sequential([keras.Input(LAST[1:]), *steps]) if sequential else functional(*steps))
    found = BACKEND.read(model, LAST)
    assert found.spec == ConvSpec(3, 4, (3, 5), (2, 3), ((0, 1), (2, 3)))
    agrees(model, found, LAST)


def test_separable_convolutions_are_two():
    layer = layers.SeparableConv2D(5, (3, 4), 2, "same", depth_multiplier=2, name="s")
    layer.build(LAST)
    with pytest.raises(UnsupportedError, match=r"two layers.*convs"):
        BACKEND.read(layer)
    first, second = BACKEND.convs(layer)
    assert (first.path, second.path) == ("s/depthwise", "s/pointwise")
    assert first.reading.spec == ConvSpec(3, 6, (3, 4), 2, "same", groups=3, bias=False)
    assert second.reading.spec == ConvSpec(6, 5, 1)
    whole(layer)
    first, second = (found.reading for found in BACKEND.convs(layer))
    x = np.random.default_rng(1).integers(-3, 4, LAST).astype(np.float32)
    between = reference.conv(first.spec, first.params, x.transpose(0, 3, 1, 2))
    expected = reference.conv(second.spec, second.params, between)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)).transpose(0, 3, 1, 2), expected)


def test_convs_of_models():
    block = keras.Sequential([layers.Conv2DTranspose(2, 3, name="up"), layers.ReLU()], name="block")
    model = functional(layers.Conv2D(4, 3, activation="relu", name="stem"), layers.BatchNormalization(), block)
    found = BACKEND.convs(model)
    assert [f.path for f in found] == ["stem", "block/up"]
    assert [f.reading.spec for f in found] == [ConvSpec(3, 4, 3), ConvSpec(4, 2, 3, transposed=True)]
    with pytest.raises(UnsupportedError, match=r"Functional has no convolutions; its layers: .*ReLU"):
        BACKEND.convs(functional(layers.ReLU()))


def test_pads_before_convolutions_are_folded_on_request():
    block = keras.Sequential([layers.ZeroPadding2D(1), layers.Conv2D(4, 3, 2, "same", name="same")], name="block")
    model = functional(
        layers.ZeroPadding2D(((1, 0), (2, 3))),
        layers.Conv2D(4, 3, padding="same", name="first"),
        lambda x: ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0)), mode="reflect"),
        layers.Conv2D(4, 3, name="reflected"),
        layers.ZeroPadding2D(1),
        layers.SeparableConv2D(4, 3, name="separable"),
        layers.ZeroPadding2D(1),
        layers.Conv2DTranspose(4, 3, name="up"),
        layers.ZeroPadding2D(1),
        layers.ReLU(),
        layers.Conv2D(4, 3, name="apart"),
        block,
    )
    none = ((0, 0), (0, 0))
    assert not any(f.pads or f.note for f in BACKEND.convs(model))
    found = {f.path: f for f in BACKEND.convs(model, fold_pads=True)}
    said = {path: (f.reading.spec.padding, f.reading.spec.padding_mode, f.pads) for path, f in found.items()}
    assert said == {
        "first": (((2, 1), (3, 4)), "zeros", ((1, 0), (2, 3))),
        "reflected": (((1, 1), (2, 0)), "reflect", ((1, 1), (2, 0))),
        "separable/depthwise": (((1, 1), (1, 1)), "zeros", ((1, 1), (1, 1))),
        "separable/pointwise": (none, "zeros", ()),
        "up": (none, "zeros", ()),
        "apart": (none, "zeros", ()),
        "block/same": ("same", "zeros", ()),
    }
    assert "transposed" in found["up"].note
    assert "depends on the input's size" in found["block/same"].note


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.pad, self.conv = layers.ZeroPadding1D((2, 0)), layers.Conv1D(4, 3, name="conv")

    def call(self, x):
        return self.conv(self.pad(x))


def test_pads_of_a_subclass_are_met_by_a_run():
    model = Subclass()
    model(np.zeros((1, 9, 3), np.float32))
    assert BACKEND.convs(model, fold_pads=True)[0].pads == ()
    (found,) = BACKEND.convs(model, (1, 9, 3), fold_pads=True)
    assert (found.pads, found.reading.spec) == (((2, 0),), ConvSpec(3, 4, (3,), padding="causal"))


def test_pads_that_are_calls_in_a_subclass_are_met_by_a_run():
    class Calls(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv1D(4, 3)

        def call(self, x):
            return self.conv(ops.pad(x, ((0, 0), (1, 1), (0, 0)), "reflect"))

    model = Calls()
    model(np.zeros((1, 9, 3), np.float32))
    (found,) = BACKEND.convs(model, (1, 9, 3), fold_pads=True)
    assert (found.pads, found.reading.spec.padding_mode) == (((1, 1),), "reflect")


class OwnWay(layers.Conv2D):
    def call(self, x):
        return super().call(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (layers.Conv2D(4, 3), "has no weights yet"),
        (functional(layers.Conv2D(4, 3, activation="relu")), "activation 'relu'"),
        (functional(layers.Conv2D(4, 3), layers.ReLU()), "results are changed"),
        (functional(layers.ReLU(), layers.Conv2D(4, 3)), "numbers are changed before"),
        (functional(OwnWay(4, 3)), "in its own way"),
        (functional(layers.Dense(3)), "no convolution was called"),
        (functional(layers.SeparableConv2D(3, 3)), "SeparableConv"),
        (3, "not a layer of Keras"),
        (functional(layers.Conv2D(4, 3, activation=layers.LeakyReLU())), "activation .*LeakyReLU"),
    ],
)
def test_what_cannot_be_read_says_why(layer, words):
    with pytest.raises(UnsupportedError, match=words):
        BACKEND.read(layer, LAST)

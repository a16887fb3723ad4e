"""Layers compared by what is known of them: forms and axes of norms, orders of features, crops after them."""

from __future__ import annotations

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.contract import Call, Part, Reading
from convspec.models.comparison.judges import _crop_words, in_order
from convspec.models.matching import layers
from convspec.models.run_model import Model
from tests.models.numpy_models import Adapter


def norm(form, **more):
    return Part("n", "norm", "Norm", norm=form, **more)


LAYER, RMS = norm("layer", axes=(-1,)), norm("rms", axes=(-2, -1))


@pytest.mark.parametrize(("a", "b", "words"), [
    (norm("group", groups=4), norm("group", groups=2), "groups 4 against 2"),
    (LAYER, norm("layer", axes=(-2, -1)), "over 1 axes against 2"), (LAYER, norm("layer", axes=(-2,)), ""),
    (LAYER, RMS, "layer norm over 1 axis against RMS norm over 2 axes"),
    (norm("group", groups=1), RMS, "group norm with 1 group against RMS norm over 2 axes"),
    (norm(""), LAYER, ""), (LAYER, norm(""), ""),
])  # fmt: skip
def test_forms_of_norms_differ_in_words_where_both_are_known(a, b, words):
    assert layers.form_difference(a, b) == words


@pytest.mark.parametrize(("axes", "layouts", "settings"), [
    ((1, 1), ("NCHW", "NCHW"), []), ((1, -1), ("NCHW", "NHWC"), []), ((-1, 1), ("NHWC", "NCHW"), []),
    ((1, 1), ("NCHW", "NHWC"), ["axis 1 of NCHW against 1 of NHWC"]),
    ((1, -1), ("NCHW", "NCHW"), ["axis 1 against -1"]),
])  # fmt: skip
def test_the_channel_axis_is_that_of_each_models_layout(axes, layouts, settings):
    a, b = (norm("batch", axis=axis) for axis in axes)
    assert layers.norm_differences(a, b, layouts) == (settings, [])


@pytest.mark.parametrize("left_out", [(), ("gain",), ("shift",), ("gain", "shift")])
def test_a_batch_norm_has_ones_and_zeros_for_what_it_lacks(left_out):
    own = {name: np.full(3, place + 2, np.float32) for place, name in enumerate(("gain", "shift", "mean", "variance"))}
    found = layers.batch_norm(norm("batch", arrays={n: a for n, a in own.items() if n not in left_out}, epsilon=0.5))
    expected = own | {name: np.full(3, float(name == "gain"), np.float32) for name in left_out}
    for name, array in expected.items():
        assert np.array_equal(getattr(found, name), array)
    assert found.epsilon == 0.5


def test_a_convolution_that_is_not_read_belongs_to_those_of_its_kernels_shape():
    spec = ConvSpec(4, 6, 3, groups=2)
    read = Part("r", "conv", "Conv", Reading(spec, ConvParams.random(spec), "NCHW"))
    other = ConvSpec(4, 6, 5)
    others = [Part("o", "conv", "Conv", Reading(other, ConvParams.random(other), "NCHW")), read]
    own = Part("own", "conv", "Own", arrays={"kernel": np.zeros(spec.kernel_shape, np.float32)})
    assert layers.shape_key(own, others) == layers.shape_key(read) != layers.shape_key(own)


@pytest.mark.parametrize(("of_a", "of_b", "places"), [
    ({}, {}, None), ({1: [2, 0, 1]}, {}, [2, 0, 1]), ({}, {1: [2, 0, 1]}, [1, 2, 0]),
    ({1: [2, 0, 1]}, {1: [2, 0, 1]}, None), ({1: [2, 0, 1]}, {1: [0, 2, 1]}, [2, 1, 0]),
    ({1: [1, 0]}, {1: [2, 0, 1]}, None),
])  # fmt: skip
def test_the_places_of_features_follow_from_both_orders(monkeypatch, of_a, of_b, places):
    """Feature i in canonical order is at ``of_a[i]`` of a's array, and at ``of_b[i]`` of b's."""
    orders = {"a": of_a, "b": of_b}
    monkeypatch.setattr(layers, "feature_orders", lambda model, path: {
        "weight": {axis: np.array(order) for axis, order in orders[path].items()}
    })  # fmt: skip
    ours, theirs = (Part(path, "linear", "Linear", arrays={"kernel": np.zeros((2, 3))}) for path in "ab")
    found = layers.feature_places(ours, theirs, None, None)
    assert (found["kernel"][1].tolist() if found else None) == places


@pytest.mark.parametrize(("kind", "x", "y"), [("linear", [2, 0, 1], [1, 2, 0]), ("norm", [1, 2, 0], [1, 2, 0])])
def test_a_linear_layer_reads_in_one_order_and_writes_in_another_a_norm_in_one(kind, x, y):
    array = np.arange(3)[None]
    part = Part("p", kind, "Layer", norm="layer" * (kind == "norm"), axes=(-1,))
    found = in_order(Call("p", array, array), part, {0: np.array([1, 2, 0]), 1: np.array([2, 0, 1])}, "NCHW")
    assert (found.x.tolist(), found.y.tolist()) == ([x], [y])


@pytest.mark.parametrize(("crop", "words"), [
    (np.s_[:, :, :, 1:], "model a computes margins of ((0, 0), (1, 0)) more, (before, after) per axis"),
    (np.s_[:, :, 1:-1], "model a computes margins of ((1, 1), (0, 0)) more, (before, after) per axis"),
    (None, "model b computes margins of ((0, 2), (1, 0)) more, (before, after) per axis"),
    (np.s_[:, :, ::2], ""),
])  # fmt: skip
def test_a_crop_after_a_layer_is_told_with_the_model_that_lacks_it(crop, words):
    spec = ConvSpec(2, 3, 3)
    params, x = ConvParams.exact(spec), np.random.default_rng(0).integers(-5, 6, (1, 2, 8, 9)).astype(np.float32)
    y = reference.conv(spec, params, x).astype(np.float32)
    y = np.pad(y, ((0, 0), (0, 0), (0, 2), (1, 0))) if crop is None else y[crop]
    assert _crop_words(spec, params, x, y, Model(None, Adapter("NCHW"), []), "float32") == words

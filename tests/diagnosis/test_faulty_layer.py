"""Wrong layers: as a whole, and at single elements."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from convspec import ConvParams, ConvSpec, reference
from convspec.corpora.cases import arrays
from convspec.diagnosis.evidence import evaluate
from convspec.diagnosis.faulty_layer import pad, right_layer, take, transpose
from convspec.errors import ShapeError
from convspec.strategies import cases


def everywhere(shape):
    return np.unravel_index(np.arange(int(np.prod(shape))), shape)


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_single_elements_are_those_of_the_whole(case):
    params, x = arrays(case)
    layer = right_layer(case.spec, params, x)
    y, g = layer.output(), layer.magnitude()
    found = evaluate(layer, y.shape, everywhere(y.shape))
    # small integers: both are exact
    assert np.array_equal(found[0].reshape(y.shape), y)
    assert np.array_equal(found[1].reshape(y.shape), g)
    assert np.array_equal(y, reference.conv(case.spec, params, x))
    assert evaluate(layer, (*y.shape, 1), everywhere((*y.shape, 1))) is None


@pytest.fixture
def layer():
    spec = ConvSpec(2, 3, (2, 3), stride=(2, 1), padding=((0, 1), (2, 1)))
    rng = np.random.default_rng(0)
    return right_layer(spec, ConvParams.exact(spec), rng.integers(-4, 5, (2, 2, 6, 5)))


def test_what_is_done_to_the_output(layer):
    y = layer.output()
    wrong = layer.then(transpose(0, 1, 3, 2)).then(take(..., slice(1, None))).then(pad((1, 0), (0, 2)))
    wrong = replace(wrong.add(np.arange(3.0).reshape(3, 1, 1)), finish=np.abs)
    expected = np.pad(y.swapaxes(2, 3)[..., 1:], [(0, 0), (0, 0), (1, 0), (0, 2)]) + np.arange(3.0).reshape(3, 1, 1)
    assert np.array_equal(wrong.output(), np.abs(expected))
    found = evaluate(wrong, expected.shape, everywhere(expected.shape))
    assert np.array_equal(found[0].reshape(expected.shape), expected)  # not finished
    assert np.array_equal(found[1].reshape(expected.shape), wrong.magnitude())


def test_an_impossible_layer_raises(layer):
    narrow = replace(layer, x=layer.x[:, :1])
    with pytest.raises(ShapeError, match="must be in_channels=2"):
        narrow.output()
    with pytest.raises(ShapeError, match="must be in_channels=2"):
        evaluate(narrow, (2, 3, 3, 6), everywhere((2, 3, 3, 6)))


def test_a_rearrangement_of_elements_that_are_not_there_is_no_layer():
    spec = ConvSpec(2, 5, (2, 3))
    layer = right_layer(spec, ConvParams.random(spec, seed=1), np.ones((1, 2, 4, 4)))
    wrong = layer.then(transpose(0, 2, 3, 1)).then(take(slice(None), np.array([4, 0, 1])))
    with pytest.raises(ShapeError, match="no such elements"):
        wrong.output()
    assert layer.then(take(slice(None), np.array([4, 0, 1]))).output().shape == (1, 3, 3, 2)

"""The distance of wrong layers from numbers: a few elements rule out, all elements decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.diagnosis.evidence import Evidence, evaluate
from convspec.diagnosis.faulty_layer import pad, right_layer
from convspec.spec import rounded

SPEC = ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=(1, 2))
PARAMS = ConvParams.random(SPEC, 3)
X = np.random.default_rng(0).standard_normal((2, 3, 21, 17)).astype(np.float32)
LAYER = right_layer(SPEC, PARAMS, X)
RIGHT = LAYER.output()


def evidence(actual, dtype="float32"):
    return Evidence(LAYER, actual.astype(np.float32), dtype)


def test_right_numbers_are_explained_by_rounding():
    found = evidence(RIGHT).right
    assert found.explains
    assert found.exact
    assert 0 < found.worst < 1
    assert found.wrong == 0
    assert 0 < found.rms < 1  # more than a thousand elements: the statistics apply
    assert found.bound == evidence(RIGHT).limits(LAYER).relative
    equal = Evidence(LAYER, RIGHT, "float64").right
    assert (equal.worst, equal.wrong, equal.exact, equal.rms) == (0, 0, True, 0)


def test_the_distance_is_the_largest_error_and_the_fraction_of_wrong_elements():
    actual = RIGHT.copy()
    actual[0, 1, 2, 3] += 1
    actual[1, 2, 3, 4] += 3
    seen = evidence(actual)
    limits = seen.limits(LAYER)
    at = (1, 2, 3, 4)
    bound = LAYER.magnitude()[at] * limits.relative + limits.absolute
    assert seen.right.worst == pytest.approx(3 / bound, rel=1e-6)
    assert seen.right.wrong == 2 / RIGHT.size
    assert not seen.right.exact
    assert not seen.right.explains
    ratios = seen.ratios()
    assert np.argwhere(ratios > 1).tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert ratios.max() == seen.right.worst
    chosen = set(zip(*(axis.tolist() for axis in seen.points), strict=True))
    assert {(0, 1, 2, 3), at, (0, 0, 0, 0), tuple(n - 1 for n in RIGHT.shape)} <= chosen
    assert len(chosen) >= 16


def test_the_statistics_tell_a_systematic_error_that_no_element_shows():
    size = LAYER.magnitude()
    limits = evidence(RIGHT).limits(LAYER)
    actual = RIGHT + 0.5 * limits.relative * size  # half the bound, everywhere
    found = Evidence(LAYER, actual.astype(np.float64), "float32").right
    assert found.worst < 1 < found.rms
    assert not found.explains
    assert found.rms == pytest.approx(0.5 * limits.relative / limits.unit / limits.rms, rel=1e-3)


def test_a_finished_layer_has_no_statistics():
    coarse = replace(LAYER, finish=lambda y: np.asarray(rounded(y, "float16"), np.float64))
    found = evidence(coarse.output()).distance(coarse)
    assert (found.rms, found.wrong, found.explains) == (0, 0, True)
    assert found.exact
    assert not evidence(coarse.output()).right.explains


def test_wrong_layers_are_screened_by_some_elements_and_judged_by_all():
    flipped = LAYER.with_kernel(LAYER.params.kernel[..., ::-1])
    seen = evidence(flipped.output())
    assert seen.screen(flipped) == 0
    assert seen.distance(flipped).explains
    assert seen.screen(LAYER) > 0.5
    narrow = replace(LAYER, x=LAYER.x[:, :, :-2])
    assert seen.screen(narrow) is None  # another shape
    assert seen.distance(narrow) is None
    impossible = replace(LAYER, x=LAYER.x[:, :1])
    assert seen.screen(impossible) is None
    assert seen.distance(impossible) is None


def test_a_layer_that_explains_the_first_elements_only_is_asked_for_more():
    """The fraction is that of all chosen elements, not of the first few that it happens to explain."""
    other = LAYER.with_kernel(LAYER.params.kernel[..., ::-1]).output()
    actual = RIGHT.copy()
    seen = evidence(actual)
    for axis in zip(*(axis[6:] for axis in seen.points), strict=True):
        actual[axis] = other[axis]
    mixed = Evidence(LAYER, actual.astype(np.float32), "float32")
    mixed.points, mixed.few = seen.points, seen.few
    share = (len(seen.points[0]) - 6) / len(seen.points[0])
    assert mixed.screen(LAYER) == pytest.approx(share, abs=0.05)
    assert mixed._unexplained(LAYER, mixed.few) == 0


def test_right_numbers_are_no_mistake():
    """A wrong layer that gives the right numbers explains nothing; in another arithmetic it may."""
    assert evidence(RIGHT).distance(LAYER) is None
    assert evidence(RIGHT).distance(replace(LAYER, dtype="float16")) is not None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_far_unless_it_is_the_same(value):
    actual = RIGHT.copy()
    actual[0, 0, 0, 0] = value
    assert evidence(actual).right.worst == np.inf
    assert evidence(actual).right.wrong == 1 / RIGHT.size
    x = X.astype(np.float64)
    x[0, 0, 0, 0] = value
    layer = right_layer(SPEC, PARAMS, x)
    with np.errstate(invalid="ignore"):
        output = reference.conv(SPEC, PARAMS, x)
        assert Evidence(layer, output.astype(np.float32), "float32").right.explains


def test_too_large_a_number_is_infinite():
    layer = right_layer(SPEC, PARAMS, X * np.float32(1e6))
    with np.errstate(over="ignore"):
        actual = layer.output().astype(np.float16)
    assert np.isinf(actual).any()
    assert Evidence(layer, actual, "float16").right.worst < 1
    assert Evidence(layer, -actual, "float16").right.wrong > 0.9


def test_few_elements_are_all_chosen():
    small = right_layer(ConvSpec(1, 2, 1), ConvParams(np.ones((2, 1, 1, 1)), np.zeros(2)), np.ones((1, 1, 2, 3)))
    found = Evidence(small, small.output().astype(np.float32), "float32")
    assert len(found.points[0]) == 12
    assert len(found.few[0]) == 6


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("transposed", [False, True])
def test_single_elements_are_those_of_the_whole_in_every_padding_mode(mode, transposed):
    if transposed and mode != "zeros":
        return
    spec = ConvSpec(2, 4, (3, 2), (1, 2), ((2, 1), (0, 3)), (2, 1), 2, True, mode, transposed)
    layer = right_layer(spec, ConvParams.exact(spec), np.random.default_rng(1).integers(-5, 6, (2, 2, 6, 5)))
    y = layer.output()
    values, sizes = evaluate(layer, y.shape, np.unravel_index(np.arange(y.size), y.shape))
    assert np.array_equal(values.reshape(y.shape), y)
    assert np.array_equal(sizes.reshape(y.shape), layer.magnitude())


def test_elements_of_an_empty_layer_that_a_pad_puts_there_are_zero():
    spec = ConvSpec(1, 1, (1, 1), padding=((0, 1), (0, 0)), transposed=True)  # crops the only row
    empty = right_layer(spec, ConvParams(np.ones((1, 1, 1, 1)), np.ones(1)), np.ones((1, 1, 1, 3)))
    wrong = empty.then(pad((2, 0), (0, 0)))
    values, sizes = evaluate(wrong, (1, 1, 2, 3), np.unravel_index(np.arange(6), (1, 1, 2, 3)))
    assert values.tolist() == sizes.tolist() == [0] * 6

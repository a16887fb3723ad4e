import json

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec
from convspec.diagnosis.error_location import locate
from convspec.diagnosis.faulty_layer import right_layer

SPEC = ConvSpec(4, 6, (3, 3), padding=1, groups=2)
LAYER = right_layer(SPEC, ConvParams.exact(SPEC), np.ones((2, 4, 8, 9)))


def where(*index, layer=LAYER):
    ratios = np.zeros(layer.output_shape)
    ratios[index] = 50.0
    return locate(ratios, 1e-6, layer)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ((..., slice(None)), "everywhere"),
        ((1,), "sample 1 only (of 2)"),
        ((slice(None), 2), "output channel 2 only (of 6)"),
        ((slice(None), slice(3, 6)), "group 1 only (of 2)"),
        ((..., slice(None, None, 2)), "every second position along W, from 0 to 8"),
        ((..., slice(1, None, 3)), "every third position along W, from 1 to 7"),
        ((..., slice(0, 1), slice(None)), "the leading border along H, where windows read padding"),
        ((..., [0, -1]), "both borders along W, where windows read padding"),
        ((..., slice(1, None)), "every position along W but the first"),
        ((..., slice(None, -2)), "every position along W but the last 2"),
        ((..., slice(3, 6)), "positions 3 to 5 along W only (of 9)"),
        ((..., [1, 2, 5]), "positions 1, 2, 5 along W only (of 9)"),
        ((..., slice(4, 5), slice(None)), "position 4 along H only (of 8)"),
    ],
)
def test_the_smallest_region_is_named(index, words):
    assert words in where(*index).where.split("; ")


def test_border_and_interior():
    inside = (..., slice(1, -1), slice(1, -1))
    assert "in the interior only" in where(*inside).where
    ratios = np.full(LAYER.output_shape, 9.0)
    ratios[inside] = 0.5
    assert locate(ratios, 1e-6, LAYER).where == "in the border only, where windows read padding"
    narrow = ConvSpec(2, 3, 3, stride=2, transposed=True, padding=1)
    layer = right_layer(narrow, ConvParams.exact(narrow), np.ones((1, 2, 5, 6)))
    assert "the leading border along H" in where(..., slice(0, 1), slice(None), layer=layer).where


def test_nothing_wrong_is_nowhere():
    assert locate(np.ones(LAYER.output_shape), 1e-6, LAYER) is None


def test_the_picture_is_of_the_worst_channel_and_darker_where_worse():
    ratios = np.zeros(LAYER.output_shape)
    ratios[1, 4, 2, 3], ratios[1, 4, 5, 6], ratios[0, 0, 0, 0] = 1e9, 30, 20
    place = locate(ratios, 1e-12, LAYER)
    assert place.channel == (1, 4)
    assert (len(place.picture), len(place.picture[0])) == (8, 9)
    assert place.picture[2] == "···█·····"
    assert place.picture[5] == "······░··"
    assert "no more than rounding to a coarser format gives" in place.sentence
    assert json.loads(json.dumps(place.to_dict(), allow_nan=False))["wrong"] == 3


def test_large_pictures_are_thinned_and_other_ranks_drawn():
    big = ConvSpec(1, 1, 1)
    layer = right_layer(big, ConvParams.exact(big), np.ones((1, 1, 100, 300)))
    picture = where(0, 0, 99, 299, layer=layer).picture
    assert len(picture) <= 16
    assert len(picture[0]) <= 64
    assert picture[-1][-1] != "·"
    for ndim in (1, 3):
        spec = ConvSpec(1, 1, 1, ndim=ndim)
        layer = right_layer(spec, ConvParams.exact(spec), np.ones((1, 1, *(4,) * ndim)))
        assert where(0, 0, *(2,) * ndim, layer=layer).picture[0 if ndim == 1 else 2] == "··░·"


def test_what_is_not_finite_is_said():
    ratios = np.zeros(LAYER.output_shape)
    ratios[0, 0, 0, 0] = np.inf
    place = locate(ratios, 1e-6, LAYER)
    assert "some are not finite" in place.sentence
    assert json.dumps(place.to_dict(), allow_nan=False)


def test_an_element_is_wrong_as_soon_as_it_is_beyond_its_bound():
    ratios = np.ones(LAYER.output_shape)
    ratios[1, 4, 2, 3] = 1.5
    ratios[0, 2, 1, 1] = 1.25
    place = locate(ratios, 1e-6, LAYER)
    assert place.to_dict()["wrong"] == 2
    assert place.channel == (1, 4)
    assert sum(row.count("·") for row in place.picture) == 8 * 9 - 1


def test_of_a_volume_the_slice_with_most_wrong_elements_is_drawn():
    spec = ConvSpec(1, 1, 1, ndim=3)
    layer = right_layer(spec, ConvParams.exact(spec), np.ones((1, 1, 3, 4, 5)))
    ratios = np.zeros(layer.output_shape)
    ratios[0, 0, 0] = 1.0  # within the bound
    ratios[0, 0, 1, 3, 4] = 1e9
    ratios[0, 0, 2, 1, :2] = 30
    assert locate(ratios, 1e-6, layer).picture == ("·····", "░░···", "·····", "·····")

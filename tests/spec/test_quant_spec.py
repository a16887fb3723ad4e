"""QuantSpec: canonical form, rules, ends of the output."""

import numpy as np
import pytest

from convspec import ConvSpec, QuantSpec
from convspec.errors import SpecError


def test_numbers_are_stored_in_the_format_of_runtimes():
    spec = QuantSpec(
        input_scale=0.1, weight_scale=np.float32([0.25, 0.1]), weight_zero=np.array([1, -2]), output_zero=np.int8(3)
    )
    assert spec.input_scale == float(np.float32(0.1))
    assert spec.weight_scale == (0.25, float(np.float32(0.1)))
    assert (spec.weight_zero, spec.output_zero) == ((1, -2), 3)
    assert not spec.symmetric
    assert hash(spec) == hash(QuantSpec(input_scale=0.1, weight_scale=[0.25, 0.1], weight_zero=[1, -2], output_zero=3))
    assert QuantSpec().symmetric


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": "int4"}, "input='int4' must be one of 'int8', 'uint8', 'int16'"),
        ({"input": "int32"}, "input='int32' must be one of"),
        ({"bias": "int8"}, "bias='int8' must be one of 'int32', 'int64'"),
        ({"activation": "gelu"}, "activation='gelu' must be one of 'none', 'relu'"),
        ({"input_zero": 128}, "input_zero=128 must be an int from -128 to 127"),
        ({"input": "uint8", "input_zero": -1}, "input_zero=-1 must be an int from 0 to 255"),
        ({"output_zero": 1.5}, "output_zero=1.5 must be an int"),
        ({"output_scale": 0.0}, "output_scale=0.0 must be a number above 0 in float32"),
        ({"output_scale": 1e-60}, "output_scale=1e-60 must be"),
        ({"input_scale": 1e60}, "input_scale=1e+60 must be"),
        ({"input_scale": [0.5, 0.5]}, "input_scale=[0.5, 0.5] must be a number above 0"),
        ({"weight_scale": []}, "weight_scale=[] must be a number above 0 in float32 or one per output channel"),
        ({"weight_scale": (0.1, float("nan"))}, "weight_scale="),
        ({"weight_scale": "0.1"}, "weight_scale='0.1' must be"),
    ],
)
def test_each_broken_rule_is_named(changes, words):
    with pytest.raises(SpecError) as caught:
        QuantSpec(**changes)
    assert words in str(caught.value)


def test_all_broken_rules_are_named_at_once():
    with pytest.raises(SpecError) as caught:
        QuantSpec(input="float32", output_zero=999, weight_scale=-1)
    assert [problem.partition("=")[0] for problem in caught.value.problems] == ["input", "weight_scale", "output_zero"]


def test_numbers_of_the_weight_must_fit_the_layer():
    layer = ConvSpec(3, 4, 3)
    assert QuantSpec(weight_scale=(1, 2, 3, 4), weight_zero=1).check(layer)
    with pytest.raises(SpecError, match="weight_scale must be one number, or one for each of 4 output channels, not 3"):
        QuantSpec(weight_scale=(1, 2, 3)).check(layer)


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ({}, (-128, 127)),
        ({"output": "uint8", "activation": "relu", "output_zero": 7}, (7, 255)),
        ({"activation": "relu6", "output_zero": -20, "output_scale": 0.125}, (-20, 28)),
        ({"activation": "relu6", "output_scale": 0.03}, (0, 127)),
        ({"activation": "relu_n1_to_1", "output_scale": 0.25, "output_zero": 1}, (-3, 5)),
        ({"output": "int32"}, (-(2**31), 2**31 - 1)),
    ],
)
def test_the_ends_are_those_of_the_type_or_the_activation(fields, ends):
    assert QuantSpec(**fields).limits == ends

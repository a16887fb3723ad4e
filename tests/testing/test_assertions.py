"""The assertion that needs no framework."""

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.errors import ShapeError
from convspec.testing.assertions import assert_output

SPEC = ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=(1, 2))
PARAMS = ConvParams.random(SPEC, seed=5)
X = np.random.default_rng(1).standard_normal((2, 3, 9, 11)).astype(np.float32)
Y = reference.conv(SPEC, PARAMS, X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_numbers_pass_in_both_layouts(dtype):
    assert_output(SPEC, PARAMS, X, Y.astype(dtype))
    assert_output(SPEC, PARAMS, X.transpose(0, 2, 3, 1), Y.transpose(0, 2, 3, 1).astype(dtype), layout="NHWC")


def test_right_numbers_of_float16_pass_and_do_not_pass_for_float32():
    params, x = ConvParams.random(SPEC, seed=5, dtype="float16"), X.astype(np.float16)
    y = reference.conv(SPEC, params, x).astype(np.float16)
    assert_output(SPEC, params, x, y)
    with pytest.raises(AssertionError, match="the output is not that of ConvSpec"):
        assert_output(SPEC, params, x, y.astype(np.float32), dtype="float32")


def test_a_mistake_is_named():
    twice = (Y + PARAMS.bias[:, None, None]).astype(np.float32)
    with pytest.raises(AssertionError, match=r"(?s)value: .* are wrong.*\[bias-added-twice\]"):
        assert_output(SPEC, PARAMS, X, twice)


def test_flattened_numbers_in_the_wrong_order_are_named():
    wrong = Y.transpose(0, 2, 3, 1).reshape(len(Y), -1).astype(np.float32)
    with pytest.raises(AssertionError, match=r"(?s)shape .*flatten"):
        assert_output(SPEC, PARAMS, X, wrong)


def test_what_cannot_be_computed_is_no_disagreement():
    with pytest.raises(ShapeError, match="axis 1"):
        assert_output(SPEC, PARAMS, X.transpose(0, 2, 3, 1), Y)

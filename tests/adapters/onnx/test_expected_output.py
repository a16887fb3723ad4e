"""The oracle's result for a node is used again for the same numbers, and for no others."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
from convspec_onnx.verify.judge import ExpectedCache, expected_output

from convspec import ConvParams, ConvSpec, reference

pytestmark = pytest.mark.onnx

SPEC = ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=(1, 0))
FIRST, SECOND = (ConvParams.random(SPEC, seed=seed) for seed in (1, 2))
X, Y = (np.random.default_rng(seed).standard_normal((2, 3, 7, 9)) for seed in (3, 4))


@pytest.mark.parametrize(
    ("params", "x"),
    [
        (SECOND, X), (ConvParams(SECOND.kernel, FIRST.bias), X), (ConvParams(FIRST.kernel, SECOND.bias), X),
        (FIRST, Y), (FIRST, X[:1]), (ConvParams(FIRST.kernel.copy(), FIRST.bias), X),
    ],
    ids=["weights", "kernel", "bias", "input", "samples", "the same numbers in another array"],
)  # fmt: skip
def test_a_kernel_that_the_graph_computes_anew_has_an_oracle_of_its_own(params, x):
    cache = ExpectedCache()
    expected_output(SPEC, FIRST, X, cache)
    output, magnitude, ignore = expected_output(SPEC, params, x, cache)
    np.testing.assert_array_equal(output, reference.conv(SPEC, params, x))
    np.testing.assert_array_equal(magnitude, reference.magnitude(SPEC, params, x))
    assert ignore is None
    again, *_ = expected_output(SPEC, FIRST, X, cache)
    np.testing.assert_array_equal(again, reference.conv(SPEC, FIRST, X))


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_the_same_numbers_are_computed_once(value):
    x = X.copy()
    x[0, 0, 0, 0] = value
    cache = ExpectedCache()
    first = expected_output(SPEC, FIRST, x, cache)
    assert expected_output(SPEC, FIRST, x.copy(), cache) is first
    assert expected_output(SPEC, FIRST, x) is not first


def test_an_infinite_weight_is_ignored_where_it_meets_a_pad():
    params = ConvParams(FIRST.kernel.copy(), FIRST.bias)
    params.kernel[0, 0, 0, 0] = np.inf
    *_, ignore = expected_output(SPEC, params, X, ExpectedCache())
    assert ignore[:, 0, 0].all()
    assert not ignore[:, 1:].any()
    assert not ignore[:, :, 1:].any()

"""Verdicts: every way to be wrong is found and said, and nothing right is blamed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convspec.reference import error_bounds
from convspec.reference.verdict import BLOCK, judge
from convspec.spec.dtypes import ComputePrecision, rounded

SHAPE = (2, 3, 5, 7)
EXACT = {"dtype": "float32", "data": "exact", "products": 9, "arithmetic": ComputePrecision("float32")}
RANDOM = EXACT | {"data": "random"}


def integers(shape=SHAPE):
    return np.random.default_rng(0).integers(1, 100, shape).astype(np.float64)


def reals(shape=SHAPE):
    return np.random.default_rng(1).standard_normal(shape)


def random_verdict(actual, expected, **changes):
    return judge(actual, expected, np.abs(expected) + 1, **RANDOM | changes)


def test_equal_exact_results_agree():
    found = judge(integers().astype(np.float32), integers(), None, **EXACT)
    assert (found.verdict, found.reason) == ("agree", "")
    assert found.evidence["total"] == 210
    assert found.evidence["wrong"] == 0


def test_the_first_of_several_wrong_elements_is_named():
    actual = integers().astype(np.float32)
    actual[1, 2, 3, 4] += 40
    actual[0, 1, 4, 2] = np.nextafter(actual[0, 1, 4, 2], np.float32(1000))
    found = judge(actual, integers(), None, **EXACT)
    assert found.verdict == "disagree"
    assert found.reason.startswith("value: 2 of 210")
    assert found.evidence["index"] == [0, 1, 4, 2]
    assert found.evidence["worst_q"] == 40
    assert found.evidence["bound"] == 0


@pytest.mark.parametrize("options", [EXACT, RANDOM], ids=["exact", "random"])
class TestForm:
    def test_shape(self, options):
        found = judge(np.zeros((2, 3, 5), np.float32), integers(), integers(), **options)
        assert (found.verdict, found.reason[:5]) == ("disagree", "shape")

    def test_a_shape_that_broadcasts_is_no_less_wrong(self, options):
        found = judge(integers()[:1].astype(np.float32), integers(), integers(), **options)
        assert (found.verdict, found.reason[:5]) == ("disagree", "shape")

    def test_dtype(self, options):
        found = judge(integers(), integers(), integers(), **options)
        assert (found.verdict, found.reason) == ("disagree", "dtype float64 where float32 was asked for")

    def test_digits_that_bfloat16_has_not(self, options):
        actual = integers().astype(np.float32) + np.float32(2**-12)
        found = judge(actual, integers(), integers(), **options | {"dtype": "bfloat16"})
        assert (found.verdict, found.reason[:5]) == ("disagree", "dtype")

    def test_nan(self, options):
        actual = integers().astype(np.float32)
        actual[1, 0, 0, 3] = np.nan
        found = judge(actual, integers(), integers(), **options)
        assert (found.verdict, found.reason[:3]) == ("disagree", "nan")
        assert found.evidence["index"] == [1, 0, 0, 3]
        assert found.evidence["got"] == "nan"

    def test_infinity(self, options):
        actual = integers().astype(np.float32)
        actual[1, 0, 0, 3] = np.inf
        assert judge(actual, integers(), integers(), **options).verdict == "disagree"

    def test_zero_everywhere(self, options):
        found = judge(np.zeros(SHAPE, np.float32), integers(), integers(), **options)
        assert (found.verdict, found.reason[:7]) == ("disagree", "vacuous")

    def test_evidence_is_json_without_nan(self, options):
        actual = np.full(SHAPE, np.nan, np.float32)
        for wrong in (actual, actual * 0 + np.inf, integers().astype(np.float32)):
            evidence = json.loads(json.dumps(judge(wrong, integers(), integers(), **options).evidence, allow_nan=False))
            assert evidence["total"] == actual.size

    def test_an_empty_result_agrees_by_its_shape(self, options):
        empty = np.zeros((0, 3, 5))
        found = judge(empty.astype(np.float32), empty, empty, **options)
        assert (found.verdict, found.evidence["total"]) == ("agree", 0)

    def test_ignored_elements_are_not_compared_and_counted(self, options):
        actual = integers().astype(np.float32)
        actual[0, 0, 0, 0] = np.nan
        ignore = np.zeros(SHAPE, bool)
        ignore[0, 0, 0, 0] = True
        found = judge(actual, integers(), integers(), **options, ignore=ignore)
        assert (found.verdict, found.evidence["ignored"]) == ("agree", 1)
        ignore[0, 0, 0] = [False, *[True] * 6]
        assert judge(actual, integers(), integers(), **options, ignore=ignore).verdict == "disagree"


def test_data_that_are_not_exact_are_not_judged_as_such():
    with pytest.raises(ValueError, match="not exact"):
        judge(integers().astype(np.float32), integers(), integers() + 2.0**24, **EXACT)


def test_random_data_need_the_magnitude():
    with pytest.raises(ValueError, match="magnitude"):
        judge(integers().astype(np.float32), integers(), None, **RANDOM)


def test_rounding_agrees_and_one_element_beyond_the_bound_does_not():
    y = reals((2, 5, BLOCK // 4, 3))  # several blocks
    actual = y.astype(np.float32)
    assert random_verdict(actual, y).verdict == "agree"
    at = (1, 4, BLOCK // 4 - 1, 1)
    actual[at] += 1e-4
    found = random_verdict(actual, y)
    assert found.verdict == "disagree"
    assert found.reason.startswith("value: 1 of")
    assert found.evidence["index"] == list(at)
    assert found.evidence["worst_q"] > found.evidence["bound"] > 9


def test_the_order_of_axes_in_memory_does_not_matter():
    y = reals()
    actual = np.ascontiguousarray(y.astype(np.float32).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    actual[1, 2, 0, 6] += 1
    assert random_verdict(actual, y).evidence["index"] == [1, 2, 0, 6]


def test_the_statistical_bound_sees_what_the_hard_one_cannot():
    y = reals((10, 10, 10, 3))
    shift = 40 * 2.0**-24 * (np.abs(y) + 1)
    found = random_verdict((y + shift).astype(np.float32), y, products=500)
    assert found.verdict == "disagree"
    assert found.reason.startswith("precision")
    assert found.evidence["wrong"] == 0
    assert found.evidence["mean_q"] == pytest.approx(40, rel=0.01)


def test_the_statistical_bound_is_said_not_to_apply_to_few_outputs_and_to_other_data():
    y = reals()
    shift = 40 * 2.0**-24 * (np.abs(y) + 1)
    found = random_verdict((y + shift).astype(np.float32), y, products=500)
    assert found.verdict == "agree"
    assert found.evidence["statistical"] == "not applied: 210 outputs, fewer than 1000"
    assert "random" in random_verdict(y.astype(np.float32), y, data="wide").evidence["statistical"]


@pytest.mark.parametrize("data", ["nonfinite", "random"])
def test_the_footprint_of_nan_and_infinity_must_match(data):
    y = integers()
    y[0, 0, 0, :4] = [np.nan, np.inf, -np.inf, 5]
    actual = y.astype(np.float32)
    options = EXACT | {"data": data}
    assert judge(actual, y, np.abs(y), **options).verdict == "agree"
    for place, value in ((0, 1.0), (1, -np.inf), (2, np.nan), (3, np.inf), (1, 7.0)):
        wrong = actual.copy()
        wrong[0, 0, 0, place] = value
        found = judge(wrong, y, np.abs(y), **options)
        assert found.verdict == "disagree", (place, value)
        assert found.evidence["wrong"] == 1
        json.dumps(found.evidence, allow_nan=False)


def test_overflow_to_infinity_is_right_rounding_only_beyond_the_largest_number():
    options = RANDOM | {"dtype": "float16"}
    big = np.array([70000.0, -70000.0, 3.0])
    with np.errstate(over="ignore"):
        assert judge(big.astype(np.float16), big, np.abs(big), **options).verdict == "agree"
    assert (
        judge(np.array([np.inf], np.float16), np.array([60000.0]), np.array([60000.0]), **options).verdict == "disagree"
    )
    wrong_sign = np.array([-np.inf, -np.inf, 3], np.float16)
    assert judge(wrong_sign, big, np.abs(big), **options).verdict == "disagree"


def test_flushed_subnormals_are_right_only_where_declared():
    y = np.array([2.0**-130, 1.0])
    actual = np.array([0, 1], np.float32)
    assert judge(actual, y, y, **RANDOM).verdict == "disagree"
    flushing = ComputePrecision("float32", flushes_subnormals=True)
    assert judge(actual, y, y, **RANDOM | {"arithmetic": flushing}).verdict == "agree"


def test_where_the_magnitude_is_zero_only_zero_is_right():
    y = np.array([0.0, 1.0])
    assert judge(np.array([0, 1], np.float32), y, y, **RANDOM).verdict == "agree"
    found = judge(np.array([1e-30, 1], np.float32), y, y, **RANDOM)
    assert (found.verdict, found.evidence["index"]) == ("disagree", [0])
    json.dumps(found.evidence, allow_nan=False)


# -- compared with another run -----------------------------------------------------------------------------------------


def sums(x, w, dtype="float32", inputs=None):
    """Sums of products in float32, one after the other; inputs rounded first, results rounded last."""
    if inputs is not None:
        x, w = rounded(x, inputs), rounded(w, inputs)
    total = np.zeros(len(x), np.float32)
    for place in range(x.shape[1]):
        total = total + x[:, place].astype(np.float32) * w[:, place].astype(np.float32)
    return rounded(total, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_two_orders_of_summation_agree_and_an_undeclared_arithmetic_does_not(dtype):
    rng = np.random.default_rng(2)
    x, w = (rounded(rng.standard_normal((4000, 300)), dtype) for _ in range(2))
    size = (np.abs(x).astype(np.float64) * np.abs(w)).sum(axis=1)
    one, other = sums(x, w, dtype), sums(x[:, ::-1], w[:, ::-1], dtype).astype(np.float64)
    assert (one != other).any() or dtype == "bfloat16"  # products of 16 bits: few sums are rounded to another number
    asked = {"dtype": dtype, "data": "random", "products": 300}
    plain = ComputePrecision("float32")
    assert judge(one, other, size, **asked, arithmetic=plain, other=plain).verdict == "agree"
    coarse = sums(x, w, "float32", "tf32")
    if dtype == "float32":
        found = judge(coarse, other, size, **asked, arithmetic=plain, other=plain)
        assert found.verdict == "disagree"
        declared = ComputePrecision("float32", inputs="tf32")
        assert judge(coarse, other, size, **asked, arithmetic=declared, other=plain).verdict == "agree"
        assert judge(one, coarse.astype(np.float64), size, **asked, arithmetic=plain, other=declared).verdict == "agree"


def test_the_bound_of_a_difference_is_that_of_both():
    """One result at the edge of its bound above, the other below: right both, and right against each other."""
    y, edge = reals(), error_bounds.bounds("float32", 9, ComputePrecision("float32")).relative
    size = np.abs(y) + 1
    above, below = ((y + sign * 0.9 * edge * size).astype(np.float32) for sign in (1, -1))
    for one in (above, below):
        assert judge(one, y, size, **RANDOM).verdict == "agree"
    assert judge(above, below.astype(np.float64), size, **RANDOM).verdict == "disagree"
    assert judge(above, below.astype(np.float64), size, **RANDOM, other=ComputePrecision("float32")).verdict == "agree"
    beyond = (y - 1.2 * edge * size).astype(np.float32).astype(np.float64)
    assert judge(above, beyond, size, **RANDOM, other=ComputePrecision("float32")).verdict == "disagree"

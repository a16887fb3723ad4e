"""What must not change a verdict, and what its evidence must be by definition, on random results."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convspec.reference import error_bounds, judge
from convspec.reference import verdict as module
from convspec.spec import ComputePrecision

FLOAT32, FLUSHING = ComputePrecision("float32"), ComputePrecision("float32", flushes_subnormals=True)
SHAPE = (3, 5, 8, 11)  # more than a thousand elements
U = 2.0**-24


def options(dtype="float32", data="random", products=40, arithmetic=FLOAT32, **further):
    return {"dtype": dtype, "data": data, "products": products, "arithmetic": arithmetic, **further}


def result(seed, errors=3.0, dtype=np.float32, shape=SHAPE, wrong=0):
    """A result, the right one and its magnitude; errors in units of u·G, some of them far beyond the bound."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(shape)
    size = np.abs(y) + rng.uniform(0.1, 2, shape)
    actual = y + rng.uniform(-errors, errors, shape) * U * size
    spots = rng.choice(y.size, wrong, replace=False)
    actual.reshape(-1)[spots] += (
        rng.choice([-1, 1], wrong) * rng.uniform(200, 4000, wrong) * U * size.reshape(-1)[spots]
    )
    return actual.astype(dtype), y, size


@pytest.mark.parametrize("arithmetic", [FLOAT32, FLUSHING, ComputePrecision("float32", output_roundings=2)])
@pytest.mark.parametrize(("dtype", "wrong", "errors"), [
    ("float32", 0, 2.0), ("float32", 4, 2.0), ("float32", 0, 30.0), ("float16", 0, 2.0), ("float16", 3, 2.0),
    ("float64", 0, 0.0),
])  # fmt: skip
def test_the_evidence_is_what_the_definitions_say(dtype, wrong, errors, arithmetic):
    """q = (|ŷ - y| less the rounding of the output) / (u·G + η), one element at a time."""
    actual, y, size = result(7, errors, dtype, wrong=wrong)
    actual.reshape(-1)[:wrong] += actual.dtype.type(0.5)
    arithmetic = ComputePrecision("float64") if dtype == "float64" else arithmetic
    limits = error_bounds.bounds(dtype, 40, arithmetic)
    found = judge(actual, y, size, **options(dtype, arithmetic=arithmetic))
    ratios, squares, signed, counted, beyond = [], 0.0, 0.0, 0, 0
    for a, b, g in zip(
        actual.reshape(-1).astype(float).tolist(), y.reshape(-1).tolist(), size.reshape(-1).tolist(), strict=True
    ):
        error = abs(a - b)
        ratios.append(error / (limits.relative * g + limits.absolute))
        beyond += ratios[-1] > 1
        if limits.output_rounding:
            error = max(error - abs(a) * limits.output_rounding - limits.absolute - g * limits.further_rounding, 0.0)
        q = error / (limits.unit * g + limits.floor)
        squares, signed, counted = squares + q * q, signed + math.copysign(q, a - b) * (a != b), counted + 1
    evidence, worst = found.evidence, int(np.argmax(ratios))
    at = np.unravel_index(worst, SHAPE)
    unit = limits.unit * size[at] + limits.floor
    assert (evidence["total"], evidence["wrong"], evidence["unit"]) == (y.size, beyond, "u*G")
    assert evidence["index"] == list(at)
    assert (evidence["got"], evidence["expected"]) == (float(actual[at]), y[at])
    assert evidence["worst_q"] == pytest.approx(abs(float(actual[at]) - y[at]) / unit, rel=1e-12)
    assert evidence["bound"] == pytest.approx((limits.relative * size[at] + limits.absolute) / unit, rel=1e-12)
    assert evidence["statistical"] == "applied"
    assert evidence["rms_q"] == pytest.approx(math.sqrt(squares / counted), rel=1e-9)
    assert evidence["mean_q"] == pytest.approx(signed / counted, rel=1e-6, abs=1e-12)
    assert evidence["rms_bound"] == limits.rms
    assert (found.verdict == "agree") is (beyond == 0 and evidence["rms_q"] <= limits.rms)
    assert found.reason.partition(":")[0] == ("value" if beyond else "" if found.verdict == "agree" else "precision")
    assert set(evidence) == {"total", "wrong", "unit", "index", "got", "expected", "worst_q", "bound", "statistical",
                             "rms_q", "rms_bound", "mean_q"}  # fmt: skip


CASES = [(0, 2.0), (4, 2.0), (0, 40.0)]  # right; some elements wrong; another arithmetic


@pytest.mark.parametrize(("wrong", "errors"), CASES)
def test_the_order_of_elements_and_the_sign_do_not_matter(wrong, errors):
    actual, y, size = result(3, errors, wrong=wrong)
    plain = judge(actual, y, size, **options(products=4))
    order = np.random.default_rng(1).permutation(y.size)
    moved = judge(*(a.reshape(-1)[order].reshape(SHAPE) for a in (actual, y, size)), **options(products=4))
    negated = judge(-actual, -y, size, **options(products=4))
    for other in (moved, negated):
        assert (other.verdict, other.reason.split(":")[0]) == (plain.verdict, plain.reason.split(":")[0])
        for key in ("total", "wrong", "worst_q", "bound", "rms_q"):
            assert other.evidence[key] == pytest.approx(plain.evidence[key], rel=1e-12), key
    assert negated.evidence["mean_q"] == pytest.approx(-plain.evidence["mean_q"], rel=1e-12)
    assert negated.evidence["index"] == plain.evidence["index"]
    assert order[np.ravel_multi_index(moved.evidence["index"], SHAPE)] == np.ravel_multi_index(
        plain.evidence["index"], SHAPE
    )


@pytest.mark.parametrize(("wrong", "errors"), CASES)
def test_a_power_of_two_scales_nothing_but_the_numbers(wrong, errors):
    actual, y, size = result(4, errors, wrong=wrong)
    plain, scaled = (judge(actual * np.float32(k), y * k, size * k, **options()) for k in (1, 2.0**20))
    assert scaled.verdict == plain.verdict
    for key in ("wrong", "worst_q", "rms_q", "mean_q", "index"):
        assert scaled.evidence[key] == pytest.approx(plain.evidence[key], rel=1e-9), key
    assert scaled.evidence["got"] == plain.evidence["got"] * 2.0**20


@pytest.mark.parametrize(("wrong", "errors"), CASES)
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_size_of_a_block_does_not_matter(monkeypatch, wrong, errors, block):
    actual, y, size = result(5, errors, wrong=wrong)
    whole = judge(actual, y, size, **options())
    monkeypatch.setattr(module, "BLOCK", block)
    parts = judge(actual, y, size, **options())
    assert (parts.verdict, parts.evidence["index"], parts.evidence["wrong"]) == (
        whole.verdict, whole.evidence["index"], whole.evidence["wrong"],
    )  # fmt: skip
    for key in ("rms_q", "mean_q", "worst_q"):
        assert parts.evidence[key] == pytest.approx(whole.evidence[key], rel=1e-9)


@pytest.mark.parametrize("data", ["exact", "random", "nonfinite"])
def test_elements_to_ignore_are_as_if_they_were_right(data):
    actual, y, size = result(6, 0.0, wrong=6)
    if data != "random":
        y, size = np.round(y * 8), np.round(size * 8) + 8
        actual = y.astype(np.float32)
        actual[0, 0, 0, :4] += 1
    wrong = np.abs(actual - y) > 100 * U * size
    assert judge(actual, y, size, **options(data=data)).verdict == "disagree"
    found = judge(actual, y, size, **options(data=data, ignore=wrong))
    assert (found.verdict, found.evidence["ignored"], found.evidence["wrong"]) == ("agree", wrong.sum(), 0)
    assert found.evidence["total"] == y.size
    some = wrong & (np.cumsum(wrong).reshape(SHAPE) > 1)  # all but the first
    found = judge(actual, y, size, **options(data=data, ignore=some))
    assert (found.verdict, found.evidence["wrong"]) == ("disagree", 1)
    assert found.evidence["ignored"] == wrong.sum() - 1
    assert wrong[tuple(found.evidence["index"])]
    assert "ignored" not in judge(actual, y, size, **options(data=data)).evidence


def test_the_evidence_on_exact_data_is_the_first_wrong_element_and_the_largest_error():
    y = np.arange(24.0).reshape(2, 3, 4)
    actual = y.astype(np.float32)
    assert judge(actual, y, y, **options(data="exact")).evidence == {
        "total": 24, "wrong": 0, "bound": 0.0, "worst_q": 0.0, "unit": "1",
    }  # fmt: skip
    actual[0, 2, 1] += 3
    actual[1, 0, 3] -= 5
    found = judge(actual, y, y, **options(data="exact"))
    assert found.evidence == {
        "total": 24, "wrong": 2, "bound": 0.0, "worst_q": 5.0, "unit": "1", "index": [0, 2, 1],
        "got": 12.0, "expected": 9.0,
    }  # fmt: skip
    assert found.reason == "value: 2 of 24 elements are wrong; at (0, 2, 1) got 12.0 where 9.0 is right"
    actual[1, 1, 1] = np.nan
    found = judge(actual, y, y, **options(data="exact"))
    assert (found.evidence["wrong"], found.evidence["worst_q"]) == (3, 5.0)
    assert found.reason == "nan: 1 of 24 elements are NaN where the right ones are not"


@pytest.mark.parametrize("data", ["exact", "random"])
def test_nothing_but_zeros_is_vacuous(data):
    y = np.array([3.0, 0.0, 2.0])
    found = judge(np.zeros(3, np.float32), y, y, **options(data=data))
    assert (found.verdict, found.reason.split(":")[0]) == ("disagree", "vacuous")
    zero = np.zeros(3)
    assert judge(zero.astype(np.float32), zero, zero, **options(data=data)).verdict == "agree"


def test_a_right_result_of_zeros_is_vacuous_only_where_more_than_underflow_is_expected():
    """All sums cancel within their bounds: zero is right for each, and yet nothing was shown."""
    y = np.full(5, 30 * U)
    size = np.ones(5)
    assert judge(np.zeros(5, np.float32), y, size, **options()).reason.startswith("vacuous")
    assert judge(np.zeros(5, np.float32), y, size, **options(data="cancellation")).verdict == "agree"
    tiny = np.full(5, 2.0**-150)
    assert judge(np.zeros(5, np.float32), tiny, tiny, **options()).verdict == "agree"


def test_data_that_are_not_exact_are_no_verdict():
    y = np.array([1.0, 2.0**24])
    judge(y.astype(np.float32), y, y, **options(data="exact"))
    with pytest.raises(ValueError, match="not exact"):
        judge(y.astype(np.float32), y, y + 1, **options(data="exact"))
    with pytest.raises(ValueError, match="need the magnitude"):
        judge(y.astype(np.float32), y, None, **options())
    infinite = np.array([1.0, np.inf])  # of an infinite input: no sum to overflow
    assert judge(infinite.astype(np.float32), infinite, infinite, **options(data="nonfinite")).verdict == "agree"


def test_few_elements_with_a_product_have_no_statistics():
    actual, y, size = result(9, 0.0)
    actual, y, size = (a.reshape(-1)[:1000] for a in (actual, y, size))
    assert judge(actual, y, size, **options()).evidence["statistical"] == "applied"
    empty = y.copy(), size.copy()
    for values in (actual, *empty):
        values[0] = 0  # no product reaches it
    found = judge(actual, *empty, **options()).evidence["statistical"]
    assert found == "not applied: 999 outputs, fewer than 1000"


@pytest.mark.parametrize("data", ["random", "one_sign"])
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_infinities_that_are_right_are_no_error_of_others(special, data):
    actual, y, size = result(2, 1.0)
    plain = judge(actual, y, size, **options(data=data)).evidence
    with np.errstate(invalid="ignore"):
        actual[1, 2, 3, 4] = y[1, 2, 3, 4] = special
        size[1, 2, 3, 4] = np.inf
        found = judge(actual, y, size, **options(data=data))
    assert (found.verdict, found.evidence["wrong"]) == ("agree", 0)
    assert found.evidence["rms_q"] == pytest.approx(plain["rms_q"], rel=1e-2)
    assert found.evidence["worst_q"] == plain["worst_q"]


def test_an_agreement_of_two_runs_is_judged_by_both_arithmetics():
    actual, y, size = result(8, 3.0)
    coarse = ComputePrecision("float32", inputs="tf32")
    near = y + 20 * U * size
    alone, both = (
        judge(actual, near, size, **options(data="wide", products=4, other=other)) for other in (None, coarse)
    )
    assert (alone.verdict, both.verdict) == ("disagree", "agree")


@pytest.mark.parametrize(("actual", "dtype", "word"), [
    (np.zeros((2, 3), np.float32), "float32", "shape"), (np.zeros(3, np.float64), "float32", "dtype"),
    (np.zeros(3, np.float16), "bfloat16", "dtype"), (np.full(3, 1 + 2.0**-20, np.float32), "bfloat16", "dtype"),
    (np.full(3, 1 + 2.0**-7, np.float32), "bfloat16", ""),
])  # fmt: skip
def test_a_result_of_another_form_is_wrong_whatever_its_numbers_are(actual, dtype, word):
    found = judge(actual, np.full(3, 1 + 2.0**-7), np.ones(3), **options(dtype, data="random"))
    assert found.reason.partition(" ")[0].strip(":") == word
    assert (found.verdict == "disagree") is bool(word)
    assert found.evidence["total"] == 3
    assert module.form_problem(actual, (3,), dtype).partition(" ")[0].strip(":") == word

"""The bounds: their constants by hand, their soundness against worst cases and against exact arithmetic."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec import ConvSpec, reference
from convspec.reference import error_bounds
from convspec.spec.dtypes import ComputePrecision, format_of, rounded
from convspec.spec.parameters import ConvParams

FLOAT32 = ComputePrecision("float32")
TF32 = ComputePrecision("float32", inputs="tf32")


def test_gamma_is_highams():
    u = 2.0**-24
    assert error_bounds.gamma(1, u) == u / (1 - u)
    assert error_bounds.gamma(4609, u) == pytest.approx(4609 * u / (1 - 4609 * u), rel=1e-15)


def test_gamma_of_too_long_a_sum_falls_back_to_the_bound_without_a_denominator():
    assert error_bounds.gamma(2**11, 2.0**-11) == 1.0
    assert error_bounds.gamma(2**12, 2.0**-11) == 2.0


@pytest.mark.parametrize(("dtype", "arithmetic", "u_out", "m"), [
    ("float32", FLOAT32, 2.0**-24, 1),
    ("float32", ComputePrecision("float32", output_roundings=2), 2.0**-24, 2),
    ("float16", FLOAT32, 2.0**-11, 1),
    ("bfloat16", ComputePrecision("float32", output_roundings=2), 2.0**-8, 2),
    ("float16", ComputePrecision("float16"), 2.0**-11, 1),
])  # fmt: skip
@pytest.mark.parametrize("products", [1, 45, 1000])
def test_the_relative_part_is_gamma_and_the_output_roundings_to_first_order(products, dtype, arithmetic, u_out, m):
    gamma = error_bounds.gamma(products + 1, format_of(arithmetic.accumulator).unit_roundoff)
    found = error_bounds.bounds(dtype, products, arithmetic).relative
    oracle = error_bounds.gamma(products + 1, 2.0**-53)
    assert found >= gamma + m * u_out + oracle - 1e-18
    # what comes on top is the rounding of a sum that is itself too large by the other errors
    assert found <= (gamma + m * u_out) + m * u_out * (gamma + m * u_out) + oracle + 1e-15


def test_coarser_inputs_add_their_rounding():
    plain = error_bounds.bounds("float32", 45, FLOAT32).relative
    tf32 = error_bounds.bounds("float32", 45, ComputePrecision("float32", inputs="tf32")).relative
    u_in = 2.0**-11
    assert tf32 - plain == pytest.approx(2 * u_in + u_in**2, rel=1e-4)
    same = error_bounds.bounds("float16", 45, ComputePrecision("float32", inputs="tf32"))
    assert same == error_bounds.bounds("float16", 45, FLOAT32)


def test_tensors_kept_in_a_coarser_format_are_rounded_once_more():
    plain, kept = (
        error_bounds.bounds("float32", 45, ComputePrecision("float32", stored=name)) for name in (None, "float16")
    )
    assert kept.relative - plain.relative == pytest.approx(2.0**-11, rel=1e-4)
    assert kept.absolute - plain.absolute == 2.0**-25
    assert error_bounds.bounds("float16", 45, ComputePrecision("float32", stored="float16")) == error_bounds.bounds(
        "float16", 45, FLOAT32
    )


def test_underflow_costs_half_a_subnormal_unit_or_a_normal_number_where_they_are_flushed():
    assert error_bounds.bounds("float32", 9, FLOAT32).absolute == 10 * 2.0**-150
    assert (
        error_bounds.bounds("float32", 9, ComputePrecision("float32", flushes_subnormals=True)).absolute
        == 10 * 2.0**-126
    )
    assert error_bounds.bounds("float16", 9, FLOAT32).absolute == 10 * 2.0**-150 + 2.0**-25


@pytest.mark.parametrize(("dtype", "arithmetic", "floor", "output"), [
    ("float16", ComputePrecision("float32"), 2.0**-150, 2.0**-25),
    ("float16", ComputePrecision("float32", flushes_subnormals=True), 2.0**-126, 2.0**-25),
    ("bfloat16", ComputePrecision("float32", flushes_subnormals=True), 2.0**-126, 2.0**-126),
    ("bfloat16", ComputePrecision("float32"), 2.0**-150, 2.0**-134),
    ("float16", ComputePrecision("float16"), 2.0**-25, 0.0),
    ("float16", ComputePrecision("float16", flushes_subnormals=True), 2.0**-14, 0.0),
    ("float32", ComputePrecision("float64", flushes_subnormals=True), 2.0**-1022, 2.0**-150),
])  # fmt: skip
@pytest.mark.parametrize("m", [1, 2])
def test_a_processor_that_flushes_the_accumulators_subnormals_keeps_those_of_a_format_with_another_range(
    dtype, arithmetic, floor, output, m
):
    """float16 results down to 6e-8 are kept by code that flushes float32: 3e-8 is their error, not 6.1e-5."""
    found = error_bounds.bounds(dtype, 9, dataclasses.replace(arithmetic, output_roundings=m))
    assert found.floor == floor
    assert found.absolute == 10 * floor + m * output


@pytest.mark.parametrize("flushes", [False, True])
def test_subnormals_of_float16_are_judged(flushes):
    right = np.full(2000, 3.4 * 2.0**-24)
    precision = ComputePrecision("float32", flushes_subnormals=flushes)
    for actual, verdict in (
        (3 * 2.0**-24, "agree"),
        (4 * 2.0**-24, "disagree"),
        (2.0**-14, "disagree"),
        (0, "disagree"),
    ):
        judged = reference.judge(
            np.full(2000, actual, np.float16), right, right, dtype="float16", data="captured", products=1,
            arithmetic=precision,
        )  # fmt: skip
        assert judged.verdict == verdict, actual


def test_a_float64_result_differs_from_the_oracle_by_the_errors_of_both():
    found = error_bounds.bounds("float64", 45, ComputePrecision("float64")).relative
    gamma = error_bounds.gamma(46, 2.0**-53)
    assert found == pytest.approx(2 * gamma + 2.0**-53, rel=1e-9, abs=0)


@pytest.mark.parametrize(("m", "u"), [(1, 2.0**-11), (3, 2.0**-11)])
def test_what_an_output_coarser_than_its_sums_costs(m, u):
    coarse = error_bounds.bounds("float16", 9, ComputePrecision("float32", output_roundings=m))
    assert (coarse.output_rounding, coarse.further_rounding) == (u, (m - 1) * u)
    assert (coarse.unit, coarse.largest) == (2.0**-24, 65504.0)
    equal = error_bounds.bounds("float16", 9, ComputePrecision("float16", output_roundings=m))
    assert (equal.output_rounding, equal.further_rounding, equal.unit) == (0.0, 0.0, u)


def test_products_of_a_transposed_layers_gradients():
    spec = ConvSpec(6, 4, (3, 5), (2, 3), groups=2, transposed=True)
    assert spec.output_shape((3, 6, 4, 5)) == (3, 4, 9, 17)
    counts = {of: error_bounds.products(spec, (3, 6, 4, 5), of) for of in ("output", "input", "kernel", "bias")}
    assert counts == {"output": 45, "input": 30, "kernel": 3 * 4 * 5, "bias": 3 * 9 * 17}


def test_the_statistical_limit():
    assert error_bounds.bounds("float32", 4608, FLOAT32).rms == pytest.approx((4609 / 3) ** 0.5, rel=1e-12)
    # a float64 layer and the oracle both round
    assert error_bounds.bounds("float64", 26, ComputePrecision("float64")).rms == pytest.approx(18**0.5, rel=1e-12)


@pytest.mark.parametrize(("of", "count"), [("output", 3 * 15), ("input", 2 * 15), ("kernel", 2 * 4 * 3), ("bias", 24)])
def test_products_per_element_of_each_result(of, count):
    spec = ConvSpec(6, 4, (3, 5), (2, 3), (1, 0), groups=2)
    assert spec.output_shape((2, 6, 8, 11)) == (2, 4, 4, 3)
    assert error_bounds.products(spec, (2, 6, 8, 11), of) == count


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_no_element_sums_more_products_than_that(mode, transposed):
    """Counted by the oracle itself: with all numbers 1, G is the number of products."""
    if transposed and mode != "zeros":
        with pytest.raises(ValueError, match="padding_mode"):
            ConvSpec(4, 6, (3, 2), padding_mode=mode, transposed=True)
        return
    spec = ConvSpec(4, 6, (3, 2), (1, 2), ((2, 1), (1, 1)), (1, 2), 2, True, mode, transposed)
    shape = (2, 4, 5, 7)
    params = ConvParams(np.ones(spec.kernel_shape), np.zeros(6))
    x, dy = np.ones(shape), np.ones(spec.output_shape(shape))
    counts = reference.gradients(spec, params, x, dy)
    assert reference.conv(spec, params, x).max() <= error_bounds.products(spec)
    for of in ("input", "kernel", "bias"):
        assert getattr(counts, of).max() <= error_bounds.products(spec, shape, of)


def sequential(x, w, bias, accumulator, dtype):
    total = np.zeros(1)
    for a, b in zip(x, w, strict=True):
        product = rounded(np.array([a * b]), accumulator)  # of at most 24 bits each: exact before rounding
        total = rounded(total.astype(np.float64) + product, accumulator)
    return float(rounded(rounded(total.astype(np.float64) + bias, accumulator), dtype)[0])


numbers = st.integers(-(2**11), 2**11).map(lambda n: float(rounded(np.array([n / 64]), "bfloat16")[0]))


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40),
    numbers,
    st.sampled_from([("float32", "float32"), ("float32", "float16"), ("float16", "float16"), ("bfloat16", "bfloat16")]),
)
def test_no_sequential_sum_breaks_the_hard_bound(pairs, bias, formats):
    """Against the exact sum, in fractions; float16 and bfloat16 accumulators come much nearer the bound."""
    accumulator, dtype = formats
    x, w = zip(*pairs, strict=True)
    exact = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(bias))
    size = sum((abs(Fraction(a) * Fraction(b)) for a, b in pairs), abs(Fraction(bias)))
    limits = error_bounds.bounds(dtype, len(pairs), ComputePrecision(accumulator))
    got = sequential(x, w, bias, accumulator, dtype)
    if np.isfinite(got):
        assert abs(Fraction(got) - exact) <= Fraction(limits.relative) * size + Fraction(limits.absolute)


def test_the_worst_known_sum_keeps_the_bound_and_comes_near_it():
    """One large term, then many that are each rounded away: nearly half the bound, so it is not idle."""
    count = 1000
    x, w = [2.0**24] + [1.0] * count, [1.0] * (count + 1)
    got, exact, size = sequential(x, w, 0.0, "float32", "float32"), 2.0**24 + count, 2.0**24 + count
    limits = error_bounds.bounds("float32", count + 1, FLOAT32)
    assert abs(got - exact) <= limits.relative * size
    assert abs(got - exact) > 0.4 * limits.relative * size


# -- two results -------------------------------------------------------------------------------------------------------

SIDES = [("float32", FLOAT32), ("float16", FLOAT32), ("float16", ComputePrecision("float16")), ("bfloat16", FLOAT32)]


def test_two_results_may_differ_by_the_errors_of_both():
    one, other = error_bounds.bounds("float32", 100, FLOAT32), error_bounds.bounds("float32", 100, TF32)
    both = error_bounds.two_sided(one, other)
    assert both == error_bounds.two_sided(other, one)
    assert both.relative == one.relative + other.relative
    assert both.absolute == one.absolute + other.absolute
    assert both.rms == pytest.approx(one.rms + other.rms, rel=1e-12)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40), numbers, st.sampled_from(SIDES), st.randoms())
def test_no_two_orders_of_summation_break_the_bound_of_their_difference(pairs, bias, side, chance):
    dtype, arithmetic = side
    shuffled = chance.sample(pairs, len(pairs))
    size = sum((abs(Fraction(a) * Fraction(b)) for a, b in pairs), abs(Fraction(bias)))
    limits = error_bounds.bounds(dtype, len(pairs), arithmetic)
    both = error_bounds.two_sided(limits, limits)
    first, second = (
        sequential(*zip(*order, strict=True), bias, arithmetic.accumulator, dtype) for order in (pairs, shuffled)
    )
    if np.isfinite([first, second]).all():
        difference = abs(Fraction(first) - Fraction(second))
        assert difference <= Fraction(both.relative) * size + Fraction(both.absolute)


@given(st.floats(0.5, 2.0), st.floats(-1, 1), st.sampled_from(SIDES))
def test_what_two_roundings_cost_is_counted_by_one_of_the_results(s, step, side):
    """|ŷ₁ - ŷ₂| ≤ |s₁ - s₂| / (1 - u) + what ``output_rounding`` takes of |ŷ₁|."""
    dtype, arithmetic = side
    limits = error_bounds.bounds(dtype, 10, arithmetic)
    both = error_bounds.two_sided(limits, limits)
    sums = s, s + step * 2.0**-9
    first, second = (float(rounded(np.array([value]), dtype)[0]) for value in sums)
    if both.output_rounding:
        u = limits.output_rounding
        assert abs(first - second) <= abs(sums[0] - sums[1]) / (1 - u) + both.output_rounding * abs(first)

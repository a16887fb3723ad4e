"""Each term of the bounds, by the formulas of ``docs/explanation/bounds.md``, in layers where the term shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.reference import error_bounds, judge
from convspec.spec import ComputePrecision, format_of

U = 2.0**-24
FLOAT32, FLUSHING = ComputePrecision("float32"), ComputePrecision("float32", flushes_subnormals=True)


@pytest.mark.parametrize(("dtype", "flushes", "roundings", "eta"), [
    ("float16", False, 1, 2.0**-25), ("float16", True, 1, 2.0**-25), ("float16", True, 2, 2 * 2.0**-25),
    ("bfloat16", False, 1, 2.0**-134), ("bfloat16", True, 1, 2.0**-126), ("bfloat16", True, 3, 3 * 2.0**-126),
])  # fmt: skip
def test_an_output_underflows_in_its_format_and_is_flushed_where_it_has_the_accumulators_range(
    dtype, flushes, roundings, eta
):
    """A processor that flushes float32 flushes bfloat16, which has its exponents; float16 keeps its subnormals."""
    arithmetic = ComputePrecision("float32", output_roundings=roundings, flushes_subnormals=flushes)
    sums = 10 * (2.0**-126 if flushes else 2.0**-150)
    assert error_bounds.bounds(dtype, 9, arithmetic).absolute == sums + eta


def test_a_format_in_which_tensors_are_kept_is_flushed_too():
    kept = ComputePrecision("float32", stored="bfloat16", flushes_subnormals=True)
    assert error_bounds.bounds("float32", 9, kept).absolute == 11 * 2.0**-126
    assert error_bounds.bounds("float32", 9, ComputePrecision("float32", stored="bfloat16")).absolute == (
        10 * 2.0**-150 + 2.0**-134
    )


def test_the_oracle_rounds_as_well_as_a_float64_layer():
    gamma = error_bounds.gamma(46, 2.0**-53)
    found = error_bounds.bounds("float64", 45, ComputePrecision("float64")).relative
    assert found == pytest.approx(2 * gamma + 2.0**-53, rel=1e-12)
    assert found > 2 * gamma


@pytest.mark.parametrize(("inputs", "u_in"), [(None, 0.0), ("tf32", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_the_statistical_limit_counts_the_inputs_roundings(inputs, u_in):
    """Two inputs per product, each uniformly rounded: u²/3 for each; and the oracle's own part."""
    found = error_bounds.bounds("float32", 17, ComputePrecision("float32", inputs=inputs)).rms
    assert found == pytest.approx(math.sqrt((18 * (1 + 2.0**-58) + 2 * (u_in / U) ** 2) / 3), rel=1e-12)


@pytest.mark.parametrize("roundings", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "u_out"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8), ("float32", 0.0)])
def test_all_roundings_to_a_coarser_output_but_the_last_are_of_g(dtype, u_out, roundings):
    found = error_bounds.bounds(dtype, 9, ComputePrecision("float32", output_roundings=roundings))
    assert (found.output_rounding, found.further_rounding) == (u_out, (roundings - 1) * u_out)
    assert (found.unit, found.floor, found.largest) == (U, 2.0**-150, format_of(dtype).largest)


@pytest.mark.parametrize("transposed", [False, True])
def test_products_per_element_are_reached(transposed):
    """Counted by the oracle on ones, in the middle of a large input: some element has exactly so many products."""
    spec = ConvSpec(4, 6, (3, 2), (1, 2), ((2, 1), (1, 1)), (1, 2), 2, True, "zeros", transposed)
    shape = (2, 4, 9, 11)
    params = ConvParams(np.ones(spec.kernel_shape), np.zeros(6))
    counts = reference.gradients(spec, params, np.ones(shape), np.ones(spec.output_shape(shape)))
    assert (
        counts.bias.max() == error_bounds.products(spec, shape, "bias") == 2 * math.prod(spec.output_shape(shape)[2:])
    )
    assert counts.kernel.max() <= error_bounds.products(spec, shape, "kernel")
    sizes = shape[2:] if transposed else spec.output_shape(shape)[2:]
    assert error_bounds.products(spec, shape, "kernel") == 2 * math.prod(sizes)
    assert counts.input.max() <= error_bounds.products(spec, shape, "input") == 3 * 6
    assert type(error_bounds.products(spec, shape, "input")) is int  # else it is no exact number of a large layer


PADS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", PADS)
@pytest.mark.parametrize("padding", [((2, 3),), "same"])
@pytest.mark.parametrize("size", [4, 5, 9])
def test_products_of_an_input_that_is_padded_with_itself_are_reached(mode, padding, size):
    spec = ConvSpec(2, 3, 3, stride=2, padding=padding, bias=False, padding_mode=mode, ndim=1)
    shape = (1, 2, size)
    params = ConvParams(np.ones(spec.kernel_shape))
    counts = reference.gradients(spec, params, np.ones(shape), np.ones(spec.output_shape(shape)))
    found = error_bounds.products(spec, shape, "input")
    places = np.bincount(np.pad(np.arange(size), spec.explicit(shape).padding, mode=PADS[mode]))  # of each pixel
    assert counts.input.max() <= found
    assert found >= 9 * places.max()
    assert found == 9 * error_bounds.copies(spec, (size,))


# -- two results -------------------------------------------------------------------------------------------------------

SIDES = [
    error_bounds.bounds(dtype, count, arithmetic)
    for count in (3, 200)
    for dtype, arithmetic in (
        ("float32", FLOAT32), ("float32", FLUSHING), ("float16", FLOAT32), ("float16", ComputePrecision("float16", 2)),
        ("bfloat16", ComputePrecision("bfloat16")), ("float32", ComputePrecision("float32", inputs="tf32")),
        ("float64", ComputePrecision("float64")), ("bfloat16", FLUSHING),
        ("float16", ComputePrecision("float32", 2)), ("bfloat16", ComputePrecision("float32", 3)),
    )
]  # fmt: skip
PAIRS = [(one, other) for one in SIDES for other in SIDES]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_unit_of_two_results_is_as_large_as_either_whatever_g_is(one, other):
    """The limit of RMS(q₁ + q₂): each q is at most its own limit, in its own unit u·G + η."""
    both = error_bounds.two_sided(one, other)
    shrink = 1 - other.output_rounding
    worst = 0.0
    for side in (one, other):
        sizes = [(side.unit * g + side.floor) / (both.unit * g + both.floor) for g in (0.0, 1e-40, 1e-20, 1.0, 1e30)]
        assert max(sizes) <= 1
        worst += side.rms * max(sizes)
    assert both.rms * shrink == pytest.approx(worst, rel=1e-9)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_roundings_of_two_outputs_are_bounded_by_the_first_output(one, other):
    both, u1, u2 = error_bounds.two_sided(one, other), one.output_rounding, other.output_rounding
    assert both.further_rounding == pytest.approx((one.further_rounding + other.further_rounding) / (1 - u2), rel=1e-15)
    assert both.largest == min(one.largest, other.largest)
    assert both.absolute == one.absolute + other.absolute
    # equal sums, whose outputs are as far apart as rounding allows: ŷ₁ = s·(1 - u₁·a), ŷ₂ = s·(1 + u₂·b)
    for a in (-1, 0, 1):
        y1 = 1 - u1 * a
        y2 = (y1 * (1 + u1)) / (1 - u2)  # the largest |ŷ₂| that this ŷ₁ leaves room for
        assert u1 * y1 + u2 * y2 == pytest.approx(both.output_rounding * y1, rel=1e-12, abs=1e-300)


# -- at the bound itself -----------------------------------------------------------------------------------------------


def test_an_error_as_large_as_the_bound_is_right_and_the_next_number_wrong():
    options = {"dtype": "float32", "data": "wide", "products": 1, "arithmetic": FLUSHING}
    limit = error_bounds.bounds("float32", 1, FLUSHING).absolute
    at = np.array([limit, 1.0], np.float32)
    y = np.array([0.0, 1.0])
    assert float(at[0]) == limit == 2.0**-125
    assert judge(at, y, y, **options).verdict == "agree"
    at[0] = np.nextafter(at[0], np.float32(1))
    assert judge(at, y, y, **options).verdict == "disagree"

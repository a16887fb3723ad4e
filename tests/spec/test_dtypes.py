"""Formats against NumPy's own, and against exact arithmetic where NumPy has none."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec.errors import UnknownName
from convspec.spec.dtypes import DTYPES, format_of, representable, rounded


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_formats_are_what_numpy_says(name):
    info, form = np.finfo(name), format_of(name)
    assert form.unit_roundoff == float(info.eps) / 2
    assert form.smallest_normal == float(info.smallest_normal)
    assert form.smallest_subnormal == float(info.smallest_subnormal)
    assert form.largest == float(info.max)


def test_bfloat16_and_tf32_have_float32_range():
    assert format_of("bfloat16").largest == 255 / 128 * 2.0**127
    assert format_of("tf32").smallest_normal == format_of("float32").smallest_normal


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UnknownName, match="did you mean 'bfloat16'"):
        format_of("bfloat")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(["bfloat16", "tf32"]))
def test_rounding_is_to_nearest_even(value, name):
    """Against fractions: no number of the format is nearer, and of two equally near the even one is taken."""
    form = format_of(name)
    exact = Fraction(value)
    got = float(rounded(np.array([value], np.float32), name)[0])
    if not np.isfinite(got):
        assert abs(exact) >= Fraction(form.largest) + Fraction(form.largest) * Fraction(form.unit_roundoff) / 2
        return
    exponent = max(int(np.frexp(value)[1]) - 1, form.emin) if value else form.emin
    unit = Fraction(2) ** (exponent - form.digits + 1)
    assert Fraction(got) == round(exact / unit) * unit  # Python rounds half to even


@given(st.floats(width=32), st.sampled_from(DTYPES))
def test_rounded_values_are_representable_and_stay(value, name):
    with np.errstate(over="ignore"):
        once = rounded(np.array([value], np.float32), name)
    assert once.dtype == format_of(name).carrier
    assert representable(once, name)
    assert np.array_equal(rounded(once, name), once, equal_nan=True)


def test_more_digits_are_not_representable():
    assert not representable(np.array([1, 1 + 2.0**-8], np.float32), "bfloat16")
    assert representable(np.array([1, 1 + 2.0**-7, np.nan, np.inf], np.float32), "bfloat16")
    assert not representable(np.array([1 + 2.0**-11], np.float32), "tf32")


def test_nan_stays_nan_and_overflow_is_infinite():
    values = np.array([np.nan, -np.inf, 3.4e38], np.float32)
    assert np.array_equal(rounded(values, "bfloat16"), [np.nan, -np.inf, np.inf], equal_nan=True)
    assert rounded(np.array([1e5]), "float16")[0] == np.inf


def test_float64_values_are_rounded_once():
    """By way of float32 the first would become a tie and round to even, to 1."""
    value = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 3 * 2.0**-8 - 2.0**-40])
    assert rounded(value, "bfloat16").tolist() == [1 + 2.0**-7, 1 + 2.0**-7]


def test_a_nan_may_carry_anything():
    """A runtime's NaN need not be the one that NumPy rounds to."""
    odd = np.array([0x7FC00001, 0x7F800003, 0xFFC12345], np.uint32).view(np.float32)
    assert np.isnan(odd).all()
    assert representable(odd, "bfloat16")
    assert representable(odd, "tf32")
    assert not representable(np.append(odd, np.float32(1 + 2.0**-20)), "bfloat16")

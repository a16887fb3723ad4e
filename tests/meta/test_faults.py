"""Twelve seeded faults, each caught on the `features` corpus; without the fault, the same data agree."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from convspec import corpora, reference
from convspec.corpora.cases import DATA_KINDS, arrays, gradient_arrays, uncompared
from convspec.errors import ShapeError
from convspec.reference import error_bounds
from convspec.reference.verdict import judge
from convspec.spec.dtypes import DTYPES, ComputePrecision, rounded
from tests.meta.emulated import layer
from tests.meta.faults import FAULTS, two_ulp_off


def runnable():
    """The corpus without the layers that have no output (their verdict is about the error)."""
    found = []
    for case in corpora.load("features"):
        try:
            case.spec.output_shape(case.input_shape)
        except ShapeError:
            continue
        found.append(case)
    return found


CASES = runnable()


@functools.cache
def oracle(case):
    """The case's arrays, the right output and its magnitude: every fault is judged on the same."""
    params, x = arrays(case)
    found = reference.conv(case.spec, params, x), reference.magnitude(case.spec, params, x)
    for array in (x, params.kernel, *found):
        array.flags.writeable = False
    return params, x, *found


@functools.cache
def varied(**changes):
    return [case.varied(**changes) for case in CASES]


@functools.cache
def changed(fault):
    """Whether the fault changes the mathematics of each layer at all: generic real numbers tell."""
    found = []
    for case in varied(data="random", dtype="float64"):
        params, x, right, _ = oracle(case)
        faulty = fault(case.spec, params, x)
        found.append(faulty is not None and not (faulty.shape == right.shape and np.array_equal(faulty, right)))
    return found


def verdict(case, actual, ignore=None):
    _, _, expected, magnitude = oracle(case)
    accumulator = "float64" if case.dtype == "float64" else "float32"
    return judge(
        rounded(actual, case.dtype),
        expected,
        magnitude,
        dtype=case.dtype,
        data=case.data,
        products=error_bounds.products(case.spec),
        arithmetic=ComputePrecision(accumulator),
        ignore=ignore,
    )


# two ulp are within what rounding may do on random data
@pytest.mark.parametrize(
    ("fault", "data"),
    [(fault, data) for fault in FAULTS for data in ("exact", "random") if (fault, data) != (two_ulp_off, "random")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_each_fault_is_caught_wherever_it_changes_the_layer(fault, data):
    applied = 0
    for case in itertools.compress(varied(data=data), changed(fault)):
        applied += 1
        found = verdict(case, fault(case.spec, *oracle(case)[:2]))
        assert found.verdict == "disagree", (fault.__name__, case.name, found)
        assert found.reason
    assert applied >= 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("fault", [f for f in FAULTS if f is not two_ulp_off], ids=lambda fault: fault.__name__)
def test_each_fault_is_caught_in_narrow_formats(fault, dtype):
    """Exact data of few bits repeat values: most layers must show the fault, and every layer of some size."""
    applied, caught = 0, 0
    for case in itertools.compress(varied(dtype=dtype), changed(fault)):
        applied += 1
        params, x, right, _ = oracle(case)
        found = verdict(case, fault(case.spec, params, x))
        caught += found.verdict == "disagree"
        assert found.verdict == "disagree" or right.size < 16, (fault.__name__, case.name, found)
    assert applied >= 3
    assert caught >= 0.9 * applied


@pytest.mark.parametrize("data", DATA_KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fault_free_twin_agrees(dtype, data):
    """A backend that sums in another order, by multiply-adds in the declared accumulator, is right on all data."""
    accumulator = "float64" if dtype == "float64" else "float32"
    cases = varied(dtype=dtype, data=data)
    for case in cases if data in ("exact", "random") else cases[::4]:
        params, x, _, _ = oracle(case)
        found = verdict(case, layer(case.spec, params, x, dtype, accumulator), uncompared(case, params))
        assert found.verdict == "agree", (case.name, found)
        assert found.evidence["total"] == np.prod(case.spec.output_shape(case.input_shape))


@pytest.mark.parametrize("data", ["exact", "random"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_right_gradients_agree_and_wrong_ones_do_not(dtype, data):
    for case in varied(dtype=dtype, data=data):
        params, x, dy = gradient_arrays(case)
        right = reference.gradients(case.spec, params, x, dy)
        size = reference.gradient_magnitudes(case.spec, params, x, dy)
        for of in ("input", "kernel", "bias"):
            expected, magnitude = getattr(right, of), getattr(size, of)
            if expected is None:
                continue
            products = error_bounds.products(case.spec, case.input_shape, of)
            arithmetic = ComputePrecision("float64" if dtype == "float64" else "float32")
            options = {"dtype": dtype, "data": data, "products": products, "arithmetic": arithmetic}
            assert judge(rounded(expected, dtype), expected, magnitude, **options).verdict == "agree", (case.name, of)
            if expected.any():
                wrong = rounded(2 * expected, dtype)
                assert judge(wrong, expected, magnitude, **options).verdict == "disagree", (case.name, of)

"""How small a defect the bounds and the probes see, at several scales of the input; the correct twin never fails."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from convspec import ConvSpec, reference
from convspec.corpora.cases import Case, arrays
from convspec.reference import error_bounds
from convspec.reference.accuracy_probes import AccuracyClass, judge_class, measure, probes
from convspec.reference.verdict import judge
from convspec.spec.dtypes import ComputePrecision, rounded
from convspec.spec.parameters import ConvParams
from tests.meta.emulated import dense, layer, without_tap

SCALES = [
    *((dtype, scale) for dtype in ("float32", "float64") for scale in (1e-4, 1.0, 1e4)),
    *(("float16", scale) for scale in (2.0**-3, 1.0, 2.0**3)),
]
SHAPES = {27: ((3, 3, 3), (1, 3, 36, 37)), 576: ((64, 3, 3), (1, 64, 14, 15)), 4608: ((512, 3, 3), (1, 512, 14, 15))}


def problem(products, dtype, scale=1.0, data="random", bias=False):
    """A plain layer with that many products per output and at least 1000 outputs, and an input at that scale.

    Without bias where the products alone are to be seen: beside outputs of 1e-4 a bias of 1 rightly hides them.
    """
    (channels, *kernel), shape = SHAPES[products]
    spec = ConvSpec(channels, 8, tuple(kernel), bias=bias)
    params, x = arrays(Case(spec, shape, dtype=dtype, data=data))
    return spec, params, rounded(x.astype(np.float64) * scale, dtype)


def verdict(spec, params, x, actual, dtype, data="random"):
    expected, magnitude = reference.conv(spec, params, x), reference.magnitude(spec, params, x)
    arithmetic = ComputePrecision("float64" if dtype == "float64" else "float32")
    assert expected.size >= error_bounds.STATISTICAL_MINIMUM
    return judge(
        actual, expected, magnitude, dtype=dtype, data=data, products=error_bounds.products(spec), arithmetic=arithmetic
    )


@pytest.mark.parametrize("products", SHAPES)
@pytest.mark.parametrize(("dtype", "scale"), SCALES)
@pytest.mark.parametrize("bias", [False, True])
def test_a_correct_layer_agrees(bias, dtype, scale, products):
    spec, params, x = problem(products, dtype, scale, bias=bias)
    found = verdict(spec, params, x, dense(spec, params, x, dtype), dtype)
    assert found.verdict == "agree", found
    assert found.evidence["statistical"] == "applied"
    assert found.evidence["rms_q"] < found.evidence["rms_bound"]


@pytest.mark.parametrize("products", SHAPES)
@pytest.mark.parametrize(("dtype", "scale"), [s for s in SCALES if s[0] != "float16"])  # float16 has tf32's digits
def test_inputs_rounded_to_tf32_break_the_statistical_bound(dtype, scale, products):
    spec, params, x = problem(products, dtype, scale)
    found = verdict(spec, params, x, dense(spec, params, x, dtype, inputs="tf32"), dtype)
    assert found.verdict == "disagree"
    if dtype == "float32":
        assert found.reason.startswith("precision") or found.evidence["wrong"]
        assert found.evidence["rms_q"] > found.evidence["rms_bound"]


@pytest.mark.parametrize("products", SHAPES)
@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_inputs_rounded_to_bfloat16_are_caught(dtype, scale, products):
    spec, params, x = problem(products, dtype, scale)
    assert verdict(spec, params, x, dense(spec, params, x, dtype, inputs="bfloat16"), dtype).verdict == "disagree"


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_one_tap_dropped_of_4608_is_caught(dtype, scale):
    spec, params, x = problem(4608, dtype, scale)
    assert verdict(spec, params, x, dense(spec, without_tap(params), x, dtype), dtype).verdict == "disagree"


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_a_bias_added_twice_is_caught(dtype, scale):
    spec, params, x = problem(27, dtype, scale, bias=True)
    twice = ConvParams(params.kernel, 2 * params.bias)
    assert verdict(spec, params, x, dense(spec, twice, x, dtype), dtype).verdict == "disagree"


@pytest.mark.parametrize("products", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_one_output_off_by_one_ulp_under_exact_data_is_caught(dtype, products):
    spec, params, x = problem(products, dtype, data="exact", bias=True)
    actual = rounded(reference.conv(spec, params, x), dtype)
    assert verdict(spec, params, x, actual, dtype, "exact").verdict == "agree"
    actual[0, 3, 2, 1] = np.nextafter(actual[0, 3, 2, 1], actual.dtype.type(np.inf))
    found = verdict(spec, params, x, actual, dtype, "exact")
    assert found.verdict == "disagree"
    assert found.evidence["wrong"] == 1
    assert found.evidence["index"] == [0, 3, 2, 1]


@functools.cache
def measured(spec, shape, dtype, **arithmetic):
    found = probes(spec, shape, dtype)
    return measure(found, {p.name: layer(p.spec, p.params, p.x, dtype, **arithmetic) for p in found})


@pytest.mark.parametrize("inputs", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize(("dtype", "accumulator"), [("float32", "float32"), ("float64", "float64")])
@pytest.mark.parametrize("channels", [1, 3, 64, 1024])
def test_coarse_inputs_are_named_by_the_probe_at_any_length(channels, dtype, accumulator, inputs):
    spec, shape = ConvSpec(channels, 8, (3, 3), padding=1), (1, channels, 5, 6)
    true = measured(spec, shape, dtype, accumulator=accumulator)
    assert true == AccuracyClass(dtype, accumulator)
    assert judge_class(true, ComputePrecision(accumulator), dtype).verdict == "agree"
    coarse = measured(spec, shape, dtype, accumulator=accumulator, inputs=inputs)
    assert coarse.inputs == inputs
    found = judge_class(coarse, ComputePrecision(accumulator), dtype)
    assert (found.verdict, found.accuracy_class) == ("disagree", coarse.name)
    assert found.reason.startswith("precision")
    assert judge_class(coarse, ComputePrecision(accumulator, inputs=inputs), dtype).verdict == "agree"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 3, 64, 1024])
def test_sums_in_float16_are_named_by_the_probe(channels, dtype):
    spec, shape = ConvSpec(channels, 8, (3, 3), padding=1), (1, channels, 5, 6)
    coarse = "bfloat16" if dtype == "bfloat16" else "float16"
    assert measured(spec, shape, dtype, accumulator="float32").accumulator == "float32"
    found = measured(spec, shape, dtype, accumulator=coarse)
    assert found.accumulator == coarse
    assert judge_class(found, ComputePrecision("float32"), dtype).verdict == "disagree"
    assert judge_class(found, ComputePrecision(coarse), dtype).verdict == "agree"


def test_a_float64_layer_that_sums_in_float32_is_named():
    spec, shape = ConvSpec(3, 8, (3, 5)), (2, 3, 9, 11)
    assert measured(spec, shape, "float64", accumulator="float64") == AccuracyClass("float64", "float64")
    assert measured(spec, shape, "float64", accumulator="float32").accumulator == "float32"


def test_partial_sums_that_may_be_rounded_leave_the_accumulator_open():
    found = AccuracyClass("float16", "float16")
    assert judge_class(found, ComputePrecision("float32", output_roundings=2), "float16").verdict == "disagree"
    assert judge_class(found, ComputePrecision("float32", output_roundings=5), "float16").verdict == "agree"


def test_a_layer_without_outputs_shows_no_class():
    spec, shape = ConvSpec(3, 8, (3, 5)), (0, 3, 9, 11)
    found = measured(spec, shape, "float32", accumulator="float32")
    assert found == AccuracyClass(None, None)
    with pytest.raises(ValueError, match="no accuracy class"):
        judge_class(found, ComputePrecision("float32"), "float32")

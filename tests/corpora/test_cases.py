"""Cases: identity, JSON, and arrays that come from the seed alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings

from convspec import Case, ConvParams, ConvSpec, reference, strategies
from convspec.corpora import test_data as kinds
from convspec.corpora.cases import DATA_KINDS, arrays, gradient_arrays, uncompared
from convspec.errors import SpecError, UnknownName
from convspec.spec.dtypes import DTYPES, format_of, representable
from convspec.spec.parameters import exact_limit

SPEC = ConvSpec(6, 4, (3, 5), (2, 3), ((1, 2), (0, 1)), groups=2)
CASE = Case(SPEC, (2, 6, 11, 13), name="an example")


def test_a_case_travels_as_a_line_of_json():
    line = CASE.varied(dtype="float16", layout="NHWC", seed=3).to_json()
    assert "\n" not in line
    assert Case.from_dict(json.loads(line)) == CASE.varied(dtype="float16", layout="NHWC", seed=3)


@given(strategies.cases())
@settings(max_examples=50, database=None)
def test_a_case_prints_as_the_call_that_makes_it(case):
    assert eval(repr(case)) == case
    assert str(case) == repr(case)


def test_a_printed_case_has_what_differs_from_the_default():
    case = Case(ConvSpec(3, 16, (3, 5)), (2, 3, 9, 11), layout="NHWC", seed=7, name="it's")
    expected = "Case(ConvSpec(3, 16, kernel_size=(3, 5)), (2, 3, 9, 11), layout='NHWC', seed=7, name=\"it's\")"
    assert repr(case) == expected


def test_the_id_is_that_of_layer_input_and_seed():
    assert CASE.id == CASE.varied(dtype="float16", layout="NHWC", data="random", name="").id
    assert len({CASE.id, CASE.varied(seed=1).id, CASE.varied(input_shape=(1, 6, 11, 13)).id}) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_shape": None}, "input_shape=None must be a list of ints"),
        ({"input_shape": [1, 6, 11, -1]}, "none negative"),
        ({"input_shape": [1, 5, 11, 13]}, r"must be \(N, 6, 2 spatial sizes\)"),
        ({"input_shape": [1, 6, 11]}, r"must be \(N, 6, 2 spatial sizes\)"),
        ({"layout": None}, "layout=None must be a string"),
        ({"dtype": "float12"}, "dtype='float12' must be one of float32, float64, float16, bfloat16"),
        ({"dtype": ["float32"]}, r"dtype=\['float32'\] must be one of"),
        ({"device": 0}, "device=0 must be a string"),
        ({"data": "lucky"}, "data='lucky' must be one of exact, random"),
        ({"seed": True}, "seed=True must be an int, at least 0"),
        ({"seed": -1, "name": 7}, "seed=-1 must be an int, at least 0; name=7 must be a string"),
    ],
)
def test_a_malformed_case_is_refused(change, words):
    with pytest.raises(SpecError, match=words):
        Case.from_dict(CASE.to_dict() | change)


def test_a_layout_is_one_of_as_many_axes_and_becomes_its_family():
    assert Case.from_dict({"spec": {**SPEC.to_dict()}, "input_shape": [1, 6, 9, 9], "layout": "NHWC"}).layout == "NHWC"
    flat = {"spec": ConvSpec(3, 5, 3, ndim=1).to_dict(), "input_shape": [1, 3, 9]}
    assert Case.from_dict({**flat, "layout": "NWC"}).layout == "NHWC"
    with pytest.raises(UnknownName, match="unknown layout for 1 spatial axes 'NDHWC'"):
        Case.from_dict({**flat, "layout": "NDHWC"})


def test_what_is_missing_is_named():
    with pytest.raises(SpecError, match=r"spec must be given.*input_shape must be given"):
        Case.from_dict({})


def test_the_kinds_of_data_are_those_that_exist():
    assert tuple(kinds._KINDS) == DATA_KINDS


def test_an_unknown_kind_of_data_lists_the_known():
    with pytest.raises(UnknownName, match="did you mean 'random'"):
        arrays(CASE.varied(data="randm"))
    with pytest.raises(UnknownName, match="exact, random"):
        gradient_arrays(CASE.varied(data="wide"))


@pytest.mark.parametrize("data", DATA_KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_those_of_the_seed_and_fit(dtype, data):
    case = CASE.varied(dtype=dtype, data=data)
    params, x = arrays(case)
    again, same = arrays(Case.from_dict(json.loads(case.to_json())))
    assert x.tobytes() == same.tobytes()
    assert params.kernel.tobytes() == again.kernel.tobytes()
    params.check(SPEC)
    assert x.shape == case.input_shape
    assert x.dtype == params.kernel.dtype == params.bias.dtype == format_of(dtype).carrier
    for array in (x, params.kernel, params.bias):
        assert representable(array, dtype)
    assert not np.array_equal(arrays(case.varied(seed=1))[1], x, equal_nan=True)
    assert np.isfinite(x).all() == (data != "nonfinite")
    assert np.isfinite(params.kernel).all() == (data != "nonfinite_kernel")


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_inputs_have_no_zeros_and_use_both_signs(dtype):
    _, x = arrays(CASE.varied(dtype=dtype))
    assert np.all(x != 0)
    assert x.min() < 0 < x.max()
    assert np.array_equal(x, np.round(x))


GRADIENT_LAYERS = [
    (SPEC, (2, 6, 11, 13)),
    (ConvSpec(6, 4, (3, 5), (2, 3), 1, groups=2, transposed=True, output_padding=(1, 0)), (2, 6, 7, 9)),
    (ConvSpec(40, 130, 3), (1, 40, 5, 6)),
    (ConvSpec(3, 5, 3, padding=1), (1, 3, 55, 56)),
    (ConvSpec(3, 5, 3, 2, transposed=True), (1, 3, 35, 36)),
    (ConvSpec(3, 50, 3, padding=2, padding_mode="replicate"), (2, 3, 15, 16)),
    (ConvSpec(3, 5, 3, padding=2, padding_mode="circular", bias=False), (2, 3, 4, 3)),
    (ConvSpec(3, 5, (3, 4), padding=1, padding_mode="reflect"), (2, 3, 4, 3)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("spec", "shape"), GRADIENT_LAYERS)
def test_exact_data_make_all_gradients_exact(spec, shape, dtype):
    params, x, dy = gradient_arrays(Case(spec, shape, dtype=dtype))
    size = reference.gradient_magnitudes(spec, params, x, dy)
    for of in ("input", "kernel", "bias"):
        array = getattr(size, of)
        if array is None:
            assert not spec.bias
            continue
        assert array.max() <= exact_limit(dtype), of
        # a gradient that is zero nearly everywhere would show nothing
        assert np.mean(array != 0) > 0.3, of


def test_gradients_of_random_data_have_a_random_dy():
    _, x, dy = gradient_arrays(CASE.varied(data="random"))
    assert dy.shape == SPEC.output_shape(CASE.input_shape)
    assert np.array_equal(x, arrays(CASE.varied(data="random"))[1])
    assert abs(dy.mean()) < 0.5 < dy.std()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_terms_cancel(dtype, transposed):
    spec = ConvSpec(64, 4, (3, 5), transposed=transposed, bias=False)
    params, x = arrays(Case(spec, (1, 64, 11, 13), dtype=dtype, data="cancellation"))
    y, size = reference.conv(spec, params, x), reference.magnitude(spec, params, x)
    middle = (..., slice(4, 7), slice(5, 8))
    assert np.all(np.abs(y[middle]) < size[middle] / 20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_data_span_many_binades_without_overflow(dtype):
    params, x = arrays(CASE.varied(dtype=dtype, data="wide"))
    exponents = np.frexp(x)[1]
    assert np.ptp(exponents) >= (6 if dtype == "float16" else 30)
    assert reference.magnitude(SPEC, params, x).max() < format_of(dtype).largest


def test_one_sign_is_positive():
    params, x = arrays(CASE.varied(data="one_sign"))
    assert min(x.min(), params.kernel.min(), params.bias.min()) >= 0


def test_non_finite_inputs_stand_in_the_middle_and_at_both_ends():
    _, x = arrays(CASE.varied(data="nonfinite"))
    assert np.isnan(x[..., 5, 6]).sum() == 1
    assert np.isposinf(x[..., 0, 0]).sum() == 1
    assert np.isneginf(x[..., -1, -1]).sum() == 1
    assert (~np.isfinite(x)).sum() == 3


def test_outputs_where_a_non_finite_weight_meets_padding_are_not_compared():
    spec = ConvSpec(1, 2, 3, padding=1, bias=False, ndim=1)
    kernel = np.ones((2, 1, 3))
    case = Case(spec, (2, 1, 5))
    assert uncompared(case, ConvParams(kernel)) is None
    kernel[0, 0, 0] = np.nan
    kernel[1, 0, 2] = np.inf
    expected = [[True, False, False, False, False], [False, False, False, False, True]]
    assert uncompared(case, ConvParams(kernel)).tolist() == [expected, expected]


def test_in_a_transposed_layer_the_cells_between_inputs_count_as_padding():
    spec = ConvSpec(1, 1, 2, 2, bias=False, transposed=True, ndim=1)
    kernel = np.array([[[np.nan, 1.0]]])
    # outputs 0 2 4 are x·NaN; 1 3 5 meet the NaN, if at all, at a zero between inputs
    assert uncompared(Case(spec, (1, 1, 3)), ConvParams(kernel)).tolist() == [[[False, True, False, True, False, True]]]


def test_pads_that_repeat_cells_hide_nothing():
    spec = ConvSpec(1, 1, 3, padding=1, padding_mode="circular", bias=False, ndim=1)
    kernel = np.array([[[np.nan, 1.0, 1.0]]])
    assert not uncompared(Case(spec, (1, 1, 5)), ConvParams(kernel)).any()

"""ConvParams: what fits a spec, exact data within the budget, and files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convspec import ConvParams, ConvSpec, reference
from convspec.errors import ParamsError
from convspec.spec.dtypes import DTYPES, format_of, representable
from convspec.spec.parameters import as_kernel, dealt, exact_budget, exact_limit, nonzero_integers, sparse_mask

SPEC = ConvSpec(6, 4, (3, 5), (2, 3), groups=2)


def test_parameters_print_as_shapes_and_dtypes():
    with_bias = ConvParams.random(SPEC)
    assert str(with_bias) == "<ConvParams: kernel (4, 3, 3, 5) float32, bias (4,) float32>"
    assert str(ConvParams(with_bias.kernel)) == "<ConvParams: kernel (4, 3, 3, 5) float32, bias none>"


def test_what_does_not_fit_is_said_all_at_once():
    params = ConvParams(np.zeros((4, 6, 3, 5)), np.zeros(5))
    with pytest.raises(ParamsError, match=r"kernel must have shape \(4, 3, 3, 5\).*bias must have shape \(4,\)"):
        params.check(SPEC)
    with pytest.raises(ParamsError, match="bias must be given"):
        ConvParams(np.zeros((4, 3, 3, 5))).check(SPEC)
    with pytest.raises(ParamsError, match="bias must be None"):
        params.check(ConvSpec(6, 4, (3, 5), bias=False))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [ConvParams.random, ConvParams.exact])
def test_the_same_seed_gives_the_same_numbers_of_the_dtype(make, dtype):
    one, two, other = make(SPEC, 3, dtype), make(SPEC, 3, dtype), make(SPEC, 4, dtype)
    assert one.check(SPEC) is one
    assert one.kernel.dtype == one.bias.dtype == format_of(dtype).carrier
    assert representable(one.kernel, dtype)
    assert np.array_equal(one.kernel, two.kernel)
    assert np.array_equal(one.bias, two.bias)
    assert not np.array_equal(one.kernel, other.kernel)


def test_random_float64_weights_have_more_digits_than_float32():
    kernel = ConvParams.random(SPEC, 0, "float64").kernel
    assert not np.array_equal(kernel, kernel.astype(np.float32))


def test_random_outputs_have_variance_about_one():
    spec = ConvSpec(64, 32, 3, bias=False)
    y = reference.conv(spec, ConvParams.random(spec), np.random.default_rng(5).standard_normal((1, 64, 12, 13)))
    assert 0.8 < y.std() < 1.2


SPECS = st.builds(
    lambda g, i, o, k, transposed, bias: ConvSpec(g * i, g * o, k, groups=g, transposed=transposed, bias=bias),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 5),
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(SPECS, st.sampled_from(DTYPES), st.integers(0, 9))
def test_exact_data_stay_within_the_budget_for_any_input_in_it(spec, dtype, seed):
    """G at the largest input allowed is at most 2^p, so every partial sum in any order is representable."""
    budget, params = exact_budget(spec, dtype), ConvParams.exact(spec, seed, dtype)
    x = np.full((1, spec.in_channels, 5, 6), float(budget.x))
    size = reference.magnitude(spec, params, x)
    assert size.max() <= exact_limit(dtype)
    assert np.array_equal(params.kernel, np.round(params.kernel))
    assert params.bias is None or np.all(params.bias != 0)
    if budget.taps is None:
        assert np.all(params.kernel != 0)


def test_the_budget_is_used_not_wasted():
    assert exact_budget(ConvSpec(3, 8, 3), "float32").kernel == 15
    assert exact_budget(ConvSpec(512, 8, 3), "float32").taps is None
    narrow = exact_budget(ConvSpec(16, 8, 3), "bfloat16")
    assert narrow.taps is None
    assert narrow.kernel * narrow.x * 16 * 9 + narrow.bias <= 256


def test_a_larger_reduction_leaves_less_room():
    spec = ConvSpec(3, 8, 3)
    few, many = exact_budget(spec, "float16"), exact_budget(spec, "float16", reduction=500)
    assert many.kernel < few.kernel
    assert ConvParams.exact(spec, 0, "float16", reduction=500).kernel.max() <= many.kernel


@pytest.mark.parametrize("transposed", [False, True])
def test_a_sparse_kernel_has_so_many_taps_per_output_and_uses_every_place(transposed):
    spec = ConvSpec(96, 64, (3, 5), groups=2, transposed=transposed)
    budget = exact_budget(spec, "bfloat16")
    assert budget.taps is not None
    kernel = ConvParams.exact(spec, 1, "bfloat16").kernel
    used = (kernel != 0).reshape(2, -1, kernel.shape[1], 15)
    taps = used.sum(axis=(1, 3) if transposed else (2, 3))
    assert np.all(taps == budget.taps)
    places = used.any(axis=2 if transposed else 1)
    assert places.all()


@pytest.mark.parametrize("per", ["output", "input"])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_mask_limits_the_sums_it_is_meant_for(transposed, per):
    spec = ConvSpec(6, 4, (3, 5), groups=2, bias=False, transposed=transposed)
    mask = sparse_mask(np.random.default_rng(0), spec, 4, per)
    x = np.ones((1, 6, 9, 11))
    if per == "output":
        counts = reference.conv(spec, ConvParams(mask), x)
    else:
        dy = np.ones(spec.output_shape(x.shape))
        counts = reference.gradients(spec, ConvParams(mask), x, dy).input
    assert counts.max() == 4


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_become_the_filters_of_output_channels(transposed):
    """Row o holds only the number o, so output channel o is o times the number of its products."""
    spec = ConvSpec(6, 4, (1, 1), groups=2, bias=False, transposed=transposed)
    rows = np.repeat(np.arange(4.0)[:, None], 3, axis=1)
    y = reference.conv(spec, ConvParams(as_kernel(rows, spec)), np.ones((1, 6, 1, 1)))
    assert y.ravel().tolist() == [0, 3, 6, 9]


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 40))
def test_places_are_dealt_evenly(rows, size, taps):
    mask = dealt(np.random.default_rng(0), rows, size, taps)
    assert np.all(mask.sum(axis=1) == min(taps, size))
    assert np.ptp(mask.sum(axis=0)) <= 1


@given(st.integers(1, 4095))
def test_integers_without_zero_reach_both_ends(magnitude):
    values = nonzero_integers(np.random.default_rng(magnitude), (40 * magnitude,), magnitude)
    assert np.all(values != 0)
    assert np.all(values == np.round(values))
    assert np.abs(values).max() <= magnitude
    if magnitude < 50:
        assert set(values) == {*range(-magnitude, 0), *range(1, magnitude + 1)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_file_gives_back_the_same_bits(tmp_path, bias, dtype):
    spec = ConvSpec(6, 4, (3, 5), bias=bias)
    params = ConvParams.random(spec, 7, dtype)
    params.save(tmp_path / "layer.safetensors", spec)
    back = ConvParams.load(tmp_path / "layer.safetensors").check(spec)
    assert back.kernel.tobytes() == params.kernel.tobytes()
    assert back.kernel.dtype == params.kernel.dtype
    assert (back.bias is None) == (not bias)
    assert back.bias is None or back.bias.tobytes() == params.bias.tobytes()


def test_a_file_that_is_something_else_is_refused(tmp_path):
    from safetensors.numpy import save_file

    (tmp_path / "text").write_text("no tensors here, only this sentence")
    with pytest.raises(ParamsError, match="not a safetensors file"):
        ConvParams.load(tmp_path / "text")
    save_file({"weight": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(ParamsError, match="no tensor 'kernel', only \\['weight'\\]"):
        ConvParams.load(tmp_path / "other")

"""Exact data of any layer: every partial sum of the output and of all gradients is an integer that the dtype holds."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convspec import Case, ConvSpec, ShapeError, reference
from convspec.corpora import arrays, gradient_arrays
from convspec.spec import DTYPES, exact_limit, representable, resolve_padding
from convspec.spec.validation import PADDING_MODES


@st.composite
def cases(draw):
    """A layer with long sums: many channels, pixels or samples, or pads that repeat pixels."""
    ndim = draw(st.integers(1, 2))

    def sizes(least, most):
        return tuple(draw(st.integers(least, most)) for _ in range(ndim))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = st.sampled_from([1, 2, 5, 30]).map(lambda n: n * groups)
    transposed = draw(st.booleans())
    mode = "zeros" if transposed else draw(st.sampled_from(PADDING_MODES))
    spec = ConvSpec(
        draw(channels), draw(channels), sizes(1, 4), sizes(1, 3), sizes(0, 3), sizes(1, 2), groups,
        draw(st.booleans()), mode, transposed,
    )  # fmt: skip
    shape = (draw(st.sampled_from([1, 2, 20])), spec.in_channels, *sizes(1, 30 if ndim == 1 else 8))
    try:
        assume(0 not in spec.output_shape(shape))
    except ShapeError:
        assume(False)
    return Case(spec, shape, dtype=draw(st.sampled_from(DTYPES)), seed=draw(st.integers(0, 9)))


def are_exact(dtype, *values):
    for array in values:
        if array is not None:
            assert np.array_equal(array, np.round(array))
            assert representable(array, dtype)


@settings(max_examples=25, deadline=None)
@given(cases())
def test_every_partial_sum_of_the_output_is_exact(case):
    params, x = arrays(case)
    are_exact(case.dtype, params.kernel, params.bias, x)
    assert reference.magnitude(case.spec, params, x).max() <= exact_limit(case.dtype)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_every_partial_sum_of_every_gradient_is_exact(case):
    params, x, dy = gradient_arrays(case)
    are_exact(case.dtype, params.kernel, params.bias, x, dy)
    size = reference.gradient_magnitudes(case.spec, params, x, dy)
    for of in ("input", "kernel", "bias"):
        array = getattr(size, of)
        assert (array is None) == (of == "bias" and not case.spec.bias)
        if array is not None:
            assert array.max() <= exact_limit(case.dtype), of


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bias_sums_over_more_pixels_than_a_weight_of_a_transposed_layer(dtype):
    case = Case(ConvSpec(1, 2, 1, 3, bias=True, transposed=True, ndim=1), (40, 1, 20), dtype=dtype)
    params, x, dy = gradient_arrays(case)
    assert dy.shape == (40, 2, 58)
    assert np.abs(dy).sum(axis=(0, 2)).max() <= exact_limit(dtype)
    assert np.abs(dy).max() > 0
    assert x.size == 800
    assert params.kernel.size == 2


@pytest.mark.parametrize("pad", [4, 6, 9])
def test_a_pixel_that_pads_repeat_a_hundred_times(pad):
    spec = ConvSpec(1, 1, 3, padding=pad, padding_mode="replicate")
    for seed in range(8):
        params, x, dy = gradient_arrays(Case(spec, (1, 1, 1, 1), dtype="bfloat16", seed=seed))
        found = reference.gradient_magnitudes(spec, params, x, dy)
        assert 0 < found.input.max() <= exact_limit("bfloat16")
        assert 0 < found.kernel.max() <= exact_limit("bfloat16")


@pytest.mark.parametrize("mode", ["replicate", "circular", "reflect"])
def test_an_input_that_pads_repeat_sums_more_products(mode):
    spec = ConvSpec(3, 50, 3, padding=2, padding_mode=mode, ndim=1)
    assert resolve_padding(spec, (4,))[0] == ((2, 2),)
    params, x, dy = gradient_arrays(Case(spec, (1, 3, 4), dtype="bfloat16"))
    assert reference.gradient_magnitudes(spec, params, x, dy).input.max() <= exact_limit("bfloat16")

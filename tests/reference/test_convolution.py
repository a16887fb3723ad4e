"""The oracle against its definition, written as loops over Python's exact numbers."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from convspec import ConvParams, ConvSpec, reference
from convspec.errors import ParamsError, ShapeError, SpecError
from convspec.reference import convolution, im2col

# -- the definition --------------------------------------------------------------------------------------------------


def axis_pads(spec: ConvSpec, length: int, axis: int) -> tuple[int, int, int]:
    """Cells before and after one axis – cropped ones if transposed – and the output's length, word by word."""
    k, s, d = spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis]
    span = d * (k - 1) + 1
    if spec.transposed:
        if spec.padding == "same":
            return max(span - s, 0) // 2, 0, length * s
        lo, hi = spec.padding[axis]
        return lo, hi, (length - 1) * s + span - lo - hi + spec.output_padding[axis]
    if spec.padding in ("same", "same_lower"):
        out = math.ceil(length / s)
        total = max(0, (out - 1) * s + span - length)
        small, large = total // 2, total - total // 2
        return (*((small, large) if spec.padding == "same" else (large, small)), out)
    lo, hi = spec.padding[axis]
    return lo, hi, (length + lo + hi - span) // s + 1


def extended(length: int, lo: int, hi: int, mode: str) -> list[int | None]:
    """Which cell each cell of the padded axis shows; None is a zero."""
    cells: list[int | None] = list(range(length))
    if mode == "zeros":
        return [None] * lo + cells + [None] * hi
    if mode == "replicate":
        return [0] * lo + cells + [length - 1] * hi
    if mode == "reflect":
        return cells[1 : lo + 1][::-1] + cells + cells[::-1][1 : hi + 1]
    return cells[length - lo :] + cells + cells[:hi]


def brute(spec: ConvSpec, params: ConvParams, x: np.ndarray, number: Callable[[Any], Any] = int) -> dict[Any, Any]:
    """Output by cell, in the arithmetic of ``number``: regular layers gather, transposed ones scatter."""
    axes = [axis_pads(spec, n, axis) for axis, n in enumerate(x.shape[2:])]
    ins, outs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    places = list(itertools.product(*(range(out) for *_, out in axes)))
    taps = list(itertools.product(*map(range, spec.kernel_size)))
    weight = {index: number(params.kernel[index].item()) for index in np.ndindex(params.kernel.shape)}
    y: dict[Any, Any] = defaultdict(lambda: number(0))
    if spec.transposed:
        for n, c, *i in np.ndindex(x.shape):
            value, group = number(x[(n, c, *i)].item()), c // ins
            for o, tap in itertools.product(range(outs), taps):
                at = tuple(
                    p * s + j * d - lo
                    for p, s, j, d, (lo, *_) in zip(i, spec.stride, tap, spec.dilation, axes, strict=True)
                )
                y[(n, group * outs + o, *at)] += value * weight[(c, o, *tap)]
    else:
        maps = [extended(n, lo, hi, spec.padding_mode) for n, (lo, hi, _) in zip(x.shape[2:], axes, strict=True)]
        for n, o, place in itertools.product(range(len(x)), range(spec.out_channels), places):
            for c, tap in itertools.product(range(ins), taps):
                at = [
                    cells[p * s + j * d]
                    for cells, p, s, j, d in zip(maps, place, spec.stride, tap, spec.dilation, strict=True)
                ]
                seen = 0.0 if None in at else x[(n, o // outs * ins + c, *at)].item()
                y[(n, o, *place)] += number(seen) * weight[(o, c, *tap)]
    bias = [0] * spec.out_channels if params.bias is None else [number(b.item()) for b in params.bias]
    return {
        (n, o, *place): y[(n, o, *place)] + bias[o]
        for n, o, place in itertools.product(range(len(x)), range(spec.out_channels), places)
    }


# -- what is drawn ---------------------------------------------------------------------------------------------------


@st.composite
def specs(draw: st.DrawFn) -> ConvSpec:
    ndim = draw(st.integers(1, 3))
    widest = {1: 5, 2: 4, 3: 2}[ndim]
    transposed = draw(st.booleans())

    def axes(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=ndim, max_size=ndim))

    stride, dilation = axes(1, 3), axes(1, 3)
    words = ["valid", "same"] if transposed else ["valid", "same", "same_lower"] + ["causal"] * (ndim == 1)
    pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=ndim, max_size=ndim)
    padding = draw(st.one_of(pairs, pairs, st.sampled_from(words)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    extra: list[int] | int = 0
    if transposed and padding != "same":
        extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
    return ConvSpec(
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        axes(1, widest),
        stride,
        padding,
        dilation,
        groups,
        draw(st.booleans()),
        "zeros" if transposed else draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        transposed,
        extra,
        ndim=ndim,
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[ConvSpec, tuple[int, ...], int]:
    """A layer, a shape of its input (it may not fit), and a seed."""
    spec = draw(specs())
    sizes = draw(st.lists(st.integers(0, {1: 9, 2: 5, 3: 3}[spec.ndim]), min_size=spec.ndim, max_size=spec.ndim))
    return spec, (draw(st.integers(0, 2)), spec.in_channels, *sizes), draw(st.integers(0, 10**6))


def integers(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(-5, 6, shape).astype(np.float64)


def filled(spec: ConvSpec, seed: int, draw: Callable[[int, tuple[int, ...]], np.ndarray] = integers) -> ConvParams:
    return ConvParams(draw(seed + 1, spec.kernel_shape), draw(seed + 2, (spec.out_channels,)) if spec.bias else None)


def fitting(spec: ConvSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The output's shape; cases that have none are not of interest here."""
    try:
        return spec.output_shape(shape)
    except ShapeError:
        assume(False)
        raise


@contextmanager
def blocks(tiny: bool) -> Iterator[None]:
    """With ``tiny``, work that fits one block is cut into many, as it is for large layers."""
    limits = {"_BLOCK": 40, "_FEWEST": 3, "_TILE": 3} if tiny else {"_TILE": 14}
    with mock.patch.multiple(im2col, **limits), mock.patch.object(convolution, "_PART", 40 if tiny else 1 << 17):
        yield


def as_array(cells: dict[Any, Any], shape: tuple[int, ...]) -> np.ndarray:
    out = np.full(shape, np.nan)
    for index, value in cells.items():
        out[index] = value
    return out


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


# -- forward ---------------------------------------------------------------------------------------------------------


@settings(relaxed, max_examples=250)
@given(problems(), st.booleans())
def test_equals_the_definition_in_integers(problem: Any, tiny: bool) -> None:
    spec, shape, seed = problem
    out = fitting(spec, shape)
    params, x = filled(spec, seed), integers(seed, shape)
    with blocks(tiny):
        y = reference.conv(spec, params, x)
    assert y.dtype == np.float64
    assert y.shape == out
    expected = brute(spec, params, x)
    assert len(expected) == y.size
    np.testing.assert_array_equal(y, as_array(expected, out))


@settings(relaxed, max_examples=60)
@given(problems())
def test_equals_the_definition_in_fractions(problem: Any) -> None:
    spec, shape, seed = problem
    out = fitting(spec, shape)

    def eighths(seed: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng(seed).integers(-(2**15), 2**15, shape) / 2**13

    params, x = filled(spec, seed, eighths), eighths(seed, shape)
    y = reference.conv(spec, params, x)
    expected = brute(spec, params, x, Fraction)
    assert {index: Fraction(y[index].item()) for index in np.ndindex(out)} == expected


@settings(relaxed, max_examples=60)
@given(problems(), st.booleans())
def test_magnitude_is_the_layer_on_absolute_values(problem: Any, tiny: bool) -> None:
    spec, shape, seed = problem
    out = fitting(spec, shape)
    params, x = filled(spec, seed), integers(seed, shape)
    positive = ConvParams(abs(params.kernel), None if params.bias is None else abs(params.bias))
    with blocks(tiny):
        G = reference.magnitude(spec, params, x)
    np.testing.assert_array_equal(G, as_array(brute(spec, positive, abs(x)), out))


@settings(relaxed, max_examples=150)
@given(problems(), st.booleans())
def test_nan_and_inf_go_where_the_definition_takes_them(problem: Any, tiny: bool) -> None:
    spec, shape, seed = problem
    out = fitting(spec, shape)
    params, x = filled(spec, seed), integers(seed, shape)
    rng = np.random.default_rng(seed)
    for array in (x, params.kernel):
        for value in (np.nan, np.inf, -np.inf)[: rng.integers(4)]:
            if array.size:
                array.flat[rng.integers(array.size)] = value
    with blocks(tiny):
        y = reference.conv(spec, params, x)
    np.testing.assert_array_equal(y, as_array(brute(spec, params, x, float), out))


WIDE = [
    ConvSpec(3, 3, (3, 7), padding=(1, 3), groups=3),
    ConvSpec(2, 2, (5, 6), stride=(2, 1), padding=(2, 3), groups=2, dilation=(2, 1), bias=False),
    ConvSpec(2, 2, (1, 2, 5), padding=(0, 1, 2), groups=2, padding_mode="circular"),
    ConvSpec(1, 1, (4, 9), stride=(1, 2), padding=((0, 3), (4, 1)), padding_mode="replicate"),
    ConvSpec(4, 8, (3, 5), padding=2, groups=4),
]


@pytest.mark.parametrize("spec", WIDE, ids=str)
@pytest.mark.parametrize("broken", [False, True])
def test_long_rows_of_single_channels(spec: ConvSpec, broken: bool) -> None:
    shape = (2, spec.in_channels, *(6, 4)[: spec.ndim - 1], 33)
    params, x = filled(spec, 3), integers(4, shape)
    if broken:
        x[(1, 0, *(2,) * (spec.ndim - 1), 17)] = np.nan
    expected = as_array(brute(spec, params, x, float), spec.output_shape(shape))
    assert np.isnan(expected).any() == broken
    np.testing.assert_array_equal(reference.conv(spec, params, x), expected)


def test_pads_far_wider_than_the_input() -> None:
    spec = ConvSpec(5, 2, (3, 2), padding=((9, 7), (6, 8)), dilation=(8, 7))
    params, x = filled(spec, 1), integers(2, (2, 5, 2, 3))
    expected = as_array(brute(spec, params, x), spec.output_shape(x.shape))
    np.testing.assert_array_equal(reference.conv(spec, params, x), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_dtype_and_memory_order_is_taken_and_left_as_it_was(dtype: type) -> None:
    spec = ConvSpec(2, 3, (3, 2), padding=1)
    params = ConvParams(integers(1, (2, 3, 2, 3)).T.astype(dtype), integers(2, (6,))[::2].astype(dtype))
    x = np.moveaxis(integers(3, (2, 5, 4, 2)).astype(dtype), 3, 1)
    x.flags.writeable = False
    kernel = params.kernel.copy()
    y = reference.conv(spec, params, x)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, as_array(brute(spec, params, x), spec.output_shape(x.shape)))
    np.testing.assert_array_equal(params.kernel, kernel)


@pytest.mark.parametrize(
    ("spec", "shape", "out"),
    [
        (ConvSpec(2, 3, (3, 2)), (0, 2, 5, 4), (0, 3, 3, 3)),
        (ConvSpec(2, 3, (3, 2), padding=(2, 1)), (2, 2, 0, 4), (2, 3, 2, 5)),
        (ConvSpec(2, 3, 3, padding=1, transposed=True), (2, 2, 1, 4), (2, 3, 1, 4)),
        (ConvSpec(2, 3, (3, 2), padding=(0, 1), transposed=True), (2, 2, 4, 1), (2, 3, 6, 0)),
        (ConvSpec(2, 3, (3, 2), transposed=True), (2, 2, 0, 4), (2, 3, 2, 5)),
        (ConvSpec(2, 3, 1, 2, padding=1, dilation=4, output_padding=3, transposed=True), (1, 2, 1, 2), (1, 3, 2, 4)),
    ],
)
def test_degenerate_sizes(spec: ConvSpec, shape: tuple[int, ...], out: tuple[int, ...]) -> None:
    params, x = filled(spec, 5), integers(6, shape)
    y = reference.conv(spec, params, x)
    assert y.shape == spec.output_shape(shape) == out
    np.testing.assert_array_equal(y, as_array(brute(spec, params, x), out))
    grads = reference.gradients(spec, params, x, integers(7, out))
    assert (grads.input.shape, grads.kernel.shape) == (shape, spec.kernel_shape)


EMPTY_AXES = [
    (spec, shape)
    for ndim in (1, 2, 3)
    for transposed in (False, True)
    for k, s, d, groups, padding in itertools.product((1, 4, 5), (1, 2), (1, 2), (1, 2), ("valid", "same"))
    for spec in [ConvSpec(2, 2, (k, 2, 3)[:ndim], s, padding, d, groups, bias=k > 1, transposed=transposed, ndim=ndim)]
    for shape in itertools.product((0, 2), (2,), *((0, 6),) * ndim)
    if 0 in shape
]


def test_every_operation_takes_empty_axes() -> None:
    """Values against the definition; a gradient of a sum without terms is zero, that of the bias sums ``dy``."""
    tried = 0
    for spec, shape in EMPTY_AXES:
        try:
            out = spec.output_shape(shape)
        except ShapeError:
            continue
        params, x, dy = filled(spec, 5), np.zeros(shape), integers(7, out)
        np.testing.assert_array_equal(reference.conv(spec, params, x), as_array(brute(spec, params, x), out))
        np.testing.assert_array_equal(reference.magnitude(spec, params, x).shape, out)
        for grads in (
            reference.gradients(spec, params, x, dy),
            reference.gradient_magnitudes(spec, params, x, dy),
        ):
            assert grads.input.shape == shape
            np.testing.assert_array_equal(grads.kernel, np.zeros(spec.kernel_shape))
            assert (grads.bias is None) == (params.bias is None)
        if params.bias is not None:
            grads = reference.gradients(spec, params, x, dy)
            np.testing.assert_array_equal(grads.bias, dy.sum(axis=(0, *range(2, dy.ndim))))
        tried += 1
    assert tried > 500


# -- gradients -------------------------------------------------------------------------------------------------------


def pairing(a: np.ndarray, b: np.ndarray | None) -> int:
    """⟨a, b⟩ in exact arithmetic."""
    return 0 if b is None else sum(int(p) * int(q) for p, q in zip(a.ravel(), b.ravel(), strict=True))


@settings(relaxed, max_examples=80)
@given(problems(), st.booleans())
def test_gradients_are_the_finite_differences(problem: Any, tiny: bool) -> None:
    """⟨y, dy⟩ is linear in each array, so the difference over a step of 1 is the derivative, exactly."""
    spec, shape, seed = problem
    out = fitting(spec, shape)
    params, x, dy = filled(spec, seed), integers(seed, shape), integers(seed + 3, out)
    assume(x.size + params.kernel.size <= 60)
    with blocks(tiny):
        grads = reference.gradients(spec, params, x, dy)

    def loss() -> int:
        return sum(value * int(dy[index]) for index, value in brute(spec, params, x).items())

    at_rest = loss()
    assert (grads.bias is None) == (params.bias is None)
    for array, gradient in ((x, grads.input), (params.kernel, grads.kernel), (params.bias, grads.bias)):
        if array is None:
            continue
        assert gradient.shape == array.shape
        for index in np.ndindex(array.shape):
            array[index] += 1
            assert gradient[index] == loss() - at_rest
            array[index] -= 1


@settings(relaxed, max_examples=150)
@given(problems(), st.booleans())
def test_gradients_are_adjoint_to_the_layer(problem: Any, tiny: bool) -> None:
    spec, shape, seed = problem
    out = fitting(spec, shape)
    params, x, dy = filled(spec, seed), integers(seed, shape), integers(seed + 3, out)
    with blocks(tiny):
        y = reference.conv(spec, params, x)
        grads = reference.gradients(spec, params, x, dy)
    bias = 0 if params.bias is None else pairing(params.bias, grads.bias)
    assert pairing(x, grads.input) == pairing(params.kernel, grads.kernel) == pairing(y, dy) - bias


@settings(relaxed, max_examples=60)
@given(problems(), st.booleans())
def test_gradient_magnitudes_are_the_gradients_of_absolute_values(problem: Any, tiny: bool) -> None:
    spec, shape, seed = problem
    out = fitting(spec, shape)
    params, x, dy = filled(spec, seed), integers(seed, shape), integers(seed + 3, out)
    positive = ConvParams(abs(params.kernel), None if params.bias is None else abs(params.bias))
    with blocks(tiny):
        sums = reference.gradient_magnitudes(spec, params, x, dy)
    expected = reference.gradients(spec, positive, abs(x), abs(dy))
    np.testing.assert_array_equal(sums.input, expected.input)
    np.testing.assert_array_equal(sums.kernel, expected.kernel)
    assert (sums.bias is None) == (params.bias is None)
    if sums.bias is not None:
        np.testing.assert_array_equal(sums.bias, expected.bias)


# -- refusals --------------------------------------------------------------------------------------------------------


@settings(relaxed, max_examples=100)
@given(problems())
def test_refuses_a_shape_exactly_where_the_spec_does(problem: Any) -> None:
    spec, shape, seed = problem
    params, x = filled(spec, seed), integers(seed, shape)
    try:
        out = spec.output_shape(shape)
    except ShapeError as error:
        for function in (reference.conv, reference.magnitude):
            with pytest.raises(ShapeError, match=re.escape(str(error))):
                function(spec, params, x)
        with pytest.raises(ShapeError, match=re.escape(str(error))):
            reference.gradients(spec, params, x, x)
    else:
        assert reference.magnitude(spec, params, x).shape == out


def test_refuses_what_does_not_fit() -> None:
    spec = ConvSpec(2, 3, (3, 2))
    params, x = filled(spec, 1), integers(2, (2, 2, 5, 4))
    with pytest.raises(ParamsError, match=r"kernel must have shape \(3, 2, 3, 2\)"):
        reference.conv(spec, ConvParams(params.kernel[:2], params.bias), x)
    with pytest.raises(ParamsError, match="bias must be given"):
        reference.magnitude(spec, ConvParams(params.kernel), x)
    with pytest.raises(ShapeError, match="in_channels=2"):
        reference.conv(spec, params, np.moveaxis(x, 1, 3))
    with pytest.raises(ShapeError, match=r"dy of shape \(2, 3, 3, 4\) must have the output's shape, \(2, 3, 3, 3\)"):
        reference.gradients(spec, params, x, integers(3, (2, 3, 3, 4)))


def test_the_strategy_reaches_every_feature() -> None:
    """The laws above are worth what they draw."""
    seen: set[str] = set()

    @settings(relaxed, max_examples=300, database=None, derandomize=True)
    @given(problems())
    def look(problem: Any) -> None:
        spec, shape, _ = problem
        try:
            out = spec.output_shape(shape)
        except (ShapeError, SpecError):
            seen.add("refused")
            return
        seen.update(
            {
                spec.padding if isinstance(spec.padding, str) else "explicit",
                spec.padding_mode,
                f"{spec.ndim}-D transposed" if spec.transposed else f"{spec.ndim}-D",
            }
        )
        seen.update({"groups"} if spec.groups > 1 else set())
        seen.update({"empty"} if 0 in out else {"full"})
        seen.update({"extra"} if any(spec.output_padding) else set())
        pairs = zip(spec.output_padding, spec.stride, strict=True)
        seen.update({"extra beyond the stride"} if any(e >= s for e, s in pairs) else set())

    look()
    assert seen >= {"same", "same_lower", "explicit", "zeros", "reflect", "replicate", "circular", "refused"}
    assert seen >= {"groups", "empty", "full", "extra", "extra beyond the stride"}
    assert seen >= {f"{n}-D{kind}" for n in (1, 2, 3) for kind in ("", " transposed")}


@pytest.mark.parametrize("huge", [{"stride": (1 << 62, 3)}, {"dilation": (1 << 62, 1)}])
def test_steps_that_are_never_taken_may_have_any_length(huge):
    spec = ConvSpec(2, 3, (1, 5), bias=False, **huge)
    params = ConvParams.random(spec)
    x = np.random.default_rng(0).standard_normal((2, 2, 1, 11))
    usual = ConvSpec(2, 3, (1, 5), bias=False, **{key: (1, value[1]) for key, value in huge.items()})
    assert np.array_equal(reference.conv(spec, params, x), reference.conv(usual, params, x))

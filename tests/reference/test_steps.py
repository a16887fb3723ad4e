"""The reference of steps by laws that hold for every framework; and that its bounds hold, and can fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convspec.errors import ParamsError, ShapeError, UnsupportedError
from convspec.reference import steps as reference
from convspec.spec import steps as S
from tests.step_examples import EXACT, EXAMPLES, IDS, X, draw

RNG = np.random.default_rng(0)
CUT = ("abs", "ceil", "floor", "negative", "round", "sign")  # functions that are exact


def is_exact(step):
    extremum = getattr(step, "reduction", "") in ("max", "min")
    nearest = isinstance(step, S.Resize) and step.mode == "nearest"
    return isinstance(step, EXACT) or extremum or nearest or getattr(step, "function", "") in CUT


def value(step, *inputs, **arrays):
    (y,) = reference.evaluate(step, inputs, arrays)
    return y


@pytest.mark.parametrize(("step", "shapes"), EXAMPLES, ids=IDS)
def test_shapes_and_kinds_of_bounds(step, shapes):
    inputs, arrays = draw(step, shapes)
    outputs, bounds = reference.evaluate(step, inputs, arrays), reference.bound(step, inputs, arrays)
    assert [y.shape for y in outputs] == [b.shape for b in bounds] == list(step.output_shapes(*shapes))
    for bound in bounds:
        assert np.all(bound >= 0)
        assert np.isfinite(bound).all()
        # exact steps have a bound of 0, but where rounding the place decides for a neighbour, and for a constant 0.1
        assert not is_exact(step) or np.mean(bound == 0) > 0.3


@pytest.mark.parametrize(("step", "shapes"), EXAMPLES, ids=IDS)
def test_a_fault_of_one_in_a_thousand_is_seen(step, shapes):
    inputs, arrays = draw(step, shapes)
    for y, bound in zip(reference.evaluate(step, inputs, arrays), reference.bound(step, inputs, arrays), strict=True):
        rounded = y.astype(np.float32)
        assert np.max(reference.error_ratio(rounded, y, np.maximum(bound, 0))[bound > 0], initial=0.0) <= 1
        faulty = reference.error_ratio(rounded * np.float32(1.001), y, bound)
        assert np.mean(faulty > 1) > 0.2, "the bound sees nothing"


SETTINGS = [  # two settings that frameworks confuse, and the scale of an input on which they differ
    (S.MaxPool(3, 2, 1), S.MaxPool(3, 2, "same"), 1),
    (S.AveragePool(3, 2, 1), S.AveragePool(3, 2, 1, count_include_pad=True), 1),
    (S.AveragePool(3, 2, ceil_mode=True), S.AveragePool(3, 2, ((0, 1), (0, 1)), count_include_pad=True), 1),
    (S.AdaptivePool(5), S.AdaptivePool(5, bins="disjoint"), 1),
    (S.Resize((4, 5)), S.Resize((4, 5), coordinates="asymmetric", rounding="floor"), 1),
    (S.Resize((4, 4)), S.Resize((4, 4), rounding="round_prefer_floor"), 1),
    (S.Resize(16, mode="linear"), S.Resize(16, mode="linear", coordinates="align_corners"), 1),
    (S.Resize(4, mode="linear"), S.Resize(4, mode="linear", antialias=True, exclude_outside=True), 1),
    (S.Resize(9, mode="cubic"), S.Resize(9, mode="cubic", cubic_coefficient=-0.5), 1),
    (S.Resize(9, mode="cubic"), S.Resize(9, mode="cubic", table_steps=1024), 1),
    (S.Resize(scale=1.3, mode="linear"), S.Resize(scale=1.3, mode="linear", recompute_scale=True), 1),
    (S.Pad(2, "reflect"), S.Pad(2, "symmetric"), 1),
    (S.PixelShuffle(2), S.PixelShuffle(2, "DCR"), 1),
    (S.Flatten(), S.Flatten(order="NHWC"), 1),
    (S.ChannelShuffle(2), S.ChannelShuffle(4), 1),
    (S.GELU(), S.GELU("tanh"), 1),
    (S.LeakyReLU(0.01), S.LeakyReLU(0.2), 1),
    (S.HardSigmoid(), S.HardSigmoid(0.2), 1),
    (S.SiLU(), S.HardSwish(), 1),
    (S.ReLU(), S.Clip(0, 6), 9),
    (S.Softmax(1), S.Softmax(3), 1),
    (S.InstanceNorm(8, scale=False, bias=False), S.InstanceNorm(8, scale=False, bias=False, epsilon=1e-3), 1),
    (S.InstanceNorm(8, scale=False, bias=False), S.GroupNorm(8, 4, scale=False, bias=False), 1),
    (S.LocalResponseNorm(5), S.LocalResponseNorm(5, alpha=5e-4), 9),
]


@pytest.mark.parametrize(("one", "other", "scale"), SETTINGS)
def test_another_setting_is_seen(one, other, scale):
    x = (scale * np.random.default_rng(1).standard_normal((2, 8, 8, 8))).astype(np.float32)
    wrong, (bound,) = value(other, x), reference.bound(one, [x])
    assert wrong.shape == bound.shape
    assert np.max(reference.error_ratio(wrong.astype(np.float32), value(one, x), bound)) > 1


# -- laws ------------------------------------------------------------------------------------------------------------


def brute_force(step, x, reduce):
    """Return a pool computed window by window, with the elements inside the input only."""
    height, width = x.shape[2:]
    rows, columns = step.windows((height, width))
    rows = [[p for p in window if 0 <= p < height] for window in rows]
    columns = [[p for p in window if 0 <= p < width] for window in columns]
    planes = x.reshape(-1, height, width)
    pooled = [[[reduce(plane[np.ix_(r, c)]) for c in columns] for r in rows] for plane in planes]
    return np.reshape(pooled, (*x.shape[:2], len(rows), len(columns)))


@st.composite
def windows(draw_):
    pair = lambda least, most: st.tuples(st.integers(least, most), st.integers(least, most))  # noqa: E731
    kernel = draw_(pair(1, 3))
    pads = tuple(tuple(draw_(st.integers(0, k // 2)) for _ in range(2)) for k in kernel)
    padding = draw_(st.sampled_from([pads, "same", "same_lower"]))
    return {"kernel_size": kernel, "stride": draw_(pair(1, 3)), "padding": padding, "dilation": draw_(pair(1, 2)),
            "ceil_mode": draw_(st.booleans())}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(windows(), st.tuples(st.integers(3, 9), st.integers(3, 9)))
def test_pools_window_by_window(window, sizes):
    x = RNG.standard_normal((1, 2, *sizes))
    step = S.MaxPool(**window)
    try:
        shape = step.output_shape(x.shape)
    except ShapeError:
        return
    assert value(step, x).shape == shape
    empty = not all(
        any(0 <= p < n for p in w) for axis, n in zip(step.windows(sizes), sizes, strict=True) for w in axis
    )
    if not empty:
        np.testing.assert_array_equal(value(step, x), brute_force(step, x, np.max))
        np.testing.assert_allclose(
            value(S.AveragePool(**window), x), brute_force(step, x, np.mean), rtol=1e-12, atol=1e-14
        )
        norm = brute_force(step, x, lambda a: np.sqrt((a * a).sum()))
        np.testing.assert_allclose(value(S.LpPool(**window), x), norm, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_resizing_and_pads_of_any_size(data, sizes):
    x = RNG.standard_normal((1, 2, *sizes))
    kind = S.KINDS["Resize"]
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    scale = data.draw(st.none() | st.tuples(st.floats(0.4, 3), st.floats(0.4, 3)))
    step = kind(
        None if scale else size,
        scale,
        data.draw(st.sampled_from(["nearest", "linear", "cubic", "lanczos3"])),
        data.draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"])),
        exclude_outside=True,
        antialias=data.draw(st.booleans()),
    )
    assert value(step, x).shape == step.output_shape(x.shape)
    pads = tuple(tuple(data.draw(st.integers(0, n - 1)) for _ in range(2)) for n in sizes)
    mode = data.draw(st.sampled_from(["constant", "reflect", "symmetric", "replicate", "circular"]))
    padded = value(S.Pad(pads, mode), x)
    assert padded.shape == S.Pad(pads, mode).output_shape(x.shape)
    np.testing.assert_array_equal(value(S.Pad([(-a, -b) for a, b in pads]), padded), x)


@pytest.mark.parametrize(("step", "shapes"), [e for e in EXAMPLES if e[1] and all(len(s) > 2 for s in e[1])], ids=str)
def test_an_empty_batch(step, shapes):
    if isinstance(step, S.Reduce | S.Expand | S.Squeeze) or getattr(step, "batch_statistics", False):
        return
    inputs, arrays = draw(step, [(0, *shape[1:]) if shape[0] == 2 else shape for shape in shapes])
    expected = [x.shape for x in inputs]
    assert [y.shape for y in reference.evaluate(step, inputs, arrays)] == list(step.output_shapes(*expected))


def test_a_pool_commutes_with_a_shift_by_its_stride():
    x = RNG.standard_normal((1, 2, 12, 13))
    for step in (S.MaxPool(3, (2, 3)), S.AveragePool((2, 3), (2, 3), dilation=2), S.LpPool(3, (2, 3))):
        np.testing.assert_allclose(value(step, x[:, :, 2:, 3:]), value(step, x)[:, :, 1:, 1:], rtol=1e-15)


LINEAR = [step for step, shapes in EXAMPLES if isinstance(step, S.AveragePool | S.Resize) and shapes == [X]]
LINEAR += [S.AdaptivePool((3, 11)), S.GlobalPool(), S.Reduce("mean", (2, 3))]


@pytest.mark.parametrize("step", LINEAR, ids=str)
def test_averages_and_resizing_are_linear_and_keep_constants(step):
    a, b = RNG.standard_normal((2, *X))
    np.testing.assert_allclose(
        value(step, 2 * a - 3 * b), 2 * value(step, a) - 3 * value(step, b), rtol=1e-10, atol=1e-12
    )
    if not getattr(step, "count_include_pad", False):
        np.testing.assert_allclose(value(step, np.full(X, 7.0)), 7.0, rtol=1e-12)


def test_equal_functions_under_two_names():
    x = RNG.standard_normal((2, 6, 8, 12))
    half = S.Resize((4, 6), mode="linear")
    np.testing.assert_allclose(value(half, x), value(S.AveragePool(2), x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(value(S.AdaptivePool((4, 4)), x), value(S.AveragePool((2, 3)), x), rtol=1e-12)
    np.testing.assert_array_equal(value(S.Resize(scale=(2, 3)), x), x.repeat(2, 2).repeat(3, 3))
    np.testing.assert_allclose(value(S.GlobalPool(keepdims=False), x), value(S.Reduce("mean", (2, 3)), x), rtol=1e-12)
    group = value(S.GroupNorm(6, 6, scale=False, bias=False), x)
    np.testing.assert_array_equal(group, value(S.InstanceNorm(6, scale=False, bias=False), x))
    layer = value(S.LayerNorm((6, 8, 12), (1, 2, 3), scale=False, bias=False), x)
    np.testing.assert_allclose(value(S.GroupNorm(6, 1, scale=False, bias=False), x), layer, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(value(S.SiLU(1.702), x), value(S.GELU("quick"), x), rtol=1e-12)
    np.testing.assert_allclose(value(S.Softmax(1, log=True), x), np.log(value(S.Softmax(1), x)), rtol=1e-12)


def test_moves_and_their_inverses():
    x = RNG.standard_normal((2, 12, 4, 6))
    for order in ("CRD", "DCR"):
        np.testing.assert_array_equal(value(S.PixelUnshuffle(2, order), value(S.PixelShuffle(2, order), x)), x)
        np.testing.assert_array_equal(value(S.PixelShuffle(2, order), value(S.PixelUnshuffle(2, order), x)), x)
    np.testing.assert_array_equal(value(S.ChannelShuffle(4), value(S.ChannelShuffle(3), x)), x)
    np.testing.assert_array_equal(value(S.Permute((0, 2, 3, 1)), value(S.Permute((0, 3, 1, 2)), x)), x)
    np.testing.assert_array_equal(value(S.Pad(((-2, -1), (-1, -3))), value(S.Pad(((2, 1), (1, 3)), "circular"), x)), x)
    np.testing.assert_array_equal(value(S.Concat(2), *reference.evaluate(S.Split((1, 3), 2), [x])), x)
    np.testing.assert_array_equal(value(S.Squeeze(1), value(S.Unsqueeze(1), x)), x)


def test_orders_that_are_known():
    channels = np.arange(8.0).reshape(1, 8, 1, 1)
    assert value(S.PixelShuffle(2), channels)[0, 0].tolist() == [[0, 1], [2, 3]]
    assert value(S.PixelShuffle(2, "DCR"), channels)[0, 0].tolist() == [[0, 2], [4, 6]]
    assert value(S.ChannelShuffle(2), channels[:, :6]).ravel().tolist() == [0, 3, 1, 4, 2, 5]
    row = np.arange(5.0).reshape(1, 1, 5)
    pads = {"reflect": "2101234 3", "symmetric": "1001234 4", "replicate": "0001234 4", "circular": "3401234 0"}
    for mode, expected in pads.items():
        y = value(S.Pad(((2, 1),), mode), row).ravel()
        assert y.tolist() == [float(c) for c in expected.replace(" ", "")]
    eight = np.arange(8.0).reshape(1, 1, 8)
    assert value(S.MaxPool((3,), 2, 1), eight).ravel().tolist() == [1, 3, 5, 7]
    assert value(S.MaxPool((3,), 2, "same"), eight).ravel().tolist() == [2, 4, 6, 7]
    assert value(S.Resize((4,), coordinates="asymmetric", rounding="floor"), eight).ravel().tolist() == [0, 2, 4, 6]
    assert value(S.Resize((4,)), eight).ravel().tolist() == [1, 3, 5, 7]


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_running_errors_bound_arithmetic_in_float32():
    """NumPy's own float32 operations are correctly rounded: the bounds hold, and no operation is free."""
    a, b = (RNG.standard_normal((50, 40)).astype(np.float32) for _ in range(2))
    for step, y in (
        (S.Add(), a + b), (S.Subtract(), a - b), (S.Multiply(), a * b), (S.Divide(), a / b),
        (S.MatMul(), np.add.accumulate(a[:, :, None] * b.T[None, :40, :40], axis=1)[:, -1]),
    ):  # fmt: skip
        inputs = [a, b] if not isinstance(step, S.MatMul) else [a, np.ascontiguousarray(b.T[:40, :40])]
        ratio = reference.error_ratio(y, *reference.evaluate(step, inputs), *reference.bound(step, inputs))
        assert 0.05 < np.max(ratio) <= 1, step


def test_a_fast_variance_costs_the_square_of_the_mean():
    x = RNG.standard_normal((2, 6, 50)).astype(np.float32)
    slow, fast = (S.InstanceNorm(6, scale=False, bias=False, fast_variance=f) for f in (False, True))

    def worst(step, mean):
        return np.max(reference.bound(step, [x + np.float32(mean)])[0])

    assert worst(fast, 100) > 30 * worst(slow, 100)
    assert 50 < worst(fast, 100) / worst(fast, 10) < 200
    assert worst(fast, 10_000) == math.inf  # all digits may be lost
    assert math.isfinite(worst(slow, 1000))


def test_a_coarser_dtype_has_a_wider_bound():
    x = [RNG.standard_normal(X).astype(np.float16)]
    bounds = [np.max(reference.bound(S.GELU(), x, dtype=d)[0]) for d in ("float64", "float32", "float16", "bfloat16")]
    assert bounds == sorted(bounds)
    assert bounds[0] < 1e-13
    assert bounds[2] / bounds[1] == pytest.approx(2**13, rel=0.1)


def test_what_is_not_compared():
    x = np.zeros((1, 1, 3, 4), np.float32)
    x[0, 0, 0, 0], x[0, 0, :2, 2:] = np.nan, -np.inf
    (bound,) = reference.bound(S.MaxPool(2, (1, 2)), [x])
    assert np.isinf(bound).tolist() == [[[[True, True], [False, False]]]]
    (bound,) = reference.bound(S.Pointwise("exp"), [np.array([80.0, 90.0], np.float32)])
    assert np.isinf(bound).tolist() == [False, True]  # e⁹⁰ overflows in float32
    (bound,) = reference.bound(S.HardShrink(0.1), [np.array([0.05, np.float32(0.1), 0.2], np.float32)])
    assert np.isinf(bound).tolist() == [False, True, False]  # the threshold itself is rounded


@pytest.mark.parametrize("step", [S.Pad(1), S.PixelShuffle(2), S.ReLU(), S.Concat(), S.Resize(scale=2)], ids=str)
def test_nan_and_infinity_are_moved_exactly(step):
    x = RNG.standard_normal((1, 4, 3, 5))
    x[0, :3, 1, 2] = np.nan, np.inf, -np.inf
    y, (bound,) = value(step, x), reference.bound(step, [x])
    assert np.isnan(y).any()
    assert not bound.any()
    assert np.max(reference.error_ratio(y, y, bound)) == 0
    assert np.max(reference.error_ratio(np.nan_to_num(y), y, bound)) == math.inf


def test_nearest_pixels_between_which_rounding_decides():
    x = np.arange(3.0).reshape(1, 1, 3)
    rule = {"coordinates": "asymmetric", "rounding": "floor"}
    assert reference.bound(S.Resize((6,), **rule), [x])[0].tolist() == [[[0] * 6]]  # halves are exact
    bound = reference.bound(S.Resize((9,), **rule), [x])[0].ravel()  # i / 3 is not
    assert (bound > 0).tolist() == [False, False, False, True, False, False, True, False, False]


def test_error_ratio():
    expected, bound = np.array([1.0, np.nan, np.inf, 1.0, 1.0, 1.0]), np.array([0, 0, 0, 0.5, np.inf, 0])
    actual = np.array([1.0, np.nan, np.inf, 1.25, np.nan, np.nan])
    assert reference.error_ratio(actual, expected, bound).tolist() == [0, 0, 0, 0.5, 0, math.inf]


def test_what_has_no_reference():
    with pytest.raises(UnsupportedError, match="at random"):
        reference.evaluate(S.Dropout(training=True), [np.zeros(3)])
    with pytest.raises(UnsupportedError, match="GridSample"):
        reference.evaluate(S.Other("GridSample"), [np.zeros(3)])
    with pytest.raises(ParamsError, match=r"needs arrays of the shapes \{'weight': \(2, 3\)\}"):
        reference.evaluate(S.Linear(3, 2, bias=False), [np.zeros(3)], {"weight": np.zeros((3, 2))})


def test_an_embedding():
    table = RNG.standard_normal((7, 5))
    np.testing.assert_array_equal(
        value(S.Embedding(7, 5), np.array([[0, 6], [2, 2]]), weight=table), table[[[0, 6], [2, 2]]]
    )


@pytest.mark.parametrize("step", [S.LeakyReLU(0.3), S.LeakyReLU(4.0), S.ELU(2.0), S.HardSigmoid(0.3, 0.4)])
def test_errors_of_inputs_are_passed_on_where_the_sign_is_unsure(step):
    """At 2,000 pairs of a number and another one within its error, most of them around zero."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-2e-3, 2e-3, 2000)
    error = np.full_like(x, 1e-3)
    ((y, limit),) = reference.evaluate_bounded(step, [x], errors=[error])
    for moved in (x - error, x + error, x + rng.uniform(-1, 1, x.shape) * error):
        (actual,) = reference.evaluate(step, [moved])
        assert (np.abs(actual - y) <= limit).all()
    assert limit.max() <= 8.1e-3

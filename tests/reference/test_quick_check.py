"""The quick checks accept right results, and never what the bounds refuse."""

import numpy as np
import pytest

from convspec import reference
from convspec.reference import error_bounds, quick_check
from convspec.spec import ComputePrecision, ConvParams, ConvSpec, steps

PLAIN = ComputePrecision("float32")
SPECS = {
    "strided": (ConvSpec(8, 12, 3, stride=2, padding=1), (2, 8, 19, 17)),
    "groups": (ConvSpec(8, 12, 3, groups=2, padding="same"), (1, 8, 9, 9)),
    "reflect": (ConvSpec(6, 5, (3, 5), padding=(1, 2), padding_mode="reflect"), (1, 6, 9, 11)),
    "pixels": (ConvSpec(64, 32, 1, bias=False), (1, 64, 20, 21)),
    "dilated, 1-D": (ConvSpec(16, 8, 4, dilation=3, ndim=1), (3, 16, 50)),
}


def problem(name, seed=0):
    spec, shape = SPECS[name]
    rng = np.random.default_rng(seed)
    params = ConvParams.random(spec, seed=seed)
    x = rng.standard_normal(shape).astype(np.float32)
    limits = error_bounds.bounds("float32", error_bounds.products(spec), PLAIN)
    expected = reference.conv(spec, params, x)
    bound = limits.relative * reference.magnitude(spec, params, x) + limits.absolute
    return spec, params, x, limits, expected, bound


@pytest.mark.parametrize("name", SPECS)
def test_right_results_of_convolutions_are_accepted(name):
    spec, params, x, limits, expected, _ = problem(name)
    assert quick_check.is_within(spec, params, x, expected.astype(np.float32), limits)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seed", range(3))
def test_no_element_beyond_its_bound_is_accepted(name, seed):
    spec, params, x, limits, expected, bound = problem(name, seed)
    rng = np.random.default_rng(seed)
    for scale in (1.01, 3.0, 1e3):
        y = expected.astype(np.float32)
        at = tuple(rng.integers(0, n) for n in y.shape)
        y[at] = np.nextafter(np.float32(expected[at] + scale * bound[at]), np.float32(np.inf))
        assert abs(float(y[at]) - expected[at]) > bound[at]
        assert not quick_check.is_within(spec, params, x, y, limits)


def test_elements_that_cancel_are_summed_exactly(monkeypatch):
    summed = []
    exactly = quick_check._sums_are_within
    monkeypatch.setattr(quick_check, "_sums_are_within", lambda *args: summed.append(1) or exactly(*args))
    spec = ConvSpec(64, 2, 1, bias=False)
    signs = np.resize([1, -1], 64).astype(np.float32)
    params = ConvParams(np.stack([signs, -signs])[..., None, None])
    x = np.random.default_rng(0).standard_normal((1, 64, 30, 30)).astype(np.float32)
    x[0, 1::2, 3:6, 3] = x[0, ::2, 3:6, 3]  # nothing is left of these sums, nor of their halves
    limits = error_bounds.bounds("float32", error_bounds.products(spec), PLAIN)
    y = reference.conv(spec, params, x).astype(np.float32)
    y[0, 0, 4, 3] += 2.0**-24 * np.abs(x[0, :, 4, 3]).sum()
    assert quick_check.is_within(spec, params, x, y, limits)
    assert summed


def test_what_is_not_finite_or_not_float32_is_not_decided():
    spec, params, x, limits, expected, _ = problem("strided")
    y = expected.astype(np.float32)
    assert not quick_check.is_within(spec, params, x.astype(np.float64), y, limits)
    assert not quick_check.is_within(spec, params, np.where(x > 2, np.float32(np.nan), x), y, limits)
    assert not quick_check.is_within(spec, params, np.full_like(x, 1e37), y, limits)
    assert not quick_check.is_within(spec, params, x, np.zeros_like(y), limits)
    transposed = ConvSpec(8, 12, 3, transposed=True)
    assert not quick_check.is_within(transposed, ConvParams.random(transposed, seed=0), x, y, limits)


STEPS = {
    "batch norm": (steps.BatchNorm(5), [(2, 5, 40, 7)]),
    "batch norm without arrays, channels last": (steps.BatchNorm(7, axis=-1, scale=False, bias=False), [(2, 5, 4, 7)]),
    "linear": (steps.Linear(300, 40), [(3, 300)]),
    "linear along channels": (steps.Linear(6, 9, bias=False, axis=1), [(2, 6, 8, 9)]),
    "add": (steps.Add(), [(2, 5, 90, 70)] * 2),
    "product": (steps.Multiply(), [(2, 5, 9, 7)] * 2),
    "relu": (steps.ReLU(), [(2, 5, 9, 7)]),
    "silu": (steps.SiLU(), [(2, 5, 90, 70)]),
    "max pool": (steps.MaxPool((3, 3), (2, 2), 1), [(2, 5, 9, 7)]),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_accepted_within_their_bounds_alone(name):
    step, shapes = STEPS[name]
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    arrays = {key: rng.uniform(0.5, 2, shape).astype(np.float32) for key, shape in step.arrays.items()}
    ((expected, bound),) = reference.steps.evaluate_bounded(step, xs, arrays)
    assert reference.steps.is_within(step, xs, [expected.astype(np.float32)], arrays, "float32")
    for at in [tuple(rng.integers(0, n) for n in expected.shape) for _ in range(20)]:
        y = expected.astype(np.float32)
        y[at] = np.nextafter(np.float32(expected[at] + 1.01 * bound[at]), np.float32(np.inf))
        assert not reference.steps.is_within(step, xs, [y], arrays, "float32")


def test_the_bound_of_a_batch_norm_covers_what_is_accepted_without_it():
    rng = np.random.default_rng(2)
    step = steps.BatchNorm(64)
    for scale in (1e-3, 1.0, 1e3):
        arrays = {"scale": rng.normal(0, 1, 64), "bias": rng.normal(0, scale, 64), "mean": rng.normal(0, scale, 64),
                  "variance": rng.uniform(1e-4, 9, 64)}  # fmt: skip
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
        x = rng.normal(0, 3, (1, 64, 500)).astype(np.float32)
        ((expected, bound),) = reference.steps.evaluate_bounded(step, [x], arrays)
        mean, bias = arrays["mean"][:, None].astype(float), arrays["bias"][:, None].astype(float)
        factor = arrays["scale"][:, None] / np.sqrt(arrays["variance"][:, None].astype(float) + step.epsilon)
        unit = 2.0**-24
        accepted = 11 * unit * np.abs((x - mean) * factor) + unit * (3 * np.abs(mean * factor) + np.abs(bias))
        assert (accepted <= bound).all()
        y = (expected + rng.choice((-1, 1), expected.shape) * 0.9 * accepted).astype(np.float32)
        assert reference.steps.is_within(step, [x], [y], arrays, "float32")


def test_two_results_are_not_decided():
    step = steps.Split((1, 2), 1)
    x = np.zeros((1, 3, 2), np.float32)
    assert not reference.steps.is_within(step, [x], [x[:, :1], x[:, 1:]], {}, "float32")

"""What the tests of steps on a framework share: data, and the comparison with the reference."""

from __future__ import annotations

import numpy as np

from convspec.reference import steps as reference


def normal(shape, seed=0, scale=1.0):
    """Return normal random numbers in float32."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def draw(step, seed=1):
    """Return random arrays for a step; a variance is positive."""
    arrays = {name: normal(shape, seed + i) for i, (name, shape) in enumerate(step.arrays.items())}
    return arrays | {name: np.abs(a) + np.float32(0.1) for name, a in arrays.items() if name == "variance"}


def assert_step(step, inputs, actual, arrays=None, dtype="float32"):
    """Assert shapes, and errors within the bound, of a framework's outputs in the canonical order."""
    arrays = {} if arrays is None else arrays
    outputs = [np.asarray(y) for y in (actual if isinstance(actual, list | tuple) else [actual])]
    assert [y.shape for y in outputs] == list(step.output_shapes(*(np.shape(x) for x in inputs))), step
    expected = reference.evaluate(step, inputs, arrays)
    bounds = reference.bound(step, inputs, arrays, dtype)
    for y, e, b in zip(outputs, expected, bounds, strict=True):
        assert e.shape == y.shape
        assert np.isfinite(b).mean() > 0.5 or not y.size, "a bound that compares nothing"
        ratio = reference.error_ratio(y, e, b)
        worst = np.unravel_index(np.argmax(ratio), ratio.shape) if ratio.size else ()
        assert np.max(ratio, initial=0.0) <= 1, (
            f"{step}: {y[worst]} at {tuple(map(int, worst))}, expected {e[worst]}, "
            f"{np.max(ratio):.3g} times the bound; {np.mean(ratio > 1):.0%} of all are beyond it"
        )
    return max(
        (float(np.max(reference.error_ratio(*t), initial=0.0)) for t in zip(outputs, expected, bounds, strict=True)),
        default=0.0,
    )

"""Resizing: each output is a sum of weighted neighbours, whose weights carry the error of the place.

A framework computes the place (i + ½)·r - ½ with up to three roundings in the format, so that the place, and a weight
times the steepest slope of the kernel, is off by up to 3·u times the place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from convspec.reference.im2col import Array
from convspec.reference.steps.computation import Outputs, computes
from convspec.reference.steps.running_error import Rounded
from convspec.spec import steps

_ROUND: dict[str, Callable[[Fraction], int]] = {
    "floor": math.floor, "ceil": math.ceil, "round_prefer_ceil": lambda p: math.floor(p + Fraction(1, 2)),
    "round_prefer_floor": lambda p: math.ceil(p - Fraction(1, 2)),
}  # fmt: skip
_RADIUS = {"linear": 1, "cubic": 2, "lanczos3": 3, "lanczos5": 5}
_SLOPE = 2.0  # no kernel is steeper


@computes(steps.Resize)
def _resize(step: steps.Resize, x: Rounded) -> Outputs:
    sizes = x.value.shape[2:]
    axes = zip(sizes, step.output_spatial(sizes), step.ratios(sizes), strict=True)
    for axis, (length, out, ratio) in enumerate(axes, 2):
        places = [_place(step, i, length, out, ratio) for i in range(out)]
        if step.mode == "nearest":
            x = _take(step, x, axis, places, ratio)
        elif length != out or any(place != i for i, place in enumerate(places)):
            weights = _weights(step, places, length, ratio, x)
            x = (x.move_axis(axis, -1) @ weights).move_axis(-1, axis)
    return x


def _place(step: steps.Resize, i: int, length: int, out: int, ratio: Fraction) -> Fraction:
    half = Fraction(1, 2)
    return {
        "half_pixel": (i + half) * ratio - half,
        "pytorch_half_pixel": (i + half) * ratio - half if out > 1 else Fraction(0),
        "half_pixel_symmetric": (i + half) * ratio - half + (length - out * ratio) / 2,
        "tf_half_pixel_for_nn": (i + half) * ratio,
        "asymmetric": i * ratio,
        "align_corners": i * ratio,
    }[step.coordinates]


def _take(step: steps.Resize, x: Rounded, axis: int, places: list[Fraction], ratio: Fraction) -> Rounded:
    """Return the nearest pixels; the bound is the difference of two of them where rounding decides between them."""
    length, near = x.value.shape[axis], _ROUND[step.rounding]
    exact = (ratio.denominator & (ratio.denominator - 1)) == 0  # no rounding of the place
    slack = [Fraction(0) if exact else Fraction(3 * x.form.unit_roundoff) * (abs(place) + 1) for place in places]
    low, mid, high = (
        [min(max(near(p + sign * s), 0), length - 1) for p, s in zip(places, slack, strict=True)] for sign in (-1, 0, 1)
    )
    value = x.value.take(mid, axis)
    errors = []
    for side in (low, high):
        differs = np.not_equal(side, mid).reshape((-1, *[1] * (x.value.ndim - axis - 1)))
        difference = np.where(differs, np.abs(x.value.take(side, axis) - value), 0.0)
        errors.append(difference + x.error.take(side, axis))
    return Rounded(value, x.form, np.maximum(*errors))


def _weights(step: steps.Resize, places: list[Fraction], length: int, ratio: Fraction, x: Rounded) -> Rounded:
    """Return the matrix ``(L, O)`` of weights."""
    stretch = max(float(ratio), 1.0) if step.antialias else 1.0
    radius = _RADIUS[step.mode]
    reach = math.ceil(radius * stretch) + 1
    pixels = np.arange(-reach, length + reach)
    centre = np.asarray([float(_tabulated(place, step.table_steps)) for place in places])
    distance = (centre[None, :] - pixels[:, None]) / stretch
    unit = x.form.unit_roundoff
    off = np.where(np.abs(distance) < radius + 1e-3, 3 * unit * (np.abs(centre) + 1), 0.0)
    weights = Rounded(_kernel(step, distance), x.form, (_SLOPE * off + 8 * unit) * (off > 0))
    inside = (pixels >= 0) & (pixels < length)
    if step.exclude_outside:
        weights = weights.moved(lambda a: a[inside])
    else:
        owner = np.clip(pixels, 0, length - 1)
        gather = (owner[None, :] == np.arange(length)[:, None]).astype(np.float64)
        weights = weights.summed(lambda a: gather @ a, 2 * reach)
    if step.exclude_outside or step.antialias:
        weights = weights / weights.sum((0,))
    return weights


def _tabulated(place: Fraction, steps_between: int | None) -> Fraction:
    """Return a place whose distance from the pixel before it is rounded to a table of weights."""
    if steps_between is None:
        return place
    whole = math.floor(place)
    return whole + Fraction(round((place - whole) * steps_between), steps_between)


def _kernel(step: steps.Resize, distance: Array) -> Array:
    t: Array
    t, a = np.abs(distance), step.cubic_coefficient
    if step.mode == "linear":
        return np.maximum(1 - t, 0.0)
    if step.mode == "cubic":
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0.0))
    radius = _RADIUS[step.mode]
    return np.where(t < radius, np.sinc(t) * np.sinc(t / radius), 0.0)

"""Activations, written with the least accurate formulas in use, so that errors in the tails are relative to |x|."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from convspec.reference.error_bounds import ELEMENTARY
from convspec.reference.im2col import Array
from convspec.reference.steps.computation import FORMULAS, Outputs, computes
from convspec.reference.steps.running_error import Rounded, less_accurate, where
from convspec.spec import steps

_SELU = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717  # Klambauer et al. 2017
_EXACT: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "negative": np.negative,
    "round": np.round,
    "sign": np.sign,
}
_MONOTONE: dict[str, Callable[[Rounded], Rounded]] = {
    "exp": Rounded.exp, "erf": Rounded.erf, "sqrt": Rounded.sqrt, "log": Rounded.log,
    "square": lambda x: x * x, "reciprocal": lambda x: 1 / x, "rsqrt": lambda x: 1 / x.sqrt(),
}  # fmt: skip


def _near(x: Rounded) -> Rounded:
    """Return x limited to where eˣ and e⁻ˣ do not overflow."""
    most = 0.9 * math.log(x.form.largest)
    return x.clip(-most, most)


def _sigmoid(x: Rounded) -> Rounded:
    return less_accurate(1 / (1 + (-_near(x)).exp()), (x * 0.5).tanh() * 0.5 + 0.5)


def _hard_sigmoid(step: steps.HardSigmoid | steps.HardSwish, x: Rounded) -> Rounded:
    plain = (x * step.slope + step.offset).clip(0.0, 1.0)
    if step.slope <= 0:
        return plain
    return less_accurate(plain, (x + step.offset / step.slope).clip(0.0, 1 / step.slope) * step.slope)


def _softplus(x: Rounded) -> Rounded:
    return less_accurate(x.clip(0.0) + (1 + (-x.abs()).exp()).log(), (1 + _near(x).exp()).log())


def _expm1(x: Rounded) -> Rounded:
    return less_accurate(x.exp() - 1, x.monotone(np.expm1))


def _negative_part(x: Rounded, other: Rounded) -> Rounded:
    """Return x where it is positive, else ``other``; with the larger error where the sign of x is unsure."""
    result = where(x.value > 0, x, other)
    unsure = (np.abs(x.value) <= x.error) & (x.error > 0)
    return Rounded(result.value, x.form, np.where(unsure, np.maximum(x.error, other.error), result.error))


def _above(x: Rounded, threshold: float, size: Rounded, other: Rounded) -> Rounded:
    """Return x where its size exceeds a threshold, else ``other``; not compared where rounding decides."""
    unsure = np.abs(size.value - threshold) <= x.lift(threshold).error
    result = where(size.value > threshold, x, other)
    decided = size.value - threshold != 0
    unsure = (unsure & decided) | np.isnan(size.value)  # some frameworks return 0 for NaN
    return Rounded(result.value, x.form, np.where(unsure, np.inf, result.error))


def _gelu(step: steps.GELU, x: Rounded) -> Rounded:
    if step.approximation == "quick":
        return x * _sigmoid(x * 1.702)
    if step.approximation == "tanh":
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return x * 0.5 * (1 + inner.tanh())
    return x * 0.5 * (1 + (x * math.sqrt(0.5)).erf())


def _pointwise(step: steps.Pointwise, x: Rounded) -> Rounded:
    if step.function in _EXACT:
        return Rounded(_EXACT[step.function](x.value), x.form)
    if step.function in _MONOTONE:
        return _MONOTONE[step.function](x)
    value = np.sin(x.value) if step.function == "sin" else np.cos(x.value)
    return Rounded(value, x.form, ELEMENTARY * x.form.unit_roundoff)


def _prelu(_: steps.PReLU, x: Rounded, slope: Rounded) -> Rounded:
    shape = slope.value.shape
    return _negative_part(x, x * slope.reshape((*shape, *[1] * (x.value.ndim - 1 - len(shape)))))


def _thresholded(step: steps.ThresholdedReLU, x: Rounded) -> Rounded:
    upper = x if step.maximum is None else x.clip(-np.inf, step.maximum)
    lower = (x - step.threshold) * step.slope if step.slope else Rounded(np.zeros_like(x.value), x.form)
    return _above(upper, step.threshold, x, lower)


def _soft_shrink(step: steps.SoftShrink, x: Rounded) -> Rounded:
    size = (x.abs() - step.threshold).clip(0.0)
    return Rounded(np.sign(x.value) * size.value, x.form, size.error)


def _softplus_scaled(step: steps.Softplus, x: Rounded) -> Rounded:
    y = _softplus(x * step.beta) / step.beta
    return y if step.threshold is None else _above(x, step.threshold, x * step.beta, y)


FORMULAS.update({
    steps.ReLU: lambda _, x: x.clip(0.0),
    steps.ThresholdedReLU: _thresholded,
    steps.LeakyReLU: lambda step, x: _negative_part(x, x * step.slope),
    steps.PReLU: _prelu,
    steps.ELU: lambda step, x: _negative_part(x, _expm1(x) * step.alpha),
    steps.CELU: lambda step, x: _negative_part(x, _expm1(x / step.alpha) * step.alpha),
    steps.SELU: lambda _, x: _negative_part(x, _expm1(x) * _SELU[1]) * _SELU[0],
    steps.GELU: _gelu,
    steps.SiLU: lambda step, x: x * _sigmoid(x * step.beta),
    steps.Mish: lambda _, x: x * _softplus(x).tanh(),
    steps.Sigmoid: lambda step, x: -_softplus(-x) if step.log else _sigmoid(x),
    steps.HardSigmoid: _hard_sigmoid,
    steps.HardSwish: lambda step, x: x * _hard_sigmoid(step, x),
    steps.Tanh: lambda _, x: x.tanh(),
    steps.TanhShrink: lambda _, x: x - x.tanh(),
    steps.Softplus: _softplus_scaled,
    steps.Softsign: lambda _, x: x / (1 + x.abs()),
    steps.Squareplus: lambda step, x: (x + (x * x + step.b).sqrt()) * 0.5,
    steps.HardShrink: lambda step, x: _above(x, step.threshold, x.abs(), Rounded(0 * x.value, x.form)),
    steps.SoftShrink: _soft_shrink,
    steps.Clip: lambda step, x: x.clip(
        -np.inf if step.minimum is None else step.minimum, np.inf if step.maximum is None else step.maximum
    ),
    steps.Pointwise: _pointwise,
    steps.Power: lambda step, x: x.power(step.exponent),
})  # fmt: skip


@computes(steps.Softmax)
def _softmax(step: steps.Softmax, x: Rounded) -> Outputs:
    shifted = x - Rounded(x.value.max(step.axis, keepdims=True), x.form)
    total = shifted.exp().sum((step.axis,))
    return shifted - total.log() if step.log else shifted.exp() / total


@computes(steps.GLU)
def _glu(step: steps.GLU, x: Rounded) -> Outputs:
    one, other = x.moved(lambda a: np.split(a, 2, step.axis)[0]), x.moved(lambda a: np.split(a, 2, step.axis)[1])
    return one * _sigmoid(other)

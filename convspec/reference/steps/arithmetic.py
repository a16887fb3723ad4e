"""Arithmetic of tensors: each operation rounds once, a sum of n terms n - 1 times."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import numpy as np

from convspec.reference.im2col import Array
from convspec.reference.steps.computation import Outputs, computes
from convspec.reference.steps.running_error import Operand, Rounded
from convspec.spec import steps


def _extreme(choose: Callable[[Array, Array], Array], a: Rounded, b: Rounded) -> Rounded:
    value = choose(a.value, b.value)
    chosen = np.where(value == a.value, a.error, b.error)
    unsure = np.abs(a.value - b.value) <= a.error + b.error
    error = np.where(unsure, np.maximum(a.error, b.error), chosen)
    return Rounded(value, a.form, np.where(np.isnan(value), np.inf, error))


_OPERATORS: dict[type[steps.Step], Callable[[Rounded, Operand], Rounded]] = {
    steps.Add: operator.add, steps.Multiply: operator.mul, steps.Subtract: operator.sub, steps.Divide: operator.truediv,
    steps.Maximum: lambda a, b: _extreme(np.maximum, a, a.lift(b)),
    steps.Minimum: lambda a, b: _extreme(np.minimum, a, a.lift(b)),
}  # fmt: skip


@computes(*_OPERATORS)
def _elementwise(step: steps.Elementwise, *inputs: Rounded) -> Outputs:
    operands = list(inputs)
    if step.constant is not None:
        operands.insert(0 if getattr(step, "reflected", False) else len(operands), inputs[0].lift(step.constant))
    return functools.reduce(_OPERATORS[type(step)], operands)


@computes(steps.MatMul)
def _matmul(_: steps.Step, a: Rounded, b: Rounded) -> Outputs:
    return a @ b


@computes(steps.Linear)
def _linear(step: steps.Linear, x: Rounded, weight: Rounded, bias: Rounded | None = None) -> Outputs:
    y = x.move_axis(step.axis, -1) @ weight.moved(np.transpose)
    y = y if bias is None else y + bias
    return y.move_axis(-1, step.axis)


@computes(steps.Reduce)
def _reduce(step: steps.Reduce, x: Rounded) -> Outputs:
    axes = step.axes or tuple(range(x.value.ndim))
    if step.reduction in ("mean", "sum"):
        return x.mean(axes) if step.reduction == "mean" else x.sum(axes)
    value = (np.max if step.reduction == "max" else np.min)(x.value, axis=axes, keepdims=True)
    return Rounded(value, x.form, np.where(np.isnan(value), np.inf, 0.0))

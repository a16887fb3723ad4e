"""Evaluation of a step in float64, and the bound on the rounding errors of a framework's result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from convspec.errors import ParamsError, UnsupportedError
from convspec.reference.error_bounds import ORACLE
from convspec.reference.im2col import Array
from convspec.reference.steps.running_error import Rounded
from convspec.spec import format_of
from convspec.spec.steps import Step

Outputs: TypeAlias = "Rounded | list[Rounded]"
Formula = TypeVar("Formula", bound=Callable[..., Outputs])
FORMULAS: dict[type[Step], Callable[..., Outputs]] = {}  # the modules of this package register theirs


def evaluate(step: Step, inputs: Sequence[Any], arrays: Mapping[str, Any] | None = None) -> tuple[Array, ...]:
    """Return the outputs of a step in float64, for inputs and learnt arrays in the canonical order.

    Raises:
        ShapeError: if the inputs do not fit, as ``step.output_shape``.
        ParamsError: if the arrays do not have the names and shapes of ``step.arrays``.
        UnsupportedError: for an operation that has no reference.
    """
    return tuple(output.value for output in _outputs(step, inputs, arrays or {}, "float64"))


def bound(
    step: Step, inputs: Sequence[Any], arrays: Mapping[str, Any] | None = None, dtype: str = "float32"
) -> tuple[Array, ...]:
    """Return a bound on |ŷ - y| for each element of each output ŷ that a framework computes in ``dtype``.

    It is 0 for a step that computes nothing, and infinite where results are not compared: where a number overflows or
    all its digits can be lost, and where frameworks differ (the maximum of a window with a NaN, or of -∞ alone). Raises
    as :func:`evaluate`.
    """
    return tuple(limit for _, limit in evaluate_bounded(step, inputs, arrays, dtype))


def evaluate_bounded(
    step: Step, inputs: Sequence[Any], arrays: Mapping[str, Any] | None = None, dtype: str = "float32",
    errors: Sequence[Any] = (),
) -> tuple[tuple[Array, Array], ...]:  # fmt: skip
    """Return each output with its bound, as :func:`evaluate` and :func:`bound` do; ``errors``: those of the inputs."""
    oracle = 1 + ORACLE.unit_roundoff / format_of(dtype).unit_roundoff  # its own rounding counts, too
    outputs = _outputs(step, inputs, arrays or {}, dtype, errors)
    return tuple((output.value, output.error * oracle) for output in outputs)


def error_ratio(actual: Any, expected: Array, limit: Array) -> Array:
    """Return |actual - expected| / limit for each element: at most 1 where the bound holds.

    Equal elements, NaN included, and those with an infinite bound give 0.
    """
    with np.errstate(all="ignore"):
        ratio = np.abs(np.asarray(actual, np.float64) - expected) / limit
    equal = (actual == expected) | (np.isnan(actual) & np.isnan(expected)) | np.isinf(limit)
    return np.where(equal, 0.0, np.where(np.isnan(ratio), np.inf, ratio))


def computes(*kinds: type[Step]) -> Callable[[Formula], Formula]:
    """Register a function ``(step, *inputs, **arrays)`` as the formula of these kinds of steps."""

    def register(formula: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(kinds, formula))
        return formula

    return register


def _outputs(
    step: Step, inputs: Sequence[Any], arrays: Mapping[str, Any], dtype: str, errors: Sequence[Any] = ()
) -> list[Rounded]:
    given = [np.asarray(x, np.float64) for x in inputs]
    shapes = step.output_shapes(*(x.shape for x in given))
    found = {name: np.shape(array) for name, array in arrays.items()}
    if found != step.arrays:
        raise ParamsError(f"{step} needs arrays of the shapes {step.arrays}, got {found}")
    formula = FORMULAS.get(type(step))
    if formula is None:
        raise UnsupportedError(f"{step} has no reference")
    form = format_of(dtype)
    with np.errstate(all="ignore"):
        numbers = [Rounded(x, form, e) for x, e in zip(given, errors or [0.0] * len(given), strict=True)]
        result = formula(step, *numbers, **{n: Rounded(a, form) for n, a in arrays.items()})
    outputs = result if isinstance(result, list) else [result]
    return [output.reshape(shape) for output, shape in zip(outputs, shapes, strict=True)]

"""The verdict on a step's results, each element within its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.reference.steps.computation import error_ratio, evaluate_bounded
from convspec.reference.steps.quick_check import is_within
from convspec.reference.verdict import Verdict
from convspec.spec.steps import Step

Array: TypeAlias = NDArray[Any]


def judge_step(step: Step, xs: Sequence[Array], ys: Sequence[Array], arrays: Mapping[str, Array]) -> Verdict:
    """Return the verdict on a step's results, floats in canonical order; unsupported if its bound says nothing."""
    dtype = ys[0].dtype.name
    if is_within(step, xs, ys, arrays, dtype):
        return Verdict("agree")
    worst = 0.0
    for y, (expected, bound) in zip(ys, evaluate_bounded(step, xs, arrays, dtype), strict=True):
        if y.shape != expected.shape:
            return Verdict("disagree", f"shape: expected {expected.shape}, got {y.shape}")
        if np.isinf(bound).any() and np.isfinite(expected).all() and all(np.isfinite(x).all() for x in xs):
            return Verdict("unsupported", "the bound on its rounding says nothing")
        ratio = error_ratio(y, expected, bound)
        if (ratio > 1).any():
            at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
            return wrong_elements(y, expected, ratio > 1, at, f"{float(ratio[at]):.3g} times the bound")
        worst = max(worst, float(np.max(ratio, initial=0.0)))
    return Verdict("agree", evidence={"worst_q": worst, "bound": 1.0})


def wrong_elements(y: Array, expected: Array, wrong: Array, at: tuple[Any, ...], words: str) -> Verdict:
    """Return the verdict on a result with wrong elements, of which that ``at`` a place is the worst."""
    index = [int(i) for i in at]
    evidence = {"total": int(y.size), "wrong": int(wrong.sum()), "index": index, "got": float(y[at]),
                "expected": float(expected[at])}  # fmt: skip
    reason = f"value: {evidence['wrong']} of {y.size} elements; the worst at {index} is {y[at]:.9g}, {words}"
    return Verdict("disagree", f"{reason}; expected {float(expected[at]):.9g}", evidence=evidence)

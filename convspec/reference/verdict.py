"""The verdict on an actual output, compared with the oracle's, with its evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convspec.reference.error_bounds import STATISTICAL_MINIMUM, Bounds, bounds, two_sided
from convspec.spec import Array, ComputePrecision, exact_limit, format_of, representable

VERDICTS = ("agree", "disagree", "unsupported", "error", "crash", "timeout")
EXACT_KINDS = ("exact", "nonfinite", "nonfinite_kernel")
STATISTICAL_KINDS = ("random", "one_sign")
BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict with its reason and evidence.

    Attributes:
        verdict: one of :data:`VERDICTS`.
        reason: empty if the verdict is ``"agree"``; else its first word is shape, dtype, value, nan, vacuous or
            precision.
        accuracy_class: class measured by a probe, e.g. ``"tf32"``; None without a probe.
        evidence: JSON-ready. ``total`` and ``wrong`` elements; ``index`` (of the first wrong element of exact data,
            else of the worst) with its ``got`` and ``expected``; ``worst_q`` and ``bound`` in the same ``unit``.
    """

    verdict: str
    reason: str = ""
    accuracy_class: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}" if self.reason else self.verdict


def judge(
    actual: Array,
    expected: Array,
    magnitude: Array | None,
    *,
    dtype: str,
    data: str,
    products: int,
    arithmetic: ComputePrecision,
    other: ComputePrecision | None = None,
    ignore: NDArray[np.bool_] | None = None,
) -> Verdict:
    """Return whether ``actual`` is a correct result in ``dtype``; all arrays have the same axis order.

    Args:
        expected: the oracle's result, y.
        magnitude: G = Σ|x||w| + |b|; may be None for exact data.
        data: the kind of the input data; exact data allow no error.
        products: K, see :func:`convspec.reference.error_bounds.products`.
        arithmetic: the layer's arithmetic, as its adapter declares it.
        other: the arithmetic of ``expected`` if it is the result of another run instead of the oracle's.
        ignore: True at the elements that are not compared.
    """
    if problem := form_problem(actual, expected.shape, dtype):
        return Verdict("disagree", problem, evidence={"total": int(expected.size)})
    if ignore is not None:
        actual = np.where(ignore, expected, actual).astype(actual.dtype)
    if data in EXACT_KINDS:
        verdict = _judge_exact(actual, expected, magnitude, dtype)
    elif magnitude is None:
        raise ValueError(f"data of kind {data!r} need the magnitude G; only exact data do not")
    else:
        limits = bounds(dtype, products, arithmetic)
        if other is not None:
            limits = two_sided(limits, bounds(dtype, products, other))
        verdict = _judge_bound(actual, expected, magnitude, limits, data)
    if ignore is not None:
        verdict.evidence["ignored"] = int(np.count_nonzero(ignore))
    return verdict


def form_problem(actual: Array, shape: tuple[int, ...], dtype: str) -> str:
    """Return the problem with the shape or the dtype of a result; empty if there is none."""
    if actual.shape != shape:
        return f"shape {actual.shape} where {shape} is right"
    carrier = format_of(dtype).carrier
    if actual.dtype != carrier:
        return f"dtype {actual.dtype} where {dtype} was asked for" + (f", carried as {carrier}" * (carrier != dtype))
    if carrier != dtype and not representable(actual, dtype):
        return f"dtype: the result holds numbers that {dtype} cannot represent"
    return ""


# -- exact data ------------------------------------------------------------------------------------------------------


def _judge_exact(actual: Array, expected: Array, magnitude: Array | None, dtype: str) -> Verdict:
    """Judge exact data: one pass for equality, and the evidence only after a mismatch."""
    if magnitude is not None:
        reach, limit = float(np.max(_finite(magnitude), initial=0.0)), exact_limit(dtype)
        if reach > limit:
            raise ValueError(f"these data are not exact in {dtype}: G reaches {reach:g}, beyond {limit}")
    equal = actual == expected
    total = int(expected.size)
    wrong = total - int(np.count_nonzero(equal))
    if wrong:
        equal |= np.isnan(actual) & np.isnan(expected)
        wrong = total - int(np.count_nonzero(equal))
    evidence: dict[str, Any] = {"total": total, "wrong": wrong, "bound": 0.0, "worst_q": 0.0, "unit": "1"}
    if not wrong:
        return Verdict("agree", evidence=evidence)
    first = np.unravel_index(int(np.argmin(equal)), equal.shape)
    with np.errstate(invalid="ignore"):
        worst = float(np.max(_finite(np.abs(actual[~equal].astype(np.float64) - expected[~equal])), initial=0.0))
    evidence |= _spot(actual, expected, first) | {"worst_q": _jsonable(worst)}
    return Verdict("disagree", _wrong_reason(actual, expected, evidence), evidence=evidence)


# -- all other data --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """Statistics of the errors so far; ratios are |ŷ - y| / bound."""

    wrong: int = 0
    worst_ratio: float = -1.0
    worst_at: int = -1
    squares: float = 0.0
    signed: float = 0.0
    counted: int = 0


def _judge_bound(actual: Array, expected: Array, magnitude: Array, limits: Bounds, data: str) -> Verdict:
    """Apply the hard bound to every element, and the statistical bound to all elements together."""
    flat = [np.ascontiguousarray(a).reshape(-1) for a in (actual, expected, magnitude)]
    tally = _Tally()
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, flat[0].size, BLOCK):
            a, y, g = (array[start : start + BLOCK] for array in flat)
            _count(tally, start, a.astype(np.float64), y, g, limits)
    evidence: dict[str, Any] = {"total": int(expected.size), "wrong": tally.wrong, "unit": "u*G"}
    if tally.worst_at >= 0:
        at = np.unravel_index(tally.worst_at, expected.shape)
        evidence |= _spot(actual, expected, at) | _in_units(actual[at], expected[at], magnitude[at], limits)
    problem = _statistics(tally, limits, evidence, data)
    if tally.wrong:
        problem = _wrong_reason(actual, expected, evidence)
    elif data != "cancellation" and not actual.any() and (np.abs(expected) > limits.absolute).any():
        problem = "vacuous: the result is zero everywhere, the right one is not"
    return Verdict("disagree" if problem else "agree", problem, evidence=evidence)


def _count(tally: _Tally, start: int, a: Array, y: Array, g: Array, limits: Bounds) -> None:
    """Add one block, whose temporaries fit the cache."""
    error = a - y
    size = np.abs(error)
    bound = g * limits.relative
    bound += limits.absolute
    ratio = size / bound
    if not np.isfinite(ratio).all():
        special = ~(np.isfinite(a) & np.isfinite(y))
        right = (a == y) | (np.isnan(a) & np.isnan(y))
        # beyond the largest number, infinity is the correct rounding
        right |= np.isinf(a) & (np.abs(y) + bound >= limits.largest) & (np.sign(a) == np.sign(y))
        ratio[special] = np.where(right[special], 0.0, np.inf)
        size[special] = error[special] = 0.0
    tally.wrong += int(np.count_nonzero(ratio > 1))
    place = int(np.argmax(ratio))
    if ratio[place] > tally.worst_ratio:
        tally.worst_ratio, tally.worst_at = float(ratio[place]), start + place
    if limits.output_rounding:
        size -= np.where(np.isfinite(a), np.abs(a), 0.0) * limits.output_rounding + limits.absolute
        size -= g * limits.further_rounding
        np.maximum(size, 0.0, out=size)
    size /= g * limits.unit + limits.floor
    size[np.isnan(size)] = 0.0
    tally.squares += float(np.dot(size, size))
    tally.signed += float(np.dot(size, np.sign(error)))
    tally.counted += int(np.count_nonzero(g))


def _statistics(tally: _Tally, limits: Bounds, evidence: dict[str, Any], data: str) -> str:
    """Add the statistical bound to the evidence; return the problem, or an empty text."""
    if data not in STATISTICAL_KINDS:
        evidence["statistical"] = f"not applied: it holds for random data, not for {data!r}"
        return ""
    if tally.counted < STATISTICAL_MINIMUM:
        evidence["statistical"] = f"not applied: {tally.counted} outputs, fewer than {STATISTICAL_MINIMUM}"
        return ""
    rms, mean = math.sqrt(tally.squares / tally.counted), tally.signed / tally.counted
    evidence |= {"statistical": "applied", "rms_q": rms, "rms_bound": limits.rms, "mean_q": mean}
    if rms <= limits.rms:
        return ""
    return f"precision: RMS(q) is {rms:.3g}, beyond {limits.rms:.3g}: another arithmetic than the declared one"


# -- words -----------------------------------------------------------------------------------------------------------


def _spot(actual: Array, expected: Array, at: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "index": [int(i) for i in at], "got": _jsonable(float(actual[at])), "expected": _jsonable(float(expected[at])),
    }  # fmt: skip


def _in_units(got: Any, y: Any, g: Any, limits: Bounds) -> dict[str, Any]:
    """Return the error of one element and its bound, in units of u·G."""
    unit = limits.unit * float(g) + limits.floor
    with np.errstate(invalid="ignore"):
        q = abs(float(got) - float(y)) / unit
    return {
        "worst_q": _jsonable(0.0 if got == y or (np.isnan(got) and np.isnan(y)) else q),
        "bound": _jsonable((limits.relative * float(g) + limits.absolute) / unit),
    }


def _wrong_reason(actual: Array, expected: Array, evidence: dict[str, Any]) -> str:
    wrong, total = evidence["wrong"], evidence["total"]
    spoilt = int(np.count_nonzero(np.isnan(actual) & ~np.isnan(expected)))
    if spoilt:
        return f"nan: {spoilt} of {total} elements are NaN where the right ones are not"
    if not actual.any():
        return "vacuous: the result is zero everywhere, the right one is not"
    return (
        f"value: {wrong} of {total} elements are wrong; at {tuple(evidence['index'])} got {evidence['got']}"
        f" where {evidence['expected']} is right"
    )


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _jsonable(value: float) -> float | str:
    """Return the number, or its text if JSON cannot represent it."""
    return value if math.isfinite(value) else str(value)

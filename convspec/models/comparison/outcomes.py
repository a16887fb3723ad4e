"""Decide whether the results of two models are the same: number, order, shape and values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from convspec.models.run_model import canonical
from convspec.reference import Spread, spread_limits
from convspec.spec import Array

_SENSITIVE = 0.25  # of the largest result: where rounding moves results by as much, nothing can be told
_REORDERED = 16  # results whose orders are tried
_AXES = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of both models on one input.

    Attributes:
        inputs: which input: ``the given inputs``.
        verdict: ``agree``, ``differ`` or ``unknown``.
        difference: the largest difference of the results; None where their shapes or numbers differ.
        limit: what rounding explains at that element.
        reason: of ``differ`` and ``unknown``.
        ratio: the largest difference in units of what rounding explains.
    """

    inputs: str
    verdict: str
    difference: float | None = None
    limit: float | None = None
    reason: str = ""
    ratio: float = math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome, JSON-ready."""
        sizes = {name: _jsonable(getattr(self, name)) for name in ("difference", "limit")}
        return {"inputs": self.inputs, "verdict": self.verdict, **sizes, "reason": self.reason}


def _jsonable(size: float | None) -> float | None:
    return size if size is not None and math.isfinite(size) else None


class _Gap(NamedTuple):
    """The difference of two results; ``ratio`` is the largest one in units of what rounding explains there."""

    ratio: float
    difference: float
    limit: float


def judge_results(inputs: str, a: Spread, b: Spread, layouts: tuple[str, str]) -> Outcome:
    """Compare the results of two models of these layouts; they are alike in one layout or as they are."""
    if len(a.results) != len(b.results):
        return Outcome(inputs, "differ", reason=_count_words(a, b, layouts))
    gaps = [_gap(a, b, place, place, layouts) for place in range(len(a.results))]
    shaped = [gap for gap in gaps if gap is not None]
    if len(shaped) == len(gaps) and all(gap.ratio <= 1 for gap in shaped):
        return _same(inputs, a, b, max(shaped, key=lambda gap: gap.difference))
    if (order := _order(a, b, layouts)) is not None:
        moves = ", ".join(f"result {i} of a is result {j} of b" for i, j in enumerate(order) if i != j)
        return Outcome(inputs, "differ", reason=f"the results are in another order: {moves}")
    place, gap = next((i, gap) for i, gap in enumerate(gaps) if gap is None or gap.ratio > 1)
    which = f"results {place}" if len(gaps) > 1 else "the results"
    x, y = a.results[place], b.results[place]
    alike = _alike_words(a, b, place, layouts)
    if gap is None:
        return Outcome(inputs, "differ", reason=f"{which} have shapes {x.shape} and {y.shape}{alike}")
    worst = max(shaped, key=lambda one: one.ratio)
    reason = f"{which} differ by up to {gap.difference:.1e}; rounding explains {gap.limit:.1e}{alike}"
    return Outcome(inputs, "differ", max(one.difference for one in shaped), gap.limit, reason, worst.ratio)


def _same(inputs: str, a: Spread, b: Spread, worst: _Gap) -> Outcome:
    """Return the outcome of results that differ by no more than rounding explains."""
    if not any(np.isfinite(y).any() for y in (*a.results, *b.results)):
        return Outcome(inputs, "unknown", worst.difference, worst.limit, "no result is a finite number", 0.0)
    size = max(float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0)) for y in a.results)
    if worst.difference and worst.limit >= _SENSITIVE * size:
        reason = (
            f"rounding alone may change the results by {worst.limit:.1e}, and their largest element is {size:.2g}: "
            f"a mistake could not be told from it"
        )
        return Outcome(inputs, "unknown", worst.difference, worst.limit, reason, worst.ratio)
    return Outcome(inputs, "agree", worst.difference, worst.limit, ratio=worst.ratio)


def _forms(layouts: tuple[str, str]) -> Iterator[tuple[Callable[[Array], Array], Callable[[Array], Array]]]:
    """Yield how two results are brought to one layout: not at all, or both to channels first."""
    yield (lambda x: x), (lambda y: y)
    if layouts[0] != layouts[1]:
        yield (lambda x: canonical(x, layouts[0])), (lambda y: canonical(y, layouts[1]))


def _gap(a: Spread, b: Spread, i: int, j: int, layouts: tuple[str, str]) -> _Gap | None:
    """Return the difference of two results; None where their shapes differ in every layout."""
    gaps = []
    for form_a, form_b in _forms(layouts):
        x, y = form_a(_numbers(a.results[i])), form_b(_numbers(b.results[j]))
        if x.shape == y.shape:
            gaps.append(_measure(x, y, spread_limits(form_a(a.moved[i]), form_b(b.moved[j]), x, y)))
    return min(gaps, default=None)


def _numbers(y: Array) -> Array:
    return y.astype(np.float32) if y.dtype.kind == "b" else y


def _measure(x: Array, y: Array, limit: Array) -> _Gap:
    distance = distances(x, y)
    if not distance.size or not distance.any():
        return _Gap(0.0, 0.0, float(np.max(limit, initial=0.0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(distance > 0, distance / limit, 0.0)
    ratio = float(np.max(ratios))
    at = int(np.argmax(ratios if ratio > 1 else distance))
    return _Gap(ratio, float(np.max(distance)), float(limit.reshape(-1)[at]))


def distances(x: Array, y: Array) -> Array:
    """Return the differences of all elements: none between equal infinities or NaNs, infinite ones at others."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64))
    distance[(x == y) | (np.isnan(x) & np.isnan(y))] = 0.0
    return np.where(np.isnan(distance), np.inf, distance)


# -- results that differ, in words -------------------------------------------------------------------------------------


def _order(a: Spread, b: Spread, layouts: tuple[str, str]) -> list[int] | None:
    """Return for each result of a the one of b that is the same; None unless each has exactly one."""
    count = len(a.results)
    if not 1 < count <= _REORDERED:
        return None
    order: list[int] = []
    for i in range(count):
        same = [j for j in range(count) if j not in order and _is_same(_gap(a, b, i, j, layouts))]
        if not same:
            return None
        order.append(same[0])
    return order


def _is_same(gap: _Gap | None) -> bool:
    return gap is not None and gap.ratio <= 1


def _count_words(a: Spread, b: Spread, layouts: tuple[str, str]) -> str:
    words = f"the models have {len(a.results)} and {len(b.results)} results"
    counterparts: dict[int, int] = {}
    for i in range(min(len(a.results), _REORDERED)):
        free = (j for j in range(min(len(b.results), _REORDERED)) if j not in counterparts.values())
        if (same := next((j for j in free if _is_same(_gap(a, b, i, j, layouts))), None)) is not None:
            counterparts[i] = same
    pairs = [f"result {i} of a is result {j} of b" for i, j in counterparts.items()]
    return "; ".join([words, ", ".join(pairs)] if pairs else [words])


def _alike_words(a: Spread, b: Spread, place: int, layouts: tuple[str, str]) -> str:
    """Return whether two results hold the same numbers in other places."""
    x, y = _numbers(a.results[place]), _numbers(b.results[place])
    if x.size != y.size or x.size < 2:
        return ""
    flat = [np.ravel(one) for one in (x, y, a.moved[place], b.moved[place])]
    limit = float(np.max(spread_limits(flat[2], flat[3], flat[0], flat[1])))

    def same(one: Array, other: Array) -> bool:
        return one.shape == other.shape and float(np.max(distances(one, other))) <= limit

    if not same(np.sort(flat[0]), np.sort(flat[1])):
        return ""
    if same(flat[0], flat[1]):
        return ": the same numbers in another shape"
    names = [_axes_words(x, y, same), _axes_words(canonical(x, layouts[0]), y, same)]
    return f": the same numbers{next(filter(None, names), ' in another order')}"


def _axes_words(x: Array, y: Array, same: Callable[[Array, Array], bool]) -> str:
    """Return the order of axes in which one result is the other."""
    if x.ndim != y.ndim or x.ndim > _AXES:
        return ""
    orders: Sequence[tuple[int, ...]] = list(itertools.permutations(range(x.ndim)))
    found = next((order for order in orders if same(x.transpose(order), y)), None)
    return "" if found is None else f" with the axes of a's result in the order {found}"

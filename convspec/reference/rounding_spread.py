"""How far results may move by rounding alone, from runs in which numbers were moved by what computation rounds.

A sum of K terms, added one after the other, is off by about as much as if each term were moved, independently, by
√(K/6) or, where all have one sign, all together by √K/3 units of roundoff: the squares of the partial sums add up to
K/2 or K²/3 times those of the terms. A unit in the last place is one to two units of roundoff, so √K/4 of them, and at
least one, stand for a layer's own rounding (:func:`units_for`). Each weight is moved by that many units in its last
place, up or down by itself and once more with all weights of its row, and each input by half a unit or one; all at
once. The results then move by about as much as all roundings of a run add up to, whatever the depth and the operations
between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convspec.reference.error_bounds import gamma
from convspec.spec import Array, format_of

SPREAD_FACTOR = 2.0  # docs/explanation/bounds.md: what right pairs of models need at most, measured
_SUMS = 4.0  # √K/4 units in the last place for a sum of K products
_SLICE = 32  # elements whose largest movement predicts that of the next run


@dataclass(slots=True)
class Spread:
    """The movement of a model's results on one input.

    Attributes:
        results: of the run that is compared.
        moved: the largest movement of each of their elements, over all perturbed runs.
        runs: their number.
        inputs_only: whether the weights could not be moved.
    """

    results: list[Array]
    moved: list[Array]
    runs: int = 0
    inputs_only: bool = False

    @classmethod
    def of(cls, results: list[Array]) -> Spread:
        return cls(results, [np.zeros(y.shape) for y in results])

    def add(self, results: Sequence[Array]) -> None:
        """Take in the results of one perturbed run."""
        for place, (before, after) in enumerate(zip(self.results, results, strict=False)):
            if before.shape == after.shape:
                self.moved[place] = np.maximum(self.moved[place], _finite_distance(before, after))
        self.runs += 1


def _finite_distance(x: Array, y: Array) -> Array:
    with np.errstate(invalid="ignore"):
        distance = np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64))
    return np.where(np.isfinite(distance), distance, 0.0)


def spread_limits(moved_a: Array, moved_b: Array, x: Array, y: Array) -> Array:
    """Return how far apart rounding alone can bring the elements of two results of one shape.

    The movement of an element is that of all elements at its place on one axis, the axis where they move least: a
    tensor may hold scores and pixels in different channels.
    """
    finite = np.abs(x[np.isfinite(x)])
    unit = max(format_of(_format(one)).unit_roundoff for one in (x, y))
    last_place = gamma(2, unit) * float(np.max(finite, initial=0.0))
    return SPREAD_FACTOR * (_smooth(moved_a) + _smooth(moved_b)) + last_place


def _format(x: Array) -> str:
    return x.dtype.name if x.dtype.name in ("float16", "float64") else "float32"


def _smooth(moved: Array) -> Array:
    smooth = np.full(moved.shape, float(np.max(moved, initial=0.0)))
    for axis, length in enumerate(moved.shape):
        if length and moved.size // length >= _SLICE:
            others = tuple(one for one in range(moved.ndim) if one != axis)
            smooth = np.minimum(smooth, np.max(moved, axis=others, keepdims=True))
    return smooth


def units_for(terms: int) -> float:
    """Return the units in the last place that stand for the rounding of a sum of so many products."""
    return max(1.0, math.sqrt(terms) / _SUMS)


def move_numbers(array: Array, rng: np.random.Generator, units: float, *, coarse: bool = False) -> Array:
    """Return the array, each number moved by so many units in its last place, by itself and once more with its row.

    ``coarse``: the numbers are of bfloat16, although float32 carries them.
    """
    if array.dtype.kind != "f" or not array.size:
        return array
    if not array.ndim:
        return move_numbers(array.reshape(1), rng, units / 2, coarse=coarse).reshape(())
    signs = rng.choice((-1.0, 1.0), (array.shape[0], *(1,) * (array.ndim - 1)))
    along = rng.integers(0, 2, array.shape, np.uint8)  # its own step and its row's add up, or cancel out
    with np.errstate(invalid="ignore", over="ignore"):
        moved: Array = np.spacing(np.abs(array))
        moved *= (np.rint(2 * units) * (2.0**16 if coarse else 1.0) * signs).astype(array.dtype)
        moved *= along
        moved += array
    if not (finite := np.isfinite(moved)).all():
        moved = np.where(finite, moved, array)
    return moved

"""Measure how far the results of a model move when its numbers move by what their computation rounds.

A sum of K terms, added one after the other, is off by about as much as if each term were moved, independently, by
√(K/6) or, where all have one sign, all together by √K/3 units of roundoff: the squares of the partial sums add up to
K/2 or K²/3 times those of the terms. A unit in the last place is one to two units of roundoff, so √K/4 of them, and at
least one, stand for a layer's own rounding. Each weight is moved by that many units in its last place, up or down by
itself and once more with all weights of its row, and each input by half a unit or one; all at once. The results then
move by about as much as all roundings of a run add up to, whatever the depth and the operations between.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.models.comparison.temporary_weights import temporary_weights, writable_parts
from convspec.reference import error_bounds
from convspec.spec import format_of, representable

if TYPE_CHECKING:
    from convspec.contract import Part
    from convspec.models.run_model import Given, Model
    from convspec.spec import Array

FACTOR = 2.0  # docs/explanation/bounds.md: what right pairs of models need at most, measured
_NORM_UNITS = 0.5  # four arrays of a norm move: together by about √8 roundings of an element
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


def limits(moved_a: Array, moved_b: Array, x: Array, y: Array) -> Array:
    """Return how far apart rounding alone can bring the elements of two results of one shape.

    The movement of an element is that of all elements at its place on one axis, the axis where they move least: a
    tensor may hold scores and pixels in different channels.
    """
    finite = np.abs(x[np.isfinite(x)])
    unit = max(format_of(_format(one)).unit_roundoff for one in (x, y))
    last_place = error_bounds.gamma(2, unit) * float(np.max(finite, initial=0.0))
    return FACTOR * (_smooth(moved_a) + _smooth(moved_b)) + last_place


def _format(x: Array) -> str:
    return x.dtype.name if x.dtype.name in ("float16", "float64") else "float32"


def _smooth(moved: Array) -> Array:
    smooth = np.full(moved.shape, float(np.max(moved, initial=0.0)))
    for axis, length in enumerate(moved.shape):
        if length and moved.size // length >= _SLICE:
            others = tuple(one for one in range(moved.ndim) if one != axis)
            smooth = np.minimum(smooth, np.max(moved, axis=others, keepdims=True))
    return smooth


# -- perturbed runs ----------------------------------------------------------------------------------------------------


def measure(model: Model, inputs: Sequence[Given], spreads: Sequence[Spread], seed: int) -> None:
    """Run the model once more on each of the inputs, its weights and the inputs moved; add to the spreads."""
    rng = np.random.default_rng(seed)
    with _moved_weights(model, rng) as native:
        inputs_only = native is None
        units = _input_units(model) if inputs_only else 1.0
        for given, spread in zip(inputs, spreads, strict=True):
            spread.add(model.results(_move_inputs(given, rng, units), native))
            spread.inputs_only = inputs_only


def measure_wide(model: Model, inputs: Sequence[Given], spreads: Sequence[Spread]) -> bool:
    """Add the distance to the results of the model in float64, where its framework can compute them; say whether."""
    widen = model.adapter.model_module().widen
    if widen is None:
        return False
    try:
        wide = [model.results(given, widen(model.native)) for given in inputs]
    except Exception:  # noqa: BLE001 – a model may insist on its own format
        return False
    for spread, results in zip(spreads, wide, strict=True):
        spread.add(results)
        spread.runs -= 1
    return True


@contextlib.contextmanager
def _moved_weights(model: Model, rng: np.random.Generator) -> Iterator[Any]:
    parts = writable_parts(model)
    coarse = any(part.reading is not None and part.reading.dtype == "bfloat16" for part in model.parts)
    if not parts:
        yield None
        return
    with temporary_weights(model, {part.path: _move_part(part, rng, coarse=coarse) for part in parts}) as native:
        yield native


def _input_units(model: Model) -> float:
    """Return the units for inputs that stand for the roundings of all layers, whose variances add up."""
    terms = [_terms(array) for part in model.parts for array in part.weights.values() if array.ndim > 1]
    terms += [max(math.prod(shape) // max(min(shape), 1), 1) for shape in model.rest.values() if len(shape) > 1]
    return max(2.0, math.sqrt(sum(terms)) / _SUMS)


def _terms(kernel: Array) -> int:
    """Return the number of products in a sum: of a kernel ``(O, I/g, …)``; of a transposed one, about that."""
    return max(kernel[:1].size, 1)


def _move_part(part: Part, rng: np.random.Generator, *, coarse: bool) -> dict[str, Array]:
    units = _NORM_UNITS
    if part.kind != "norm":
        units = max(1.0, math.sqrt(_terms(part.parameters["kernel"])) / _SUMS)
    moved = {}
    for name, array in part.parameters.items():
        brain = coarse and array.dtype == np.float32 and representable(array, "bfloat16")
        moved[name] = move(array, rng, 1.0 if brain or array.dtype == np.float16 else units, coarse=brain)
    return moved


def move(array: Array, rng: np.random.Generator, units: float, *, coarse: bool = False) -> Array:
    """Return the array, each number moved by so many units in its last place, by itself and once more with its row.

    ``coarse``: the numbers are of bfloat16, although float32 carries them.
    """
    if array.dtype.kind != "f" or not array.size:
        return array
    row = rng.choice((-units, units), (array.shape[0], *(1,) * (array.ndim - 1))) if array.ndim else 0.0
    steps = np.rint(rng.choice((-units, units), array.shape) + row)
    with np.errstate(invalid="ignore", over="ignore"):
        place = np.spacing(np.abs(array)) * array.dtype.type(2.0**16 if coarse else 1.0)
        moved = array + place * steps.astype(array.dtype)
    return np.where(np.isfinite(moved), moved, array).astype(array.dtype)


def _move_inputs(given: Given, rng: np.random.Generator, units: float) -> Given:
    if isinstance(given, Mapping):
        return {name: move(x, rng, units / 2) for name, x in given.items()}
    return [move(x, rng, units / 2) for x in given]

"""Give a model other weights for a while: to see which results they reach, and how far."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from convspec.contract import Part
from convspec.models.run_model import Given, Model
from convspec.reference import Spread, move_numbers, units_for
from convspec.spec import Array, representable

Weights: TypeAlias = Mapping[str, Mapping[str, Array]]


def writable_parts(model: Model) -> list[Part]:
    """Return the layers whose weights can be replaced in memory."""
    if not model.adapter.model_module().writes_in_memory:
        return []
    return [part for part in model.parts if part.weights and part.writable and not part.made]


@contextlib.contextmanager
def temporary_weights(model: Model, weights: Weights) -> Iterator[Any]:
    """Yield the model with these weights, or None where they cannot be written; its own come back, bit for bit."""
    module = model.adapter.model_module()
    own = {part.path: {name: np.array(array) for name, array in part.parameters.items()}
           for part in model.parts if part.path in weights}  # fmt: skip
    native = model.native
    try:
        try:
            native = module.write(model.native, weights)
        except Exception:  # noqa: BLE001 – of any framework
            yield None
        else:
            yield native
    finally:
        if native is model.native:
            _restore(module.write, native, own)


def _restore(write: Any, native: Any, weights: Weights) -> None:
    try:
        write(native, weights)
    except Exception:  # noqa: BLE001 – one of the layers cannot be written: the others one by one
        for path, arrays in weights.items():
            with contextlib.suppress(Exception):
                write(native, {path: arrays})


def without_effect(model: Model, parts: Sequence[Part]) -> list[Part]:
    """Return the layers that do not reach any result of the model's last run.

    The data flow tells; where only layers are seen, they get other weights, and each costs a run.
    """
    graph = model.graph
    if model.inputs is None or graph is None:
        return []
    if model.followed:
        used = {graph.trace.steps[place].path for place in graph.live}
        return [part for part in parts if part.path not in used and any(s.path == part.path for s in graph.trace.steps)]
    idle = []
    writable = {part.path for part in writable_parts(model)}
    for part in parts:
        if part.path not in writable:
            continue
        weights = {name: _other(name, array) for name, array in part.parameters.items()}
        with temporary_weights(model, {part.path: weights}) as native:
            if native is not None and _same(model.results(model.inputs, native), model.outputs):
                idle.append(part)
    return idle


def _other(name: str, array: Array) -> Array:
    """Return numbers that give other results; a variance stays positive."""
    return (array * 4 + 1 if name == "variance" else array * -2 + 1).astype(array.dtype)


def _same(a: Sequence[Array], b: Sequence[Array]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(a, b, strict=True)
    )


# -- weights moved by what computation rounds --------------------------------------------------------------------------

_NORM_UNITS = 0.5  # four arrays of a norm move: together by about √8 roundings of an element


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
    return max(2.0, units_for(sum(terms)))


def _terms(kernel: Array) -> int:
    """Return the number of products in a sum: of a kernel ``(O, I/g, …)``; of a transposed one, about that."""
    return max(kernel[:1].size, 1)


def _move_part(part: Part, rng: np.random.Generator, *, coarse: bool) -> dict[str, Array]:
    units = _NORM_UNITS
    if part.kind != "norm":
        units = units_for(_terms(part.parameters["kernel"]))
    moved = {}
    for name, array in part.parameters.items():
        brain = coarse and array.dtype == np.float32 and representable(array, "bfloat16")
        moved[name] = move_numbers(array, rng, 1.0 if brain or array.dtype == np.float16 else units, coarse=brain)
    return moved


def _move_inputs(given: Given, rng: np.random.Generator, units: float) -> Given:
    if isinstance(given, Mapping):
        return {name: move_numbers(x, rng, units / 2) for name, x in given.items()}
    return [move_numbers(x, rng, units / 2) for x in given]

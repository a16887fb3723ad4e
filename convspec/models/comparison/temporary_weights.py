"""Give a model other weights for a while: to see which results they reach, and how far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from convspec.contract import Part
from convspec.models.run_model import Model
from convspec.spec import Array

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

"""Calls of layers as single operations of JAX, and the modules around other operations.

A layer's call becomes one equation of the traced function, with the layer's arrays and its input as operands. It stays
one under ``jit``, ``vmap``, ``scan`` and ``remat``. Each mapped axis is moved to the front and counted, so that the
layer's own axes are known. Modules are named by scopes in the names that JAX keeps for its compiler.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import batching, mlir

from convspec.contract import Array
from convspec.spec import ConvSpec
from convspec.spec.steps import Step

_MARK = "convspec module"
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Meaning:
    """A layer as a step.

    Attributes:
        step: the step, for a tensor with one batch axis.
        arrays: in canonical order, by the names of ``Step.arrays``.
        layout: as of a ``TracedStep``.
        ndim: number of axes of the tensor that the step takes; 0: any.
        note: what the step cannot say.
    """

    step: Step | ConvSpec
    arrays: Mapping[str, Array] = field(default_factory=dict)
    layout: str = ""
    ndim: int = 0
    note: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """A layer that is one step.

    Attributes:
        path: its position in the model.
        name: of its class.
        arrays: names of its arrays.
        meaning: from the values of these arrays and the shape of the input, batch axes included.
    """

    path: str
    name: str
    arrays: tuple[str, ...]
    meaning: Callable[[Mapping[str, Array], tuple[int, ...]], Meaning]


def call_layer(layer: Layer, arrays: Sequence[Any], call: Callable[[Any], Any], x: Any) -> Any:
    """Return ``call(x)``, traced as one operation of the layer with these arrays."""
    traced = jax.make_jaxpr(call)(x)
    (y,) = LAYER.bind(*arrays, *traced.consts, x, layer=layer, body=traced.jaxpr, mapped=())
    return y


def in_module(path: str, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its operations marked as those of one call of a module."""
    named: Callable[..., Any] = jax.named_scope(f"{_MARK} {next(_numbers)} {kind} {path}")(call)
    return named


def modules_of(stack: Any) -> tuple[str, ...]:
    """Return the marks of the modules around an operation, the outermost first."""
    return tuple(scope.name for scope in stack.stack if getattr(scope, "name", "").startswith(_MARK))


def kind_and_path(mark: str) -> tuple[str, str]:
    """Return the class and the path of a marked module."""
    kind, _, path = mark.removeprefix(_MARK).strip().partition(" ")[2].partition(" ")
    return kind, path


def run_layer(*given: Any, layer: Layer, body: Any, mapped: tuple[tuple[bool, ...], ...]) -> list[Any]:
    """Return the results of a layer's call; each entry of ``mapped`` says which operands have one more axis."""

    def run(*values: Any) -> list[Any]:
        return list(jaxpr_as_fun(ClosedJaxpr(body, values[len(layer.arrays) : -1]))(values[-1]))

    for axes in mapped:
        run = jax.vmap(run, [0 if axis else None for axis in axes])
    return run(*given)


def _results(*given: Any, body: Any, mapped: tuple[tuple[bool, ...], ...], **_: Any) -> list[Any]:
    shapes, sizes = [x.shape for x in given], []
    for axes in reversed(mapped):
        sizes.append(next(shape[0] for shape, axis in zip(shapes, axes, strict=True) if axis))
        shapes = [shape[1:] if axis else shape for shape, axis in zip(shapes, axes, strict=True)]
    return [atom.aval.update(shape=(*sizes, *atom.aval.shape)) for atom in body.outvars]


def _batch(given: Sequence[Any], axes: Sequence[int | None], *, mapped: Any, **params: Any) -> tuple[Any, Any]:
    moved = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(given, axes, strict=True)]
    results = LAYER.bind(*moved, mapped=(*mapped, tuple(axis is not None for axis in axes)), **params)
    return results, [0] * len(results)


LAYER = Primitive("layer")
LAYER.multiple_results = True
LAYER.def_impl(run_layer)
LAYER.def_abstract_eval(_results)
batching.primitive_batchers[LAYER] = _batch
mlir.register_lowering(LAYER, mlir.lower_fun(run_layer, multiple_results=True))

"""Read layers and models of ``flax.linen``: modules bound to variables, or pairs (module, variables)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from convspec.contract import FoundConv, Reading, no_convolutions, refuse_shape
from convspec.contract.tracing import Answer, Array, layer_inference
from convspec.errors import UnsupportedError
from convspec_flax.read import array, attempted, computes_as_flax, reading, tensor

Numbers: TypeAlias = "dict[tuple[str, ...], Any]"  # by path, collection and name

_KINDS = (nn.Conv, nn.ConvTranspose)


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a module is or contains.

    Raises:
        UnsupportedError: where the module is more than that, or has no variables.
    """
    module, variables = _parted(layer)
    if isinstance(module, _KINDS) and computes_as_flax(module, _KINDS):
        return _plain(module, variables.get("params", {}))
    return layer_inference.read(_runner(module, variables), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:
    """Return every convolution in the order of a call on an input of that shape; linen makes its layers in calls.

    Raises:
        UnsupportedError: where there is none, listing the kinds of its modules.
    """
    module, variables = _parted(model)
    if isinstance(module, _KINDS) and input_shape is None:
        return [_found((), module, variables.get("params", {}))]
    if input_shape is None:
        raise UnsupportedError("linen makes its layers when it is called: pass input_shape, the shape of the input")
    all_of_them: dict[str, FoundConv] = {}
    kinds: set[str] = set()

    def listen(inner: Any, numbers: Numbers) -> None:
        kinds.add(type(inner).__name__)
        if isinstance(inner, _KINDS):
            one = found(variables, inner, numbers)
            all_of_them.setdefault(one.path, one)

    x = jax.ShapeDtypeStruct(tuple(input_shape), _dtype(variables))
    with refuse_shape(input_shape):
        visit(lambda x: module.apply(variables, x), x, listen)
    if not all_of_them:
        raise no_convolutions(type(module).__name__, kinds - {type(module).__name__})
    return list(all_of_them.values())


def _parted(layer: Any) -> tuple[Any, Any]:
    """A module and its variables."""
    if isinstance(layer, tuple) and len(layer) == 2:
        module, variables = layer
    elif isinstance(layer, nn.Module) and layer.scope is not None:
        module, variables = layer.unbind()
    else:
        module, variables = layer, None
    if not isinstance(module, nn.Module):
        raise UnsupportedError(f"{type(module).__name__} is no module of flax.linen")
    if variables is None:
        raise UnsupportedError(f"{type(module).__name__} has no variables: bind them, or give (module, variables)")
    return module, variables


def _dtype(variables: Any) -> Any:
    kinds = [leaf.dtype for leaf in jax.tree.leaves(variables) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return kinds[0] if kinds else jnp.float32


def found(variables: Any, module: Any, numbers: Numbers) -> FoundConv:
    """Return a convolution of a call; raises Traced where a compiled function must output its values."""
    try:
        return _found(module.path, module, seen(variables, module, numbers)["params"])
    except Traced:
        raise
    except UnsupportedError as error:
        return FoundConv("/".join(module.path), None, str(error))


def _found(path: Sequence[str], module: Any, params: Any) -> FoundConv:
    return FoundConv.of("/".join(path), lambda: _plain(module, params))


def _plain(module: Any, params: Any) -> Reading:
    if not computes_as_flax(module, _KINDS):
        raise UnsupportedError(f"{type(module).__name__} computes in its own way, not as Flax's does")
    if "kernel" not in params:
        raise UnsupportedError(f"{type(module).__name__} has no 'kernel' among its variables, only {sorted(params)}")
    weights = nn.meta.unbox(params)
    return reading(module, weights["kernel"], weights.get("bias"), module.mask)


class Traced(UnsupportedError):
    """The weights are symbols of a compiled function."""


def seen(variables: Any, module: Any, numbers: Numbers) -> dict[str, Any]:
    """Return the variables that a module computes with in a call on ``variables``, after a WeightNorm around it.

    Raises:
        Traced: where they are symbols of a compiled function, and not among ``numbers``.
        UnsupportedError: where it is one of several under scan or vmap.
    """
    own: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for collection, name, values in _variables(module):
        stored: Any = nn.meta.unbox(variables.get(collection, {}))
        for word in (*module.path, name):
            stored = stored.get(word, {})
        if isinstance(stored, jax.Array | np.ndarray) and stored.ndim > values.ndim:
            raise UnsupportedError(
                f"{type(module).__name__} is several layers at once, by vmap or scan: its {name} of shape "
                f"{stored.shape} has {stored.ndim - values.ndim} axes more than that of one"
            )
        if isinstance(values, jax.core.Tracer):
            place = (*module.path, collection, name)
            if place not in numbers:
                raise Traced(f"the weights of {type(module).__name__} are known only within a compiled call")
            values = numbers[place]  # noqa: PLW2901
        own[collection][name] = values
    return own


def _variables(module: Any) -> Iterator[tuple[str, str, Any]]:
    for collection in ("params", "batch_stats"):
        for name, values in nn.meta.unbox(module.variables).get(collection, {}).items():
            if hasattr(values, "ndim"):
                yield collection, name, values


def visit(call: Callable[[Any], Any], shapes: Any, listen: Callable[[Any, Numbers], None]) -> None:
    """Call ``listen(module, numbers)`` for every module in a call on inputs of these shapes.

    Where it raises Traced, a call on zeros is run, in which compiled functions output their values.
    """

    def trace(numbers: Numbers) -> None:
        with _calling(lambda module: listen(module, numbers)):
            jax.eval_shape(call, shapes)

    try:
        trace({})
    except Traced:
        numbers: Numbers = {}

        def collect(module: Any) -> None:
            for collection, name, values in _variables(module):
                keep = functools.partial(numbers.__setitem__, (*module.path, collection, name))
                if isinstance(values, jax.core.Tracer):
                    jax.debug.callback(keep, values)
                else:
                    keep(values)

        with _calling(collect):
            call(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
        jax.effects_barrier()
        trace(numbers)


def replaced(kinds: Any, by: Callable[[Any, Callable[..., Any], Any, Any], Any]) -> AbstractContextManager[Any]:
    """Let ``by(module, call, args, kwargs)`` take the place of every call of a module of these kinds."""

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and isinstance(context.module, kinds):
            return by(context.module, call, args, kwargs)
        return call(*args, **kwargs)

    found: AbstractContextManager[Any] = nn.intercept_methods(intercept)
    return found


def _calling(listen: Callable[[Any], None]) -> AbstractContextManager[Any]:
    def heard(module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        listen(module)
        return call(*args, **kwargs)

    return replaced(nn.Module, heard)


def _runner(module: Any, variables: Any) -> Callable[[Array, Answer], Array]:
    dtype = str(_dtype(variables))

    def run(x: Array, answer: Answer) -> Array:
        def asked(inner: Any, _: Any, args: Any, kwargs: Any) -> Any:
            given = args[0] if args else kwargs["inputs"]
            return tensor(answer(_plain(inner, inner.variables.get("params", {})), array(given)), str(given.dtype))

        with replaced(_KINDS, asked):
            return attempted(lambda: module.apply(variables, tensor(x, dtype)), x.shape)

    return run

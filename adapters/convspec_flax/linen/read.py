"""Layers and models of ``flax.linen`` → ConvSpec and ConvParams: modules bound to variables, or (module, variables)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from convspec import surroundings
from convspec.contract import Found, Reading
from convspec.errors import ConvspecError, UnsupportedError
from convspec_flax.read import array, attempted, computes_as_flax, nothing, reading, tensor

if TYPE_CHECKING:
    from convspec.traces import Answer, Array

_KINDS = (nn.Conv, nn.ConvTranspose)


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """The one convolution that a module is or holds.

    Raises:
        UnsupportedError: where the module is more than that, or has no variables.
    """
    module, variables = _parted(layer)
    if isinstance(module, _KINDS) and computes_as_flax(module, _KINDS):
        return _plain(module, variables.get("params", {}))
    return surroundings.read(_runner(module, variables), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[Found]:
    """Every convolution that a call on an input of that shape meets, in that order; linen makes its layers in calls.

    Raises:
        UnsupportedError: where there is none, listing the kinds of modules that there are.
    """
    module, variables = _parted(model)
    if isinstance(module, _KINDS) and input_shape is None:
        return [_found((), module, variables.get("params", {}))]
    if input_shape is None:
        raise UnsupportedError("linen makes its layers when it is called: pass input_shape, the shape of the input")
    found: dict[str, Found] = {}
    kinds: set[str] = set()

    def listen(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        inner = context.module
        if context.method_name == "__call__":
            kinds.add(type(inner).__name__)
            if isinstance(inner, _KINDS):
                one = _found(inner.path, inner, inner.variables.get("params", {}))
                found.setdefault(one.path, one)
        return call(*args, **kwargs)

    x = jax.ShapeDtypeStruct(tuple(input_shape), _dtype(variables))
    try:
        with nn.intercept_methods(listen):
            jax.eval_shape(lambda x: module.apply(variables, x), x)
    except Exception as error:
        raise UnsupportedError(f"an input of shape {tuple(input_shape)} cannot be given to it: {error}") from error
    if not found:
        raise nothing(module, kinds - {type(module).__name__})
    return list(found.values())


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


def _found(path: Sequence[str], module: Any, params: Any) -> Found:
    name = "/".join(path)
    try:
        return Found(name, _plain(module, params))
    except ConvspecError as error:
        return Found(name, None, str(error))


def _plain(module: Any, params: Any) -> Reading:
    if not computes_as_flax(module, _KINDS):
        raise UnsupportedError(f"{type(module).__name__} computes in its own way, not as Flax's does")
    if "kernel" not in params:
        raise UnsupportedError(f"{type(module).__name__} has no 'kernel' among its variables, only {sorted(params)}")
    weights = nn.meta.unbox(params)
    return reading(module, weights["kernel"], weights.get("bias"), module.mask)


def _runner(module: Any, variables: Any) -> Callable[[Array, Answer], Array]:
    dtype = str(_dtype(variables))

    def run(x: Array, answer: Answer) -> Array:
        def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            inner = context.module
            if context.method_name != "__call__" or not isinstance(inner, _KINDS):
                return call(*args, **kwargs)
            given = args[0] if args else kwargs["inputs"]
            return tensor(answer(_plain(inner, inner.variables.get("params", {})), array(given)), str(given.dtype))

        with nn.intercept_methods(intercept):
            return attempted(lambda: module.apply(variables, tensor(x, dtype)), x.shape)

    return run

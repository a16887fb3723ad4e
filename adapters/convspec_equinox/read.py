"""Layers and models of Equinox → ConvSpec and ConvParams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np

from convspec.contract import ConvParams, FoundConv, Reading, format_of, known_dtype, no_convolutions, refuse_shape
from convspec.contract.tracing import Answer, Array, Run, layer_inference
from convspec.errors import UnsupportedError
from convspec_equinox.arguments import spec_of
from convspec_equinox.weights import from_equinox

_CONVOLUTIONS = (eqx.nn.Conv, eqx.nn.ConvTranspose)
_ATTRIBUTES = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "use_bias"),
    *("padding_mode", "output_padding"),
)


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a module is or contains.

    Raises:
        UnsupportedError: where the module is more than that.
    """
    if not isinstance(layer, eqx.Module):
        raise UnsupportedError(f"{type(layer).__name__} is not a module of Equinox")
    return _plain(layer) if isinstance(layer, _CONVOLUTIONS) else layer_inference.read(_runner(layer), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:  # noqa: ARG001 – the contract's
    """Every convolution of a module, each by itself; paths are those of its attributes.

    Raises:
        UnsupportedError: where there is none, listing the kinds of its modules.
    """
    model = model[0] if isinstance(model, tuple) else model  # without its state
    leaves = jax.tree_util.tree_flatten_with_path(model, is_leaf=_is_convolution)[0]
    found = [
        FoundConv.of(jax.tree_util.keystr(path).lstrip("."), partial(_plain, leaf))
        for path, leaf in leaves
        if _is_convolution(leaf)
    ]
    if not found:
        parts = jax.tree_util.tree_leaves(model, is_leaf=lambda x: isinstance(x, eqx.Module) and x is not model)
        kinds = (type(part).__name__ for part in parts if isinstance(part, eqx.Module))
        raise no_convolutions(type(model).__name__, kinds)
    return found


def _is_convolution(module: Any) -> bool:
    return isinstance(module, _CONVOLUTIONS)


def _plain(module: Any) -> Reading:
    base = next(kind for kind in _CONVOLUTIONS if isinstance(module, kind))
    if type(module).__call__ is not base.__call__:
        raise UnsupportedError(f"{type(module).__name__} computes in its own way, not as Equinox's does")
    return reading(module, base, module.weight, module.bias)


def reading(module: Any, base: Any, weight: Any, bias: Any) -> Reading:
    """Return the convolution of a module of this class with these weights."""
    dtype = known_dtype(str(weight.dtype))
    transposed = base is eqx.nn.ConvTranspose
    arguments = {name: getattr(module, name) for name in _ATTRIBUTES if hasattr(module, name)}
    spec = spec_of(arguments, module.num_spatial_dims, transposed=transposed)
    carrier = format_of(dtype).carrier
    kernel = from_equinox(np.array(weight, carrier), transposed=transposed, groups=spec.groups)
    values = None if bias is None else np.array(bias, carrier).reshape(-1)
    return Reading(spec, ConvParams(np.ascontiguousarray(kernel), values).check(spec), "NCHW", dtype)


# -- layers with something around the convolution ----------------------------------------------------------------------


class _Asked(eqx.Module):  # type: ignore[misc]
    """Replaces a convolution by ``answer(reading, input)``."""

    found: Reading = eqx.field(static=True)
    answer: Answer = eqx.field(static=True)

    def __call__(self, x: Any, **_: Any) -> Any:
        shape = self.found.spec.output_shape((1, *x.shape))[1:]
        form = jax.ShapeDtypeStruct(shape, x.dtype)
        return jax.pure_callback(lambda v: self._reply(np.asarray(v)), form, x, vmap_method="broadcast_all")

    def _reply(self, x: Array) -> Any:
        return self.answer(self.found, x.astype(format_of(str(x.dtype)).carrier)).astype(x.dtype)


def _runner(layer: Any) -> Run:
    def convolutions(module: Any) -> list[Any]:
        return list(filter(_is_convolution, jax.tree_util.tree_leaves(module, is_leaf=_is_convolution)))

    found = [_plain(module) for module in convolutions(layer)]
    dtype = found[0].dtype if found else "float32"

    def run(x: Array, answer: Answer) -> Array:
        asked = eqx.tree_at(convolutions, layer, [_Asked(one, answer) for one in found]) if found else layer
        with refuse_shape(x.shape):
            y = jax.vmap(asked)(jax.numpy.asarray(x, dtype))
        if not isinstance(y, jax.Array):
            raise UnsupportedError(f"the layer returns {type(y).__name__}, not one array")
        return np.array(y, format_of(str(y.dtype)).carrier)

    return run

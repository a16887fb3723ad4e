"""Read layers and models of ``flax.nnx`` as ConvSpec and ConvParams, with functions shared by linen's reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from convspec.contract import (
    ConvParams,
    ConvSpec,
    FoundConv,
    Reading,
    format_of,
    known_dtype,
    layouts,
    no_convolutions,
    refuse_shape,
)
from convspec.contract.tracing import Answer, Array, layer_inference
from convspec.errors import UnsupportedError
from convspec_flax.arguments import spec_of
from convspec_flax.weights import from_flax

_ATTRIBUTES = (
    "kernel_size", "strides", "padding", "input_dilation", "kernel_dilation", "feature_group_count", "use_bias",
)  # fmt: skip


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a module is or contains.

    Raises:
        UnsupportedError: where the module is more than that.
    """
    _check(layer)
    return _plain(layer) if _is_plain(layer) else layer_inference.read(_runner(layer), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:  # noqa: ARG001 – the contract's
    """Every convolution of a module, each by itself; paths are those of its attributes.

    Raises:
        UnsupportedError: where there is none, listing the kinds of its modules.
    """
    _check(model)
    modules = list(nnx.iter_modules(model))
    found = [_found(path, module) for path, module in modules if _is_convolution(module)]
    if not found:
        raise no_convolutions(type(model).__name__, (type(module).__name__ for path, module in modules if path))
    return found


def _check(layer: Any) -> None:
    if not isinstance(layer, nnx.Module):
        raise UnsupportedError(f"{type(layer).__name__} is not a module of flax.nnx")


def _is_convolution(module: Any) -> bool:
    return isinstance(module, nnx.Conv | nnx.ConvTranspose)


def _is_plain(module: Any) -> bool:
    return _is_convolution(module) and computes_as_flax(module, (nnx.Conv, nnx.ConvTranspose))


def computes_as_flax(module: Any, kinds: tuple[type, ...]) -> bool:
    """Return whether a convolution's class computes as Flax's own does."""
    base = next(kind for kind in kinds if isinstance(module, kind))
    own = getattr(module, "conv_general_dilated", None)
    return type(module).__call__ is base.__call__ and own in (None, jax.lax.conv_general_dilated)


def _found(path: tuple[Any, ...], module: Any) -> FoundConv:
    return FoundConv.of("/".join(map(str, path)), lambda: _plain(module))


def _plain(module: Any) -> Reading:
    if not _is_plain(module):
        raise UnsupportedError(f"{type(module).__name__} computes in its own way, not as Flax's does")
    mask = getattr(module.mask, "value", module.mask)
    bias = None if module.bias is None else module.bias.get_value()
    return reading(module, module.kernel.get_value(), bias, mask)


# -- shared by nnx and linen ------------------------------------------------------------------------------------------


def reading(module: Any, kernel: Any, bias: Any, mask: Any = None) -> Reading:
    """The convolution of a module with these weights.

    Raises:
        UnsupportedError: where its arguments exceed a spec.
    """
    if mask is not None:
        kernel = kernel * mask
    ndim = len(module.kernel_size) if hasattr(module.kernel_size, "__len__") else 1
    if kernel.ndim > ndim + 2:
        raise UnsupportedError(
            f"{type(module).__name__} is several layers at once, by vmap or scan: its kernel of shape "
            f"{kernel.shape} has {kernel.ndim - ndim - 2} axes more than the kernel of one"
        )
    dtype = known_dtype(str(kernel.dtype))
    carrier = format_of(dtype).carrier
    spec, canonical = _meaning(module, np.array(kernel, carrier))
    values = None if bias is None else np.array(jnp.asarray(bias, dtype), carrier)
    params = ConvParams(np.array(canonical, order="C"), values)
    return Reading(spec, params.check(spec), layouts.CHANNELS_LAST, dtype)


def _meaning(module: Any, kernel: Array) -> tuple[ConvSpec, Array]:
    """The spec, and the kernel in the canonical order."""
    arguments = {name: getattr(module, name) for name in _ATTRIBUTES if hasattr(module, name)}
    groups = arguments.get("feature_group_count", 1)
    channels = {"in_features": kernel.shape[-2] * groups, "out_features": kernel.shape[-1]}
    if not hasattr(module, "feature_group_count"):  # a ConvTranspose
        if module.transpose_kernel:
            channels = {"in_features": kernel.shape[-1], "out_features": kernel.shape[-2]}
        if arguments["padding"] == "CIRCULAR":
            raise UnsupportedError("padding='CIRCULAR' of a ConvTranspose wraps its result, which no spec expresses")
        spec = spec_of(arguments | channels, transposed=True)
        kernel = kernel if module.transpose_kernel else _turned(kernel)
        return spec, from_flax(kernel, transposed=True, groups=1)
    spec = spec_of(arguments | channels, transposed=False)
    if spec.transposed and groups == 1:  # a Conv of a dilated input
        kernel = _turned(kernel)
    return spec, from_flax(kernel, transposed=spec.transposed, groups=groups)


def _turned(kernel: Array) -> Array:
    """A flipped kernel of order (*kernel, I, O) as one of (*kernel, O, I) that is not."""
    return np.flip(kernel, tuple(range(kernel.ndim - 2))).swapaxes(-1, -2)


def tensor(x: Array, dtype: str) -> Any:
    """An array of JAX's for a layer whose weights are of that dtype."""
    return jnp.asarray(x, dtype)


def array(x: Any) -> Array:
    """The numbers on the host, bfloat16 as float32."""
    return np.array(x, format_of(str(x.dtype)).carrier)


def attempted(call: Callable[[], Any], shape: tuple[int, ...]) -> Array:
    """What a layer returns for an input of that shape.

    Raises:
        UnsupportedError: where it cannot take one.
    """
    with refuse_shape(shape):
        y = call()
    if not isinstance(y, jax.Array):
        raise UnsupportedError(f"the layer returns {type(y).__name__}, not one array")
    return array(y)


# -- layers with something around the convolution ----------------------------------------------------------------------


def _answered(self: Any, x: Any, *_: Any, **__: Any) -> Any:
    answer, found = vars(self)["answer"], vars(self)["found"]
    return tensor(answer(found, array(x)), str(x.dtype))


_CONV, _TRANSPOSE = (type(kind.__name__, (kind,), {"__call__": _answered}) for kind in (nnx.Conv, nnx.ConvTranspose))


def _runner(layer: Any) -> Callable[[Array, Answer], Array]:
    copy = nnx.merge(*nnx.split(layer))
    convolutions = [module for _, module in nnx.iter_modules(copy) if _is_convolution(module)]
    found = [_plain(module) for module in convolutions]
    for module in convolutions:
        module.__class__ = _CONV if isinstance(module, nnx.Conv) else _TRANSPOSE
    dtype = found[0].dtype if found else "float32"

    def run(x: Array, answer: Answer) -> Array:
        for module, one in zip(convolutions, found, strict=True):
            vars(module).update(answer=answer, found=one)
        return attempted(lambda: copy(tensor(x, dtype)), x.shape)

    return run

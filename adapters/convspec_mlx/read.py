"""Layers and models of MLX → ConvSpec and ConvParams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten

from convspec.contract import (
    ConvParams,
    ConvSpec,
    FoundConv,
    Reading,
    known_dtype,
    no_convolutions,
    refuse_shape,
    resolve_padding,
)
from convspec.contract.tracing import Answer, Array, Run, layer_inference
from convspec.errors import UnsupportedError
from convspec_mlx.layer import REGULAR, TRANSPOSED, fetch
from convspec_mlx.weights import from_mlx

_SETTINGS = ("stride", "padding", "dilation", "output_padding", "groups")
_FUNCTIONS = tuple(f"conv{kind}{ndim}d" for kind in ("", "_transpose") for ndim in (1, 2, 3))


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a module is or contains.

    Raises:
        UnsupportedError: where the module is more than that.
    """
    if not isinstance(layer, nn.Module):
        raise UnsupportedError(f"{type(layer).__name__} is not a module of MLX")
    return _plain(layer) if _is_own(layer) else layer_inference.read(_runner(layer), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:  # noqa: ARG001 – the contract's
    """Every convolution of a module, each by itself; paths are those of its parameters without the last name.

    Raises:
        UnsupportedError: where there is none, listing the kinds of its modules.
    """
    leaves = [("", model)] if isinstance(model, (*REGULAR, *TRANSPOSED)) else tree_flatten(
        model.leaf_modules(), is_leaf=nn.Module.is_module
    )  # fmt: skip
    found = [FoundConv.of(path, partial(_plain, m)) for path, m in leaves if isinstance(m, (*REGULAR, *TRANSPOSED))]
    if not found:
        raise no_convolutions(type(model).__name__, (type(module).__name__ for _, module in leaves))
    return found


def _is_own(module: Any) -> bool:
    """Return whether the module computes as MLX's own class does."""
    return any(isinstance(module, k) and type(module).__call__ is k.__call__ for k in (*REGULAR, *TRANSPOSED))


def _plain(module: Any) -> Reading:
    if not _is_own(module):
        raise UnsupportedError(f"{type(module).__name__} computes in its own way, not as MLX's does")
    settings = {name: value for name in _SETTINGS if (value := getattr(module, name, None)) is not None}
    return _reading(module.weight, module.get("bias"), settings, transposed=isinstance(module, TRANSPOSED))


def _reading(weight: Any, bias: Any, settings: dict[str, Any], *, transposed: bool) -> Reading:
    """Return the convolution with these weights in MLX's order."""
    dtype = known_dtype(str(weight.dtype).removeprefix("mlx.core."))
    kernel = from_mlx(fetch(weight), transposed=transposed, groups=(groups := settings.get("groups", 1)))
    inputs, outputs = kernel.shape[1] * groups, kernel.shape[0]
    if transposed:
        inputs, outputs = outputs, inputs
    plain: dict[str, Any] = {name: v if isinstance(v, int) else tuple(v) for name, v in settings.items()}
    spec = ConvSpec(inputs, outputs, kernel.shape[2:], **plain, bias=bias is not None, transposed=transposed)
    crops = resolve_padding(spec, (1,) * spec.ndim)[0] if transposed else ()
    for (crop, _), reach, stride in zip(crops, spec.effective_kernel, spec.stride, strict=False):
        if crop >= reach and stride > 1:
            raise UnsupportedError(f"padding={crop} crops more than the kernel reaches, which MLX computes wrongly")
    values = None if bias is None else fetch(bias)
    return Reading(spec, ConvParams(kernel, values).check(spec), "NHWC", dtype)


# -- layers with something around the convolution ----------------------------------------------------------------------


def _runner(layer: Any) -> Run:
    """Return a function that runs a module with MLX's convolution functions replaced by ``answer``."""
    arrays = [array for _, array in tree_flatten(layer.parameters())]
    dtype = arrays[0].dtype if arrays else mx.float32

    def run(x: Array, answer: Answer) -> Array:
        with mx.stream(mx.cpu), _answering(answer), refuse_shape(x.shape):
            y = layer(mx.array(x, dtype))
            if not isinstance(y, mx.array):
                raise UnsupportedError(f"the layer returns {type(y).__name__}, not one array")
            return fetch(y)

    return run


@contextlib.contextmanager
def _answering(answer: Answer) -> Iterator[None]:
    """Replace ``mx.conv1d`` to ``mx.conv_transpose3d``, which modules call too."""
    own = {name: getattr(mx, name) for name in _FUNCTIONS}

    def asked(transposed: bool, x: Any, weight: Any, *args: Any, **kwargs: Any) -> Any:
        names = _SETTINGS if transposed else tuple(name for name in _SETTINGS if name != "output_padding")
        kwargs.pop("stream", None)
        settings = dict(zip(names, args, strict=False)) | kwargs
        reading = _reading(weight, None, settings, transposed=transposed)
        y = answer(reading, fetch(x))
        return mx.array(np.ascontiguousarray(y), x.dtype)

    for name in own:
        setattr(mx, name, partial(asked, "transpose" in name))
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(mx, name, function)

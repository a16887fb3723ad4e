"""Keras layers and models → ConvSpec and ConvParams, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from convspec.contract import (
    ConvParams,
    FoundConv,
    Reading,
    known_dtype,
    layouts,
    no_convolutions,
    refuse_shape,
)
from convspec.contract.tracing import Answer, Array, layer_inference
from convspec.errors import UnsupportedError
from convspec_keras import weights
from convspec_keras.arguments import spec_of
from convspec_keras.graph import SavedModel

_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, *_TRANSPOSED, *_DEPTHWISE)
_ATTRIBUTES = (
    *("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias"),
    *("depth_multiplier", "output_padding"),
)
_LAYOUTS = {"channels_first": layouts.CHANNELS_FIRST, "channels_last": layouts.CHANNELS_LAST}


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the one convolution that a layer or a model is or contains.

    Raises:
        UnsupportedError: where it is more than that – a SeparableConv is two – or has not been built.
    """
    if isinstance(layer, SavedModel):
        raise UnsupportedError("a SavedModel is a graph: convspec.convs lists its convolutions, each by itself")
    if not isinstance(layer, keras.layers.Layer):
        raise UnsupportedError(f"{type(layer).__name__} is not a layer of Keras")
    if isinstance(layer, _SEPARABLE):
        raise UnsupportedError(
            f"{type(layer).__name__} {layer.name!r} is two layers, a depthwise one and one of 1×1 taps: "
            f"convspec.convs gives both"
        )
    if isinstance(layer, _CONVOLUTIONS) and _is_plain(layer):
        return _alone(layer)
    return layer_inference.read(_runner(layer), input_shape)


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:  # noqa: ARG001 – the contract's
    """Every convolution of a model, without its activation; a SeparableConv is two. Paths are of layers' names.

    Raises:
        UnsupportedError: where there is none, listing the kinds of its layers.
    """
    if isinstance(model, SavedModel):
        from convspec_keras import sites

        return sites.convs(model)
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedError(f"{type(model).__name__} is not a layer of Keras")
    layers = list(_walk(model))
    found = [entry for path, layer in layers for entry in _found(path, layer)]
    if not found:
        raise no_convolutions(type(model).__name__, (type(one).__name__ for _, one in layers if one is not model))
    return found


def _walk(layer: Any, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """A layer and all layers in it, each once, with their paths; the model's own name is in none but its own."""
    root = seen is None
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield f"{prefix}{layer.name}", layer
    inside = "" if root else f"{prefix}{layer.name}/"
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from _walk(inner, inside, seen)


def _found(path: str, layer: Any) -> Iterator[FoundConv]:
    makers: dict[str, Callable[[Any], Reading]]
    if isinstance(layer, _SEPARABLE):
        makers = {f"{path}/depthwise": _depthwise_part, f"{path}/pointwise": _pointwise_part}
    elif isinstance(layer, _CONVOLUTIONS):
        makers = {path: _plain}
    else:
        return
    for name, make in makers.items():
        if _is_plain(layer):
            yield FoundConv.of(name, partial(make, layer))
        else:
            yield FoundConv(name, None, f"{type(layer).__name__} computes in its own way")


# -- plain layers ------------------------------------------------------------------------------------------------------


def _is_plain(layer: Any) -> bool:
    """Whether this convolution computes as Keras's own class does."""
    base = next(kind for kind in (*_CONVOLUTIONS, *_SEPARABLE) if isinstance(layer, kind))
    names = [name for name in ("call", "convolution_op") if hasattr(base, name)]
    return all(getattr(type(layer), name) is getattr(base, name) for name in names)


def _alone(conv: Any) -> Reading:
    """A convolution that is all that its layer does."""
    if conv.activation is not keras.activations.linear:
        name = getattr(conv.activation, "__name__", conv.activation)
        raise UnsupportedError(
            f"the activation {name!r} of {type(conv).__name__} {conv.name!r} is no part of a convolution: give it a "
            f"layer of its own, or use convspec.convs, which leaves it out"
        )
    return _plain(conv)


def _plain(conv: Any) -> Reading:
    transposed, depthwise = isinstance(conv, _TRANSPOSED), isinstance(conv, _DEPTHWISE)
    return _reading(conv, "kernel", _arguments(conv), transposed=transposed, depthwise=depthwise)


def _depthwise_part(layer: Any) -> Reading:
    return _reading(layer, "depthwise_kernel", _arguments(layer) | {"use_bias": False}, depthwise=True)


def _pointwise_part(layer: Any) -> Reading:
    ones = {"kernel_size": (1,) * len(layer.kernel_size)}
    return _reading(layer, "pointwise_kernel", ones | {"filters": layer.filters, "use_bias": layer.use_bias})


def _arguments(layer: Any) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in _ATTRIBUTES if hasattr(layer, name)}


def _reading(
    layer: Any, name: str, arguments: dict[str, Any], *, transposed: bool = False, depthwise: bool = False
) -> Reading:
    """Return the convolution of a layer that has the kernel of this name and these constructor arguments."""
    _check_built(layer)
    kernel = _array(getattr(layer, name))
    channels = kernel.shape[-1] if transposed else kernel.shape[-2] * (1 if depthwise else arguments.get("groups", 1))
    spec = spec_of(arguments, kernel.ndim - 2, channels, transposed=transposed, depthwise=depthwise)
    canonical = np.array(weights.canonical([kernel], depthwise=depthwise), order="C")
    params = ConvParams(canonical, _array(layer.bias) if arguments["use_bias"] else None)
    return Reading(spec, params, _LAYOUTS[layer.data_format], _dtype(getattr(layer, name)))


def _check_built(layer: Any) -> None:
    if not layer.built:
        raise UnsupportedError(f"{type(layer).__name__} {layer.name!r} has no weights yet: call it once on an input")


def _array(values: Any) -> Array:
    """A copy on the host, bfloat16 as float32."""
    found: Array = np.asarray(ops.convert_to_numpy(values), order="C")
    return found if found.dtype.kind in "fiubc" else found.astype(np.float32)


def _tensor(x: Array, model: Any) -> Any:
    return ops.convert_to_tensor(x, dtype=model.compute_dtype if x.dtype.kind == "f" else None)


def _dtype(values: Any) -> str:
    return known_dtype(keras.backend.standardize_dtype(getattr(values, "value", values).dtype))


# -- layers with something around the convolution ----------------------------------------------------------------------


def _runner(layer: Any) -> Callable[[Array, Answer], Array]:
    inner = [one for _, one in _walk(layer)]
    if any(isinstance(one, _SEPARABLE) for one in inner):
        name = type(layer).__name__
        raise UnsupportedError(f"{name} contains a SeparableConv, which is two layers: see convspec.convs")
    convolutions = [one for one in inner if isinstance(one, _CONVOLUTIONS)]
    for conv in convolutions:
        _check_built(conv)
        if not _is_plain(conv):
            raise UnsupportedError(f"{type(conv).__name__} {conv.name!r} computes in its own way, not as Keras's does")

    def run(x: Array, answer: Answer) -> Array:
        with refuse_shape(x.shape), _answering(convolutions, answer):
            y = layer(ops.convert_to_tensor(x, dtype=layer.compute_dtype))
        if not ops.is_tensor(y):
            raise UnsupportedError(f"the layer returns {type(y).__name__}, not one tensor")
        return _array(y)

    return run


@contextmanager
def _answering(convolutions: list[Any], answer: Answer) -> Iterator[None]:
    """Let convolutions return ``answer(reading, input)``: an instance's ``call`` overrides its class's."""

    def answers(conv: Any) -> Callable[..., Any]:
        reading = _alone(conv)
        return lambda x: ops.convert_to_tensor(answer(reading, _array(x)), dtype=conv.compute_dtype)

    try:
        for conv in convolutions:
            object.__setattr__(conv, "call", answers(conv))
        yield
    finally:
        for conv in convolutions:
            vars(conv).pop("call", None)

"""Keras layers: built from a plan's text, called, differentiated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from convspec.contract import Array, ConvParams, Gradients, Plan, check_layout, format_of, layouts
from convspec.errors import PlacementError, ShapeError, UnsupportedError
from convspec_keras import weights
from convspec_keras.backends import running

_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_FORMATS = {layouts.CHANNELS_FIRST: "channels_first", layouts.CHANNELS_LAST: "channels_last"}


def build(plan: Plan, params: ConvParams, device: str) -> Any:
    """The plan's layer with these weights, on ``device``."""
    with _on(device):
        layer = plan.execute()
        convs = _convolutions(layer)
        _check_defaults(convs[0], plan)
        own = getattr(layer, plan.bias) if plan.bias else None
        biases = [None] * len(convs) if own is not None or params.bias is None else np.split(params.bias, len(convs))
        depthwise = isinstance(convs[0], _DEPTHWISE)
        kernels = weights.native(params.kernel, plan.spec.in_channels, len(convs), depthwise=depthwise)
        channels = plan.spec.in_channels // len(convs)
        for conv, kernel, bias in zip(convs, kernels, biases, strict=True):
            _build_with(conv, kernel, bias, _open_shape(channels, plan.spec.ndim, conv.data_format))
        if own is not None:
            own.assign(params.bias)
        if plan.convs:
            layer.build(_open_shape(plan.spec.in_channels, plan.spec.ndim, _FORMATS[plan.layout]))
    _check_dtype(convs[0].kernel.value.dtype, plan.dtype)  # of the values: JAX may use another dtype than asked for
    return layer


def apply(layer: Any, x: Array, layout: str, device: str) -> Array:
    """The layer's output for ``x``; both in ``layout``, which is the layer's."""
    _check_input(layer, x, layout)
    with _on(device):
        given = ops.convert_to_tensor(x, dtype=layer.compute_dtype)
        _check_size(layer, given)
        y = layer(given)
    return _array(y, layer, device)


def gradients(layer: Any, x: Array, dy: Array, layout: str, device: str) -> Gradients:
    """Gradients of ⟨layer(x), dy⟩: the input's in ``layout``, the others in the canonical order."""
    _check_input(layer, x, layout)
    convs = _convolutions(layer)
    if reason := running().no_gradients(convs[0], layer.compute_dtype, x.shape, device.partition(":")[0]):
        raise UnsupportedError(reason)
    biased = [layer] if getattr(layer, "bias", None) is not None else [conv for conv in convs if conv.use_bias]
    variables = [*(conv.kernel for conv in convs), *(owner.bias for owner in biased)]
    with _on(device):
        given, weight = (ops.convert_to_tensor(a, dtype=layer.compute_dtype) for a in (x, dy))
        _check_size(layer, given)
        found = running().gradients(layer, given, weight, variables)
    of_x, *others = (_array(gradient, layer, device) for gradient in found)
    kernel = weights.canonical(others[: len(convs)], depthwise=isinstance(convs[0], _DEPTHWISE))
    return Gradients(of_x, kernel, np.concatenate(others[len(convs) :]) if biased else None)


def devices() -> tuple[str, ...]:
    """The devices that the backend has here."""
    return running().devices()


def configure(dtype: str, device: str, precision: str, threads: int | None) -> None:
    """Set the process up, and let the backend start: its first operation is when it looks for devices."""
    running().configure(dtype, device, precision, threads)
    with _on(device):
        ops.convert_to_numpy(ops.add(ops.ones((1,)), 1))


# -- weights -----------------------------------------------------------------------------------------------------------


def _convolutions(layer: Any) -> list[Any]:
    """The layer itself, or the convolutions in it."""
    if hasattr(layer, "kernel_size"):
        return [layer]
    if isinstance(layer, keras.Sequential):
        return [layer.get_layer("conv")]
    if hasattr(layer, "conv"):
        return [layer.conv]
    names = itertools.takewhile(lambda name: hasattr(layer, name), map("conv_{}".format, itertools.count()))
    return [getattr(layer, name) for name in names]


def _build_with(conv: Any, kernel: Array, bias: Array | None, shape: tuple[int | None, ...]) -> None:
    """Build a convolution whose weights start at these values; its own initialisers, random and slow, stay for later.

    On JAX every new shape of a random initialiser is compiled, which takes a second.
    """
    name = "depthwise_initializer" if isinstance(conv, _DEPTHWISE) else "kernel_initializer"
    own = {name: getattr(conv, name), "bias_initializer": conv.bias_initializer}
    setattr(conv, name, _constant(kernel))
    if bias is not None:
        conv.bias_initializer = _constant(bias)
    conv.build(shape)
    for attribute, initializer in own.items():
        setattr(conv, attribute, initializer)


def _constant(values: Array) -> Callable[..., Any]:
    return lambda _, dtype=None: ops.convert_to_tensor(np.array(values), dtype=dtype)


def _open_shape(channels: int, ndim: int, data_format: str) -> tuple[int | None, ...]:
    """The input's shape as Keras's ``build`` takes it: None for the sizes that do not matter."""
    free = (None,) * ndim
    return (None, channels, *free) if data_format == "channels_first" else (None, *free, channels)


# -- checks ------------------------------------------------------------------------------------------------------------


@contextmanager
def _on(device: str) -> Iterator[None]:
    if device not in (known := devices()):
        name = keras.config.backend()
        raise PlacementError(f"Keras on {name} has no device {device!r} here, only {', '.join(known)}")
    with keras.device("gpu:0" if device == "cuda" else "cpu:0"):
        yield


def _check_defaults(conv: Any, plan: Plan) -> None:
    """Refuse a keras.json with other defaults: the plan's text leaves out arguments with Keras's defaults."""
    moved = plan.layout == layouts.CHANNELS_FIRST and "ops.transpose" in plan.text
    wanted = "channels_last" if moved else _FORMATS[plan.layout]
    if conv.data_format != wanted:
        raise PlacementError(
            f"the layer has data_format={conv.data_format!r} where {wanted!r} was asked for: the default has been "
            f"changed; call keras.config.set_image_data_format('channels_last') first"
        )


def _check_dtype(found: Any, dtype: str) -> None:
    name = keras.backend.standardize_dtype(found)
    if name != dtype:
        remedy = "call jax.config.update('jax_enable_x64', True) before any JAX array is made"
        if dtype != "float64":
            remedy = f"check keras.config.floatx() and dtype_policy(), which are {keras.config.floatx()!r} and others"
        raise PlacementError(f"Keras made a layer of {name} where {dtype} was asked for: {remedy}")


def _check_input(layer: Any, x: Array, layout: str) -> None:
    """Before TensorFlow sees it: it ends the process where the number of axes is wrong."""
    convs = _convolutions(layer)
    ndim = len(convs[0].kernel_size)
    layout = layouts.family(layout, ndim)
    if layer is convs[0] and layer.data_format != _FORMATS[layout]:
        raise ShapeError(f"layout={layout!r}, but this layer has data_format={layer.data_format!r}")
    axes = [1 if conv.data_format == "channels_first" else -1 for conv in convs]
    check_layout(x, sum(conv.input_spec.axes[axis] for conv, axis in zip(convs, axes, strict=True)), layout, ndim)


def _check_size(layer: Any, x: Any) -> None:
    """Let Keras refuse an input that the kernel does not fit into, which it checks only when it builds a layer.

    Otherwise oneDNN answers with the memory that it found.
    """
    conv = _convolutions(layer)[0]
    spatial = x.shape[2:] if conv.data_format == "channels_first" else x.shape[1:-1]
    spans = [(k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation_rate, strict=True)]
    if not isinstance(conv, _TRANSPOSED) and any(n < span for n, span in zip(spatial, spans, strict=True)):
        layer.compute_output_spec(keras.KerasTensor(x.shape, x.dtype))


def _array(tensor: Any, layer: Any, device: str) -> Array:
    """A result as NumPy's, after a check of where it was made and in which dtype."""
    _check_dtype(tensor.dtype, layer.compute_dtype)
    if (found := running().device_of(tensor)) != device:
        raise PlacementError(f"Keras ran on {found} where {device} was asked for")
    values: Array = ops.convert_to_numpy(ops.cast(tensor, format_of(layer.compute_dtype).carrier))
    return values

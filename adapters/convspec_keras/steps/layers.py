"""Layers of Keras that are steps by themselves; others are seen through to the operations that they call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from convspec.contract import Reading, layouts
from convspec.contract.network_words import Tensor, repeated
from convspec.contract.tracing import Link, NoWord, einsum_product
from convspec.spec import steps
from convspec_keras import read
from convspec_keras.network.functions import FUNCTIONS
from convspec_keras.network.layers import LAYERS
from convspec_keras.steps.operations import interpolation, resize
from convspec_keras.steps.tensors import Builder, Call, Learnt, Traced, axes_of, traced_in

_OPAQUE = (layers.RNN, layers.Bidirectional, layers.TimeDistributed, layers.MultiHeadAttention, layers.Attention,
           layers.GroupQueryAttention, layers.AdditiveAttention)  # fmt: skip


def is_opaque(layer: Any) -> bool:
    """Return whether a layer is one step without a word: recurrent layers, attention, and those with few bits."""
    return isinstance(layer, _OPAQUE) or getattr(layer, "quantization_mode", None) is not None


def macs_of(call: Call) -> int | None:
    """Return the cost of a layer or operation without a step, where Keras' vocabulary says it."""
    given = [Tensor(0, tuple(t.shape)) for t in keras.tree.flatten((call.args, call.kwargs)) if hasattr(t, "shape")]
    if hasattr(call.op, "subscripts"):
        return FUNCTIONS["einsum"].macs([call.op.subscripts, *given], {}, given)
    word = LAYERS.get(type(call.op).__name__)
    if word is None or not isinstance(call.op, layers.Layer):
        return None
    return word.macs((), {k: v for k, v in call.op.get_config().items() if k in word.names}, given)


def builder_of(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Builder | None:
    """Return the builder of a layer that computes as Keras's class does, without a mask; None of all others."""
    kind: Any = next((kind for kind in type(layer).__mro__ if kind in TABLE), None)
    convolution = isinstance(layer, (*read._CONVOLUTIONS, *read._SEPARABLE))
    if kind is None or not (read._is_plain(layer) if convolution else type(layer).call is kind.call):
        return None
    return builder_of_kind(kind, layer, args, kwargs)


def builder_of_kind(kind: Any, layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Builder | None:
    """Return the builder of what a class of Keras does with a layer; None where it takes a mask."""
    tensors = traced_in((args, kwargs))
    masked = kwargs.get("mask") is not None or any(getattr(t, "_keras_mask", None) is not None for t in tensors)
    merged = kind in _MERGES and layer._reshape_required
    return None if merged or (masked and kind in _MASKED) else TABLE[kind]


# -- layers with weights -----------------------------------------------------------------------------------------------


def _convolution(call: Call) -> Link:
    reading, layer = read._plain(call.op), call.op
    return call.link(reading.spec, _arrays(call, reading, layer.kernel, layer.bias), reading.layout)


def _arrays(call: Call, reading: Reading, kernel: Any, bias: Any) -> dict[str, Learnt]:
    """Return the arrays of a convolution that was read, with their sources."""
    found = {"kernel": Learnt(reading.params.kernel, call.sources(kernel))}
    return found if reading.params.bias is None else found | {"bias": Learnt(reading.params.bias, call.sources(bias))}


def _separable(call: Call) -> Iterator[Link]:
    layer = call.op
    if layer.padding == "causal":
        raise NoWord("with causal padding")
    one, two = read._depthwise_part(layer), read._pointwise_part(layer)
    settings = {name: getattr(layer, name) for name in ("strides", "padding", "dilation_rate", "data_format")}
    middle = Traced(ops.depthwise_conv(call.x.value, layer.depthwise_kernel, **settings))
    arrays = _arrays(call, one, layer.depthwise_kernel, None), _arrays(call, two, layer.pointwise_kernel, layer.bias)
    yield Link(one.spec, (call.x,), (middle,), arrays[0], one.layout)
    yield Link(two.spec, (middle,), call.results, arrays[1], two.layout)


def _dense(call: Call) -> Link:
    own = call.weights(weight=call.op.kernel, bias=call.op.bias)
    return call.linear(own["weight"].map(np.transpose), own.get("bias"))


def _einsum_dense(call: Call) -> Link:
    """Return the link of a matrix product along one axis; the bias must be one number per feature."""
    own, ndim = call.weights(weight=call.op.kernel, bias=call.op.bias), len(call.x.shape)
    equation = call.op.equation.replace(" ", "")
    free = "ABCDEFGHIJ"[: ndim - len(equation.partition(",")[0].replace("...", ""))]
    found, bias = einsum_product(equation.replace("...", free), (False, True)), own.get("bias")
    if found is None:
        raise NoWord(equation)
    _, axis, transposed = found
    if bias is not None:
        sizes = [(-i, n) for i, n in enumerate(bias.values.shape[::-1], 1) if n != 1]
        if any(i % ndim != axis for i, _ in sizes):
            raise NoWord("its bias is along another axis")
        bias = bias.map(lambda b: np.broadcast_to(b.reshape(-1), call.y.shape[axis]))
    return call.linear(own["weight"].map(np.transpose if transposed else np.asarray), bias, axis)


def _norm(call: Call) -> tuple[dict[str, Learnt], dict[str, Any]]:
    """Return the learnt arrays of a norm, and the fields that say which it has."""
    gamma, beta = getattr(call.op, "gamma", None), getattr(call.op, "beta", None)
    own = call.weights(scale=gamma, bias=beta)
    return own, {"epsilon": call.op.epsilon, "scale": "scale" in own, "bias": "bias" in own}


def _batch_norm(call: Call) -> Link:
    layer, (own, words) = call.op, _norm(call)
    training = bool(call.kwargs.get("training")) and layer.trainable
    if training and layer.renorm:
        raise NoWord("by the statistics of earlier batches, too")
    stored = {} if training else call.weights(mean=layer.moving_mean, variance=layer.moving_variance)
    step = steps.BatchNorm(call.x.shape[layer.axis], axis=layer.axis, batch_statistics=training,
                           fast_variance=keras.backend.backend() == "torch", **words)  # fmt: skip
    return call.link(step, own | stored)


def _layer_norm(call: Call) -> Link:
    if call.op.rms_scaling:
        raise NoWord("scaled by its root mean square")
    (own, words), axes = _norm(call), axes_of(call.op.axis)
    return call.link(steps.LayerNorm([call.x.shape[axis] for axis in axes], axes, **words), own)


def _rms_norm(call: Call) -> Link:
    own, axes = call.weights(scale=call.op.scale), axes_of(call.op.axis)
    return call.link(steps.RMSNorm([call.x.shape[axis] for axis in axes], axes, epsilon=call.op.epsilon), own)


def _group_norm(call: Call) -> Link:
    layer, (own, words) = call.op, _norm(call)
    channels = call.x.shape[layer.axis]
    words |= {"axis": layer.axis, "fast_variance": keras.backend.backend() == "torch"}
    if layer.groups == channels:
        return call.link(steps.InstanceNorm(channels, **words), own)
    return call.link(steps.GroupNorm(channels, groups=layer.groups, **words), own)


def _prelu(call: Call) -> Link:
    slope = call.learn(call.op.alpha)
    step = steps.PReLU(slope.values.shape)
    return call.link(step, {"slope": slope.map(lambda a: a.reshape(step.shape))})


def _embedding(call: Call) -> Link:
    weight = call.learn(call.op.embeddings)
    return call.link(steps.Embedding(*weight.values.shape), {"weight": weight})


# -- layers without ----------------------------------------------------------------------------------------------------


def _global(reduction: str) -> Builder:
    return lambda call: call.link(steps.GlobalPool(reduction, keepdims=call.op.keepdims), layout=call.layout)


def _flatten(call: Call) -> Link:
    spatial = len(call.x.shape) > 2
    return call.link(steps.Flatten(order="NHWC") if spatial else steps.Flatten(), layout=call.layout if spatial else "")


def _crop(call: Call) -> Link:
    crops = call.op.cropping if isinstance(call.op.cropping[0], tuple | list) else (call.op.cropping,)
    channels = [] if getattr(call.op, "data_format", "") == "channels_first" else [(0, 0)]
    return call.link(steps.Pad([*((-lo, -hi) for lo, hi in crops), *channels]))


def _upsampling(call: Call) -> Link:
    scale = repeated(call.op.size, len(call.x.shape) - 2)
    layout = call.layout if hasattr(call.op, "data_format") else layouts.CHANNELS_LAST
    return call.link(interpolation(getattr(call.op, "interpolation", "nearest"), scale=scale), layout=layout)


def _dropout(unit: str) -> Builder:
    def build(call: Call) -> Link:
        step = steps.Dropout(call.op.rate, unit, bool(call.kwargs.get("training")))
        return call.link(step, layout=call.layout if unit == "channel" else "")

    return build


def _rescaling(call: Call) -> Iterator[Link]:
    scale, offset = call.op.scale, call.op.offset
    if not all(isinstance(n, int | float) for n in (scale, offset)):
        raise NoWord("by several numbers")
    product = Traced(ops.cast(call.x.value, call.op.compute_dtype) * scale) if offset else call.y
    yield Link(steps.Multiply(float(scale)), (call.x,), (product,))
    if offset:
        yield Link(steps.Add(float(offset)), (product,), call.results)


def _normalization(call: Call) -> Iterator[Link]:
    if call.op.invert:
        raise NoWord("inverted")
    learnt = [getattr(call.op, f"adapt_{name}", None) for name in ("mean", "variance")]
    values = call.op.mean, ops.maximum(ops.sqrt(call.op.variance), keras.backend.epsilon())
    mean, deviation = (Learnt(read._array(v), () if w is None else call.sources(w))
                       for v, w in zip(values, learnt, strict=True))  # fmt: skip
    centred = Traced(ops.subtract(call.x.value, call.op.mean))
    yield Link(steps.Subtract(), (call.x, mean), (centred,))
    yield Link(steps.Divide(), (centred, deviation), call.results)


def _merge(kind: Any) -> Builder:
    return lambda call: Link(kind(), call.args[0], call.results)


def _dimensions(name: str, build: Builder) -> dict[Any, Builder]:
    """Return the rows of a layer for all numbers of spatial axes."""
    return {getattr(layers, f"{name}{n}D"): build for n in (1, 2, 3)}


_MERGES = (layers.Add, layers.Multiply, layers.Maximum, layers.Minimum)
_MASKED = (*_MERGES, layers.GlobalAveragePooling1D, layers.BatchNormalization)
TABLE: dict[Any, Builder] = {
    **dict.fromkeys(read._CONVOLUTIONS, _convolution),
    **dict.fromkeys(read._SEPARABLE, _separable),
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    layers.BatchNormalization: _batch_norm,
    layers.LayerNormalization: _layer_norm,
    layers.RMSNormalization: _rms_norm,
    layers.GroupNormalization: _group_norm,
    layers.PReLU: _prelu,
    layers.Embedding: _embedding,
    **_dimensions("GlobalAveragePooling", _global("average")),
    **_dimensions("GlobalMaxPooling", _global("max")),
    layers.Flatten: _flatten,
    **_dimensions("Cropping", _crop),
    **_dimensions("UpSampling", _upsampling),
    layers.Resizing: resize,
    layers.Dropout: _dropout("element"),
    **_dimensions("SpatialDropout", _dropout("channel")),
    layers.AlphaDropout: _dropout("alpha"),
    layers.Rescaling: _rescaling,
    layers.Normalization: _normalization,
    **{kind: _merge(getattr(steps, kind.__name__)) for kind in _MERGES},
}

INHERITED = (layers.BatchNormalization, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D,
             layers.SpatialDropout3D, layers.AlphaDropout)  # fmt: skip
"""Layers whose subclasses call ``super().call`` with a ``training`` of their own."""

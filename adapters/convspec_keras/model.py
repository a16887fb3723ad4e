"""Keras models: their layers with weights, the inputs and outputs of these in a run, and new weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from convspec.contract import Array, Call, FoundConv, ModelTrace, Part, refuse_inputs
from convspec.errors import ConvspecError, UnsupportedError
from convspec_keras import read, weights
from convspec_keras.graph import SavedModel
from convspec_keras.steps import trace_steps

__all__ = ["input_shapes", "parameters", "parts", "save", "trace_model", "trace_steps", "write"]

_NORMS = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.GroupNormalization,
          keras.layers.RMSNormalization)  # fmt: skip
_NAMES = {"gain": "gamma", "shift": "beta", "mean": "moving_mean", "variance": "moving_variance"}


def parts(model: Any) -> list[Part]:
    """All convolutions, norms and dense layers, in the order of the model's layers; a SeparableConv is two."""
    if isinstance(model, SavedModel):
        from convspec_keras import sites

        return sites.parts(model)
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedError(f"{type(model).__name__} is not a layer of Keras")
    return [part for path, layer in read._walk(model) for part in _parts(path, layer)]


def _parts(path: str, layer: Any) -> Iterator[Part]:
    name = type(layer).__name__
    for found in read._found(path, layer):
        yield Part(found.path, "conv", name, found.reading, _parameters(found, layer), problem=found.problem)
    if isinstance(layer, _NORMS) and layer.built:
        arrays = {ours: read._array(getattr(layer, theirs)) for ours, theirs in _names(layer).items()
                  if getattr(layer, theirs, None) is not None}  # fmt: skip
        yield Part(path, "norm", name, arrays=arrays, **_norm(layer))
    if isinstance(layer, keras.layers.Dense) and layer.built:
        arrays = {"kernel": np.ascontiguousarray(read._array(layer.kernel).T)}
        if layer.use_bias:
            arrays["bias"] = read._array(layer.bias)
        yield Part(path, "linear", name, arrays=arrays)


def _parameters(found: FoundConv, layer: Any) -> dict[str, Array]:
    """Return the parameters of a convolution that computes in its own way."""
    if found.reading is not None or isinstance(layer, read._SEPARABLE) or not layer.built:
        return {}
    try:
        params = read._plain(layer).params
    except ConvspecError:
        return {}
    return {"kernel": params.kernel} | ({} if params.bias is None else {"bias": params.bias})


def _names(layer: Any) -> dict[str, str]:
    return {"gain": "scale"} if isinstance(layer, keras.layers.RMSNormalization) else _NAMES


def _norm(layer: Any) -> dict[str, Any]:
    """The settings of a norm, as a part has them; a subclass with a ``call`` of its own has no known form."""
    axes = tuple(layer.axis) if isinstance(layer.axis, list | tuple) else (layer.axis,)
    axes = tuple(int(axis) if axis < 0 or axis == 1 else int(axis) - _rank(layer, max(axes)) for axis in axes)
    own = {"epsilon": float(layer.epsilon), "axis": axes[-1]}
    base = next(kind for kind in _NORMS if isinstance(layer, kind))
    if type(layer).call is not base.call:
        return own
    if isinstance(layer, keras.layers.BatchNormalization):
        return own | {"norm": "batch"}
    if isinstance(layer, keras.layers.GroupNormalization):
        fast = keras.backend.backend() == "torch"
        return own | {"norm": "group", "groups": int(layer.groups), "fast_variance": fast}
    return own | {"norm": "layer" if isinstance(layer, keras.layers.LayerNormalization) else "rms", "axes": axes}


def _rank(layer: Any, axis: int) -> int:
    """The number of axes of a built layer's input."""
    specs = keras.tree.flatten(layer.input_spec)
    return next((spec.ndim for spec in specs if spec is not None and spec.ndim), int(axis) + 1)


def parameters(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all trainable weights, by the path of their layer and a part's name for them."""
    if isinstance(model, SavedModel):
        return {}
    found: dict[str, tuple[int, ...]] = {}
    for path, layer in read._walk(model):
        ours = {theirs: one for one, theirs in _names(layer).items()} if isinstance(layer, _NORMS) else {}
        for weight in layer._trainable_variables:
            name = ours.get(weight.name, weight.name)
            part, _, own = name.rpartition("_")
            separate = part in ("depthwise", "pointwise")
            found[f"{path}/{part}/{own}" if separate else f"{path}/{name}"] = tuple(weight.shape)
    return found


def _layers(model: Any) -> dict[str, Any]:
    """The layers that can be watched, by path."""
    kinds = (*read._CONVOLUTIONS, *read._SEPARABLE, *_NORMS, keras.layers.Dense)
    return {path: layer for path, layer in read._walk(model) if isinstance(layer, kinds) and layer.built}


def input_shapes(model: Any) -> list[list[int | None]] | None:
    """The declared shapes of the model's inputs; None where a subclass declares none."""
    inputs = getattr(model, "inputs", None)
    return [list(tensor.shape) for tensor in inputs] if inputs else None


def trace_model(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run the model once in inference; a layer's output is noted before its activation."""
    if isinstance(model, SavedModel):
        from convspec_keras import sites

        return sites.trace_model(model, inputs)
    calls: list[Call] = []
    with refuse_inputs("Keras model"), _watched(_layers(model), calls):
        if isinstance(inputs, Mapping):
            y = model({name: read._tensor(x, model) for name, x in inputs.items()}, training=False)
        else:
            given = [read._tensor(x, model) for x in inputs]
            y = model(given[0] if len(given) == 1 else given, training=False)
    return ModelTrace(calls, [read._array(t) for t in keras.tree.flatten(y)])


@contextmanager
def _watched(layers: Mapping[str, Any], calls: list[Call]) -> Iterator[None]:
    """Note the calls: an instance's ``call`` and ``activation`` go before its class's."""
    kept = {path: vars(layer)["activation"] for path, layer in layers.items() if "activation" in vars(layer)}
    try:
        for path, layer in layers.items():
            before: list[Any] = []
            object.__setattr__(layer, "call", _listening(path, layer, calls, before))
            if kept.get(path) is not None:
                object.__setattr__(layer, "activation", _noting(kept[path], before))
        yield
    finally:
        for path, layer in layers.items():
            vars(layer).pop("call", None)
            if path in kept:
                object.__setattr__(layer, "activation", kept[path])


def _noting(activation: Callable[[Any], Any], before: list[Any]) -> Callable[[Any], Any]:
    def note(y: Any) -> Any:
        before.append(y)
        return activation(y)

    return note


def _listening(path: str, layer: Any, calls: list[Call], before: list[Any]) -> Callable[..., Any]:
    call, between = layer.call, _between(layer)

    def listen(x: Any, *args: Any, **kwargs: Any) -> Any:
        before.clear()
        y = call(x, *args, **kwargs)
        written = read._array(before[0] if before else y)
        if between is None:
            calls.append(Call(path, read._array(x), written))
        else:
            middle = read._array(between(x))
            calls.append(Call(f"{path}/depthwise", read._array(x), middle))
            calls.append(Call(f"{path}/pointwise", middle, written))
        return y

    return listen


def _between(layer: Any) -> Callable[[Any], Any] | None:
    """What a SeparableConv's first part makes of an input, by the backend's own operation; None of other layers."""
    if not isinstance(layer, read._SEPARABLE):
        return None
    settings = {name: getattr(layer, name) for name in ("strides", "padding", "dilation_rate", "data_format")}
    return lambda x: ops.depthwise_conv(x, layer.depthwise_kernel, **settings)


def write(model: Any, arrays: Mapping[str, Mapping[str, Array]]) -> Any:
    """Assign the arrays to the model's own variables; returns the model."""
    if isinstance(model, SavedModel):
        raise UnsupportedError("a SavedModel's graph is not written: port to a Keras model, and export that")
    layers = dict(read._walk(model))
    for path, own in arrays.items():
        layer, role = layers.get(path), ""
        if layer is None:
            parent, _, role = path.rpartition("/")
            layer = layers.get(parent)
        for name, values in own.items():
            if isinstance(layer, _NORMS):
                getattr(layer, _names(layer)[name]).assign(values)
            elif layer is not None and name == "bias" and hasattr(layer, "bias"):
                layer.bias.assign(values)
            elif name not in ("kernel", "depthwise_kernel", "pointwise_kernel"):
                variable = next((v for v in getattr(layer, "variables", ()) if v.name == name), None)
                if variable is None:
                    raise UnsupportedError(f"{path} has no variable {name}")
                variable.assign(values)
            else:
                getattr(layer, f"{role}_kernel" if role else "kernel").assign(_kernel(layer, values, role))
    return model


def _kernel(layer: Any, kernel: Array, role: str) -> Array:
    if isinstance(layer, keras.layers.Dense):
        return kernel.T
    depthwise = isinstance(layer, read._DEPTHWISE) or role == "depthwise"
    channels = kernel.shape[0] // layer.depth_multiplier if depthwise else 0
    return weights.native(kernel, channels, 1, depthwise=depthwise)[0]


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """The model's weights, as Keras keeps them; the path must end in ``.weights.h5``."""
    model.save_weights(path)

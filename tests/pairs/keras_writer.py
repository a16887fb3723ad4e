"""Keras models: functional, Sequential and subclassed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tests.pairs import channels_last as last
from tests.pairs.network import INPUT, Net, Op, Shape, Weights


class Scale(L.Layer):
    """A layer scale."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")

    def call(self, x):
        return x * self.gamma


class Function(L.Layer):
    """A step without weights, where a layer is needed."""

    def __init__(self, op: Op, **options: Any) -> None:
        super().__init__(**options)
        self.op = op

    def call(self, x):
        return last.call(ops, self.op, x)


def same_pads(op: Op, sizes: Shape) -> bool:
    """Whether ``padding="same"`` gives the pads."""
    for n, k, pads in zip(sizes, op["kernel"], op["pads"], strict=True):
        s, d = op["stride"], op.get("dilation", 1)
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        if pads != (total // 2, total - total // 2):
            return False
    return True


def before(op: Op, shape: Shape) -> list[L.Layer]:
    """Return the pad before a layer, where its own padding does not do."""
    if op.kind not in ("conv", "max_pool", "avg_pool") or op.get("same") or not any(map(any, op["pads"])):
        return []
    if op.kind == "avg_pool" and not op.get("counted", True):
        return []
    if same_pads(op, shape[1:]) and op.kind != "avg_pool":
        return []
    if op.kind == "max_pool":
        return [MinusPad(op["pads"], name=f"{op.name}_pad")]
    return [L.ZeroPadding2D(op["pads"], name=f"{op.name}_pad")]


class MinusPad(L.Layer):
    """A pad of -inf, which a max pool never takes."""

    def __init__(self, pads, **options: Any) -> None:
        super().__init__(**options)
        self.pads = pads

    def call(self, x):
        return ops.pad(x, ((0, 0), *self.pads, (0, 0)), constant_values=-np.inf)


def after(op: Op, shape: Shape) -> list[L.Layer]:
    """Return the crop after a transposed convolution."""
    if op.kind != "deconv":
        return []
    crops = tuple((lo, hi - op["output_padding"]) for lo, hi in op["pads"])
    extra = max(0, -min(hi for _, hi in crops))
    crops = tuple((lo, hi + extra) for lo, hi in crops)
    return [L.Cropping2D(crops, name=f"{op.name}_crop")] if any(map(any, crops)) else []


def layer(op: Op, shape: Shape) -> L.Layer | None:
    """Return the layer of an operation."""
    c, name = shape[0], op.name
    padded = "valid" if op.kind in ("conv", "max_pool", "avg_pool") and before(op, shape) else "same"
    match op.kind:
        case "conv":
            padded = "valid" if not any(map(any, op["pads"])) and not op.get("same") else padded
            own = {
                "strides": op["stride"],
                "padding": padded,
                "dilation_rate": op["dilation"],
                "use_bias": op["bias"],
                "name": name,
            }
            if op["groups"] == c > 1:
                return L.DepthwiseConv2D(op["kernel"], depth_multiplier=op["out"] // c, **own)
            return L.Conv2D(op["out"], op["kernel"], groups=op["groups"], **own)
        case "deconv":
            op_ = op["output_padding"]
            hi = min(hi for _, hi in op["pads"])
            extra = max(op_ - hi, 0)
            return L.Conv2DTranspose(op["out"], op["kernel"], op["stride"], use_bias=op["bias"], name=name,
                                     output_padding=extra or None)  # fmt: skip
        case "linear":
            return L.Dense(op["out"], name=name)
        case "batch_norm":
            return (ActiveNorm if op.get("training") else L.BatchNormalization)(epsilon=op["epsilon"], name=name)
        case "group_norm":
            return L.GroupNormalization(op["groups"], epsilon=op["epsilon"], name=name)
        case "instance_norm":
            return L.GroupNormalization(-1, epsilon=op["epsilon"], scale=op["affine"], center=op["affine"], name=name)
        case "layer_norm":
            return L.LayerNormalization(epsilon=op["epsilon"], name=name, axis=op.get("axis", -1))
        case "act":
            if op["function"] == "leaky_relu":
                return L.LeakyReLU(op["slope"], name=name)
            if op["function"] == "gelu_tanh":
                return L.Activation(Gelu.tanh, name=name)
            return L.ReLU(name=name) if op["function"] == "relu" else L.Activation(op["function"], name=name)
        case "prelu":
            return L.PReLU(shared_axes=[1, 2, 3] if op["shared"] else [1, 2], name=name)
        case "scale":
            return Scale(name=name)
        case "max_pool" | "avg_pool":
            kind = L.MaxPooling2D if op.kind == "max_pool" else L.AveragePooling2D
            if not any(map(any, op["pads"])) and not op.get("same"):
                padded = "same" if op.get("ceil") else "valid"
            return kind(op["kernel"], op["stride"], padded, name=name)
        case "resize":
            return L.UpSampling2D(2, interpolation=op["mode"], name=name)
        case "softmax":
            return L.Softmax(name=name)
        case "dropout":
            return (ActiveDropout if op.get("training") else L.Dropout)(op["rate"], name=name)
        case "flatten":
            return L.Flatten(name=name)
        case "unflatten":
            c, h, w = op["shape"]
            return L.Reshape((h, w, c), name=name)
        case "global_pool":
            return (L.GlobalMaxPooling2D if op.get("max") else L.GlobalAveragePooling2D)(name=name)
        case "add":
            return L.Add(name=name)
        case "multiply":
            return L.Multiply(name=name)
        case "concat":
            return L.Concatenate(name=name)
        case "spread":
            return L.Reshape((1, 1, c), name=name)
    return None


class Gelu:
    """GELU in the form of tanh."""

    @staticmethod
    def tanh(x):
        return keras.activations.gelu(x, approximate=True)


class ActiveDropout(L.Dropout):
    """A dropout as for Monte Carlo estimates: always on."""

    def call(self, x, training=None):
        return super().call(x, training=True)


class ActiveNorm(L.BatchNormalization):
    """A batch norm that always takes the batch's statistics."""

    def call(self, x, training=None):
        return super().call(x, training=True)


class Layers:
    """All layers of a network, and their calls."""

    def __init__(self, net: Net) -> None:
        self.net, shapes = net, net.shapes()
        self.own: dict[str, list[L.Layer]] = {}
        for op in net.ops:
            shape = shapes[op.reads[0]]
            made = None if op.of else layer(op, shape)
            pads = before(op, shape)
            self.own[op.name] = [*pads, *([made] if made is not None else []), *after(op, shape)]

    def __call__(self, x: Any) -> Any:
        values = {INPUT: x}
        for op in self.net.ops:
            xs = [values[read] for read in op.reads]
            chain = self.own[op.name]
            if op.of:
                chain = [*chain, self[op.of]]
            if not chain:
                values[op.name] = last.call(ops, op, *xs)
                continue
            y = xs[0] if len(xs) == 1 else xs
            for each in chain:
                y = each(y)
            values[op.name] = y
        results = [values[name] for name in self.net.results]
        return results[0] if len(results) == 1 else results

    def __getitem__(self, name: str) -> L.Layer:
        return next(layer for layer in self.own[name] if layer.name == name)


class Subclassed(keras.Model):
    """The layers as attributes, and ``call``."""

    def __init__(self, made: Layers) -> None:
        super().__init__()
        self.run = made.__call__
        for chain in made.own.values():
            for each in chain:
                setattr(self, each.name, each)

    def call(self, x):
        return self.run(x)


def build(net: Net, weights: Weights, style: str = "functional") -> tuple[keras.Model, Layers]:
    """Return the model and its layers; ``style``: functional, sequential or subclassed."""
    keras.utils.clear_session(free_memory=False)
    made = Layers(net)
    shape = (*net.shape[1:], net.shape[0])
    if style == "functional":
        x = keras.Input(shape)
        model = keras.Model(x, made(x))
    elif style == "sequential":
        chain = [keras.Input(shape)]
        for op in net.ops:
            chain += made.own[op.name] or [Function(op, name=op.name)]
        model = keras.Sequential(chain)
    else:
        model = Subclassed(made)
        model(np.zeros((1, *shape), np.float32))
    load(net, made, weights)
    return model, made


def load(net: Net, made: Layers, weights: Weights) -> None:
    """Give the layers their weights, canonical in channels-last order of features."""
    for name, own in weights.items():
        target, op = made[name], net[name]
        arrays = dict(own)
        if "kernel" in arrays:
            kernel = arrays["kernel"]
            if isinstance(target, L.DepthwiseConv2D):
                c = net.shapes()[op.reads[0]][0]
                kernel = kernel.reshape(c, -1, *op["kernel"]).transpose(2, 3, 0, 1)
            elif kernel.ndim == 2:
                kernel = kernel.T
            elif op.kind == "deconv":
                kernel = kernel.transpose(2, 3, 0, 1)
            else:
                kernel = kernel.transpose(2, 3, 1, 0)
            arrays["kernel"] = kernel
        values = [array.reshape(old.shape) for array, old in zip(arrays.values(), target.get_weights(), strict=True)]
        target.set_weights(values)


def run(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    """Return the results, channels first, of an input that is channels first."""
    found = model(np.moveaxis(x, 1, -1), training=False)
    arrays = [np.asarray(y) for y in (found if isinstance(found, (list, tuple)) else [found])]
    return [np.moveaxis(y, -1, 1) for y in arrays]

"""Models of Flax nnx, linen and Equinox: what they share, and each one's modules."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from tests.pairs import channels_last as last
from tests.pairs.network import INPUT, LAYERS, Net, Op, Shape, Weights

FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "relu": jax.nn.relu, "relu6": jax.nn.relu6, "silu": jax.nn.silu, "tanh": jnp.tanh, "elu": jax.nn.elu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False), "gelu_tanh": jax.nn.gelu, "hard_swish": jax.nn.hard_swish,
    "sigmoid": jax.nn.sigmoid, "hard_sigmoid": jax.nn.hard_sigmoid,
}  # fmt: skip
OWN = (*LAYERS, "prelu", "scale", "dropout")


def run_ops(net: Net, x: Any, module: Callable[[Op, Any], Any], free: Callable[..., Any]) -> Any:
    """Return the results; ``module`` calls what has weights, ``free`` the other operations."""
    values = {INPUT: x}
    for op in net.ops:
        xs = [values[read] for read in op.reads]
        values[op.name] = module(op, xs[0]) if op.kind in OWN else free(op, *xs)
    results = [values[name] for name in net.results]
    return results[0] if len(results) == 1 else tuple(results)


def activation(op: Op, x: Any) -> Any:
    """Return an activation."""
    return jax.nn.leaky_relu(x, op["slope"]) if op["function"] == "leaky_relu" else FUNCTIONS[op["function"]](x)


def free_last(op: Op, *xs: Any) -> Any:
    """Return an operation without weights of a channels-last model of Flax."""
    x = xs[0]
    if op.kind == "act":
        return activation(op, x)
    if op.kind == "softmax":
        return jax.nn.softmax(x, axis=-1)
    if op.kind == "resize":
        n, h, w, c = x.shape
        return jax.image.resize(x, (n, 2 * h, 2 * w, c), op["mode"])
    if op.kind in ("max_pool", "avg_pool"):
        pads: Any = "SAME" if op.get("same") or op.get("ceil") else op["pads"]
        own = {"window_shape": op["kernel"], "strides": (op["stride"],) * 2, "padding": pads}
        if op.kind == "max_pool":
            return linen.max_pool(x, **own)
        return linen.avg_pool(x, **own, count_include_pad=op.get("counted", True))
    return last.call(jnp, op, *xs)


def conv_settings(op: Op) -> dict[str, Any]:
    """Return the arguments of a convolution of Flax."""
    padding = "SAME" if op.get("same") else op["pads"]
    return {
        "kernel_size": op["kernel"], "strides": (op["stride"],) * 2, "padding": padding, "use_bias": op["bias"],
        "kernel_dilation": (op["dilation"],) * 2, "feature_group_count": op["groups"],
    }  # fmt: skip


def deconv_pads(op: Op) -> list[tuple[int, int]]:
    """Return the pads of a transposed convolution of JAX: of the dilated input."""
    return [
        (k - 1 - lo, k - 1 - hi + op["output_padding"]) for k, (lo, hi) in zip(op["kernel"], op["pads"], strict=True)
    ]


def norm_settings(op: Op, c: int) -> dict[str, Any]:
    """Return the arguments of a norm of Flax."""
    own: dict[str, Any] = {"epsilon": op["epsilon"]}
    if op.kind == "group_norm":
        own["num_groups"] = op["groups"]
    if op.kind == "instance_norm":
        own |= {"num_groups": None, "group_size": 1, "use_scale": op["affine"], "use_bias": op["affine"]}
    if op.kind == "batch_norm":
        own["use_running_average"] = not op.get("training", False)
    return own


NORMS = {"batch_norm": "BatchNorm", "group_norm": "GroupNorm", "instance_norm": "GroupNorm", "layer_norm": "LayerNorm"}


def kernel_last(op: Op, kernel: np.ndarray) -> np.ndarray:
    """Return a kernel in Flax' order."""
    if kernel.ndim == 2:
        return kernel.T
    kernel = kernel.transpose(2, 3, 1, 0)
    return kernel[::-1, ::-1] if op.kind == "deconv" else kernel


# -- nnx ---------------------------------------------------------------------------------------------------------------


class Scale(nnx.Module):
    """A layer scale of nnx."""

    def __init__(self, channels: int) -> None:
        self.gamma = nnx.Param(jnp.ones(channels))

    def __call__(self, x):
        return x * self.gamma


class ChannelPReLU(nnx.Module):
    """A PReLU with a slope per channel, which nnx has not."""

    def __init__(self, channels: int) -> None:
        self.slope = nnx.Param(jnp.ones(channels))

    def __call__(self, x):
        return jnp.where(x >= 0, x, self.slope * x)


class Network(nnx.Module):
    """The modules of a network as attributes."""

    def __init__(self, net: Net) -> None:
        self.net = nnx.static(net) if hasattr(nnx, "static") else net
        shapes, rngs = net.shapes(), nnx.Rngs(0)
        for op in net.ops:
            if op.kind in OWN and not op.of:
                setattr(self, op.name, _nnx_module(op, shapes[op.reads[0]], rngs))

    def __call__(self, x):
        return run_ops(self.net, x, lambda op, x: getattr(self, op.of or op.name)(x), free_last)


def _nnx_module(op: Op, reads: Shape, rngs: nnx.Rngs) -> nnx.Module:
    c = reads[0]
    match op.kind:
        case "conv":
            return nnx.Conv(c, op["out"], **conv_settings(op), rngs=rngs)
        case "deconv":
            return nnx.ConvTranspose(c, op["out"], op["kernel"], op["stride"], padding=deconv_pads(op), rngs=rngs)
        case "linear":
            return nnx.Linear(c, op["out"], rngs=rngs)
        case "prelu":
            return nnx.PReLU() if op["shared"] else ChannelPReLU(c)
        case "scale":
            return Scale(c)
        case "dropout":
            return nnx.Dropout(op["rate"], deterministic=not op.get("training"), rngs=rngs)
    return getattr(nnx, NORMS[op.kind])(c, **norm_settings(op, c), rngs=rngs)


NNX_NAMES = {"kernel": "kernel", "bias": "bias", "gain": "scale", "shift": "bias", "mean": "mean", "variance": "var",
             "slope": "slope", "gamma": "gamma"}  # fmt: skip


def build_nnx(net: Net, weights: Weights) -> nnx.Module:
    """Return the model of nnx in evaluation, unless a mistake leaves a module in training."""
    model = Network(net)
    for name, own in weights.items():
        module = getattr(model, name)
        for key, array in own.items():
            own_name = "negative_slope" if key == "slope" and isinstance(module, nnx.PReLU) else NNX_NAMES[key]
            variable = getattr(module, own_name)
            native = kernel_last(net[name], array) if key == "kernel" else array
            variable[...] = jnp.asarray(native.reshape(variable.shape))
    return model


def run_last(model: Any, x: np.ndarray) -> list[np.ndarray]:
    """Return the results of a channels-last model, channels first."""
    call = (lambda y: model[0].apply(model[1], y)) if isinstance(model, tuple) else model
    found = call(jnp.asarray(np.moveaxis(x, 1, -1)))
    return [np.moveaxis(np.asarray(y), -1, 1) for y in (found if isinstance(found, tuple) else (found,))]


# -- linen -------------------------------------------------------------------------------------------------------------


class LinenScale(linen.Module):
    """A layer scale of linen."""

    @linen.compact
    def __call__(self, x):
        return x * self.param("gamma", linen.initializers.ones, (x.shape[-1],))


class LinenPReLU(linen.Module):
    """A PReLU with a slope per channel."""

    @linen.compact
    def __call__(self, x):
        return jnp.where(x >= 0, x, self.param("slope", linen.initializers.ones, (x.shape[-1],)) * x)


class LinenNetwork(linen.Module):
    """The network as a compact module, layers made where they are called."""

    net: Net

    @linen.compact
    def __call__(self, x):
        made: dict[str, linen.Module] = {}

        def module(op: Op, x: Any) -> Any:
            if not op.of:
                made[op.name] = _linen_module(op)
            return made[op.of or op.name](x)

        return run_ops(self.net, x, module, free_last)


def _linen_module(op: Op) -> linen.Module:
    match op.kind:
        case "conv":
            return linen.Conv(op["out"], **conv_settings(op), name=op.name)
        case "deconv":
            return linen.ConvTranspose(
                op["out"], op["kernel"], (op["stride"],) * 2, padding=deconv_pads(op), name=op.name
            )
        case "linear":
            return linen.Dense(op["out"], name=op.name)
        case "prelu":
            return linen.PReLU(name=op.name) if op["shared"] else LinenPReLU(name=op.name)
        case "scale":
            return LinenScale(name=op.name)
        case "dropout":
            return linen.Dropout(op["rate"], deterministic=True, name=op.name)
    return getattr(linen, NORMS[op.kind])(**norm_settings(op, 0), name=op.name)


def build_linen(net: Net, weights: Weights) -> tuple[linen.Module, Any]:
    """Return the module of linen and its variables."""
    module = LinenNetwork(net)
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, own in weights.items():
        for key, array in own.items():
            op = net[name]
            group = "batch_stats" if key in ("mean", "variance") else "params"
            native = kernel_last(op, array) if key == "kernel" else array
            shared = key == "slope" and op["shared"]
            own_name = "negative_slope" if shared else NNX_NAMES[key]
            variables[group].setdefault(name, {})[own_name] = jnp.asarray(native.reshape(()) if shared else native)
    return module, {group: own for group, own in variables.items() if own}


# -- Equinox -----------------------------------------------------------------------------------------------------------


class Gain(eqx.Module):
    """A layer scale, or a slope per channel."""

    gamma: jax.Array
    slope: bool = eqx.field(static=True)

    def __call__(self, x):
        gamma = self.gamma.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(x >= 0, x, gamma * x) if self.slope else gamma * x


class Norm(eqx.Module):
    """A layer norm over channels."""

    norm: eqx.nn.LayerNorm

    def __call__(self, x):
        return jnp.moveaxis(jax.vmap(jax.vmap(self.norm))(jnp.moveaxis(x, 0, -1)), -1, 0)


class EquinoxNetwork(eqx.Module):
    """A network of one sample, channels first."""

    parts: dict[str, Any]
    net: Net = eqx.field(static=True)

    def __call__(self, x, state):
        def module(op: Op, x: Any) -> Any:
            nonlocal state
            part = self.parts[op.of or op.name]
            if isinstance(part, eqx.nn.BatchNorm):
                y, state = part(x, state)
                return y
            return part(x)

        return run_ops(self.net, x, module, _free_first), state


def _free_first(op: Op, *xs: Any) -> Any:
    x = xs[0]
    match op.kind:
        case "act":
            return activation(op, x)
        case "softmax":
            return jax.nn.softmax(x)
        case "resize":
            return jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2]), op["mode"])
        case "max_pool" | "avg_pool":
            kind = eqx.nn.MaxPool2d if op.kind == "max_pool" else eqx.nn.AvgPool2d
            pads: Any = op["pads"]
            return kind(op["kernel"], op["stride"], pads, use_ceil=op.get("ceil", False))(x)
        case "global_pool":
            return x.max((1, 2)) if op.get("max") else x.mean((1, 2))
        case "spread":
            return x[:, None, None]
        case "concat":
            return jnp.concatenate(xs)
        case "add":
            return xs[0] + xs[1]
        case "multiply":
            return xs[0] * xs[1]
        case "flatten":
            return x.reshape(-1)
        case "unflatten":
            return x.reshape(op["shape"])
        case "channel_shuffle":
            return x.reshape(op["groups"], -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)
        case "pixel_shuffle":
            c, h, w = x.shape
            split = (c // 4, 2, 2) if op["order"] == "CRD" else (2, 2, c // 4)
            blocks = x.reshape(*split, h, w)
            axes = (0, 3, 1, 4, 2) if op["order"] == "CRD" else (2, 3, 0, 4, 1)
            return blocks.transpose(axes).reshape(c // 4, 2 * h, 2 * w)
    raise ValueError(op.kind)


def _equinox_module(op: Op, reads: Shape) -> Any:
    c, key = reads[0], jax.random.key(0)
    match op.kind:
        case "conv":
            padding = "SAME" if op.get("same") else op["pads"]
            return eqx.nn.Conv2d(c, op["out"], op["kernel"], op["stride"], padding, op["dilation"], op["groups"],
                                 op["bias"], key=key)  # fmt: skip
        case "deconv":
            return eqx.nn.ConvTranspose2d(c, op["out"], op["kernel"], op["stride"], padding=op["pads"],
                                          output_padding=op["output_padding"], key=key)  # fmt: skip
        case "linear":
            return eqx.nn.Linear(c, op["out"], key=key)
        case "batch_norm":
            return eqx.nn.BatchNorm(c, "batch", mode="batch", eps=op["epsilon"])
        case "group_norm":
            return eqx.nn.GroupNorm(op["groups"], c, op["epsilon"])
        case "instance_norm":
            return eqx.nn.GroupNorm(c, c, op["epsilon"], channelwise_affine=op["affine"])
        case "layer_norm":
            return Norm(eqx.nn.LayerNorm(c, op["epsilon"]))
        case "prelu" | "scale":
            return Gain(jnp.ones(1 if op.get("shared") else c), op.kind == "prelu")
    return eqx.nn.Dropout(op["rate"], inference=True)


EQUINOX_NAMES = {"kernel": "weight", "gain": "weight", "shift": "bias", "slope": "gamma"}


def _leaf(model: EquinoxNetwork, *, name: str, key: str) -> Any:
    part = model.parts[name]
    return getattr(part.norm if isinstance(part, Norm) else part, key)


def build_equinox(net: Net, weights: Weights) -> Any:
    """Return the module in inference, and its state."""
    shapes = net.shapes()

    def make() -> EquinoxNetwork:
        return EquinoxNetwork(
            {op.name: _equinox_module(op, shapes[op.reads[0]]) for op in net.ops if op.kind in OWN and not op.of}, net
        )

    model, state = eqx.nn.make_with_state(make)()
    for name, own in weights.items():
        op = net[name]
        for key, array in own.items():
            if key in ("mean", "variance"):
                continue
            flipped = key == "kernel" and op.kind == "deconv"
            native = np.ascontiguousarray(array[..., ::-1, ::-1] if flipped else array)
            where = functools.partial(_leaf, name=name, key=EQUINOX_NAMES.get(key, key))
            model = eqx.tree_at(where, model, jnp.asarray(native).reshape(where(model).shape))
        if "mean" in own:
            index = model.parts[name].batch_state_index
            state = state.set(index, (jnp.asarray(own["mean"]), jnp.asarray(own["variance"])))
            counter = model.parts[name].batch_counter
            state = state.set(counter, state.get(counter) + 10_000)  # no correction for few batches is left
    return eqx.nn.inference_mode(model), state


def run_equinox(model: Any, x: np.ndarray) -> list[np.ndarray]:
    """Return the results of a batch; a model with state is a pair."""
    call = (lambda y: model[0](y, model[1])[0]) if isinstance(model, tuple) else model
    found = jax.vmap(call, axis_name="batch")(jnp.asarray(x))
    return [np.asarray(y) for y in (found if isinstance(found, tuple) else (found,))]

"""The words of Flax, nnx and linen: what each layer and function means. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias

from convspec_jax.network import LEFT_OUT, MODULES, SPECIAL, functions, methods, other

from convspec.contract import ConvSpec
from convspec.contract.matrix_products import projected_attention_macs
from convspec.contract.network_words import Arguments, Meanings, NotKnown, Placed, Vocabulary, Word
from convspec.errors import SpecError
from convspec.spec import steps
from convspec_flax.arguments import spec_of
from convspec_flax.printed import read_printed, read_table

Build: TypeAlias = Callable[[Arguments], Meanings]

_KINDS = "dtype=None, param_dtype=None, precision=None, kernel_init=None, bias_init=None, promote_dtype=None"
_NNX = "rngs=None, kernel_metadata=None, bias_metadata=None, preferred_element_type=None"
_LINEN = "parent=None, name=None"
_DILATED = "input_dilation=1, kernel_dilation=1, feature_group_count=1, use_bias=True, mask=None"
_CALLED = "conv_general_dilated=None, conv_general_dilated_cls=None, dot_general=None, dot_general_cls=None"
_LAYERS = {  # the arguments of nnx and linen after the channels
    "Conv": f"kernel_size, strides=1, padding='SAME', {_DILATED}, {_KINDS}, {_CALLED}",
    "ConvTranspose": "kernel_size, strides=None, padding='SAME', kernel_dilation=None, use_bias=True, mask=None, "
    f"{_KINDS}, transpose_kernel=False",
    "Linear": f"use_bias=True, {_KINDS}, {_CALLED}",
    "BatchNorm": "use_running_average=None, axis=-1, momentum=0.99, epsilon=1e-5, ",
    "LayerNorm": "epsilon=1e-6, ",
    "RMSNorm": "epsilon=1e-6, ",
    "InstanceNorm": "epsilon=1e-6, ",
    "GroupNorm": "num_groups=32, group_size=None, epsilon=1e-6, ",
}
_NORM = (
    "dtype=None, param_dtype=None, use_bias=True, use_scale=True, bias_init=None, scale_init=None, reduction_axes=-1, "
    "feature_axes=-1, axis_name=None, axis_index_groups=None, use_fast_variance=True, promote_dtype=None, "
    "force_float32_reductions=True, bias_metadata=None, scale_metadata=None"
)
_UNKNOWN = (
    "Einsum", "LSTMCell", "OptimizedLSTMCell", "SimpleCell", "GRUCell", "RNN", "Bidirectional", "SpectralNorm",
    "WeightNorm", "ConvLocal", "LoRA", "LoRALinear",
)  # fmt: skip


def _channels(a: Arguments, name: str, axis: int = -1) -> int:
    """Return the channels that a layer of nnx names; one of linen has those of its input."""
    return int(vars(a)[name]) if name in vars(a) else a.shape[axis]


def _outputs(a: Arguments) -> Any:
    """Return the argument that linen calls ``features``, and nnx ``out_features``."""
    return vars(a).get("features", vars(a).get("out_features"))


def _conv(transposed: bool) -> Build:
    def build(a: Arguments) -> Meanings:
        if "features" in vars(a) and isinstance(a.kernel_size, int):
            raise SpecError([f"kernel_size={a.kernel_size} must be a tuple in linen"])
        given = {**vars(a), "in_features": _channels(a, "in_features"), "out_features": _outputs(a)}
        spec = spec_of(given, transposed=transposed)
        return _batched(spec, spec.ndim, a)

    return build


def _batched(step: ConvSpec | steps.Step, ndim: int, a: Arguments) -> Meanings:
    """Return a step on images, with the moves that make one batch axis of none or several, as Flax does."""
    rank = a.rank if a.tensors and a.tensors[0].shape is not None else ndim + 2
    image = Placed(step, "NHWC")
    if rank == ndim + 1:
        return [Placed(steps.Unsqueeze(0), "NCHW"), image, Placed(steps.Squeeze(0), "NCHW")]
    if rank <= ndim + 2:
        return image
    merged = (prod(a.shape[: -ndim - 1]), *a.shape[-ndim - 1 :])
    out = step.output_shape(merged, layout="NHWC")
    back = (*a.shape[: -ndim - 1], *out[1:])
    return [Placed(steps.Reshape(merged), "NCHW"), image, Placed(steps.Reshape(back), "NCHW")]


def _linear(a: Arguments) -> Meanings:
    return steps.Linear(_channels(a, "in_features"), _outputs(a), bool(a.use_bias))


def _general(a: Arguments) -> Meanings:
    """Return a linear layer over several axes, or to several."""
    axes, outputs = (tuple(v) if isinstance(v, tuple | list) else (v,) for v in (a.axis, _outputs(a)))
    axes = tuple(axis % a.rank for axis in axes)
    inputs, size = prod(a.shape[axis] for axis in axes), prod(outputs)
    kept = tuple(n for i, n in enumerate(a.shape) if i not in axes)
    if axes == (a.rank - 1,) and len(outputs) == 1:
        return steps.Linear(inputs, size, bool(a.use_bias))
    macs = prod(kept) * inputs * size
    return other("linear over several axes", (*kept, *outputs), inputs * size + size * bool(a.use_bias), macs)


def _attention(a: Arguments) -> Meanings:
    inputs, bias = _channels(a, "in_features"), int(a.use_bias)
    inner, outputs = a.qkv_features or inputs, a.out_features or inputs
    parameters = 3 * inner * (inputs + bias) + outputs * (inner + bias)
    macs = projected_attention_macs([t.shape for t in a.tensors[:3]], (inner, inner, outputs))
    return other("attention", (*a.shape[:-1], outputs), parameters, macs)


def _norm(kind: str) -> Build:
    def build(a: Arguments) -> Meanings:
        fields: dict[str, Any] = {"epsilon": float(a.epsilon), "fast_variance": bool(a.use_fast_variance),
                                  "scale": bool(a.use_scale)}  # fmt: skip
        if kind != "RMSNorm":
            fields["bias"] = bool(a.use_bias)
        if kind in ("LayerNorm", "RMSNorm"):
            axes, own = (tuple(v) if isinstance(v, tuple | list) else (v,) for v in (a.reduction_axes, a.feature_axes))
            sizes = [_channels(a, "num_features")] if own == (-1,) else [a.shape[axis] for axis in own]
            return (steps.LayerNorm if kind == "LayerNorm" else steps.RMSNorm)(sizes, axes, own, **fields)
        axis = a.axis if kind == "BatchNorm" else a.feature_axes if kind == "InstanceNorm" else -1
        count = _channels(a, "num_features", axis)
        if kind == "GroupNorm":
            return steps.GroupNorm(count, a.num_groups or count // a.group_size, axis=axis, **fields)
        return (steps.BatchNorm if kind == "BatchNorm" else steps.InstanceNorm)(count, axis=axis, **fields)

    return build


def _pool(average: bool) -> Word:
    def build(a: Arguments) -> Meanings:
        window = tuple(a.window_shape)
        strides = a.strides if a.strides is not None else 1
        padding = a.padding.lower() if isinstance(a.padding, str) else a.padding
        step: steps.Step = steps.MaxPool(window, strides, padding)
        if average:
            step = steps.AveragePool(window, strides, padding, count_include_pad=a.count_include_pad)
        return _batched(step, len(window), a)

    counted = ", count_include_pad=True" if average else ""
    return Word(f"inputs, window_shape, strides=None, padding='VALID'{counted}", build)


def _not_known(_: Arguments) -> Meanings:
    raise NotKnown("there are no steps for such a layer")


def _layers(linen: bool) -> dict[str, Word]:
    """Return the layers of nnx, or of linen, whose constructors name no input channels."""
    end = _LINEN if linen else _NNX
    first = "features" if linen else "in_features, out_features"
    builds: dict[str, Build] = {"Conv": _conv(False), "ConvTranspose": _conv(True), "Linear": _linear}
    layers = {name: Word(f"{first}, {_LAYERS[name]}, {end}", build) for name, build in builds.items()}
    if linen:
        layers["Dense"] = layers.pop("Linear")
    norm_end = _LINEN if linen else "rngs=None"
    for name in ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"):
        layers[name] = Word(f"{'' if linen else 'num_features, '}{_LAYERS[name]}{_NORM}, {norm_end}", _norm(name))
    first = "num_heads, dtype=None, param_dtype=None" if linen else "num_heads, in_features"
    attention = Word(f"{first}, qkv_features=None, out_features=None, use_bias=True, **kwargs", _attention)
    return layers | {
        **dict.fromkeys(("MultiHeadAttention", "MultiHeadDotProductAttention", "SelfAttention"), attention),
        "DenseGeneral" if linen else "LinearGeneral": Word(
            f"{'' if linen else 'in_features, '}features, axis=-1, use_bias=True, **kwargs", _general),
        "Dropout": Word(f"rate, broadcast_dims=(), deterministic=None, rng_collection='dropout', {norm_end}",
                        lambda a: steps.Dropout(a.rate)),
        "Embed": Word(f"num_embeddings, features, dtype=None, param_dtype=None, embedding_init=None, "
                      f"promote_dtype=None, embedding_metadata=None, {norm_end}",
                      lambda a: steps.Embedding(a.num_embeddings, a.features)),
        "PReLU": Word("*args, **kwargs", steps.PReLU()),
        **{name: Word("*args, **kwargs", _not_known) for name in _UNKNOWN},
    }  # fmt: skip


def _vocabulary(linen: bool) -> Vocabulary:
    own = {"flax.linen": ("nn", "linen")} if linen else {"flax.nnx": ("nnx",), "flax.experimental.nnx": ()}
    holders = {"Sequential": "sequence"} | (
        {"compact": "names"}
        if linen
        else {"Param": "parameter", "List": "list", "Dict": "dict", "data": "wrapper", "static": "wrapper"}
    )
    layers = _layers(linen)
    return Vocabulary(
        title="Flax linen" if linen else "Flax nnx",
        modules={**own, **MODULES},
        layout="NHWC",
        layers=layers,
        functions={**functions(samples=False), "max_pool": _pool(average=False), "avg_pool": _pool(average=True)},
        methods=methods(samples=False),
        special={**SPECIAL, **holders},
        forward=("__call__",),
        item_path="_{}" if linen else ".{}",
        sequence_path=".layers_{}" if linen else ".layers.{}",
        left_out=LEFT_OUT,
        read_printed=lambda text: read_table(text, linen) or (None if linen else read_printed(text, layers)),
    )


VOCABULARY = _vocabulary(linen=False)
LINEN = _vocabulary(linen=True)

"""The words of Equinox: what each layer means. Tensors are single samples, as its users have them.

Standard library only: the framework is not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from convspec_jax.network import LEFT_OUT, MODULES, SPECIAL, activation, functions, methods, other

from convspec.contract.matrix_products import projected_attention_macs
from convspec.contract.network_words import Arguments, Meanings, NotKnown, Symbol, Vocabulary, Word
from convspec.errors import ShapeError
from convspec.spec import steps
from convspec_equinox.arguments import spec_of

_CHANNELS = "in_channels, out_channels, kernel_size, stride=1, "
_CONV_END = "dilation=1, groups=1, use_bias=True, padding_mode='ZEROS', dtype=None, key=None"
_FIELDS = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding", "dilation", "groups",
    "use_bias", "padding_mode",
)  # fmt: skip
_UNKNOWN = ("Pool", "AdaptivePool", "GRUCell", "LSTMCell", "RotaryPositionalEmbedding",
            "SpectralNorm", "WeightNorm", "Shared")  # fmt: skip


def _conv(ndim: int, transposed: bool) -> Word:
    """Return a convolution's word; the general ``Conv`` takes the number of axes, and has its pads in another order."""

    def build(a: Arguments) -> Meanings:
        given = {name: value for name, value in vars(a).items() if name in _FIELDS}
        return spec_of(given, ndim or a.num_spatial_dims, transposed=transposed)

    pads = ["output_padding=0", "padding=0"] if transposed else ["padding=0"]
    order = ", ".join(pads if ndim else pads[::-1])
    return Word(f"{'' if ndim else 'num_spatial_dims, '}{_CHANNELS}{order}, {_CONV_END}", build, "NCHW")


def _sizes(value: Any, ndim: int) -> Any:
    return (value,) * ndim if isinstance(value, int) else value


def _pool(ndim: int, average: bool) -> Word:
    def build(a: Arguments) -> Meanings:
        window = _sizes(a.kernel_size, ndim)
        given = (window, _sizes(a.stride, ndim), _sizes(a.padding, ndim))
        if average:
            return steps.AveragePool(*given, ceil_mode=a.use_ceil, divisor=prod(window))
        return steps.MaxPool(*given, ceil_mode=a.use_ceil)

    return Word("kernel_size, stride=1, padding=0, use_ceil=False", build, "NCHW")


def _adaptive(ndim: int, reduction: str) -> Word:
    return Word(
        "target_shape", lambda a: steps.AdaptivePool(_sizes(a.target_shape, ndim), reduction, "disjoint"), "NCHW"
    )


def _linear(inputs: Any, outputs: Any, bias: bool) -> list[steps.Step]:
    """Return a linear layer; ``"scalar"`` is a number without an axis."""
    before = [steps.Unsqueeze(-1)] if inputs == "scalar" else []
    after = [steps.Squeeze(-1)] if outputs == "scalar" else []
    first, last = (1 if n == "scalar" else n for n in (inputs, outputs))
    return [*before, steps.Linear(first, last, bias), *after]


def _one_linear(a: Arguments) -> Meanings:
    _check_vector(a, a.in_features)
    return _linear(a.in_features, a.out_features, bool(a.use_bias))


def _check_vector(a: Arguments, features: object) -> None:
    """Raise ShapeError where a linear layer gets a tensor of several axes, which it does not take."""
    expected = a.mapped + (features != "scalar")
    if a.tensors and a.tensors[0].shape is not None and a.rank != expected:
        raise ShapeError(f"it takes a vector, but gets a tensor of shape {a.shape}: flatten it, or map it by jax.vmap")


def _mlp(a: Arguments) -> Meanings:
    _check_vector(a, a.in_size)
    sizes = [a.in_size, *[a.width_size] * a.depth, a.out_size]
    made: list[steps.Step] = []
    for i in range(a.depth + 1):
        last = i == a.depth
        made += _linear(sizes[i], sizes[i + 1], bool(a.use_final_bias if last else a.use_bias))
        made += activation(a.final_activation if last else a.activation)
    return made


def _over_last(kind: type[steps.LayerNorm]) -> Callable[[Arguments], Meanings]:
    def build(a: Arguments) -> Meanings:
        shape = _sizes(vars(a)["shape"], 1)
        affine = vars(a).get("elementwise_affine")
        scale, bias = (bool(v if affine is None else affine) for v in (a.use_weight, a.use_bias))
        return kind(shape, tuple(range(-len(shape), 0)), epsilon=a.eps, scale=scale, bias=bias)

    return build


def _group_norm(a: Arguments) -> Meanings:
    affine = bool(a.channelwise_affine)
    return steps.GroupNorm(a.channels or a.shape[0], a.groups, epsilon=a.eps, scale=affine, bias=affine)


def _batch_norm(a: Arguments) -> Meanings:
    affine = bool(a.channelwise_affine)
    return steps.BatchNorm(a.input_size, epsilon=a.eps, scale=affine, bias=affine)


def _attention(a: Arguments) -> Meanings:
    sizes = [a.query_size if n is None else n for n in (a.key_size, a.value_size, a.output_size)]
    key, value, out = sizes
    qk, vo = (a.num_heads * (a.query_size // a.num_heads if n is None else n) for n in (a.qk_size, a.vo_size))
    biases = (a.use_query_bias, qk), (a.use_key_bias, qk), (a.use_value_bias, vo), (a.use_output_bias, out)
    parameters = qk * (a.query_size + key) + vo * (value + out) + sum(n for used, n in biases if used)
    macs = None if a.mapped else projected_attention_macs([t.shape for t in a.tensors[:3]], (qk, vo, out))
    return other("attention", (*a.shape[:-1], out), parameters, macs)


def _not_known(_: Arguments) -> Meanings:
    raise NotKnown("there are no steps for such a layer")


_LAYER_NORM = "shape, eps=1e-5, use_weight=True, use_bias=True, dtype=None"
_LAYERS = {
    **{f"Conv{name}": _conv(n, transposed=False) for n, name in enumerate(("", "1d", "2d", "3d"))},
    **{f"ConvTranspose{name}": _conv(n, transposed=True) for n, name in enumerate(("", "1d", "2d", "3d"))},
    **{f"MaxPool{n}d": _pool(n, average=False) for n in (1, 2, 3)},
    **{f"AvgPool{n}d": _pool(n, average=True) for n in (1, 2, 3)},
    **{f"AdaptiveAvgPool{n}d": _adaptive(n, "average") for n in (1, 2, 3)},
    **{f"AdaptiveMaxPool{n}d": _adaptive(n, "max") for n in (1, 2, 3)},
    "Linear": Word("in_features, out_features, use_bias=True, dtype=None, key=None",
                   _one_linear),
    "MLP": Word("in_size, out_size, width_size, depth, activation='relu', final_activation='identity', use_bias=True, "
                "use_final_bias=True, dtype=None, scan=False, key=None", _mlp),
    "Embedding": Word("num_embeddings, embedding_size, weight=None, dtype=None, key=None",
                      lambda a: steps.Embedding(a.num_embeddings, a.embedding_size)),
    "BatchNorm": Word("input_size, axis_name=None, eps=1e-5, channelwise_affine=True, momentum=0.99, inference=False, "
                      "dtype=None, mode='legacy'", _batch_norm, "NCHW", also=(Symbol("state"),)),
    "GroupNorm": Word("groups, channels=None, eps=1e-5, channelwise_affine=True, dtype=None", _group_norm, "NCHW"),
    "LayerNorm": Word(f"{_LAYER_NORM}, elementwise_affine=None", _over_last(steps.LayerNorm)),
    "RMSNorm": Word(_LAYER_NORM, _over_last(steps.RMSNorm)),
    "Dropout": Word("p=0.5, inference=False, deterministic=None", lambda a: steps.Dropout(a.p)),
    "PReLU": Word("init_alpha=0.25", steps.PReLU(), "NCHW"),
    "MultiheadAttention": Word("num_heads, query_size, key_size=None, value_size=None, output_size=None, qk_size=None, "
                               "vo_size=None, use_query_bias=False, use_key_bias=False, use_value_bias=False, "
                               "use_output_bias=False, dropout_p=0.0, **kwargs", _attention),
    "Identity": Word("*args, **kwargs", steps.Identity()),
    **{name: Word("*args, **kwargs", _not_known) for name in _UNKNOWN},
}  # fmt: skip

VOCABULARY = Vocabulary(
    title="Equinox",
    modules={"equinox.nn": (), "equinox": ("eqx",), **MODULES},
    layout="NCHW",
    flatten=("{module}Lambda(jnp.ravel)", "jnp.ravel({x})"),
    layers=_LAYERS,
    functions=functions(samples=True),
    methods=methods(samples=True),
    special={
        **SPECIAL,
        **dict.fromkeys(("filter_jit", "filter_checkpoint", "inference_mode", "Lambda"), "wrapper"),
        "filter_vmap": "map",
        "Sequential": "sequence",
        "make_with_state": "lambda kind: lambda *args, **kwargs: (kind(*args, **kwargs), state)",
    },
    bases=("Module", "StatefulLayer"),
    forward=("__call__",),
    item_path="[{!r}]",
    sequence_path=".layers[{}]",
    left_out=LEFT_OUT,
    samples=True,
    learnt_arrays=True,
)

"""The layers of ``torch.nn`` with parameters or windows, by the name of their class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from convspec.contract.network_words import Arguments, Meanings, NotKnown, Word, repeated
from convspec.spec import steps
from convspec_torch.network import meanings
from convspec_torch.network.meanings import with_axes

_PLACE = "device=None, dtype=None"
_CONV = (
    f"out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode='zeros', {_PLACE}"
)
_TRANSPOSED = (
    "out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1, "
    f"padding_mode='zeros', {_PLACE}, *, output_size=None"
)
_BATCH = f"eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, {_PLACE}, *, bias=True"
_INSTANCE = _BATCH.replace("True", "False", 2)
_RANKS = {1: (2, 3), 2: (4,), 3: (5,)}
_PADS = {"ZeroPad": "constant", "ReflectionPad": "reflect", "ReplicationPad": "replicate", "CircularPad": "circular"}
_RECURRENT = "input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False"


def _unknown(reason: str) -> Callable[[Arguments], Meanings]:
    def build(_: Arguments) -> Meanings:
        raise NotKnown(reason)

    return build


def _of_rank(n: int) -> dict[str, Word]:
    """Return the layers for ``n`` spatial axes."""
    conv, transposed = (Word(s, meanings.convolution(n, t))
                        for s, t in ((_CONV, False), (_TRANSPOSED, True)))  # fmt: skip
    average = "kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True"
    maximum = "kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False"
    lp = "norm_type, kernel_size, stride=None, ceil_mode=False"
    instance = with_axes(n + 2, meanings.instance_norm)

    def adaptive(a: Arguments, reduction: str) -> Any:
        return meanings.with_positions(a, steps.AdaptivePool(repeated(a.output_size, n), reduction))

    words = {
        f"Conv{n}d": Word(f"in_channels, {_CONV}", conv.build),
        f"ConvTranspose{n}d": Word(f"in_channels, {_TRANSPOSED}", transposed.build),
        f"LazyConv{n}d": conv,
        f"LazyConvTranspose{n}d": transposed,
        f"MaxPool{n}d": Word(
            maximum, lambda a: meanings.with_positions(a, steps.MaxPool(**meanings.window(a, n)))
        ),
        f"AvgPool{n}d": Word(
            average + ", divisor_override=None" * (n > 1), lambda a: meanings.average(a, n)
        ),
        f"LPPool{n}d": Word(lp, lambda a: steps.LpPool(
            **meanings.window(a, n), p=float(a.norm_type), signed=True, full_window=True)),
        f"AdaptiveAvgPool{n}d": Word("output_size", lambda a: adaptive(a, "average")),
        f"AdaptiveMaxPool{n}d": Word("output_size, return_indices=False", lambda a: adaptive(a, "max")),
        f"MaxUnpool{n}d": Word("kernel_size, stride=None, padding=0", _unknown("it depends on positions of maxima")),
        f"BatchNorm{n}d": Word(f"num_features, {_BATCH}", meanings.batch_norm(_RANKS[n])),
        f"LazyBatchNorm{n}d": Word(_BATCH, meanings.batch_norm(_RANKS[n])),
        f"InstanceNorm{n}d": Word(f"num_features, {_INSTANCE}", instance),
        f"LazyInstanceNorm{n}d": Word(_BATCH, instance),
    }  # fmt: skip
    return {name: replace(word, layout="NCHW") for name, word in words.items()} | {
        **{f"{name}{n}d": Word("padding", meanings.pad_layer(n, mode)) for name, mode in _PADS.items()},
        f"ConstantPad{n}d": Word("padding, value", meanings.pad_layer(n)),
    }


LAYERS: dict[str, Word] = {
    **_of_rank(1), **_of_rank(2), **_of_rank(3),
    "SyncBatchNorm": Word(
        f"num_features, {_BATCH.replace('device', 'process_group=None, device')}", meanings.batch_norm((2, 3, 4, 5)),
        "NCHW",
    ),
    "GroupNorm": Word(
        f"num_groups, num_channels, eps=1e-05, affine=True, {_PLACE}, *, bias=True",
        lambda a: steps.GroupNorm(
            a.num_channels, groups=a.num_groups, epsilon=a.eps, scale=a.affine, bias=a.affine and a.bias
        ),
        "NCHW",
    ),
    "LayerNorm": Word(
        f"normalized_shape, eps=1e-05, elementwise_affine=True, bias=True, {_PLACE}",
        lambda a: meanings.last_axes(a, steps.LayerNorm, scale=a.elementwise_affine,
                                     bias=a.elementwise_affine and a.bias),
    ),
    "RMSNorm": Word(
        f"normalized_shape, eps=None, elementwise_affine=True, {_PLACE}",
        lambda a: meanings.last_axes(a, steps.RMSNorm, scale=a.elementwise_affine),
    ),
    "LocalResponseNorm": Word(
        "size, alpha=0.0001, beta=0.75, k=1.0", lambda a: steps.LocalResponseNorm(a.size, a.alpha, a.beta, a.k),
        "NCHW",
    ),
    "Linear": Word(
        f"in_features, out_features, bias=True, {_PLACE}",
        lambda a: steps.Linear(a.in_features, a.out_features, a.bias),
    ),
    "LazyLinear": Word(
        f"out_features, bias=True, {_PLACE}", lambda a: steps.Linear(a.shape[-1], a.out_features, a.bias)
    ),
    "Bilinear": Word(
        f"in1_features, in2_features, out_features, bias=True, {_PLACE}",
        lambda a: meanings.other(
            "bilinear", (*a.shape[:-1], a.out_features),
            parameters=a.out_features * (a.in1_features * a.in2_features + a.bias),
        ),
    ),
    "Embedding": Word(
        "num_embeddings, embedding_dim, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, "
        f"sparse=False, _weight=None, _freeze=False, {_PLACE}",
        lambda a: steps.Embedding(a.num_embeddings, a.embedding_dim),
    ),
    "Identity": Word("*args", steps.Identity()),
    "StochasticDepth": Word("p, mode", steps.Identity()),
    "Flatten": Word("start_dim=1, end_dim=-1", lambda a: steps.Flatten(a.start_dim, a.end_dim)),
    "Unflatten": Word(
        "dim, unflattened_size", lambda a: meanings.unflatten(a.dim, repeated(a.unflattened_size, 1), a.shape)
    ),
    "Upsample": Word(
        "size=None, scale_factor=None, mode='nearest', align_corners=None, recompute_scale_factor=None",
        meanings.interpolate,
        "NCHW",
    ),
    "UpsamplingNearest2d": Word(
        "size=None, scale_factor=None, *, mode='nearest', align_corners=None, recompute_scale_factor=None",
        meanings.interpolate,
        "NCHW",
    ),
    "UpsamplingBilinear2d": Word(
        "size=None, scale_factor=None, *, mode='bilinear', align_corners=True, recompute_scale_factor=None",
        meanings.interpolate,
        "NCHW",
    ),
    "PixelShuffle": Word("upscale_factor", with_axes(4, lambda a: steps.PixelShuffle(a.upscale_factor)), "NCHW"),
    "PixelUnshuffle": Word(
        "downscale_factor", with_axes(4, lambda a: steps.PixelUnshuffle(a.downscale_factor)), "NCHW"
    ),
    "ChannelShuffle": Word("groups", lambda a: steps.ChannelShuffle(a.groups), "NCHW"),
    **{name: Word(f"{_RECURRENT}, {rest}{_PLACE}", meanings.recurrent(gates)) for name, gates, rest in
       (("LSTM", 4, "proj_size=0, "), ("GRU", 3, ""), ("RNN", 1, "*, nonlinearity='tanh', "))},
    "MultiheadAttention": Word(
        "embed_dim, num_heads, dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None, vdim=None, "
        f"batch_first=False, {_PLACE}",
        meanings.attention,
    ),
    "TransformerEncoderLayer": Word(
        "d_model, nhead, dim_feedforward=2048, dropout=0.1, activation='relu', layer_norm_eps=1e-05, "
        f"batch_first=False, norm_first=False, bias=True, {_PLACE}",
        meanings.encoder,
    ),
}  # fmt: skip

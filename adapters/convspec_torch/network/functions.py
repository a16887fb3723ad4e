"""The functions of ``torch`` and ``torch.nn.functional``, and the methods of a tensor."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from convspec.contract.matrix_products import einsum
from convspec.contract.network_words import Arguments, Placed, Symbol, Tensor, Value, Word, repeated
from convspec.spec import steps
from convspec_torch.network import meanings
from convspec_torch.network.activations import FUNCTIONS as ACTIVATIONS
from convspec_torch.network.meanings import axis_of, learnt_of, listed, with_axes

_DIM = "dim=None, keepdim=False, dtype=None, axis=None"


def _of_rank(n: int) -> dict[str, Word]:
    """Return the functions for ``n`` spatial axes."""

    def maximum(a: Arguments) -> Any:
        return meanings.with_positions(a, steps.MaxPool(**meanings.window(a, n)))

    def adaptive(a: Arguments, reduction: str) -> Any:
        return meanings.with_positions(a, steps.AdaptivePool(repeated(a.output_size, n), reduction))

    words = {
        f"conv{n}d": Word(
            "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1",
            meanings.convolution_of(n, transposed=False),
        ),
        f"conv_transpose{n}d": Word(
            "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1",
            meanings.convolution_of(n, transposed=True),
        ),
        f"max_pool{n}d": Word(
            "input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False",
            maximum,
        ),
        f"avg_pool{n}d": Word(
            "input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, "
            "divisor_override=None",
            lambda a: meanings.average(a, n),
        ),
        f"lp_pool{n}d": Word(
            "input, norm_type, kernel_size, stride=None, ceil_mode=False",
            lambda a: steps.LpPool(
                **meanings.window(a, n), p=float(a.norm_type), signed=True, full_window=True),
        ),
        f"adaptive_avg_pool{n}d": Word("input, output_size", lambda a: adaptive(a, "average")),
        f"adaptive_max_pool{n}d": Word(
            "input, output_size, return_indices=False", lambda a: adaptive(a, "max")
        ),
    }  # fmt: skip
    return {name: replace(word, layout="NCHW") for name, word in words.items()}


def _channels(a: Arguments) -> int:
    return a.shape[1]


_NORMS = {
    "batch_norm": Word(
        "input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-05",
        lambda a: Placed(
            steps.BatchNorm(
                _channels(a), epsilon=a.eps, batch_statistics=a.training is True or a.running_mean is None,
                **learnt_of(a),
            ),
            "NCHW", 0,
        ),
    ),
    "instance_norm": Word(
        "input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, "
        "eps=1e-05",
        lambda a: Placed(steps.InstanceNorm(_channels(a), epsilon=a.eps, **learnt_of(a)), "NCHW", 0),
    ),
    "group_norm": Word(
        "input, num_groups, weight=None, bias=None, eps=1e-05",
        lambda a: Placed(steps.GroupNorm(_channels(a), groups=a.num_groups, epsilon=a.eps, **learnt_of(a)), "NCHW", 0),
    ),
    "layer_norm": Word(
        "input, normalized_shape, weight=None, bias=None, eps=1e-05",
        lambda a: Placed(meanings.last_axes(a, steps.LayerNorm, **learnt_of(a)), parameters=0),
    ),
    "rms_norm": Word(
        "input, normalized_shape, weight=None, eps=None",
        lambda a: Placed(meanings.last_axes(a, steps.RMSNorm, scale=a.weight is not None), parameters=0),
    ),
    "normalize": Word(
        "input, p=2.0, dim=1, eps=1e-12, out=None",
        lambda a: steps.LpNorm(tuple(repeated(a.dim, 1)), float(a.p), a.eps),
    ),
    "local_response_norm": Word(
        "input, size, alpha=0.0001, beta=0.75, k=1.0", lambda a: steps.LocalResponseNorm(a.size, a.alpha, a.beta, a.k),
        "NCHW",
    ),
    "linear": Word("input, weight, bias=None", meanings.linear_of),
    "embedding": Word(
        "input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False",
        lambda a: Placed(steps.Embedding(*a.weight.sizes), parameters=0),
    ),
}  # fmt: skip

_ARITHMETIC = {
    "add": Word("input, other, *, alpha=1, out=None", meanings.elementwise(steps.Add)),
    **dict.fromkeys(("sub", "subtract"), Word(
        "input, other, *, alpha=1, out=None", meanings.elementwise(steps.Subtract, ordered=True))),
    **dict.fromkeys(("mul", "multiply"), Word("input, other, *, out=None", meanings.elementwise(steps.Multiply))),
    **dict.fromkeys(("div", "divide", "true_divide"), Word(
        "input, other, *, out=None", meanings.elementwise(steps.Divide, ordered=True))),
    "maximum": Word("input, other", steps.Maximum()),
    "minimum": Word("input, other", steps.Minimum()),
    "pow": Word("input, exponent", meanings.power),
    **dict.fromkeys(("matmul", "bmm", "mm"), Word("input, other, *, out=None", meanings.product)),
    "einsum": Word("equation, *operands", lambda a: einsum(a.equation, a.tensors)),
    "scaled_dot_product_attention": Word(
        "query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False",
        meanings.dot_product_attention,
    ),
    **{name: Word(f"input, {_DIM}", meanings.reduce(name)) for name in ("mean", "sum")},
    **{f"a{name}": Word(f"input, {_DIM}", meanings.reduce(name)) for name in ("max", "min")},
    **{name: Word(f"input, {_DIM}", meanings.reduce(name, positions=True)) for name in ("max", "min")},
    "roll": Word("input, shifts, dims=None", meanings.same_shape("roll")),
    "cumsum": Word("input, dim, *, dtype=None", meanings.same_shape("cumsum")),
    **{name: Word("input, dim=None, unbiased=True, keepdim=False, *, correction=1", meanings.spread(name))
       for name in ("std", "var")},
}  # fmt: skip

_MOVES = {
    "interpolate": Word(
        "input, size=None, scale_factor=None, mode='nearest', align_corners=None, recompute_scale_factor=None, "
        "antialias=False",
        meanings.interpolate,
        "NCHW",
    ),
    "upsample": Word(
        "input, size=None, scale_factor=None, mode='nearest', align_corners=None, *, recompute_scale_factor=None",
        meanings.interpolate,
        "NCHW",
    ),
    "pad": Word("input, pad, mode='constant', value=None", lambda a: meanings.pad(a.pad, a.mode, a.value)),
    "pixel_shuffle": Word(
        "input, upscale_factor", with_axes(4, lambda a: steps.PixelShuffle(a.upscale_factor)), "NCHW"
    ),
    "pixel_unshuffle": Word(
        "input, downscale_factor", with_axes(4, lambda a: steps.PixelUnshuffle(a.downscale_factor)), "NCHW"
    ),
    "channel_shuffle": Word("input, groups", lambda a: steps.ChannelShuffle(a.groups), "NCHW"),
    "flatten": Word("input, start_dim=0, end_dim=-1", lambda a: steps.Flatten(a.start_dim, a.end_dim)),
    "ravel": Word("input", steps.Flatten(0)),
    "unflatten": Word("input, dim, sizes", lambda a: meanings.unflatten(a.dim, a.sizes, a.shape)),
    "squeeze": Word("input, dim=None", meanings.squeeze),
    "unsqueeze": Word("input, dim", lambda a: steps.Unsqueeze((a.dim,))),
    **dict.fromkeys(("transpose", "swapaxes"), Word(
        "input, dim0, dim1", lambda a: meanings.transpose(a.dim0, a.dim1, a.rank))),
    "t": Word("input", lambda a: meanings.transpose(0, -1, a.rank)),
    "repeat_interleave": Word("input, repeats, dim=None, *, output_size=None", meanings.repeat_interleave),
    **dict.fromkeys(("cat", "concat", "concatenate"), Word(
        "tensors, dim=0, *, axis=None, out=None", lambda a: steps.Concat(axis_of(a)))),
    "stack": Word("tensors, dim=0, *, axis=None, out=None", meanings.stack),
    "split": Word("input, split_size_or_sections, dim=0", lambda a: meanings.split(a, lambda n: meanings.parts(
        n, a.split_size_or_sections) if isinstance(a.split_size_or_sections, int) else a.split_size_or_sections)),
    "chunk": Word("input, chunks, dim=0", lambda a: meanings.split(a, lambda n: meanings.parts(n, -(-n // a.chunks)))),
    "unbind": Word("input, dim=0", lambda a: [
        meanings.split(a, lambda n: [1] * n), steps.Squeeze((a.dim,))]),
    "select": Word("input, dim, index", lambda a: steps.Select(a.dim, a.index)),
    "narrow": Word("input, dim, start, length", lambda a: steps.Slice(
        [(None, None, 1)] * (a.dim % a.rank) + [(a.start, a.start + a.length, 1)])),
    "flip": Word("input, *dims", lambda a: steps.Slice(
        [(None, None, -1 if i in {d % a.rank for d in listed(a.dims)} else 1) for i in range(a.rank)])),
    "stochastic_depth": Word("input, p, mode, training=True", steps.Identity()),
}  # fmt: skip


# -- results that are no steps ---------------------------------------------------------------------------------------


def _size(a: Arguments) -> Value:
    shape = a.tensors[0].shape
    if shape is None:
        return Value(Symbol("the size of a tensor"))
    return Value(shape if a.dim is None else shape[a.dim])


def _dim(a: Arguments) -> Value:
    return Value(Symbol("the number of axes of a tensor") if a.tensors[0].shape is None else a.rank)


def _filled(sizes: Any) -> Value:
    """Return a new tensor of these sizes; its values do not matter."""
    known = listed(sizes)
    return Value(Tensor(-1, known if all(isinstance(n, int) for n in known) else None))


def _listing(value: Any) -> tuple[int, ...]:
    """Return the shape of a nested list of numbers."""
    return (len(value), *_listing(value[0])) if isinstance(value, list | tuple) and value else ()


_SAME = Word("input, *args, device=None, dtype=None, non_blocking=False, copy=False, memory_format=None",
             lambda a: Value(a.input))  # fmt: skip
_FILL = "device=None, dtype=None, requires_grad=False, layout=None, out=None, pin_memory=False, generator=None"
_MAKERS = {
    **dict.fromkeys(("zeros", "ones", "empty", "rand", "randn"), Word(
        f"*size, {_FILL}", lambda a: _filled(a.size))),
    "full": Word(f"size, fill_value, *, {_FILL}", lambda a: _filled((a.size,))),
    "eye": Word(f"n, m=None, *, {_FILL}", lambda a: _filled((a.n, a.n if a.m is None else a.m))),
    "arange": Word(f"*bounds, {_FILL}", lambda a: _filled((len(range(*a.bounds)),))),
    "linspace": Word(f"start, end, steps=100, *, {_FILL}", lambda a: _filled((a.steps,))),
    "tensor": Word(f"data, *, {_FILL}", lambda a: _filled((_listing(a.data),))),
    **{f"{name}_like": Word(f"input, *args, {_FILL}", lambda a: Value(Tensor(-1, a.tensors[0].shape)))
       for name in ("zeros", "ones", "rand", "randn", "empty", "full")},
}  # fmt: skip


FUNCTIONS: dict[str, Word] = {
    **ACTIVATIONS, **_of_rank(1), **_of_rank(2), **_of_rank(3), **_NORMS, **_ARITHMETIC, **_MOVES, **_MAKERS,
    "reshape": Word("input, shape", lambda a: meanings.reshape(vars(a)["shape"])),
    "permute": Word("input, dims", lambda a: steps.Permute(a.dims)),
    "tile": Word("input, *sizes", meanings.tile),
    "broadcast_to": Word("input, size", lambda a: steps.Expand(a.size)),
    "clone": _SAME,
    **{name: Word("", Value(False)) for name in ("is_scripting", "is_tracing", "is_available")},
    "numel": Word("input", lambda a: Value(prod(a.shape))),
}  # fmt: skip

_SHAPED = "input, *sizes"
METHODS: dict[str, Word] = {
    **{name: word for name, word in FUNCTIONS.items() if word.signature.startswith("input")},
    **{f"{name}_": _ARITHMETIC[name] for name in ("add", "sub", "mul", "div")},
    "size": Word("input, dim=None", _size),
    **dict.fromkeys(("dim", "ndimension"), Word("input", _dim)),
    **dict.fromkeys(("view", "reshape"), Word(_SHAPED, lambda a: meanings.reshape(listed(a.sizes)))),
    **dict.fromkeys(("view_as", "reshape_as"), Word("input, other", lambda a: meanings.reshape(a.other.sizes))),
    "expand": Word(_SHAPED, lambda a: steps.Expand(listed(a.sizes))),
    "expand_as": Word("input, other", lambda a: steps.Expand(a.other.sizes)),
    "permute": Word("input, *dims", lambda a: steps.Permute(listed(a.dims))),
    "T": Word("input", lambda a: steps.Permute(tuple(reversed(range(a.rank))))),
    **dict.fromkeys(("repeat", "tile"), Word(_SHAPED, meanings.tile)),
    **dict.fromkeys(
        ("to", "cuda", "cpu", "float", "half", "double", "bfloat16", "type", "type_as", "contiguous", "clone", "detach",
         "requires_grad_", "long", "int", "bool"), _SAME),
    "new_zeros": Word(f"input, *size, {_FILL}", lambda a: _filled(a.size)),
    "new_ones": Word(f"input, *size, {_FILL}", lambda a: _filled(a.size)),
    **dict.fromkeys(("normal_", "uniform_", "fill_", "zero_", "trunc_normal_"), Word(
        "input, *args, mean=0, std=1, a=0, b=1", lambda a: Value(a.input))),
    "item": Word("input", Value(Symbol("a value of a tensor"))),
}  # fmt: skip

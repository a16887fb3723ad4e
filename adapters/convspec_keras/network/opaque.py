"""Layers without steps whose output shapes and parameters are known: recurrent ones, attention, statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from convspec.contract.matrix_products import attention_macs, einsum, projected_attention_macs
from convspec.contract.network_words import Arguments, NotKnown, Placed, Shape, repeated
from convspec.spec.steps import Other
from convspec_keras.arguments import spec_of


def stated(shapes: Sequence[Shape | None], parameters: int | None, name: str, macs: int | None = None) -> Placed:
    """Return an operation that no step describes, with what is known of it."""
    return Placed(Other(name), "", parameters, shapes, macs=macs)


def _recurrent(gates: int, extra: int = 0) -> Callable[[Arguments], Placed]:
    """Return what builds a recurrent layer of gates, each with a kernel for the input and one for the state."""

    def build(a: Arguments) -> Placed:
        batch, time, features = a.shape
        bias = a.use_bias * (1 + extra * getattr(a, "reset_after", True))
        products = gates * a.units * (features + a.units)
        macs = batch * time * products
        return _sequence(a, (batch, time), (a.units,), products + gates * a.units * bias, macs)

    return build


def _sequence(a: Arguments, steps: Shape, state: Shape, parameters: int, macs: int | None = None) -> Placed:
    """Return the outputs of a recurrent layer: of the last step or of all, and its states."""
    output = (*steps, *state) if a.return_sequences else (steps[0], *state)
    states = [(steps[0], *state)] * a.return_state * (2 if hasattr(a, "unit_forget_bias") else 1)
    return stated([output, *states], parameters, "recurrent layer", macs)


def _conv_lstm(a: Arguments) -> Placed:
    batch, time, *size = a.shape
    first = a.data_format == "channels_first"
    ndim = len(size) - 1
    given = {name: getattr(a, name) for name in ("filters", "kernel_size", "strides", "padding", "dilation_rate")}
    spec = spec_of({**given, "use_bias": a.use_bias}, ndim, size[0 if first else -1], transposed=False, depthwise=False)
    _, *state = spec.output_shape((batch, *size), "NCHW" if first else "NHWC")
    parameters = 4 * (spec.num_parameters + a.filters**2 * prod(spec.kernel_size))
    return _sequence(a, (batch, time), tuple(state), parameters)


def _bidirectional(a: Arguments) -> Placed:
    one = _inner(a)
    (output, *states), double = one.shapes or (), a.merge_mode == "concat"
    assert output is not None
    outputs = [output] * 2 if a.merge_mode is None else [(*output[:-1], output[-1] * (1 + double))]
    parameters, macs = (None if n is None else 2 * n for n in (one.parameters, one.macs))
    return stated([*outputs, *states * 2], parameters, str(one.step), macs)


def _inner(a: Arguments) -> Placed:
    made = a.layer.word.means(Arguments(a.layer.arguments, a.tensors)) if hasattr(a.layer, "word") else None
    if not isinstance(made, Placed) or not made.shapes:
        raise NotKnown("it wraps no recurrent layer")
    return made


def _multi_head(a: Arguments) -> Placed:
    """Return attention with projections of the query, the key and the value, and one of the result."""
    query, value, key = a.shape, *_value_and_key(a)
    keys, values = a.num_heads * a.key_dim, a.num_heads * (a.value_dim or a.key_dim)
    features = tuple(a.output_shape) if isinstance(a.output_shape, list | tuple) else (a.output_shape or query[-1],)
    wide = [(query[-1], keys), (value[-1], keys), (value[-1], values), (values, prod(features))]
    axes = range(1, len(key) - 1) if a.attention_axes is None else repeated(a.attention_axes, 1)
    macs = projected_attention_macs([query, key, value], (keys, values, prod(features)), axes)
    return stated([(*query[:-1], *features)], sum((n + a.use_bias) * m for n, m in wide), "attention", macs)


def _value_and_key(a: Arguments) -> tuple[Shape, Shape]:
    """Return the shapes of the value and of the key, which follow the query and may be left out."""
    given = a.tensors if len(a.tensors) > 1 else a.tensors * 2
    return given[1].sizes, given[min(2, len(given) - 1)].sizes


def _attention(a: Arguments) -> Placed:
    query, value, key = a.shape, *_value_and_key(a)
    additive = hasattr(a, "additive")
    scales = (query[-1] if additive else 1) if a.use_scale else 0
    macs = attention_macs(query[-2], key[-2], value[-1] + query[-1] * (not additive), prod(query[:-2]))
    return stated([(*query[:-1], value[-1])], scales, "attention", macs)


def _dot(a: Arguments) -> Placed:
    one, two = (t.sizes for t in a.tensors)
    axes = a.axes if isinstance(a.axes, list | tuple) else (a.axes, a.axes)
    left, right = ([n for i, n in enumerate(s) if i and i != axis % len(s)]
                   for s, axis in zip((one, two), axes, strict=True))  # fmt: skip
    macs = one[0] * prod(left) * prod(right) * one[axes[0]]
    return stated([(one[0], *left, *right) if left or right else (one[0], 1)], 0, "product along axes", macs)


def _einsum_dense(a: Arguments) -> Placed:
    left, _, right = a.equation.replace(" ", "").partition("->")
    data, kernel = left.split(",")
    if "." in a.equation:
        raise NotKnown("its equation has an ellipsis")
    given = a.output_shape if isinstance(a.output_shape, list | tuple) else (a.output_shape,)
    sizes = dict(zip(right[len(right) - len(given) :], given, strict=True)) | dict(zip(data, a.shape, strict=True))
    arrays = [kernel, a.bias_axes] if a.bias_axes else [kernel]
    count = sum(prod(sizes[letter] for letter in letters) for letters in arrays)
    macs = einsum(a.equation, [a.shape, tuple(sizes[letter] for letter in kernel)]).macs
    return stated([tuple(sizes[letter] for letter in right)], count, "product by an equation", macs)


def _normalization(a: Arguments) -> Placed:
    axes: Sequence[int] = a.axis if isinstance(a.axis, list | tuple) else () if a.axis is None else (a.axis,)
    size = prod(a.shape[axis] for axis in axes)
    learnt = a.mean is None
    return stated([a.shape], (2 * size + 1) if learnt else 0, "normalization")


_GATED = "units, activation='tanh', recurrent_activation='sigmoid', use_bias=True, kernel_initializer=None, " \
         "recurrent_initializer=None, bias_initializer=None"  # fmt: skip
_STATES = ", ".join(
    ["return_sequences=False, return_state=False, go_backwards=False, stateful=False, unroll=False, dropout=0.0, "
     "recurrent_dropout=0.0, seed=None, use_cudnn=None, implementation=None, time_major=False, input_length=None, "
     "input_dim=None", *(f"{array}_{what}=None" for array in ("kernel", "recurrent", "bias")
                         for what in ("regularizer", "constraint"))])  # fmt: skip
_CONV = ("filters, kernel_size, strides=1, padding='valid', data_format=None, dilation_rate=1, activation='tanh', "
         "recurrent_activation='sigmoid', use_bias=True, unit_forget_bias=True, kernel_initializer=None, "
         "recurrent_initializer=None, bias_initializer=None")  # fmt: skip
OPAQUE: dict[str, tuple[str, Callable[[Arguments], Placed]]] = {
    "LSTM": (f"{_GATED}, unit_forget_bias=True, {_STATES}", _recurrent(4)),
    "GRU": (f"{_GATED}, {_STATES}, reset_after=True", _recurrent(3, extra=1)),
    "SimpleRNN": (f"{_GATED.replace(' recurrent_activation=None,', '')}, {_STATES}", _recurrent(1)),
    **{f"ConvLSTM{n}D": (f"{_CONV}, {_STATES}", _conv_lstm) for n in (1, 2, 3)},
    "Bidirectional": ("layer, merge_mode='concat', backward_layer=None", _bidirectional),
    "MultiHeadAttention": (
        "num_heads, key_dim, value_dim=None, dropout=0.0, use_bias=True, output_shape=None, attention_axes=None, "
        "kernel_initializer=None, bias_initializer=None, flash_attention=None, seed=None", _multi_head),
    "Attention": ("use_scale=False, score_mode='dot', dropout=0.0, seed=None", _attention),
    "AdditiveAttention": ("use_scale=True, dropout=0.0, additive=True", _attention),
    "Dot": ("axes, normalize=False", _dot),
    "EinsumDense": ("equation, output_shape, activation=None, bias_axes=None, kernel_initializer=None, "
                    "bias_initializer=None, kernel_regularizer=None, bias_regularizer=None", _einsum_dense),
    "Normalization": ("axis=-1, mean=None, variance=None, invert=False", _normalization),
}  # fmt: skip
"""Signatures, and what builds the outputs."""

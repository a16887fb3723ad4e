"""Scales, zero points, types and rounding of quantised layers, whose input, weights and output are integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from convspec.diagnosis.integers import Array, Integers, IntegerVariants
from convspec.diagnosis.mistakes.catalogue import described
from convspec.reference.quantized import QuantizedLayer, along_outputs
from convspec.spec import INTEGERS

_OTHER_SIGN = {"uint8": "int8", "int8": "uint8"}
_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "rounded towards zero": np.trunc, "rounded down": np.floor, "rounded up": np.ceil,
}  # fmt: skip
_ZEROS = {"input_zero": "x", "weight_zero": "w", "output_zero": "y"}
_SCALES = {"input_scale": "x", "weight_scale": "w", "output_scale": "y"}
_SHOWN = 4  # channels in a phrase


def _wrong(layer: QuantizedLayer, **changes: Any) -> Integers:
    """Return the layer with other scales, zero points or activation, or with other arrays or ends of the output."""
    own = {name: changes.pop(name) for name in ("x", "weight", "bias", "clip") if name in changes}
    return Integers(replace(layer, quant=replace(layer.quant, **changes), **own))


def _scaled(layer: QuantizedLayer, scales: Array) -> Integers:
    """Return the layer with other scales of the weight; the sums of bias and products keep theirs."""
    return _wrong(layer, weight_scale=tuple(scales.tolist()))


def _not_zero(layer: QuantizedLayer) -> list[str]:
    return [name for name in _ZEROS if np.any(getattr(layer.quant, name))]


@described()
def zero_point_left_out(layer: QuantizedLayer) -> IntegerVariants:
    for name in _not_zero(layer):
        yield f"the zero point of {_ZEROS[name]} is left out", _wrong(layer, **{name: 0})


@described()
def asymmetric_read_as_symmetric(layer: QuantizedLayer) -> IntegerVariants:
    own = _not_zero(layer)
    for left in ([name for name in own if name != "output_zero"], own):
        if len(left) > 1:
            words = " and ".join(_ZEROS[name] for name in left)
            yield f"the zero points of {words} are taken for 0", _wrong(layer, **dict.fromkeys(left, 0))


@described()
def zero_point_added(layer: QuantizedLayer) -> IntegerVariants:
    quant = layer.quant
    if quant.input_zero:
        yield "the zero point of x is added", _wrong(layer, x=layer.x.astype(int) + 2 * quant.input_zero)
    if not quant.symmetric:
        weight = layer.weight + 2 * along_outputs(quant.weight_zero, layer.spec)
        yield "the zero point of w is added", _wrong(layer, weight=weight)
    low, high = INTEGERS[quant.output]
    if layer.zero and low <= -layer.zero <= high:
        yield "the zero point of y is subtracted", _wrong(layer, output_zero=-layer.zero)


@described()
def zero_point_subtracted_in_8_bits(layer: QuantizedLayer) -> IntegerVariants:
    zero, (low, high) = layer.quant.input_zero, INTEGERS[layer.quant.input]
    if zero:
        wrapped = (layer.x.astype(int) - zero - low) % (high - low + 1) + low
        yield "x less its zero point wraps around", _wrong(layer, x=wrapped + zero)


@described()
def pads_without_zero_point(layer: QuantizedLayer) -> IntegerVariants:
    zero = layer.quant.input_zero
    if zero and not layer.spec.transposed and layer.spec.padding_mode == "zeros":
        yield f"the pads hold 0, where the zero point {zero} belongs", Integers(layer, pad=-zero)


@described()
def quantised_bias_left_out(layer: QuantizedLayer) -> IntegerVariants:
    if layer.bias is not None and layer.bias.any():
        yield "the bias is left out", _wrong(layer, bias=None)


@described()
def bias_at_another_scale(layer: QuantizedLayer) -> IntegerVariants:
    if layer.bias is None or not layer.bias.any():
        return
    x, w, y = layer.quant.input_scale, np.atleast_1d(layer.quant.weight_scale), layer.quant.output_scale
    own, both = x * w, "the scales of x and w"
    for words, scale in (
        ("the scale of x", x), ("the scale of w", w), ("the scale of y", y), ("scale 1", 1.0),
        (f"{both}, that of channel 0 for every channel", own[0]),
        (f"{both}, the largest for every channel", own.max()), (f"{both}, their mean for every channel", own.mean()),
    ):  # fmt: skip
        bias = layer.bias * (scale / own)
        yield f"the bias has {words}", _wrong(layer, bias=bias)
        yield f"the bias has {words}, rounded", _wrong(layer, bias=np.rint(bias))


@described()
def scales_along_another_axis(layer: QuantizedLayer) -> IntegerVariants:
    spec, scales = layer.spec, np.atleast_1d(layer.quant.weight_scale)
    multiplier = spec.out_channels // spec.groups
    if scales.size > 1 and spec.groups == 1 and spec.in_channels == scales.size:
        axis = 0 if spec.transposed else 1
        kernel = layer.kernel * scales.reshape(*(1,) * axis, -1, *(1,) * (spec.ndim + 1 - axis))
        bias = None if layer.bias is None else layer.bias * scales
        turned = _wrong(layer, weight=kernel, bias=bias, weight_scale=1.0, weight_zero=0)
        yield "the weight's scales are applied along its input channels", turned
    if scales.size > 1 and spec.groups > 1 and multiplier > 1:
        groups = scales.reshape(spec.groups, multiplier)
        yield "every group has the scales of the first group", _scaled(layer, np.tile(groups[0], spec.groups))
        words = "the scales are in the order of the multiplier, then the groups"
        yield words, _scaled(layer, groups.T.reshape(-1))
        yield "all channels of a group have the scale of its first", _scaled(layer, groups[:, 0].repeat(multiplier))


@described()
def scale_left_out(layer: QuantizedLayer) -> IntegerVariants:
    quant = layer.quant
    for name, words in _SCALES.items():
        yield f"the scale of {words} is left out", _wrong(layer, **{name: 1.0})
    for name in ("input_scale", "output_scale"):
        words = f"the scale of {_SCALES[name]} divides where it multiplies, or the reverse"
        yield words, _wrong(layer, **{name: 1 / getattr(quant, name)})
    exchanged = _wrong(layer, input_scale=quant.output_scale, output_scale=quant.input_scale)
    yield "the scales of x and y are exchanged", exchanged
    yield "the scale of x takes the place of that of y", _wrong(layer, output_scale=quant.input_scale)


@described(fitted=True)
def scale_of_another_channel(layer: QuantizedLayer, sums: Array, y: Array) -> IntegerVariants:
    right = np.moveaxis(layer.legal(y, sums), 1, 0).reshape(sums.shape[1], -1).all(1)
    own, factors = np.broadcast_to(layer.scale, right.shape), {}
    for channel in () if layer.exact else np.flatnonzero(~right).tolist():
        factor = _scale_of(layer, sums[:, [channel]], y[:, [channel]], own)
        if factor is None:
            return
        factors[channel] = factor
    if not factors:
        return
    scaled = own.copy()
    scaled[list(factors)] = list(factors.values())
    wrong = _scaled(layer, scaled * layer.quant.output_scale / layer.quant.input_scale)
    sources = {c: np.flatnonzero(own == f).tolist() for c, f in factors.items()}
    shared = set.intersection(*map(set, sources.values()))
    if shared and len(factors) > 1:
        yield f"every wrong channel has the scale of channel {min(shared)}", wrong
        return
    parts = [f"channel {c} has the scale of channel {s[0]}" if (s := sources[c]) else
             f"channel {c} is scaled by {factors[c] / own[c]:.4g} times its scale" for c in factors]  # fmt: skip
    yield "; ".join(parts[:_SHOWN]) + (f"; and {len(parts) - _SHOWN} more" if parts[_SHOWN:] else ""), wrong


def _scale_of(layer: QuantizedLayer, sums: Array, y: Array, own: Array) -> float | None:
    """Return the scale that explains every output of one channel: that of another channel, or one fitted to them."""
    low, high = layer.ends
    inside = (y > low) & (y < high) & (sums != 0)
    fitted = []
    if inside.any():
        largest = np.argmax(np.where(inside, np.abs(sums), -1))
        fitted = [float((y.reshape(-1)[largest] - layer.zero) / sums.reshape(-1)[largest])]
        size = float(np.dot(sums[inside], sums[inside]))
        fitted.append(float(np.dot(y[inside] - layer.zero, sums[inside])) / size)
    ratio = layer.quant.output_scale / layer.quant.input_scale
    for scale in (*own.tolist(), *fitted):
        if scale > 0 and _wrong(layer, weight_scale=scale * ratio).layer.legal(y, sums).all():
            return float(scale)
    return None


@described()
def read_with_the_other_sign(layer: QuantizedLayer) -> IntegerVariants:
    quant = layer.quant
    for data, what in (("x", "input"), ("weight", "weight")):
        own: str = getattr(quant, what)
        if other := _OTHER_SIGN.get(own):
            words = f"{data[0]} is read as {other}, but is {own}"
            read = {data: getattr(layer, data).astype(own).view(other)}
            zero: Any = np.asarray(getattr(quant, f"{what}_zero"), own).view(other).tolist()
            yield words, _wrong(layer, **read)
            yield words, Integers(replace(layer, quant=replace(quant, **{what: other, f"{what}_zero": zero}), **read))
    if not layer.exact and (other := _OTHER_SIGN.get(quant.output)):
        low, high = INTEGERS[other]
        turned = replace(layer, clip=(low, high))
        read_y = partial(_reinterpret, own=quant.output, other=other)
        yield f"y is written as {other}, but is {quant.output}", Integers(turned, read=read_y)


def _reinterpret(values: Array, own: str, other: str) -> Array:
    return np.asarray(values.astype(own).view(other))


@described()
def shifted_by_128(layer: QuantizedLayer) -> IntegerVariants:
    for shift, words in ((128, "up"), (-128, "down")):
        yield f"x is shifted {words} by 128", _wrong(layer, x=layer.x.astype(int) + shift)
        yield f"w is shifted {words} by 128", _wrong(layer, weight=layer.weight.astype(int) + shift)
        if not layer.exact:
            moved = partial(_finish, rule=np.rint, layer=layer, shift=shift)
            yield f"y is shifted {words} by 128", Integers(layer, finish=moved)


def _finish(
    values: Array, rule: Callable[[Array], Array], layer: QuantizedLayer, before: int = 0, shift: int = 0
) -> Array:
    """Return the outputs of a rule of rounding, applied to the values less ``before``; then they are shifted."""
    rounded: Array = rule(values - before) + before + shift
    return np.clip(rounded, *layer.ends)


@described()
def activation_elsewhere(layer: QuantizedLayer) -> IntegerVariants:
    quant, (low, high) = layer.quant, layer.ends
    if quant.activation == "none":
        return
    yield f"{quant.activation} is left out", _wrong(layer, activation="none")
    if layer.zero and high > 0:
        yield f"the ReLU clips at 0, where the zero point {layer.zero} belongs", _wrong(layer, clip=(0.0, high))
    if quant.activation == "relu6":
        ends = {
            "by the scale of x": 6 / quant.input_scale + layer.zero,
            "without a scale": 6.0 + layer.zero,
            "without the zero point": high - layer.zero,
        }
        for words, end in ends.items():
            clip = low, float(np.clip(np.rint(end), low, INTEGERS[quant.output][1]))
            yield f"the 6 of the ReLU6 is quantised {words}", _wrong(layer, clip=clip)


@described()
def clipped_before_scaling(layer: QuantizedLayer) -> IntegerVariants:
    low, high = layer.ends
    for first, last in dict.fromkeys([(low, high), (low - layer.zero, high - layer.zero)]):
        change = partial(np.clip, a_min=first, a_max=last)
        yield f"the sums are clipped to {first:.0f} … {last:.0f} before they are scaled", Integers(layer, change=change)


@described()
def outputs_wrap_around(layer: QuantizedLayer) -> IntegerVariants:
    if not layer.exact:
        words = "outputs beyond the range wrap around, where they must saturate"
        yield words, Integers(layer, finish=lambda v: np.rint(v).astype(np.int64).astype(layer.quant.output))


@described(fitted=True)
def outputs_of_another_range(layer: QuantizedLayer, sums: Array, y: Array) -> IntegerVariants:  # noqa: ARG001
    if y.size and not layer.exact:
        low, high = float(y.min()), float(y.max())
        at_zero = " (the zero point: a ReLU)" if low == layer.zero else ""
        words = f"the outputs are clipped to {low:.0f}{at_zero} … {high:.0f}, where the range is that of "
        yield words + layer.quant.output, _wrong(layer, clip=(low, high))


@described()
def outputs_cut_off(layer: QuantizedLayer) -> IntegerVariants:
    for before, end in ((0, ""), (layer.zero, ", then the zero point is added")) if not layer.exact else ():
        for words, rule in _ROUNDINGS.items():
            finish = partial(_finish, rule=rule, layer=layer, before=before)
            yield f"the {'scaled sums' if end else 'outputs'} are {words}{end}", Integers(layer, finish=finish)


@described()
def pairs_saturate(layer: QuantizedLayer) -> IntegerVariants:
    if (layer.quant.input, layer.quant.weight) == ("uint8", "int8"):
        words = "sums of two products may saturate in 16 bits, as on processors without VNNI: quantise the weights to "
        yield words + "7 bits (reduce_range)", Integers(layer, spread=layer.saturated())


@described()
def sums_overflow(layer: QuantizedLayer) -> IntegerVariants:
    for bits in (16, 24, 32):
        half, words = 2.0 ** (bits - 1), f"the exact sum needs more than {bits} bits"
        yield f"{words}, and wraps around", Integers(layer, change=lambda s, h=half: (s + h) % (2 * h) - h)  # type: ignore[misc]
        yield f"{words}, and saturates", Integers(layer, change=partial(np.clip, a_min=-half, a_max=half - 1))

"""Judge convolutions of integers: the exact sum, the integers that a legal rounding may give, and what is wrong.

An output is v = (x_scale·w_scale / y_scale)·Σ(x - x_zero)(w - w_zero) + y_zero, rounded, and clipped to
the range of its type. A rounding is legal if the result is within half a step of v and the rounding errors of scaling
in float32, or if it is that of a multiplication in fixed point, which rounds twice (gemmlowp, TensorFlow Lite).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.reference.convolution import conv
from convspec.reference.error_bounds import gamma
from convspec.reference.verdict import Verdict
from convspec.spec import ConvParams, ConvSpec

Array: TypeAlias = NDArray[Any]

_ROUNDINGS = 5  # of the scaling in float32: the sum, two for the factor, the product, and the zero point
_SHOWN = 4  # channels in a reason
_HALF_PAIR = 64  # two products of numbers up to 255 with weights of at most this size fit into 16 bits
_OTHER_SIGN = {"uint8": np.int8, "int8": np.uint8}


@dataclass(frozen=True)
class QuantizedLayer:
    """A convolution of integers with its input, all in canonical order.

    Attributes:
        x_zero, w_zero: zero points; None: 0. Those of the weight are one, or one for each index of its first axis.
        bias: at the scale of the sums.
        scale: of one sum in steps of the output, one or one for each output channel; None: the output is the sum.
        zero: the output's zero point.
        low, high: the ends of the outputs, those of the type or of an activation.
        single: the scale as float32 arithmetic gives it, which may differ from the rounded one in the last place.
    """

    spec: ConvSpec
    x: Array
    weight: Array
    x_zero: Array | None
    w_zero: Array | None
    bias: Array | None
    scale: Array | None
    zero: float
    low: float
    high: float
    single: Array | None = None

    def sums(self, pad: float = 0.0) -> Array:
        """Return the exact sums; the pads hold ``pad`` beyond the zero point."""
        return self._sum(_center(self.x, self.x_zero), _center(self.weight, self.w_zero), self.bias, pad)

    def saturated(self) -> tuple[Array, Array]:
        """Return how much may be lost of each sum, and added to it, where two products are added in 16 bits.

        The sum of products x·w of a pair exceeds 2¹⁵ - 1 by at most Σ x·(|w| - 64), as x ≤ 255.
        """
        x, w = self.x.astype(float), self.weight.astype(float)
        pad = 0.0 if self.x_zero is None else float(self.x_zero.reshape(-1)[0])
        lost, added = (self._sum(x, np.maximum(side * w - _HALF_PAIR, 0), None, pad) for side in (1, -1))
        return lost, added

    def _sum(self, x: Array, kernel: Array, bias: Array | None, pad: float) -> Array:
        spec = replace(self.spec.explicit(x.shape), bias=bias is not None)
        if pad and not spec.transposed:  # whose pads crop
            x = np.pad(x, ((0, 0), (0, 0), *spec.padding), constant_values=pad)
            spec = replace(spec, padding=((0, 0),) * spec.ndim)
        return conv(spec, ConvParams(kernel, None if bias is None else bias.astype(float)), x)

    def values(self, sums: Array) -> Array:
        """Return the outputs before rounding and clipping."""
        return sums if self.scale is None else sums * _by_channel(self.scale, sums) + self.zero

    def fits(self, y: Array, sums: Array, lost: Array | float = 0.0, added: Array | float = 0.0) -> Array:
        """Return for each output whether a legal rounding gives it, of the sum or one between sum ± these."""
        ends = self.values(sums - lost), self.values(sums + added)
        if self.scale is None:
            return np.asarray((y >= ends[0]) & (y <= ends[1]))
        error = gamma(_ROUNDINGS, 2.0**-24)
        low, high = (np.clip(v + side * (0.5 + error * (np.abs(v - self.zero) + abs(self.zero))), self.low, self.high)
                     for v, side in zip(ends, (-1, 1), strict=True))  # fmt: skip
        return np.asarray((y >= np.ceil(low)) & (y <= np.floor(high)))  # the clip keeps both ends on the grid

    def legal(self, y: Array, sums: Array) -> Array:
        """Return for each output whether a legal rounding of the sum gives it, that of fixed point included."""
        right = self.fits(y, sums)
        for name in _FIXED_POINT if self.scale is not None else ():
            right = right | (self.rounded(name, sums) == y)
        return right

    def rounded(self, name: str, sums: Array) -> Array:
        """Return the outputs by one of the rules."""
        scale = self.scale if self.single is None or "fixed point" in name else self.single
        assert scale is not None
        return np.clip(RULES[name](sums, _by_channel(scale, sums)) + self.zero, self.low, self.high)


def judge_quantized(layer: QuantizedLayer, y: Array) -> Verdict:
    """Judge the outputs of a layer; the reason says what explains wrong ones, a note in the evidence the rounding."""
    evidence: dict[str, Any] = {"total": int(y.size), "unit": "steps", "bound": 0.0 if layer.scale is None else 0.5}
    if y.shape != (shape := layer.spec.output_shape(layer.x.shape)):
        return Verdict("disagree", f"shape: expected {shape}, got {y.shape}", evidence=evidence)
    sums = layer.sums()
    values = np.clip(layer.values(sums), layer.low, layer.high)
    right = layer.legal(y, sums)
    rules = {name: layer.rounded(name, sums) for name in RULES} if layer.scale is not None else {}
    off = np.where(right, -1, 0) + np.abs(y - values)  # wrong ones first
    at = np.unravel_index(int(np.argmax(np.where(right, off, off + layer.high))), y.shape) if y.size else ()
    evidence |= {"wrong": int(y.size - right.sum()), "worst_q": float(abs(y[at] - values[at])) if y.size else 0.0}
    if right.all():
        return Verdict("agree", evidence=evidence | {"notes": _rounding_note(rules, y)})
    evidence |= {"index": [int(i) for i in at], "got": float(y[at]), "expected": float(values[at])}
    cause = next(_causes(layer, sums, y, right), "")
    what = "no legal rounding of the exact result" if layer.scale is not None else "not the exact sum"
    reason = (f"value: {evidence['wrong']} of {y.size} elements are {what}; at {tuple(evidence['index'])} got "
              f"{evidence['got']:.0f} where {evidence['expected']:.6g} is right")  # fmt: skip
    return Verdict("disagree", f"{reason}: {cause}" if cause else reason, evidence=evidence)


def _center(values: Array, zero: Array | None) -> Array:
    """Return values - zero as float64, which is exact; one zero for all, or one per index of the first axis."""
    wide = values.astype(np.float64)
    return wide if zero is None else np.asarray(wide - zero.astype(np.float64).reshape(-1, *(1,) * (values.ndim - 1)))


def _by_channel(numbers: Array, sums: Array) -> Array:
    return numbers.reshape(-1, *(1,) * (sums.ndim - 2))


# -- rules of rounding -------------------------------------------------------------------------------------------------


def _product(sums: Array, scale: Array) -> Array:
    """Return the product in float32."""
    return np.asarray(sums.astype(np.float32) * scale.astype(np.float32), np.float64)


def _high_product(sums: Array, scale: Array) -> tuple[Array, Array]:
    """Return gemmlowp's rounded high half of the product with a multiplier of 31 bits, and the shift that remains."""
    fraction, exponent = np.frexp(scale)
    multiplier = np.round(fraction * 2.0**31).astype(np.int64)
    product = (sums.astype(np.int64) << np.maximum(exponent, 0)) * multiplier
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.trunc((product + nudge) / 2.0**31), np.maximum(-exponent, 0)


def _away_from_zero(values: Array) -> Array:
    return np.asarray(np.copysign(np.floor(np.abs(values) + 0.5), values))


def _half_up(values: Array) -> Array:
    return np.asarray(np.floor(values + 0.5))


def _fixed_point(finish: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    def rule(sums: Array, scale: Array) -> Array:
        high, shift = _high_product(sums, scale)
        return finish(high / 2.0**shift)

    return rule


def _in_blocks(sums: Array, scale: Array) -> Array:
    """Return what vectors of eight channels round half up, and the channels that are left half away from zero."""
    up, away = (_fixed_point(finish)(sums, scale) for finish in (_half_up, _away_from_zero))
    return np.where(_by_channel(np.arange(sums.shape[1]), sums) < sums.shape[1] // 8 * 8, up, away)


RULES: dict[str, Callable[[Array, Array], Array]] = {
    "half to even": lambda sums, scale: np.rint(_product(sums, scale)),
    "half away from zero": lambda sums, scale: _away_from_zero(_product(sums, scale)),
    "half up": lambda sums, scale: _half_up(_product(sums, scale)),
    "fixed point, half away from zero": _fixed_point(_away_from_zero),
    "fixed point, half up": _fixed_point(_half_up),
    "fixed point, half up in blocks of 8 channels, half away from zero in the rest": _in_blocks,
}
_FIXED_POINT = ("fixed point, half away from zero", "fixed point, half up")
_ILLEGAL = {"rounded towards zero": np.trunc, "rounded down": np.floor, "rounded up": np.ceil}


def _rounding_note(rules: dict[str, Array], y: Array) -> list[dict[str, str]]:
    """Return a note on the rules of which each explains every output; several where no tie decides."""
    if not rules:
        return []
    names = [name for name, outputs in rules.items() if np.array_equal(outputs, y)]
    how = f"every output is rounded {names[0]}" if names else "the outputs follow no single rule of rounding"
    how += f"; no tie tells this from {', '.join(names[1:])}" if names[1:] else ""
    return [{"id": "rounding", "title": how, "level": "info"}]


# -- causes of wrong outputs -------------------------------------------------------------------------------------------


def _causes(layer: QuantizedLayer, sums: Array, y: Array, right: Array) -> Iterator[str]:
    """Yield what explains every output, the simplest first."""
    for words, other, outputs in _other_layers(layer, y):
        if other.legal(outputs, other.sums()).all():
            yield words
    zero = 0.0 if layer.x_zero is None else float(layer.x_zero.reshape(-1)[0])
    if zero and layer.legal(y, layer.sums(pad=-zero)).all():
        yield f"the pads hold 0, where the zero point {zero:.0f} belongs"
    if np.abs(sums).max() >= 2.0**31:
        yield "the exact sum needs more than 32 bits"
    if layer.scale is not None:
        yield from _causes_in_scaling(layer, sums, y, right)
    if layer.x.dtype == np.uint8 and layer.weight.dtype == np.int8 and layer.fits(y, sums, *layer.saturated()).all():
        yield ("sums of two products may saturate in 16 bits, as on processors without VNNI: quantise the weights to 7 "
               "bits (reduce_range)")  # fmt: skip


def _other_layers(layer: QuantizedLayer, y: Array) -> Iterator[tuple[str, QuantizedLayer, Array]]:
    """Yield layers that a mistake makes of this one, and the outputs as the mistake stores them."""
    if layer.x_zero is not None and layer.x_zero.any():
        yield "the zero point of x is left out", replace(layer, x_zero=None), y
    if layer.w_zero is not None and layer.w_zero.any():
        yield "the zero point of w is left out", replace(layer, w_zero=None), y
    if layer.zero:
        yield "the zero point of y is left out", replace(layer, zero=0.0), y
    if layer.bias is not None and layer.bias.any():
        yield "the bias is left out", replace(layer, bias=np.zeros_like(layer.bias)), y
    for data, zero in (("x", "x_zero"), ("weight", "w_zero")):
        array, point = getattr(layer, data), getattr(layer, zero)
        if other := _OTHER_SIGN.get(str(array.dtype)):
            words = f"{data[0]} is read as {np.dtype(other)}, but is {array.dtype}"
            yield words, replace(layer, **{data: array.view(other)}), y
            if point is not None:
                yield words, replace(layer, **{data: array.view(other), zero: point.view(other)}), y
    if layer.scale is not None and (other := _OTHER_SIGN.get(str(y.dtype))):
        info = np.iinfo(other)
        turned = replace(layer, low=float(info.min), high=float(info.max))
        yield f"y is written as {np.dtype(other)}, but is {y.dtype}", turned, y.view(other)


def _causes_in_scaling(layer: QuantizedLayer, sums: Array, y: Array, right: Array) -> Iterator[str]:
    values = layer.values(sums)
    wrapped = np.rint(values).astype(np.int64).astype(y.dtype)
    if np.array_equal(wrapped, y):
        yield "outputs beyond the range wrap around, where they must saturate"
    low, high = float(y.min()), float(y.max())
    if replace(layer, low=low, high=high).legal(y, sums).all():
        at_zero = " (the zero point: a ReLU)" if low == layer.zero else ""
        yield f"the outputs are clipped to {low:.0f}{at_zero} … {high:.0f}, where the range is that of {y.dtype}"
    for words, rule in _ILLEGAL.items():
        if np.array_equal(np.clip(rule(values), layer.low, layer.high), y):
            yield f"the outputs are {words}"
    yield from _other_scales(layer, sums, y, right)


def _other_scales(layer: QuantizedLayer, sums: Array, y: Array, right: Array) -> Iterator[str]:
    """Yield the scales that the wrong channels have instead of their own."""
    assert layer.scale is not None
    channels = sums.shape[1]
    own = np.broadcast_to(layer.scale, (channels,))
    if layer.spec.groups == 1 and layer.scale.size == layer.weight.shape[1] > 1:
        by_input = _center(layer.weight, layer.w_zero) * layer.scale.reshape(1, -1, *(1,) * layer.spec.ndim)
        bias = None if layer.bias is None else layer.bias * layer.scale
        turned = replace(layer, weight=by_input, w_zero=None, bias=bias, scale=np.ones(1))
        if layer.scale.size == channels and turned.legal(y, turned.sums()).all():
            yield "the weight's scales are applied along its input channels, not its output channels"
    factors = {}
    for channel in np.flatnonzero(~np.moveaxis(right, 1, 0).reshape(channels, -1).all(1)).tolist():
        factor = _scale_of(layer, sums[:, [channel]], y[:, [channel]], own)
        if factor is None:
            return
        factors[channel] = factor
    sources = {c: np.flatnonzero(own == f).tolist() for c, f in factors.items()}
    shared = set.intersection(*map(set, sources.values()))
    if shared and len(factors) > 1:
        yield f"every wrong channel has the scale of channel {min(shared)}"
    parts = [f"channel {c} has the scale of channel {s[0]}" if (s := sources[c]) else
             f"channel {c} is scaled by {factors[c] / own[c]:.4g} times its scale" for c in factors]  # fmt: skip
    yield "; ".join(parts[:_SHOWN]) + (f"; and {len(parts) - _SHOWN} more" if parts[_SHOWN:] else "")


def _scale_of(layer: QuantizedLayer, sums: Array, y: Array, own: Array) -> float | None:
    """Return the scale that explains every output of one channel: that of another channel, or one fitted to them."""
    inside = (y > layer.low) & (y < layer.high) & (sums != 0)
    fitted = []
    if inside.any():
        largest = np.argmax(np.where(inside, np.abs(sums), -1))
        fitted = [float((y.reshape(-1)[largest] - layer.zero) / sums.reshape(-1)[largest])]
        size = float(np.dot(sums[inside], sums[inside]))
        fitted.append(float(np.dot(y[inside] - layer.zero, sums[inside])) / size)
    for scale in (*own.tolist(), *fitted):
        if scale > 0 and replace(layer, scale=np.array([scale])).legal(y, sums).all():
            return float(scale)
    return None

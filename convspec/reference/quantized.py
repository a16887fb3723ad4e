"""Judge convolutions of integers: the exact sum, and the integers that a legal rounding may give.

An output is v = (x_scale·w_scale / y_scale)·Σ(x - x_zero)(w - w_zero) + y_zero, rounded, and clipped to the range of
its type or of an activation. A rounding is legal if the result is within half a step of v and the rounding errors of
scaling in float32, or if it is that of a multiplication in fixed point, which rounds twice (gemmlowp, LiteRT). Where a
runtime sums in float32, the errors of its sums are bounded too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.reference.convolution import conv, magnitude
from convspec.reference.error_bounds import gamma, products
from convspec.reference.verdict import Verdict
from convspec.spec import INTEGERS, ConvParams, ConvSpec, QuantSpec

Array: TypeAlias = NDArray[Any]

_ROUNDINGS = 5  # of the scaling in float32: the sum, two for the factor, the product, and the zero point
_DEQUANTIZED = 3  # more roundings in float32 of each term of a sum: of x, w and the output's scale
_FROM_THE_END = 8  # roundings of (x - low) / (high - low) · levels, of numbers up to the width of the range
_HALF_PAIR = 64  # two products of numbers up to 255 with weights of at most this size fit into 16 bits


@dataclass(frozen=True)
class QuantizedLayer:
    """A convolution of integers with its input, all in canonical order.

    Attributes:
        bias: at the scale of the sums.
        clip: the ends of the outputs, where they are not those of ``quant``.
    """

    spec: ConvSpec
    quant: QuantSpec
    x: Array
    weight: Array
    bias: Array | None = None
    clip: tuple[float, float] | None = None

    @cached_property
    def exact(self) -> bool:
        """Whether the output is the sum itself."""
        return self.quant.output == "int32"

    @cached_property
    def scale(self) -> Array:
        """One sum in steps of the output; one number, or one for each output channel."""
        quant, weight = self.quant, np.atleast_1d(self.quant.weight_scale)
        return np.ones(1) if self.exact else quant.input_scale * weight / quant.output_scale

    @cached_property
    def single(self) -> Array:
        """The scale as float32 arithmetic gives it, which may differ from the rounded one in the last place."""
        weight = np.atleast_1d(self.quant.weight_scale).astype(np.float32)
        return np.float32(self.quant.input_scale) * weight / np.float32(self.quant.output_scale)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest output."""
        low, high = self.quant.limits if self.clip is None else self.clip
        return float(low), float(high)

    @property
    def zero(self) -> int:
        """The output's zero point."""
        return 0 if self.exact else self.quant.output_zero

    def sums(self, pad: float = 0.0) -> Array:
        """Return the exact sums; the pads hold ``pad`` beyond the zero point."""
        return self._sum(self.x.astype(float) - self.quant.input_zero, self.kernel, self.bias, pad)

    @property
    def kernel(self) -> Array:
        """The weight less its zero point, which is exact."""
        return np.asarray(self.weight.astype(float) - along_outputs(self.quant.weight_zero, self.spec))

    def size(self) -> Array:
        """Return the sums of the magnitudes of all terms."""
        bias = None if self.bias is None else self.bias.astype(float)
        return magnitude(self.spec, ConvParams(self.kernel, bias), self.x.astype(float) - self.quant.input_zero)

    def saturated(self) -> tuple[Array, Array]:
        """Return how much may be lost of each sum, and added to it, where two products are added in 16 bits.

        The sum of products x·w of a pair exceeds 2¹⁵ - 1 by at most Σ x·(|w| - 64), as x ≤ 255.
        """
        x, w, pad = self.x.astype(float), self.weight.astype(float), float(self.quant.input_zero)
        lost, added = (self._sum(x, np.maximum(side * w - _HALF_PAIR, 0), None, pad) for side in (1, -1))
        return lost, added

    def _sum(self, x: Array, kernel: Array, bias: Array | None, pad: float) -> Array:
        spec = replace(self.spec.explicit(x.shape), bias=bias is not None)
        if pad and not spec.transposed and spec.padding_mode == "zeros":  # transposed: the pads crop
            x = np.pad(x, ((0, 0), (0, 0), *spec.padding), constant_values=pad)
            spec = replace(spec, padding=((0, 0),) * spec.ndim)
        return conv(spec, ConvParams(kernel, None if bias is None else bias.astype(float)), x)

    def values(self, sums: Array) -> Array:
        """Return the outputs before rounding and clipping."""
        return sums * _by_channel(self.scale, sums) + self.zero

    def fits(self, y: Array, sums: Array, lost: Array | float = 0.0, added: Array | float = 0.0) -> Array:
        """Return for each output whether a legal rounding gives it, of the sum or one between sum ± these."""
        ends = self.values(sums - lost), self.values(sums + added)
        if self.exact:
            return np.asarray((y >= ends[0]) & (y <= ends[1]))
        error = gamma(_ROUNDINGS, 2.0**-24)
        low, high = (np.clip(v + side * (0.5 + error * (np.abs(v - self.zero) + abs(self.zero))), *self.ends)
                     for v, side in zip(ends, (-1, 1), strict=True))  # fmt: skip
        return np.asarray((y >= np.ceil(low)) & (y <= np.floor(high)))  # the clip keeps both ends on the grid

    def legal(self, y: Array, sums: Array, spread: Array | float = 0.0) -> Array:
        """Return for each output whether a legal rounding of the sum ± ``spread`` gives it, in fixed point or not."""
        right = self.fits(y, sums, spread, spread)
        for name in () if self.exact else _FIXED_POINT:
            right = right | (self.rounded(name, sums) == y)
        return right

    def float_spread(self) -> Array:
        """Return the largest error of each sum where a runtime convolves dequantised numbers in float32.

        It may then quantise by the distance from the lower end of the range, as a FakeQuantize does.
        """
        low, high = INTEGERS[self.quant.output]
        size = self.size()
        from_end = gamma(_FROM_THE_END, 2.0**-24) * (high - low) / _by_channel(self.scale, size)
        return np.asarray(gamma(products(self.spec) + 1 + _DEQUANTIZED, 2.0**-24) * size + from_end)

    def rounded(self, name: str, sums: Array) -> Array:
        """Return the outputs by one of the rules."""
        scale = self.scale if "fixed point" in name else self.single
        rounded: Array = RULES[name](sums, _by_channel(scale, sums), self.zero) + self.zero
        return np.clip(rounded, *self.ends)

    def rules(self, y: Array, sums: Array) -> tuple[str, ...]:
        """Return the rules of rounding of which each explains every output."""
        return () if self.exact else tuple(name for name in RULES if np.array_equal(self.rounded(name, sums), y))


def judge_quantized(layer: QuantizedLayer, y: Array, *, integer_sums: bool = True) -> Verdict:
    """Judge the outputs of a layer by the exact sum; a note in the evidence names the rounding.

    Where ``integer_sums`` is false, the runtime may have dequantised the numbers and convolved them in float32.
    """
    evidence: dict[str, Any] = {"total": int(y.size), "unit": "steps", "bound": 0.0 if layer.exact else 0.5}
    if y.shape != (shape := layer.spec.output_shape(layer.x.shape)):
        return Verdict("disagree", f"shape: expected {shape}, got {y.shape}", evidence=evidence)
    sums = layer.sums()
    values = np.clip(layer.values(sums), *layer.ends)
    right = layer.legal(y, sums, 0.0 if integer_sums else layer.float_spread())
    off = np.where(right, -1, 0) + np.abs(y - values)  # wrong ones first
    at = np.unravel_index(int(np.argmax(np.where(right, off, off + layer.ends[1]))), y.shape) if y.size else ()
    evidence |= {"wrong": int(y.size - right.sum()), "worst_q": float(abs(y[at] - values[at])) if y.size else 0.0}
    if right.all():
        names = layer.rules(y, sums)
        notes = [] if layer.exact else [{"id": "rounding", "title": rounding_sentence(names), "level": "info"}]
        return Verdict("agree", evidence=evidence | {"notes": notes, "rules": list(names)})
    evidence |= {"index": [int(i) for i in at], "got": float(y[at]), "expected": float(values[at])}
    what = "not the exact sum" if layer.exact else "no legal rounding of the exact result"
    reason = (f"value: {evidence['wrong']} of {y.size} elements are {what}; at {tuple(evidence['index'])} got "
              f"{evidence['got']:.0f} where {evidence['expected']:.6g} is right")  # fmt: skip
    return Verdict("disagree", reason, evidence=evidence)


def rounding_sentence(names: tuple[str, ...]) -> str:
    """Return a sentence on the rules of which each explains every output; several where no tie decides."""
    how = f"every output is rounded {names[0]}" if names else "the outputs follow no single rule of rounding"
    return how + (f"; no tie tells this from {', '.join(names[1:])}" if names[1:] else "")


def along_outputs(numbers: float | tuple[float, ...] | Array, spec: ConvSpec) -> Array:
    """Return one number, or one for each output channel, to be broadcast over a canonical kernel."""
    each = np.atleast_1d(numbers).astype(float)
    if each.size == 1 or not spec.transposed:
        return each.reshape(-1, *(1,) * (spec.ndim + 1))
    rows = each.reshape(spec.groups, -1)
    rows = rows if spec.groups == 1 else rows.repeat(spec.in_channels // spec.groups, axis=0)
    return rows.reshape(*rows.shape, *(1,) * spec.ndim)


def rounding_slack(scale: float) -> Fraction:
    """Return how far beyond half a step a legal rounding of sum · scale + zero may be, for results of 8 bits.

    One multiplication in float32 errs by at most 2⁻¹⁴. Fixed-point arithmetic rounds twice: with scale = f·2⁻ʳ, f in
    [½, 1), it errs by 2⁻⁽ʳ⁺¹⁾ in its first rounding, and by 2⁻²² as its multiplier has 31 bits.
    """
    shift = -math.frexp(scale)[1]
    return max(Fraction(1, 2**14), Fraction(1, 2 ** (shift + 1)) + Fraction(1, 2**22))


def _by_channel(numbers: Array, sums: Array) -> Array:
    return numbers.reshape(-1, *(1,) * (sums.ndim - 2))


# -- rules of rounding -------------------------------------------------------------------------------------------------


def _product(sums: Array, scale: Array) -> Array:
    """Return the product in float32."""
    return np.asarray(sums.astype(np.float32) * scale.astype(np.float32), np.float64)


def _multiplier(scale: Array) -> tuple[Array, Array]:
    """Return the scale as a multiplier of 31 bits and an exponent of two."""
    fraction, exponent = np.frexp(scale)
    return np.round(fraction * 2.0**31).astype(np.int64), exponent


def _away_from_zero(values: Array) -> Array:
    return np.asarray(np.copysign(np.floor(np.abs(values) + 0.5), values))


def _half_up(values: Array) -> Array:
    return np.asarray(np.floor(values + 0.5))


def _fixed_point(finish: Callable[[Array], Array]) -> Callable[..., Array]:
    """Return gemmlowp's rule: the rounded high half of the product, then a shift that rounds again."""

    def rule(sums: Array, scale: Array, _: int = 0) -> Array:
        multiplier, exponent = _multiplier(scale)
        product = (sums.astype(np.int64) << np.maximum(exponent, 0)) * multiplier
        nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
        return finish(np.trunc((product + nudge) / 2.0**31) / 2.0 ** np.maximum(-exponent, 0))

    return rule


def _single_rounding(sums: Array, scale: Array, _: int = 0) -> Array:
    """Return the product in fixed point, shifted once, half up."""
    multiplier, exponent = _multiplier(scale)
    shift = np.clip(31 - exponent, 1, 62)
    return np.asarray((sums.astype(np.int64) * multiplier + (np.int64(1) << (shift - 1))) >> shift, np.float64)


def _in_blocks(sums: Array, scale: Array, _: int = 0) -> Array:
    """Return what vectors of eight channels round half up, and the channels that are left half away from zero."""
    up, away = (_fixed_point(finish)(sums, scale) for finish in (_half_up, _away_from_zero))
    return np.where(_by_channel(np.arange(sums.shape[1]), sums) < sums.shape[1] // 8 * 8, up, away)


# of sums, scales and the output's zero point: the rounded products, to which the zero point is to be added
RULES: dict[str, Callable[..., Array]] = {
    "half to even": lambda sums, scale, _=0: np.rint(_product(sums, scale)),
    "half away from zero": lambda sums, scale, _=0: _away_from_zero(_product(sums, scale)),
    "half up": lambda sums, scale, _=0: _half_up(_product(sums, scale)),
    "half to even, with the zero point": lambda sums, scale, zero=0: np.rint(sums * scale.astype(float) + zero) - zero,
    "fixed point, half away from zero": _fixed_point(_away_from_zero),
    "fixed point, half up": _fixed_point(_half_up),
    "fixed point, half up in blocks of 8 channels, half away from zero in the rest": _in_blocks,
    "fixed point in one rounding, half up": _single_rounding,
}
_FIXED_POINT = ("fixed point, half away from zero", "fixed point, half up")

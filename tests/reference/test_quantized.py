"""The exact sum, the legal roundings of it, and the rules: compared with fractions and loops over taps."""

import math
from fractions import Fraction

import numpy as np
import pytest

from convspec import ConvSpec, QuantSpec
from convspec.corpora import QUANTIZED_KINDS
from convspec.corpora.quantized import draw_quantized
from convspec.reference.quantized import RULES, QuantizedLayer, judge_quantized, rounding_slack

SPECS = {
    "plain": (ConvSpec(2, 3, (3, 2), (2, 1), ((1, 0), (0, 1)), (1, 2)), (2, 2, 7, 6)),
    "grouped": (ConvSpec(4, 6, (2, 3), padding=1, groups=2, bias=False), (1, 4, 5, 6)),
    "transposed": (ConvSpec(4, 6, (3, 2), (2, 1), ((1, 0), (0, 1)), groups=2, transposed=True), (2, 4, 3, 4)),
}


def drawn(name, kind, seed):
    spec, shape = SPECS[name]
    quant, params, x = draw_quantized(spec, shape, kind, seed)
    return QuantizedLayer(spec, quant, x, params.kernel, params.bias)


def per_channel_zeros(layer):
    zeros = tuple(range(3, 3 + layer.spec.out_channels))
    quant = QuantSpec("uint8", "uint8", "uint8", 0.5, 0.25, 40.0, 9, zeros, 100)
    rng = np.random.default_rng(0)
    x, weight = (rng.integers(0, 256, array.shape).astype("uint8") for array in (layer.x, layer.weight))
    return QuantizedLayer(layer.spec, quant, x, weight, layer.bias)


def sum_at(layer, n, o, place):
    """One sum by its definition, in Python's integers."""
    spec, quant = layer.spec, layer.quant
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    zero = quant.weight_zero[o] if isinstance(quant.weight_zero, tuple) else quant.weight_zero
    total = 0 if layer.bias is None else int(layer.bias[o])
    for c in range(o // per_out * per_in, (o // per_out + 1) * per_in):
        for tap in np.ndindex(*spec.kernel_size):
            at = []
            for axis, (i, t) in enumerate(zip(place, tap, strict=True)):
                lo, s, d = spec.padding[axis][0], spec.stride[axis], spec.dilation[axis]
                position = i + lo - t * d if spec.transposed else i * s - lo + t * d
                if spec.transposed:
                    position = position // s if position % s == 0 else -1
                at.append(position)
            if all(0 <= p < size for p, size in zip(at, layer.x.shape[2:], strict=True)):
                w = layer.weight[(c, o % per_out, *tap)] if spec.transposed else layer.weight[(o, c % per_in, *tap)]
                total += (int(layer.x[(n, c, *at)]) - quant.input_zero) * (int(w) - zero)
    return total


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("kind", QUANTIZED_KINDS)
def test_sums_are_exact(name, kind):
    layer = drawn(name, kind, 1)
    for own in (layer, per_channel_zeros(layer)):
        sums = own.sums()
        rng = np.random.default_rng(0)
        for _ in range(20):
            n, o, *place = (int(rng.integers(size)) for size in sums.shape)
            assert sums[(n, o, *place)] == sum_at(own, n, o, place)


def fractions(layer, sums):
    """Each output before rounding, without any error."""
    quant = layer.quant
    scales = np.broadcast_to(np.atleast_1d(quant.weight_scale), (sums.shape[1],))
    factors = [Fraction(quant.input_scale) * Fraction(s) / Fraction(quant.output_scale) for s in scales.tolist()]
    return {index: Fraction(int(value)) * factors[index[1]] for index, value in np.ndenumerate(sums)}, factors


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", QUANTIZED_KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_every_rule_is_legal_and_within_the_slack(rule, kind, seed):
    layer = drawn("plain", kind, seed)
    sums = layer.sums()
    y = layer.rounded(rule, sums)
    assert layer.legal(y, sums).all()
    assert rule in layer.rules(y, sums)
    values, factors = fractions(layer, sums)
    low, high = layer.ends
    for index, value in values.items():
        if low < y[index] < high:
            reach = Fraction(1, 2) + rounding_slack(float(factors[index[1]])) + Fraction(1, 2**13)
            assert abs(int(y[index]) - layer.zero - value) <= reach


@pytest.mark.parametrize("kind", QUANTIZED_KINDS)
def test_the_set_has_two_integers_only_near_the_middle(kind):
    layer = drawn("plain", kind, 1)
    sums = layer.sums()
    low, high = layer.ends
    values, factors = fractions(layer, sums)
    several = 0
    for step in (-1, 0, 1, 2):
        y = np.array([math.floor(value) + step for value in values.values()], float).reshape(sums.shape) + layer.zero
        inside, legal = (y > low) & (y < high), layer.legal(np.clip(y, low, high), sums)
        for index, value in values.items():
            if inside[index] and legal[index]:
                distance = abs(value - (math.floor(value) + step))
                assert distance <= Fraction(1, 2) + rounding_slack(float(factors[index[1]])) + Fraction(1, 2**13)
                several += distance > Fraction(1, 2)
    assert several <= sums.size // 20


def test_each_tie_breaking_rule_is_told_from_the_others():
    """Sums that meet every tie, by a scale of 1/4, and outputs on both sides of the zero point."""
    quant = QuantSpec("int8", "int8", "int8", 0.5, 0.5, 1.0, output_zero=3)
    x = np.arange(-127, 128, dtype=np.int8).reshape(1, 1, 1, -1)
    weight = np.ones((9, 1, 1, 1), np.int8)
    layer = QuantizedLayer(ConvSpec(1, 9, 1, bias=False), quant, x, weight)
    sums = layer.sums()
    found = {rule: layer.rules(layer.rounded(rule, sums), sums) for rule in RULES}
    assert found["half to even"] == ("half to even",)
    assert found["half to even, with the zero point"] == ("half to even, with the zero point",)
    assert found["half up"] == ("half up", "fixed point in one rounding, half up")
    assert found["fixed point, half up"] == ("fixed point, half up",)
    blocks = "fixed point, half up in blocks of 8 channels, half away from zero in the rest"
    assert found[blocks] == (blocks,)


@pytest.mark.parametrize("step", [-1, 1])
def test_one_step_beside_is_illegal(step):
    layer = drawn("plain", "int8", 1)
    sums = layer.sums()
    y = layer.rounded("half to even", sums)
    place = tuple(np.argwhere((np.abs(y) < 100) & (np.abs(layer.values(sums) - y) < 0.3))[3])
    y[place] += step
    verdict = judge_quantized(layer, y)
    assert verdict.verdict == "disagree"
    assert (verdict.evidence["wrong"], tuple(verdict.evidence["index"])) == (1, place)


def test_sums_in_float32_may_err_as_far_as_they_round():
    """A layer whose outputs lie just beside a tie: legal for dequantised sums, not for integers."""
    quant = QuantSpec("int8", "int8", "int8", 1.0, 1.0, 2.0)
    x = np.full((1, 64, 1, 1), 127, np.int8)
    weight = np.where(np.arange(64) % 2, -127, 127).astype(np.int8).reshape(1, 64, 1, 1)
    layer = QuantizedLayer(ConvSpec(64, 1, 1), quant, x, weight, np.array([21]))
    sums = layer.sums()
    assert sums.reshape(-1) == [21]
    reach = float(layer.float_spread().reshape(-1)[0])
    assert 0 < reach < 8
    far = np.full(sums.shape, 14.0)
    assert not layer.legal(far, sums).any()
    assert layer.legal(far, sums, 8).all()
    assert judge_quantized(layer, np.full(sums.shape, 10.0), integer_sums=False).verdict == "agree"
    assert judge_quantized(layer, far, integer_sums=False).verdict == "disagree"


def test_an_output_of_32_bits_is_the_sum():
    layer = drawn("grouped", "int8", 0)
    exact = QuantizedLayer(layer.spec, QuantSpec(output="int32", input_zero=4), layer.x, layer.weight, layer.bias)
    sums = exact.sums()
    assert judge_quantized(exact, sums.astype(np.int32)).verdict == "agree"
    assert judge_quantized(exact, sums.astype(np.int32) + 1).evidence["wrong"] == sums.size

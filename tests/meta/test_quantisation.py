"""Mistakes of quantisation are planted in integers, independently of the catalogue, and named first."""

import itertools

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, diagnose, reference
from convspec.corpora.quantized import draw_quantized
from convspec.diagnosis import catalogue
from convspec.diagnosis.mistakes.catalogue import INTEGER_THEMES
from convspec.reference.quantized import RULES, QuantizedLayer

PLAIN = ConvSpec(4, 4, (3, 2), (2, 1), ((1, 0), (1, 1)))
TRANSPOSED = ConvSpec(4, 4, 3, 2, 1, transposed=True)
DEPTHWISE = ConvSpec(3, 6, 3, padding=1, groups=3)
SHAPES = {PLAIN: (2, 4, 9, 8), TRANSPOSED: (2, 4, 5, 6), DEPTHWISE: (2, 3, 9, 8)}


class Runtime:
    """A quantised layer by its formula, with a switch for each part that a mistake changes."""

    def __init__(self, spec=PLAIN, kind="uint8_asymmetric", seed=1):
        self.spec = spec
        self.quant, self.params, self.x = draw_quantized(spec, SHAPES[spec], kind, seed)
        one = {"x": self.quant.input_zero, "w": self.quant.weight_zero, "y": self.quant.output_zero}
        self.zeros = {name: int(zero) for name, zero in one.items()}
        self.scales = {
            "x": self.quant.input_scale,
            "w": np.atleast_1d(self.quant.weight_scale),
            "y": self.quant.output_scale,
        }
        self.low, self.high = self.quant.limits

    def sums(self, x=None, w=None, bias=None, pad=0.0):
        x = self.x.astype(float) - self.zeros["x"] if x is None else x
        w = self.params.kernel.astype(float) - self.zeros["w"] if w is None else w
        bias = self.params.bias.astype(float) if bias is None else bias
        if self.spec.transposed:
            return reference.conv(self.spec, ConvParams(w, bias), x)
        x = np.pad(x, ((0, 0), (0, 0), *self.spec.padding), constant_values=pad)
        plain = ConvSpec(self.spec.in_channels, self.spec.out_channels, self.spec.kernel_size, self.spec.stride,
                         groups=self.spec.groups)  # fmt: skip
        return reference.conv(plain, ConvParams(w, bias), x)

    def factor(self, x=None, w=None, y=None):
        own = {"x": x, "w": w, "y": y}
        s = {name: self.scales[name] if value is None else value for name, value in own.items()}
        return s["x"] * np.asarray(s["w"]).reshape(-1, 1, 1) / s["y"]

    def outputs(self, sums=None, factor=None, zero=None, low=None, high=None, rule=np.rint):
        values = (self.sums() if sums is None else sums) * (self.factor() if factor is None else factor)
        values = rule(values) + (self.zeros["y"] if zero is None else zero)
        return np.clip(values, self.low if low is None else low, self.high if high is None else high)


def plants():
    one, int8, relu = Runtime(), Runtime(kind="int8"), Runtime(kind="int8_relu")
    turned, deep, signed = Runtime(TRANSPOSED, "int8"), Runtime(DEPTHWISE, "int8"), Runtime(kind="uint8")
    x, w, b = one.x.astype(float), one.params.kernel.astype(float), one.params.bias
    z = one.zeros
    yield "zero-point-left-out", one, one.outputs(one.sums(x=x))
    yield "zero-point-left-out", one, one.outputs(one.sums(w=w))
    yield "zero-point-left-out", int8, int8.outputs(zero=0)
    yield "asymmetric-read-as-symmetric", one, one.outputs(one.sums(x=x, w=w))
    yield "asymmetric-read-as-symmetric", one, one.outputs(one.sums(x=x, w=w), zero=0)
    yield "zero-point-added", one, one.outputs(one.sums(x=x + z["x"]))
    yield "zero-point-added", one, one.outputs(one.sums(w=w + z["w"]))
    yield "zero-point-added", int8, int8.outputs(zero=-int8.zeros["y"])
    wrapped = (int8.x - np.int8(int8.zeros["x"])).astype(float)
    yield "zero-point-subtracted-in-8-bits", int8, int8.outputs(int8.sums(x=wrapped))
    yield "pads-without-zero-point", one, one.outputs(one.sums(pad=-z["x"]))
    yield "quantised-bias-left-out", one, one.outputs(one.sums(bias=b * 0.0))
    own = int8.scales["x"] * int8.scales["w"]
    for wrong in (int8.scales["x"], int8.scales["w"], int8.scales["y"], own[0], own.max()):
        yield "bias-at-another-scale", int8, int8.outputs(int8.sums(bias=np.rint(int8.params.bias * (wrong / own))))
    scales = turned.scales["w"]
    kernel, bias = turned.params.kernel * scales.reshape(-1, 1, 1, 1), turned.params.bias * scales
    yield "scales-along-another-axis", turned, turned.outputs(turned.sums(w=kernel, bias=bias), turned.factor(w=1.0))
    scales = int8.scales["w"]
    kernel, bias = int8.params.kernel * scales.reshape(1, -1, 1, 1), int8.params.bias * scales
    yield "scales-along-another-axis", int8, int8.outputs(int8.sums(w=kernel, bias=bias), int8.factor(w=1.0))
    for wrong in (
        deep.scales["w"][[0, 1] * 3],
        deep.scales["w"].reshape(3, 2).T.reshape(-1),
        deep.scales["w"][[0, 0, 2, 2, 4, 4]],
    ):
        yield "scales-along-another-axis", deep, deep.outputs(factor=deep.factor(w=wrong))
    for order in ([1, 2, 3, 0], [0, 1, 1, 3], [2, 2, 2, 2]):
        yield "scale-of-another-channel", int8, int8.outputs(factor=int8.factor(w=int8.scales["w"][order]))
    yield "scale-left-out", one, one.outputs(factor=one.factor(y=1.0))
    yield "scale-left-out", one, one.outputs(factor=one.factor(x=one.scales["y"], y=one.scales["x"]))
    yield "scale-left-out", one, one.outputs(factor=one.factor(y=1 / one.scales["y"]))
    yield "read-with-the-other-sign", one, one.outputs(one.sums(x=one.x.view(np.int8) - float(z["x"])))
    yield (
        "read-with-the-other-sign",
        signed,
        signed.outputs(signed.sums(w=signed.params.kernel.view(np.uint8).astype(float))),
    )
    yield "read-with-the-other-sign", int8, int8.outputs(low=0, high=255).astype(np.uint8).view(np.int8)
    yield "shifted-by-128", one, one.outputs(one.sums(x=x - z["x"] - 128))
    yield "shifted-by-128", signed, signed.outputs(signed.sums(w=signed.params.kernel.astype(float) + 128))
    yield "shifted-by-128", one, one.outputs(zero=z["y"] - 128)
    yield "activation-elsewhere", relu, relu.outputs(low=-128)
    yield "activation-elsewhere", relu, relu.outputs(low=0)
    yield "clipped-before-scaling", int8, int8.outputs(np.clip(int8.sums(), -128, 127))
    yield "clipped-before-scaling", one, one.outputs(np.clip(one.sums(), -z["y"], 255 - z["y"]))
    yield "outputs-wrap-around", int8, int8.outputs(low=-9e9, high=9e9).astype(np.int64).astype(np.int8)
    yield "outputs-of-another-range", int8, int8.outputs(low=-100, high=100)
    for rule in (np.trunc, np.floor, np.ceil):
        yield "outputs-cut-off", int8, int8.outputs(rule=rule)
    yield "sums-overflow", int8, int8.outputs((int8.sums() + 2**15) % 2**16 - 2**15)
    yield "sums-overflow", int8, int8.outputs(np.clip(int8.sums(), -(2**15), 2**15 - 1))
    yield "kernel-flipped", int8, int8.outputs(int8.sums(w=int8.params.kernel[:, :, ::-1, ::-1].astype(float)))
    yield (
        "kernel-height-and-width-exchanged",
        turned,
        turned.outputs(turned.sums(w=turned.params.kernel.swapaxes(2, 3) * 1.0)),
    )


PLANTS = list(plants())


@pytest.mark.parametrize(("name", "runtime", "y"), PLANTS, ids=[f"{n}-{p[0]}" for n, p in enumerate(PLANTS)])
def test_each_mistake_is_named_first(name, runtime, y):
    found = diagnose(runtime.spec, runtime.params, runtime.x, y.astype(runtime.quant.output), quant=runtime.quant)
    assert not found.agrees
    assert [finding.id for finding in found][:1] == [name], [f.what for f in found]
    assert str(found)
    assert found.to_dict()["findings"][0]["id"] == name


def test_every_mistake_is_planted():
    saturates = {"pairs-saturate"}  # a bound: planted with a node of ONNX
    names = {kind.id for kind in catalogue(integers=True)}
    assert names - saturates == {name for name, *_ in PLANTS} & names
    assert {kind.theme for kind in catalogue(integers=True)} == set(INTEGER_THEMES)
    assert len(PLANTS) >= 40


@pytest.mark.parametrize("spec", SHAPES)
@pytest.mark.parametrize("kind", ["int8", "int8_per_tensor", "int8_relu", "uint8", "uint8_asymmetric"])
def test_right_integers_have_no_finding_by_any_rule(spec, kind):
    for seed, rule in itertools.product(range(2), RULES):
        quant, params, x = draw_quantized(spec, SHAPES[spec], kind, seed)
        layer = QuantizedLayer(spec, quant, x, params.kernel, params.bias)
        y = layer.rounded(rule, layer.sums()).astype(quant.output)
        assert diagnose(spec, params, x, y, quant=quant).agrees


def test_numbers_of_no_mistake_have_no_finding():
    runtime = Runtime()
    y = np.random.default_rng(0).integers(0, 256, runtime.outputs().shape).astype(np.uint8)
    found = diagnose(runtime.spec, runtime.params, runtime.x, y, quant=runtime.quant)
    assert not found.agrees
    assert not found

"""Outputs with a wrong scale or shift: normalisation folded, forgotten, or applied twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from convspec.diagnosis.faulty_layer import Array, Layer, Variants, derive
from convspec.diagnosis.mistakes.catalogue import described
from convspec.reference import products
from convspec.spec import ConvParams

_ENOUGH = 8  # outputs per channel: with fewer, a fit of two numbers proves nothing


_RANGES: dict[str, Callable[[Array], Array]] = {
    "divided by 255": lambda x: x / 255, "multiplied by 255": lambda x: x * 255,
    "converted from 0…1 to -1…1": lambda x: x * 2 - 1, "converted from 0…255 to -1…1": lambda x: x / 127.5 - 1,
    "converted from -1…1 to 0…1": lambda x: (x + 1) / 2,
}  # fmt: skip


@described()
def input_scaled(layer: Layer) -> Variants:
    for what, change in _RANGES.items():
        yield f"the input {what}", replace(layer, x=derive(layer.x, change))


def _rescale(layer: Layer, scale: Array, shift: Array) -> Layer:
    """Return the layer with its output channels multiplied and shifted, ``(O,)`` each."""
    spec, kernel = layer.spec, layer.params.kernel
    if spec.transposed:
        per = scale.reshape(spec.groups, -1).repeat(spec.in_channels // spec.groups, axis=0)
        scaled = kernel * per.reshape(*kernel.shape[:2], *(1,) * spec.ndim)
    else:
        scaled = kernel * scale.reshape(-1, *(1,) * (kernel.ndim - 1))
    bias = np.zeros_like(scale) if layer.params.bias is None else layer.params.bias
    return replace(layer.respec(bias=True), params=ConvParams(scaled, bias * scale + shift))


@described(fitted=True)
def convolution_scaled(layer: Layer, output: Array, actual: Array) -> Variants:
    bias = layer.params.bias
    shift = 0.0 if bias is None else bias.reshape(-1, *(1,) * layer.spec.ndim)
    pure, seen = (output - shift).reshape(-1), (actual - shift).reshape(-1)
    power = float(pure @ pure)
    if pure.size < _ENOUGH or not np.isfinite(power) or power == 0 or not np.isfinite(seen).all():
        return
    a = float(pure @ seen) / power
    yield f"the convolution times {a:.6g}, the bias unchanged", layer.with_kernel(layer.params.kernel * a)
    if bias is not None:
        b = float(output.reshape(-1) @ actual.reshape(-1)) / float((output**2).sum())
        yield f"the output times {b:.6g}", layer.with_kernel(layer.params.kernel * b).with_bias(bias * b)


@described(fitted=True)
def bias_of_another_value(layer: Layer, output: Array, actual: Array) -> Variants:
    if output[:, 0].size >= _ENOUGH and np.isfinite(actual).all():
        axes = (0, *range(2, output.ndim))
        shift = np.mean(actual - output, axis=axes)
        words = f"channels off by {shift.min():.4g} … {shift.max():.4g}"
        yield words, _rescale(layer, np.ones_like(shift), shift)


@described(fitted=True)
def batch_norm_on_one_side(layer: Layer, output: Array, actual: Array) -> Variants:
    if products(layer.spec) == 1:
        return  # one weight per output: a factor is any other weight
    if output[:, 0].size < _ENOUGH or not np.isfinite(actual).all() or not np.isfinite(output).all():
        return
    y, seen = (np.moveaxis(a, 1, 0).reshape(a.shape[1], -1) for a in (output, actual))
    centred = y - y.mean(1, keepdims=True)
    power = (centred**2).sum(1)
    scale = np.where(power > 0, (centred * seen).sum(1) / np.where(power > 0, power, 1.0), 1.0)
    shift = seen.mean(1) - scale * y.mean(1)
    scaled, shifted = (f"{a.min():.4g} … {a.max():.4g}" for a in (scale, shift))
    yield f"channels scaled by {scaled}, shifted by {shifted}", _rescale(layer, scale, shift)

"""Computation that is coarser than the numbers' own format."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from convspec.diagnosis.faulty_layer import Array, Layer, Variants, derive
from convspec.diagnosis.mistakes.catalogue import described
from convspec.reference import STATISTICAL_MINIMUM
from convspec.spec import ComputePrecision, ConvParams, format_of, rounded


def _truncate(values: Array, name: str) -> Array:
    """Truncate ``values`` to the digits of the format, as some hardware does."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    mask = np.uint32(0xFFFFFFFF ^ ((1 << (24 - format_of(name).digits)) - 1))
    return (bits & mask).view(np.float32).astype(np.float64)


def _round(values: Array, name: str) -> Array:
    return np.asarray(rounded(values, name), np.float64)


def _flush(values: Array, least: float) -> Array:
    return np.where(np.abs(values) < least, 0.0, values)


def _coarse_inputs(layer: Layer, name: str) -> Variants:
    kernel, bias = layer.params.kernel, layer.params.bias
    whole = derive(kernel, _round, name)
    coarse = replace(layer, x=derive(layer.x, _round, name), params=ConvParams(whole, bias))
    yield f"input and kernel rounded to {name}", coarse
    if name != "float16":
        params = ConvParams(derive(kernel, _truncate, name), bias)
        yield f"input and kernel truncated to {name}", replace(layer, x=derive(layer.x, _truncate, name), params=params)
    if bias is not None:
        params = ConvParams(whole, _round(bias, name))
        yield f"input, kernel and bias rounded to {name}", replace(coarse, params=params)


@described()
def tf32_inputs(layer: Layer) -> Variants:
    yield from _coarse_inputs(layer, "tf32")


@described()
def bfloat16_inputs(layer: Layer) -> Variants:
    yield from _coarse_inputs(layer, "bfloat16")


@described()
def float16_inputs(layer: Layer) -> Variants:
    yield from _coarse_inputs(layer, "float16")


@described()
def weights_rounded(layer: Layer) -> Variants:
    kernel, bias = layer.params.kernel, layer.params.bias
    for name in ("float16", "bfloat16", "tf32"):
        coarse = layer.with_kernel(derive(kernel, _round, name))
        yield f"the kernel rounded to {name}", coarse
        if bias is not None:
            yield f"kernel and bias rounded to {name}", coarse.with_bias(_round(bias, name))


@described()
def weights_quantised(layer: Layer) -> Variants:
    kernel = layer.params.kernel
    for what, axes in (
        ("one scale", tuple(range(kernel.ndim))),
        ("a scale for each index of the first axis", tuple(range(1, kernel.ndim))),
        ("a scale for each index of the second axis", (0, *range(2, kernel.ndim))),
    ):
        scale = np.max(np.abs(kernel), axis=axes, keepdims=True, initial=0.0) / 127
        safe = np.where(scale > 0, scale, 1.0)
        yield f"the kernel in int8, {what}", layer.with_kernel(np.rint(kernel / safe) * safe)


@described()
def output_rounded(layer: Layer) -> Variants:
    for name in ("float16", "bfloat16"):
        yield f"the output rounded to {name}", replace(layer, finish=partial(_round, name=name))


@described()
def subnormals_flushed(layer: Layer) -> Variants:
    for name in ("float32", "float16"):
        least = format_of(name).smallest_normal
        x, kernel = (derive(a, _flush, least) for a in (layer.x, layer.params.kernel))
        wrong = replace(layer.with_kernel(kernel), x=x)
        yield f"numbers below {least:.2g}, subnormal in {name}, flushed to zero", wrong


@described(fitted=True)
def coarse_accumulation(layer: Layer, output: Array, actual: Array) -> Variants:
    # the bound is so wide that much would fit it: the statistics have to decide, and the format of the numbers
    if output.size >= STATISTICAL_MINIMUM and np.isfinite(actual).all():
        for name in ("float16", "bfloat16"):
            if np.array_equal(_round(actual, name), actual):
                yield f"the sums in {name}", replace(layer, dtype=name, arithmetic=ComputePrecision(name))

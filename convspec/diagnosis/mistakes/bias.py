"""Mistakes with the bias."""

from __future__ import annotations

import numpy as np

from convspec.diagnosis.faulty_layer import Layer, Variants
from convspec.diagnosis.mistakes.catalogue import described
from convspec.spec import layouts


@described()
def bias_dropped(layer: Layer) -> Variants:
    if layer.params.bias is not None:
        yield "no bias", layer.with_bias(None)


@described()
def bias_added_twice(layer: Layer) -> Variants:
    if layer.params.bias is not None:
        yield "twice the bias", layer.with_bias(2 * layer.params.bias)


@described()
def bias_along_another_axis(layer: Layer) -> Variants:
    bias = layer.params.bias
    if bias is None:
        return
    shape = layer.output_shape
    for axis, letter in enumerate(layouts.spatial_letters(layer.spec.ndim), start=2):
        if shape[axis] == len(bias):
            along = bias.reshape(-1, *(1,) * (len(shape) - 1 - axis))
            yield f"the bias along {letter}", layer.with_bias(None).add(along)
    if shape[0] == len(bias):
        yield "the bias along the batch", layer.with_bias(None).add(bias.reshape(-1, *(1,) * (len(shape) - 1)))


@described()
def bias_in_another_order(layer: Layer) -> Variants:
    bias, g = layer.params.bias, layer.spec.groups
    if bias is None:
        return
    yield "the bias from last to first", layer.with_bias(bias[::-1])
    if g > 1:
        yield "the bias interleaved by groups", layer.with_bias(bias.reshape(g, -1).T.reshape(-1))
        yield "the bias de-interleaved by groups", layer.with_bias(bias.reshape(-1, g).T.reshape(-1))
        for by in range(1, min(g, 16)):
            moved = np.roll(bias.reshape(g, -1), by, axis=0).reshape(-1)
            yield f"the bias's groups moved by {by}", layer.with_bias(moved)


@described()
def bias_per_group(layer: Layer) -> Variants:
    bias, g = layer.params.bias, layer.spec.groups
    if bias is None or g == 1:
        return
    yield "the first group's bias for all", layer.with_bias(np.tile(bias[: len(bias) // g], g))
    yield "one number per group", layer.with_bias(np.repeat(bias[:g], len(bias) // g))


@described()
def first_bias_for_all(layer: Layer) -> Variants:
    bias = layer.params.bias
    if bias is not None and len(bias) > 1:
        yield "the first number of the bias for all", layer.with_bias(np.full_like(bias, bias[0]))


@described()
def bias_subtracted(layer: Layer) -> Variants:
    if layer.params.bias is not None:
        yield "minus the bias", layer.with_bias(-layer.params.bias)

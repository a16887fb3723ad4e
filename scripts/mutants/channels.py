"""Faults of channels, groups, bias, batch and number formats."""

from __future__ import annotations

import numpy as np

from convspec.spec import ConvParams, rounded
from mutants.engine import Layer
from mutants.mutant import Array, Family

mutant = Family()
MUTANTS = mutant.mutants


def _sizes(layer: Layer) -> tuple[int, int, int]:
    """Groups, and channels in and out of each."""
    g = layer.spec.groups
    return g, layer.spec.in_channels // g, layer.spec.out_channels // g


def _regrouped(layer: Layer, start: list[int]) -> Layer:
    """The layer whose group g reads the channels from ``start[g]`` on."""
    g, inputs, outputs = _sizes(layer)
    changed = np.zeros_like(layer.weights)
    for i in range(g):
        rows = slice(i * outputs, (i + 1) * outputs)
        for c in range(inputs):
            changed[rows, (start[i] + c) % layer.spec.in_channels] = layer.weights[rows, i * inputs + c]
    layer.weights = changed
    return layer


@mutant("a group's channels are found with the number of outputs, not of inputs")
def group_offset_of_outputs(layer: Layer) -> Layer:
    g, _, outputs = _sizes(layer)
    return _regrouped(layer, [i * outputs for i in range(g)])


@mutant("every group reads the first group's channels")
def first_group_for_all(layer: Layer) -> Layer:
    return _regrouped(layer, [0] * layer.spec.groups)


@mutant("the last group reads the channels of the one before")
def last_group_stale(layer: Layer) -> Layer:
    g, inputs, _ = _sizes(layer)
    return _regrouped(layer, [i * inputs for i in range(g - 1)] + [max(g - 2, 0) * inputs])


@mutant("a group's channels are every g-th one")
def groups_interleaved(layer: Layer) -> Layer:
    g, inputs, outputs = _sizes(layer)
    changed = np.zeros_like(layer.weights)
    for i in range(g):
        rows = slice(i * outputs, (i + 1) * outputs)
        for c in range(inputs):
            changed[rows, c * g + i] = layer.weights[rows, i * inputs + c]
    layer.weights = changed
    return layer


@mutant("a transposed layer's groups take one another's kernels")
def transposed_groups_rolled(layer: Layer) -> Layer | None:
    if not layer.spec.transposed or layer.spec.groups == 1:
        return None
    blocks = layer.params.kernel.reshape(layer.spec.groups, -1, *layer.params.kernel.shape[1:])
    rolled = np.roll(blocks, 1, axis=0).reshape(layer.params.kernel.shape)
    return Layer.of(layer.spec, ConvParams(rolled, layer.params.bias), layer.x, layer.layout, layer.dtype)


@mutant("the last input channel is left out where their number is odd")
def odd_channel_left_out(layer: Layer) -> Layer:
    if layer.spec.in_channels % 2:
        layer.weights[:, -1] = 0
    return layer


@mutant("input channels beyond the last whole vector of four are left out")
def tail_of_four_left_out(layer: Layer) -> Layer:
    if layer.spec.in_channels > 4:
        layer.weights[:, layer.spec.in_channels // 4 * 4 :] = 0
    return layer


@mutant("output channels beyond the last whole vector of eight stay zero")
def tail_of_eight_left_out(layer: Layer) -> Array:
    y = layer.output()
    if layer.spec.out_channels > 8:
        y[:, layer.spec.out_channels // 8 * 8 :] = 0
    return y


@mutant("input channels from the seventeenth on are left out")
def tail_of_sixteen_left_out(layer: Layer) -> Layer:
    layer.weights[:, 16:] = 0
    return layer


@mutant("the last filter is that of the channel before")
def last_filter_stale(layer: Layer) -> Layer:
    if layer.spec.out_channels > 1:
        layer.weights[-1] = layer.weights[-2]
    return layer


@mutant("the kernel is flipped in transposed layers only")
def transposed_flipped(layer: Layer) -> Layer:
    if layer.spec.transposed:
        layer.weights = np.flip(layer.weights, tuple(range(2, layer.weights.ndim)))
    return layer


@mutant("the kernel is flipped along the first axis in depthwise layers only")
def depthwise_flipped(layer: Layer) -> Layer:
    if layer.spec.depthwise and layer.spec.groups > 1:
        layer.weights = np.flip(layer.weights, 2)
    return layer


@mutant("each channel has the bias of the one before")
def bias_stale(layer: Layer) -> Layer:
    layer.bias = np.roll(layer.bias, 1)
    return layer


@mutant("the bias is added to the first sample only")
def bias_of_the_first_sample(layer: Layer) -> Array:
    y = layer.output()
    y[1:] -= layer.column(layer.bias)
    return y


@mutant("the bias is lost where there are groups")
def bias_lost_with_groups(layer: Layer) -> Layer:
    if layer.spec.groups > 1:
        layer.bias[:] = 0
    return layer


@mutant("the bias is lost in transposed layers")
def bias_lost_when_transposed(layer: Layer) -> Layer:
    if layer.spec.transposed:
        layer.bias[:] = 0
    return layer


@mutant("the first bias is added to every channel in depthwise layers")
def first_bias_in_depthwise(layer: Layer) -> Layer:
    if layer.spec.depthwise and layer.spec.groups > 1:
        layer.bias[:] = layer.bias[0]
    return layer


@mutant("the bias is added once for each group")
def bias_for_each_group(layer: Layer) -> Layer:
    layer.bias *= layer.spec.groups
    return layer


@mutant("samples after the first are computed from the first")
def first_sample_for_all(layer: Layer) -> Layer:
    layer.x = np.repeat(layer.x[:1], len(layer.x), axis=0)
    return layer


@mutant("the last of several samples stays zero")
def last_sample_left_zero(layer: Layer) -> Array:
    y = layer.output()
    y[1:][-1:] = 0
    return y


@mutant("samples come out in reverse order")
def samples_reversed(layer: Layer) -> Array:
    return layer.output()[::-1]


@mutant("input and kernel are rounded to bfloat16")
def inputs_in_bfloat16(layer: Layer) -> Layer:
    return _coarse(layer, "bfloat16")


@mutant("input and kernel are rounded to tf32")
def inputs_in_tf32(layer: Layer) -> Layer:
    return _coarse(layer, "tf32")


def _coarse(layer: Layer, name: str) -> Layer:
    layer.x, layer.weights = (np.asarray(rounded(a, name), np.float64) for a in (layer.x, layer.weights))
    return layer


@mutant("the output is rounded to float16")
def output_in_float16(layer: Layer) -> Array:
    return np.asarray(rounded(layer.output(), "float16"), np.float64)


@mutant("float64 is computed in float32")
def float64_in_float32(layer: Layer) -> Array:
    return np.asarray(rounded(layer.output(), "float32"), np.float64)


@mutant("float16 is rounded to bfloat16's digits")
def float16_in_bfloat16(layer: Layer) -> Array | None:
    if layer.dtype != "float16":
        return None
    return np.asarray(rounded(layer.output(), "bfloat16"), np.float64)


@mutant("channels_last: the output is reshaped where it should be transposed")
def output_reshaped(layer: Layer) -> Array | None:
    if layer.layout != "NHWC":
        return None
    y = layer.output()
    return np.moveaxis(y.reshape(len(y), *y.shape[2:], y.shape[1]), -1, 1)


@mutant("channels_last: an input that could be channels_first is taken for it")
def layout_guessed(layer: Layer) -> Layer | None:
    if layer.layout != "NHWC" or layer.spatial[0] != layer.spec.in_channels:
        return None
    last = np.moveaxis(layer.x, 1, -1)
    layer.x = last if last.shape == layer.x.shape else layer.x
    return layer


@mutant("channels_first: the bias is added along the width where it has as many columns as filters")
def bias_along_the_width(layer: Layer) -> Array | None:
    if layer.layout != "NCHW" or layer.out[-1] != layer.spec.out_channels:
        return None
    return layer.output() - layer.column(layer.bias) + layer.bias

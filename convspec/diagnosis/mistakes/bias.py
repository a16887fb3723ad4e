"""Mistakes with the bias."""

from __future__ import annotations

import numpy as np

from convspec.diagnosis.faulty_layer import Layer, Variants
from convspec.diagnosis.mistakes.catalogue import mistake
from convspec.spec import layouts


@mistake(
    "The bias is not added", frameworks=("onnx", "torch", "keras", "flax"),
    explanation="The convolution is right; each channel is off by a constant.",
    fix="Pass the bias: check use_bias, and the third input of Conv.",
    threads=("pytorch/pytorch/issues/196165", "pytorch/pytorch/issues/101356", "alibaba/TinyNeuralNetwork/issues/262"),
)  # fmt: skip
def bias_dropped(layer: Layer) -> Variants:
    if layer.params.bias is not None:
        yield "no bias", layer.with_bias(None)


@mistake(
    "The bias is added twice", frameworks=("onnx", "torch", "keras", "flax"),
    explanation="The bias was folded into the convolution, and the separate addition was kept.",
    fix="Remove one of the two additions.",
    threads=("microsoft/onnxruntime/issues/12498", "majianjia/nnom/issues/73"),
)  # fmt: skip
def bias_added_twice(layer: Layer) -> Variants:
    if layer.params.bias is not None:
        yield "twice the bias", layer.with_bias(2 * layer.params.bias)


@mistake(
    "The bias is added along a spatial axis instead of the channels", frameworks=("keras", "onnx", "torch"),
    explanation="Broadcasting aligns the last axes: a bias of shape (O,) added to N, C, H, W data runs along W. If W "
                "equals the number of filters, no error is raised.",
    fix="Reshape the bias to (1, O, 1, 1) before adding it to channels-first data.",
    threads=("microsoft/onnxruntime/issues/12498", "gmalivenko/pytorch2keras/issues/131"),
)  # fmt: skip
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


@mistake(
    "The bias is in another order than the filters", frameworks=("onnx", "torch", "keras", "flax"),
    explanation="The kernel's output channels were reordered but the bias was not, or vice versa.",
    fix="Apply the same permutation to both.",
    threads=("pytorch/executorch/pull/18455", "apache/tvm/pull/9465"),
)  # fmt: skip
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


@mistake(
    "Every group gets the first group's bias, or one number per group", frameworks=("onnx", "torch"),
    explanation="The bias is indexed within each group instead of across all output channels.",
    fix="Split the bias by groups as the kernel is split.",
    threads=("microsoft/onnxruntime/issues/12498", "apache/tvm/pull/9465"),
)  # fmt: skip
def bias_per_group(layer: Layer) -> Variants:
    bias, g = layer.params.bias, layer.spec.groups
    if bias is None or g == 1:
        return
    yield "the first group's bias for all", layer.with_bias(np.tile(bias[: len(bias) // g], g))
    yield "one number per group", layer.with_bias(np.repeat(bias[:g], len(bias) // g))


@mistake(
    "The first channel's bias is added to all", frameworks=("onnx", "torch"),
    explanation="The bias was read as a scalar.",
    fix="Give the bias one number per output channel.",
    threads=("alibaba/TinyNeuralNetwork/issues/262", "microsoft/onnxruntime/issues/12498"),
)  # fmt: skip
def first_bias_for_all(layer: Layer) -> Variants:
    bias = layer.params.bias
    if bias is not None and len(bias) > 1:
        yield "the first number of the bias for all", layer.with_bias(np.full_like(bias, bias[0]))


@mistake(
    "The bias is subtracted", frameworks=("onnx", "torch"),
    explanation="The bias was stored with the opposite sign: a folded mean, or a threshold.",
    fix="Negate the bias.",
    threads=("onnx/optimizer/issues/255",),
)  # fmt: skip
def bias_subtracted(layer: Layer) -> Variants:
    if layer.params.bias is not None:
        yield "minus the bias", layer.with_bias(-layer.params.bias)

"""Mistakes in the order of the axes of input and output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convspec.diagnosis.faulty_layer import Layer, Variants
from convspec.diagnosis.mistakes.catalogue import mistake


def _last_as_first(a: Any) -> Any:
    """Move ``(N, C, *)`` to N, *, C and reshape back: channels-last memory as a reader of N, C, * sees it."""
    return np.moveaxis(a, 1, -1).reshape(a.shape)


def _first_as_last(a: Any) -> Any:
    """Reshape ``(N, C, *)`` to N, *, C and move back: channels-first memory as a reader of N, *, C sees it."""
    return np.moveaxis(a.reshape(a.shape[0], *a.shape[2:], a.shape[1]), -1, 1)


_READINGS = (("channels-last memory read as channels-first", _last_as_first),
             ("channels-first memory read as channels-last", _first_as_last))  # fmt: skip


def _turns(a: Any) -> tuple[tuple[str, Any], ...]:
    """Return both permutations between the layouts."""
    first, last = np.moveaxis(a, -1, 1), np.moveaxis(a, 1, -1)
    return (("the last axis moved to the channels' position", first), ("the channels moved to the end", last))


@mistake(
    "The input is reshaped between NHWC and NCHW instead of transposed", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="The array gets the other layout's shape, but no number moves: channels and positions are mixed up.",
    fix="Transpose: x.transpose(0, 3, 1, 2) from NHWC to NCHW, x.transpose(0, 2, 3, 1) back.",
    threads=("alexlee-gk/lpips-tensorflow/issues/2", "tensorflow/tensorflow/issues/30044",
             "pytorch/executorch/issues/21837"),
)  # fmt: skip
def input_reshaped(layer: Layer) -> Variants:
    for what, read in _READINGS:
        yield f"the input's {what}", replace(layer, x=read(layer.x))


@mistake(
    "The output is reshaped between NHWC and NCHW instead of transposed", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="The numbers are right but in the order of the other layout, under this layout's shape.",
    fix="Transpose the output: y.transpose(0, 3, 1, 2) from NHWC to NCHW.",
    threads=("tenstorrent/tt-metal/issues/21463", "rustnn/rustnn/pull/27", "pytorch/executorch/issues/19139"),
)  # fmt: skip
def output_reshaped(layer: Layer) -> Variants:
    if not layer.flat:
        for what, read in _READINGS:
            yield f"the output's {what}", layer.then(read)


@mistake(
    "The output is flattened in the other layout's order", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="Flattening gives features in the order C, H, W for channels-first data, H, W, C for channels-last "
                "data. The convolution is right; the linear layer after it needs its rows in the same order.",
    fix="Permute the linear layer's rows, or transpose before the flatten.",
    threads=("gzuidhof/nn-transfer/issues/16", "microsoft/MMdnn/issues/250", "keras-team/keras/issues/5374"),
)  # fmt: skip
def flatten_order(layer: Layer) -> Variants:
    if layer.flat:
        yield "flattened with the channels last", layer.then(_last_as_first)
        yield "flattened with the channels first", layer.then(_first_as_last)


@mistake(
    "Input and output are both reshaped between the layouts instead of transposed",
    frameworks=("torch", "keras", "flax", "onnx"),
    explanation="The layer runs on mixed-up data; the shapes before and after are right.",
    fix="Replace both reshapes by transposes.",
    threads=("alexlee-gk/lpips-tensorflow/issues/2", "tensorflow/tensorflow/issues/30044"),
)  # fmt: skip
def input_and_output_reshaped(layer: Layer) -> Variants:
    (other, to), (own, back) = _READINGS
    yield f"{other}, and the output the other way", replace(layer, x=to(layer.x)).then(back)
    yield f"{own}, and the output the other way", replace(layer, x=back(layer.x)).then(to)


@mistake(
    "The input is transposed with the permutation of the other direction",
    frameworks=("torch", "keras", "flax", "onnx"),
    explanation="(0, 3, 1, 2) converts NHWC to NCHW, and (0, 2, 3, 1) converts back. With equal sizes the wrong one "
                "raises no error: it rotates the axes.",
    fix="Exchange the two permutations.",
    threads=("alexlee-gk/lpips-tensorflow/issues/2", "tensorflow/tensorflow/issues/30044",
             "PINTO0309/onnx2tf/pull/960"),
)  # fmt: skip
def input_permuted_the_wrong_way(layer: Layer) -> Variants:
    for what, x in _turns(layer.x):
        if x.shape[1] == layer.spec.in_channels:
            # the padding stays that of the right input
            yield f"the input with {what}", replace(layer.explicit() if x.shape != layer.x.shape else layer, x=x)


@mistake(
    "The output is left in the other layout", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="The layer is right, but its output has the channels on the axis of the other layout.",
    fix="Transpose the output, or pass its layout.",
    threads=("rustnn/rustnn/pull/27", "gmalivenko/pytorch2keras/issues/131", "pytorch/executorch/issues/19139"),
)  # fmt: skip
def output_in_the_other_layout(layer: Layer) -> Variants:
    yield "the output's channels at the end", layer.then(lambda y: np.moveaxis(y, 1, -1))
    yield "the output's last axis at the channels' position", layer.then(lambda y: np.moveaxis(y, -1, 1))


@mistake(
    "The batch axis is taken for the channel axis", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="If the batch size equals the number of channels, no error is raised.",
    fix="Check the order N, C of the input; test with different sizes.",
    threads=("pytorch/pytorch/issues/60585", "pytorch/pytorch/issues/97915"),
)  # fmt: skip
def batch_and_channels_exchanged(layer: Layer) -> Variants:
    swapped = layer.x.swapaxes(0, 1)
    if layer.x.shape[0] == layer.spec.in_channels:
        yield "the input's batch and channels exchanged", replace(layer, x=swapped)
        yield "the input's and the output's exchanged", replace(layer, x=swapped).then(lambda y: y.swapaxes(0, 1))


@mistake(
    "Every sample of the batch gets the result of the first", frameworks=("onnx", "torch"),
    explanation="A backend or export with a fixed batch of 1 computes one sample and repeats it.",
    fix="Export with a dynamic batch; compare with a batch of one.",
    threads=("pytorch/pytorch/issues/188335", "pytorch/functorch/issues/338"),
)  # fmt: skip
def first_sample_for_all(layer: Layer) -> Variants:
    if len(layer.x) > 1:
        yield "sample 0 in place of all", replace(layer, x=np.broadcast_to(layer.x[:1], layer.x.shape))


@mistake(
    "The input's channels are in reverse order (RGB against BGR)", frameworks=("onnx", "torch", "keras"),
    explanation="OpenCV and Caffe read images as BGR, most other libraries as RGB.",
    fix="Reverse the channels of the input, or the kernel's input axis.",
    threads=("gzuidhof/nn-transfer/issues/16", "microsoft/MMdnn/issues/595"),
)  # fmt: skip
def input_channels_reversed(layer: Layer) -> Variants:
    if layer.spec.in_channels > 1:
        yield "the input's channels from last to first", replace(layer, x=layer.x[:, ::-1])

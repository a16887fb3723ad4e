"""Mistakes in the rows that a transposed convolution keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convspec.diagnosis.faulty_layer import Layer, Variants, pad
from convspec.diagnosis.mistakes.catalogue import mistake
from convspec.spec import Pads


def _extra(layer: Layer) -> tuple[int, ...]:
    """Return the output padding as numbers."""
    return layer.explicit().spec.output_padding


def _window(layer: Layer, first: list[int]) -> Layer:
    """Return the transposed layer with other rows kept, from ``first[axis]`` of the uncropped result on."""
    sizes = layer.output_shape[2:]
    full = layer.explicit(padding=0, output_padding=0).output_shape[2:]
    axes = list(zip(first, sizes, full, strict=True))
    pads = tuple((max(start, 0), max(length - start - n, 0)) for start, n, length in axes)
    before = [max(-start, 0) for start in first]
    extra = [max(start + n - length, 0) for start, n, length in axes]
    kept = layer.explicit(padding=pads, output_padding=0)
    return _add_bias_rows(kept, before, extra) if any(before) or any(extra) else kept


def _add_bias_rows(layer: Layer, before: list[int], after: list[int]) -> Layer:
    """Add rows that no input reaches, which hold the bias alone, before and after the output."""
    bias = layer.params.bias
    filled = layer.with_bias(None).then(pad(before, after))
    return filled if bias is None else filled.add(bias.reshape(-1, *(1,) * layer.spec.ndim))


@mistake(
    "Transposed 'same' ported as padding with output_padding, or the other way round",
    frameworks=("keras", "torch", "flax", "onnx"),
    explanation="PyTorch: ConvTranspose2d(k=3, s=2, padding=1, output_padding=1) drops the first row of the full "
                "result. Keras: Conv2DTranspose(3, strides=2, padding='same') drops the last. The shapes are equal.",
    fix="Crop by hand: compute the full transposed convolution and slice the rows that the original keeps.",
    threads=("gmalivenko/pytorch2keras/issues/7", "gmalivenko/pytorch2keras/issues/125", "keras-team/keras/pull/22876"),
)  # fmt: skip
def transposed_same_against_numbers(layer: Layer) -> Variants:
    spec = layer.spec
    if not spec.transposed:
        return
    if spec.padding == "same" or layer.respec(padding="same", output_padding=0).pads == layer.pads:
        over = [ke - s for ke, s in zip(spec.effective_kernel, spec.stride, strict=True)]
        crop = tuple(max(-(-o // 2), 0) for o in over)
        extra = tuple(2 * c - o for c, o in zip(crop, over, strict=True))
        yield f"padding {crop}, output_padding {extra}", layer.explicit(padding=crop, output_padding=extra)
    else:
        yield "cropped as 'same' does", layer.respec(padding="same", output_padding=0)


@mistake(
    "A transposed convolution crops the wrong side", frameworks=("onnx", "keras", "torch", "flax"),
    explanation="Padding of a transposed convolution crops its output. If the crop is odd, one side loses one row "
                "more. Keras and SAME_UPPER: the end; SAME_LOWER, output_shape without auto_pad, and PyTorch's "
                "padding with output_padding: the beginning.",
    fix="Write the crop as (before, after) pads; in ONNX set pads, not auto_pad or output_shape.",
    threads=("microsoft/onnxruntime/issues/9370", "microsoft/onnxruntime/pull/13311", "onnx/onnx/issues/1609"),
)  # fmt: skip
def transposed_crop_on_the_wrong_side(layer: Layer) -> Variants:
    if layer.spec.transposed and any(lo != hi for lo, hi in layer.pads):
        mirrored = tuple((hi, lo) for lo, hi in layer.pads)
        yield "the crops before and after exchanged", layer.explicit(padding=mirrored)


@mistake(
    "output_padding is given back at the beginning", frameworks=("torch", "onnx", "keras"),
    explanation="output_padding keeps rows that the padding would crop at the end of an axis, never at the beginning.",
    fix="Crop padding - output_padding elements at the end, padding elements at the beginning.",
    threads=("microsoft/onnxruntime/pull/13311", "keras-team/keras/pull/22876"),
)  # fmt: skip
def output_padding_on_the_wrong_side(layer: Layer) -> Variants:
    if layer.spec.transposed and any(_extra(layer)):
        first = [lo - extra for (lo, _), extra in zip(layer.pads, _extra(layer), strict=True)]
        yield "the rows of output_padding kept at the beginning", _window(layer, first)


@mistake(
    "output_padding is ignored", frameworks=("onnx", "torch", "keras"),
    explanation="Many converters drop it; the output is smaller by output_padding.",
    fix="Pass output_padding, or reduce the crop at the end by the same number.",
    threads=("pytorch/pytorch/issues/104206", "NVIDIA-AI-IOT/torch2trt/issues/734", "opencv/opencv/pull/28264"),
)  # fmt: skip
def output_padding_dropped(layer: Layer) -> Variants:
    if layer.spec.transposed and any(_extra(layer)):
        yield "no output_padding", layer.explicit(output_padding=0)


@mistake(
    "output_padding is filled with zeros instead of the real rows", frameworks=("torch", "onnx", "flax"),
    explanation="output_padding adds no zeros: it keeps rows of the full result that the padding would crop.",
    fix="Keep more of the full result; append nothing.",
    threads=("llvm/torch-mlir/pull/2026", "pytorch/xla/pull/2351", "pytorch/pytorch/issues/25536"),
)  # fmt: skip
def output_padding_as_zeros(layer: Layer) -> Variants:
    extra = list(_extra(layer))
    if not layer.spec.transposed or not any(extra):
        return
    none, short = [0] * len(extra), layer.explicit(output_padding=0)
    yield "rows of zeros at the end", short.then(pad(none, extra))
    yield "rows at the end that hold the bias alone", _add_bias_rows(short, none, extra)


@mistake(
    "output_padding is applied to the input", frameworks=("torch", "onnx"),
    explanation="Zeros are appended to the input, so the output grows by the stride for each of them.",
    fix="Change the crop of the output, not the input.",
    threads=("apache/mxnet/issues/20280", "apple/coreai-torch/issues/57"),
)  # fmt: skip
def output_padding_on_the_input(layer: Layer) -> Variants:
    extra = _extra(layer)
    if layer.spec.transposed and any(extra):
        x = np.pad(layer.x, [(0, 0), (0, 0), *((0, e) for e in extra)])
        yield "that many zeros after the input", replace(layer.explicit(output_padding=0), x=x)
        yield "that many zeros after the input, and output_padding too", replace(layer.explicit(), x=x)


@mistake(
    "The padding of a transposed convolution is applied to its input", frameworks=("torch", "onnx"),
    explanation="Padding of a transposed convolution crops its output; a Pad before the layer enlarges it.",
    fix="Slice the output of an unpadded transposed convolution.",
    threads=("Samsung/TICO/issues/420", "apache/mxnet/issues/20639", "gmalivenko/pytorch2keras/issues/7"),
)  # fmt: skip
def transposed_padding_on_the_input(layer: Layer) -> Variants:
    if layer.spec.transposed and any(map(any, layer.pads)):
        x = np.pad(layer.x, [(0, 0), (0, 0), *layer.pads])
        yield "the input padded, nothing cropped", replace(layer.explicit(padding=0), x=x)
        yield "the input padded, and the output cropped", replace(layer.explicit(), x=x)


@mistake(
    "The padding of a transposed convolution counts from the other end", frameworks=("flax", "torch"),
    explanation="JAX and Flax: explicit padding p of conv_transpose pads the dilated input, a crop of d·(k - 1) - p. "
                "PyTorch: p is the crop itself.",
    fix="In JAX, pass (ke - 1 - p, ke - 1 - p + output_padding) for PyTorch's padding p.",
    threads=("jax-ml/jax/issues/17618", "jax-ml/jax/issues/32267", "jax-ml/jax/issues/4592"),
)  # fmt: skip
def transposed_padding_of_the_dilated_input(layer: Layer) -> Variants:
    if not layer.spec.transposed:
        return
    spans = [ke - 1 for ke in layer.spec.effective_kernel]
    crop: Pads = tuple((span - lo, span - hi) for span, (lo, hi) in zip(spans, layer.pads, strict=True))
    if crop != layer.pads:
        yield f"{crop} cropped", layer.explicit(padding=crop)


@mistake(
    "A transposed 'valid' with a stride beyond the kernel has another length", frameworks=("flax", "keras", "torch"),
    explanation="If s > k, JAX's and Keras's VALID has L·s outputs, PyTorch's has (L - 1)·s + k. The rows between "
                "windows hold the bias alone.",
    fix="Append s - ke rows of bias (output_padding), or slice them off.",
    threads=("keras-team/keras/issues/15666", "tensorflow/tensorflow/issues/2118"),
)  # fmt: skip
def transposed_valid_length(layer: Layer) -> Variants:
    spec = layer.spec
    if not spec.transposed:
        return
    gaps = tuple(max(s - ke, 0) for s, ke in zip(spec.stride, spec.effective_kernel, strict=True))
    if any(gaps):
        for extra in ((0,) * spec.ndim, gaps):
            yield f"rows after the last window: {extra}", layer.explicit(output_padding=extra)


@mistake(
    "Keras's output_padding=0 is taken for output_padding=None", frameworks=("keras", "onnx", "torch"),
    explanation="With padding='same', a transposed Keras layer has L·s outputs if output_padding is None. With any "
                "number, 0 included, it crops 2·⌊ke/2⌋ - output_padding elements and has (L - 1)·s + ke - 2·⌊ke/2⌋ + "
                "output_padding outputs.",
    fix="Omit output_padding, or pass None.",
    threads=("tensorflow/tensorflow/issues/50168", "keras-team/keras/issues/14158", "keras-team/keras/issues/15666"),
)  # fmt: skip
def keras_output_padding_zero_for_none(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.transposed and layer.respec(padding="same", output_padding=0).pads == layer.pads:
        for op in range(max(spec.stride)):
            totals = [max(2 * (ke // 2) - op, 0) for ke in spec.effective_kernel]
            crop = tuple((t // 2, t - t // 2) for t in totals)
            yield f"{crop} cropped, for output_padding={op}", layer.explicit(padding=crop, output_padding=0)


@mistake(
    "A transposed convolution keeps other rows of the full result", frameworks=("keras", "torch", "flax", "onnx"),
    explanation="The shape is right, but the kept rows begin too early or too late.",
    fix="Compare the crops as numbers, (before, after) for each axis, and slice the full result.",
    threads=("keras-team/keras/pull/22876", "microsoft/onnxruntime/issues/23403", "google/flax/pull/2578"),
)  # fmt: skip
def transposed_rows_shifted(layer: Layer) -> Variants:
    spec = layer.spec
    if not spec.transposed:
        return
    starts = [lo for lo, _ in layer.pads]
    for by, when in ((-1, "earlier"), (1, "later")):
        yield f"all axes begin one row {when}", _window(layer, [start + by for start in starts])
        for axis in range(spec.ndim if spec.ndim > 1 else 0):
            moved = [start + by * (i == axis) for i, start in enumerate(starts)]
            yield f"spatial axis {axis} begins one row {when}", _window(layer, moved)

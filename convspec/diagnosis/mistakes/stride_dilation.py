"""Mistakes with stride and dilation."""

from __future__ import annotations

from itertools import product

from convspec.diagnosis.faulty_layer import Layer, Variants, take
from convspec.diagnosis.mistakes.catalogue import mistake


@mistake(
    "Stride and dilation are exchanged", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="The order of positional arguments differs between frameworks. Flax calls the dilation "
                "kernel_dilation (JAX: rhs_dilation); its input_dilation (lhs_dilation) is the stride of a transposed "
                "layer.",
    fix="Pass both by name.",
    threads=("pytorch/executorch/pull/18783", "microsoft/onnxruntime/issues/2518"),
)  # fmt: skip
def stride_and_dilation_exchanged(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.stride != spec.dilation:
        swapped = {"stride": spec.dilation, "dilation": spec.stride}
        yield "stride and dilation exchanged", layer.respec(**swapped)
        yield "stride and dilation exchanged, the pads unchanged", layer.explicit(**swapped)


@mistake(
    "The dilation is ignored", frameworks=("keras", "onnx", "torch", "flax"),
    explanation="The kernel's taps read adjacent elements. Old Keras versions accepted dilation_rate and ignored it.",
    fix="Pass the dilation, or insert zeros between the kernel's taps.",
    threads=("tensorflow/tensorflow/issues/21598", "keras-team/keras/issues/8159",
             "tensorflow/tflite-micro/issues/1646"),
)  # fmt: skip
def dilation_ignored(layer: Layer) -> Variants:
    spec = layer.spec
    if all(d == 1 for d in spec.dilation):
        return
    yield "dilation 1", layer.respec(dilation=1)
    yield "dilation 1, the pads unchanged", layer.explicit(dilation=1)
    lost = [(k - 1) * (d - 1) for k, d in zip(spec.kernel_size, spec.dilation, strict=True)]
    for what, halves in (("half", [n // 2 for n in lost]), ("half rounded up", [-(-n // 2) for n in lost])):
        fewer = tuple((lo - h, hi - (n - h)) for (lo, hi), n, h in zip(layer.pads, lost, halves, strict=True))
        if all(min(pair) >= 0 for pair in fewer):
            wrong = layer.explicit(dilation=1, padding=fewer)
            yield f"dilation 1, less padding, {what} of the difference before", wrong


@mistake(
    "The stride is ignored", frameworks=("onnx", "torch", "keras", "flax"),
    explanation="The layer computes every output; a transposed layer inserts no zeros between its inputs.",
    fix="Pass the stride.",
    threads=("tenstorrent/tt-mlir/issues/3267", "pytorch/pytorch/issues/196165", "tenstorrent/tt-mlir/pull/5514"),
)  # fmt: skip
def stride_ignored(layer: Layer) -> Variants:
    if any(s > 1 for s in layer.spec.stride):
        yield "stride 1", layer.respec(stride=1)
        yield "stride 1, the pads unchanged", layer.explicit(stride=1)


@mistake(
    "The outputs are taken at another phase of the stride", frameworks=("onnx", "torch", "keras"),
    explanation="A strided layer computed at stride 1 and subsampled afterwards, or replaced by pooling, starts at "
                "its second output instead of its first.",
    fix="Take outputs 0, s, 2s, … of the layer with the same pads.",
    threads=("pytorch/pytorch/issues/54036", "microsoft/onnxruntime/issues/26734"),
)  # fmt: skip
def stride_phase(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.transposed or all(s == 1 for s in spec.stride):
        return
    dense = layer.explicit(stride=1)
    cut = [slice(0, n) for n in layer.output_shape[2:]]
    for phase in product(*(range(min(s, 4)) for s in spec.stride)):
        if any(phase):
            kept = tuple(slice(p, None, s) for p, s in zip(phase, spec.stride, strict=True))
            yield f"outputs from {phase} on", dense.then(take(..., *kept)).then(take(..., *cut))


@mistake(
    "The stride is turned into a dilation, or the dilation into a stride", frameworks=("keras", "torch", "flax"),
    explanation="Networks for segmentation replace a stride by dilation (output_stride). Done on one side only, "
                "shapes differ unless the padding is changed too.",
    fix="Use the same output stride on both sides.",
    threads=("keras-team/keras/issues/16314", "tensorflow/tensorflow/issues/61090"),
)  # fmt: skip
def dilation_for_stride(layer: Layer) -> Variants:
    spec = layer.spec
    if any(s > 1 for s in spec.stride):
        yield "the stride as dilation", layer.respec(stride=1, dilation=spec.stride)
    if any(d > 1 for d in spec.dilation):
        yield "the dilation as stride", layer.respec(stride=spec.dilation, dilation=1)

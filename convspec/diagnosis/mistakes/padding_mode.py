"""Mistakes in the values of the padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convspec.diagnosis.faulty_layer import Array, Layer, Variants, derive
from convspec.diagnosis.mistakes.catalogue import mistake
from convspec.spec import PADDING_MODES, Pads


def _padded(layer: Layer) -> bool:
    return not layer.spec.transposed and any(map(any, layer.pads))


@mistake(
    "The padding is filled with zeros instead of copies", frameworks=("onnx", "torch", "keras", "flax"),
    explanation="ONNX's Conv and Keras's layers have no padding mode, so a conversion easily loses it.",
    fix="Insert a Pad of that mode before an unpadded convolution.",
    threads=("microsoft/onnxruntime/issues/6442", "tristandeleu/pytorch-meta/issues/138", "google/flax/issues/4214"),
)  # fmt: skip
def padding_mode_lost(layer: Layer) -> Variants:
    if _padded(layer) and layer.spec.padding_mode != "zeros":
        yield f"zeros instead of {layer.spec.padding_mode}", layer.respec(padding_mode="zeros")


@mistake(
    "The padding is filled in another mode", frameworks=("onnx", "torch", "keras", "flax"),
    explanation="The names differ: ONNX's 'edge' is PyTorch's 'replicate', ONNX's 'wrap' is PyTorch's 'circular'; "
                "NumPy's 'symmetric' has no counterpart in PyTorch.",
    fix="Translate the mode by its effect, not by its name.",
    threads=("microsoft/onnxruntime/issues/16401", "microsoft/onnxruntime/issues/23878", "google/flax/pull/1661"),
)  # fmt: skip
def padding_mode_replaced(layer: Layer) -> Variants:
    if _padded(layer):
        for mode in PADDING_MODES[1:]:
            if mode != layer.spec.padding_mode:
                yield f"{mode} instead of {layer.spec.padding_mode}", layer.respec(padding_mode=mode)


@mistake(
    "The reflected padding repeats the edge element", frameworks=("keras", "flax", "torch", "onnx"),
    explanation="'reflect' does not repeat the edge element; 'symmetric' mirrors after it, so it appears twice.",
    fix="Use mode 'reflect' of np.pad, jnp.pad, tf.pad and Pad.",
    threads=("microsoft/onnxruntime/issues/6442", "microsoft/onnxruntime/issues/16401"),
)  # fmt: skip
def reflection_repeats_the_edge(layer: Layer) -> Variants:
    if _padded(layer) and layer.spec.padding_mode in ("reflect", "replicate"):
        x = np.pad(layer.x, [(0, 0), (0, 0), *layer.pads], mode="symmetric")
        yield "padded with NumPy's 'symmetric'", replace(layer.explicit(padding=0), x=x)


@mistake(
    "Circular padding covers half of what it should", frameworks=("torch", "onnx"),
    explanation="Old PyTorch split padding=p into (⌈p/2⌉, ⌊p/2⌋); some F.pad ignored the left pad if the right was 0.",
    fix="Pad p elements on each side, explicitly if necessary.",
    threads=("pytorch/pytorch/issues/20981", "pytorch/pytorch/issues/24504", "tristandeleu/pytorch-meta/issues/138"),
)  # fmt: skip
def circular_padding_halved(layer: Layer) -> Variants:
    if not _padded(layer) or layer.spec.padding_mode == "zeros":
        return
    halves = tuple((-(-lo // 2), hi // 2) for lo, hi in layer.pads)
    yield f"padded {halves}", layer.explicit(padding=halves)
    for side, pads in (("before", [(0, hi) for _, hi in layer.pads]), ("after", [(lo, 0) for lo, _ in layer.pads])):
        yield f"the pads {side} omitted", layer.explicit(padding=tuple(pads))


@mistake(
    "Flax's 'CIRCULAR' or 'REFLECT' is taken for another amount of padding", frameworks=("flax", "torch"),
    explanation="Flax: these modes pad ⌊(ke - 1)/2⌋ and ⌊ke/2⌋ elements for every stride and input. PyTorch: they pad "
                "the given numbers. 'same' depends on the input size.",
    fix="Pad explicitly (jnp.pad), then convolve with 'VALID'.",
    threads=("google/flax/pull/1661", "google/flax/issues/4214"),
)  # fmt: skip
def flax_circular_for_same(layer: Layer) -> Variants:
    if layer.spec.transposed or layer.spec.padding_mode not in ("circular", "reflect"):
        return
    pads = tuple(((ke - 1) // 2, ke // 2) for ke in layer.spec.effective_kernel)
    if pads != layer.pads:
        yield f"padded {pads}", layer.explicit(padding=pads)


def _pad_with(x: Array, widths: Pads, number: float) -> Array:
    return np.pad(x, widths, constant_values=number)


@mistake(
    "The padding is filled with another number than zero", frameworks=("onnx", "keras", "torch"),
    explanation="A separate padding step has a fill value, or precedes a normalisation, which then scales and shifts "
                "the zeros like any pixel.",
    fix="Pad with zero after the normalisation; in quantised layers pad with the zero point.",
    threads=("tensorflow/tflite-micro/issues/1646", "chaiNNer-org/chaiNNer/issues/3106"),
)  # fmt: skip
def padding_filled_with_a_number(layer: Layer) -> Variants:
    if not _padded(layer):
        return
    widths = (0, 0), (0, 0), *layer.pads
    numbers = {"-1": -1.0, "1": 1.0}
    if layer.x.size:
        numbers |= {"its smallest": float(layer.x.min()), "its largest": float(layer.x.max())}
    numbers |= {"-0.5": -0.5, "0.5": 0.5}
    if layer.x.size:
        numbers["its mean"] = float(layer.x.mean())
    for name, number in numbers.items():
        x = derive(layer.x, _pad_with, widths, number)
        yield f"padded with {name}", replace(layer.explicit(padding=0), x=x)

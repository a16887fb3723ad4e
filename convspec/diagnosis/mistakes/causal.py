"""Mistakes with causal padding, all of it before the sequence."""

from __future__ import annotations

from convspec.diagnosis.faulty_layer import Layer, Variants
from convspec.diagnosis.mistakes.catalogue import mistake


def causal_total(layer: Layer) -> int | None:
    """Return the padding before a causal layer's sequence; None for any other layer."""
    spec = layer.spec
    if spec.ndim == 1 and not spec.transposed:
        lo, hi = layer.pads[0]
        if hi == 0 and lo == spec.effective_kernel[0] - 1 > 0:
            return lo
    return None


@mistake(
    "A causal layer sees the future: its padding is on both sides", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="All (k - 1)·d elements go before the sequence; with half on each side, outputs read future inputs.",
    fix="Pad ((k - 1)·d, 0) before an unpadded convolution.",
    threads=("pytorch/pytorch/issues/1333", "keras-team/keras/issues/8751", "locuslab/TCN/issues/12"),
)  # fmt: skip
def causal_as_symmetric(layer: Layer) -> Variants:
    total = causal_total(layer)
    if total:
        for lo in {total // 2, -(-total // 2)}:
            yield f"padded ({lo}, {total - lo})", layer.explicit(padding=((lo, total - lo),))


@mistake(
    "A causal layer runs backwards: its padding is after the sequence", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="Padding both sides and cropping the wrong end leaves outputs that read future inputs only.",
    fix="Pad before the sequence, or crop the last (k - 1)·d outputs, not the first.",
    threads=("pytorch/pytorch/issues/1333", "locuslab/TCN/issues/12"),
)  # fmt: skip
def causal_reversed(layer: Layer) -> Variants:
    total = causal_total(layer)
    if total:
        yield f"padded (0, {total})", layer.explicit(padding=((0, total),))


@mistake(
    "Causal padding is computed without the dilation", frameworks=("torch", "keras", "flax"),
    explanation="Causal padding needs (k - 1)·d elements; k - 1 are too few, and cropping k - 1 shifts the outputs.",
    fix="Use (k - 1)·d for both the padding and the crop.",
    threads=("locuslab/TCN/issues/12", "pytorch/pytorch/issues/1333"),
)  # fmt: skip
def causal_without_dilation(layer: Layer) -> Variants:
    total, short = causal_total(layer), layer.spec.kernel_size[0] - 1
    if total and total != short:
        for pads in ((short, 0), (short, total - short), (total, total - short), (total - short, short)):
            yield f"padded {pads}", layer.explicit(padding=(pads,))


@mistake(
    "A layer that should look both ways is causal", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="All padding is before the sequence, so every output is late by half a kernel.",
    fix="Pad both sides ('same').",
    threads=("pytorch/pytorch/issues/1333", "keras-team/keras/issues/8751"),
)  # fmt: skip
def symmetric_as_causal(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.ndim == 1 and not spec.transposed and causal_total(layer) is None and any(layer.pads[0]):
        total = sum(layer.pads[0])
        yield f"padded ({total}, 0)", layer.explicit(padding=((total, 0),))
        yield f"padded (0, {total})", layer.explicit(padding=((0, total),))

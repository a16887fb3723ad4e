"""Mistakes in the amount of padding, and in its side."""

from __future__ import annotations

from convspec.diagnosis.faulty_layer import Layer, Variants, take
from convspec.diagnosis.mistakes.catalogue import mistake
from convspec.diagnosis.mistakes.causal import causal_total
from convspec.spec import same_pads


def _unequal(layer: Layer) -> bool:
    """Return whether the two sides differ by an odd element only."""
    differences = {abs(lo - hi) for lo, hi in layer.pads}
    return not layer.spec.transposed and differences <= {0, 1} and 1 in differences


@mistake(
    "'same' padding ported as equal padding on both sides", frameworks=("keras", "flax", "torch", "onnx"),
    explanation="'same' pads only as much as the output needs: with a stride or an even kernel that is often an odd "
                "number, and the extra element goes after the input. padding=k//2 pads both sides equally, so every "
                "window starts one element earlier, usually with no change of shape.",
    fix="Pad explicitly with the resolved numbers (spec.explicit(input_shape).padding), then convolve unpadded.",
    threads=("pytorch/pytorch/issues/3867", "google/flax/issues/2993", "taehoonlee/tensornets/issues/25",
             "keras-team/keras/issues/19291"),
)  # fmt: skip
def same_as_symmetric(layer: Layer) -> Variants:
    if not _unequal(layer):
        return
    totals = [lo + hi for lo, hi in layer.pads]
    for what, halves in (
        ("equally, rounded up", [-(-t // 2) for t in totals]),
        ("equally, rounded down", [t // 2 for t in totals]),
        ("half a kernel on each side", [ke // 2 for ke in layer.spec.effective_kernel]),
        ("half a kernel less one on each side", [(ke - 1) // 2 for ke in layer.spec.effective_kernel]),
    ):
        yield f"padded {what}: {tuple(halves)}", layer.explicit(padding=tuple((p, p) for p in halves))


@mistake(
    "Equal padding ported as 'same'", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="padding=1 with a stride of 2 pads both sides; 'same' gives the same shape but pads (0, 1) if the "
                "size is even. Every window starts one element later.",
    fix="Use a padding layer (ZeroPadding2D, jnp.pad, explicit pads) with the numbers, then convolve with 'valid'.",
    threads=("keras-team/keras/pull/16363", "gmalivenko/pytorch2keras/issues/1", "google/flax/issues/2993"),
)  # fmt: skip
def symmetric_as_same(layer: Layer) -> Variants:
    if layer.spec.transposed or isinstance(layer.spec.padding, str) or any(lo != hi for lo, hi in layer.pads):
        return
    yield "padded as 'same' does, the odd element after", layer.respec(padding="same")
    yield "padded as 'same_lower' does, the odd element before", layer.respec(padding="same_lower")


@mistake(
    "The odd element of the padding is on the wrong side (SAME_UPPER against SAME_LOWER)",
    frameworks=("onnx", "keras", "flax", "torch"),
    explanation="If the padding has an odd number of elements, TensorFlow, JAX and ONNX's SAME_UPPER put the extra "
                "one after the input; SAME_LOWER and some hand-written ports put it before.",
    fix="Write the pads as numbers, (before, after) for each axis.",
    threads=("onnx/onnx/issues/3534", "FluxML/Flux.jl/issues/1605", "NVlabs/MambaVision/issues/112"),
)  # fmt: skip
def odd_cell_on_the_wrong_side(layer: Layer) -> Variants:
    if not _unequal(layer):
        return
    pads = layer.pads
    yield "before and after exchanged on every axis", layer.explicit(padding=tuple(p[::-1] for p in pads))
    for axis, (lo, hi) in enumerate(pads):
        if lo != hi and sum(a != b for a, b in pads) > 1:
            changed = tuple((hi, lo) if i == axis else p for i, p in enumerate(pads))
            yield f"before and after exchanged on spatial axis {axis}", layer.explicit(padding=changed)


@mistake(
    "Pads before and after are exchanged", frameworks=("onnx", "torch", "keras", "flax"),
    explanation="A pad written for one end of an axis is applied to the other end.",
    fix="Check the order in which the tool lists pads: all begins and then all ends, or pairs.",
    threads=("onnx/tensorflow-onnx/issues/1028", "onnx/onnx/issues/261"),
)  # fmt: skip
def pads_mirrored(layer: Layer) -> Variants:
    if layer.spec.transposed or _unequal(layer) or all(lo == hi for lo, hi in layer.pads):
        return
    yield "before and after exchanged on every axis", layer.explicit(padding=tuple(p[::-1] for p in layer.pads))


@mistake(
    "Unequal pads are made equal", frameworks=("onnx", "torch"),
    explanation="cuDNN and PyTorch's layers take one number per axis; a backend that gets (0, 2) uses the mean, the "
                "larger or the first number on both sides.",
    fix="Pad explicitly before an unpadded convolution.",
    threads=("microsoft/onnxruntime/pull/4627", "microsoft/onnxruntime/issues/11312", "pytorch/pytorch/issues/17150"),
)  # fmt: skip
def unequal_pads_made_equal(layer: Layer) -> Variants:
    if layer.spec.transposed or _unequal(layer) or causal_total(layer) or all(lo == hi for lo, hi in layer.pads):
        return  # causal padding has mistakes of its own
    for what, numbers in (
        ("the mean, rounded down", [(lo + hi) // 2 for lo, hi in layer.pads]),
        ("the mean, rounded up", [-(-(lo + hi) // 2) for lo, hi in layer.pads]),
        ("the larger", [max(pair) for pair in layer.pads]),
        ("the first", [lo for lo, _ in layer.pads]),
        ("the second", [hi for _, hi in layer.pads]),
    ):
        yield f"{what} on both sides: {tuple(numbers)}", layer.explicit(padding=numbers)


@mistake(
    "'same' padding computed without the size of the input", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="PyTorch: 'same' pads d·(k - 1) elements for every input; TensorFlow and JAX: the total depends on "
                "the input size modulo the stride.",
    fix="Resolve the padding for each input size, or fix the size and write numbers.",
    threads=("pytorch/pytorch/pull/45667", "pytorch/pytorch/issues/67551"),
)  # fmt: skip
def same_without_the_input_size(layer: Layer) -> Variants:
    if layer.spec.transposed or not isinstance(layer.spec.padding, str):
        return
    totals = [ke - 1 for ke in layer.spec.effective_kernel]
    pads = tuple((t // 2, t - t // 2) for t in totals)
    yield f"padded {pads}, as for stride 1", layer.explicit(padding=pads)


@mistake(
    "A flat list of pads is read in another order", frameworks=("onnx", "torch", "keras", "flax"),
    explanation="ONNX lists all begins, then all ends; TensorFlow and JAX list pairs, axis by axis; PyTorch's F.pad "
                "lists pairs from the last axis to the first. The same numbers in another order pad other sides.",
    fix="Convert the list: ONNX [b0, b1, e0, e1] is ((b0, e0), (b1, e1)), and F.pad needs [b1, e1, b0, e0].",
    threads=("onnx/onnx/issues/261", "microsoft/onnxruntime/pull/17325", "onnx/tensorflow-onnx/issues/66"),
)  # fmt: skip
def pads_in_another_order(layer: Layer) -> Variants:
    n, pads = layer.spec.ndim, layer.pads
    if n < 2 or layer.spec.transposed:
        return
    pairs = [p for pair in pads for p in pair]
    begins = [lo for lo, _ in pads] + [hi for _, hi in pads]
    for what, order in (
        ("begins and ends read as pairs", tuple(zip(begins[::2], begins[1::2], strict=True))),
        ("pairs read as begins and ends", tuple(zip(pairs[:n], pairs[n:], strict=True))),
        ("begins and ends read as F.pad's", tuple(zip(begins[::2], begins[1::2], strict=True))[::-1]),
        ("the list reversed", tuple((hi, lo) for lo, hi in pads[::-1])),
    ):
        yield f"{what}: {order}", layer.explicit(padding=order)


@mistake(
    "The pads of the spatial axes are exchanged", frameworks=("torch", "onnx", "keras", "flax"),
    explanation="F.pad begins with the last axis; pads meant for (H, W) are then applied to (W, H).",
    fix="Reverse the order of the axes when converting to or from F.pad.",
    threads=("pytorch/pytorch/issues/37844", "pytorch/executorch/pull/18783"),
)  # fmt: skip
def pads_of_another_axis(layer: Layer) -> Variants:
    pads = layer.pads
    if len(set(pads)) > 1:
        yield f"the pads from last axis to first: {pads[::-1]}", layer.explicit(padding=pads[::-1])


@mistake(
    "The padding is not applied", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="The layer computes with 'valid' padding; a transposed layer crops nothing.",
    fix="Pass the padding; check that auto_pad, or a padding layer before the convolution, was not lost.",
    threads=("microsoft/onnxruntime/issues/4086", "onnx/optimizer/pull/251"),
)  # fmt: skip
def padding_dropped(layer: Layer) -> Variants:
    if any(map(any, layer.pads)):
        extra = layer.explicit().spec.output_padding
        yield "no padding at all", layer.explicit(padding=0, output_padding=extra)


@mistake(
    "The padding is applied twice", frameworks=("onnx", "keras", "torch"),
    explanation="A padding layer precedes the convolution, and the convolution pads as well.",
    fix="Remove one of them: after an explicit Pad, the convolution must not pad (auto_pad unset).",
    threads=("onnx/optimizer/pull/251", "onnx/tensorflow-onnx/pull/850"),
)  # fmt: skip
def padding_applied_twice(layer: Layer) -> Variants:
    doubled = tuple((2 * lo, 2 * hi) for lo, hi in layer.pads)
    if any(map(any, doubled)):
        yield f"padded {doubled}", layer.explicit(padding=doubled)


@mistake(
    "The padding is computed from the kernel without its dilation", frameworks=("onnx", "torch", "keras"),
    explanation="A kernel of k taps with dilation d spans (k - 1)·d + 1 elements; padding for k elements is too small.",
    fix="Use the effective kernel, spec.effective_kernel, in the formula.",
    threads=("microsoft/onnxscript/pull/3037", "onnx/onnx/pull/2043"),
)  # fmt: skip
def pads_without_dilation(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.transposed or all(d == 1 for d in spec.dilation) or not any(map(any, layer.pads)):
        return
    axes = list(zip(layer.x.shape[2:], spec.kernel_size, spec.stride, strict=True))
    same = tuple(same_pads(n, k, s, 1) for n, k, s in axes)
    yield f"padded {same}, 'same' for the undilated kernel", layer.explicit(padding=same)
    half = tuple((k // 2, k // 2) for k in spec.kernel_size)
    yield f"padded {half}, half the undilated kernel", layer.explicit(padding=half)


@mistake(
    "The output's size is rounded up where it should be down, or down where it should be up",
    frameworks=("onnx", "torch", "keras", "flax"),
    explanation="A window that does not fit completely is dropped, so the size is a floor; 'same' has ⌈L/s⌉ outputs, "
                "a ceiling. Confusing the two adds or drops the last output.",
    fix="Use ⌊(L + lo + hi - ke) / s⌋ + 1, for 'same' ⌈L / s⌉.",
    threads=("daa233/learning-notes/issues/16", "onnx/onnx/issues/7721"),
)  # fmt: skip
def output_size_rounded_otherwise(layer: Layer) -> Variants:
    spec, sizes = layer.spec, layer.x.shape[2:]
    if spec.transposed or all(s == 1 for s in spec.stride):
        return
    axes = zip(sizes, layer.pads, spec.effective_kernel, spec.stride, strict=True)
    up = tuple((lo, hi + -(n + lo + hi - ke) % s) for n, (lo, hi), ke, s in axes)
    yield "one more output where a window fits partly", layer.explicit(padding=up)
    if isinstance(spec.padding, str):
        kept = tuple(slice(0, max(n // s, 1)) for n, s in zip(sizes, spec.stride, strict=True))
        yield "⌊L/s⌋ outputs", layer.then(take(..., *kept))

"""Mistakes with stride and dilation."""

from __future__ import annotations

from itertools import product

from convspec.diagnosis.faulty_layer import Layer, Variants, take
from convspec.diagnosis.mistakes.catalogue import described


@described()
def stride_and_dilation_exchanged(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.stride != spec.dilation:
        swapped = {"stride": spec.dilation, "dilation": spec.stride}
        yield "stride and dilation exchanged", layer.respec(**swapped)
        yield "stride and dilation exchanged, the pads unchanged", layer.explicit(**swapped)


@described()
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


@described()
def stride_ignored(layer: Layer) -> Variants:
    if any(s > 1 for s in layer.spec.stride):
        yield "stride 1", layer.respec(stride=1)
        yield "stride 1, the pads unchanged", layer.explicit(stride=1)


@described()
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


@described()
def dilation_for_stride(layer: Layer) -> Variants:
    spec = layer.spec
    if any(s > 1 for s in spec.stride):
        yield "the stride as dilation", layer.respec(stride=1, dilation=spec.stride)
    if any(d > 1 for d in spec.dilation):
        yield "the dilation as stride", layer.respec(stride=spec.dilation, dilation=1)

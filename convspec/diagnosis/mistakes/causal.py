"""Mistakes with causal padding, all of it before the sequence."""

from __future__ import annotations

from convspec.diagnosis.faulty_layer import Layer, Variants
from convspec.diagnosis.mistakes.catalogue import described


def causal_total(layer: Layer) -> int | None:
    """Return the padding before a causal layer's sequence; None for any other layer."""
    spec = layer.spec
    if spec.ndim == 1 and not spec.transposed:
        lo, hi = layer.pads[0]
        if hi == 0 and lo == spec.effective_kernel[0] - 1 > 0:
            return lo
    return None


@described()
def causal_as_symmetric(layer: Layer) -> Variants:
    total = causal_total(layer)
    if total:
        for lo in {total // 2, -(-total // 2)}:
            yield f"padded ({lo}, {total - lo})", layer.explicit(padding=((lo, total - lo),))


@described()
def causal_reversed(layer: Layer) -> Variants:
    total = causal_total(layer)
    if total:
        yield f"padded (0, {total})", layer.explicit(padding=((0, total),))


@described()
def causal_without_dilation(layer: Layer) -> Variants:
    total, short = causal_total(layer), layer.spec.kernel_size[0] - 1
    if total and total != short:
        for pads in ((short, 0), (short, total - short), (total, total - short), (total - short, short)):
            yield f"padded {pads}", layer.explicit(padding=(pads,))


@described()
def symmetric_as_causal(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.ndim == 1 and not spec.transposed and causal_total(layer) is None and any(layer.pads[0]):
        total = sum(layer.pads[0])
        yield f"padded ({total}, 0)", layer.explicit(padding=((total, 0),))
        yield f"padded (0, {total})", layer.explicit(padding=((0, total),))

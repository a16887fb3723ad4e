"""Mistakes in the amount of padding, and in its side."""

from __future__ import annotations

from convspec.diagnosis.faulty_layer import Layer, Variants, take
from convspec.diagnosis.mistakes.catalogue import described
from convspec.diagnosis.mistakes.causal import causal_total
from convspec.spec import same_pads


def _unequal(layer: Layer) -> bool:
    """Return whether the two sides differ by an odd element only."""
    differences = {abs(lo - hi) for lo, hi in layer.pads}
    return not layer.spec.transposed and differences <= {0, 1} and 1 in differences


@described()
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


@described()
def symmetric_as_same(layer: Layer) -> Variants:
    if layer.spec.transposed or isinstance(layer.spec.padding, str) or any(lo != hi for lo, hi in layer.pads):
        return
    yield "padded as 'same' does, the odd element after", layer.respec(padding="same")
    yield "padded as 'same_lower' does, the odd element before", layer.respec(padding="same_lower")


@described()
def odd_cell_on_the_wrong_side(layer: Layer) -> Variants:
    if not _unequal(layer):
        return
    pads = layer.pads
    yield "before and after exchanged on every axis", layer.explicit(padding=tuple(p[::-1] for p in pads))
    for axis, (lo, hi) in enumerate(pads):
        if lo != hi and sum(a != b for a, b in pads) > 1:
            changed = tuple((hi, lo) if i == axis else p for i, p in enumerate(pads))
            yield f"before and after exchanged on spatial axis {axis}", layer.explicit(padding=changed)


@described()
def pads_mirrored(layer: Layer) -> Variants:
    if layer.spec.transposed or _unequal(layer) or all(lo == hi for lo, hi in layer.pads):
        return
    yield "before and after exchanged on every axis", layer.explicit(padding=tuple(p[::-1] for p in layer.pads))


@described()
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


@described()
def same_without_the_input_size(layer: Layer) -> Variants:
    if layer.spec.transposed or not isinstance(layer.spec.padding, str):
        return
    totals = [ke - 1 for ke in layer.spec.effective_kernel]
    pads = tuple((t // 2, t - t // 2) for t in totals)
    yield f"padded {pads}, as for stride 1", layer.explicit(padding=pads)


@described()
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


@described()
def pads_of_another_axis(layer: Layer) -> Variants:
    pads = layer.pads
    if len(set(pads)) > 1:
        yield f"the pads from last axis to first: {pads[::-1]}", layer.explicit(padding=pads[::-1])


@described()
def padding_dropped(layer: Layer) -> Variants:
    if any(map(any, layer.pads)):
        extra = layer.explicit().spec.output_padding
        yield "no padding at all", layer.explicit(padding=0, output_padding=extra)


@described()
def padding_applied_twice(layer: Layer) -> Variants:
    doubled = tuple((2 * lo, 2 * hi) for lo, hi in layer.pads)
    if any(map(any, doubled)):
        yield f"padded {doubled}", layer.explicit(padding=doubled)


@described()
def pads_without_dilation(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.transposed or all(d == 1 for d in spec.dilation) or not any(map(any, layer.pads)):
        return
    axes = list(zip(layer.x.shape[2:], spec.kernel_size, spec.stride, strict=True))
    same = tuple(same_pads(n, k, s, 1) for n, k, s in axes)
    yield f"padded {same}, 'same' for the undilated kernel", layer.explicit(padding=same)
    half = tuple((k // 2, k // 2) for k in spec.kernel_size)
    yield f"padded {half}, half the undilated kernel", layer.explicit(padding=half)


@described()
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

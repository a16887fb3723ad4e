"""Mistakes in the values of the padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convspec.diagnosis.faulty_layer import Array, Layer, Variants, derive
from convspec.diagnosis.mistakes.catalogue import described
from convspec.spec import PADDING_MODES, Pads


def _padded(layer: Layer) -> bool:
    return not layer.spec.transposed and any(map(any, layer.pads))


@described()
def padding_mode_lost(layer: Layer) -> Variants:
    if _padded(layer) and layer.spec.padding_mode != "zeros":
        yield f"zeros instead of {layer.spec.padding_mode}", layer.respec(padding_mode="zeros")


@described()
def padding_mode_replaced(layer: Layer) -> Variants:
    if _padded(layer):
        for mode in PADDING_MODES[1:]:
            if mode != layer.spec.padding_mode:
                yield f"{mode} instead of {layer.spec.padding_mode}", layer.respec(padding_mode=mode)


@described()
def reflection_repeats_the_edge(layer: Layer) -> Variants:
    if _padded(layer) and layer.spec.padding_mode in ("reflect", "replicate"):
        x = np.pad(layer.x, [(0, 0), (0, 0), *layer.pads], mode="symmetric")
        yield "padded with NumPy's 'symmetric'", replace(layer.explicit(padding=0), x=x)


@described()
def circular_padding_halved(layer: Layer) -> Variants:
    if not _padded(layer) or layer.spec.padding_mode == "zeros":
        return
    halves = tuple((-(-lo // 2), hi // 2) for lo, hi in layer.pads)
    yield f"padded {halves}", layer.explicit(padding=halves)
    for side, pads in (("before", [(0, hi) for _, hi in layer.pads]), ("after", [(lo, 0) for lo, _ in layer.pads])):
        yield f"the pads {side} omitted", layer.explicit(padding=tuple(pads))


@described()
def flax_circular_for_same(layer: Layer) -> Variants:
    if layer.spec.transposed or layer.spec.padding_mode not in ("circular", "reflect"):
        return
    pads = tuple(((ke - 1) // 2, ke // 2) for ke in layer.spec.effective_kernel)
    if pads != layer.pads:
        yield f"padded {pads}", layer.explicit(padding=pads)


def _pad_with(x: Array, widths: Pads, number: float) -> Array:
    return np.pad(x, widths, constant_values=number)


@described()
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

"""Mistakes at the edges of the output: a missing row, a shift, a border that is not computed; wrong activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from convspec.diagnosis.faulty_layer import FILL, Array, Layer, Variants, pad, take
from convspec.diagnosis.mistakes.catalogue import described
from convspec.spec import layouts, product


@described()
def row_dropped(layer: Layer) -> Variants:
    ends = (("first", slice(1, None)), ("last", slice(None, -1)))
    for axis, letter in enumerate(layouts.spatial_letters(layer.spec.ndim), start=2):
        for what, kept in ends:
            yield f"the {what} position along {letter} dropped", layer.then(take(*(slice(None),) * axis, kept))
    for what, kept in ends if layer.spec.ndim > 1 else ():
        yield f"the {what} position along every axis dropped", layer.then(take(..., *(kept,) * layer.spec.ndim))


@described()
def window_shifted(layer: Layer) -> Variants:
    if layer.spec.transposed:
        return
    letters = layouts.spatial_letters(layer.spec.ndim)
    choices: list[tuple[str, tuple[int, ...]]] = [(letter, (i,)) for i, letter in enumerate(letters)]
    if len(letters) > 1:
        choices.insert(0, ("every axis", tuple(range(len(letters)))))
    for what, axes in choices:
        for by, when in ((1, "earlier"), (-1, "later")):
            shifted = _shift(layer, axes, by)
            if shifted is not None:
                yield f"the windows one element {when} along {what}", shifted


def _shift(layer: Layer, axes: tuple[int, ...], by: int) -> Layer | None:
    """Move one element of padding to the start (1) or end (-1); where there is no padding, drop an input element."""
    pads, cut = list(layer.pads), [slice(None)] * layer.x.ndim
    for axis in axes:
        lo, hi = pads[axis][0] + by, pads[axis][1] - by
        cut[axis + 2] = slice(max(-lo, 0), layer.x.shape[axis + 2] - max(-hi, 0))
        pads[axis] = (max(lo, 0), max(hi, 0))
    if layer.spec.padding_mode != "zeros" and any(c != slice(None) for c in cut):
        x = layer.x[tuple(cut)]
        return None if x.shape != layer.x.shape else layer.explicit(padding=tuple(pads))
    return replace(layer.explicit(padding=tuple(pads)), x=layer.x[tuple(cut)])


@described()
def border_not_computed(layer: Layer) -> Variants:
    if layer.spec.transposed or not any(map(any, layer.pads)):
        return
    bare = layer.explicit(padding=0)
    missing = [n - m for n, m in zip(layer.output_shape[2:], bare.output_shape[2:], strict=True)]
    if min(missing) < 0:
        return
    for what, before in (("on both sides of", [n // 2 for n in missing]), ("after", [0] * len(missing))):
        after = [n - b for b, n in zip(before, missing, strict=True)]
        yield f"zeros {what} the unpadded output", bare.then(pad(before, after))


def _leaky(slope: float) -> Callable[[Array], Array]:
    return lambda y: np.where(y < 0, slope * y, y)


@described()
def activation_fused(layer: Layer) -> Variants:
    yield "ReLU of the output", replace(layer, finish=lambda y: np.maximum(y, 0.0))
    yield "ReLU6 of the output", replace(layer, finish=lambda y: np.clip(y, 0.0, 6.0))
    for slope in (0.01, 0.2, 0.3):
        yield f"leaky ReLU ({slope}) of the output", replace(layer, finish=_leaky(slope))


@described()
def nothing_computed(layer: Layer) -> Variants:
    filled = layer.then(lambda y: np.full_like(y, FILL))
    yield "zeros", filled
    if layer.params.bias is not None and product(layer.output_shape):
        yield "the bias alone", filled.add(layer.params.bias.reshape(-1, *(1,) * layer.spec.ndim))

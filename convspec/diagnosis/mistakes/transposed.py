"""Mistakes in the rows that a transposed convolution keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convspec.diagnosis.faulty_layer import Layer, Variants, pad
from convspec.diagnosis.mistakes.catalogue import described
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


@described()
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


@described()
def transposed_crop_on_the_wrong_side(layer: Layer) -> Variants:
    if layer.spec.transposed and any(lo != hi for lo, hi in layer.pads):
        mirrored = tuple((hi, lo) for lo, hi in layer.pads)
        yield "the crops before and after exchanged", layer.explicit(padding=mirrored)


@described()
def output_padding_on_the_wrong_side(layer: Layer) -> Variants:
    if layer.spec.transposed and any(_extra(layer)):
        first = [lo - extra for (lo, _), extra in zip(layer.pads, _extra(layer), strict=True)]
        yield "the rows of output_padding kept at the beginning", _window(layer, first)


@described()
def output_padding_dropped(layer: Layer) -> Variants:
    if layer.spec.transposed and any(_extra(layer)):
        yield "no output_padding", layer.explicit(output_padding=0)


@described()
def output_padding_as_zeros(layer: Layer) -> Variants:
    extra = list(_extra(layer))
    if not layer.spec.transposed or not any(extra):
        return
    none, short = [0] * len(extra), layer.explicit(output_padding=0)
    yield "rows of zeros at the end", short.then(pad(none, extra))
    yield "rows at the end that hold the bias alone", _add_bias_rows(short, none, extra)


@described()
def output_padding_on_the_input(layer: Layer) -> Variants:
    extra = _extra(layer)
    if layer.spec.transposed and any(extra):
        x = np.pad(layer.x, [(0, 0), (0, 0), *((0, e) for e in extra)])
        yield "that many zeros after the input", replace(layer.explicit(output_padding=0), x=x)
        yield "that many zeros after the input, and output_padding too", replace(layer.explicit(), x=x)


@described()
def transposed_padding_on_the_input(layer: Layer) -> Variants:
    if layer.spec.transposed and any(map(any, layer.pads)):
        x = np.pad(layer.x, [(0, 0), (0, 0), *layer.pads])
        yield "the input padded, nothing cropped", replace(layer.explicit(padding=0), x=x)
        yield "the input padded, and the output cropped", replace(layer.explicit(), x=x)


@described()
def transposed_padding_of_the_dilated_input(layer: Layer) -> Variants:
    if not layer.spec.transposed:
        return
    spans = [ke - 1 for ke in layer.spec.effective_kernel]
    crop: Pads = tuple((span - lo, span - hi) for span, (lo, hi) in zip(spans, layer.pads, strict=True))
    if crop != layer.pads:
        yield f"{crop} cropped", layer.explicit(padding=crop)


@described()
def transposed_valid_length(layer: Layer) -> Variants:
    spec = layer.spec
    if not spec.transposed:
        return
    gaps = tuple(max(s - ke, 0) for s, ke in zip(spec.stride, spec.effective_kernel, strict=True))
    if any(gaps):
        for extra in ((0,) * spec.ndim, gaps):
            yield f"rows after the last window: {extra}", layer.explicit(output_padding=extra)


@described()
def keras_output_padding_zero_for_none(layer: Layer) -> Variants:
    spec = layer.spec
    if spec.transposed and layer.respec(padding="same", output_padding=0).pads == layer.pads:
        for op in range(max(spec.stride)):
            totals = [max(2 * (ke // 2) - op, 0) for ke in spec.effective_kernel]
            crop = tuple((t // 2, t - t // 2) for t in totals)
            yield f"{crop} cropped, for output_padding={op}", layer.explicit(padding=crop, output_padding=0)


@described()
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

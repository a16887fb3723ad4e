"""What the numbers of a layer mean, in plain sentences, and where the size of its output comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convspec.spec import ConvSpec, layouts, output_spatial, resolve_padding

_KIND = {1: "1-D", 2: "2-D", 3: "3-D"}
_MODES = {
    "zeros": "zeros",
    "reflect": "the input mirrored at its border cell",
    "replicate": "the border cell, repeated",
    "circular": "the cells of the opposite side",
}


def summary(spec: ConvSpec) -> str:
    """The layer in one sentence."""
    kind = "transposed convolution" if spec.transposed else "convolution"
    if spec.depthwise:
        kind = f"depthwise {kind}"
    elif spec.groups > 1:
        kind = f"{kind} in {spec.groups} groups"
    size = _times((spec.in_channels // spec.groups, *spec.kernel_size))
    rank = _KIND.get(spec.ndim, f"{spec.ndim}-D")
    filters = "filter" if spec.out_channels == 1 else "filters"
    return f"A {rank} {kind}: {spec.out_channels} {filters} of {size} numbers."


def meanings(spec: ConvSpec) -> Iterator[tuple[str, str, str]]:
    """Field, value and meaning, with this layer's numbers; fields that do nothing here are left out."""
    groups = spec.groups
    yield "in_channels", str(spec.in_channels), f"every cell of the input holds {_count(spec.in_channels, 'number')}"
    yield (
        "out_channels",
        str(spec.out_channels),
        f"{_count(spec.out_channels, 'filter')}, each of which makes one map of the output",
    )
    yield "kernel_size", _per_axis(spec.kernel_size), _kernel(spec)
    yield "stride", _per_axis(spec.stride), _stride(spec)
    yield "padding", _padding_value(spec), _padding(spec)
    if spec.padding_mode != "zeros":
        yield "padding_mode", spec.padding_mode, f"the pads hold {_MODES[spec.padding_mode]}"
    if max(spec.dilation) > 1:
        spans = _times(spec.effective_kernel)
        yield "dilation", _per_axis(spec.dilation), f"the taps stand apart, so the kernel spans {spans} cells"
    if groups > 1:
        sees, makes = spec.in_channels // groups, spec.out_channels // groups
        yield (
            "groups",
            str(groups),
            f"the channels are split: each part of {sees} in makes {makes} out, and sees no other",
        )
    if any(spec.output_padding):
        yield (
            "output_padding",
            _per_axis(spec.output_padding),
            "that many rows of the full result are kept beyond the crop at the end",
        )
    bias = f"one number is added to each of the {spec.out_channels} maps" if spec.bias else "nothing is added"
    yield "bias", str(spec.bias), bias


def _kernel(spec: ConvSpec) -> str:
    taps = _times(spec.kernel_size)
    if spec.transposed:
        return f"every input cell is spread over {taps} cells of the output"
    if max(spec.kernel_size) == 1:
        return "each output looks at one cell: the channels are mixed, neighbours are not"
    return f"each output looks at {taps} cells of every channel that it sees"


def _stride(spec: ConvSpec) -> str:
    if max(spec.stride) == 1:
        return "neighbouring outputs look at neighbouring places"
    if spec.transposed:
        return f"neighbouring inputs are spread {_times(spec.stride)} cells apart: the output is larger by that"
    return f"neighbouring outputs look {_times(spec.stride)} cells apart: the output is smaller by that"


def _padding_value(spec: ConvSpec) -> str:
    return spec.padding if isinstance(spec.padding, str) else _per_axis(spec.padding)


def _padding(spec: ConvSpec) -> str:
    if isinstance(spec.padding, str):
        if spec.transposed:
            return "cropped so that the output has stride times the cells of the input"
        side = "in front of" if spec.padding == "same_lower" else "after"
        return f"as many pads as ⌈size / stride⌉ outputs need; an odd one stands {side} the input"
    if not any(map(any, spec.padding)):
        return "nothing is cropped" if spec.transposed else "the kernel never leaves the input"
    what = "cells cropped off the full result" if spec.transposed else "cells added to the input"
    return f"{what}, (before, after) on every axis" if len(set(spec.padding)) == 1 else f"{what}, (before, after)"


def size_formulas(spec: ConvSpec, spatial: Sequence[int] | None = None) -> list[tuple[str, str]]:
    """Axis and the formula of its output size, filled in; with letters for sizes that are not known.

    Raises:
        ShapeError: where the layer has no output for that size.
    """
    letters = layouts.spatial_letters(spec.ndim)
    sizes: Sequence[int | str] = letters if spatial is None else spatial
    results = [""] * spec.ndim if spatial is None else [f" = {n}" for n in output_spatial(spec, spatial)]
    pads, extra = resolve_padding(spec, spatial or (1,) * spec.ndim)
    found = []
    for axis, (letter, size, result) in enumerate(zip(letters, sizes, results, strict=True)):
        ke, s, (lo, hi) = spec.effective_kernel[axis], spec.stride[axis], pads[axis]
        if spec.padding == "same" and spec.transposed:
            formula = f"{size}·{s}{result}, cropped by {(lo, hi - extra[axis])}"
        elif isinstance(spec.padding, str):
            formula = f"⌈{size} / {s}⌉{result}" + ("" if spatial is None else f", padded by {(lo, hi)}")
        elif spec.transposed:
            more = f" + {extra[axis]}" if extra[axis] else ""
            formula = f"({size} - 1)·{s} + {ke} - {lo} - {hi}{more}{result}"
        else:
            formula = f"⌊({size} + {lo} + {hi} - {ke}) / {s}⌋ + 1{result}"
        found.append((letter, formula))
    return found


def parameter_formula(spec: ConvSpec) -> str:
    """``16·3·3·3 + 16 = 448``."""
    bias = f" + {spec.out_channels}" if spec.bias else ""
    return f"{'·'.join(map(str, spec.kernel_shape))}{bias} = {spec.num_parameters:,}"


def mac_formula(spec: ConvSpec, input_shape: Sequence[int]) -> str:
    """``16·3·3·3 × 16·16 = 110,592``: the kernel's products at every place; ``input_shape`` is ``(N, C, *spatial)``.

    Raises:
        ShapeError: where the layer has no output for that input.
    """
    places = input_shape[2:] if spec.transposed else output_spatial(spec, input_shape[2:])
    batch = f"{input_shape[0]} × " if input_shape[0] != 1 else ""
    kernel, cells = ("·".join(map(str, sizes)) for sizes in (spec.kernel_shape, places))
    return f"{batch}{kernel} × {cells} = {spec.macs(input_shape):,}"


def _times(values: Sequence[int]) -> str:
    return " × ".join(map(str, values))


def _per_axis(values: Sequence[object]) -> str:
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")

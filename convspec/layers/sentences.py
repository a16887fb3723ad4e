"""A layer in plain sentences: the meaning of its numbers, and the formula of its output size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convspec.spec import ConvSpec, layouts, output_spatial, resolve_padding

_PARTS = {2: "half", 3: "a third of", 4: "a quarter of"}
_MULTIPLES = {2: "twice"}


def times(values: Sequence[object]) -> str:
    """Return ``3 × 5``."""
    return " × ".join(map(str, values))


def listed(words: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(number: int, noun: str) -> str:
    """Return ``1 filter``, ``2 filters``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def unit(ndim: int) -> str:
    """Return the name of one position of a tensor: element in one dimension, else pixel."""
    return "element" if ndim == 1 else "pixel"


def summary(spec: ConvSpec) -> str:
    """Return the layer in one sentence."""
    kind = "transposed convolution" if spec.transposed else "convolution"
    if spec.depthwise:
        kind = f"depthwise {kind}"
    elif spec.groups > 1:
        kind = f"{kind} in {spec.groups} groups"
    size = times((spec.in_channels // spec.groups, *spec.kernel_size))
    return f"A {spec.ndim}-D {kind}: {counted(spec.out_channels, 'filter')} of {size} numbers."


def meanings(spec: ConvSpec) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and meaning of each field, with this layer's numbers; fields without effect are left out."""
    groups = spec.groups
    inputs = counted(spec.in_channels, "number")
    yield "in_channels", str(spec.in_channels), f"every input {unit(spec.ndim)} holds {inputs}"
    maps = "one output channel (feature map)" + (" each" if spec.out_channels > 1 else "")
    yield "out_channels", str(spec.out_channels), f"{counted(spec.out_channels, 'filter')}, {maps}"
    yield "kernel_size", _per_axis(spec.kernel_size), _kernel(spec)
    yield "stride", _per_axis(spec.stride), _stride(spec)
    yield "padding", spec.padding if isinstance(spec.padding, str) else _per_axis(spec.padding), _padding(spec)
    if spec.padding_mode != "zeros":
        border = {
            "reflect": "mirror the input at its border {}",
            "replicate": "repeat the border {}",
            "circular": "repeat the {}s of the opposite side",
        }[spec.padding_mode]
        yield "padding_mode", spec.padding_mode, f"the pads {border.format(unit(spec.ndim))}"
    if max(spec.dilation) > 1:
        span = f"{times(spec.effective_kernel)} {unit(spec.ndim)}s"
        yield "dilation", _per_axis(spec.dilation), f"gaps between the taps widen the kernel to {span}"
    if groups > 1:
        sizes = f"{counted(spec.in_channels // groups, 'input')} and {counted(spec.out_channels // groups, 'output')}"
        yield "groups", str(groups), f"the channels are split into {groups} independent groups of {sizes}"
    if any(spec.output_padding):
        rows = "rows of the full result that are kept beyond the crop at the end"
        yield "output_padding", _per_axis(spec.output_padding), rows
    bias = "one number is added to every output channel" if spec.bias else "nothing is added"
    yield "bias", str(spec.bias), bias


def _kernel(spec: ConvSpec) -> str:
    name = unit(spec.ndim)
    if spec.transposed:
        return f"every input {name} is spread over {times(spec.kernel_size)} {name}s of the output"
    if max(spec.kernel_size) == 1:
        return f"every output reads one {name}: it mixes channels, not neighbours"
    channel = "every input channel" if spec.groups == 1 else "every channel of its group"
    return f"every output reads {times(spec.kernel_size)} {name}s of {channel}"


def _stride(spec: ConvSpec) -> str:
    steps = spec.stride[:1] if len(set(spec.stride)) == 1 else spec.stride
    distance = f"{times(steps)} {unit(spec.ndim)}" + ("" if steps == (1,) else "s")
    written, moved = f"neighbouring inputs are written {distance} apart", f"the window moves {distance} per step"
    moves = written if spec.transposed else moved
    if steps == (1,):
        return moves
    if len(steps) > 1:
        return f"{moves}, so the output is about {times(steps)} times {'larger' if spec.transposed else 'smaller'}"
    (step,) = steps
    part = _MULTIPLES.get(step, f"{step} times") if spec.transposed else _PARTS.get(step, f"1/{step} of")
    return f"{moves}, so the output is about {part} the size"


def _padding(spec: ConvSpec) -> str:
    name = unit(spec.ndim)
    if isinstance(spec.padding, str):
        if spec.transposed:
            return "the result is cropped so that the output is stride times the size of the input"
        side = "before" if spec.padding == "same_lower" else "after"
        return f"pads for ⌈size / stride⌉ outputs; an odd {name} goes {side} the input"
    if not any(map(any, spec.padding)):
        return "nothing is cropped" if spec.transposed else "no pads: the kernel stays inside the input"
    what = f"{name}s cropped off the full result" if spec.transposed else f"{name}s added to the input"
    return f"{what}, (before, after)" + (" on every axis" if len(set(spec.padding)) == 1 and spec.ndim > 1 else "")


def field(facts: Mapping[str, Any]) -> str:
    """Return the receptive field, from the facts of a layer or chain, in words."""
    name, size, jump = unit(len(facts["jump"])), facts["receptive field"], facts["jump"]
    words = f"{times(size)} {name}" + ("" if set(size) == {1} else "s")
    apart = f"{_point(jump[:1] if len(set(jump)) == 1 else jump)} {name}" + ("" if set(jump) == {"1"} else "s")
    return f"{words}; outputs are {apart} apart, the first is centred on {_point(facts['offset'])}"


def _point(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def size_formulas(spec: ConvSpec, spatial: Sequence[int] | None = None) -> list[tuple[str, str]]:
    """Return each axis with the formula of its output size, filled in; unknown sizes are letters.

    Raises:
        ShapeError: if the layer has no output for that size.
    """
    letters = layouts.spatial_letters(spec.ndim)
    sizes: Sequence[int | str] = letters if spatial is None else spatial
    results = [""] * spec.ndim if spatial is None else [f" = {n}" for n in output_spatial(spec, spatial)]
    pads, extra = resolve_padding(spec, spatial or (1,) * spec.ndim)
    formulas = []
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
        formulas.append((letter, formula))
    return formulas


def parameter_formula(spec: ConvSpec) -> str:
    """Return ``16·3·3·3 + 16 = 448``."""
    bias = f" + {spec.out_channels}" if spec.bias else ""
    return f"{'·'.join(map(str, spec.kernel_shape))}{bias} = {spec.num_parameters:,}"


def mac_formula(spec: ConvSpec, input_shape: Sequence[int]) -> str:
    """Return ``16·3·3·3 × 16·16 = 110,592``: kernel size times positions, for an input ``(N, C, *spatial)``.

    Raises:
        ShapeError: if the layer has no output for that input.
    """
    positions = input_shape[2:] if spec.transposed else output_spatial(spec, input_shape[2:])
    batch = f"{input_shape[0]} × " if input_shape[0] != 1 else ""
    kernel, size = ("·".join(map(str, sizes)) for sizes in (spec.kernel_shape, positions))
    return f"{batch}{kernel} × {size} = {spec.macs(input_shape):,}"


def _per_axis(values: Sequence[object]) -> str:
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))

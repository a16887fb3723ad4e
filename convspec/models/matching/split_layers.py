"""Layers that a graph computes in several convolutions, each for some of the channels. No framework: readings only."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from convspec.errors import SpecError
from convspec.models.matching.kernels import ALIKE, BatchNorm, Layer, mean_cosine, unit_vectors
from convspec.spec import ConvParams


class LayerPart(NamedTuple):
    """One of several parts of a layer; it reads the layer's input channels ``start:end``."""

    number: int
    of: int
    start: int
    end: int

    def __str__(self) -> str:
        return f"part {self.number + 1} of {self.of}"


def join(parts: Sequence[Layer], *, grouped: bool) -> Layer | None:
    """Return the layer that the parts make together, under the first one's names; None where they make none.

    Args:
        parts: in the order of their output channels. A kernel whose shape does not fit the others' counts as zeros.
        grouped: whether each part reads channels of its own; else all read the same ones.
    """
    axis = _axis(parts[0], grouped=grouped)
    shapes = [_without(part.params.kernel.shape, axis) for part in parts]
    common = Counter(shapes).most_common(1)[0][0]
    first = next(part for part, shape in zip(parts, shapes, strict=True) if shape == common)
    kernels, biases = [], []
    for part, shape in zip(parts, shapes, strict=True):
        kernel, bias = part.params.kernel, part.params.bias
        kernels.append(kernel if shape == common else np.zeros(_fitting_shape(first, part, axis), kernel.dtype))
        biases.append(np.zeros(part.spec.out_channels, kernel.dtype) if bias is None else bias)
    bias = None if all(part.params.bias is None for part in parts) else np.concatenate(biases)
    inputs, groups = first.spec.in_channels, first.spec.groups
    if grouped:
        inputs, groups = sum(part.spec.in_channels for part in parts), sum(part.spec.groups for part in parts)
    outputs = sum(part.spec.out_channels for part in parts)
    try:
        spec = replace(first.spec, in_channels=inputs, out_channels=outputs, groups=groups, bias=bias is not None)
    except SpecError:
        return None
    params = ConvParams(np.concatenate(kernels, axis), bias)
    if params.kernel.shape != spec.kernel_shape:
        return None
    return Layer(parts[0].path, spec, params, pads=first.pads, alias=parts[0].alias)


def _fitting_shape(first: Layer, part: Layer, axis: int) -> tuple[int, ...]:
    """Return the shape of the first part's kernel with this part's number of channels."""
    spec, shape = part.spec, list(first.params.kernel.shape)
    shape[axis] = spec.in_channels if spec.transposed and axis == 0 else spec.out_channels
    return tuple(shape)


def _axis(layer: Layer, *, grouped: bool) -> int:
    """Return the axis that joins the parts' kernels ``(O, I/g, …)``, transposed ``(I, O/g, …)``."""
    return 1 if layer.spec.transposed and not grouped else 0


def _without(shape: tuple[int, ...], axis: int) -> Hashable:
    return shape[:axis] + shape[axis + 1 :]


def split(layer: Layer, sizes: Sequence[int], *, grouped: bool) -> list[Layer] | None:
    """Split a layer into parts of these numbers of output channels; None where it cannot be split there."""
    spec = layer.spec
    group = spec.out_channels // spec.groups
    ends = list(itertools.accumulate(sizes))
    if layer.linear or ends[-1] != spec.out_channels or min(sizes) < 1 or (spec.groups > 1) != grouped:
        return None
    if grouped and any(end % group for end in ends):
        return None
    parts, width = [], spec.in_channels // spec.groups
    for number, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        inputs = ((end - size) // group * width, end // group * width) if grouped else (0, spec.in_channels)
        parts.append(_cut(layer, slice(end - size, end), LayerPart(number, len(sizes), *inputs), grouped=grouped))
    return parts


def _cut(layer: Layer, outputs: slice, part: LayerPart, *, grouped: bool) -> Layer:
    spec, kernel, bias = layer.spec, layer.params.kernel, layer.params.bias
    size = outputs.stop - outputs.start
    groups = size * spec.groups // spec.out_channels if grouped else 1
    channels = slice(part.start, part.end) if spec.transposed and grouped else outputs
    kernel = kernel[(slice(None),) * _axis(layer, grouped=grouped) + (channels,)]
    spec = replace(spec, in_channels=part.end - part.start, out_channels=size, groups=groups)
    params = ConvParams(kernel, None if bias is None else bias[outputs])
    norm = None if layer.norm is None else _channels_of(layer.norm, outputs)
    epilogue = tuple(_channels_of(norm, outputs) for norm in layer.epilogue)
    return replace(layer, spec=spec, params=params, norm=norm, epilogue=epilogue, part=part)


def _channels_of(norm: BatchNorm, channels: slice) -> BatchNorm:
    gain, shift, mean, variance = (a[channels] for a in (norm.gain, norm.shift, norm.mean, norm.variance))
    return BatchNorm(gain, shift, mean, variance, norm.epsilon)


def alike(a: Layer, b: Layer) -> bool:
    """Whether two kernels are equal up to a factor per output channel and a few numbers."""
    mine, other = unit_vectors(a), unit_vectors(b)
    return mine.shape == other.shape and mean_cosine(mine, other) >= ALIKE


def match_parts(nodes: Sequence[Layer], parts: Sequence[Layer]) -> list[int | None]:
    """Return for each node the place of the part with its kernel, its own place first; None where no part has it."""
    ours, theirs = ([unit_vectors(layer) for layer in layers] for layers in (nodes, parts))

    def same(a: int, b: int) -> bool:
        return ours[a].shape == theirs[b].shape and mean_cosine(ours[a], theirs[b]) >= ALIKE

    matches: list[int | None] = [place if same(place, place) else None for place in range(len(nodes))]
    free = [place for place, own in enumerate(matches) if own is None]
    for place in list(free):
        matches[place] = next((other for other in free if same(place, other)), None)
        free = [other for other in free if other != matches[place]]
    return matches


def assign_rest(matches: Sequence[int | None]) -> list[int]:
    """Give each node without a part the part of its own place, or else one that is left."""
    free = [place for place in range(len(matches)) if place not in matches]
    places = [place if own is None and place in free else own for place, own in enumerate(matches)]
    left = iter([place for place in free if place not in places])
    return [next(left) if place is None else place for place in places]

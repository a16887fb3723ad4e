"""A layer for which a graph has several convolutions, each for some of its channels. No framework: readings only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convspec.errors import SpecError
from convspec.models.matching.kernels import ALIKE, Layer, Normalised, directions
from convspec.spec import ConvParams

if TYPE_CHECKING:
    from convspec.models.matching.kernels import Array


class Piece(NamedTuple):
    """What a part is of its layer: which of how many, and of the layer's input the channels ``start:end``."""

    number: int
    of: int
    start: int
    end: int

    def __str__(self) -> str:
        return f"part {self.number + 1} of {self.of}"


def joined(parts: Sequence[Layer], *, grouped: bool) -> Layer | None:
    """The layer that the parts are together, under the first one's names; None where they make none.

    Args:
        parts: in the order of their output channels. One whose kernel does not go with the others' counts as zeros.
        grouped: whether each reads channels of its own; else all read the same ones.
    """
    axis = _axis(parts[0], grouped=grouped)
    forms = [_without(part.params.kernel.shape, axis) for part in parts]
    common = Counter(forms).most_common(1)[0][0]
    first = next(part for part, form in zip(parts, forms, strict=True) if form == common)
    kernels, biases = [], []
    for part, form in zip(parts, forms, strict=True):
        kernel, bias = part.params.kernel, part.params.bias
        kernels.append(kernel if form == common else np.zeros(_like(first, part, axis), kernel.dtype))
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


def _like(first: Layer, part: Layer, axis: int) -> tuple[int, ...]:
    """The shape of the first one's kernel, for as many channels as the part has."""
    spec, shape = part.spec, list(first.params.kernel.shape)
    shape[axis] = spec.in_channels if spec.transposed and axis == 0 else spec.out_channels
    return tuple(shape)


def _axis(layer: Layer, *, grouped: bool) -> int:
    """Along which the parts' kernels lie beside one another: ``(O, I/g, …)``, transposed ``(I, O/g, …)``."""
    return 1 if layer.spec.transposed and not grouped else 0


def _without(shape: tuple[int, ...], axis: int) -> Hashable:
    return shape[:axis] + shape[axis + 1 :]


def pieces(layer: Layer, sizes: Sequence[int], *, grouped: bool) -> list[Layer] | None:
    """The layer cut into parts of so many output channels; None where it cannot be cut there."""
    spec = layer.spec
    group = spec.out_channels // spec.groups
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    if layer.linear or ends[-1] != spec.out_channels or min(sizes) < 1 or (spec.groups > 1) != grouped:
        return None
    if grouped and any(end % group for end in ends):
        return None
    found = []
    for number, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        outputs = slice(end - size, end)
        inputs = slice(0, spec.in_channels)
        if grouped:
            wide = spec.in_channels // spec.groups
            inputs = slice(outputs.start // group * wide, outputs.stop // group * wide)
        piece = Piece(number, len(sizes), inputs.start, inputs.stop)
        found.append(_cut(layer, inputs, outputs, piece, grouped=grouped))
    return found


def _cut(layer: Layer, inputs: slice, outputs: slice, piece: Piece, *, grouped: bool) -> Layer:
    spec, kernel, bias = layer.spec, layer.params.kernel, layer.params.bias
    groups = (outputs.stop - outputs.start) * spec.groups // spec.out_channels if grouped else 1
    small = replace(
        spec, in_channels=inputs.stop - inputs.start, out_channels=outputs.stop - outputs.start, groups=groups
    )
    along = inputs if spec.transposed and grouped else outputs
    kernel = kernel[(slice(None),) * _axis(layer, grouped=grouped) + (along,)]
    params = ConvParams(kernel, None if bias is None else bias[outputs])
    norm = None if layer.norm is None else _of(layer.norm, outputs)
    behind = tuple(_of(one, outputs) for one in layer.behind)
    return replace(layer, spec=small, params=params, norm=norm, behind=behind, piece=piece)


def _of(norm: Normalised, channels: slice) -> Normalised:
    cut = {name: getattr(norm, name)[channels] for name in ("gain", "shift", "mean", "variance")}
    return Normalised(**cut, epsilon=norm.epsilon)


def alike(a: Layer, b: Layer) -> bool:
    """Whether the kernels are the same but for a factor of each output channel, and a few of its numbers."""
    mine, other = directions(a), directions(b)
    return mine.shape == other.shape and _near(mine, other)


def _near(a: Array, b: Array) -> bool:
    return float(np.mean(np.abs(np.einsum("oi,oi->o", a, b)))) >= ALIKE


def placed(parts: Sequence[Layer], cut: Sequence[Layer]) -> list[int | None]:
    """Which piece each part has the kernel of: that of its own place if it can be, else another; None: no one's."""
    mine, others = [directions(part) for part in parts], [directions(piece) for piece in cut]

    def same(a: int, b: int) -> bool:
        return mine[a].shape == others[b].shape and _near(mine[a], others[b])

    found: list[int | None] = [place if same(place, place) else None for place in range(len(parts))]
    free = [place for place, own in enumerate(found) if own is None]
    for place in list(free):
        found[place] = next((other for other in free if same(place, other)), None)
        free = [other for other in free if other != found[place]]
    return found


def filled(places: Sequence[int | None]) -> list[int]:
    """The same, a part that has no piece's kernel being that of its own place, or else of one that is left."""
    free = [place for place in range(len(places)) if place not in places]
    found = [place if own is None and place in free else own for place, own in enumerate(places)]
    left = iter([place for place in free if place not in found])
    return [next(left) if place is None else place for place in found]

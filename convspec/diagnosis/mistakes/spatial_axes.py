"""Mistakes that exchange height and width, or use one axis's value for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np

from convspec.diagnosis.faulty_layer import Layer, Variants, transpose
from convspec.diagnosis.mistakes.catalogue import described
from convspec.spec import layouts


def _swaps(ndim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the exchanges of two spatial axes, each with a name."""
    letters = layouts.spatial_letters(ndim)
    for a, b in combinations(range(ndim), 2):
        order = list(range(ndim))
        order[a], order[b] = b, a
        yield f"{letters[a]} and {letters[b]} exchanged", tuple(order)


def _reorder(values: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(values[i] for i in order)


def _axes(order: tuple[int, ...]) -> tuple[int, ...]:
    return (0, 1, *(i + 2 for i in order))


@described()
def kernel_height_and_width_exchanged(layer: Layer) -> Variants:
    for name, order in _swaps(layer.spec.ndim):
        kernel = layer.params.kernel.transpose(_axes(order))
        size = _reorder(layer.spec.kernel_size, order)
        yield f"the kernel's {name}", layer.with_kernel(kernel, kernel_size=size)


@described()
def input_height_and_width_exchanged(layer: Layer) -> Variants:
    for name, order in _swaps(layer.spec.ndim):
        yield f"the input's {name}", replace(layer, x=layer.x.transpose(_axes(order)))


@described()
def output_height_and_width_exchanged(layer: Layer) -> Variants:
    for name, order in _swaps(layer.spec.ndim):
        yield f"the output's {name}", layer.then(transpose(*_axes(order)))


@described()
def height_and_width_exchanged_around_the_layer(layer: Layer) -> Variants:
    for name, order in _swaps(layer.spec.ndim):
        axes = _axes(order)
        exchanged = replace(layer, x=layer.x.transpose(axes))
        yield f"{name} around the layer", exchanged.then(transpose(*axes))


def _exchanged(layer: Layer, field: str) -> Variants:
    """Yield the layer with the values of a field exchanged between two spatial axes."""
    values = getattr(layer.spec, field)
    for name, order in _swaps(layer.spec.ndim):
        if _reorder(values, order) != values:
            changed = {field: _reorder(values, order)}
            yield f"the {field}'s {name}", layer.respec(**changed)
            yield f"the {field}'s {name}, the pads unchanged", layer.explicit(**changed)


@described()
def stride_axes_exchanged(layer: Layer) -> Variants:
    return _exchanged(layer, "stride")


@described()
def dilation_axes_exchanged(layer: Layer) -> Variants:
    return _exchanged(layer, "dilation")


@described()
def one_value_for_all_axes(layer: Layer) -> Variants:
    spec = layer.spec
    for field in ("stride", "dilation", "padding"):
        values = layer.pads if field == "padding" else getattr(spec, field)
        for which, value in (("first", values[0]), ("last", values[-1])):
            if len(set(values)) > 1:
                yield f"the {which} axis's {field} for all", layer.explicit(**{field: (value,) * spec.ndim})


@described()
def input_flipped(layer: Layer) -> Variants:
    for axis, letter in enumerate(layouts.spatial_letters(layer.spec.ndim), start=2):
        yield f"the input flipped along {letter}", replace(layer, x=np.flip(layer.x, axis))

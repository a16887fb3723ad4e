"""A layer as somebody may have got it wrong: spec, parameters, input, and what happens to the output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec import reference
from convspec.errors import ShapeError
from convspec.spec import ComputePrecision, ConvParams, ConvSpec, Pads, output_spatial, product

Array: TypeAlias = NDArray[np.floating[Any]]
Indices: TypeAlias = NDArray[np.intp]
Move: TypeAlias = Callable[[Indices], Indices]
Variants: TypeAlias = "Iterator[tuple[str, Layer]]"  # wrong layers, each with a phrase that says what is wrong

FILL = -1  # in an array of indices: an element that no convolution computed, 0


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """What is computed: the convolution of ``x`` by ``spec`` and ``params``, then what is done to its output.

    A mistake is a map from such a layer to others; two mistakes at once are two such maps, one after the other.

    Attributes:
        x: ``(N, C, *spatial)``.
        moved: rearrangements of the output, in the order in which they act, each written for an array of indices:
            it returns, for each element of the new output, the index of the old one, or ``FILL``.
        added: what is added to the rearranged output, of a shape that broadcasts against it.
        finish: a function of each element, last of all; it must not decrease anywhere.
        flat: whether the output is flattened in the end, ``(N, features)``; it is written as if it were not.
        dtype: format of the output, where the mistake is that it is another one.
        arithmetic: how it is computed, where the mistake is that it is coarser.
    """

    spec: ConvSpec
    params: ConvParams
    x: Array
    moved: tuple[Move, ...] = ()
    added: Array | None = None
    finish: Callable[[Array], Array] | None = None
    flat: bool = False
    dtype: str | None = None
    arithmetic: ComputePrecision | None = None

    @property
    def pads(self) -> Pads:
        """The padding, of a transposed layer the crop, as numbers."""
        pads = self.spec.explicit(self.x.shape).padding
        assert not isinstance(pads, str)  # explicit() has resolved it
        return pads

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of the convolution alone, before any rearrangement.

        Raises:
            ShapeError: where the layer cannot be computed.
        """
        batch, channels, *spatial = self.x.shape
        if channels != self.spec.in_channels:
            return self.spec.output_shape(self.x.shape)  # which says what is wrong
        return (batch, self.spec.out_channels, *output_spatial(self.spec, spatial))

    def respec(self, **changes: Any) -> Layer:
        """The same layer with other values of some fields of its spec."""
        return replace(self, spec=replace(self.spec, **changes)) if changes else self

    def explicit(self, **changes: Any) -> Layer:
        """The same layer, its padding written as numbers, with other values of some fields of its spec."""
        spec = self.spec.explicit(self.x.shape)
        return replace(self, spec=replace(spec, **changes) if changes else spec)

    def with_input(self, x: Array) -> Layer:
        """The same layer on another input, padded as the right one would be."""
        return replace(self.explicit() if x.shape != self.x.shape else self, x=x)

    def with_kernel(self, kernel: Array, **changes: Any) -> Layer:
        """The same layer with another kernel, in the canonical order of the changed spec."""
        return replace(self.respec(**changes), params=ConvParams(kernel, self.params.bias))

    def with_bias(self, bias: Array | None) -> Layer:
        """The same layer with another bias, or without one."""
        changed = self if self.spec.bias == (bias is not None) else self.respec(bias=bias is not None)
        return replace(changed, params=ConvParams(self.params.kernel, bias))

    def then(self, move: Move) -> Layer:
        """The same layer with its output rearranged once more, what was added to it too."""
        moved = replace(self, moved=(*self.moved, move))
        if self.added is None:
            return moved
        places = self.places()
        shape = self.output_shape if places is None else places.shape
        taken = move(_moved(shape, ()))
        return replace(moved, added=_taken(self.addition(shape), taken))

    def adding(self, values: Array) -> Layer:
        """The same layer with something more added to its rearranged output."""
        return replace(self, added=values if self.added is None else self.added + values)

    def places(self) -> Indices | None:
        """For each element of the output, its index in the flat output of the convolution; None for all in order."""
        return _moved(self.output_shape, self.moved) if self.moved else None

    def output(self) -> Array:
        """What comes out, in float64.

        Raises:
            ShapeError, ParamsError: where such a layer cannot be computed at all.
        """
        y = self.unfinished()
        return y if self.finish is None else self.finish(y)

    def unfinished(self) -> Array:
        """What comes out but for ``finish``; raises as :meth:`output`."""
        y = self._arranged(reference.conv(self.spec, self.params, self.x))
        return y if self.added is None else y + self.addition(y.shape)

    def magnitude(self) -> Array:
        """G = Σ|x||w| + |b| of what comes out but for ``finish``."""
        y = self._arranged(reference.magnitude(self.spec, self.params, self.x))
        return y if self.added is None else y + np.abs(self.addition(y.shape))

    def addition(self, shape: tuple[int, ...]) -> Array:
        """What is added, for an output of ``shape``.

        Raises:
            ShapeError: where it cannot be added to that.
        """
        try:
            return np.broadcast_to(np.zeros(()) if self.added is None else self.added, shape)
        except ValueError:
            raise ShapeError(f"what is added to the output cannot have its shape {shape}") from None

    def _arranged(self, y: Array) -> Array:
        places = self.places()
        return y if places is None else _taken(y, places)


@functools.lru_cache(maxsize=16)
def _moved(shape: tuple[int, ...], moves: tuple[Move, ...]) -> Indices:
    """For each element after the moves, its index in a flat array of that shape; not to be written to."""
    if moves:
        return moves[-1](_moved(shape, moves[:-1]))
    indices = np.arange(product(shape)).reshape(shape)
    indices.flags.writeable = False
    return indices


_KEPT, _BYTES = 128, 1 << 28
_made: dict[tuple[Any, ...], tuple[Array, Array]] = {}


def derived(values: Array, make: Callable[..., Array], *arguments: Any) -> Array:
    """``make(values, *arguments)``, made once for each array: pairs of mistakes ask for it again and again."""
    key = id(values), make, arguments
    if key not in _made:
        if len(_made) >= _KEPT or sum(made.nbytes for _, made in _made.values()) > _BYTES:
            _made.clear()
        _made[key] = values, make(values, *arguments)  # values are kept too, for their id
    return _made[key][1]


def forget() -> None:
    """Give back the memory that arrays have taken which are kept for the next pair of mistakes."""
    _moved.cache_clear()
    _made.clear()


def _taken(values: Array, places: Indices) -> Array:
    """Those of ``values``, 0 where there is none."""
    return np.where(places == FILL, 0.0, values.reshape(-1)[places]) if values.size else np.zeros(places.shape)


def right(spec: ConvSpec, params: ConvParams, x: Array, *, flat: bool = False) -> Layer:
    """The layer that was meant, its numbers in float64."""
    bias = None if params.bias is None else np.asarray(params.bias, np.float64)
    wide = ConvParams(np.ascontiguousarray(params.kernel, np.float64), bias).check(spec)
    return Layer(spec, wide, np.ascontiguousarray(x, np.float64), flat=flat)


def indexed(*index: Any) -> Move:
    """Return the move that keeps ``y[index]``; it raises ShapeError where another mistake left no such elements."""

    def keep(y: Any) -> Any:
        try:
            return y[index]
        except IndexError as error:
            raise ShapeError(f"an output of shape {y.shape} has no such elements") from error

    return keep


def turned(*axes: int) -> Move:
    """Return the move that puts the axes in that order."""
    return lambda y: y.transpose(axes)


def padded(before: Sequence[int], after: Sequence[int]) -> Move:
    """Return the move that adds so many elements, computed by nobody, before and after each spatial axis."""
    widths = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    return lambda y: np.pad(y, widths, constant_values=FILL)

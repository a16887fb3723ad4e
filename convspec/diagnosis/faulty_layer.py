"""A layer with a mistake in it: spec, parameters, input, and what happens to the output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec import reference
from convspec.errors import ParamsError, ShapeError, SpecError
from convspec.spec import ComputePrecision, ConvParams, ConvSpec, Pads, output_spatial, product

Array: TypeAlias = NDArray[np.floating[Any]]
Indices: TypeAlias = NDArray[np.intp]
Move: TypeAlias = Callable[[Indices], Indices]
Variants: TypeAlias = "Iterator[tuple[str, Layer]]"  # wrong layers, each with a phrase that says what is wrong

FILL = -1  # in an array of indices: an element that no convolution computed; its value is 0
IMPOSSIBLE = (ShapeError, ParamsError, SpecError)  # raised by a layer that cannot be computed


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """The convolution of ``x`` by ``spec`` and ``params``, and the changes to its output.

    A mistake maps such a layer to others; two mistakes at once are two such maps, one after the other.

    Attributes:
        x: ``(N, C, *spatial)``.
        moves: rearrangements of the output, in the order in which they act. Each maps an array of indices: it returns,
            for each element of the new output, the index of the old one, or ``FILL``.
        added: values added to the rearranged output, of a shape that broadcasts against it.
        finish: a monotonic function applied to each element last of all.
        flat: whether the output is flattened at the end, ``(N, features)``; this class describes it unflattened.
        dtype: format of the output, if the mistake changes it.
        arithmetic: how the output is computed, if the mistake makes it coarser.
    """

    spec: ConvSpec
    params: ConvParams
    x: Array
    moves: tuple[Move, ...] = ()
    added: Array | None = None
    finish: Callable[[Array], Array] | None = None
    flat: bool = False
    dtype: str | None = None
    arithmetic: ComputePrecision | None = None

    @property
    def pads(self) -> Pads:
        """The padding (the crop of a transposed layer) as numbers."""
        pads = self.spec.explicit(self.x.shape).padding
        assert not isinstance(pads, str)  # explicit() has resolved it
        return pads

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the convolution's output, before any rearrangement.

        Raises:
            ShapeError: if the layer cannot be computed.
        """
        batch, channels, *spatial = self.x.shape
        if channels != self.spec.in_channels:
            return self.spec.output_shape(self.x.shape)  # raises, with the reason
        return (batch, self.spec.out_channels, *output_spatial(self.spec, spatial))

    def respec(self, **changes: Any) -> Layer:
        """Return the layer with other values of some fields of its spec."""
        return replace(self, spec=replace(self.spec, **changes)) if changes else self

    def explicit(self, **changes: Any) -> Layer:
        """Return the layer with its padding as numbers, and other values of some fields of its spec."""
        spec = self.spec.explicit(self.x.shape)
        return replace(self, spec=replace(spec, **changes) if changes else spec)

    def with_kernel(self, kernel: Array, **changes: Any) -> Layer:
        """Return the layer with another kernel, in the canonical order of the changed spec."""
        return replace(self.respec(**changes), params=ConvParams(kernel, self.params.bias))

    def with_bias(self, bias: Array | None) -> Layer:
        """Return the layer with another bias, or without one."""
        changed = self if self.spec.bias == (bias is not None) else self.respec(bias=bias is not None)
        return replace(changed, params=ConvParams(self.params.kernel, bias))

    def then(self, move: Move) -> Layer:
        """Return the layer with its output, and the values added to it, rearranged once more."""
        moved = replace(self, moves=(*self.moves, move))
        if self.added is None:
            return moved
        indices = self.indices()
        shape = self.output_shape if indices is None else indices.shape
        return replace(moved, added=_gather(self.addition(shape), move(_indices(shape, ()))))

    def add(self, values: Array) -> Layer:
        """Return the layer with more values added to its rearranged output."""
        return replace(self, added=values if self.added is None else self.added + values)

    def indices(self) -> Indices | None:
        """Return for each output element its index in the convolution's flat output; None if no move acts."""
        return _indices(self.output_shape, self.moves) if self.moves else None

    def output(self) -> Array:
        """Return the output in float64.

        Raises:
            ShapeError, ParamsError: if such a layer cannot be computed at all.
        """
        y = self.unfinished()
        return y if self.finish is None else self.finish(y)

    def unfinished(self) -> Array:
        """Return the output before ``finish``; raises as :meth:`output`."""
        y = self._rearrange(reference.conv(self.spec, self.params, self.x))
        return y if self.added is None else y + self.addition(y.shape)

    def magnitude(self) -> Array:
        """Return G = Σ|x||w| + |b| of the output before ``finish``."""
        y = self._rearrange(reference.magnitude(self.spec, self.params, self.x))
        return y if self.added is None else y + np.abs(self.addition(y.shape))

    def addition(self, shape: tuple[int, ...]) -> Array:
        """Return the added values, broadcast to an output of ``shape``.

        Raises:
            ShapeError: if they do not broadcast to it.
        """
        try:
            return np.broadcast_to(np.zeros(()) if self.added is None else self.added, shape)
        except ValueError:
            raise ShapeError(f"the values added to the output do not broadcast to its shape {shape}") from None

    def _rearrange(self, y: Array) -> Array:
        indices = self.indices()
        return y if indices is None else _gather(y, indices)


@functools.lru_cache(maxsize=16)
def _indices(shape: tuple[int, ...], moves: tuple[Move, ...]) -> Indices:
    """Return for each element after the moves its index in a flat array of that shape; read only."""
    if moves:
        return moves[-1](_indices(shape, moves[:-1]))
    indices = np.arange(product(shape)).reshape(shape)
    indices.flags.writeable = False
    return indices


_ENTRIES, _BYTES = 128, 1 << 28
_cache: dict[tuple[Any, ...], tuple[Array, Array]] = {}


def derive(values: Array, make: Callable[..., Array], *arguments: Any) -> Array:
    """Return ``make(values, *arguments)``, cached: pairs of mistakes need the same array again and again."""
    key = id(values), make, arguments
    if key not in _cache:
        if len(_cache) >= _ENTRIES or sum(array.nbytes for _, array in _cache.values()) > _BYTES:
            _cache.clear()
        _cache[key] = values, make(values, *arguments)  # values too, or another array could get their id
    return _cache[key][1]


def clear_caches() -> None:
    """Free the arrays that are cached for the next pair of mistakes."""
    _indices.cache_clear()
    _cache.clear()


def _gather(values: Array, indices: Indices) -> Array:
    """Return the elements of ``values`` at flat indices, 0 at ``FILL``."""
    return np.where(indices == FILL, 0.0, values.reshape(-1)[indices]) if values.size else np.zeros(indices.shape)


def right_layer(spec: ConvSpec, params: ConvParams, x: Array, *, flat: bool = False) -> Layer:
    """Return the layer as it was meant, its numbers in float64."""
    bias = None if params.bias is None else np.asarray(params.bias, np.float64)
    wide = ConvParams(np.ascontiguousarray(params.kernel, np.float64), bias).check(spec)
    return Layer(spec, wide, np.ascontiguousarray(x, np.float64), flat=flat)


def take(*index: Any) -> Move:
    """Return the move to ``y[index]``; it raises ShapeError if another mistake has removed those elements."""

    def move(y: Any) -> Any:
        try:
            return y[index]
        except IndexError as error:
            raise ShapeError(f"an output of shape {y.shape} has no such elements") from error

    return move


def transpose(*axes: int) -> Move:
    """Return the move that transposes the axes."""
    return lambda y: y.transpose(axes)


def pad(before: Sequence[int], after: Sequence[int]) -> Move:
    """Return the move that adds ``FILL`` elements before and after each spatial axis."""
    widths = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    return lambda y: np.pad(y, widths, constant_values=FILL)

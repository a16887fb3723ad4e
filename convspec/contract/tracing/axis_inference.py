"""One spatial axis of a layer: the pads, strides and crops that explain the observed positions of its elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convspec.spec import PADDING_MODES

if TYPE_CHECKING:
    from convspec.contract.tracing.cell_tracing import Vector
    from convspec.spec import ConvSpec

_STEPS = range(1, 17)  # strides that are tried where a single element shows none


class Axis(NamedTuple):
    """The fields of a spec for one spatial axis; ``extra`` is output padding."""

    mode: str
    lo: int
    hi: int
    stride: int
    extra: int = 0


@dataclass(frozen=True, slots=True)
class Around:
    """Positions along one axis: of the convolution's input in the layer's, and of the layer's output in its results.

    Attributes:
        length: of the layer's input.
        sources: for each element of the convolution's input, its position in the layer's; -1 for a zero.
        results: for each element of the layer's output, its position in the convolution's; -1 for a zero; None for an
            empty output.
        made: length of the convolution's output.
        size: length of the layer's output.
    """

    length: int
    sources: Vector
    results: Vector | None
    made: int
    size: int


# -- regular layers ----------------------------------------------------------------------------------------------------


def regular(spec: ConvSpec, axis: int, around: Around) -> Iterator[Axis]:
    """Yield every combination of pads before, a crop and a stride after."""
    inner_lo, inner_hi = _pair(spec, axis)
    own = inner_lo + inner_hi > 0
    results = np.arange(around.size) if around.results is None else around.results
    if np.any(results < 0):
        return
    for mode, lo, hi in pads_of(around.sources, around.length):
        if own and lo + hi and not (mode == spec.padding_mode and mode in ("zeros", "replicate")):
            continue
        for step in _steps(results):
            start = int(results[0]) if len(results) else 0
            dropped = (around.made - 1 - int(results[-1])) // step if len(results) else 0
            before = lo + inner_lo - start * spec.stride[axis]
            after = hi + inner_hi - dropped * step * spec.stride[axis]
            if before >= 0 and after >= 0:
                yield Axis(spec.padding_mode if own and not lo + hi else mode, before, after, spec.stride[axis] * step)


def _pair(spec: ConvSpec, axis: int) -> tuple[int, int]:
    if isinstance(spec.padding, str):
        raise TypeError("the padding must be numbers here")
    return spec.padding[axis]


def pads_of(sources: Vector, size: int) -> Iterator[tuple[str, int, int]]:
    """Yield every (mode, before, after) that turns 0, 1, … into these positions."""
    room = len(sources) - size
    for mode in PADDING_MODES if room else ("zeros",):
        for lo in range(room + 1):
            padded = _padded(size, lo, room - lo, mode)
            if padded is not None and np.array_equal(sources, padded):
                yield mode, lo, room - lo


def _padded(size: int, lo: int, hi: int, mode: str) -> Vector | None:
    places = np.arange(-lo, size + hi)
    if mode == "zeros":
        return np.where((places >= 0) & (places < size), places, -1)
    if mode == "replicate":
        return np.clip(places, 0, size - 1)
    if mode == "circular":
        return places % size if max(lo, hi) <= size else None
    return size - 1 - np.abs(size - 1 - np.abs(places)) if max(lo, hi) < size else None


def _steps(results: Vector) -> Sequence[int]:
    """Return the possible distances between consecutive results."""
    if len(results) < 2:
        return _STEPS
    step = int(results[1] - results[0])
    regular = step > 0 and np.array_equal(results, results[0] + step * np.arange(len(results)))
    return (step,) if regular else ()


# -- transposed layers -------------------------------------------------------------------------------------------------


def transposed(spec: ConvSpec, axis: int, around: Around) -> Iterator[Axis]:
    """Yield every combination of zeros between the input's elements, a crop and zeros after.

    Element i of the output is element i + lo of the full result of length (size - 1)·stride + ke.
    """
    inner_lo, inner_hi = _pair(spec, axis)
    size = around.length
    for lead, spread in _spreads(around.sources, size):
        stride = spec.stride[axis] * spread
        full = (size - 1) * stride + spec.effective_kernel[axis]
        shift = inner_lo - lead * spec.stride[axis]
        for lo in _starts(around, full, shift):
            kept = around.size - (full - lo)
            extra, hi = max(kept, 0), max(-kept, 0)
            untouched = lead == 0 and len(around.sources) == (size - 1) * spread + 1
            own = spec.output_padding[axis]
            if untouched and own and own - kept >= inner_hi:
                extra, hi = own, own - kept
            if lo >= 0:
                yield Axis("zeros", lo, hi, stride, extra)


def _spreads(sources: Vector, size: int) -> Iterator[tuple[int, int]]:
    """Yield the zeros before the first element and the distance between elements, where all appear in order."""
    places = np.flatnonzero(sources >= 0)
    if not _counts(sources[places], size):
        return
    for step in _steps(places):
        yield int(places[0]), step


def _starts(around: Around, full: int, shift: int) -> Iterator[int]:
    """Yield the positions in the full result where the output may begin; zeros may be beyond the full result only."""
    if around.results is None:
        yield from (shift, *range(max(shift, 0), full + 16))
        return
    there = np.flatnonzero(around.results >= 0)
    start = int(around.results[there[0]]) - int(there[0])
    places = np.arange(around.size)
    inside = np.array_equal(around.results[there], there + start)
    if inside and np.all((around.results >= 0) | (places + start + shift >= full)):
        yield start + shift


def _counts(vector: Vector, n: int) -> bool:
    return np.array_equal(vector, np.arange(n))

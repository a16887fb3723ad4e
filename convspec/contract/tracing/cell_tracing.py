"""Trace the positions of elements from a layer's input to its convolutions, and from their results to its output.

The layer is run on inputs of ±1, with its convolutions replaced by functions that return ±:data:`_LOUD`. Over several
runs the signs spell the coordinates of every element in binary, so each element shows its origin, or 0 where a pad made
it, independent of the operations that moved it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.contract.protocol import Reading
from convspec.errors import ShapeError, UnsupportedError
from convspec.spec import format_of, layouts, rounded

Array: TypeAlias = NDArray[Any]

Answer: TypeAlias = "Callable[[Reading, Array], Array]"
Run: TypeAlias = "Callable[[Array, Answer], Array]"
Vector: TypeAlias = "NDArray[np.intp]"
_Entry: TypeAlias = "tuple[int | None, int]"  # (axis, bit), or (None, sign): the same everywhere

_CELLS, _BATCH = 2**22, 32  # most elements, and batch entries, of the input of one run
_INPUTS = "numbers are changed before the convolution"
_RESULTS = "the convolution's results are changed by the layer"
_LOUD = 4.0  # distinguishes results from inputs, which are ±1


@dataclass(frozen=True, slots=True)
class Trace:
    """The moves of elements around the convolutions of a layer; axes in the order (C, *spatial).

    Attributes:
        given: shape of the layer's input.
        readings: the convolutions, each by itself, in the order of their calls.
        inputs: shape (C, *spatial) of the input of each.
        sources: for each convolution and axis: the position of its elements in the layer's input, -1 for a zero.
        outputs: shape (C, *spatial) of the results of all, their channels side by side.
        results: for each axis: the position of the layer's output elements in the results, -1 for a zero; None for
            an empty output.
        shape: (C, *spatial) of the layer's output.
        added: a vector that is added to the output along its channels; None without one.
    """

    given: tuple[int, ...]
    readings: tuple[Reading, ...]
    inputs: tuple[tuple[int, ...], ...]
    sources: tuple[tuple[Vector, ...], ...]
    outputs: tuple[int, ...]
    results: tuple[Vector, ...] | None
    shape: tuple[int, ...]
    added: Array | None


def trace(run: Run, shape: Sequence[int], layout: str) -> Trace:
    """Trace every element of an input of shape (C, *spatial), which is given to the layer in ``layout``.

    Args:
        run: ``run(x, answer)`` runs the layer on ``x``, each convolution returning ``answer(reading, its input)``.
        shape: of the input.
        layout: of the layer's input and output.

    Raises:
        UnsupportedError: where values change around the convolutions, not only positions.
        ShapeError: where a convolution does not accept its input.
    """
    recorder = _Recorder(layout)
    # All runs have the same batch, since JAX compiles every operation anew for another one.
    batch = max(1, min(_BATCH, _CELLS // max(math.prod(shape), 1)))
    silence = recorder.run(run, _codes(shape, [(None, 1)] * batch), None, 0.0)[:1]
    readings, outputs = tuple(recorder.readings), recorder.outputs
    channels = sum(reading.spec.in_channels for reading in readings)
    if channels != shape[0] and len(readings) > 1:
        raise UnsupportedError(f"the layer has {len(readings)} convolutions that do not share out its input's channels")
    if channels != shape[0]:
        raise ShapeError(f"the convolutions take {channels} channels of an input that has {shape[0]}")
    dtype = readings[0].dtype
    loud = max(_LOUD, 2.0 ** math.ceil(math.log2(np.abs(silence).max(initial=1.0))))
    ins, outs = _entries(shape), _entries(outputs)
    total = -(-max(len(ins), len(outs)) // batch) * batch
    ins, outs = ([*e, *[(None, 1)] * (total - len(e))] for e in (ins, outs))
    seen: list[list[Array]] = [[] for _ in readings]
    states = []
    for start in range(0, total, batch):
        part = slice(start, start + batch)
        y = recorder.run(run, _codes(shape, ins[part]), outs[part], loud)
        if len(recorder.inputs) != len(readings) or y.shape[1:] != silence.shape[1:]:
            raise UnsupportedError("the layer's operations depend on the values of its input")
        states.append(_heard(y, silence, loud, dtype))
        for found, given in zip(seen, recorder.inputs, strict=True):
            found.append(_signs(given))
    sources = tuple(_decoded(np.concatenate(found), _entries(shape), len(shape), _INPUTS) for found in seen)
    if any(source is None for source in sources):
        raise UnsupportedError("a convolution reads nothing of the layer's input")
    results = _decoded(np.concatenate(states), _entries(outputs), len(outputs), _RESULTS)
    inputs = tuple(found[0].shape[1:] for found in seen)
    added = None if results is None and not silence.any() else _added(silence)
    known = tuple(source for source in sources if source is not None)
    return Trace(tuple(shape), readings, inputs, known, outputs, results, silence.shape[1:], added)


class _Recorder:
    """Returns results for the convolutions of a layer, and records their inputs in one run."""

    def __init__(self, layout: str) -> None:
        self.layout = layout
        self.readings: list[Reading] = []
        self.inputs: list[Array] = []
        self.outputs: tuple[int, ...] = ()

    def run(self, run: Run, x: Array, entries: list[_Entry] | None, loud: float) -> Array:
        """Return the layer's canonical output for a canonical input; without entries all convolutions return -0."""
        self.readings, self.inputs, self._entries, self._loud = [], [], entries, loud
        self.outputs = ()
        y = run(_move(x, "NCHW", self.layout), self.answer)
        if not self.readings:
            raise UnsupportedError("no convolution was called")
        if y.ndim != x.ndim or len(y) != len(x):
            raise UnsupportedError(f"the layer turns {x.ndim} axes into {y.ndim}, or changes the batch")
        return _move(y, self.layout, "NCHW")

    def answer(self, reading: Reading, x: Array) -> Array:
        """Return codes of the size of the convolution's output; channel numbers continue from the last convolution."""
        spec = reading.spec
        given = _move(x, reading.layout, "NCHW")
        batch, channels, *spatial = spec.output_shape(given.shape)
        self.readings.append(reading)
        self.inputs.append(given)
        offset = self.outputs[0] if self.outputs else 0
        if self.outputs and self.outputs[1:] != tuple(spatial):
            raise UnsupportedError("the layer's convolutions give results of different sizes")
        self.outputs = (offset + channels, *spatial)
        if self._entries is None:
            y = np.full((batch, channels, *spatial), -0.0, np.float32)
        else:
            y = _codes((channels, *spatial), self._entries, offset) * np.float32(self._loud)
        return _move(y, "NCHW", reading.layout)


def _move(x: Array, source: str, target: str) -> Array:
    return np.ascontiguousarray(layouts.move_axes(x, source, target))


def _entries(shape: Sequence[int]) -> list[_Entry]:
    """All 1, all -1, then every bit of every coordinate."""
    bits = [(axis, bit) for axis, n in enumerate(shape) for bit in range(max(n - 1, 0).bit_length())]
    return [(None, 1), (None, -1), *bits]


def _codes(shape: Sequence[int], entries: Sequence[_Entry], offset: int = 0) -> Array:
    """One batch entry each, (len(entries), *shape), of ±1; ``offset`` is added to the places along the first axis."""
    out = np.empty((len(entries), *shape), np.float32)
    for row, (axis, bit) in zip(out, entries, strict=True):
        if axis is None:
            row[...] = bit
        else:
            places = np.arange(shape[axis]) + (offset if axis == 0 else 0)
            row[...] = _along(np.where(places >> bit & 1, 1, -1), axis, len(shape))
    return out


def _along(vector: Array, axis: int, ndim: int) -> Array:
    return vector.reshape(*(-1 if a == axis else 1 for a in range(ndim)))


def _signs(x: Array) -> NDArray[np.int8]:
    """1, -1 and 0 as such."""
    signs: NDArray[np.int8] = np.sign(x).astype(np.int8)
    if not np.array_equal(signs, x):
        raise UnsupportedError(f"{_INPUTS}, not only moved")
    return signs


def _heard(y: Array, silence: Array, loud: float, dtype: str) -> NDArray[np.int8]:
    """1 where y is ``loud`` more than in silence, -1 where it is that much less, 0 where it is the same."""
    carrier = format_of(dtype).carrier
    step = np.asarray(loud, carrier)
    with np.errstate(over="ignore"):
        high, low = (rounded(silence.astype(carrier) + sign * step, dtype) for sign in (1, -1))
    states: NDArray[np.int8] = (y == high).astype(np.int8) - (y == low)
    if not np.all((states != 0) | (y == silence)):
        raise UnsupportedError(f"{_RESULTS}, not only moved")
    return states


def _added(silence: Array) -> Array | None:
    """Return the vector that was added to -0 along the channels; None where -0 is unchanged or the output is empty."""
    if not silence.size:
        return None
    cells = silence[0].reshape(silence.shape[1], -1)
    if not np.all(cells == cells[:, :1]):
        raise UnsupportedError("something other than one number per channel is added to the results")
    negative = np.any(np.signbit(cells) & (cells == 0), axis=1)
    return None if negative.all() else np.where(negative, np.asarray(-0.0, cells.dtype), cells[:, 0])


def _decoded(states: NDArray[np.int8], entries: Sequence[_Entry], ndim: int, what: str) -> tuple[Vector, ...] | None:
    """Return one vector of positions per axis, -1 for a zero; None where no element has an origin.

    Raises:
        UnsupportedError: where the places along an axis differ from line to line.
    """
    states = states[: len(entries)]
    present = (states[0] == 1) & (states[1] == -1)
    if np.any((states[0] == states[1]) & (states[0] != 0)):
        raise UnsupportedError("numbers other than 0 are put between the layer's own")
    if not np.all(present == np.all(states != 0, axis=0)) or not np.all(present | np.all(states == 0, axis=0)):
        raise UnsupportedError(f"{what}, not only moved")
    if not present.any():
        return None
    first = np.unravel_index(np.argmax(present), present.shape)
    vectors, expected = [], np.ones((1,) * ndim, bool)
    for axis in range(ndim):
        line: Any = (*first[:axis], slice(None), *first[axis + 1 :])
        there = present[line]
        places = sum((states[i] > 0).astype(np.intp) << bit for i, (a, bit) in enumerate(entries) if a == axis)
        vector = np.where(there, places[line] if isinstance(places, np.ndarray) else 0, -1)
        if isinstance(places, np.ndarray) and not np.all((places == _along(vector, axis, ndim)) | ~present):
            raise UnsupportedError("elements are moved between axes, or unevenly along an axis")
        expected = expected & _along(there, axis, ndim)
        vectors.append(vector)
    if not np.array_equal(present, np.broadcast_to(expected, present.shape)):
        raise UnsupportedError("zeros are inserted between elements in a pattern that is no padding")
    return tuple(vectors)

"""Read a layer with pads, crops or moved axes around its convolution as one spec, for all frameworks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from convspec.contract.protocol import Reading
from convspec.contract.tracing.cell_tracing import Run, Trace, Vector, trace
from convspec.errors import ShapeError, SpecError, UnsupportedError
from convspec.spec import PADDING_MODES, ConvParams, ConvSpec, layouts

_STEPS = range(1, 17)  # strides that are tried where a single element shows none


def read(run: Run, input_shape: Sequence[int] | None) -> Reading:
    """Return the layer that ``run`` runs; its padding in numbers.

    Where an input of that size allows several specs – one element shows no stride, an empty output no added bias – a
    larger one is tried as well.

    Args:
        run: see :func:`convspec.contract.tracing.cell_tracing.trace`.
        input_shape: of the layer's input, in its own layout.

    Raises:
        UnsupportedError: saying how the layer differs from one convolution.
    """
    if input_shape is None:
        told = "this is no plain convolution; if there is one in it, pass input_shape, the shape of its input"
        raise UnsupportedError(told)
    shape = tuple(int(n) for n in input_shape)
    if len(shape) < 3 or min(shape[1:]) < 1:
        raise UnsupportedError(f"input_shape={shape} must have a batch, channels and elements on every axis")
    seen = _seen(run, shape)
    if len(seen) > 1 or any(not all(view.output) or any(len(axis) > 1 for axis in view.axes) for view in seen):
        seen = _narrowed(run, seen)
    return seen[0].reading(shape)


class _Axis(NamedTuple):
    """The fields of a spec for one spatial axis; ``extra`` is output padding."""

    mode: str
    lo: int
    hi: int
    stride: int
    extra: int = 0


@dataclass(frozen=True, slots=True)
class _Around:
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


@dataclass
class _View:
    """A layout, the spec and the weights without their surroundings, and the candidates for each axis."""

    layout: str
    inner: ConvSpec
    params: ConvParams
    dtype: str
    sizes: tuple[int, ...]
    output: tuple[int, ...]
    axes: list[list[_Axis]]

    def reading(self, input_shape: tuple[int, ...]) -> Reading:
        """Return the reading with the first candidates that agree on a padding mode and on the output's shape."""
        problem = "the pads before the convolution are of different modes"
        for mode in PADDING_MODES:
            chosen = [next((a for a in axis if a.mode == mode or not a.lo + a.hi), None) for axis in self.axes]
            if None in chosen:
                continue
            axes = [axis for axis in chosen if axis is not None]
            try:
                spec = _assembled(self.inner, axes, mode)
                found = spec.output_shape(input_shape, self.layout)
            except (SpecError, ShapeError) as error:
                problem = str(error)
                continue
            if layouts.canonical_shape(found, self.layout, spec.ndim)[1:] == self.output:
                return Reading(spec, self.params.check(spec), self.layout, self.dtype)
            problem = f"the layer's output has shape {self.output}, which no spec found here gives"
        raise UnsupportedError(f"the operations around the convolution are no padding of a spec: {problem}")


def _assembled(inner: ConvSpec, axes: list[_Axis], mode: str) -> ConvSpec:
    pads, strides, extra = zip(*(((a.lo, a.hi), a.stride, a.extra) for a in axes), strict=True)
    mode = mode if any(map(any, pads)) else "zeros"
    return replace(inner, stride=strides, padding=pads, padding_mode=mode, output_padding=extra)


def _seen(run: Run, shape: tuple[int, ...], only: Sequence[str] = layouts.LAYOUTS) -> list[_View]:
    """Return one view for each possible layout of the input."""
    views, reasons, problems = [], [], []
    for layout in only:
        try:
            views.append(_view(trace(run, layouts.canonical_shape(shape, layout, len(shape) - 2)[1:], layout), layout))
        except ShapeError as error:
            problems.append(str(error))
        except UnsupportedError as error:
            reasons.append(str(error))
    if not views:
        raise UnsupportedError([*reasons, *problems][0])
    return views


def _narrowed(run: Run, views: list[_View]) -> list[_View]:
    """Return the views and candidates that also fit a larger input; all of them where none accepts one."""
    kept = []
    for view in views:
        spec = view.inner
        spans = zip(view.sizes, spec.effective_kernel, spec.stride, range(9), strict=False)
        spatial = [2 * n + ke + 2 * s + 3 + i for n, ke, s, i in spans]
        shape = layouts.shape_in((1, spec.in_channels, *spatial), view.layout, spec.ndim)
        try:
            (larger,) = _seen(run, shape, (view.layout,))
        except UnsupportedError:  # a layer for inputs of one size
            continue
        if not all(view.output):
            view = replace(view, inner=replace(spec, bias=larger.inner.bias), params=larger.params)  # noqa: PLW2901
        kept.append(replace(view, axes=[_agreed(a, b) for a, b in zip(view.axes, larger.axes, strict=True)]))
    return kept or views


def _agreed(axis: list[_Axis], larger: list[_Axis]) -> list[_Axis]:
    """Return the candidates that fit both sizes; where pads depend on the size, those with equal mode and stride."""
    for keys in (lambda a: a, lambda a: (a.mode, a.stride), lambda a: a.stride):
        known = {keys(a) for a in larger}
        both = [a for a in axis if keys(a) in known]
        if both:
            return both
    return axis


def _view(seen: Trace, layout: str) -> _View:
    """Return the convolutions as one, and the candidates for each axis."""
    inner, params = _joined(seen)
    if seen.added is not None:
        if params.bias is not None:
            raise UnsupportedError("a second bias is added to the convolution's own")
        inner, params = replace(inner, bias=True), ConvParams(params.kernel, seen.added.astype(params.kernel.dtype))
    elif params.bias is not None and seen.results is not None and any((v < 0).any() for v in seen.results):
        raise UnsupportedError("zeros are added to results that have their bias already")
    if seen.results is not None and not _counts(seen.results[0], inner.out_channels):
        raise UnsupportedError("the channels of the results are taken apart or reordered")
    plain = inner.explicit((1, inner.in_channels, *seen.inputs[0][1:]))
    along = _transposed if inner.transposed else _regular
    axes = []
    for i in range(inner.ndim):
        results = None if seen.results is None else seen.results[i + 1]
        around = _Around(seen.given[i + 1], seen.sources[0][i + 1], results, seen.outputs[i + 1], seen.shape[i + 1])
        axes.append(list(dict.fromkeys(along(plain, i, around))))
        if not axes[-1]:
            around_it = "the operations around the convolution are no padding, cropping or stride"
            raise UnsupportedError(f"along spatial axis {i}, {around_it}")
    return _View(layout, plain, params, seen.readings[0].dtype, seen.given[1:], seen.shape, axes)


def _joined(seen: Trace) -> tuple[ConvSpec, ConvParams]:
    """Return one convolution, or several on neighbouring channels as one with groups."""
    first, *others = seen.readings
    spec = first.spec
    if any(other.spec != spec or other.layout != first.layout for other in others):
        raise UnsupportedError(f"the layer has {len(seen.readings)} convolutions that differ")
    channels = np.concatenate([source[0] for source in seen.sources])
    if not _counts(channels, seen.given[0]) or any(
        not np.array_equal(a, b)
        for source in seen.sources
        for a, b in zip(source[1:], seen.sources[0][1:], strict=True)
    ):
        raise UnsupportedError("the convolutions do not share out the input's channels in order")
    n = len(seen.readings)
    joined = replace(spec, in_channels=n * spec.in_channels, out_channels=n * spec.out_channels, groups=n * spec.groups)
    kernel = np.concatenate([reading.params.kernel for reading in seen.readings])
    biases = [reading.params.bias for reading in seen.readings if reading.params.bias is not None]
    return joined, ConvParams(kernel, np.concatenate(biases) if biases else None)


def _counts(vector: Vector, n: int) -> bool:
    return np.array_equal(vector, np.arange(n))


# -- one axis of a regular layer ---------------------------------------------------------------------------------------


def _regular(spec: ConvSpec, axis: int, around: _Around) -> Iterator[_Axis]:
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
                yield _Axis(spec.padding_mode if own and not lo + hi else mode, before, after, spec.stride[axis] * step)


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


# -- one axis of a transposed layer ------------------------------------------------------------------------------------


def _transposed(spec: ConvSpec, axis: int, around: _Around) -> Iterator[_Axis]:
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
                yield _Axis("zeros", lo, hi, stride, extra)


def _spreads(sources: Vector, size: int) -> Iterator[tuple[int, int]]:
    """Yield the zeros before the first element and the distance between elements, where all appear in order."""
    places = np.flatnonzero(sources >= 0)
    if not _counts(sources[places], size):
        return
    for step in _steps(places):
        yield int(places[0]), step


def _starts(around: _Around, full: int, shift: int) -> Iterator[int]:
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

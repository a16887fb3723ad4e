"""The oracle: convolution in float64 by NumPy alone, at any rank, for every field of a ConvSpec.

With s the stride, d the dilation, lo the padding before an axis and xp the padded input,

* regular: y[n, o, i] = b[o] + Σ_{c, j} xp[n, c, i·s + j·d] · w[o, c, j], c over the channels of o's group;
* transposed: y[n, o, t] = b[o] + Σ_{c, i, j: i·s + j·d = t + lo} x[n, c, i] · w[c, o, j].

Pads are part of the sum like any other pixel: an infinite weight times a padding zero is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convspec.errors import ShapeError
from convspec.reference import im2col
from convspec.reference.im2col import Array, Sizes
from convspec.spec import ConvParams, ConvSpec, Gradients, Pads, resolve_padding

_PART = 1 << 17  # elements of a padded part with several groups: 1 MiB; measured, like im2col._BLOCK
_LEAD = (slice(None), slice(None))  # all of the batch, all channels


def conv(spec: ConvSpec, params: ConvParams, x: ArrayLike) -> Array:
    """Return the layer's output ``(N, O, *out)`` for an input ``(N, C, *spatial)``, both in the canonical order.

    Raises:
        ParamsError: if ``params`` do not fit the spec.
        ShapeError: if ``x`` does not, as ``spec.output_shape``.
    """
    return _forward(_Problem.of(spec, params, x))


def magnitude(spec: ConvSpec, params: ConvParams, x: ArrayLike) -> Array:
    """Return G = Σ|x||w| + |b| for every output, the scale of a sum's rounding errors.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §3.1. Raises as :func:`conv`.
    """
    return _forward(_Problem.of(spec, params, x, absolute=True))


def gradients(spec: ConvSpec, params: ConvParams, x: ArrayLike, dy: ArrayLike) -> Gradients:
    """Return the gradients of ⟨y, dy⟩ with respect to input ``(N, C, *spatial)``, kernel and bias (None without one).

    Raises:
        ParamsError, ShapeError: as :func:`conv`; ShapeError also if ``dy`` does not have the output's shape.
    """
    problem = _Problem.of(spec, params, x)
    return _backward(problem, problem.cotangent(dy))


def gradient_magnitudes(spec: ConvSpec, params: ConvParams, x: ArrayLike, dy: ArrayLike) -> Gradients:
    """Return the sums of absolute products of :func:`gradients`; raises as :func:`gradients`."""
    problem = _Problem.of(spec, params, x, absolute=True)
    return _backward(problem, np.abs(problem.cotangent(dy)))


@dataclass(frozen=True, slots=True)
class _Problem:
    """A checked layer with its arrays; kernel ``(g, A, B, *taps)``, input ``(N, C, *spatial)``."""

    spec: ConvSpec
    x: Array
    kernel: Array
    bias: Array | None
    pads: Pads
    output_shape: Sizes

    @classmethod
    def of(cls, spec: ConvSpec, params: ConvParams, x: ArrayLike, *, absolute: bool = False) -> _Problem:
        params.check(spec)
        array: NDArray[Any] = np.asarray(x)
        output_shape = spec.output_shape(array.shape)
        pads, _ = resolve_padding(spec, array.shape[2:])

        def prepare(values: NDArray[Any]) -> Array:
            return np.ascontiguousarray(np.abs(values) if absolute else values, np.float64)

        kernel = prepare(params.kernel).reshape(spec.groups, -1, *params.kernel.shape[1:])
        bias = None if params.bias is None else prepare(params.bias)
        return cls(spec, prepare(array), kernel, bias, pads, output_shape)

    def cotangent(self, dy: ArrayLike) -> Array:
        array = np.ascontiguousarray(dy, np.float64)
        if array.shape != self.output_shape:
            raise ShapeError(f"dy of shape {array.shape} must have the output's shape, {self.output_shape}")
        return array

    def samples(self, array: Array) -> Array:
        """Return a view ``(N, g, channels / g, *spatial)``."""
        groups = self.spec.groups
        return array.reshape(len(array), groups, array.shape[1] // groups, *array.shape[2:])

    def padded(self, x: Array) -> Iterator[tuple[tuple[slice, slice, slice], Array]]:
        """Yield padded parts of one sample ``(g, B, *spatial)``, each with its slice of the kernel.

        A part has whole groups, or some channels of one group if the pads are so wide that a whole group exceeds the
        memory limit.
        """
        groups, channels, *spatial = x.shape
        size = prod(_padded_sizes(spatial, self.pads))
        budget = self.x.size + self.kernel.size + prod(self.output_shape)
        few = max(budget // max(size, 1), 1) if any(map(any, self.pads)) else channels
        many = max(min(budget, _PART) // max(channels * size, 1), 1)
        for g in range(0, groups, many):
            for c in range(0, channels, few):
                part = slice(g, g + many), slice(None), slice(c, c + few)
                yield part, pad(x[part[0], part[2]], self.pads, self.spec.padding_mode)

    @property
    def steps(self) -> tuple[Sizes, Sizes]:
        return self.spec.stride, self.spec.dilation

    @property
    def before(self) -> Sizes:
        return tuple(lo for lo, _ in self.pads)


@np.errstate(all="ignore")
def _forward(problem: _Problem) -> Array:
    y = (np.zeros if problem.spec.transposed else np.empty)(problem.output_shape)
    for x, out in zip(problem.samples(problem.x), problem.samples(y), strict=True):
        if problem.spec.transposed:
            im2col.scatter(x, problem.kernel, *problem.steps, problem.before, out)
        else:
            for part, values in problem.padded(x):
                im2col.correlate(values, problem.kernel[part], *problem.steps, out[part[0]], add=part[2].start > 0)
    if problem.bias is not None:
        y += problem.bias.reshape(-1, *(1,) * problem.spec.ndim)
    return y


@np.errstate(all="ignore")
def _backward(problem: _Problem, dy: Array) -> Gradients:
    dx, kernel = np.zeros_like(problem.x), np.zeros_like(problem.kernel)
    step = _backward_transposed if problem.spec.transposed else _backward_regular
    for x, d, out in zip(*map(problem.samples, (problem.x, dy, dx)), strict=True):
        step(problem, x, d, out, kernel)
    bias = None if problem.bias is None else dy.sum(axis=(0, *range(2, dy.ndim)))
    return Gradients(dx, kernel.reshape(problem.spec.kernel_shape), bias)


def _backward_regular(problem: _Problem, x: Array, dy: Array, dx: Array, dw: Array) -> None:
    """Set ``dx`` and add to ``dw``; the gradient of zero pads is dropped, of other pads it is folded back."""
    for part, values in problem.padded(x):
        im2col.contract(values, dy[part[0]], *problem.steps, dw[part])
    if problem.spec.padding_mode == "zeros":
        im2col.scatter(dy, problem.kernel, *problem.steps, problem.before, dx)
        return
    padded = np.zeros((*x.shape[:2], *_padded_sizes(x.shape[2:], problem.pads)))
    im2col.scatter(dy, problem.kernel, *problem.steps, (0,) * problem.spec.ndim, padded)
    dx[...] = fold(padded, problem.pads, problem.spec.padding_mode)


def _backward_transposed(problem: _Problem, x: Array, dy: Array, dx: Array, dw: Array) -> None:
    whole = _uncrop(problem, dy)
    im2col.correlate(whole, problem.kernel, *problem.steps, dx)
    im2col.contract(whole, x, *problem.steps, dw)


def _uncrop(problem: _Problem, dy: Array) -> Array:
    """Return ``dy`` inside the full result of a transposed layer, with zeros in the crops."""
    sizes = zip(problem.x.shape[2:], problem.spec.stride, problem.spec.effective_kernel, strict=True)
    full = [max((n - 1) * s + ke, 0) for n, s, ke in sizes]
    whole = np.zeros((*dy.shape[:2], *full))
    kept = [max(min(n, size - lo), 0) for n, size, lo in zip(dy.shape[2:], full, problem.before, strict=True)]
    inner = [slice(lo, lo + n) for lo, n in zip(problem.before, kept, strict=True)]
    whole[(*_LEAD, *inner)] = dy[(*_LEAD, *(slice(n) for n in kept))]
    return whole


def _padded_sizes(spatial: Sequence[int], pads: Pads) -> list[int]:
    return [n + lo + hi for n, (lo, hi) in zip(spatial, pads, strict=True)]


def pad(x: NDArray[Any], pads: Pads, mode: str) -> NDArray[Any]:
    """Return ``x`` with ``(before, after)`` pixels added to each spatial axis, in one of the padding modes."""
    if not any(map(any, pads)):
        return x
    if mode == "zeros":
        padded = np.zeros((*x.shape[:2], *_padded_sizes(x.shape[2:], pads)), x.dtype)
        inner = [slice(lo, lo + n) for n, (lo, _) in zip(x.shape[2:], pads, strict=True)]
        padded[(*_LEAD, *inner)] = x
        return padded
    for axis, (lo, hi) in enumerate(pads, start=2):
        if lo or hi:
            x = x.take(source_indices(np.arange(-lo, x.shape[axis] + hi), x.shape[axis], mode), axis)
    return x


def fold(padded: Array, pads: Pads, mode: str) -> Array:
    """Return the adjoint of :func:`pad`: each pad is added to the pixel that it was copied from."""
    for axis, (lo, hi) in enumerate(pads, start=2):
        size = padded.shape[axis] - lo - hi
        rows = np.moveaxis(padded, axis, 0)
        inner = rows[lo : lo + size].copy()
        sources = source_indices(np.arange(-lo, size + hi), size, mode)
        for place in (*range(lo), *range(lo + size, len(rows))):
            inner[sources[place]] += rows[place]
        padded = np.moveaxis(inner, 0, axis)
    return np.ascontiguousarray(padded)


def source_indices(indices: NDArray[np.intp], size: int, mode: str) -> NDArray[np.intp]:
    """Return for indices of an axis of ``size`` pixels, those in its padding included, the pixel that each repeats."""
    last = size - 1
    if mode == "circular":
        indices = indices % size
    elif mode == "reflect":
        indices = last - np.abs(last - np.abs(indices))
    return np.minimum(np.maximum(indices, 0), last)

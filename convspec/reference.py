"""The oracle: convolution in float64 by NumPy alone, at any rank, for every field of a ConvSpec.

With s the stride, d the dilation, lo the padding before an axis and xp the padded input,

* regular: y[n, o, i] = b[o] + Σ_{c, j} xp[n, c, i·s + j·d] · w[o, c, j], c over the channels of o's group;
* transposed: y[n, o, t] = b[o] + Σ_{c, i, j: i·s + j·d = t + lo} x[n, c, i] · w[c, o, j].

Pads take part in the sum like any other cell: an infinite weight that meets a padding zero gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convspec import windows
from convspec.arithmetic import resolve_padding
from convspec.contract import Gradients
from convspec.errors import ShapeError

if TYPE_CHECKING:
    from convspec.fields import Pads
    from convspec.parameters import ConvParams
    from convspec.spec import ConvSpec

Array: TypeAlias = NDArray[np.float64]
Sizes: TypeAlias = tuple[int, ...]


def conv(spec: ConvSpec, params: ConvParams, x: ArrayLike) -> Array:
    """The layer's output ``(N, O, *out)`` for an input ``(N, C, *spatial)``, both in the canonical order.

    Raises:
        ParamsError: if ``params`` do not fit the spec.
        ShapeError: if ``x`` does not, as ``spec.output_shape`` says.
    """
    return _forward(_Problem.of(spec, params, x))


def magnitude(spec: ConvSpec, params: ConvParams, x: ArrayLike) -> Array:
    """G = Σ|x||w| + |b| for every output: what the rounding errors of a sum are measured by.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §3.1. Raises as :func:`conv`.
    """
    return _forward(_Problem.of(spec, params, x).absolute())


def gradients(spec: ConvSpec, params: ConvParams, x: ArrayLike, dy: ArrayLike) -> Gradients:
    """Gradients of ⟨y, dy⟩ in input ``(N, C, *spatial)``, kernel and bias (None without one).

    Raises:
        ParamsError, ShapeError: as :func:`conv`; ShapeError also if ``dy`` has not the output's shape.
    """
    problem = _Problem.of(spec, params, x)
    return _backward(problem, problem.cotangent(dy))


def gradient_magnitudes(spec: ConvSpec, params: ConvParams, x: ArrayLike, dy: ArrayLike) -> Gradients:
    """The sums of absolute products behind each of :func:`gradients`; raises as that does."""
    problem = _Problem.of(spec, params, x)
    return _backward(problem.absolute(), np.abs(problem.cotangent(dy)))


@dataclass(frozen=True, slots=True)
class _Problem:
    """A layer with its numbers, checked; kernel ``(g, A, B, *taps)``, input ``(N, C, *spatial)``."""

    spec: ConvSpec
    x: Array
    kernel: Array
    bias: Array | None
    pads: Pads
    output_shape: Sizes

    @classmethod
    def of(cls, spec: ConvSpec, params: ConvParams, x: ArrayLike) -> _Problem:
        params.check(spec)
        array: NDArray[Any] = np.asarray(x)
        output_shape = spec.output_shape(array.shape)
        pads, _ = resolve_padding(spec, array.shape[2:])
        kernel = np.ascontiguousarray(params.kernel, np.float64)
        bias = None if params.bias is None else np.asarray(params.bias, np.float64)
        groups = kernel.reshape(spec.groups, -1, *kernel.shape[1:])
        return cls(spec, np.ascontiguousarray(array, np.float64), groups, bias, pads, output_shape)

    def absolute(self) -> _Problem:
        """The same layer on absolute values."""
        bias = None if self.bias is None else np.abs(self.bias)
        return _Problem(self.spec, np.abs(self.x), np.abs(self.kernel), bias, self.pads, self.output_shape)

    def cotangent(self, dy: ArrayLike) -> Array:
        array = np.ascontiguousarray(dy, np.float64)
        if array.shape != self.output_shape:
            raise ShapeError(f"dy of shape {array.shape} must have the output's shape, {self.output_shape}")
        return array

    def grouped(self, array: Array) -> Array:
        """``(N, g, channels / g, *spatial)``."""
        groups = self.spec.groups
        return array.reshape(len(array), groups, array.shape[1] // groups, *array.shape[2:])

    @property
    def steps(self) -> tuple[Sizes, Sizes]:
        return self.spec.stride, self.spec.dilation

    @property
    def before(self) -> Sizes:
        return tuple(lo for lo, _ in self.pads)


@np.errstate(all="ignore")
def _forward(problem: _Problem) -> Array:
    y = np.zeros(problem.output_shape)
    out = problem.grouped(y)
    if problem.spec.transposed:
        windows.scatter(problem.grouped(problem.x), problem.kernel, *problem.steps, problem.before, out)
    else:
        padded = pad(problem.x, problem.pads, problem.spec.padding_mode)
        windows.correlate(problem.grouped(padded), problem.kernel, *problem.steps, out)
    if problem.bias is not None:
        y += problem.bias.reshape(-1, *(1,) * problem.spec.ndim)
    return y


@np.errstate(all="ignore")
def _backward(problem: _Problem, dy: Array) -> Gradients:
    kernel = np.zeros_like(problem.kernel)
    if problem.spec.transposed:
        whole = problem.grouped(_uncrop(problem, dy))
        dx = np.zeros_like(problem.x)
        windows.correlate(whole, problem.kernel, *problem.steps, problem.grouped(dx))
        windows.contract(whole, problem.grouped(problem.x), *problem.steps, kernel)
    else:
        padded = pad(problem.x, problem.pads, problem.spec.padding_mode)
        windows.contract(problem.grouped(padded), problem.grouped(dy), *problem.steps, kernel)
        dx = _input_gradient(problem, dy)
    bias = None if problem.bias is None else dy.sum(axis=(0, *range(2, dy.ndim)))
    return Gradients(dx, kernel.reshape(problem.spec.kernel_shape), bias)


def _input_gradient(problem: _Problem, dy: Array) -> Array:
    """The gradient of a regular layer's input; zero pads take theirs with them, all others fold back."""
    shape, first = list(problem.x.shape), problem.before
    folds = problem.spec.padding_mode != "zeros"
    if folds:
        shape[2:] = [n + lo + hi for n, (lo, hi) in zip(shape[2:], problem.pads, strict=True)]
        first = (0,) * len(first)
    dx = np.zeros(shape)
    windows.scatter(problem.grouped(dy), problem.kernel, *problem.steps, first, problem.grouped(dx))
    return fold(dx, problem.pads, problem.spec.padding_mode) if folds else dx


def _uncrop(problem: _Problem, dy: Array) -> Array:
    """``dy`` at its place in all that a transposed layer scatters to, zero where that is cropped."""
    sizes = zip(problem.x.shape[2:], problem.spec.stride, problem.spec.effective_kernel, strict=True)
    full = [max((n - 1) * s + ke, 0) for n, s, ke in sizes]
    whole = np.zeros((*dy.shape[:2], *full))
    kept = [max(min(n, size - lo), 0) for n, size, lo in zip(dy.shape[2:], full, problem.before, strict=True)]
    inner = tuple(slice(lo, lo + n) for lo, n in zip(problem.before, kept, strict=True))
    whole[..., *inner] = dy[..., *map(slice, kept)]
    return whole


def pad(x: Array, pads: Pads, mode: str) -> Array:
    """``x`` with ``(before, after)`` cells added to each spatial axis, in one of the padding modes."""
    if not any(map(any, pads)):
        return x
    if mode == "zeros":
        sizes = [n + lo + hi for n, (lo, hi) in zip(x.shape[2:], pads, strict=True)]
        padded = np.zeros((*x.shape[:2], *sizes))
        padded[(..., *(slice(lo, lo + n) for n, (lo, _) in zip(x.shape[2:], pads, strict=True)))] = x
        return padded
    for axis, (lo, hi) in enumerate(pads, start=2):
        if lo or hi:
            x = x.take(_sources(x.shape[axis], lo, hi, mode), axis)
    return x


def fold(padded: Array, pads: Pads, mode: str) -> Array:
    """The adjoint of :func:`pad`: what stands in a pad is added to the cell that the pad was copied from."""
    for axis, (lo, hi) in enumerate(pads, start=2):
        size = padded.shape[axis] - lo - hi
        rows = np.moveaxis(padded, axis, 0)
        inner = rows[lo : lo + size].copy()
        sources = _sources(size, lo, hi, mode)
        for place in (*range(lo), *range(lo + size, len(rows))):
            inner[sources[place]] += rows[place]
        padded = np.moveaxis(inner, 0, axis)
    return np.ascontiguousarray(padded)


def _sources(size: int, lo: int, hi: int, mode: str) -> NDArray[np.intp]:
    """For every cell of a padded axis the cell of the axis that it repeats."""
    cells = np.arange(-lo, size + hi)
    if mode == "circular":
        return cells % size
    if mode == "reflect":
        return size - 1 - np.abs(size - 1 - np.abs(cells))
    return np.clip(cells, 0, size - 1)

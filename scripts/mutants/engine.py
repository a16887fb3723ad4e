"""A convolution that accepts a fault anywhere: the cell that each window reads, and the weight that multiplies it.

It computes the same as :mod:`convspec.reference.convolution` in another way: one matrix product per kernel tap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.spec import ConvParams, ConvSpec, resolve_padding

Array: TypeAlias = NDArray[np.float64]
Cells: TypeAlias = NDArray[np.intp]

NOTHING = -1


@dataclass
class Layer:
    """The input of a mutant: a case's numbers, canonical, in float64.

    Attributes:
        reads: for each axis, the cell ``(output, tap)`` that an output reads with a tap, or ``NOTHING``.
        weights: ``(O, C, *taps)``, zero between groups.
        bias: ``(O,)``, zeros if the layer has none.
    """

    spec: ConvSpec
    params: ConvParams
    x: Array
    layout: str
    dtype: str
    reads: list[Cells]
    weights: Array
    bias: Array

    @classmethod
    def of(cls, spec: ConvSpec, params: ConvParams, x: NDArray[Any], layout: str, dtype: str) -> Layer:
        """Return the right layer; raise ShapeError if it has no output."""
        spec.output_shape(x.shape)
        bias = np.zeros(spec.out_channels) if params.bias is None else params.bias.astype(np.float64)
        wide = ConvParams(params.kernel.astype(np.float64), None if params.bias is None else bias)
        layer = cls(spec, wide, x.astype(np.float64), layout, dtype, [], _dense(spec, wide.kernel), bias)
        layer.reads = layer.reading()
        return layer

    @property
    def spatial(self) -> tuple[int, ...]:
        return self.x.shape[2:]

    @property
    def out(self) -> tuple[int, ...]:
        return self.spec.output_shape(self.x.shape)[2:]

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        return resolve_padding(self.spec, self.spatial)[0]

    def reading(self, **fields: Any) -> list[Cells]:
        """Return the cells read with another ``stride``, ``dilation``, ``lows`` or ``mode``, for as many outputs."""
        stride, dilation = fields.get("stride", self.spec.stride), fields.get("dilation", self.spec.dilation)
        lows, mode = fields.get("lows", [lo for lo, _ in self.pads]), fields.get("mode", self.spec.padding_mode)
        axes = zip(self.spatial, self.out, self.spec.kernel_size, stride, dilation, lows, strict=True)
        along = _scattered if self.spec.transposed else _gathered
        return [along(*axis, mode) for axis in axes]

    @cached_property
    def right(self) -> Array:
        """The output of the unchanged layer."""
        return self.output()

    def output(self) -> Array:
        """Return the output ``(N, O, *out)``."""
        shape = (len(self.x), len(self.weights), *(len(cells) for cells in self.reads))
        y = np.zeros(shape)
        x = np.pad(self.x, [(0, 0), (0, 0), *((0, 1) for _ in self.spatial)])  # the cell -1 holds nothing
        for taps in itertools.product(*(range(cells.shape[1]) for cells in self.reads)):
            seen = x[(slice(None), slice(None), *np.ix_(*(c[:, t] for c, t in zip(self.reads, taps, strict=True))))]
            y += np.moveaxis(np.tensordot(self.weights[(slice(None), slice(None), *taps)], seen, (1, 1)), 0, 1)
        return y + self.column(self.bias)

    def column(self, values: Array) -> Array:
        """Return ``(O,)`` values in the shape that broadcasts to the output."""
        return values.reshape(-1, *(1,) * self.spec.ndim)


def _gathered(n: int, out: int, k: int, s: int, d: int, lo: int, mode: str) -> Cells:
    cells = np.arange(out)[:, None] * s + np.arange(k) * d - lo
    inside = (cells >= 0) & (cells < n)
    if mode == "zeros" or not n:
        return np.where(inside, cells, NOTHING)
    return MODES[mode](cells, n)


def _scattered(n: int, out: int, k: int, s: int, d: int, lo: int, _: str) -> Cells:
    cells = np.arange(out)[:, None] + lo - np.arange(k) * d
    right = (cells >= 0) & (cells < n * s) & (cells % s == 0)
    return np.where(right, cells // s, NOTHING)


MODES: dict[str, Callable[[Cells, int], Cells]] = {
    "circular": lambda cells, n: cells % n,
    "replicate": lambda cells, n: np.clip(cells, 0, n - 1),
    "reflect": lambda cells, n: np.clip(n - 1 - np.abs(n - 1 - np.abs(cells)), 0, n - 1),
}


def _dense(spec: ConvSpec, kernel: Array) -> Array:
    """Return the kernel between all channels, ``(O, C, *taps)``."""
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    dense = np.zeros((spec.out_channels, spec.in_channels, *spec.kernel_size))
    for g in range(spec.groups):
        into, out_of = slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)
        dense[out_of, into] = kernel[into].swapaxes(0, 1) if spec.transposed else kernel[out_of]
    return dense

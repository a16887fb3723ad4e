"""Convolutions in other arithmetics, by brute force over taps: what correct, coarse and wrong backends return."""

from __future__ import annotations

import itertools

import numpy as np

from convspec.reference.convolution import pad
from convspec.spec.dtypes import rounded
from convspec.spec.parameters import ConvParams
from convspec.spec.shapes import resolve_padding


def layer(spec, params, x, dtype="float32", accumulator="float32", inputs=None):
    """The layer as a backend may compute it: fused multiply-adds in sequence, then the bias.

    ``inputs`` is the format that input and kernel are rounded to first; ``accumulator`` that of every partial sum.
    """
    kernel = params.kernel
    if inputs:
        x, kernel = rounded(x, inputs), rounded(kernel, inputs)
    total = np.zeros(spec.output_shape(x.shape), np.float64 if accumulator == "float64" else np.float32)
    with np.errstate(all="ignore"):
        for place, products in _products(spec, kernel.astype(np.float64), x.astype(np.float64)):
            sums = total[place]
            for product in products:
                sums = rounded(sums.astype(np.float64) + product, accumulator)
            total[place] = sums
        if params.bias is not None:
            bias = params.bias.astype(np.float64).reshape(-1, *(1,) * spec.ndim)
            total = rounded(total.astype(np.float64) + bias, accumulator)
        return rounded(total, dtype)


def _products(spec, kernel, x):
    """For every tap: where its products are added, and those of each channel of a group, ``(I/g, N, O, …)``."""
    pads, _ = resolve_padding(spec, x.shape[2:])
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    out = spec.output_shape(x.shape)[2:]
    cells = x if spec.transposed else pad(x, pads, spec.padding_mode)
    channels = np.stack([cells[:, c::per_in].repeat(per_out, axis=1) for c in range(per_in)])
    if spec.transposed:
        kernel = kernel.reshape(spec.groups, per_in, per_out, *spec.kernel_size).swapaxes(0, 1)
    else:
        kernel = kernel.swapaxes(0, 1)
    kernel = kernel.reshape(per_in, 1, spec.out_channels, *spec.kernel_size)
    axes = (spec.stride, spec.dilation, x.shape[2:], out, pads)
    for taps in itertools.product(*map(range, spec.kernel_size)):
        weights = kernel[(..., *taps)].reshape(per_in, 1, -1, *(1,) * spec.ndim)
        along = _scattered if spec.transposed else _gathered
        ranges = [along(*sizes) for sizes in zip(taps, *axes, strict=True)]
        if all(source.stop > source.start for source, _ in ranges):
            yield (..., *(target for _, target in ranges)), channels[(..., *(source for source, _ in ranges))] * weights


def _gathered(j, s, d, n, m, pads):
    """The padded cells that tap ``j`` reads for all ``m`` outputs, and those outputs."""
    return slice(j * d, j * d + (m - 1) * s + 1 if m else j * d, s), slice(0, m)


def _scattered(j, s, d, n, m, pads):
    """The inputs whose products by tap ``j`` are not cropped, and where they are added."""
    shift = j * d - pads[0]
    first, last = max(-(shift // s), 0), min((m - 1 - shift) // s, n - 1)
    count = max(last - first + 1, 0)
    start = first * s + shift
    return slice(first, first + count), slice(start, start + max((count - 1) * s + 1, 0), s)


def dense(spec, params, x, dtype="float32", inputs=None):
    """A plain layer (stride 1, no pads) as one matrix product in ``dtype``; float16 sums in float32."""
    kernel, work = params.kernel, np.float64 if dtype == "float64" else np.float32
    if inputs:
        x, kernel = rounded(x.astype(np.float32), inputs), rounded(kernel.astype(np.float32), inputs)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(work), spec.kernel_size, (-2, -1))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(*windows.shape[:1], *windows.shape[2:4], -1)
    y = columns @ kernel.reshape(len(kernel), -1).astype(work).T
    if params.bias is not None:
        y = y + params.bias.astype(work)
    return rounded(y.transpose(0, 3, 1, 2), dtype)


def without_tap(params):
    """The same weights, one tap of each filter zero."""
    kernel = params.kernel.copy()
    kernel.reshape(len(kernel), -1)[:, kernel[0].size // 2] = 0
    return ConvParams(kernel, params.bias)

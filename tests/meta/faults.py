"""Twelve mistakes that real ports contain, as variants of the oracle.

Each takes (spec, params, x) and returns what the faulty layer gives, in float64, or None where the mistake changes
nothing in such a layer (no bias to drop) or cannot be made.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convspec.errors import ShapeError, SpecError
from convspec.reference.convolution import conv
from convspec.spec.parameters import ConvParams
from convspec.spec.shapes import resolve_padding


def kernel_flipped(spec, params, x):
    axes = tuple(range(2, 2 + spec.ndim))
    return conv(spec, ConvParams(np.flip(params.kernel, axes), params.bias), x)


def height_and_width_swapped(spec, params, x):
    if spec.ndim < 2:
        return None
    return _attempt(spec, params, x.swapaxes(-1, -2), then=lambda y: y.swapaxes(-1, -2))


def pad_on_the_wrong_side(spec, params, x):
    pads, extra = resolve_padding(spec, x.shape[2:])
    lo, hi = pads[0]
    if lo + hi == 0:
        return None
    moved = ((lo + 1, hi - 1) if hi else (lo - 1, hi + 1), *pads[1:])
    return _attempt(replace(spec, padding=moved, output_padding=extra), params, x)


def bias_dropped(spec, params, x):
    return conv(replace(spec, bias=False), ConvParams(params.kernel), x) if spec.bias else None


def groups_permuted(spec, params, x):
    if spec.groups == 1:
        return None
    blocks = params.kernel.reshape(spec.groups, -1, *params.kernel.shape[1:])
    return conv(spec, ConvParams(np.roll(blocks, 1, axis=0).reshape(params.kernel.shape), params.bias), x)


def stride_and_dilation_swapped(spec, params, x):
    if spec.stride == spec.dilation:
        return None
    try:
        swapped = replace(spec, stride=spec.dilation, dilation=spec.stride)
    except SpecError:
        return None
    return _attempt(swapped, params, x)


def last_row_dropped(spec, params, x):
    return conv(spec, params, x)[:, :, :-1]


def output_padding_on_the_wrong_end(spec, params, x):
    if not any(spec.output_padding):
        return None
    y = conv(spec, params, x)
    for axis, extra in enumerate(spec.output_padding, start=2):
        y = np.roll(y, extra, axis)
    return y


def same_made_symmetric(spec, params, x):
    if not isinstance(spec.padding, str) or spec.transposed:
        return None
    pads = tuple((ke // 2, ke // 2) for ke in spec.effective_kernel)
    return _attempt(replace(spec, padding=pads), params, x)


def in_and_out_transposed(spec, params, x):
    if params.kernel.shape[0] != params.kernel.shape[1]:
        return None
    return conv(spec, ConvParams(params.kernel.swapaxes(0, 1), params.bias), x)


def one_nan(spec, params, x):
    y = conv(spec, params, x)
    if y.size:
        y.reshape(-1)[y.size // 2] = np.nan
    return y


def two_ulp_off(spec, params, x):
    """One element, two units in the last place of the dtype that the result is rounded to: float32 here."""
    y = conv(spec, params, x).astype(np.float32)
    if y.size:
        flat = y.reshape(-1)
        flat[-1] = np.nextafter(np.nextafter(flat[-1], np.float32(np.inf)), np.float32(np.inf))
    return y.astype(np.float64)


FAULTS = (
    kernel_flipped,
    height_and_width_swapped,
    pad_on_the_wrong_side,
    bias_dropped,
    groups_permuted,
    stride_and_dilation_swapped,
    last_row_dropped,
    output_padding_on_the_wrong_end,
    same_made_symmetric,
    in_and_out_transposed,
    one_nan,
    two_ulp_off,
)


def _attempt(spec, params, x, then=lambda y: y):
    try:
        return then(conv(spec, params, x))
    except ShapeError:
        return None

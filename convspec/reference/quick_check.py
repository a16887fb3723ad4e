"""Whether a convolution's results are within their hard bound, decided in float32 where that suffices.

The products of one output are summed in two halves of at most n each by BLAS, in any order: h₁ and h₂ are off by at
most γ(n)·G₁ and γ(n)·G₂, and |h₁| + |h₂| is at most (1 + γ(n))·G. So |ŷ - (h₁ + h₂ + b)| is compared with what these
errors leave of the hard bound, times |h₁| + |h₂| in place of G. Elements that this does not decide are summed in
float64; where they are many, nothing is decided.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from convspec.reference import im2col
from convspec.reference.convolution import pad
from convspec.reference.error_bounds import Bounds, gamma
from convspec.spec import Array, ConvParams, ConvSpec, resolve_padding

_UNIT = 2.0**-24
_FEW = 0.02  # of the elements of a block may be summed in float64
_BLOCK = 1 << 17  # elements: they fit a core's cache
_LARGE = 2.0**120  # sums of products that are smaller do not overflow


def is_within(spec: ConvSpec, params: ConvParams, x: Array, y: Array, limits: Bounds) -> bool:
    """Whether every element of ``y`` is surely within its hard bound; False where that is not decided.

    It is decided for results in float32 that are sums over several channels.
    """
    kernel, taps = params.kernel, prod(spec.kernel_size)
    rows = spec.in_channels // spec.groups * taps
    plain = all(a.dtype == np.float32 for a in (x, y, kernel)) and limits.unit == _UNIT and not limits.output_rounding
    if not plain or spec.transposed or rows < 2 * taps or y.shape != spec.output_shape(x.shape) or not y.any():
        return False
    if not _largest(x) * _largest(kernel) * rows < _LARGE:
        return False
    pads, _ = resolve_padding(spec, x.shape[2:])
    bias = np.zeros(spec.out_channels, np.float32) if params.bias is None else params.bias.astype(np.float32)
    weights, added = kernel.reshape(spec.groups, -1, rows), bias.reshape(spec.groups, -1, 1)
    for given, actual in zip(x, y, strict=True):
        grouped = pad(given.reshape(spec.groups, -1, *given.shape[1:]), pads, spec.padding_mode)
        found = actual.reshape(spec.groups, -1, prod(actual.shape[1:]))
        blocks = im2col.columns_of(grouped, spec.kernel_size, actual.shape[1:], spec.stride, spec.dilation,
                                   x.size + kernel.size + y.size)  # fmt: skip
        for g, part, columns in blocks:
            for block in zip(weights[g], columns, found[g, :, part], added[g], strict=True):
                if not _is_within(*block, limits):
                    return False
    return True


def _largest(x: Array) -> float:
    return max(float(np.max(x, initial=0.0)), -float(np.min(x, initial=0.0)))


def _is_within(weights: Array, columns: Array, actual: Array, bias: Array, limits: Bounds) -> bool:
    """Whether the elements of one block ``(channels, places)`` are within their bounds."""
    most = max(_BLOCK // max(weights.shape), 256)
    if columns.shape[1] > most:
        starts = range(0, columns.shape[1], most)
        return all(_is_within(weights, columns[:, i : i + most], actual[:, i : i + most], bias, limits) for i in starts)
    half = -(-weights.shape[1] // 2)
    own = gamma(half + 8, _UNIT)  # of a half; of the sum of both with the bias, the difference and the limit
    error, limit = weights[:, :half] @ columns[:half], weights[:, half:] @ columns[half:]
    size = np.abs(error)
    error += limit
    error += bias
    error -= actual
    np.abs(error, out=error)
    np.abs(limit, out=limit)
    limit += size
    limit *= np.float32((limits.relative - own) * (1 - own))
    unsure = ~(error <= limit)
    count = int(np.count_nonzero(unsure))
    return count == 0 or (
        count <= max(_FEW * unsure.size, 8) and _sums_are_within(weights, columns, actual, bias, unsure, limits)
    )


def _sums_are_within(
    weights: Array, columns: Array, actual: Array, bias: Array, chosen: NDArray[np.bool_], limits: Bounds
) -> bool:
    """Whether the chosen elements are within their bounds, by sums in float64."""
    channels, places = np.nonzero(chosen)
    products = weights[channels].astype(np.float64) * columns.T[places]
    own = bias[channels, 0].astype(np.float64)
    error = np.abs(actual[channels, places] - (products.sum(1) + own))
    size = np.abs(products).sum(1) + np.abs(own)
    return bool((error <= limits.relative * size + limits.absolute).all())

"""Test data: the arrays of a case, by kind of data.

===================== ================================================================================================
``exact``             integers so small that every order of summation is exact: any difference is an error
``random``            normal random numbers; the outputs have variance about 1
``cancellation``      large terms that sum to small outputs
``wide``              exponents spread evenly over many binades
``one_sign``          positive numbers only, so that rounding errors accumulate
``nonfinite``         ``exact``, with NaN, Inf and -Inf in the interior and at the border of the input
``nonfinite_kernel``  ``exact``, with NaN and Inf in the kernel
===================== ================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec import reference
from convspec.errors import UnknownName
from convspec.reference import products
from convspec.spec import (
    MAX_MAGNITUDE,
    SPARSE_MAGNITUDE,
    Array,
    ConvParams,
    ConvSpec,
    as_kernel,
    dealt,
    exact_budget,
    exact_limit,
    format_of,
    forward_products,
    nonzero_integers,
    normal,
    output_shape,
    rounded,
    sparse_mask,
)

Shape: TypeAlias = tuple[int, ...]
Arrays: TypeAlias = tuple[ConvParams, Array]

# relative variation of a nearly constant input, whose terms nearly cancel; coarse enough for bfloat16
_RIPPLE = 2.0**-4


def forward(spec: ConvSpec, shape: Sequence[int], kind: str, dtype: str, seed: int) -> Arrays:
    """Weights and input for the forward pass, in the dtype's carrier.

    Raises:
        UnknownName: for an unknown kind of data.
    """
    if kind not in _KINDS:
        raise UnknownName("kind of data", kind, _KINDS)
    return _KINDS[kind](spec, tuple(shape), dtype, seed)


def gradient(spec: ConvSpec, shape: Sequence[int], kind: str, dtype: str, seed: int) -> tuple[ConvParams, Array, Array]:
    """Weights, input and dy for the gradients, in the dtype's carrier.

    Raises:
        UnknownName: if that kind of data has no gradients.
        ShapeError: if the layer has no output.
    """
    rng = np.random.default_rng([seed, 4])
    y_shape = output_shape(spec, shape)
    if kind == "random":
        return (*forward(spec, shape, kind, dtype, seed), normal(rng, y_shape, dtype))
    if kind == "exact":
        return _exact_gradient(rng, spec, tuple(shape), y_shape, dtype)
    raise UnknownName("kind of data for gradients", kind, ("exact", "random"))


def uncompared(spec: ConvSpec, params: ConvParams, shape: Sequence[int]) -> NDArray[np.bool_] | None:
    """True at the outputs where a NaN or Inf of the kernel meets a padding zero; None if the kernel is finite.

    These outputs depend on whether the framework multiplies the zero or skips it.
    """
    planted = ~np.isfinite(params.kernel)
    if not planted.any():
        return None
    inner = np.ones((1, *shape[1:]))
    seen = reference.conv(replace(spec, bias=False), ConvParams(planted.astype(np.float64)), inner)
    by_group = planted.reshape(spec.groups, -1, planted.shape[1], math.prod(spec.kernel_size))
    count = by_group.sum(axis=(1 if spec.transposed else 2, 3)).reshape(-1, *(1,) * spec.ndim)
    return np.broadcast_to(seen < count, output_shape(spec, shape))


def _exact(spec: ConvSpec, shape: Shape, dtype: str, seed: int) -> Arrays:
    rng = np.random.default_rng([seed, 3])
    x = nonzero_integers(rng, shape, exact_budget(spec, dtype).x)
    return ConvParams.exact(spec, seed, dtype), x.astype(format_of(dtype).carrier)


def _random(spec: ConvSpec, shape: Shape, dtype: str, seed: int) -> Arrays:
    return ConvParams.random(spec, seed, dtype), normal(np.random.default_rng([seed, 3]), shape, dtype)


def _cancellation(spec: ConvSpec, shape: Shape, dtype: str, seed: int) -> Arrays:
    """Weights in pairs of opposite sign on a nearly constant input."""
    rng = np.random.default_rng([seed, 5])
    count = forward_products(spec)
    half = rng.standard_normal((spec.out_channels, (count + 1) // 2)) / math.sqrt(count)
    rows = np.concatenate([half, -half], axis=1)[:, :count]
    x = 16 * (1 + _RIPPLE * rng.standard_normal(shape))
    bias = normal(rng, (spec.out_channels,), dtype, _RIPPLE) if spec.bias else None
    return ConvParams(rounded(as_kernel(rows, spec), dtype), bias), rounded(x, dtype)


def _wide(spec: ConvSpec, shape: Shape, dtype: str, seed: int) -> Arrays:
    rng = np.random.default_rng([seed, 6])
    # products and sums neither overflow nor become subnormal
    reach = 4 if dtype == "float16" else 20

    def spread(size: Shape, scale: float = 1.0) -> Array:
        values = rng.uniform(1, 2, size) * np.exp2(rng.integers(-reach, reach, size)) * rng.choice([-1, 1], size)
        return rounded(values * scale, dtype)

    kernel = spread(spec.kernel_shape, 1 / math.sqrt(forward_products(spec)))
    return ConvParams(kernel, spread((spec.out_channels,)) if spec.bias else None), spread(shape)


def _one_sign(spec: ConvSpec, shape: Shape, dtype: str, seed: int) -> Arrays:
    params, x = _random(spec, shape, dtype, seed)
    return ConvParams(np.abs(params.kernel), None if params.bias is None else np.abs(params.bias)), np.abs(x)


def _nonfinite(spec: ConvSpec, shape: Shape, dtype: str, seed: int) -> Arrays:
    """Each value once: at the middle, the first and the last pixel, in random samples and channels."""
    params, x = _exact(spec, shape, dtype, seed)
    rng = np.random.default_rng([seed, 7])
    if x.size:
        middle = tuple(n // 2 for n in shape[2:])
        for value, pixel in ((np.nan, middle), (np.inf, (0,) * spec.ndim), (-np.inf, (-1,) * spec.ndim)):
            x[int(rng.integers(shape[0])), int(rng.integers(shape[1])), *pixel] = value
    return params, x


def _nonfinite_kernel(spec: ConvSpec, shape: Shape, dtype: str, seed: int) -> Arrays:
    """NaN and Inf in one weight each, so that most output channels stay finite."""
    params, x = _exact(spec, shape, dtype, seed)
    positions = np.random.default_rng([seed, 8]).permutation(params.kernel.size)[:2]
    for value, position in zip((np.nan, np.inf), positions, strict=False):
        params.kernel.reshape(-1)[position] = value
    return params, x


_KINDS: dict[str, Callable[[ConvSpec, Shape, str, int], Arrays]] = {
    "exact": _exact, "random": _random, "cancellation": _cancellation, "wide": _wide, "one_sign": _one_sign,
    "nonfinite": _nonfinite, "nonfinite_kernel": _nonfinite_kernel,
}  # fmt: skip


def _exact_gradient(
    rng: np.random.Generator, spec: ConvSpec, shape: Shape, y_shape: Shape, dtype: str
) -> tuple[ConvParams, Array, Array]:
    """Integers that make dx, dw and db exact: dy shares one budget with w and another with x."""
    limit, carrier = exact_limit(dtype), format_of(dtype).carrier
    per_input = max(products(spec, shape, "input"), 1)
    per_weight = max(products(spec, shape, "kernel"), products(spec, shape, "bias"), 1)
    d = max(min(math.isqrt(limit // per_input), math.isqrt(limit // per_weight), MAX_MAGNITUDE), 1)
    w, x = (min(limit // (n * d), MAX_MAGNITUDE) for n in (per_input, per_weight))
    dy = nonzero_integers(rng, y_shape, d)
    folds = per_input // max(spec.out_channels // spec.groups * math.prod(spec.kernel_size), 1)
    few = SPARSE_MAGNITUDE if SPARSE_MAGNITUDE * d * folds <= limit else 1
    kernel = nonzero_integers(rng, spec.kernel_shape, w or few)
    if not w:
        kernel *= sparse_mask(rng, spec, max(limit // (few * d * folds), 1), per="input")
    if not x:
        pixels = (y_shape[0], *y_shape[2:])
        mask = dealt(rng, spec.out_channels, math.prod(pixels), limit // (SPARSE_MAGNITUDE * d))
        dy *= np.moveaxis(mask.reshape(spec.out_channels, *pixels), 0, 1)
    bias = nonzero_integers(rng, (spec.out_channels,), MAX_MAGNITUDE).astype(carrier) if spec.bias else None
    inputs = nonzero_integers(rng, shape, x or SPARSE_MAGNITUDE)
    return ConvParams(kernel.astype(carrier), bias), inputs.astype(carrier), dy.astype(carrier)

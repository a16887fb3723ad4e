"""The kinds of data that cases are computed from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.arithmetic import output_shape
from convspec.dtypes import format_of
from convspec.errors import UnknownName
from convspec.numerics import products
from convspec.parameters import (
    MAX_MAGNITUDE,
    SPARSE_MAGNITUDE,
    ConvParams,
    dealt,
    exact_budget,
    exact_limit,
    nonzero_integers,
    normal,
    sparse_mask,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.spec import ConvSpec

    Array = NDArray[np.floating[Any]]

KINDS = ("exact", "random")
GRADIENT_KINDS = ("exact", "random")


def forward(spec: ConvSpec, shape: Sequence[int], kind: str, dtype: str, seed: int) -> tuple[ConvParams, Array]:
    """Weights and input for the forward pass, in the dtype's carrier.

    Raises:
        UnknownName: if there is no such kind of data.
    """
    rng = np.random.default_rng([seed, 3])
    if kind == "exact":
        x = nonzero_integers(rng, tuple(shape), exact_budget(spec, dtype).x)
        return ConvParams.exact(spec, seed, dtype), x.astype(format_of(dtype).carrier)
    if kind == "random":
        return ConvParams.random(spec, seed, dtype), normal(rng, tuple(shape), dtype)
    raise UnknownName("kind of data", kind, KINDS)


def gradient(spec: ConvSpec, shape: Sequence[int], kind: str, dtype: str, seed: int) -> tuple[ConvParams, Array, Array]:
    """Weights, input and dy for the gradients, in the dtype's carrier.

    Raises:
        UnknownName: if there are no gradients for that kind of data.
        ShapeError: where the layer has no output.
    """
    rng = np.random.default_rng([seed, 4])
    y_shape = output_shape(spec, shape)
    if kind == "random":
        return (*forward(spec, shape, kind, dtype, seed), normal(rng, y_shape, dtype))
    if kind == "exact":
        return _exact_gradient(rng, spec, tuple(shape), y_shape, dtype)
    raise UnknownName("kind of data for gradients", kind, GRADIENT_KINDS)


def _exact_gradient(
    rng: np.random.Generator, spec: ConvSpec, shape: tuple[int, ...], y_shape: tuple[int, ...], dtype: str
) -> tuple[ConvParams, Array, Array]:
    """Integers for which dx, dw and db are all exact: dy shares one budget with w and another with x."""
    limit, carrier = exact_limit(dtype), format_of(dtype).carrier
    per_input = products(spec, shape, "input")
    per_weight = max(products(spec, shape, "kernel"), products(spec, shape, "bias"), 1)
    d = min(math.isqrt(limit // per_input), math.isqrt(limit // per_weight), MAX_MAGNITUDE)
    d = max(d, 1)
    w, x = (min(limit // (n * d), MAX_MAGNITUDE) for n in (per_input, per_weight))
    dy = nonzero_integers(rng, y_shape, d)
    kernel = nonzero_integers(rng, spec.kernel_shape, w or SPARSE_MAGNITUDE)
    if not w:
        folds = per_input // (spec.out_channels // spec.groups * math.prod(spec.kernel_size))
        kernel *= sparse_mask(rng, spec, max(limit // (SPARSE_MAGNITUDE * d * folds), 1), per="input")
    if not x:
        cells = math.prod(y_shape[2:])
        mask = dealt(rng, spec.out_channels, y_shape[0] * cells, limit // (SPARSE_MAGNITUDE * d))
        dy *= np.moveaxis(mask.reshape(spec.out_channels, y_shape[0], *y_shape[2:]), 0, 1)
    bias = nonzero_integers(rng, (spec.out_channels,), MAX_MAGNITUDE).astype(carrier) if spec.bias else None
    inputs = nonzero_integers(rng, shape, x or SPARSE_MAGNITUDE)
    return ConvParams(kernel.astype(carrier), bias), inputs.astype(carrier), dy.astype(carrier)

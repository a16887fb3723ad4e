"""The numbers to explain, and their distance from a simulated layer.

Single elements of a layer's output rule a mistake out without computing the whole output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.diagnosis.faulty_layer import FILL, IMPOSSIBLE, Array, Indices, Layer
from convspec.reference import STATISTICAL_MINIMUM, Bounds, bounds, products, source_indices
from convspec.spec import ComputePrecision, ConvSpec, product, resolve_padding

Finish: TypeAlias = Callable[[Array], Array] | None
Mask: TypeAlias = NDArray[np.bool_]

_POINTS, _FEW = 32, 6
_BEYOND = 1.0 + 2.0**-20


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance of simulated numbers from the actual ones.

    Attributes:
        worst: the largest |actual - simulated| in units of the rounding bound.
        wrong: fraction of the elements beyond the bound.
        exact: whether all elements are equal to the last bit.
        rms: root mean square of the errors in units of the statistical bound; 0 if there are too few elements.
        bound: the largest rounding error, relative to G.
    """

    worst: float
    wrong: float
    exact: bool
    rms: float = 0.0
    bound: float = 0.0

    @property
    def explains(self) -> bool:
        """Whether rounding explains the difference."""
        return self.worst <= 1 and self.rms <= 1


class Evidence:
    """The actual output ``(N, O, *out)`` of a layer that should have been ``layer``."""

    def __init__(self, layer: Layer, actual: Array, dtype: str) -> None:
        self.layer, self.dtype = layer, dtype
        self.expected, self.size = layer.output(), layer.magnitude()
        self.single = actual
        self.actual = np.asarray(actual, np.float64)
        self.right = self._distance(layer, self.expected, self.size)
        self.points = self._choose()
        self.few = tuple(axis[:_FEW] for axis in self.points)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.actual.shape

    def limits(self, layer: Layer) -> Bounds:
        """Return the rounding bounds of such a layer in any framework: float32 sums at least, bias added separately."""
        dtype = layer.dtype or self.dtype
        wide = ComputePrecision("float64" if dtype == "float64" else "float32", 2, flushes_subnormals=True)
        return bounds(dtype, products(layer.spec), layer.arithmetic or wide)

    def ratios(self) -> Array | None:
        """Return |actual - right| / bound for each element; None if the shape is wrong."""
        if self.actual.shape != self.expected.shape:
            return None
        limits = self.limits(self.layer)
        return _ratio(self.actual, self.expected, self.size, limits, None)

    def screen(self, layer: Layer) -> float | None:
        """Return the fraction of some elements that a layer does not explain; None if its shape is wrong or impossible.

        At 0 the layer may explain everything; above, it does not. The first few elements rule out most layers.
        """
        try:
            if not layer.x.size or not self.points[0].size:
                return 0.0 if layer.output().shape == self.shape else None
            few = self._unexplained(layer, self.few)
            return few if few in (None, 1.0) else self._unexplained(layer, self.points)
        except IMPOSSIBLE:
            return None

    def _unexplained(self, layer: Layer, chosen: tuple[Any, ...]) -> float | None:
        values = evaluate(layer, self.shape, chosen)
        if values is None:
            return None
        ratio = _ratio(self.actual[chosen], *values, self.limits(layer), layer.finish)
        return np.count_nonzero(ratio > 1) / ratio.size

    def distance(self, layer: Layer) -> Distance | None:
        """Return the distance of a layer; None if it cannot be computed, or gives the right numbers."""
        try:
            sums = layer.unfinished()
            output = sums if layer.finish is None else layer.finish(sums)
            same = output.shape == self.expected.shape and np.array_equal(output, self.expected, equal_nan=True)
            if output.shape != self.shape or (same and layer.arithmetic is None and layer.dtype is None):
                return None
            return self._distance(layer, sums, layer.magnitude())
        except IMPOSSIBLE:
            return None

    def _distance(self, layer: Layer, sums: Array, size: Array) -> Distance:
        if sums.shape != self.shape:
            return Distance(np.inf, 1.0, exact=False)
        limits = self.limits(layer)
        ratio = _ratio(self.actual, sums, size, limits, layer.finish)
        if not ratio.any():
            return Distance(0.0, 0.0, exact=True, bound=limits.relative)
        wrong = float(np.mean(ratio > 1))
        output = sums if layer.finish is None else layer.finish(sums)
        with np.errstate(over="ignore"):
            exact = np.array_equal(self.single, output.astype(self.single.dtype), equal_nan=True)
        rms = self._rms(sums, size, limits) if layer.finish is None else 0.0
        return Distance(float(ratio.max()), wrong, exact, rms, limits.relative)

    def _rms(self, output: Array, size: Array, limits: Bounds) -> float:
        """Return the error by the statistical bound, which tells coarser arithmetic from rounding in long sums."""
        if np.count_nonzero(size) < STATISTICAL_MINIMUM:
            return 0.0
        with np.errstate(invalid="ignore"):
            error = np.abs(self.actual - output) - np.abs(self.actual) * limits.output_rounding - limits.absolute
        error = np.maximum(error - size * limits.further_rounding, 0.0) / (size * limits.unit + limits.floor)
        return float(np.sqrt(np.nanmean(error**2))) / limits.rms

    def _choose(self) -> tuple[Any, ...]:
        """Choose elements that tell explanations apart: wrong ones, the first, the last, and random ones."""
        total = self.actual.size
        if total <= _POINTS:
            return np.unravel_index(np.arange(total), self.shape)
        rng = np.random.default_rng(0)
        chosen = np.concatenate([rng.integers(0, total, _POINTS // 2), [0, total - 1]])
        ratios = self.ratios()
        if ratios is not None:
            wrong = np.flatnonzero(ratios.reshape(-1) > 1)
            chosen = np.concatenate([rng.choice(wrong, min(_POINTS // 2, len(wrong)), replace=False), chosen])
        return np.unravel_index(np.array(list(dict.fromkeys(chosen.tolist())), np.intp), self.shape)


def _ratio(actual: Array, sums: Array, size: Array, limits: Bounds, finish: Finish) -> Array:
    """Return |actual - output| / bound; 0 if both are the same special value, infinite if only one is.

    A value that ``finish`` makes of sums within the bound is within the bound.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        bound = size * limits.relative + limits.absolute
        output = sums if finish is None else finish(sums)
        ratio: Array = np.abs(actual - output) / bound
        if finish is not None:
            inside = (finish(sums - bound) <= actual) & (actual <= finish(sums + bound))
            ratio = np.where(inside, np.minimum(ratio, 1.0), np.maximum(ratio, _BEYOND))
    if not np.isfinite(ratio).all():
        same = (actual == output) | (np.isnan(actual) & np.isnan(output))
        same |= np.isinf(actual) & (np.abs(output) >= limits.largest) & (np.sign(actual) == np.sign(output))
        ratio = np.where(same, 0.0, np.where(np.isfinite(ratio), ratio, np.inf))
    return ratio


# -- single elements ---------------------------------------------------------------------------------------------------


def evaluate(layer: Layer, shape: tuple[int, ...], points: tuple[Indices, ...]) -> tuple[Array, Array] | None:
    """Return the output before ``finish``, and its magnitudes, at ``points``, ``(P,)``; None if its shape is another.

    Args:
        points: one array ``(P,)`` of indices for each axis of the output.

    Raises:
        ShapeError, ParamsError: if such a layer cannot be computed at all.
    """
    own = layer.output_shape
    indices = layer.indices()
    if (own if indices is None else indices.shape) != shape:
        return None
    layer.params.check(layer.spec)
    if indices is None:
        y, g = _sums(layer, *points)
    elif not product(own):
        y = g = np.zeros(len(points[0]))
    else:
        filled = indices[points] == FILL
        at = np.unravel_index(np.where(filled, 0, indices[points]), own)
        y, g = (np.where(filled, 0.0, values) for values in _sums(layer, *at))
    if layer.added is not None:
        added = layer.addition(shape)[points]
        y, g = y + added, g + np.abs(added)
    return y, g


@np.errstate(all="ignore")
def _sums(layer: Layer, n: Indices, o: Indices, *spatial: Indices) -> tuple[Array, Array]:
    """Return Σxw + b and Σ|x||w| + |b| at samples ``n``, channels ``o``, positions ``spatial`` of the convolution."""
    spec, x, kernel = layer.spec, layer.x, layer.params.kernel
    per_in, per_out = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    positions, inside = _positions(spec, x.shape[2:], spatial)
    channels = (o // per_out * per_in)[:, None] + np.arange(per_in)
    # x and the kernel may be views of any strides: indexing avoids the copy that a reshape would make
    deep = (slice(None), slice(None), *(None,) * spec.ndim)
    values = x[(n[(slice(None), *(None,) * (spec.ndim + 1))], channels[deep], *(place[:, None] for place in positions))]
    weights = kernel[channels, (o % per_out)[:, None]] if spec.transposed else kernel[o]
    products = values * weights if inside.all() else np.where(inside[:, None], values * weights, 0.0)
    axes = tuple(range(1, products.ndim))
    y, g = products.sum(axes), np.abs(products).sum(axes)
    if layer.params.bias is not None:
        b = layer.params.bias[o]
        y, g = y + b, g + np.abs(b)
    return y, g


def _positions(spec: ConvSpec, sizes: tuple[int, ...], spatial: tuple[Indices, ...]) -> tuple[list[Indices], Mask]:
    """Return each tap's input position for outputs at ``spatial``, one array per axis, and whether it exists.

    The arrays broadcast to ``(P, *kernel)``.
    """
    pads, _ = resolve_padding(spec, sizes)
    positions: list[Indices] = []
    inside: Any = np.ones((1,) * (1 + spec.ndim), bool)
    axes = zip(spatial, sizes, spec.kernel_size, spec.stride, spec.dilation, pads, strict=True)
    for axis, (place, size, k, s, d, (lo, _)) in enumerate(axes):
        taps = np.arange(k) * d
        if spec.transposed:
            scattered = place[:, None] + lo - taps
            index, valid = scattered // s, scattered % s == 0
        else:
            index, valid = place[:, None] * s + taps - lo, True
        if spec.padding_mode == "zeros":
            valid = valid & (index >= 0) & (index < size)
        along = (len(place), *(k if a == axis else 1 for a in range(spec.ndim)))
        positions.append(source_indices(index, size, spec.padding_mode).reshape(along))
        if valid is not True:
            inside = inside & valid.reshape(along)
    return positions, inside

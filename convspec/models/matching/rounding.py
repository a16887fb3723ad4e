"""Compare a quantised layer with its float source: what rounding does not explain is named by its cause.

A weight is right within half a step of its scale, a bias within half a step of its own. Errors of inputs have no useful
bound: their signal-to-noise ratio is measured, and a factor, a shift, or saturation named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convspec.contract.tracing import Array
from convspec.models.matching.differences import Difference, nearest_stages, permuted_kernels
from convspec.models.matching.kernels import Layer
from convspec.reference import gamma
from convspec.spec import ConvParams, ConvSpec

_HALF = 0.5 * (1 + 2.0**-10)  # of a step: the quantiser rounds the quotient, which is itself rounded
_ROUNDING = gamma(16, 2.0**-24)
_CLIPPED = 25.0  # dB: clipped numbers that lose more than this are named; a calibration on other inputs loses less
_EQUAL = 200.0  # dB, of equal tensors
_NOISY, _LOST = 20.0, 6.0  # dB: below the first, a factor or shift is looked for; below the other, the signal is lost
_FIX = "round the source's weights again"
SATURATES = "activation-saturates"
_FIX_BIAS = "store the bias as round(bias / (sx·sw))"


@dataclass(frozen=True, eq=False)
class Grid:
    """The numbers that a quantised tensor can hold: (q - zero)·scale for each q of its type.

    ``scale`` and ``zero`` are one number each, or aligned with the axes of the tensor.
    """

    scale: Array
    zero: Array
    low: int
    high: int

    @classmethod
    def of(cls, scale: Array, zero: Array | None, dtype: np.dtype[Any]) -> Grid:
        """Return the grid of an integer type."""
        info, origin = np.iinfo(dtype), np.zeros(()) if zero is None else zero.astype(np.float64)
        return cls(scale.astype(np.float64), origin, int(info.min), int(info.max))

    def dequantize(self, q: Array) -> Array:
        return np.asarray((q.astype(np.float64) - self.zero) * self.scale)

    def saturated(self, x: Array) -> float:
        """Return which part of a float tensor is a step or more outside of the grid."""
        q = x / self.scale + self.zero
        return float(((q < self.low - 1) | (q > self.high + 1)).mean()) if x.size else 0.0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the stored numbers."""
        return next(t for t in map(np.dtype, "BbHhi") if (np.iinfo(t).min, np.iinfo(t).max) == (self.low, self.high))

    def limit(self, x: Array) -> Array:
        """Return a float tensor within the ends of the grid."""
        return np.clip(x, (self.low - self.zero) * self.scale, (self.high - self.zero) * self.scale)

    def clip(self, y: Array) -> Array:
        """Return an output with the activation that the ends of the grid stand for: ReLU or ReLU6."""
        if self.zero.size > 1 or self.zero != self.low:
            return y
        top = float(self.scale * (self.high - self.low))
        return np.clip(y, 0, top if abs(top - 6) < 0.06 else None)


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantised convolution.

    Attributes:
        stored: its weights as the file holds them.
        weight: their grid.
        params: the dequantised parameters.
        bias: the stored bias and its scale; None for a bias in float, or none.
        x, y: the grids of its input and output; None for tensors in float, or grids that depend on the input.
        integers: whether its own input and output are integers.
    """

    stored: Array
    weight: Grid
    params: ConvParams
    bias: tuple[Array, Array] | None
    x: Grid | None
    y: Grid | None
    integers: bool


# -- weights ---


def weight_differences(node: Quantized, ours: Layer, theirs: Layer, *, norm_later: bool = False) -> list[Difference]:
    """Return the difference of the dequantised weights that rounding to their grid does not explain.

    ``norm_later``: whether the normalisation follows after the output is quantised.
    """
    if ours.params.kernel.shape != theirs.params.kernel.shape:
        shapes = f"{ours.params.kernel.shape} where the source has {theirs.params.kernel.shape}"
        return [Difference("kernel-shape-differs", f"the kernel's shape is {shapes}", fix=_FIX)]
    mine, right = nearest_stages(ours, theirs, norm_later=norm_later)
    gain = np.ones(mine.kernel.shape)
    for factor in mine.factors:
        gain = gain * factor
    weights = _Weights(node, mine.kernel, right.kernel, gain, ours.spec)
    if weights.near(mine.kernel).all():
        return _bias_differences(node, mine.bias, right.bias, np.maximum(mine.size, right.size))
    return [next(weights.causes())]


@dataclass(frozen=True, eq=False)
class _Weights:
    """A dequantised kernel, the source's, the factors of what follows it, and the spec of both."""

    node: Quantized
    kernel: Array
    right: Array
    gain: Array
    spec: ConvSpec

    @property
    def axis(self) -> int:
        return 1 if self.spec.transposed else 0

    def step(self, scale: Array | None = None) -> Array:
        scale = self.node.weight.scale if scale is None else scale
        return np.asarray(np.broadcast_to(scale, self.node.stored.shape).reshape(self.kernel.shape) * np.abs(self.gain))

    def near(self, kernel: Array, step: Array | None = None) -> Array:
        """Return which weights are within half a step of the source's."""
        step = self.step() if step is None else step
        return np.asarray(np.abs(kernel - self.right) <= _HALF * step + _ROUNDING * np.abs(self.right))

    def causes(self) -> Iterator[Difference]:
        """Yield what may be wrong, the most likely cause first."""
        wrong, step = ~self.near(self.kernel), self.step()
        others = tuple(n for n in range(self.kernel.ndim) if n != self.axis)
        channels = np.flatnonzero(wrong.any(axis=others))
        integers = self.node.stored.dtype.kind in "iu"
        if integers:
            yield from self.axis_of_scales()
            yield from self.zero_point(channels)
        yield from self.factors(channels, others)
        for words, name, kernel in permuted_kernels(self.right, self.spec):
            if kernel.shape == self.right.shape and replace(self, right=kernel).near(self.kernel).all():
                title = f"the kernel is that of the source with {words}"
                yield Difference(name, title, fix=_FIX, right=self.requantised())
        q, grid = self.node.stored.astype(np.int64).reshape(self.kernel.shape), self.node.weight
        if integers and ((q == grid.low) | (np.abs(q) == grid.high))[wrong].all():
            title = f"{int(wrong.sum())} weights of output {_channels(channels)} saturate: the scale is too small"
            yield Difference("weights-saturate", title, fix="quantise with a larger scale")
        steps = np.abs(self.kernel - self.right) / step
        at = tuple(map(int, np.unravel_index(int(np.argmax(steps)), steps.shape)))
        worst = f"{self.kernel[at]:g} where the source has {self.right[at]:g}, {steps[at]:.3g} steps"
        title = f"{int(wrong.sum())} of the kernel's {wrong.size} numbers are not within half a step of the source's"
        yield Difference("kernel-differs", f"{title}, the worst at {at}: {worst}", fix=_FIX, right=self.requantised())

    def axis_of_scales(self) -> Iterator[Difference]:
        """Try the scales along each other axis of the same size, and in reverse."""
        grid, q = self.node.weight, self.node.stored
        if grid.scale.size == 1:
            return
        own, flat = int(np.argmax(grid.scale.shape)), grid.scale.reshape(-1)
        for axis in (n for n in range(q.ndim) if q.shape[n] == flat.size):
            for order, numbers in (("", flat), (", in reverse", flat[::-1])):
                scale = numbers.reshape([-1 if n == axis else 1 for n in range(q.ndim)])
                kernel = ((q.astype(np.float64) - grid.zero) * scale).reshape(self.kernel.shape) * self.gain
                if (axis != own or order) and self.near(kernel, self.step(scale)).all():
                    title = f"the weight has its scales along axis {own}; they belong along axis {axis}{order}"
                    right = {"weight_axis": np.asarray(axis)} if axis != own else {"weight_scale": np.float32(numbers)}
                    fix = f"give the weight its scales along axis {axis}{order}"
                    yield Difference("scale-axis", title, fix=fix, right=None if axis != own and order else right)

    def zero_point(self, channels: Array) -> Iterator[Difference]:
        """Try one number of steps that all weights of the wrong channels are off by."""
        mine, right, step = (np.take(a, channels, self.axis) for a in (self.kernel, self.right, self.step()))
        offset = int(np.round(np.median((mine - right) / step)))
        near = np.abs(mine - offset * step - right) <= _HALF * step + _ROUNDING * np.abs(right)
        if offset and near.all():
            where = "" if len(channels) == self.kernel.shape[self.axis] else f" of output {_channels(channels)}"
            title = f"the weight's zero point{where} is {abs(offset)} too {'small' if offset > 0 else 'large'}"
            zero = np.broadcast_to(self.node.weight.zero.reshape(-1), max(self.node.weight.zero.size, 1)).copy()
            zero[channels if zero.size > 1 else slice(None)] += offset
            arrays = {"weight_zero": self._flat(zero).astype(self.node.stored.dtype)}
            fix = "give the weight the zero point it was quantised with"
            yield Difference("weight-zero-point", title, fix=fix, right=arrays if zero.size > 1 or not where else None)

    def factors(self, channels: Array, others: tuple[int, ...]) -> Iterator[Difference]:
        """Find one factor per wrong channel that brings all its weights within half a step."""
        margin = _HALF * self.step() + _ROUNDING * np.abs(self.right)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.sort([(self.kernel + side * margin) / self.right for side in (-1, 1)], axis=0)
        ends[:, self.right == 0] = np.array([[-np.inf], [np.inf]])
        low, high = ends[0].max(others)[channels], ends[1].min(others)[channels]
        if not (low <= high).all():
            return
        numbers = np.array([_plainest(*both) for both in zip(low.tolist(), high.tolist(), strict=True)])
        times = f"{numbers[0]:.3g}" if len(set(numbers)) == 1 else ", ".join(f"{n:.3g}" for n in numbers[:4])
        whole = self.node.weight.scale.size == 1 and len(channels) == self.kernel.shape[self.axis]
        which = "the weight's scale" if whole else f"the scale of output {_channels(channels)}"
        scale = self.node.weight.scale.reshape(-1).copy()
        if self.node.stored.dtype.kind == "f":
            title = f"the kernel of output {_channels(channels)} is {times} times the source's"
            yield Difference("kernel-scaled", title, fix=_FIX)
            return
        fits = whole or scale.size == self.kernel.shape[self.axis]
        if fits:
            scale[channels if scale.size > 1 else slice(None)] /= numbers if scale.size > 1 else numbers[0]
        arrays = {"weight_scale": self._flat(scale).astype(np.float32)} if fits else None
        fix = "divide the scale by this factor"
        yield Difference("weight-scale", f"{which} is {times} times the right one", fix=fix, right=arrays)

    def _flat(self, numbers: Array) -> Array:
        """Return numbers in the shape that a file has them in: one alone, or one per channel."""
        return numbers if self.node.weight.scale.size > 1 else numbers.reshape(())

    def requantised(self) -> dict[str, Array] | None:
        """Return the source's weights on the grid; None if the grid does not reach them."""
        grid, shape = self.node.weight, self.node.stored.shape
        q = np.round((self.right / self.gain).reshape(shape) / grid.scale + grid.zero)
        inside = bool(((q >= grid.low) & (q <= grid.high)).all())
        return {"weight": q.astype(self.node.stored.dtype)} if inside else None


def _plainest(low: float, high: float) -> float:
    """Return the number between two that has the fewest digits."""
    middle = (low + high) / 2
    return next((n for digits in range(1, 8) if low <= (n := float(f"{middle:.{digits}g}")) <= high), middle)


def _bias_differences(node: Quantized, bias: Array, right: Array, size: Array) -> list[Difference]:
    rounding = _ROUNDING * size
    step = np.zeros(1) if node.bias is None else node.bias[1]
    wrong = ~(np.abs(bias - right) <= _HALF * step + rounding)
    if not wrong.any():
        return _note_bias_scale(node)
    stored_right = None
    if node.integers and node.x is not None:
        step = np.broadcast_to(node.x.scale * node.weight.scale.reshape(-1), right.shape)
    if step.size == right.size and step.all():
        stored_right = {"bias": np.round(right / step).astype(np.int32)}
    if not bias.any():
        title = "the source has a bias, this node has none"
        return [Difference("bias-lost", title, fix="give the node its bias", right=stored_right)]
    if node.bias is not None:
        stored, scale = node.bias
        for name, number in _bias_scales(node):
            other = np.broadcast_to(number, stored.shape)
            fits = np.abs(stored * other - right) <= _HALF * other + rounding
            if fits.all() and not _equal(other, scale):
                title = f"the bias is stored at scale {name}, and read at another: both must be sx·sw"
                return [Difference("bias-scale", title, fix=_FIX_BIAS, right=stored_right)]
        ratio = float(np.sum(bias * right) / np.sum(right**2)) if right.any() else 1.0
        if (np.abs(bias / ratio - right) <= 2 * step / abs(ratio) + rounding).all() and abs(ratio - 1) > 0.1:
            title = f"the bias is {ratio:.3g} times the source's: it is not stored at scale sx·sw"
            return [Difference("bias-scale", title, fix=_FIX_BIAS, right=stored_right)]
    channels, worst = np.flatnonzero(wrong), int(np.argmax(np.abs(bias - right)))
    numbers = f"the worst in channel {worst}: {bias[worst]:g} where the source has {right[worst]:g}"
    title = f"the bias of output {_channels(channels)} is not within half a step of the source's, {numbers}"
    return [Difference("bias-differs", title, fix=_FIX_BIAS, right=stored_right)]


def _equal(scales: Array, others: Array) -> bool:
    """Return whether two scales, or rows of scales, differ by no more than the rounding of their products."""
    return bool((np.abs(scales - others) <= _ROUNDING * np.abs(others)).all())


def _note_bias_scale(node: Quantized) -> list[Difference]:
    """Return a remark on a right bias at another scale than a runtime that fuses the node takes for granted."""
    if node.bias is None or node.x is None or _equal(node.x.scale * node.weight.scale.reshape(-1), node.bias[1]):
        return []
    title = "the bias is not stored at scale sx·sw, which runtimes that compute in integers take for granted"
    return [Difference("bias-scale", title, fatal=False, fix=_FIX_BIAS)]


def _bias_scales(node: Quantized) -> Iterator[tuple[str, Array]]:
    """Yield the scales at which a bias may have been stored: the right one, and those of common mistakes."""
    x, y = (np.ones(()) if grid is None else grid.scale for grid in (node.x, node.y))
    w = node.weight.scale.reshape(-1)
    yield from (("sx·sw", x * w), ("sx", x), ("sw", w), ("1", np.ones(())), ("sy", y))
    yield from (("sx·sw of the first channel", x * w[0]), ("sx·sw of the largest channel", x * w.max()))


def _channels(indices: Array) -> str:
    more = f" and {len(indices) - 4} more" if len(indices) > 4 else ""
    return f"channel{'s' * (len(indices) > 1)} {', '.join(str(int(n)) for n in indices[:4])}{more}"


# -- activations ---


def activation_difference(
    grid: Grid | None, x: Array, source: Array, others: Iterable[float], finer: float = 0.0
) -> Difference | None:
    """Return what is wrong with a tensor between two layers beyond rounding, in words about the tensor.

    Args:
        grid: of the tensor; None for one in float.
        source: the same tensor of the source.
        others: the signal-to-noise ratios of the outputs of the layers.
        finer: how much less noise than of 8-bit integers is to be expected, in dB.
    """
    if grid and (words := name_saturation(grid, source)):
        return Difference(SATURATES, words, fix="quantise with a larger scale")
    noise = signal_to_noise(x, source) - finer
    words = name_error(x, source) if noise < _NOISY else ""
    if not words and noise < _LOST and min(others, default=_NOISY + finer) - finer > 2 * _LOST:
        words = f"not the source's: {noise + finer:.1f} dB of signal over noise"
    fix = "check the scales and the operators between this tensor and the convolutions before it"
    return Difference("input-differs", words, fix=fix) if words else None


def signal_to_noise(x: Array, source: Array) -> float:
    """Return the power of the source's tensor over that of the difference, in dB."""
    power, noise = (float(np.sum(np.square(a, dtype=np.float64))) for a in (source, x - source))
    if not noise:
        return _EQUAL
    return float(np.clip(10 * np.log10(power / noise), -_EQUAL, _EQUAL)) if power else -_EQUAL


def name_saturation(grid: Grid, source: Array) -> str:
    """Return in which part of the source's elements the grid saturates, in words; "" where that loses little."""
    if signal_to_noise(grid.limit(source), source) > _CLIPPED:
        return ""
    return f"saturates in {100 * grid.saturated(source):.2g} % of the elements"


def name_error(x: Array, source: Array) -> str:
    """Return the factor or the shift that explains most of the difference of a tensor from the source's; or ""."""
    noise, power = float(np.mean((x - source) ** 2)), float(np.mean(source**2))
    ratio = float(np.mean(x * source)) / power if power else 0.0
    if ratio and abs(ratio - 1) > 0.1 and float(np.mean((x / ratio - source) ** 2)) < noise / 16:
        return f"{ratio:.3g} times the source's"
    shift = float(np.mean(x - source))
    if float(np.mean((x - shift - source) ** 2)) < noise / 16:
        return f"the source's shifted by {shift:.3g}, as by a wrong zero point"
    return ""

"""Sizes: output shape, padding as numbers, receptive field, cost.

With L the length of an axis, k taps, stride s, dilation d, pads lo and hi, and ke = (k - 1)·d + 1:

* regular: out = ⌊(L + lo + hi - ke) / s⌋ + 1
* ``"same"``: out = ⌈L / s⌉, total = max((out - 1)·s + ke - L, 0), lo = ⌊total / 2⌋, hi = total - lo;
  ``"same_lower"`` swaps lo and hi
* transposed: out = (L - 1)·s + ke - lo - hi + output_padding; with ``"same"`` out = L·s and lo = ⌊max(ke - s, 0) / 2⌋
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import TYPE_CHECKING

from convspec.errors import ShapeError
from convspec.spec import layouts
from convspec.spec.validation import SIZE_RULE, Pads, too_large

if TYPE_CHECKING:
    from fractions import Fraction

    from convspec.spec.conv_spec import ConvSpec

_MOST_STEPS = 10**7  # of counting a receptive field; seconds
DIRECTIONS = ("forward", "input", "kernel", "bias")
product: Callable[[Iterable[int]], int] = prod  # of Python ints, which cannot overflow


def same_pads(length: int, kernel: int, stride: int, dilation: int, *, lower: bool = False) -> tuple[int, int]:
    """Return the pads of ``"same"`` before and after an axis of ``length`` pixels; ``lower`` puts an odd pixel before.

    >>> same_pads(32, 3, 2, 1)
    (0, 1)
    """
    out = -(-length // stride)
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
    half = total // 2
    return (total - half, half) if lower else (half, total - half)


def sum_pads(pads: Pads, more: Pads, sign: int = 1) -> Pads:
    """Return the sum of two paddings per axis and side, or their difference with sign -1."""
    return tuple((lo + sign * a, hi + sign * b) for (lo, hi), (a, b) in zip(pads, more, strict=True))


def resolve_padding(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Pads, tuple[int, ...]]:
    """Return pads ``(before, after)`` and output padding per axis, as numbers, for an input of that size.

    For a transposed layer the pads are crops; where ``"same"`` must lengthen the result (ke < s), the missing
    pixels are output padding.
    """
    if not isinstance(spec.padding, str):
        return spec.padding, spec.output_padding
    axes = list(zip(spatial, spec.kernel_size, spec.stride, spec.dilation, spec.effective_kernel, strict=True))
    if spec.transposed:
        totals = [ke - s for _, _, s, _, ke in axes]
        pads = tuple((max(t, 0) // 2, max(t, 0) - max(t, 0) // 2) for t in totals)
        return pads, tuple(max(-t, 0) for t in totals)
    lower = spec.padding == "same_lower"
    return tuple(same_pads(n, k, s, d, lower=lower) for n, k, s, d, _ in axes), spec.output_padding


def copies(spec: ConvSpec, spatial: Sequence[int]) -> int:
    """Return how many pixels of the padded input can hold the same input pixel, itself included."""
    if spec.padding_mode == "zeros":
        return 1
    pads, _ = resolve_padding(spec, spatial)
    if spec.padding_mode == "replicate":
        return product(1 + lo + hi for lo, hi in pads)
    return product(1 + (lo > 0) + (hi > 0) for lo, hi in pads)


def overlap(spec: ConvSpec) -> int:
    """Return how many taps can add to one pixel of a scatter, such as the output of a transposed layer.

    Taps j with equal j·d modulo s meet, which are those with equal j modulo s / gcd(s, d).
    """
    axes = zip(spec.kernel_size, spec.stride, spec.dilation, strict=True)
    return product(-(-k // (s // gcd(s, d))) for k, s, d in axes)


def column_roundings(spec: ConvSpec, direction: str, input_shape: Sequence[int] | None) -> int:
    """Return how often a partial sum is rounded by a layer that computes one matrix product per sample.

    Columns that add to the same pixel (of a transposed layer's output, or of any other layer's input gradient) are
    summed in the layer's own dtype; so are the samples of the kernel's gradient, and the gradients of pixels that a
    pad has copied.
    """
    if direction == "kernel":
        return max(input_shape[0], 1) if input_shape else 1
    scattered = direction == ("forward" if spec.transposed else "input")
    roundings = overlap(spec) + 1 if scattered else 1
    if direction == "input" and input_shape:
        roundings += copies(spec, input_shape[2:]) - 1
    return roundings


def canonical_input(spec: ConvSpec, input_shape: Sequence[int], layout: str) -> tuple[int, ...]:
    """Return ``(N, C, *spatial)`` of an input given in ``layout``, after a check of its rank and channels.

    Raises:
        ShapeError: with the axis, the expected and the actual size, and the likely cause.
    """
    shape = tuple(int(n) for n in input_shape)
    if too_large(shape):
        raise ShapeError(f"an axis of the input must {SIZE_RULE}")
    name = layouts.name(layout, spec.ndim)
    if len(shape) != spec.ndim + 2:
        raise ShapeError(_rank_message(spec, shape, name))
    if any(n < 0 for n in shape):
        raise ShapeError(f"input of shape {shape} has a negative axis")
    canonical = layouts.canonical_shape(shape, layout, spec.ndim)
    if canonical[1] != spec.in_channels:
        raise ShapeError(_channel_message(spec, shape, name))
    return canonical


def _rank_message(spec: ConvSpec, shape: tuple[int, ...], name: str) -> str:
    text = (
        f"input of shape {shape} has {len(shape)} axes, but a layer with {spec.ndim} spatial "
        f"{'axis' if spec.ndim == 1 else 'axes'} expects {spec.ndim + 2}: {name}"
    )
    if len(shape) == spec.ndim + 1:
        return f"{text}; the batch axis seems to be missing: add one, x[None]"
    return text


def _channel_message(spec: ConvSpec, shape: tuple[int, ...], name: str) -> str:
    axis = name.index("C")
    text = (
        f"input of shape {shape}: axis {axis} (C of {name}) must be in_channels={spec.in_channels}, "
        f"but is {shape[axis]}"
    )
    other = len(shape) - 1 if axis == 1 else 1
    if shape[other] != spec.in_channels:
        return text
    swapped = layouts.name("NHWC" if axis == 1 else "NCHW", spec.ndim)
    where = "last" if axis == 1 else "second"
    return (
        f"{text}; the {where} axis is {spec.in_channels}: this looks like {swapped}. "
        f"Pass layout={swapped!r}, or transpose the input with axes "
        f"{layouts.permutation(layouts.order(swapped, spec.ndim), layouts.order(name, spec.ndim), spec.ndim)}"
    )


def output_spatial(spec: ConvSpec, spatial: Sequence[int]) -> tuple[int, ...]:
    """Return the spatial sizes of the output, by the formulas at the top of this module.

    Raises:
        ShapeError: if the kernel is larger than the padded input, a pad cannot be filled in its mode, or a
            transposed layer crops more than its result has.
    """
    pads, extra = resolve_padding(spec, spatial)
    out = []
    for axis, (n, (lo, hi), ke, s, e) in enumerate(
        zip(spatial, pads, spec.effective_kernel, spec.stride, extra, strict=True)
    ):
        if spec.transposed:
            size = (n - 1) * s + ke - lo - hi + e
            if size < 0:
                raise ShapeError(
                    f"{_axis_name(spec, axis)}: the output would have {size} cells: padding crops {lo} + {hi} of "
                    f"{(n - 1) * s + ke + e}; reduce padding or enlarge the input"
                )
        else:
            if spec.padding_mode != "zeros":
                _check_pads(spec, axis, n, (lo, hi))
            size = (n + lo + hi - ke) // s + 1
            if n + lo + hi < ke:
                raise ShapeError(
                    f"{_axis_name(spec, axis)}: the kernel spans {ke} cells, but the padded input has only "
                    f"{n} + {lo} + {hi} = {n + lo + hi}; the smallest input here is "
                    f"{max(ke - lo - hi, 0)}"
                )
        out.append(size)
    return tuple(out)


def _axis_name(spec: ConvSpec, axis: int) -> str:
    return f"spatial axis {axis} ({layouts.spatial_letters(spec.ndim)[axis]})"


def _check_pads(spec: ConvSpec, axis: int, n: int, pads: tuple[int, int]) -> None:
    """Check that the padding mode can fill the pads of an axis of ``n`` pixels."""
    mode, pad = spec.padding_mode, max(pads)
    broken, words = {
        "reflect": (pad >= n, "be less than"),
        "circular": (pad > n, "not exceed"),
        "replicate": (n == 0, "find a cell to repeat in"),
    }[mode]
    if pad and broken:
        raise ShapeError(
            f"{_axis_name(spec, axis)}: padding {pads} of mode {mode!r} must {words} the input's {n} cells"
        )


def output_shape(spec: ConvSpec, input_shape: Sequence[int], layout: str = "NCHW") -> tuple[int, ...]:
    """Return the shape of the output in ``layout``; see :meth:`convspec.ConvSpec.output_shape`."""
    batch, _, *spatial = canonical_input(spec, input_shape, layout)
    return layouts.shape_in((batch, spec.out_channels, *output_spatial(spec, spatial)), layout, spec.ndim)


def macs(spec: ConvSpec, input_shape: Sequence[int], layout: str = "NCHW") -> int:
    """Count multiply-accumulate operations: one per output pixel and tap, or per input pixel and tap if transposed."""
    batch, _, *spatial = canonical_input(spec, input_shape, layout)
    output = output_spatial(spec, spatial)
    return batch * product(spatial if spec.transposed else output) * product(spec.kernel_shape)


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The input pixels that an output pixel depends on, per spatial axis.

    Attributes:
        size: pixels from the first to the last that one output can depend on (the maximum over all outputs).
        jump: input pixels between neighbouring outputs; a fraction after a transposed layer.
        offset: centre of output 0 in input pixels, 0 being the centre of input 0; negative in the padding.
    """

    size: tuple[int, ...]
    jump: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]


def receptive_field(specs: Sequence[ConvSpec]) -> ReceptiveField:
    """Return the receptive field of layers in sequence, whose padding must be numbers (:meth:`ConvSpec.explicit`).

    Raises:
        ShapeError: if a padding is a word, which depends on the input's size.
    """
    axes = [_field_along(specs, axis) for axis in range(specs[0].ndim)]
    return ReceptiveField(*(tuple(values) for values in zip(*axes, strict=True)))


def _field_along(specs: Sequence[ConvSpec], axis: int) -> tuple[int, Fraction, Fraction]:
    """Return size, jump and offset along one axis, traced back from the output.

    After transposed layers neighbouring outputs read different numbers of pixels, hence the maximum over phases.
    """
    from fractions import Fraction

    size = 0
    phases = product(spec.stride[axis] for spec in specs if spec.transposed)
    regular = next((i for i, spec in enumerate(specs) if spec.transposed), len(specs))
    if phases * product(spec.kernel_size[axis] for spec in specs[regular:]) > _MOST_STEPS:
        raise ShapeError(
            f"the receptive field along spatial axis {axis} has too many cases to count: the strides of the transposed "
            f"layers, {phases} together, times the sizes of their kernels must be at most {_MOST_STEPS}"
        )
    for phase in range(phases):
        pixels = {phase}
        for spec in reversed(specs[regular:]):
            pixels = {pixel for output in pixels for pixel in _read_pixels(spec, axis, output)}
        span = max(pixels) - min(pixels) + 1 if pixels else 0
        for spec in reversed(specs[:regular]) if pixels else ():  # monotonic: the first and last pixel suffice
            span = (span - 1) * spec.stride[axis] + spec.effective_kernel[axis]
        size = max(size, span)
    jump, offset = Fraction(1), Fraction(0)
    for spec in reversed(specs):
        centre = Fraction(spec.effective_kernel[axis] - 1, 2) - _pad_before(spec, axis)
        s = spec.stride[axis]
        jump, offset = (jump / s, (offset - centre) / s) if spec.transposed else (jump * s, offset * s + centre)
    return size, jump, offset


def _read_pixels(spec: ConvSpec, axis: int, output: int) -> Iterable[int]:
    """Return the input pixels, padding included, that an output reads along one axis."""
    k, s, d, lo = spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis], _pad_before(spec, axis)
    if not spec.transposed:
        return (output * s - lo + j * d for j in range(k))
    scattered = (output + lo - j * d for j in range(k))  # input i puts its tap j at i * s + j * d - lo
    return (place // s for place in scattered if place % s == 0)


def _pad_before(spec: ConvSpec, axis: int) -> int:
    if isinstance(spec.padding, str) and not spec.transposed:
        raise ShapeError(f"the offset of {spec!r} depends on the input's size: pass input_shape")
    return resolve_padding(spec, (0,) * spec.ndim)[0][axis][0]

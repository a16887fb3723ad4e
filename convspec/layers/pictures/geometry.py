"""The inputs and pads that an output reads: the basis of every drawing of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convspec.spec import ConvSpec, shapes


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis of a layer, for an input of one size.

    Attributes:
        length: size of the input.
        output: size of the output.
        kernel: taps.
        stride: step between neighbouring outputs; transposed, between the output positions of neighbouring inputs.
        dilation: distance between neighbouring taps.
        before: pads before the input; a transposed layer crops as many.
        after: pads or crops after it.
        extra: elements that a transposed layer keeps beyond the crop at the end (output_padding).
        transposed: whether inputs are scattered instead of gathered.
        mode: padding mode.
    """

    length: int
    output: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    extra: int
    transposed: bool
    mode: str

    @property
    def span(self) -> int:
        """Elements from the first tap to the last, (k - 1)·d + 1."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def full(self) -> int:
        """Size of a transposed layer's full result, (L - 1)·s + ke, before the crop."""
        return max((self.length - 1) * self.stride + self.span, 0)

    def reads(self, output: int) -> tuple[tuple[int, int], ...]:
        """Return ``(input, tap)`` for every tap of an output; an input below 0 or from ``length`` on is a pad.

        A transposed layer has no pads: its taps without an input are left out.
        """
        if not self.transposed:
            start = output * self.stride - self.before
            return tuple((start + tap * self.dilation, tap) for tap in range(self.kernel))
        places = ((output + self.before - tap * self.dilation, tap) for tap in range(self.kernel))
        pairs = ((place // self.stride, tap) for place, tap in places if place % self.stride == 0)
        return tuple((index, tap) for index, tap in pairs if 0 <= index < self.length)

    def holds(self, index: int) -> int | None:
        """Return the input whose value the padded input has at ``index``, by the padding mode; None for a zero."""
        if 0 <= index < self.length:
            return index
        if self.mode == "reflect" and self.length > 1:
            turn = index % (2 * self.length - 2)
            return min(turn, 2 * self.length - 2 - turn)
        if self.mode == "replicate":
            return min(max(index, 0), self.length - 1)
        return index % self.length if self.mode == "circular" else None


def axes(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Axis, ...]:
    """Return every spatial axis of the layer, for an input of these sizes.

    Raises:
        ShapeError: if the layer has no output for them.
    """
    sizes = shapes.output_spatial(spec, spatial)
    pads, extra = shapes.resolve_padding(spec, spatial)
    return tuple(
        Axis(length, output, kernel, stride, dilation, before, after, added, spec.transposed, spec.padding_mode)
        for length, output, kernel, stride, dilation, (before, after), added in zip(
            spatial, sizes, spec.kernel_size, spec.stride, spec.dilation, pads, extra, strict=True
        )
    )

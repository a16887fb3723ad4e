"""Which input cells, and which pads, an output cell reads: the ground of every drawing of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convspec.spec import shapes

if TYPE_CHECKING:
    from convspec.spec import ConvSpec


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis of a layer, for an input of one size.

    Attributes:
        length: cells of the input.
        output: cells of the output.
        kernel: taps.
        stride: step between neighbouring outputs; transposed, between the places that neighbouring inputs go to.
        dilation: distance between neighbouring taps.
        before: pads before the input; a transposed layer crops as many.
        after: those after it.
        extra: cells that a transposed layer keeps at its end beyond the crop (output_padding).
        transposed: whether inputs are scattered and not gathered.
        mode: what the pads hold.
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
        """Cells from the first tap to the last, (k - 1)·d + 1."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def full(self) -> int:
        """Cells that a transposed layer scatters to, (L - 1)·s + ke, before the crop."""
        return max((self.length - 1) * self.stride + self.span, 0)

    def reads(self, output: int) -> tuple[tuple[int, int], ...]:
        """``(input cell, tap)`` for every tap that meets a cell; a cell below 0 or from ``length`` on is a pad.

        A transposed layer has no pads: its taps that meet nothing are left out.
        """
        if not self.transposed:
            start = output * self.stride - self.before
            return tuple((start + tap * self.dilation, tap) for tap in range(self.kernel))
        places = ((output + self.before - tap * self.dilation, tap) for tap in range(self.kernel))
        pairs = ((place // self.stride, tap) for place, tap in places if place % self.stride == 0)
        return tuple((cell, tap) for cell, tap in pairs if 0 <= cell < self.length)

    def holds(self, cell: int) -> int | None:
        """The input cell whose value the cell has: itself inside, for a pad as its mode says; None for a zero."""
        if 0 <= cell < self.length:
            return cell
        if self.mode == "reflect" and self.length > 1:
            turn = cell % (2 * self.length - 2)
            return min(turn, 2 * self.length - 2 - turn)
        if self.mode == "replicate":
            return min(max(cell, 0), self.length - 1)
        return cell % self.length if self.mode == "circular" else None


def axes(spec: ConvSpec, spatial: Sequence[int]) -> tuple[Axis, ...]:
    """Every spatial axis of the layer, for an input of these sizes.

    Raises:
        ShapeError: where there is no such output.
    """
    sizes = shapes.output_spatial(spec, spatial)
    pads, extra = shapes.resolve_padding(spec, spatial)
    return tuple(
        Axis(length, output, kernel, stride, dilation, before, after, added, spec.transposed, spec.padding_mode)
        for length, output, kernel, stride, dilation, (before, after), added in zip(
            spatial, sizes, spec.kernel_size, spec.stride, spec.dilation, pads, extra, strict=True
        )
    )

"""Resizing of the spatial axes by interpolation.

With L pixels in, O out and r the distance of neighbouring outputs in input pixels, output i lies at

* ``"half_pixel"``: (i + ½)·r - ½; ``"pytorch_half_pixel"``: the same, but 0 for a single output
* ``"half_pixel_symmetric"``: the same, moved by (L - O·r) / 2, so that a size rounded down cuts both ends alike
* ``"asymmetric"``: i·r; ``"tf_half_pixel_for_nn"``: (i + ½)·r (ONNX, opset 11)
* ``"align_corners"``: i·(L - 1) / (O - 1), and 0 for a single output

with r = L / O, or 1 / scale where a scale is given and ``recompute_scale`` is not set. ``"nearest"`` rounds the place;
other modes weight the pixels around it by a kernel: linear max(0, 1 - |t|), cubic with coefficient a (Keys, IEEE
Trans. ASSP 29 (1981) 1153), lanczos. With ``antialias`` the kernel is stretched by r where r > 1.
"""

from __future__ import annotations

import math
from fractions import Fraction

from convspec.spec.steps.fields import Factors, Flag, OptionalExtent, OptionalInt, Real, Word
from convspec.spec.steps.step import Bad, Shape, Step, spatial


class Resize(Step):
    """Interpolation of the spatial axes to a size, or by a scale.

    Attributes:
        size: output size along each spatial axis.
        scale: instead of it, a factor along each axis: the output has ⌊L·scale⌋ pixels.
        mode: ``"nearest"``, ``"linear"``, ``"cubic"``, ``"lanczos3"`` or ``"lanczos5"``.
        coordinates: the place of an output pixel in the input.
        rounding: how ``"nearest"`` rounds it; ``"round_prefer_floor"`` rounds half down.
        cubic_coefficient: a of the cubic kernel.
        exclude_outside: whether pixels outside the input get no weight and the others are scaled to the sum 1;
            otherwise the edge is repeated.
        antialias: whether the kernel is stretched when the input shrinks.
        recompute_scale: whether places follow from the sizes though a scale is given.
        table_steps: number of steps between two pixels for which weights are tabulated (TensorFlow's cubic: 1024);
            None: exact weights.
    """

    phrase = "{mode} resize"
    size: OptionalExtent = OptionalExtent(default=None, least=0, words="to {}")
    scale: Factors = Factors(default=None, words="by {}")
    mode: Word = Word("nearest", "linear", "cubic", "lanczos3", "lanczos5", default="nearest")
    coordinates: Word = Word(
        "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn", "asymmetric",
        "align_corners", default="half_pixel", words="{}",
    )  # fmt: skip
    rounding: Word = Word(
        "floor", "ceil", "round_prefer_floor", "round_prefer_ceil", default="round_prefer_ceil", words="{}"
    )
    cubic_coefficient: Real = Real(default=-0.75, words="coefficient {}")
    exclude_outside: Flag = Flag(default=False, words="weights outside dropped")
    antialias: Flag = Flag(default=False, words="antialiased")
    recompute_scale: Flag = Flag(default=False, words="scale recomputed")
    table_steps: OptionalInt = OptionalInt(default=None, least=1, words="weights in {} steps")

    def _settle(self, bad: Bad) -> None:
        """Bring fields that have no effect in this mode to their defaults."""
        if (self.size is None) == (self.scale is None):
            bad("size", f"be given, or scale: exactly one of them (scale={self.scale!r})")
        nearest = self.mode == "nearest"
        self._set(
            rounding=self.rounding if nearest else "round_prefer_ceil",
            cubic_coefficient=self.cubic_coefficient if self.mode == "cubic" else -0.75,
            antialias=self.antialias and not nearest,
            # without antialiasing a repeated edge and a weight scaled to 1 are the same for a linear kernel
            exclude_outside=self.exclude_outside and not (nearest or (self.mode == "linear" and not self.antialias)),
            recompute_scale=self.recompute_scale and self.size is None,
            table_steps=None if nearest else self.table_steps,
        )

    def output_spatial(self, sizes: Shape) -> Shape:
        """Return the spatial sizes of the output."""
        if self.scale is None:
            return self.size or ()
        return tuple(math.floor(n * scale) for n, scale in zip(sizes, self.scale, strict=True))

    def ratios(self, sizes: Shape) -> tuple[Fraction, ...]:
        """Return r along each axis, the distance of neighbouring outputs in input pixels."""
        axes = list(zip(sizes, self.output_spatial(sizes), strict=True))
        if self.coordinates == "align_corners":
            return tuple(Fraction(n - 1, out - 1) if out > 1 else Fraction(0) for n, out in axes)
        if self.scale is not None and not self.recompute_scale:
            return tuple(1 / Fraction(scale) for scale in self.scale)
        return tuple(Fraction(n, max(out, 1)) for n, out in axes)

    def _shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:2], *self.output_spatial(spatial(inputs[0], len(self.size or self.scale or ()), self)))

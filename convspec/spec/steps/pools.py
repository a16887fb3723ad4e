"""Pools: one number from each window of every channel.

With L the length of an axis, k the window, stride s, dilation d, pads lo and hi, and ke = (k - 1)·d + 1:

* out = ⌊(L + lo + hi - ke) / s⌋ + 1
* ``ceil_mode``: ⌈(L + lo + hi - ke) / s⌉ + 1, less 1 if (out - 1)·s ≥ L + lo: the last window starts inside the input
  or in the pad before it (PyTorch's rule, which ONNX Runtime follows in every opset)
* ``"same"``: out = ⌈L / s⌉, pads as for a convolution
* adaptive: window i of O is [⌊i·L / O⌋, ⌈(i + 1)·L / O⌉), so that neighbours may overlap; ``"disjoint"`` windows are
  those of ``numpy.array_split``: the first L mod O have one element more
"""

from __future__ import annotations

from itertools import pairwise

from convspec.errors import ShapeError
from convspec.spec.shapes import same_pads
from convspec.spec.steps.fields import (
    Extent,
    Flag,
    OptionalInt,
    OptionalSizes,
    PartialExtent,
    Real,
    Sizes,
    WindowPads,
    Word,
    times,
)
from convspec.spec.steps.step import Bad, Shape, Step, spatial
from convspec.spec.validation import Pads


class Pool(Step, abstract=True):
    """A step that makes one number from each window of every channel."""

    def output_spatial(self, sizes: Shape) -> Shape:
        """Return the number of windows along each spatial axis.

        Raises:
            ShapeError: if the window is larger than the padded input.
        """
        raise NotImplementedError

    def windows(self, sizes: Shape) -> tuple[list[range], ...]:
        """Return the positions that each window covers along each spatial axis; those outside the input are pads."""
        raise NotImplementedError

    def _ndim(self, shape: Shape) -> int:
        return len(shape) - 2

    def _shape(self, *inputs: Shape) -> Shape:
        sizes = spatial(inputs[0], self._ndim(inputs[0]), self)
        return (*inputs[0][:2], *self.output_spatial(sizes))


class WindowPool(Pool, abstract=True):
    """A pool whose window has a fixed size and moves by a stride.

    Attributes:
        kernel_size: the window's size; an int counts for two axes.
        stride: step between neighbouring windows; None: the window's size.
        padding: as of a convolution: an int, one int or one ``(before, after)`` per axis, or a word. Pads are no
            elements of the input: a maximum does not see them.
        dilation: distance between neighbouring elements of a window.
        ceil_mode: whether a last window that overhangs the padded input counts.
    """

    kernel_size: Extent = Extent(least=1)
    stride: OptionalSizes = OptionalSizes(default=None, least=1, words="stride {}")
    padding: WindowPads = WindowPads(default=0, least=0, words="padding {}")
    dilation: Sizes = Sizes(default=1, least=1, words="dilation {}")
    ceil_mode: Flag = Flag(default=False, words="sizes rounded up")

    def _settle(self, bad: Bad) -> None:
        """Replace words that mean fixed pads, as ``ConvSpec`` does, and a stride that is not given."""
        self._set(stride=self.strides)
        axes = list(zip(self.kernel_size, self.dilation, strict=True))
        if self.padding == "valid":
            self._set(padding=((0, 0),) * len(axes))
        elif isinstance(self.padding, str):
            self._set(ceil_mode=False)
            if set(self.strides) == {1}:
                lower = self.padding == "same_lower"
                self._set(padding=tuple(same_pads((k - 1) * d + 1, k, 1, d, lower=lower) for k, d in axes))

    @property
    def strides(self) -> Shape:
        """The stride along each axis, which is the window's size where none was given."""
        return self.stride or self.kernel_size

    def pads(self, sizes: Shape) -> Pads:
        """Return the pads before and after each axis, as numbers, for an input of that size."""
        if not isinstance(self.padding, str):
            return self.padding
        axes = zip(sizes, self.kernel_size, self.strides, self.dilation, strict=True)
        return tuple(same_pads(n, k, s, d, lower=self.padding == "same_lower") for n, k, s, d in axes)

    @property
    def spans(self) -> Shape:
        """Pixels that the window spans along each axis, ``(k - 1) * dilation + 1``."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    def output_spatial(self, sizes: Shape) -> Shape:
        axes = zip(sizes, self.pads(sizes), self.spans, self.strides, strict=True)
        return tuple(self._count(*axis) for axis in axes)

    def windows(self, sizes: Shape) -> tuple[list[range], ...]:
        axes = zip(self.output_spatial(sizes), self.pads(sizes), self.spans, self.strides, self.dilation, strict=True)
        return tuple([range(i * s - lo, i * s - lo + span, d) for i in range(n)] for n, (lo, _), span, s, d in axes)

    def _count(self, length: int, pads: tuple[int, int], span: int, stride: int) -> int:
        lo, hi = pads
        room = length + lo + hi - span
        out = (-(-room // stride) if self.ceil_mode else room // stride) + 1
        if self.ceil_mode and (out - 1) * stride >= length + lo:
            out -= 1
        if out < 1:
            raise ShapeError(f"{self}: the window spans {span} pixels, but the padded input has {length + lo + hi}")
        return out

    def _ndim(self, shape: Shape) -> int:
        return len(self.kernel_size)


class MaxPool(WindowPool):
    """The maximum of each window. Frameworks differ where a window has a NaN: PyTorch and JAX return NaN, others not.

    >>> str(MaxPool(3, stride=2, padding=1))
    'max pool 3×3, stride 2, padding 1'
    >>> MaxPool(3, stride=2, padding=1).output_shape((1, 8, 112, 112))
    (1, 8, 56, 56)
    """

    phrase = "max pool {kernel_size}"


class AveragePool(WindowPool):
    """The mean of each window: the sum over the elements inside the input, divided by a count.

    Attributes:
        count_include_pad: whether the count includes pads (not what overhangs the padded input in ``ceil_mode``).
        divisor: divisor of every window; None: the count.
    """

    phrase = "average pool {kernel_size}"
    count_include_pad: Flag = Flag(default=False, words="pads counted")
    divisor: OptionalInt = OptionalInt(default=None, words="divided by {}")

    def _settle(self, bad: Bad) -> None:
        super()._settle(bad)
        if self.divisor == 0:
            bad("divisor", "not be 0")
        if self.divisor is not None or self.padding == ((0, 0),) * len(self.strides):
            self._set(count_include_pad=False)


class LpPool(WindowPool):
    """The p-norm of each window, (Σ|x|ᵖ)^(1/p).

    Attributes:
        p: the exponent.
        signed: whether powers keep the sign of x, as in PyTorch: NaN where the sum is negative.
        full_window: whether a window that overhangs is scaled up to a whole one, as in PyTorch.
    """

    phrase = "Lp pool {kernel_size}, p {p}"
    p: Real = Real(default=2.0, above=0)
    signed: Flag = Flag(default=False, words="with signs")
    full_window: Flag = Flag(default=False, words="scaled to full windows")

    def _settle(self, bad: Bad) -> None:
        super()._settle(bad)
        self._set(signed=self.signed and self.p % 2 != 0)


class AdaptivePool(Pool):
    """A pool with a given output size, whose windows follow from the input's size.

    Attributes:
        output_size: size along each spatial axis; None keeps the input's.
        reduction: ``"average"`` or ``"max"``.
        bins: ``"overlapping"`` (PyTorch, Keras) or ``"disjoint"`` (Equinox).
    """

    phrase = "adaptive {reduction} pool to {output_size}"
    output_size: PartialExtent = PartialExtent(least=0)
    reduction: Word = Word("average", "max", default="average")
    bins: Word = Word("overlapping", "disjoint", default="overlapping", words="{} bins")

    def output_spatial(self, sizes: Shape) -> Shape:
        outputs = tuple(n if out is None else out for n, out in zip(sizes, self.output_size, strict=True))
        if self.bins == "disjoint" and any(out > n for n, out in zip(sizes, outputs, strict=True)):
            raise ShapeError(f"{self}: {times(sizes)} pixels cannot be divided into {times(outputs)} disjoint bins")
        return outputs

    def windows(self, sizes: Shape) -> tuple[list[range], ...]:
        return tuple(map(self._bins, sizes, self.output_spatial(sizes)))

    def _bins(self, length: int, out: int) -> list[range]:
        if self.bins == "overlapping":
            return [range(i * length // out, -(-(i + 1) * length // out)) for i in range(out)]
        starts = [i * (length // out) + min(i, length % out) for i in range(out + 1)]
        return [range(a, b) for a, b in pairwise(starts)]

    def _ndim(self, shape: Shape) -> int:
        return len(self.output_size)


class GlobalPool(Pool):
    """One number from all pixels of every channel, at any number of spatial axes.

    Attributes:
        reduction: ``"average"``, ``"max"`` or ``"lp"``, (Σ|x|ᵖ)^(1/p).
        keepdims: whether spatial axes of size 1 stay: ``(N, C, 1, 1)``, else ``(N, C)``.
        p: the exponent of ``"lp"``.
    """

    phrase = "global {reduction} pool"
    reduction: Word = Word("average", "max", "lp", default="average")
    keepdims: Flag = Flag(default=True, words="axes removed")
    p: Real = Real(default=2.0, above=0, words="p {}")

    def _settle(self, bad: Bad) -> None:
        self._set(p=self.p if self.reduction == "lp" else 2.0)

    def output_spatial(self, sizes: Shape) -> Shape:
        return (1,) * len(sizes)

    def windows(self, sizes: Shape) -> tuple[list[range], ...]:
        return tuple([range(n)] for n in sizes)

    def _shape(self, *inputs: Shape) -> Shape:
        return super()._shape(*inputs) if self.keepdims else inputs[0][:2]

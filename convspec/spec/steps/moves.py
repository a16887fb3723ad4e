"""Moves: steps that pad, cut, reorder or join elements and compute nothing."""

from __future__ import annotations

from math import prod

from convspec.errors import ShapeError
from convspec.spec.steps.fields import Axes, Flag, Int, Ints, Pairs, Ranges, Real, Word, equal_times
from convspec.spec.steps.step import Bad, Shape, Step, positive_axes, positive_axis


class Identity(Step):
    """The input as it is."""


class Dropout(Step):
    """Dropout. At inference it is the identity; ``training`` says that the model still draws at random.

    Attributes:
        rate: share of zeros.
        unit: what becomes zero: an ``"element"`` or a whole ``"channel"``; ``"alpha"``: of alpha dropout.
    """

    phrase = "dropout, rate {rate}"
    rate: Real = Real(default=0.5, least=0)
    unit: Word = Word("element", "channel", "alpha", default="element", words="{}")
    training: Flag = Flag(default=False, words="active")

    def _settle(self, bad: Bad) -> None:
        if self.rate > 1:
            bad("rate", "be at most 1")


class Pad(Step):
    """Pixels added before and after axes, or cropped where a number is negative: L + before + after.

    Attributes:
        padding: one ``(before, after)`` for each of the *last* axes; an int pads both sides of two axes.
        mode: ``"constant"``, ``"reflect"`` (the edge once), ``"symmetric"`` (the edge twice), ``"replicate"`` or
            ``"circular"``.
        value: the constant.
    """

    phrase = "{mode} pad {padding}"
    padding: Pairs = Pairs()
    mode: Word = Word("constant", "reflect", "symmetric", "replicate", "circular", default="constant")
    value: Real = Real(default=0.0, words="value {}")

    def _settle(self, bad: Bad) -> None:
        """Drop leading axes without pads, and a mode and value that no pad uses."""
        leading = next((i for i, pair in enumerate(self.padding) if pair != (0, 0)), len(self.padding))
        numbers = [n for pair in self.padding for n in pair]
        crops = all(n <= 0 for n in numbers)
        if self.mode != "constant" and not crops and min(numbers) < 0:
            bad("padding", f"not be negative with mode={self.mode!r}: crop in a step of its own")
        value = 0.0 if self.mode != "constant" or crops else self.value
        self._set(padding=self.padding[leading:], mode="constant" if crops else self.mode, value=value)

    def _shape(self, *inputs: Shape) -> Shape:
        shape = inputs[0]
        if len(self.padding) > len(shape):
            raise ShapeError(f"{self}: {len(self.padding)} axes are padded, but an input of shape {shape} has fewer")
        kept = shape[: len(shape) - len(self.padding)]
        return (*kept, *(self._padded(n, *pair) for n, pair in zip(shape[len(kept) :], self.padding, strict=True)))

    def _padded(self, length: int, lo: int, hi: int) -> int:
        most = {"reflect": length - 1, "symmetric": length, "circular": length}.get(self.mode)
        if most is not None and max(lo, hi) > max(most, 0):
            raise ShapeError(
                f"{self}: pads {(lo, hi)} of mode {self.mode!r} must be at most {most} for {length} pixels"
            )
        if self.mode == "replicate" and length == 0 and (lo or hi):
            raise ShapeError(f"{self}: pads of mode 'replicate' must find a pixel to repeat")
        if length + min(lo, 0) + min(hi, 0) < 0:
            raise ShapeError(f"{self}: {(lo, hi)} crops more than the {length} pixels of the axis")
        return length + lo + hi

    @property
    def words(self) -> str:
        crops = [(-lo, -hi) for lo, hi in self.padding]
        return f"crop {equal_times(crops)}" if all(n >= 0 for pair in crops for n in pair) else super().words


class Slice(Step):
    """A part of the input: ``(start, stop, step)`` for each axis from the first, with the rules of Python's slices."""

    phrase = "slice {ranges}"
    ranges: Ranges = Ranges()

    def slices(self, shape: Shape) -> tuple[slice, ...]:
        """Return the slices for an input of this shape.

        Raises:
            ShapeError: if it has fewer axes than the step has ranges.
        """
        if len(self.ranges) > len(shape):
            raise ShapeError(f"{self}: an input of shape {shape} has fewer than {len(self.ranges)} axes")
        return tuple(slice(*part) for part in self.ranges)

    def _shape(self, *inputs: Shape) -> Shape:
        parts = [*self.slices(inputs[0]), *[slice(None)] * (len(inputs[0]) - len(self.ranges))]
        return tuple(len(range(n)[part]) for n, part in zip(inputs[0], parts, strict=True))


class Select(Step):
    """One position of an axis, which disappears, such as the class token of a transformer."""

    phrase = "position {index} of axis {axis}"
    axis: Int = Int()
    index: Int = Int()

    def _shape(self, *inputs: Shape) -> Shape:
        axis = positive_axis(self.axis, len(inputs[0]), self)
        if not -inputs[0][axis] <= self.index < inputs[0][axis]:
            raise ShapeError(f"{self}: axis {axis} of shape {inputs[0]} has no position {self.index}")
        return inputs[0][:axis] + inputs[0][axis + 1 :]


class _Blocks(Step, abstract=True):
    factor: Int = Int(least=1)
    order: Word = Word("CRD", "DCR", default="CRD")

    def _sizes(self, shape: Shape) -> Shape:
        if len(shape) < 3:
            raise ShapeError(f"{self}: an input of shape {shape} has no spatial axis")
        return shape[2:]


class PixelShuffle(_Blocks):
    """Channels to space: ``(N, C·r², H, W)`` to ``(N, C, H·r, W·r)``, at any number of spatial axes.

    Attributes:
        factor: r.
        order: ``"CRD"``: input channel c·r² + i·r + j goes to pixel (i, j) of channel c (PyTorch); ``"DCR"``: input
            channel (i·r + j)·C + c does (TensorFlow, ONNX by default).
    """

    phrase = "pixel shuffle, factor {factor}, order {order}"

    def _shape(self, *inputs: Shape) -> Shape:
        sizes, channels = self._sizes(inputs[0]), inputs[0][1]
        block = self.factor ** len(sizes)
        if channels % block:
            raise ShapeError(f"{self}: the {channels} channels of shape {inputs[0]} must be a multiple of {block}")
        return (inputs[0][0], channels // block, *(size * self.factor for size in sizes))


class PixelUnshuffle(_Blocks):
    """Space to channels, the inverse of :class:`PixelShuffle` of the same factor and order."""

    phrase = "pixel unshuffle, factor {factor}, order {order}"

    def _shape(self, *inputs: Shape) -> Shape:
        n, channels, sizes = *inputs[0][:2], self._sizes(inputs[0])
        if any(size % self.factor for size in sizes):
            raise ShapeError(f"{self}: the spatial sizes of shape {inputs[0]} must be multiples of {self.factor}")
        return (n, channels * self.factor ** len(sizes), *(size // self.factor for size in sizes))


class ChannelShuffle(Step):
    """Channels as ``(groups, C / groups)``, transposed: with two groups 0..5 become 0, 3, 1, 4, 2, 5."""

    phrase = "channel shuffle, {groups} groups"
    groups: Int = Int(least=1)

    def _shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) < 2 or inputs[0][1] % self.groups:
            raise ShapeError(f"{self}: axis 1 of shape {inputs[0]} must be a multiple of groups={self.groups}")
        return inputs[0]


class Reshape(Step):
    """The same elements in another shape; 0 copies the input's size of that axis, one -1 is inferred."""

    phrase = "reshape to {shape}"
    shape: Ints = Ints(least=-1)

    def _settle(self, bad: Bad) -> None:
        if self.shape.count(-1) > 1:
            bad("shape", "have at most one -1")

    def _shape(self, *inputs: Shape) -> Shape:
        shape = inputs[0]
        if any(n == 0 for n in self.shape[len(shape) :]):
            raise ShapeError(f"{self}: a 0 copies an axis that an input of shape {shape} does not have")
        sizes = [shape[i] if n == 0 else n for i, n in enumerate(self.shape)]
        rest = prod(n for n in sizes if n != -1)
        sizes = [prod(shape) // max(rest, 1) if n == -1 else n for n in sizes]
        if prod(sizes) != prod(shape):
            raise ShapeError(f"{self}: an input of shape {shape} has {prod(shape)} elements, not {prod(sizes)}")
        return tuple(sizes)


class Flatten(Step):
    """The axes ``start`` to ``end`` as one.

    Attributes:
        order: ``"NCHW"``: in the order of the canonical data; ``"NHWC"``: channels are moved to the end first, as of
            frameworks whose data have them there.
    """

    phrase = "flatten"
    start: Int = Int(default=1, words="from axis {}")
    end: Int = Int(default=-1, words="to axis {}")
    order: Word = Word("NCHW", "NHWC", default="NCHW", words="channels last")

    def bounds(self, shape: Shape) -> tuple[int, int]:
        """Return the first axis that is flattened, and the one after the last."""
        if not shape:
            return 0, 0
        start, end = (positive_axis(axis, len(shape), self) for axis in (self.start, self.end))
        if end < start:
            raise ShapeError(f"{self}: axis {self.end} must not come before axis {self.start}")
        return start, end + 1

    def _shape(self, *inputs: Shape) -> Shape:
        start, end = self.bounds(inputs[0])
        shape = inputs[0]
        if self.order == "NHWC" and len(shape) > 2:
            shape = (shape[0], *shape[2:], shape[1])
        return (*shape[:start], prod(shape[start:end]), *shape[end:])


class Permute(Step):
    """The axes in another order: output axis i is input axis ``axes[i]``."""

    phrase = "permute to {axes}"
    axes: Axes = Axes()

    def _shape(self, *inputs: Shape) -> Shape:
        axes = positive_axes(self.axes, len(inputs[0]), self)
        if len(axes) != len(inputs[0]):
            raise ShapeError(f"{self}: an input of shape {inputs[0]} has {len(inputs[0])} axes, not {len(axes)}")
        return tuple(inputs[0][axis] for axis in axes)


class Squeeze(Step):
    """Axes of size 1 removed; all of them if none is named."""

    phrase = "squeeze {axes}"
    axes: Axes = Axes(default=())

    def _shape(self, *inputs: Shape) -> Shape:
        axes = positive_axes(self.axes, len(inputs[0]), self)
        if any(inputs[0][axis] != 1 for axis in axes):
            raise ShapeError(f"{self}: these axes of shape {inputs[0]} must have size 1")
        return tuple(n for i, n in enumerate(inputs[0]) if (i not in axes if axes else n != 1))


class Unsqueeze(Step):
    """New axes of size 1, at these positions of the output."""

    phrase = "unsqueeze {axes}"
    axes: Axes = Axes()

    def _shape(self, *inputs: Shape) -> Shape:
        rank = len(inputs[0]) + len(self.axes)
        axes, old = positive_axes(self.axes, rank, self), iter(inputs[0])
        return tuple(1 if i in axes else next(old) for i in range(rank))


class Expand(Step):
    """The input repeated along axes of size 1, as NumPy broadcasts, to a shape; -1 keeps a size."""

    phrase = "expand to {shape}"
    shape: Ints = Ints(least=-1)

    def _shape(self, *inputs: Shape) -> Shape:
        new = len(self.shape) - len(inputs[0])
        aligned = (1,) * new + inputs[0]
        sizes = tuple(n if s == -1 else s for n, s in zip(aligned, self.shape, strict=False))
        if new < 0 or any(n not in (1, s) for n, s in zip(aligned, sizes, strict=True)):
            raise ShapeError(f"{self}: an input of shape {inputs[0]} cannot be repeated to it")
        return sizes


class Concat(Step):
    """Inputs joined along an axis."""

    phrase = "concat along axis {axis}"
    num_inputs = None
    axis: Int = Int(default=1)

    def _shape(self, *inputs: Shape) -> Shape:
        axis = positive_axis(self.axis, len(inputs[0]), self)
        if len({(len(s), s[:axis], s[axis + 1 :]) for s in inputs}) > 1:
            listing = ", ".join(map(str, inputs))
            raise ShapeError(f"{self}: the inputs must have equal sizes on all other axes, got {listing}")
        return (*inputs[0][:axis], sum(s[axis] for s in inputs), *inputs[0][axis + 1 :])


class Split(Step):
    """Parts of these sizes along an axis, one output each."""

    phrase = "split axis {axis} into {sizes}"
    sizes: Ints = Ints(least=0)
    axis: Int = Int(default=1)

    def _shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        shape, axis = inputs[0], positive_axis(self.axis, len(inputs[0]), self)
        if sum(self.sizes) != shape[axis]:
            raise ShapeError(f"{self}: the sizes must sum to the {shape[axis]} of axis {axis} of shape {shape}")
        return tuple((*shape[:axis], n, *shape[axis + 1 :]) for n in self.sizes)


class Embedding(Step):
    """Row i of a table for every integer i of the input; the features become the last axis."""

    phrase = "embedding of {num_embeddings} in {features} features"
    num_embeddings: Int = Int(least=1)
    features: Int = Int(least=1)

    @property
    def arrays(self) -> dict[str, Shape]:
        return {"weight": (self.num_embeddings, self.features)}

    def _shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0], self.features)


class Parameter(Step):
    """A learnt array that is no input of a layer, such as a position embedding or a class token."""

    phrase = "parameter {shape}"
    num_inputs = 0
    shape: Ints = Ints(least=0)

    @property
    def arrays(self) -> dict[str, Shape]:
        return {"value": self.shape}

    def _shape(self, *inputs: Shape) -> Shape:
        return self.shape

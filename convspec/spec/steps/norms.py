"""Norms: data shifted and scaled by statistics of the data, or by stored ones.

Those with a mean compute (x - mean) / √(variance + epsilon) · scale + bias with the biased variance, which divides by
the number of elements. Momentum is no field: it matters in training only.
"""

from __future__ import annotations

from convspec.errors import ShapeError
from convspec.spec.steps.fields import Axes, Flag, Int, Ints, Real
from convspec.spec.steps.step import Bad, Shape, Step, positive_axes, positive_axis


class Norm(Step, abstract=True):
    """A norm with a learnt scale and bias, each optional.

    Attributes:
        epsilon: number added to the variance.
        scale: whether there is a learnt scale (``weight``, ``gamma``).
        bias: whether there is a learnt bias (``beta``).
        fast_variance: whether the variance is computed as E[x²] - E[x]², which loses digits where the mean is large
            (Flax by default, ONNX Runtime's GroupNormalization, Keras' on PyTorch). It changes rounding only.
    """

    epsilon: Real = Real(default=1e-5, least=0, kw_only=True)
    scale: Flag = Flag(default=True, words="no scale", kw_only=True)
    bias: Flag = Flag(default=True, words="no bias", kw_only=True)
    fast_variance: Flag = Flag(default=False, words="fast variance", kw_only=True)

    def _learnt(self, shape: Shape) -> dict[str, Shape]:
        return {name: shape for name, present in (("scale", self.scale), ("bias", self.bias)) if present}


class ChannelNorm(Norm, abstract=True):
    """A norm with a scale and a bias for each channel.

    Attributes:
        channels: size of ``axis``; each array has this shape.
        axis: the channel axis; 1, unless a layer was applied to data in the wrong layout.
    """

    channels: Int = Int(least=1)
    axis: Int = Int(default=1, words="channel axis {}", kw_only=True)

    @property
    def arrays(self) -> dict[str, Shape]:
        return self._learnt((self.channels,))

    def _shape(self, *inputs: Shape) -> Shape:
        axis = positive_axis(self.axis, len(inputs[0]), self)
        if inputs[0][axis] != self.channels:
            raise ShapeError(f"{self}: axis {axis} of shape {inputs[0]} must be channels={self.channels}")
        return inputs[0]


class BatchNorm(ChannelNorm):
    """Normalisation of every channel by stored statistics, or by those of the batch as in training."""

    phrase = "batch norm, epsilon {epsilon}"
    batch_statistics: Flag = Flag(default=False, words="statistics of the batch")

    def _settle(self, bad: Bad) -> None:
        self._set(fast_variance=self.fast_variance and self.batch_statistics)

    @property
    def arrays(self) -> dict[str, Shape]:
        stored = {} if self.batch_statistics else dict.fromkeys(("mean", "variance"), (self.channels,))
        return super().arrays | stored


class GroupNorm(ChannelNorm):
    """Normalisation of each sample over groups of neighbouring channels and all other axes.

    A scale for each group, as ONNX has it in opset 18, is the same scale for all channels of the group.
    """

    phrase = "group norm, {groups} groups, epsilon {epsilon}"
    groups: Int = Int(default=32, least=1)

    def _settle(self, bad: Bad) -> None:
        if self.channels % self.groups:
            bad("groups", f"divide channels={self.channels}")


class InstanceNorm(ChannelNorm):
    """Normalisation of every channel of each sample over its spatial axes."""

    phrase = "instance norm, epsilon {epsilon}"


class LayerNorm(Norm):
    """Normalisation over axes of each sample.

    Attributes:
        shape: sizes of the axes of scale and bias.
        axes: axes whose elements share a mean and a variance.
        parameter_axes: axes of scale and bias, in the order of their shape; by default ``axes``.
    """

    phrase = "layer norm over {axes}, epsilon {epsilon}"
    shape: Ints = Ints(least=0)
    axes: Axes = Axes(default=(-1,))
    parameter_axes: Axes = Axes(default=(), words="scale and bias on {}")

    def _settle(self, bad: Bad) -> None:
        own = self.parameter_axes or self.axes
        if len(self.shape) != len(own):
            bad("shape", f"have one size for each of {len(own)} axes: {own}")
        if not self.axes:
            bad("axes", "name at least one axis")
        self._set(parameter_axes=() if self.parameter_axes == self.axes else self.parameter_axes)

    @property
    def arrays(self) -> dict[str, Shape]:
        return self._learnt(self.shape)

    def _shape(self, *inputs: Shape) -> Shape:
        positive_axes(self.axes, len(inputs[0]), self)
        own = positive_axes(self.parameter_axes or self.axes, len(inputs[0]), self)
        sizes = tuple(inputs[0][axis] for axis in own)
        if sizes != self.shape:
            raise ShapeError(f"{self}: axes {own} of shape {inputs[0]} must have the sizes {self.shape}")
        return inputs[0]


class RMSNorm(LayerNorm):
    """x / √(mean of x² + epsilon) · scale + bias, over axes of each sample; there is no mean and mostly no bias."""

    phrase = "RMS norm over {axes}, epsilon {epsilon}"
    bias: Flag = Flag(default=False, words="bias", kw_only=True)

    def _settle(self, bad: Bad) -> None:
        super()._settle(bad)
        self._set(fast_variance=False)


class LpNorm(Step):
    """x / max(‖x‖, epsilon) over axes, with ‖x‖ = (Σ|x|ᵖ)^(1/p).

    An epsilon ε inside the root, √max(Σx², ε), as TensorFlow and Keras have it, is √ε here.
    """

    phrase = "L{p} norm over {axes}, epsilon {epsilon}"
    axes: Axes = Axes(default=(1,))
    p: Real = Real(default=2.0, above=0)
    epsilon: Real = Real(default=1e-12, least=0)

    def _shape(self, *inputs: Shape) -> Shape:
        positive_axes(self.axes, len(inputs[0]), self)
        return inputs[0]


class LocalResponseNorm(Step):
    """x / (k + alpha / size · Σx²)^beta, the sum over ``size`` channels: ⌊size / 2⌋ before, ⌊(size - 1) / 2⌋ after.

    TensorFlow does not divide alpha by the size: its alpha times the size is alpha here.
    """

    phrase = "local response norm, size {size}, alpha {alpha}, beta {beta}, k {k}"
    size: Int = Int(least=1)
    alpha: Real = Real(default=1e-4)
    beta: Real = Real(default=0.75)
    k: Real = Real(default=1.0)

    def _shape(self, *inputs: Shape) -> Shape:
        positive_axis(1, len(inputs[0]), self)
        return inputs[0]

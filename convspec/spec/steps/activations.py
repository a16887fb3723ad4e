"""Activations: functions of each element, softmax and gates."""

from __future__ import annotations

from convspec.errors import ShapeError
from convspec.spec.steps.fields import Flag, Int, Ints, OptionalReal, Real, Word
from convspec.spec.steps.step import Bad, Shape, Step, positive_axis

FUNCTIONS = ("abs", "ceil", "cos", "erf", "exp", "floor", "log", "negative", "reciprocal", "round", "rsqrt", "sign",
             "sin", "sqrt", "square")  # fmt: skip


class Activation(Step, abstract=True):
    """A function of each element."""


class ReLU(Activation):
    """max(x, 0)."""

    phrase = "ReLU"


class ThresholdedReLU(Activation):
    """x where x > threshold, limited to a maximum; else slope·(x - threshold)."""

    phrase = "thresholded ReLU, threshold {threshold}"
    threshold: Real = Real(default=1.0)
    slope: Real = Real(default=0.0, words="slope {}")
    maximum: OptionalReal = OptionalReal(default=None, words="maximum {}")


class LeakyReLU(Activation):
    """x where x is positive, else slope·x.

    >>> str(LeakyReLU(0.01))
    'leaky ReLU, slope 0.01'
    """

    phrase = "leaky ReLU, slope {slope}"
    slope: Real = Real(default=0.01)


class PReLU(Activation):
    """Leaky ReLU with learnt slopes.

    Attributes:
        shape: shape of the slopes, from axis 1 of the data on: ``(1,)`` one slope, ``(C,)`` one for each channel,
            ``(C, H, W)`` one for each element; trailing ones do not matter.
    """

    phrase = "PReLU, slopes {shape}"
    shape: Ints = Ints(default=(1,), least=1)

    def _settle(self, bad: Bad) -> None:
        used = [i for i, n in enumerate(self.shape, 1) if n != 1]
        self._set(shape=self.shape[: max(used, default=0)] or (1,))

    @property
    def arrays(self) -> dict[str, Shape]:
        return {"slope": self.shape}

    def _shape(self, *inputs: Shape) -> Shape:
        sizes = inputs[0][1:] or (1,)
        if len(self.shape) > len(sizes) or any(s not in (1, n) for s, n in zip(self.shape, sizes, strict=False)):
            raise ShapeError(f"{self}: the slopes do not fit axis 1 and later ones of shape {inputs[0]}")
        return inputs[0]


class ELU(Activation):
    """x where x is positive, else alpha·(eˣ - 1)."""

    phrase = "ELU, alpha {alpha}"
    alpha: Real = Real(default=1.0)


class CELU(Activation):
    """x where x is positive, else alpha·(e^(x/alpha) - 1)."""

    phrase = "CELU, alpha {alpha}"
    alpha: Real = Real(default=1.0, above=0)


class SELU(Activation):
    """1.0507·ELU(x) with alpha 1.67326."""

    phrase = "SELU"


class GELU(Activation):
    """x·Φ(x) with the normal distribution Φ.

    Attributes:
        approximation: ``"none"``: ½x·(1 + erf(x/√2)); ``"tanh"``: ½x·(1 + tanh(√(2/π)·(x + 0.044715x³))); ``"quick"``:
            x·σ(1.702x).
    """

    phrase = "GELU"
    approximation: Word = Word("none", "tanh", "quick", default="none", words="{} approximation")


class SiLU(Activation):
    """x·σ(beta·x), also called swish."""

    phrase = "SiLU"
    beta: Real = Real(default=1.0, words="beta {}")


class Mish(Activation):
    """x·tanh(softplus(x))."""


class Sigmoid(Activation):
    """σ(x) = 1 / (1 + e⁻ˣ); its logarithm with ``log``."""

    log: Flag = Flag(default=False, words="logarithm")


class HardSigmoid(Activation):
    """slope·x + offset, clipped to 0..1. PyTorch, JAX and Keras 3 have the slope 1/6, ONNX by default 0.2."""

    phrase = "hard sigmoid, slope {slope}"
    slope: Real = Real(default=1 / 6)
    offset: Real = Real(default=0.5, words="offset {}")


class HardSwish(Activation):
    """x·clip(slope·x + offset, 0, 1)."""

    phrase = "hard swish, slope {slope}"
    slope: Real = Real(default=1 / 6)
    offset: Real = Real(default=0.5, words="offset {}")


class Tanh(Activation):
    """The hyperbolic tangent."""


class TanhShrink(Activation):
    """x - tanh(x)."""

    phrase = "tanh shrink"


class Softplus(Activation):
    """log(1 + e^(beta·x)) / beta; x itself where beta·x exceeds ``threshold`` (PyTorch: 20)."""

    beta: Real = Real(default=1.0, above=0, words="beta {}")
    threshold: OptionalReal = OptionalReal(default=None, words="threshold {}")


class Softsign(Activation):
    """x / (1 + |x|)."""


class Squareplus(Activation):
    """(x + √(x² + b)) / 2."""

    phrase = "squareplus, b {b}"
    b: Real = Real(default=4.0, least=0)


class HardShrink(Activation):
    """x where |x| exceeds the threshold, else 0."""

    phrase = "hard shrink, threshold {threshold}"
    threshold: Real = Real(default=0.5, least=0)


class SoftShrink(Activation):
    """x moved towards 0 by the threshold, and 0 where |x| is smaller."""

    phrase = "soft shrink, threshold {threshold}"
    threshold: Real = Real(default=0.5, least=0)


class Clip(Activation):
    """x limited to a range: 0..6 is ReLU6, -1..1 hard tanh."""

    minimum: OptionalReal = OptionalReal(default=None, words="minimum {}")
    maximum: OptionalReal = OptionalReal(default=None, words="maximum {}")

    def _settle(self, bad: Bad) -> None:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            bad("minimum", f"not exceed maximum={self.maximum!r}")

    @property
    def words(self) -> str:
        return "ReLU6" if (self.minimum, self.maximum) == (0, 6) else super().words


class Pointwise(Activation):
    """A plain function of each element, by its name in NumPy (or ``erf``, ``rsqrt``)."""

    phrase = "{function}"
    function: Word = Word(*FUNCTIONS)


class Power(Activation):
    """x to a fixed power."""

    phrase = "power {exponent}"
    exponent: Real = Real()


class Softmax(Step):
    """eˣ / Σeˣ along an axis; its logarithm with ``log``."""

    phrase = "softmax along axis {axis}"
    axis: Int = Int(default=1)
    log: Flag = Flag(default=False, words="logarithm")

    def _shape(self, *inputs: Shape) -> Shape:
        positive_axis(self.axis, len(inputs[0]), self)
        return inputs[0]


class GLU(Step):
    """The first half along an axis times σ of the second half."""

    phrase = "GLU along axis {axis}"
    axis: Int = Int(default=1)

    def _shape(self, *inputs: Shape) -> Shape:
        axis = positive_axis(self.axis, len(inputs[0]), self)
        if inputs[0][axis] % 2:
            raise ShapeError(f"{self}: axis {axis} of shape {inputs[0]} must have an even size")
        return (*inputs[0][:axis], inputs[0][axis] // 2, *inputs[0][axis + 1 :])

"""Arithmetic: sums and products of tensors, matrix products, reductions."""

from __future__ import annotations

from math import prod

from convspec.errors import ShapeError, UnsupportedError
from convspec.spec.steps.fields import Axes, Flag, Int, OptionalReal, Word
from convspec.spec.steps.step import Shape, Step, positive_axes, positive_axis


class Elementwise(Step, abstract=True):
    """An operation on tensors element by element; shapes broadcast as in NumPy.

    Attributes:
        constant: a number in the place of the second tensor.
    """

    num_inputs = None
    constant: OptionalReal = OptionalReal(default=None, words="constant {}")

    def _shape(self, *inputs: Shape) -> Shape:
        if len(inputs) == 1 and self.constant is None:
            raise ShapeError(f"{self} needs a second input or a constant")
        return broadcast(inputs, self)


class Add(Elementwise):
    """The sum of all inputs."""


class Multiply(Elementwise):
    """The product of all inputs."""


class Maximum(Elementwise):
    """The largest of all inputs."""


class Minimum(Elementwise):
    """The smallest of all inputs."""


class OrderedElementwise(Elementwise, abstract=True):
    """An elementwise operation on two operands that are not interchangeable.

    Attributes:
        reflected: whether the constant is the first operand.
    """

    reflected: Flag = Flag(default=False, words="constant first")

    def _shape(self, *inputs: Shape) -> Shape:
        if len(inputs) + (self.constant is not None) != 2:
            raise ShapeError(f"{self} needs two operands, got {len(inputs)} inputs")
        return broadcast(inputs, self)


class Subtract(OrderedElementwise):
    """The first operand minus the second."""


class Divide(OrderedElementwise):
    """The first operand divided by the second."""


class MatMul(Step):
    """The matrix product of two tensors: their last two axes; all others broadcast."""

    phrase = "matrix product"
    num_inputs = 2

    def _shape(self, *inputs: Shape) -> Shape:
        a, b = inputs
        if min(len(a), len(b)) < 2 or a[-1] != b[-2]:
            raise ShapeError(f"{self}: the last axis of shape {a} must equal the last but one of shape {b}")
        return (*broadcast((a[:-2], b[:-2]), self), a[-2], b[-1])

    def _macs(self, *inputs: Shape) -> int:
        return prod(self._shape(*inputs)) * inputs[0][-1]


class Linear(Step):
    """A matrix product with learnt weights along one axis: ``weight`` is ``(out_features, in_features)``."""

    phrase = "linear {in_features} → {out_features}"
    in_features: Int = Int(least=1)
    out_features: Int = Int(least=1)
    bias: Flag = Flag(default=True, words="no bias")
    axis: Int = Int(default=-1, words="along axis {}")

    @property
    def arrays(self) -> dict[str, Shape]:
        bias = {"bias": (self.out_features,)} if self.bias else {}
        return {"weight": (self.out_features, self.in_features), **bias}

    def _shape(self, *inputs: Shape) -> Shape:
        axis = positive_axis(self.axis, len(inputs[0]), self)
        if inputs[0][axis] != self.in_features:
            raise ShapeError(f"{self}: axis {axis} of shape {inputs[0]} must be in_features={self.in_features}")
        return (*inputs[0][:axis], self.out_features, *inputs[0][axis + 1 :])

    def _macs(self, *inputs: Shape) -> int:
        return prod(self._shape(*inputs)) * self.in_features


class Reduce(Step):
    """The mean, sum, maximum or minimum over axes; over all of them if none is named."""

    phrase = "{reduction} over {axes}"
    reduction: Word = Word("mean", "sum", "max", "min", default="mean")
    axes: Axes = Axes(default=())
    keepdims: Flag = Flag(default=False, words="axes kept")

    def _shape(self, *inputs: Shape) -> Shape:
        axes = positive_axes(self.axes or range(len(inputs[0])), len(inputs[0]), self)
        return tuple(1 if i in axes else n for i, n in enumerate(inputs[0]) if self.keepdims or i not in axes)


class Other(Step):
    """An operation outside this vocabulary, by the framework's name for it."""

    phrase = "{name}"
    num_inputs = None
    name: Word = Word()

    def _shape(self, *inputs: Shape) -> Shape:
        raise UnsupportedError(f"the output shape of {self.name!r} is not known")


def broadcast(shapes: tuple[Shape, ...], what: Step) -> Shape:
    """Return the shape to which all broadcast as in NumPy.

    Raises:
        ShapeError: if they do not.
    """
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True)
    sizes = [set(column) - {1} or {1} for column in columns]
    if any(len(found) > 1 for found in sizes):
        raise ShapeError(f"{what}: shapes {', '.join(map(str, shapes))} do not broadcast")
    return tuple(found.pop() for found in sizes)

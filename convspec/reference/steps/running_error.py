"""Running error analysis: numbers that carry a bound on the rounding error of the computation that made them.

Each operation on :class:`Rounded` numbers adds the error of its own rounding to the errors that it passes on, so that a
step written once as a formula gives its value and its bound together (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., §3.3). Where frameworks use several formulas for one function, the least accurate is written. An
infinite error means that no bound exists: the result overflows, is not a number, or divides by what may be zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.reference.error_bounds import ELEMENTARY, ERF_AND_POWER, ERF_POLYNOMIAL, gamma
from convspec.reference.im2col import Array
from convspec.spec import Format, rounded

Operand: TypeAlias = "Rounded | float"
_erf: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


class Rounded:
    """An array of float64 values, and of bounds on their errors in a computation in the format ``form``."""

    def __init__(self, value: Any, form: Format, error: Any = 0.0) -> None:
        self.value: Array = np.asarray(value, np.float64)
        self.form = form
        self.error: Array = np.broadcast_to(np.where(np.isnan(error), np.inf, error), self.value.shape)
        if np.any(self.error):  # exact numbers may be infinite, or not a number
            self.error = np.where((self.error > 0) & ~(np.abs(self.value) <= form.largest), np.inf, self.error)

    @property
    def magnitude(self) -> Array:
        """The largest absolute value that the computed number can have."""
        return np.abs(self.value) + self.error

    def lift(self, number: Operand) -> Rounded:
        """Return a constant of a formula, with the error of its rounding to the format."""
        if isinstance(number, Rounded):
            return number
        error = 0.0 if math.isinf(number) else abs(number - float(rounded(np.asarray(number), self.form.name)))
        return Rounded(number, self.form, error)

    def _computed(self, value: Array, passed: Array, units: Any = 1.0) -> Rounded:
        """Return the result of one operation: errors passed on, ``units`` unit roundoffs, and one underflow."""
        own = units * self.form.unit_roundoff * (np.abs(value) + passed) + self.form.smallest_normal
        return Rounded(value, self.form, passed + own)

    # -- arithmetic -----------------------------------------------------------------------------------------------

    def __add__(self, other: Operand) -> Rounded:
        b = self.lift(other)
        return self._computed(self.value + b.value, self.error + b.error)

    def __sub__(self, other: Operand) -> Rounded:
        return self + -self.lift(other)

    def __neg__(self) -> Rounded:
        return Rounded(-self.value, self.form, self.error)

    def __mul__(self, other: Operand) -> Rounded:
        b = self.lift(other)
        passed = np.abs(self.value) * b.error + self.error * b.magnitude
        return self._computed(self.value * b.value, passed)

    def __truediv__(self, other: Operand) -> Rounded:
        b = self.lift(other)
        value, least = self.value / b.value, np.abs(b.value) - b.error
        passed = np.where(least > 0, (self.error + np.abs(value) * b.error) / least, np.inf)
        return self._computed(value, passed, 2)  # a reciprocal, and a product

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: float) -> Rounded:
        return self.lift(other) - self

    def __rtruediv__(self, other: float) -> Rounded:
        return self.lift(other) / self

    def __matmul__(self, other: Rounded) -> Rounded:
        count = self.value.shape[-1]
        scale = self.magnitude @ other.magnitude
        passed = np.abs(self.value) @ other.error if np.any(other.error) else 0.0
        passed += self.error @ other.magnitude if np.any(self.error) else 0.0
        own = gamma(count, self.form.unit_roundoff) * scale + count * self.form.smallest_normal
        return Rounded(self.value @ other.value, self.form, passed + own)

    # -- sums and functions ---------------------------------------------------------------------------------------

    def summed(self, add: Callable[[Array], Array], count: int) -> Rounded:
        """Return sums of at most ``count`` elements in any order; ``add`` computes them for an array."""
        own = gamma(max(count - 1, 0), self.form.unit_roundoff) * add(self.magnitude)
        return Rounded(add(self.value), self.form, add(self.error) + own)

    def sum(self, axes: Sequence[int]) -> Rounded:
        """Return the sums over axes, which stay with size 1."""
        count = math.prod(self.value.shape[axis] for axis in axes)
        return self.summed(lambda a: np.sum(a, axis=tuple(axes), keepdims=True), count)

    def mean(self, axes: Sequence[int]) -> Rounded:
        """Return the means over axes, which stay with size 1."""
        count: float = math.prod(self.value.shape[axis] for axis in axes)
        return self.sum(axes) / count

    def monotone(self, function: Callable[[Array], Array], units: float = ELEMENTARY) -> Rounded:
        """Return a function that is monotone on the whole interval value ± error, from its values at both ends."""
        value = function(self.value)
        ends = [function(self.value + self.error), function(self.value - self.error)]
        passed = np.maximum(*(np.abs(end - value) for end in ends))
        passed = np.where(self.error == 0, 0.0, passed)
        return self._computed(value, passed, units) if units else Rounded(value, self.form, passed)

    def moved(self, move: Callable[[Array], Array]) -> Rounded:
        """Return the elements in another arrangement; nothing is computed."""
        return Rounded(move(self.value), self.form, move(self.error))

    def reshape(self, shape: Sequence[int]) -> Rounded:
        return self.moved(lambda a: a.reshape(shape))

    def move_axis(self, source: int, target: int) -> Rounded:
        return self.moved(lambda a: np.moveaxis(a, source, target))

    def exp(self) -> Rounded:
        return self.monotone(np.exp)

    def tanh(self) -> Rounded:
        return self.monotone(np.tanh)

    def erf(self) -> Rounded:
        result = self.monotone(_erf, ERF_AND_POWER)
        return Rounded(result.value, self.form, result.error + ERF_POLYNOMIAL * self.form.unit_roundoff)

    def sqrt(self) -> Rounded:
        return self.monotone(np.sqrt)

    def log(self) -> Rounded:
        return self.monotone(np.log)

    def clip(self, least: Operand, most: Operand = np.inf) -> Rounded:
        """Return the values limited to a range, whose ends are rounded constants."""
        low, high = self.lift(least), self.lift(most)
        result = self.monotone(lambda a: np.clip(a, low.value, high.value), units=0)
        at_end = np.where(result.value == low.value, low.error, np.where(result.value == high.value, high.error, 0.0))
        return Rounded(result.value, self.form, result.error + at_end)

    def abs(self) -> Rounded:
        return Rounded(np.abs(self.value), self.form, self.error)

    def power(self, exponent: float) -> Rounded:
        """Return a fixed power, of a number that does not change its sign within its error."""
        if exponent == 1:
            return self
        if exponent == 0.5:
            return self.sqrt()
        result = self.monotone(lambda a: np.power(a, exponent), units=ERF_AND_POWER)
        far = np.abs(np.log(np.where(self.value == 0, 1.0, np.abs(self.value))) * exponent)  # the exponent is rounded
        computed = result._computed(result.value, result.error, far)
        return less_accurate(self * self, computed) if exponent == 2 else computed  # a product, or as any other power


def less_accurate(one: Rounded, other: Rounded) -> Rounded:
    """Return a function that frameworks compute by one of two formulas, with the larger of the two errors."""
    return Rounded(one.value, one.form, np.maximum(one.error, other.error))


def where(condition: NDArray[np.bool_], one: Rounded, other: Rounded) -> Rounded:
    """Return elements of either of two arrays."""
    error = np.where(condition, one.error, other.error)
    return Rounded(np.where(condition, one.value, other.value), one.form, error)

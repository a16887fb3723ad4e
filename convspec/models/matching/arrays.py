"""How one array of weights comes from another, decided by their numbers: axes, flips, groups, a factor, a type."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convspec.spec import Array, rounded

_SAMPLE = 64  # elements that are looked at first
_MOST_AXES = 5
_TYPES = ("float32", "bfloat16", "float16")
_TOLERANCE = 2.0**-7  # relative, of elements that are looked at first: one number in bfloat16
_FACTOR_ERROR = 2.0**-9  # of a product that was rounded, relative to the largest element of its channel


@dataclass(frozen=True, slots=True)
class Relation:
    """How array b comes from array a: axes are moved, then some run backwards, then the shape changes.

    Attributes:
        axes: b's axes as axes of a: ``(3, 2, 0, 1)`` for a Keras kernel in PyTorch's order. With ``groups`` a's axis
            ``split`` counts as two, the group and the place in it.
        flipped: axes of a that run backwards.
        shape: that of b if it is another one than the moved axes have.
        split, groups: the axis of a that is taken apart, and into how many groups.
        factor: axis of b whose channels are multiplied by a factor each.
        rounded_to: the type that the numbers were rounded to on the way.
    """

    axes: tuple[int, ...]
    flipped: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None
    split: int = -1
    groups: int = 1
    factor: int = -1
    rounded_to: str = ""

    def move(self, a: Array) -> Array:
        """Return a with b's order of elements and its shape, without the factor."""
        moved = self._view(a)
        return moved if self.shape is None else moved.reshape(self.shape)

    def sample(self, a: Array, places: NDArray[np.int64]) -> Array:
        """Return the elements of :meth:`move` at these places of the flat array."""
        moved = self._view(a)
        return np.asarray(moved[np.unravel_index(places, moved.shape)])

    def _view(self, a: Array) -> Array:
        if self.groups > 1:
            sizes = self.groups, a.shape[self.split] // self.groups
            a = a.reshape(*a.shape[: self.split], *sizes, *a.shape[self.split + 1 :])
        return np.flip(a, self.flipped).transpose(self.axes)

    def __str__(self) -> str:
        """Return it in words."""
        words = []
        if self.groups > 1:
            words.append(f"{self.groups} groups interleaved along axis {self.split}")
        elif self.axes != tuple(range(len(self.axes))):
            words.append(f"axes {_listed(self.axes)}")
        if self.flipped:
            words.append(f"axes {_listed(self.flipped)} flipped")
        if self.shape is not None:
            words.append("reshaped")
        if self.factor >= 0:
            words.append(f"scaled along axis {self.factor}")
        if self.rounded_to:
            words.append(f"rounded to {self.rounded_to}")
        return ", ".join(words) or "equal"


def _listed(axes: Sequence[int]) -> str:
    return f"({', '.join(map(str, axes))})"


def size_of_numbers(a: Array) -> tuple[float, float]:
    """Return the sums of magnitudes and of squares: no move of elements changes them."""
    values = np.abs(a.astype(np.float64))
    return float(values.sum()), float(np.square(values).sum())


def relations(a: Array, b: Array) -> list[Relation]:
    """Return the ways in which b has a's numbers, exactly or rounded to another type: all of the simplest kind."""
    if a.size != b.size or max(a.ndim, b.ndim) > _MOST_AXES:
        return []
    places = np.random.default_rng(0).integers(0, b.size, _SAMPLE if b.size else 0)
    wanted = b.reshape(-1)[places].astype(np.float64)
    near = _TOLERANCE * np.abs(wanted)
    for candidates in _candidates(a, b.shape):
        found = []
        for candidate in candidates:
            sample = candidate.sample(a, places).astype(np.float64) if b.size else wanted
            if np.all((np.abs(sample - wanted) <= near) | (np.isnan(sample) & np.isnan(wanted))):
                name = _rounding(candidate.move(a), b)
                found += [replace(candidate, rounded_to=name)] if name is not None else []
        if found:
            return found
    return []


def scaled(a: Array, b: Array) -> Relation | None:
    """Return how b comes from a with a factor for each channel, as a folded normalisation has; None if it does not."""
    if a.size != b.size or not a.size or a.ndim < 2 or a.ndim != b.ndim or a.ndim > _MOST_AXES:
        return None
    random, flat = np.random.default_rng(0), b.reshape(-1)
    pairs = np.stack([random.integers(0, size, (2, _SAMPLE)) for size in b.shape])
    for axis in (axis for axis in range(b.ndim) if b.size >= 4 * b.shape[axis]):
        pairs_of_axis = pairs.copy()
        pairs_of_axis[axis, 1] = pairs[axis, 0]  # two elements of one channel
        places = np.ravel_multi_index(tuple(pairs_of_axis), b.shape)
        (one, other) = flat[places].astype(np.float64)
        for candidate in itertools.chain.from_iterable(itertools.islice(_moves(a, b.shape), 2)):
            (x, y) = candidate.sample(a, places).astype(np.float64)
            if np.all(np.abs(x * other - y * one) <= _TOLERANCE * (np.abs(x * other) + np.abs(y * one))):
                moved = candidate.move(a)
                if _proportional(moved.swapaxes(0, axis), b.swapaxes(0, axis)):
                    return replace(candidate, factor=axis)
    return None


def _proportional(a: Array, b: Array) -> bool:
    """Whether each row of b is a number times that of a."""
    x, y = (part.reshape(len(part), -1).astype(np.float64) for part in (a, b))
    squares = np.square(x).sum(axis=1, keepdims=True)
    factors = (x * y).sum(axis=1, keepdims=True) / np.where(squares > 0, squares, 1.0)
    largest = np.abs(y).max(axis=1, keepdims=True)
    return bool(np.all(np.abs(y - factors * x) <= _FACTOR_ERROR * largest)) and bool(largest.any())


def _candidates(a: Array, shape: tuple[int, ...]) -> Iterator[Iterable[Relation]]:
    """Yield moves of a's elements into an array of this shape, kind by kind, the simplest first."""
    moves = list(_moves(a, shape))
    yield moves[0]
    orders = itertools.permutations(range(a.ndim))
    yield (Relation(axes, shape=shape) for axes in orders if tuple(a.shape[axis] for axis in axes) != shape)
    yield from moves[1:]
    if a.ndim < _MOST_AXES:
        splits = [(axis, n) for axis in range(a.ndim) for n in range(2, a.shape[axis]) if a.shape[axis] % n == 0]
        yield (
            Relation(axes, shape=shape, split=split, groups=groups)
            for split, groups in splits for axes in itertools.permutations(range(a.ndim + 1))
            if axes.index(split + 1) != axes.index(split) + 1  # else nothing is taken apart
        )  # fmt: skip


def _moves(a: Array, shape: tuple[int, ...]) -> Iterator[list[Relation]]:
    """Yield the orders of a's axes that give this shape, then those with axes that run backwards."""
    orders = itertools.permutations(range(a.ndim))
    plain = [Relation(axes) for axes in orders if tuple(a.shape[axis] for axis in axes) == shape]
    yield plain
    long = [axis for axis in range(a.ndim) if a.shape[axis] > 1]
    yield [
        replace(one, flipped=flipped)
        for number in range(1, len(long) + 1) for flipped in itertools.combinations(long, number) for one in plain
    ]  # fmt: skip


def _rounding(a: Array, b: Array) -> str | None:
    """Return the type that one array's numbers were rounded to; empty if they are equal, None if they are others."""
    if np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"):
        return ""
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return None
    for name in _TYPES:
        for x, y in ((a, b), (b, a)):
            with np.errstate(over="ignore"):
                if np.array_equal(rounded(x, name), y.astype(np.float64), equal_nan=True):
                    return name
    return None

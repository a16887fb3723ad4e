"""Fields of a step: each kind of value with its rule, its default, its canonical form and its text.

A field stands in a class as ``stride: Sizes = Sizes(default=1, least=1)``. It accepts what a user writes (an int, a
list, a NumPy number) and keeps one canonical form; a value that breaks its rule is reported as ``name=value must …``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

from convspec.spec.validation import SIZE_RULE, Pads, as_integer, as_sequence, too_large

Given = TypeVar("Given")
Kept = TypeVar("Kept")
REQUIRED: Any = object()
Numbers: TypeAlias = int | Sequence[int]
Range: TypeAlias = tuple[int | None, int | None, int]


class Field(Generic[Given, Kept]):
    """A field of a step; calling it returns a value's canonical form, or raises ValueError with the rule.

    Args:
        default: value of a step that does not give one.
        least: smallest number; ``above``: number that must be exceeded.
        kw_only: whether a constructor takes it by name only.
        words: part of the step's phrase where the value is not the default; ``{}`` stands for the value.
    """

    text = "be a value of this field"
    per_axis = False  # whether a single value counts for every spatial axis

    def __init__(
        self, *, default: Any = REQUIRED, least: float | None = None, above: float | None = None, words: str = "",
        kw_only: bool = False,
    ) -> None:  # fmt: skip
        self.default, self.least, self.above, self.words, self.kw_only = default, least, above, words, kw_only

    def __call__(self, value: Any) -> Any:
        if value is None and self.default is None:
            return None
        if too_large(value):
            raise ValueError(SIZE_RULE)
        kept = self.canonical(value)
        if kept is None:
            limit = "" if self.least is None else f", {'each ' if 'ints' in self.text else ''}at least {self.least}"
            limit += "" if self.above is None else f", greater than {self.above}"
            raise ValueError(f"{self.text}{limit}{' (or None)' if self.default is None else ''}")
        return kept

    def canonical(self, value: Any) -> Any:
        """Return the canonical form; None if the value breaks the rule."""
        raise NotImplementedError

    def show(self, value: Any) -> str:
        """Return the text of a canonical value in a phrase."""
        return f"{value:g}" if isinstance(value, float) else str(value)

    def is_default(self, value: Any) -> bool:
        """Return whether a canonical value is the default."""
        repeats = self.per_axis and isinstance(value, tuple) and isinstance(self.default, int)
        return bool(value == (self.canonical((self.default,) * len(value)) if repeats else self.default))

    def allows(self, number: float | None) -> bool:
        """Return whether ``number`` is a number, and in the field's range."""
        return number is not None and not (
            (self.least is not None and number < self.least) or (self.above is not None and number <= self.above)
        )

    if TYPE_CHECKING:  # what a type checker sees: the canonical form is read, what a user writes is accepted

        @overload
        def __get__(self, step: None, owner: type) -> Field[Given, Kept]: ...
        @overload
        def __get__(self, step: object, owner: type) -> Kept: ...
        def __get__(self, step: object | None, owner: type) -> Any: ...
        def __set__(self, step: object, value: Given) -> None: ...


class _Int(Field[Given, Kept]):
    text = "be an int"

    def canonical(self, value: Any) -> int | None:
        number = as_integer(value)
        return number if self.allows(number) else None


class _Real(Field[Given, Kept]):
    text = "be a number"

    def canonical(self, value: Any) -> float | None:
        if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
            return None
        return float(value) if self.allows(float(value)) and not math.isnan(value) else None


class Int(_Int[int, int]):
    """An integer."""


class OptionalInt(_Int[int | None, int | None]):
    """An integer, or None."""


class Real(_Real[float, float]):
    """A real number; infinities count."""


class OptionalReal(_Real[float | None, float | None]):
    """A real number, or None."""


class Flag(Field[bool, bool]):
    """True or False."""

    text = "be True or False"

    def canonical(self, value: Any) -> bool | None:
        return bool(value) if type(value).__name__ in ("bool", "bool_") else None


class Word(Field[str, str]):
    """One of some words, or any text if there are none."""

    def __init__(self, *choices: str, default: Any = REQUIRED, words: str = "") -> None:
        super().__init__(default=default, words=words)
        self.choices = choices
        self.text = f"be one of {', '.join(map(repr, choices))}" if choices else "be a text"

    def canonical(self, value: Any) -> str | None:
        return value if isinstance(value, str) and value and (value in self.choices or not self.choices) else None

    def show(self, value: Any) -> str:
        return str(value).replace("_", " ")


class _Ints(Field[Given, Kept]):
    text = "be ints"

    def canonical(self, value: Any) -> tuple[int, ...] | None:
        values = as_sequence(value)
        numbers = [as_integer(v) for v in ([value] if values is None else values)]
        return tuple(n for n in numbers if n is not None) if all(map(self.allows, numbers)) else None


class Ints(_Ints[Numbers, tuple[int, ...]]):
    """Any number of integers, such as a shape; an int counts as one."""


class Axes(Ints):
    """Axes of ``(N, C, *spatial)``; negative ones count from the last."""

    def show(self, value: Any) -> str:
        return f"{'axis' if len(value) == 1 else 'axes'} {', '.join(map(str, value))}" if value else "all axes"


class _Sizes(_Ints[Given, Kept]):
    text = "be an int, or ints, one per spatial axis"
    per_axis = True

    def show(self, value: Any) -> str:
        return equal_times(value)


class Sizes(_Sizes[Numbers, tuple[int, ...]]):
    """One integer per spatial axis."""


class OptionalSizes(_Sizes[Numbers | None, tuple[int, ...] | None]):
    """One integer per spatial axis, or None."""


class Extent(Sizes):
    """A size along each spatial axis, all shown."""

    def show(self, value: Any) -> str:
        return times(value)


class OptionalExtent(OptionalSizes):
    """A size along each spatial axis, all shown, or None."""

    def show(self, value: Any) -> str:
        return times(value)


class PartialExtent(Field[int | None | Sequence[int | None], tuple[int | None, ...]]):
    """A size or None along each spatial axis."""

    text = "be an int, or ints or None, one per spatial axis"
    per_axis = True

    def canonical(self, value: Any) -> tuple[int | None, ...] | None:
        values = as_sequence(value) or []
        numbers = [None if v is None else as_integer(v) for v in values]
        valid = all(v is None or self.allows(n) for v, n in zip(values, numbers, strict=True))
        return tuple(numbers) if valid and numbers else None

    def show(self, value: Any) -> str:
        return times(value)


class Factors(Field[float | Sequence[float] | None, tuple[float, ...] | None]):
    """A positive factor along each spatial axis, or None."""

    text = "be a number, or one number per spatial axis, each greater than 0"
    per_axis = True

    def canonical(self, value: Any) -> tuple[float, ...] | None:
        numbers = [Real().canonical(v) for v in value]
        kept = tuple(n for n in numbers if n is not None and 0 < n < math.inf)
        return kept if kept and len(kept) == len(numbers) else None

    def show(self, value: Any) -> str:
        return times(value)


class _Pairs(Field[Given, Kept]):
    text = "be an int, one int per axis or one (before, after) per axis"

    def canonical(self, value: Any) -> Any:
        values = as_sequence(value)
        pairs = [as_sequence(v) or [v, v] for v in ([value] * 2 if values is None else values)]
        numbers = [[as_integer(n) for n in pair] for pair in pairs]
        if any(len(pair) != 2 or not all(map(self.allows, pair)) for pair in numbers):
            return None
        return tuple((lo or 0, hi or 0) for lo, hi in numbers)

    def show(self, value: Any) -> str:
        return equal_times(value)


class Pairs(_Pairs[Numbers | Sequence[Sequence[int]], Pads]):
    """One ``(before, after)`` per axis; an int counts for both sides of two axes, one int per axis for both sides."""


class WindowPads(_Pairs[Numbers | str | Sequence[Sequence[int]], Pads | str]):
    """Pads of a window: an int, one int or one ``(before, after)`` per axis, or a word."""

    text = "be 'valid', 'same', 'same_lower' or ints: one, one per spatial axis, or one (before, after) per axis"
    per_axis = True

    def canonical(self, value: Any) -> Any:
        if isinstance(value, str):
            return value if value in ("valid", "same", "same_lower") else None
        return super().canonical(value)

    def show(self, value: Any) -> str:
        return repr(value) if isinstance(value, str) else super().show(value)


class Ranges(Field[Sequence[Sequence[int | None]], tuple[Range, ...]]):
    """One ``(start, stop, step)`` per axis from the first, as of Python's slices; axes left out are whole."""

    text = "be one (start, stop, step) per axis: ints or None, and a step other than 0"

    def canonical(self, value: Any) -> tuple[Range, ...] | None:
        kept: list[Range] = []
        for part in as_sequence(value) or ([] if value == () else [None]):
            values = as_sequence(part) or []
            numbers = [None if v is None else as_integer(v) for v in values]
            if (
                len(values) != 3
                or values[2] == 0
                or any(v is not None and n is None for v, n in zip(values, numbers, strict=True))
            ):
                return None
            start, stop, step = numbers
            kept.append((start or None if (step or 1) > 0 else start, stop, step or 1))
        while kept and kept[-1] == (None, None, 1):
            kept.pop()
        return tuple(kept)

    def show(self, value: Any) -> str:
        sides = [f"{'' if a is None else a}:{'' if b is None else b}{f':{c}' if c != 1 else ''}" for a, b, c in value]
        return f"[{', '.join(sides)}]"


def times(sizes: Sequence[object]) -> str:
    """Return sizes as ``3×5``."""
    return "×".join("·" if size is None else f"{size:g}" if isinstance(size, float) else str(size) for size in sizes)


def equal_times(values: Sequence[Any]) -> str:
    """Return one number if all are equal, else all of them: ``2``, ``2×3``, ``(0, 1)×2``."""
    plain = [v[0] if isinstance(v, tuple) and v[0] == v[1] else v for v in values]
    return times(plain[:1] if len(set(plain)) == 1 else plain)

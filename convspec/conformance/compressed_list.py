"""Results by the hundred thousand: a sequence that keeps them packed, some 60 bytes each where they take 1,500."""

from __future__ import annotations

import pickle
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
_BLOCK = 128  # what the objects of a block share is kept once
_OPEN = 16  # blocks that are unpacked at a time


class Packed(Sequence[T], Generic[T]):
    """A list that is only appended to; every look gives an equal object, not the same one.

    >>> squares = Packed(n * n for n in range(300))
    >>> len(squares), squares[-1], squares[1:4]
    (300, 89401, (1, 4, 9))
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._blocks: list[bytes] = []
        self._last: list[T] = []
        self._open: OrderedDict[int, list[T]] = OrderedDict()
        for item in items:
            self.append(item)

    def append(self, item: T) -> None:
        self._last.append(item)
        if len(self._last) == _BLOCK:
            self._blocks.append(zlib.compress(pickle.dumps(self._last, pickle.HIGHEST_PROTOCOL), 1))
            self._last = []

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._blocks) * _BLOCK + len(self._last)

    def __iter__(self) -> Iterator[T]:
        for block in self._blocks:
            yield from _unpacked(block)
        yield from self._last

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        if isinstance(place, slice):
            return tuple(self[i] for i in range(*place.indices(len(self))))
        index = range(len(self))[place]
        return self._block(index // _BLOCK)[index % _BLOCK]

    def sorted(self, key: Callable[[T], Any]) -> Packed[T]:
        """The same in the order of the keys; itself, if it stands in that order already."""
        if all(first <= second for first, second in pairwise(map(key, self))):
            return self
        keys = [key(item) for item in self]
        return Packed(self[i] for i in sorted(range(len(keys)), key=keys.__getitem__))

    def _block(self, number: int) -> list[T]:
        if number == len(self._blocks):
            return self._last
        if number not in self._open:
            self._open[number] = _unpacked(self._blocks[number])
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


def _unpacked(block: bytes) -> list[Any]:
    found: list[Any] = pickle.loads(zlib.decompress(block))
    return found

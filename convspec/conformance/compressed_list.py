"""Results by the hundred thousand: a list that compresses its items to some 60 bytes each, instead of 1,500."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
_BLOCK = 128  # objects of one block share their common parts
_CACHED = 16  # decompressed blocks


class CompressedList(Sequence[T], Generic[T]):
    """An append-only list; every access returns an equal object, not the same one.

    >>> squares = CompressedList(n * n for n in range(300))
    >>> len(squares), squares[-1], squares[1:4]
    (300, 89401, (1, 4, 9))
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._blocks: list[bytes] = []
        self._last: list[T] = []
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
            yield from _decompress(block)
        yield from self._last

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        position = range(len(self))[index]
        return self._block(position // _BLOCK)[position % _BLOCK]

    def sorted(self, key: Callable[[T], Any]) -> CompressedList[T]:
        """Return the list in the order of the keys; the list itself, if it is sorted already."""
        if all(first <= second for first, second in pairwise(map(key, self))):
            return self
        keys = [key(item) for item in self]
        return CompressedList(self[i] for i in sorted(range(len(keys)), key=keys.__getitem__))

    def _block(self, number: int) -> list[T]:
        return self._last if number == len(self._blocks) else _decompress_cached(self._blocks[number])


def _decompress(block: bytes) -> list[Any]:
    items: list[Any] = pickle.loads(zlib.decompress(block))
    return items


_decompress_cached = lru_cache(_CACHED)(_decompress)

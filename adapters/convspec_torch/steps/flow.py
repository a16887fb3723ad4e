"""Which tensor of a run is which: identity across aliases and views, and changes in place.

A tensor is known by its memory: storage, offset, sizes and strides. All tensors of one storage see a change in place.
It shows in PyTorch's version counter, or in a count of this module for tensors that do not share that counter.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from convspec.contract import Array

_FLOATS = (torch.float16, torch.float32, torch.float64)  # those that NumPy has


@dataclass(slots=True)
class Known:
    """What is known of a tensor.

    Attributes:
        tensor: weak reference to it.
        memory: its place, sizes and strides in the storage.
        version: PyTorch's count of changes when it was noted; ``epoch``: the storage's.
        data: whether it depends on the model's inputs; otherwise it is learnt or a constant.
        number: its position in the trace; None if it is not listed.
        sources: paths of the parameters that it was made of.
        made: name of the function that made it; empty for a parameter.
        values: the copy of a learnt array, once it was needed.
    """

    tensor: weakref.ref[Any]
    memory: tuple[Any, ...]
    version: int
    epoch: int
    data: bool
    number: int | None = None
    sources: tuple[str, ...] = ()
    made: str = ""
    values: Array | None = field(default=None, repr=False)


@dataclass(slots=True)
class _Storage:
    known: list[Known] = field(default_factory=list)
    epoch: int = 0
    written: list[tuple[int, int, tuple[Any, ...]]] = field(
        default_factory=list
    )  # epoch, number, memory of each change


class Flow:
    """All tensors of a run that are known, by their storage."""

    def __init__(self) -> None:
        self._storages: dict[int, _Storage] = {}

    def find(self, t: torch.Tensor) -> Known | None:
        """Return what is known of a tensor as it is now; None if it is unknown or was changed since."""
        storage = self._storage(t)
        found = next((known for known in _candidates(storage, t) if _current(storage, known, t)), None)
        return found or self._untouched(storage, t)

    def _untouched(self, storage: _Storage, t: torch.Tensor) -> Known | None:
        """Return what is known of a tensor if all changes since were to other elements of its storage."""
        known = next(_candidates(storage, t), None)
        if known is None or known.memory != _memory(t):
            return None
        later = [memory for epoch, _, memory in storage.written if epoch > known.epoch]
        if len(later) < t._version - known.version or any(_overlap(known.memory, memory) for memory in later):
            return None
        known.tensor, known.version, known.epoch = weakref.ref(t), t._version, storage.epoch
        return known

    def changed(self, t: torch.Tensor) -> list[int]:
        """Return the tensors that an unknown one was made of: its own value before a change, and what was written.

        Empty if no tensor with this storage is data.
        """
        storage = self._storage(t)
        known = next(_candidates(storage, t), None)
        if known is not None and known.number is not None:
            written = [number for epoch, number, _ in storage.written if epoch > known.epoch]
            return list(dict.fromkeys((known.number, *written)))
        numbers = [known.number for known in storage.known if known.data and known.number is not None]
        return list(dict.fromkeys([*numbers, *(number for _, number, _ in storage.written)]))

    def note(
        self, t: torch.Tensor, *, data: bool, changed: bool = False, uncounted: bool = False, **words: Any
    ) -> Known:
        """Note a tensor as it is now.

        Args:
            changed: whether it was changed in place, so that all others of its storage are out of date.
            uncounted: whether PyTorch will count that change only when the operator has returned.
        """
        storage = self._storage(t)
        if changed:
            storage.epoch += 1
        known = Known(weakref.ref(t), _memory(t), t._version + uncounted, storage.epoch, data, **words)
        if changed and known.number is not None:
            storage.written.append((storage.epoch, known.number, known.memory))
        storage.known = [one for one in storage.known if one.tensor() is not t]
        storage.known.append(known)
        return known

    def _storage(self, t: torch.Tensor) -> _Storage:
        key = _key(t)
        storage = self._storages.get(key)
        if storage is not None:
            storage.known = [known for known in storage.known if known.tensor() is not None]
        if storage is None or not storage.known:  # its memory may be that of a tensor that is gone
            storage = self._storages[key] = _Storage()
        return storage


def _candidates(storage: _Storage, t: torch.Tensor) -> Iterator[Known]:
    """Yield what is known of the tensor itself, then of others with the same memory, the last first."""
    newest = storage.known[::-1]
    yield from (known for known in newest if known.tensor() is t)
    memory = _memory(t)
    yield from (known for known in newest if known.memory == memory and known.tensor() is not t)


def _current(storage: _Storage, known: Known, t: torch.Tensor) -> bool:
    """Return whether a note still holds, for the tensor itself or one with the same memory."""
    noted = known.tensor()
    return (
        noted is not None
        and known.epoch == storage.epoch
        and known.version == noted._version
        and (noted is not t or known.memory == _memory(t))
    )


def _key(t: torch.Tensor) -> int:
    try:
        return int(t.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a sparse tensor has none
        return -id(t)


def _memory(t: torch.Tensor) -> tuple[Any, ...]:
    if t.layout != torch.strided:
        return (id(t),)
    return (t.shape, t.stride(), t.storage_offset(), t.dtype, t.is_conj(), t.is_neg(), _key(t))


def _overlap(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Return whether two tensors of one storage share elements; if that is not known, they do."""
    if len(one) != len(other) or len(one) == 1 or one[3] != other[3]:
        return True
    if 0 in one[0] or 0 in other[0]:
        return False
    ends = [m[2] + 1 + sum((n - 1) * step for n, step in zip(m[0], m[1], strict=True)) for m in (one, other)]
    marks = torch.zeros(max(ends), dtype=torch.bool)
    marks.as_strided(*one[:3]).fill_(True)
    return bool(marks.as_strided(*other[:3]).any())


def copied(t: torch.Tensor) -> Array:
    """Return the values as an array of its own; bfloat16 as float32. The tensor's memory stays its own, too."""
    if t.is_quantized:
        t = t.dequantize()
    if t.layout != torch.strided:
        t = t.to_dense()
    dtype = torch.float32 if t.dtype.is_floating_point and t.dtype not in _FLOATS else t.dtype
    t = t.detach() if t.requires_grad else t
    own = t.clone(memory_format=torch.contiguous_format) if t.dtype == dtype else t.to(dtype)
    values: Array = (own if own.device.type == "cpu" else own.cpu()).contiguous().numpy()
    return values

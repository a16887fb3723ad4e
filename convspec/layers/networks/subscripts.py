"""Subscripts of tensors, ``x[:, 0, None, ::2]``, as steps."""

from __future__ import annotations

from typing import Any

from convspec.contract.network_words import NotKnown, Tensor
from convspec.spec import steps


def moves_of(tensor: Tensor, key: Any, batch: int = 0) -> list[steps.Step]:
    """Return the steps of ``tensor[key]``: a slice, positions and new axes, one after the other.

    Args:
        batch: number of axes of the steps before those of the tensor.

    Raises:
        NotKnown: for any other key, and where the shape is not known.
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    shape = tensor.sizes
    if not all(isinstance(k, int | slice | None | type(...)) for k in keys):
        raise NotKnown("such a subscript is not known")
    bounds = [n for k in keys if isinstance(k, slice) for n in (k.start, k.stop, k.step)]
    if not all(n is None or isinstance(n, int) for n in bounds):
        raise NotKnown("the bounds of its slice are not known")
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        fixed = sum(1 for k in keys if k is not None and k is not Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - fixed)
    made: list[steps.Step] = []
    old = [k for k in keys if k is not None]
    parts = [(k.start, k.stop, k.step or 1) if isinstance(k, slice) else (None, None, 1) for k in old]
    if any(part != (None, None, 1) for part in parts):
        made.append(steps.Slice([(None, None, 1)] * batch + parts))
    selected = [i for i, k in enumerate(old) if isinstance(k, int)]
    made += [steps.Select(i + batch, old[i]) for i in reversed(selected)]
    left = [k for k in keys if not isinstance(k, int)]
    new = [i for i, k in enumerate(left) if k is None]
    if new:
        made.append(steps.Unsqueeze([i + batch for i in new]))
    return made

"""Axis orders of data and of kernels, as permutations.

An *order* has one letter per axis and ``*`` for all spatial axes: ``NC*`` is PyTorch's order of
data at any rank (NCW, NCHW, NCDHW), ``*IO`` is the order of a TensorFlow or Flax kernel (WIO, HWIO, DHWIO).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from convspec.errors import UnknownName

if TYPE_CHECKING:
    from numpy import dtype, ndarray

    Number = TypeVar("Number", bound=dtype[Any])

CHANNELS_FIRST = "NCHW"
CHANNELS_LAST = "NHWC"
LAYOUTS = (CHANNELS_FIRST, CHANNELS_LAST)

_SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def family(layout: str, ndim: int) -> str:
    """Return ``"NCHW"`` or ``"NHWC"``, the position of the channel axis at any rank.

    ``"NCHW"`` and ``"NHWC"`` are accepted for every rank; ``"NCW"``, ``"NDHWC"``, … for their own rank only.

    Raises:
        UnknownName: if ``layout`` is not a layout of ``ndim`` spatial axes.
    """
    if layout in LAYOUTS:
        return layout
    letters = _SPATIAL.get(ndim)
    own = {} if letters is None else {f"NC{letters}": CHANNELS_FIRST, f"N{letters}C": CHANNELS_LAST}
    if layout not in own:
        raise UnknownName(f"layout for {ndim} spatial axes", layout, dict.fromkeys([*LAYOUTS, *own]))
    return own[layout]


def order(layout: str, ndim: int) -> str:
    """Return ``"NC*"`` or ``"N*C"``."""
    return "NC*" if family(layout, ndim) == CHANNELS_FIRST else "N*C"


def name(layout: str, ndim: int) -> str:
    """Return the layout's name at this rank: ``NCHW`` with one spatial axis is ``NCW``.

    >>> name("NHWC", 3)
    'NDHWC'
    """
    return order(layout, ndim).replace("*", spatial_letters(ndim))


def spatial_letters(ndim: int) -> str:
    """Return ``W``, ``HW`` or ``DHW``; beyond three axes lower-case letters from ``a``."""
    return _SPATIAL.get(ndim) or "".join(chr(ord("a") + i) for i in range(ndim))


def expand(order: str, ndim: int) -> tuple[str, ...]:
    """Return one name per axis: ``expand("*IO", 2)`` is ``("s0", "s1", "I", "O")``."""
    spatial = [f"s{i}" for i in range(ndim)]
    return tuple(axis for letter in order for axis in (spatial if letter == "*" else letter))


@lru_cache(maxsize=256)
def permutation(source: str, target: str, ndim: int) -> tuple[int, ...]:
    """Return the axes for ``transpose`` that bring an array from order ``source`` to order ``target``.

    >>> permutation("NC*", "N*C", 2)
    (0, 2, 3, 1)
    >>> permutation("OI*", "*IO", 2)   # PyTorch's kernel to Flax's
    (2, 3, 1, 0)
    """
    have = expand(source, ndim)
    return tuple(have.index(axis) for axis in expand(target, ndim))


def move_axes(array: ndarray[Any, Number], source: str, target: str) -> ndarray[Any, Number]:
    """Return a view of an array in ``source`` with its axes in ``target``, each an order or a layout.

    >>> import numpy as np
    >>> move_axes(np.zeros((1, 3, 32, 30)), "NCHW", "NHWC").shape
    (1, 32, 30, 3)
    """
    ndim = array.ndim - 2
    return array.transpose(permutation(*(o if "*" in o else order(o, ndim) for o in (source, target)), ndim))


def permute(shape: Sequence[int], source: str, target: str, ndim: int) -> tuple[int, ...]:
    """Return the shape in order ``target`` of a tensor whose shape in order ``source`` is given."""
    return tuple(shape[i] for i in permutation(source, target, ndim))


def canonical_shape(shape: Sequence[int], layout: str, ndim: int) -> tuple[int, ...]:
    """Return ``(N, C, *spatial)`` of a tensor whose shape in ``layout`` is given."""
    return permute(shape, order(layout, ndim), "NC*", ndim)


def shape_in(shape: Sequence[int], layout: str, ndim: int) -> tuple[int, ...]:
    """Return the shape in ``layout`` of a tensor whose shape ``(N, C, *spatial)`` is given."""
    return permute(shape, "NC*", order(layout, ndim), ndim)

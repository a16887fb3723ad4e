"""Axis orders of data and of kernels, as permutations.

An *order* is written with one letter per axis and ``*`` for all spatial axes: ``NC*`` is PyTorch's order of
data at any rank (NCW, NCHW, NCDHW), ``*IO`` is the order of a TensorFlow or Flax kernel (WIO, HWIO, DHWIO).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from convspec.errors import UnknownName

if TYPE_CHECKING:
    from convspec.spec.precision import Array

CHANNELS_FIRST = "NCHW"
CHANNELS_LAST = "NHWC"
LAYOUTS = (CHANNELS_FIRST, CHANNELS_LAST)

_FAMILY = {
    "NCHW": CHANNELS_FIRST,
    "NCW": CHANNELS_FIRST,
    "NCDHW": CHANNELS_FIRST,
    "NHWC": CHANNELS_LAST,
    "NWC": CHANNELS_LAST,
    "NDHWC": CHANNELS_LAST,
}
_SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def family(layout: str, ndim: int) -> str:
    """``"NCHW"`` or ``"NHWC"``: where the channel axis stands, whatever the rank.

    ``"NCHW"`` and ``"NHWC"`` are accepted for every rank; ``"NCW"``, ``"NDHWC"``, … for their own rank only.

    Raises:
        UnknownName: if ``layout`` is no layout of ``ndim`` spatial axes.
    """
    if layout in LAYOUTS:
        return layout
    known = (*LAYOUTS, *(n for n in _FAMILY if len(n) == ndim + 2 and n not in LAYOUTS))
    if layout not in _FAMILY or len(layout) != ndim + 2:
        raise UnknownName(f"layout for {ndim} spatial axes", layout, known)
    return _FAMILY[layout]


def order(layout: str, ndim: int) -> str:
    """``"NC*"`` or ``"N*C"``."""
    return "NC*" if family(layout, ndim) == CHANNELS_FIRST else "N*C"


def name(layout: str, ndim: int) -> str:
    """The layout's name at this rank: ``NCHW`` with one spatial axis is ``NCW``.

    >>> name("NHWC", 3)
    'NDHWC'
    """
    return order(layout, ndim).replace("*", spatial_letters(ndim))


def spatial_letters(ndim: int) -> str:
    """``W``, ``HW``, ``DHW``; beyond three axes lower-case letters from ``a``."""
    return _SPATIAL.get(ndim) or "".join(chr(ord("a") + i) for i in range(ndim))


def expand(order: str, ndim: int) -> tuple[str, ...]:
    """One letter per axis: ``expand("*IO", 2)`` is ``("s0", "s1", "I", "O")``."""
    axes: list[str] = []
    for letter in order:
        axes += [f"s{i}" for i in range(ndim)] if letter == "*" else [letter]
    return tuple(axes)


@lru_cache(maxsize=256)
def permutation(source: str, target: str, ndim: int) -> tuple[int, ...]:
    """The axes for ``transpose`` that bring an array in order ``source`` to order ``target``.

    >>> permutation("NC*", "N*C", 2)
    (0, 2, 3, 1)
    >>> permutation("OI*", "*IO", 2)   # PyTorch's kernel to Flax's
    (2, 3, 1, 0)
    """
    have = expand(source, ndim)
    return tuple(have.index(axis) for axis in expand(target, ndim))


def move(x: Array, source: str, target: str) -> Array:
    """Return a view in layout ``target`` of a tensor in layout ``source``; ``"NCHW"`` is the canonical order."""
    ndim = x.ndim - 2
    return x.transpose(permutation(order(source, ndim), order(target, ndim), ndim))


def permute(shape: Sequence[int], source: str, target: str, ndim: int) -> tuple[int, ...]:
    """The shape in order ``target`` of a tensor whose shape in order ``source`` is given."""
    return tuple(shape[i] for i in permutation(source, target, ndim))


def canonical_shape(shape: Sequence[int], layout: str, ndim: int) -> tuple[int, ...]:
    """``(N, C, *spatial)`` of a tensor whose shape in ``layout`` is given."""
    return permute(shape, order(layout, ndim), "NC*", ndim)


def shape_in(shape: Sequence[int], layout: str, ndim: int) -> tuple[int, ...]:
    """The shape in ``layout`` of a tensor whose shape ``(N, C, *spatial)`` is given."""
    return permute(shape, "NC*", order(layout, ndim), ndim)

"""Adapters, found by entry point: the project's own and other people's through the same door."""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from convspec.errors import UnknownName

if TYPE_CHECKING:
    from convspec.contract import Adapter

GROUP = "convspec.adapters"


@functools.cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def adapters() -> tuple[str, ...]:
    """Names of all adapters that an installed distribution declares, whether or not their framework is present."""
    return tuple(sorted(_entry_points()))


def adapter(name: str) -> Adapter:
    """The adapter of that name; ``"name:variant"`` picks one of its variants.

    Raises:
        UnknownName: listing the known ones, with the nearest.
    """
    base, _, variant = name.partition(":")
    if base not in _entry_points():
        raise UnknownName("adapter", base, adapters())
    found: Adapter = _entry_points()[base].load()
    return found.with_variant(variant) if variant else found

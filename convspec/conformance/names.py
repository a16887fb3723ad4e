"""The names in a request: words that are known, and adapters that somebody named."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.errors import UnknownName


def known(kind: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    """Raise UnknownName where one of the names is not among the known ones."""
    for name in names or ():
        if name not in known:
            raise UnknownName(kind, name, known)


def by_name(names: Sequence[str] | None) -> bool:
    """Whether somebody named the adapters, so that none of them may be absent."""
    return names is not None and "all" not in names

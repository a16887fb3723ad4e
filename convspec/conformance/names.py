"""The names in a request: words that are known, and adapters that somebody named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convspec.errors import RequestError, UnknownName


def listed(what: str, given: object) -> None:
    """Raise RequestError for one thing where several are wanted; a text would be taken letter by letter."""
    if given is not None and (isinstance(given, str) or not isinstance(given, Iterable)):
        raise RequestError(f"{what} must be several, as in [{given!r}]")


def known(kind: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    """Raise UnknownName where one of the names is not among the known ones."""
    listed(f"{kind} names", names)
    for name in names or ():
        if name not in known:
            raise UnknownName(kind, name, known)


def by_name(names: Sequence[str] | None) -> bool:
    """Whether somebody named the adapters, so that none of them may be absent."""
    return names is not None and "all" not in names

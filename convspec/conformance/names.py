"""The names in a request: adapters that are here, and words that are known."""

from __future__ import annotations

from collections.abc import Sequence

from convspec import registry
from convspec.contract import Adapter
from convspec.errors import RequestError, UnknownName


def known(kind: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    """Raise UnknownName where one of the names is not among the known ones."""
    for name in names or ():
        if name not in known:
            raise UnknownName(kind, name, known)


def find(names: Sequence[str] | None) -> tuple[dict[str, Adapter], dict[str, str]]:
    """The adapters by the name that they were asked for, and why others are absent; a named one must be there."""
    found, absent = {}, {}
    for name in registry.expanded(registry.adapters() if names is None else names):
        adapter = registry.adapter(name)
        reason = registry.absence(adapter)
        if reason is None:
            found[name] = adapter
        elif by_name(names):
            raise RequestError(reason)
        else:
            absent[name] = reason
    if not found:
        raise RequestError("no adapter to check with: " + ("; ".join(absent.values()) or "none was named"))
    return found, absent


def by_name(names: Sequence[str] | None) -> bool:
    """Whether somebody named the adapters, so that none of them may be absent."""
    return names is not None and "all" not in names

"""Shell completion of option values."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def one(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a completer for one name."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def several(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a completer for the last of a comma-separated list, without the names already in it."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        used = before.split(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last) and name not in used]

    return complete


def adapters() -> Iterable[str]:
    from convspec.contract import registry

    return registry.adapters()


def corpora() -> Iterable[str]:
    from convspec import corpora

    return corpora.names()


def layouts() -> Iterable[str]:
    from convspec.spec import LAYOUTS

    return LAYOUTS


def dtypes() -> Iterable[str]:
    from convspec.spec import DTYPES

    return (*DTYPES, "all")


def data() -> Iterable[str]:
    from convspec.conformance import ASKED

    return (*ASKED, "all")


def precisions() -> Iterable[str]:
    from convspec.conformance import PRECISIONS

    return PRECISIONS

"""What the shell offers behind an option, at the tab key."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def one(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Completes a name."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def several(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Completes the last of a comma-separated list with the names that are not in it."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        there = before.split(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last) and name not in there]

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

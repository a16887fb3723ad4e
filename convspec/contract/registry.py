"""Adapters, found by entry point: the project's own and other people's through the same door."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from convspec.errors import RequestError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from convspec.contract.protocol import Adapter

GROUP = "convspec.adapters"


@functools.cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def adapters() -> tuple[str, ...]:
    """Names of all adapters that an installed distribution declares, whether or not their framework is present."""
    return tuple(sorted(_entry_points()))


def adapter(name: str) -> Adapter:
    """The adapter of that name; ``"name:variant"`` picks one of its variants.

    ``"package.module:OBJECT"`` is an adapter that no distribution declares yet: the object of that name in an
    importable module, with an optional ``":variant"`` behind it.

    Raises:
        UnknownName: listing the known ones, with the nearest.
        RequestError: where there is no such module, or no such object in it.
    """
    base, _, rest = name.partition(":")
    if base in _entry_points():
        found: Adapter = _entry_points()[base].load()
        return found.with_variant(rest) if rest else found
    if not rest:
        raise UnknownName("adapter", base, adapters())
    attribute, _, variant = rest.partition(":")
    found = _imported(base, attribute)
    return found.with_variant(variant) if variant else found


def _imported(module: str, attribute: str) -> Adapter:
    try:
        found: Adapter = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it needs is not
        raise UnknownName("adapter or module", module, adapters()) from None
    except AttributeError:
        raise RequestError(f"module {module!r} has no adapter {attribute!r}") from None
    return found


def expanded(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once; ``"name:*"`` stands for an adapter with all its variants, ``"all"`` for all of those."""
    out: list[str] = []
    for name in names:
        for base in adapters() if name == "all" else [name.removesuffix(":*")]:
            out.append(base)
            if name == "all" or name.endswith(":*"):
                found = adapter(base)
                out += [f"{base}:{variant}" for variant in found.variants if variant != found.variant]
    return tuple(dict.fromkeys(out))


def absence(found: Adapter) -> str | None:
    """Why the adapter cannot run here: which modules it needs that are not installed; None where all are there.

    Nothing is imported, so a framework that is there but broken shows itself only when it is used.
    """
    missing = [name for name in found.requires if importlib.util.find_spec(name.partition(".")[0]) is None]
    if not missing:
        return None
    return sentence(found.name, missing)


_EXTRA = re.compile(r"""([\w.-]+)\s*[^;]*;.*\bextra\s*==\s*["']([\w.-]+)["']""")


def sentence(adapter: str, missing: Sequence[str]) -> str:
    """Which modules an adapter needs that are not there, and the line that installs them where one is known."""
    needed = f"{', '.join(missing[:-1])} and {missing[-1]}" if missing[1:] else missing[0]
    text = f"adapter {adapter!r} needs {needed}, which {'are' if missing[1:] else 'is'} not installed"
    line = remedy(adapter, missing)
    return f"{text}: {line}" if line else text


def remedy(adapter: str, missing: Sequence[str]) -> str:
    """``pip install 'convspec[keras]' jax``: the extra of the adapter's name, and what it does not bring.

    Empty where no distribution declares the adapter, or where it has no extra from which the names could be known.
    """
    name = adapter.partition(":")[0]
    own = name.partition("-")[0]
    for point in entry_points(group="convspec.adapters", name=name):
        brings: dict[str, set[str]] = {}
        for requirement in (point.dist and point.dist.requires) or ():
            if found := _EXTRA.fullmatch(requirement):
                brings.setdefault(found[2], set()).add(found[1])
        rest = [module for module in missing if module not in brings.get(own, ())]
        if point.dist is not None and set(missing) <= set().union(*brings.values()):
            extra = [f"'{point.dist.name}[{own}]'"] if len(rest) < len(missing) else []
            return " ".join(["pip install", *extra, *rest])
    return ""

"""Adapters, found by entry point: built-in adapters are loaded the same way as other distributions'."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import TYPE_CHECKING
from urllib.parse import unquote

from convspec.errors import RequestError, UnknownName

if TYPE_CHECKING:
    from convspec.contract.protocol import Adapter

GROUP = "convspec.adapters"


@functools.cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def adapters() -> tuple[str, ...]:
    """Return the names of all adapters that installed distributions declare, whether or not they can run here."""
    return tuple(sorted(_entry_points()))


def adapter(name: str) -> Adapter:
    """Return the adapter of that name; ``"name:variant"`` picks one of its variants.

    ``"package.module:OBJECT"`` is an adapter that no distribution declares yet: the object of that name in an
    importable module, optionally followed by ``":variant"``.

    Raises:
        UnknownName: listing the known ones, with the nearest.
        RequestError: where the module has no such object.
    """
    base, _, rest = name.partition(":")
    if base in _entry_points():
        loaded: Adapter = _entry_points()[base].load()
        return loaded.with_variant(rest) if rest else loaded
    if not rest:
        raise UnknownName("adapter", base, adapters())
    attribute, _, variant = rest.partition(":")
    loaded = _import(base, attribute)
    return loaded.with_variant(variant) if variant else loaded


def _import(module: str, attribute: str) -> Adapter:
    try:
        loaded: Adapter = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists, but one of its own imports does not
        raise UnknownName("adapter or module", module, adapters()) from None
    except AttributeError:
        raise RequestError(f"module {module!r} has no adapter {attribute!r}") from None
    return loaded


def expanded(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once; ``"name:*"`` is an adapter with all its variants, ``"all"`` all of those."""
    out: list[str] = []
    for name in names:
        for base in adapters() if name == "all" else [name.removesuffix(":*")]:
            out.append(base)
            if name == "all" or name.endswith(":*"):
                one = adapter(base)
                out += [f"{base}:{variant}" for variant in one.variants if variant != one.variant]
    return tuple(dict.fromkeys(out))


# -- adapters by what they can do --------------------------------------------------------------------------------------


def _all() -> list[Adapter]:
    return [adapter(name) for name in adapters()]


def graph_adapter(path: str | os.PathLike[str]) -> Adapter | None:
    """Return the adapter to which this graph file is a model; None where there is none."""
    return next((one for one in _all() if os.fspath(path).endswith(one.graph_files)), None)


def graph_files() -> tuple[str, ...]:
    """Return how the names of graph files end that are models."""
    return tuple(dict.fromkeys(ending for one in _all() for ending in one.graph_files))


def audit_adapter(path: str | os.PathLike[str]) -> Adapter:
    """Return the adapter that audits this graph file, by the end of its name, else the first that audits any.

    Raises:
        RequestError: where no adapter audits graphs.
    """
    able = _able(lambda one: one.audit_module, "audits graphs")
    return next((one for one in able if os.fspath(path).endswith(one.graph_files)), able[0])


def vectors_adapter() -> Adapter:
    """Return the adapter that writes cases as backend tests. Raises RequestError where there is none."""
    return _able(lambda one: one.vectors_module, "writes backend tests")[0]


def _able(ability: Callable[[Adapter], str], words: str) -> list[Adapter]:
    able = [one for one in _all() if ability(one)]
    if not able:
        raise RequestError(f"no installed adapter {words}")
    return able


# -- absent frameworks -------------------------------------------------------------------------------------------------


def absence(one: Adapter) -> str | None:
    """Return why the adapter cannot run here: the modules it needs that are not installed; None where it can.

    Nothing is imported, so a framework that is installed but broken fails only when it is used.
    """
    missing = [name for name in one.requires if importlib.util.find_spec(name.partition(".")[0]) is None]
    return sentence(one.name, missing) if missing else None


def sentence(adapter: str, missing: Sequence[str]) -> str:
    """Return which modules an adapter needs that are not installed, and the command that installs them, if known."""
    needed = f"{', '.join(missing[:-1])} and {missing[-1]}" if missing[1:] else missing[0]
    text = f"adapter {adapter!r} needs {needed}, which {'are' if missing[1:] else 'is'} not installed"
    line = remedy(adapter, missing)
    return f"{text}: {line}" if line else text


_EXTRA = re.compile(r"""([\w.-]+)\s*[^;]*;.*\bextra\s*==\s*["']([\w.-]+)["']""")


def remedy(adapter: str, missing: Sequence[str]) -> str:
    """Return the command that installs the modules: the extra of the adapter's name, and what it does not contain.

    Empty where no distribution declares the adapter, or where it has no extra that names the modules.
    """
    name = adapter.partition(":")[0]
    own = name.partition("-")[0]
    for point in entry_points(group=GROUP, name=name):
        extras: dict[str, set[str]] = {}
        for requirement in (point.dist and point.dist.requires) or ():
            if match := _EXTRA.fullmatch(requirement):
                extras.setdefault(match[2], set()).add(match[1])
        rest = [module for module in missing if module not in extras.get(own, ())]
        if point.dist is not None and set(missing) <= set().union(*extras.values()):
            return _pip_install(point.dist, own, *rest) if len(rest) < len(missing) else f"pip install {' '.join(rest)}"
    return ""


def install_command(extra: str) -> str:
    """Return the command that installs an extra of convspec itself."""
    try:
        return _pip_install(distribution("convspec"), extra)
    except PackageNotFoundError:
        return f"pip install -e '.[{extra}]' in a clone of convspec"


def _pip_install(installed: Distribution, extra: str, *more: str) -> str:
    """Return pip's command for an extra of a distribution, from where it was installed, and for more packages."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    url, where = origin.get("url", ""), ""
    if origin.get("dir_info", {}).get("editable"):
        what = f"-e '{unquote(url).removeprefix('file://')}[{extra}]'"
    elif not url and installed.name == "convspec":  # it is in no package index
        what, where = f"-e '.[{extra}]'", "in a clone of convspec"
    else:
        source = f"{origin['vcs_info']['vcs']}+{url}" if "vcs_info" in origin else url
        what = f"'{installed.name}[{extra}]{source and f' @ {source}'}'"
    return " ".join(filter(None, ["pip install", what, *more, where]))

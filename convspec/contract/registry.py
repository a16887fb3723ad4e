"""Adapters, found by entry point: built-in adapters are loaded the same way as other distributions'."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from convspec.contract.adapter_import import Source, load, try_in_child
from convspec.contract.plan import Support
from convspec.errors import AdapterError, ConvspecError, RequestError, UnknownName, UnsupportedError, printable
from convspec.spec import ConvSpec

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

    from convspec.contract.protocol import Adapter

GROUP = "convspec.adapters"
T = TypeVar("T")


@dataclass(slots=True)
class _Declaration:
    """An adapter that an installed distribution declares.

    Attributes:
        by: name of the distribution.
        reason: why it cannot be imported, empty if it can be; None while that is unknown.
    """

    source: Source
    by: str
    reason: str | None = None

    @property
    def own(self) -> bool:
        """Whether it is convspec's own."""
        return self.by == "convspec"

    def load(self) -> Adapter:
        """Import it, in a child process first if that is necessary; raises AdapterError."""
        _try([self])
        if self.reason:
            raise AdapterError(self.source.name, self.reason)
        try:
            return load(self.source)
        except AdapterError as error:
            self.reason = error.reason
            raise


@functools.cache
def _declared() -> dict[str, _Declaration]:
    """Return what distributions declare, by the adapter's name; another one with a name of convspec's has its own."""
    from importlib.metadata import entry_points

    by_name: dict[str, list[_Declaration]] = {}
    for point in entry_points(group=GROUP):
        module, _, attribute = point.value.partition("[")[0].partition(":")
        source = Source(printable(point.name), module.strip(), attribute.strip())
        wrong = None if re.fullmatch(r"[\w.-]+", point.name) else "its name must be letters, digits, '.', '_' or '-'"
        by_name.setdefault(source.name, []).append(_Declaration(source, _distribution(point), wrong))
    declared: dict[str, _Declaration] = {}
    for name, those in by_name.items():
        first, *others = sorted(those, key=lambda one: (not one.own, one.by))
        if others and not first.own:
            first.reason = f"several distributions declare it: {', '.join(one.by for one in (first, *others))}"
        for other in others if first.own else ():
            own_name = f"{name} ({other.by})"
            reason = f"convspec has an adapter {name!r} itself"
            declared[own_name] = _Declaration(replace(other.source, name=own_name), other.by, reason)
        declared[name] = first
    return dict(sorted(declared.items()))


def _distribution(point: EntryPoint) -> str:
    try:
        name = point.dist.name if point.dist else None
    except Exception:  # noqa: BLE001 – metadata of unknown origin
        name = None
    return printable(name or "a distribution without a name")


def _try(declarations: Sequence[_Declaration]) -> None:
    """Import those of other distributions in a child process that this process has not imported or tried yet."""
    new = [one for one in declarations if one.reason is None and not one.own and one.source.module not in sys.modules]
    reasons = try_in_child([one.source for one in new]) if new else {}
    for one in declarations:
        one.reason = reasons.get(one.source, one.reason or "")


def is_own(name: str) -> bool:
    """Return whether an adapter of this name, or variant of one, is convspec's own."""
    declaration = _declared().get(name.partition(":")[0])
    return declaration is not None and declaration.own


def adapters() -> tuple[str, ...]:
    """Return the names of all adapters that installed distributions declare, whether or not they can run here."""
    return tuple(_declared())


def adapter(name: str) -> Adapter:
    """Return the adapter of that name; ``"name:variant"`` picks one of its variants.

    ``"package.module:OBJECT"`` is an adapter that no distribution declares yet: the object of that name in an
    importable module, optionally followed by ``":variant"``.

    An adapter of another distribution is imported in a child process first, as its module may end the process. In a
    child process of convspec's own, which is there for that, it is imported at once.

    Raises:
        UnknownName: listing the known ones, with the nearest.
        AdapterError: if it cannot be imported, with the reason.
    """
    base, _, rest = name.partition(":")
    if declaration := _declared().get(base):
        if declaration.reason is None and not declaration.own and _in_child():
            declaration.reason = ""
        loaded = declaration.load()
        return loaded.with_variant(rest) if rest else loaded
    if not rest or not _is_importable(base.partition(".")[0]):
        raise UnknownName("adapter or module" if rest else "adapter", base, adapters())
    attribute, _, variant = rest.partition(":")
    source = Source(f"{base}:{attribute}", base, attribute)
    if not (base in sys.modules or _in_child()) and (reason := try_in_child([source])[source]):
        raise AdapterError(source.name, reason)
    return load_at(source.name, base, attribute, variant)


def place(name: str) -> tuple[str, ...] | None:
    """Return the arguments with which :func:`load_at` imports the adapter of that name; None where it is unknown.

    A process that gets them need not search the installed distributions.
    """
    base, _, rest = name.partition(":")
    if declaration := _declared().get(base):
        return None if declaration.reason else (*astuple(declaration.source), rest)
    attribute, _, variant = rest.partition(":")
    known = attribute and _is_importable(base.partition(".")[0])
    return (f"{base}:{attribute}", base, attribute, variant) if known else None


def load_at(name: str, module: str, attribute: str, variant: str) -> Adapter:
    """Import the adapter at a :func:`place`. Raises AdapterError if it cannot be imported, with the reason."""
    loaded = load(Source(name, module, attribute))
    return loaded.with_variant(variant) if variant else loaded


def _in_child() -> bool:
    from convspec.contract.isolation import in_child

    return in_child()


def _is_importable(package: str) -> bool:
    """Return whether a top-level module exists; it is not imported."""
    if package in sys.modules:
        return sys.modules[package] is not None
    return package.isidentifier() and importlib.util.find_spec(package) is not None


def importable() -> dict[str, Adapter]:
    """Return by name every declared adapter that can be imported; :func:`faults` has the others."""
    _try(list(_declared().values()))
    found = {}
    for name in adapters():
        with suppress(AdapterError):
            found[name] = adapter(name)
    return found


def faults() -> dict[str, str]:
    """Return by name why a declared adapter cannot be imported, a sentence for each."""
    importable()  # it finds out
    broken = {name: one.reason for name, one in _declared().items() if one.reason}
    return {name: str(AdapterError(name, reason)) for name, reason in broken.items()}


def _each() -> Iterator[Adapter]:
    """Yield every adapter that can be imported: convspec's own first, so that who needs only those imports no other."""
    own = [one for one in _declared().values() if one.own]
    others = [one for one in _declared().values() if not one.own]
    for group in (own, others):
        _try(group)
        for one in group:
            try:
                loaded = one.load()
            except AdapterError:
                continue
            yield loaded


def expanded(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once; ``"name:*"`` is an adapter with its variants, except the costly ones.

    ``"all"`` is every adapter that can be imported, with the same variants.
    """
    out: list[str] = []
    for name in names:
        for base in importable() if name == "all" else [name.removesuffix(":*")]:
            out.append(base)
            if name == "all" or name.endswith(":*"):
                one = adapter(base)
                out += [f"{base}:{variant}" for variant in one.variants if variant not in (one.variant, *one.costly)]
    return tuple(dict.fromkeys(out))


# -- adapters by what they can do --------------------------------------------------------------------------------------


def owner(kind: type, problems: dict[str, str] | None = None) -> Adapter | None:
    """Return the adapter that knows objects of this class, else of its nearest base; None where there is none.

    An adapter whose ``owns`` fails knows none; ``problems`` takes a sentence on it, by its name.
    """

    def knows(one: Adapter, base: type) -> bool:
        try:
            return answer(one, "owns", bool, base)
        except ConvspecError as error:
            if problems is not None:
                problems[one.name] = str(error)
            return False

    return next((one for base in kind.__mro__ for one in _each() if knows(one, base)), None)


def graph_adapter(path: str | os.PathLike[str]) -> Adapter | None:
    """Return the adapter to which this graph file is a model; None where there is none."""
    return next((one for one in _each() if os.fspath(path).endswith(one.graph_files)), None)


def graph_files() -> tuple[str, ...]:
    """Return how the names of graph files end that are models."""
    return tuple(dict.fromkeys(ending for one in importable().values() for ending in one.graph_files))


def audit_adapter(path: str | os.PathLike[str]) -> Adapter:
    """Return the adapter that audits this file, by the end of its name, else the first that audits graph files.

    Raises:
        RequestError: where no adapter audits graphs.
    """
    able = (one for one in _each() if one.audit_module and os.fspath(path).endswith((*one.graph_files, *one.files)))
    return next(able, None) or _first(lambda one: one.audit_module * bool(one.graph_files), "audits graphs")


def vectors_adapter() -> Adapter:
    """Return the adapter that writes cases as backend tests. Raises RequestError where there is none."""
    return _first(lambda one: one.vectors_module, "writes backend tests")


def messages_adapter() -> Adapter:
    """Return the adapter that writes backend tests without its framework. Raises RequestError where there is none."""
    return _first(lambda one: one.messages_module, "writes backend tests without its framework")


def _first(ability: Callable[[Adapter], str], words: str) -> Adapter:
    able = next((one for one in _each() if ability(one)), None)
    if able is None:
        raise RequestError(f"no installed adapter {words}")
    return able


# -- adapters that fail ------------------------------------------------------------------------------------------------


def answer(one: Adapter, method: str, kind: type[T], *request: object) -> T:
    """Return what a method of an adapter returns.

    Raises:
        AdapterError: if that is of another type, or the method raises an exception that is not convspec's.
    """
    try:
        found = getattr(one, method)(*request)
    except ConvspecError:
        raise
    except Exception as error:
        reason = f"its {method}() raises {type(error).__name__}: {printable(error)}"
        raise AdapterError(one.name, reason) from error
    if not isinstance(found, kind):
        got = printable(repr(found), 80)
        raise AdapterError(one.name, f"its {method}() must return a {kind.__name__}, got {got}")
    return found


def versions(one: Adapter) -> dict[str, str]:
    """Return name and version of an adapter's distributions; raises AdapterError as :func:`answer`."""
    found = answer(one, "versions", dict)
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise AdapterError(one.name, f"its versions() must return a dict of strings, got {printable(repr(found), 80)}")
    return found


def require_usable(one: Adapter) -> None:
    """Ask an adapter whose framework is installed what every run asks: versions, gaps, and the support of a layer.

    Raises:
        AdapterError: as :func:`answer`.
        GapError: if its declared gaps cannot be read.
    """
    from convspec.contract import known_gaps

    known_gaps.applying(one, versions(one))
    with suppress(UnsupportedError):
        answer(one, "support", Support, ConvSpec(2, 2, (3, 3)), one.native_layout)


# -- absent frameworks -------------------------------------------------------------------------------------------------


def absence(one: Adapter) -> str | None:
    """Return why the adapter cannot run here: the modules it needs that are not installed; None where it can.

    Nothing is imported, so a framework that is installed but broken fails only when it is used.
    """
    missing = [name for name in one.requires if not _is_importable(name.partition(".")[0])]
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
    from importlib.metadata import entry_points

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
    from importlib.metadata import PackageNotFoundError, distribution

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

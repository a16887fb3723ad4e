"""What the numbers of a run may depend on: machine and versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from convspec.contract import Adapter, known_gaps, registry
from convspec.errors import ConvspecError, RequestError, UnknownName


def environment() -> dict[str, Any]:
    """Machine, interpreter and versions of the core; the adapters' own versions are added by the run."""
    return {
        "convspec": version("convspec"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": cores(),
        "versions": {"numpy": version("numpy")},
    }


def cores() -> int:
    """How many processors this process may use."""
    return len(core_numbers()) or os.cpu_count() or 1


def core_numbers() -> tuple[int, ...]:
    """Their numbers; none where the system does not let a process be bound to any."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


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


@dataclass(frozen=True, slots=True)
class Site:
    """What a run finds where its work is done.

    Attributes:
        adapters: by the name that they were asked for.
        absent: those that are not there, and why.
        versions: of the distributions that each adapter's numbers depend on.
        environment: what the numbers may depend on, and how many jobs there are.
    """

    adapters: Mapping[str, Adapter]
    absent: Mapping[str, str]
    versions: Mapping[str, Mapping[str, str]]
    environment: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise RequestError(f"jobs={self.jobs} must be at least 1")

    @property
    def jobs(self) -> int:
        """How many workers may be busy, or chunks under way, at a time."""
        return int(self.environment["jobs"])

    def declared(self) -> dict[str, tuple[known_gaps.Gap, ...]]:
        """The declared gaps that are there with these versions, by the adapter's own name."""
        return {a.name: known_gaps.applying(a, self.versions[request]) for request, a in self.adapters.items()}


@dataclass(slots=True)
class Inventory:
    """What one process has: its machine, and of the adapters that it was asked about, which are absent and why."""

    environment: dict[str, Any]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def inventory(requests: Iterable[str]) -> Inventory:
    """What this process has of these adapters; no framework is imported."""
    found = Inventory(environment())
    for request in requests:
        try:
            adapter = registry.adapter(request)
            reason, versions = registry.absence(adapter), adapter.versions()
        except (ConvspecError, ImportError) as error:  # an adapter of somebody's own that is not installed here
            reason, versions = str(error), {}
        found.versions[request] = versions
        if reason is not None:
            found.absent[request] = reason
    return found


def local(names: Sequence[str] | None, jobs: int | None) -> Site:
    """Here, on one machine: an adapter that was named must be there.

    Raises:
        RequestError: where one is not, or none is.
    """
    found = requested(names)
    here = inventory(found)
    adapters = present(found, here.absent, names)
    about = dict(here.environment)
    for request in adapters:
        about["versions"] = {**about["versions"], **here.versions[request]}
    return Site(adapters, here.absent, here.versions, {**about, "jobs": cores() if jobs is None else jobs})


def requested(names: Sequence[str] | None) -> dict[str, Adapter]:
    """The adapters by the name that they were asked for, all that there are where none was named."""
    return {name: registry.adapter(name) for name in registry.expanded(registry.adapters() if names is None else names)}


def present(
    adapters: Mapping[str, Adapter], absent: Mapping[str, str], names: Sequence[str] | None
) -> dict[str, Adapter]:
    """Those that are not absent.

    Raises:
        RequestError: where one is that was named, or all are.
    """
    if by_name(names) and absent:
        raise RequestError(next(iter(absent.values())))
    found = {name: adapter for name, adapter in adapters.items() if name not in absent}
    if not found:
        raise RequestError(f"no adapter to check with: {_nothing(absent)}")
    return found


def _nothing(absent: Mapping[str, str]) -> str:
    """Why there is no adapter; of many, one says what to do."""
    if len(absent) < 3:
        return "; ".join(absent.values()) or "none was named"
    *_, (last, reason) = absent.items()
    others = ", ".join(name for name in absent if name != last)
    return f"{reason}. So it is with {others}; `convspec adapters` says what each needs"


def public(version: str) -> str:
    """A version without its local part, which says how it was built: ``2.13.0`` of ``2.13.0+cpu``."""
    return version.partition("+")[0]

"""The environment of a run: the machine, the versions, and the installed adapters."""

from __future__ import annotations

import os
import platform
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from convspec.contract import Adapter, known_gaps, registry
from convspec.errors import AdapterError, ConvspecError, GapError, RequestError, UnknownName

# -- the machine -------------------------------------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    """Machine, interpreter and versions of the core; a run adds the versions of its adapters."""
    return {
        "convspec": version("convspec"), "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}", "machine": platform.machine(), "cpu": cpu_model(),
        "cores": cores(), "versions": {"numpy": version("numpy")},
    }  # fmt: skip


def cores() -> int:
    """The number of processors that this process may use."""
    return len(core_numbers()) or os.cpu_count() or 1


def core_numbers() -> tuple[int, ...]:
    """The processors that this process may use; empty where the system cannot bind a process to processors."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def cpu_model() -> str:
    """The name of the processor, ``"unknown"`` where the system does not report it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


# -- the adapters ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed where a run does its work: on this machine, or on the workers of a cluster.

    Attributes:
        adapters: by the name in the request.
        absent: the adapters that are not installed, and why.
        versions: of the distributions that determine each adapter's numbers.
        environment: everything that the numbers may depend on, and the number of jobs.
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
        """The number of workers, or of pending chunks on an executor."""
        return int(self.environment["jobs"])

    def declared(self) -> dict[str, tuple[known_gaps.Gap, ...]]:
        """The declared gaps of these versions, by the adapter's own name."""
        return {a.name: known_gaps.applying(a, self.versions[request]) for request, a in self.adapters.items()}


@dataclass(slots=True)
class Inventory:
    """What one process has: its machine, and the versions or absences of the adapters in question."""

    environment: dict[str, Any]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def take_inventory(requests: Iterable[str]) -> Inventory:
    """Return what this process has of these adapters, without importing a framework."""
    inventory = Inventory(environment())
    for request in requests:
        try:
            adapter = registry.adapter(request)
            reason = registry.absence(adapter)
            versions = registry.versions(adapter) if reason is None else {}
        except ConvspecError as error:  # another distribution's adapter, which is not installed here or fails
            reason, versions = str(error), {}
        inventory.versions[request] = versions
        if reason is not None:
            inventory.absent[request] = reason
    return inventory


def local_installation(names: Sequence[str] | None, jobs: int | None) -> Installation:
    """Return what is installed on this machine.

    Raises:
        RequestError: if an adapter in ``names`` is not installed, or none is.
    """
    adapters = find_adapters(names)
    inventory = take_inventory(adapters)
    absent = {**inventory.absent, **not_usable(adapters, inventory.absent, names)}
    adapters = installed_adapters(adapters, absent, names)
    about = dict(inventory.environment)
    for request in adapters:
        about["versions"] = {**about["versions"], **inventory.versions[request]}
    about["jobs"] = cores() if jobs is None else jobs
    return Installation(adapters, absent, inventory.versions, about)


def find_adapters(names: Sequence[str] | None) -> dict[str, Adapter]:
    """The adapters by the name in the request; without names, all that can be imported."""
    requests = registry.importable() if names is None else registry.expanded(names)
    return {name: registry.adapter(name) for name in requests}


def not_usable(adapters: Mapping[str, Adapter], absent: Container[str], names: Sequence[str] | None) -> dict[str, str]:
    """Why adapters that the request does not name, but includes, cannot be imported or used."""
    if are_required(names):
        return {}
    reasons = registry.faults()
    for name, adapter in adapters.items():
        if name not in absent:
            try:
                registry.require_usable(adapter)
            except GapError as error:
                reasons[name] = f"adapter {name!r} cannot be used: {error}"
            except AdapterError as error:
                reasons[name] = str(error)
    return reasons


def installed_adapters(
    adapters: Mapping[str, Adapter], absent: Mapping[str, str], names: Sequence[str] | None
) -> dict[str, Adapter]:
    """The adapters that are not absent.

    Raises:
        RequestError: if an adapter in ``names`` is absent, or all are.
    """
    if are_required(names) and absent:
        raise RequestError(next(iter(absent.values())))
    installed = {name: adapter for name, adapter in adapters.items() if name not in absent}
    if not installed:
        raise RequestError(f"no adapter to check with: {_all_absent(absent)}")
    return installed


def are_required(names: Sequence[str] | None) -> bool:
    """Whether the request names its adapters, so that all of them must be installed."""
    return names is not None and "all" not in names


def _all_absent(absent: Mapping[str, str]) -> str:
    """Why no adapter is installed; of three or more, only one reason is given."""
    if len(absent) < 3:
        return "; ".join(absent.values()) or "none was named"
    *_, (last, reason) = absent.items()
    others = ", ".join(name for name in absent if name != last)
    return f"{reason}. The same holds for {others}; `convspec adapters` lists what each needs"


# -- names and versions ------------------------------------------------------------------------------------------------


def require_list(what: str, value: object) -> None:
    """Raise RequestError for a single value where a list is expected; a string would be read letter by letter."""
    if value is not None and (isinstance(value, str) or not isinstance(value, Iterable)):
        raise RequestError(f"{what} must be a list, e.g. [{value!r}]")


def require_known(kind: str, names: Sequence[str] | None, known: Sequence[str]) -> None:
    """Raise UnknownName for a name that is not among the known ones."""
    require_list(f"{kind} names", names)
    for name in names or ():
        if name not in known:
            raise UnknownName(kind, name, known)


def public_version(version: str) -> str:
    """A version without its local part, which names the build: ``2.13.0`` of ``2.13.0+cpu``."""
    return version.partition("+")[0]

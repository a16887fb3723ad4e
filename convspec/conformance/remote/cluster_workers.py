"""The workers of a cluster: what each may run, and what they have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import convspec
from convspec.conformance.environment import Inventory, public_version
from convspec.errors import RequestError

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Member:
    """One worker: its address, and what it says that it has.

    Attributes:
        resources: that it declares, each with its amount.
        problem: why it could not be asked for its inventory; empty where it could.
    """

    address: str
    threads: int
    resources: Mapping[str, float]
    inventory: Inventory
    problem: str = ""

    def meets(self, demands: Mapping[str, float]) -> bool:
        """Whether it declares as much of everything."""
        return all(self.resources.get(name, -1.0) >= amount for name, amount in demands.items())

    def kind(self, requests: Iterable[str]) -> dict[str, Any]:
        """What a report says of it."""
        versions = dict(self.inventory.environment["versions"])
        for request in requests:
            versions |= self.inventory.versions[request]
        about = {"threads": self.threads, "resources": dict(self.resources)}
        return {**about, "cpu": self.inventory.environment["cpu"], "versions": versions}


def at(members: Iterable[Member]) -> str:
    """Their addresses, in words."""
    addresses = [shown(member.address) for member in members]
    more = len(addresses) - _SHOWN
    return ", ".join(addresses[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def shown(text: str) -> str:
    """What a machine of the cluster says, fit for a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]


def usable(members: Sequence[Member]) -> None:
    """Raise RequestError where one has no convspec, or another one than this."""
    for member in members:
        if member.problem:
            raise RequestError(
                f"worker {shown(member.address)} cannot run convspec: {shown(member.problem)}; install convspec "
                f"{convspec.__version__} there, or keep it from this work by the resources that workers declare"
            )
        there = str(member.inventory.environment["convspec"])
        if there != convspec.__version__:
            raise RequestError(
                f"worker {shown(member.address)} has convspec {shown(there)}, which must be {convspec.__version__} "
                "as here: install that one there"
            )


def agreed(request: str, members: Sequence[Member]) -> dict[str, str]:
    """The versions that an adapter finds on all of them; how they were built, ``+cpu`` say, may differ.

    Raises:
        RequestError: where a version differs.
    """
    return _agreed(members, lambda member: member.inventory.versions[request])


def _agreed(members: Sequence[Member], of: Callable[[Member], Mapping[str, str]]) -> dict[str, str]:
    found = {}
    for name in dict.fromkeys(name for member in members for name in of(member)):
        versions: dict[str, list[Member]] = {}
        for member in members:
            versions.setdefault(of(member).get(name, "none"), []).append(member)
        if len({public_version(version) for version in versions}) > 1:
            said = "; ".join(f"{shown(version)} on {at(those)}" for version, those in sorted(versions.items()))
            raise RequestError(
                f"workers differ in {shown(name)}: {said}. One run has one set of versions: install the same "
                "everywhere, or keep some from this work by the resources that workers declare"
            )
        found[name] = " / ".join(sorted(versions))
    return found


def surroundings(members: Sequence[Member], requests: Sequence[str]) -> dict[str, Any]:
    """The environment of a run on these workers, for its report."""
    environments = [member.inventory.environment for member in members]
    about: dict[str, Any] = {"convspec": convspec.__version__}
    for key in ("python", "system", "machine", "cpu"):
        about[key] = " / ".join(dict.fromkeys(str(environment[key]) for environment in environments))
    about["cores"] = sum(member.threads for member in members)
    about["versions"] = _agreed(members, lambda member: member.inventory.environment["versions"])
    kinds = Counter(repr(member.kind(requests)) for member in members)
    first = {repr(member.kind(requests)): member.kind(requests) for member in members}
    about["workers"] = [{"count": count, **first[kind]} for kind, count in kinds.items()]
    return about

"""The workers of a cluster: what each may run, and the versions that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import convspec
from convspec.conformance.environment import Inventory, public_version
from convspec.errors import RequestError, printable

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ClusterWorker:
    """One worker of a cluster.

    Attributes:
        resources: that it declares, each with its amount.
        inventory: its installed frameworks and their versions.
        problem: why it returned no inventory, or "".
    """

    address: str
    threads: int
    resources: Mapping[str, float]
    inventory: Inventory
    problem: str = ""

    def meets(self, demands: Mapping[str, float]) -> bool:
        """Return whether it declares at least these amounts."""
        return all(self.resources.get(name, -1.0) >= amount for name, amount in demands.items())

    def kind(self, requests: Iterable[str]) -> dict[str, Any]:
        """Return its entry in a report."""
        versions = dict(self.inventory.environment["versions"])
        for request in requests:
            versions |= self.inventory.versions[request]
        about = {"threads": self.threads, "resources": dict(self.resources)}
        return {**about, "cpu": self.inventory.environment["cpu"], "versions": versions}


def addresses(workers: Iterable[ClusterWorker]) -> str:
    """Return the first addresses as text."""
    every = [printable(worker.address) for worker in workers]
    more = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def check_versions(workers: Sequence[ClusterWorker]) -> None:
    """Raise RequestError if a worker has no convspec, or another version than this process."""
    for worker in workers:
        name = printable(worker.address)
        if worker.problem:
            raise RequestError(
                f"worker {name} cannot run convspec: {printable(worker.problem)}; install convspec "
                f"{convspec.__version__} there, or exclude it by the resources that workers declare"
            )
        version = str(worker.inventory.environment["convspec"])
        if version != convspec.__version__:
            raise RequestError(
                f"worker {name} has convspec {printable(version)}, which must be {convspec.__version__} "
                "as here: install that version there"
            )


def common_versions(request: str, workers: Sequence[ClusterWorker]) -> dict[str, str]:
    """Return an adapter's versions, which are equal on all workers but for the build, for example ``+cpu``.

    Raises:
        RequestError: if a version differs.
    """
    return _common(workers, lambda worker: worker.inventory.versions[request])


def _common(workers: Sequence[ClusterWorker], of: Callable[[ClusterWorker], Mapping[str, str]]) -> dict[str, str]:
    common = {}
    for name in dict.fromkeys(name for worker in workers for name in of(worker)):
        versions: dict[str, list[ClusterWorker]] = {}
        for worker in workers:
            versions.setdefault(of(worker).get(name, "none"), []).append(worker)
        if len({public_version(version) for version in versions}) > 1:
            listing = "; ".join(f"{printable(version)} on {addresses(ws)}" for version, ws in sorted(versions.items()))
            raise RequestError(
                f"workers differ in {printable(name)}: {listing}. All workers of a run must have the same versions: "
                "install the same everywhere, or exclude some by the resources that workers declare"
            )
        common[name] = " / ".join(sorted(versions))
    return common


def describe(workers: Sequence[ClusterWorker], requests: Sequence[str]) -> dict[str, Any]:
    """Return the environment of a run on these workers, for its report."""
    environments = [worker.inventory.environment for worker in workers]
    about: dict[str, Any] = {"convspec": convspec.__version__}
    for key in ("python", "system", "machine", "cpu"):
        about[key] = " / ".join(dict.fromkeys(str(environment[key]) for environment in environments))
    about["cores"] = sum(worker.threads for worker in workers)
    about["versions"] = _common(workers, lambda worker: worker.inventory.environment["versions"])
    kinds = Counter(repr(worker.kind(requests)) for worker in workers)
    first = {repr(worker.kind(requests)): worker.kind(requests) for worker in workers}
    about["workers"] = [{"count": count, **first[kind]} for kind, count in kinds.items()]
    return about

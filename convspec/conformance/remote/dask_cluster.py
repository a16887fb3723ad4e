"""A Dask cluster as the place where a run's work is done.

What a worker may run is said by the resources that it declares (``dask worker … --resources cuda=1``). A case on
another device than the CPU goes to workers that declare the device, one chunk at a time for each of what they declare.
As soon as any worker declares the name of an adapter, each adapter goes only to those that declare its name; the
amount does not matter.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from convspec.conformance.environment import (
    Installation,
    Inventory,
    find_adapters,
    installed_adapters,
    public_version,
    take_inventory,
)
from convspec.conformance.remote.chunks import stop
from convspec.conformance.remote.cluster_workers import Member, agreed, at, shown, surroundings, usable
from convspec.contract import registry
from convspec.errors import ExecutorError, RequestError

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client

    from convspec.conformance.trials.work_plan import Target
    from convspec.contract import Adapter

_PATIENCE = 30  # seconds for the scheduler to answer
_GOODBYE = 5.0  # seconds for the workers to stop
_LOOK = 10.0  # seconds between looks at the workers
_SAFE = ("tls", "wss", "inproc")


class ClusterWarning(UserWarning):
    """Something about a cluster that a run can live with."""


class Cluster:
    """A Dask cluster that is there already; ``convspec.check(…, executor=cluster)`` sends its work to it.

    To be closed, or used in a ``with`` statement; one that ends with an error stops what is under way on the workers.

    Args:
        address: of the scheduler, ``"tcp://host:8786"`` or ``"tls://host:8786"``; for TLS, certificates are those of
            Dask's own configuration.
        tell: called with a sentence on what is odd about the cluster; by default they are warnings.

    Raises:
        RequestError: where there is no scheduler, or Dask is not installed.
    """

    def __init__(self, address: str, tell: Callable[[str], None] | None = None) -> None:
        self.address, self._tell, self.session = address, tell or _warn, uuid.uuid4().hex
        self._client = _connected(address)
        if not _private(address):
            self._tell(
                f"{shown(address)} is neither encrypted nor authenticated: whoever reaches it, or stands on the way, "
                "can run programs here and on every worker; tls:// is both"
            )
        self._sorted = False  # whether workers say which adapters they take
        self._executors: dict[tuple[tuple[str, float], ...], Executor] = {}
        self._looked = 0.0
        self._short: set[tuple[tuple[str, float], ...]] = set()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._client.status == "running":
            words = {"on_error": "ignore"}
            goodbye = threading.Thread(target=self._client.run, args=(stop, self.session), kwargs=words, daemon=True)
            goodbye.start()
            goodbye.join(_GOODBYE)
        self.close()

    def close(self) -> None:
        """Let the cluster go."""
        self._client.close(timeout=_PATIENCE)

    def __call__(self, target: Target) -> Executor:
        """The executor whose workers may run a target."""
        key = tuple(self._demands(registry.adapter(target.request), target.device).items())
        if key not in self._executors:
            self._executors[key] = self._client.get_executor(resources=dict(key) or None, pure=False)
        return self._executors[key]

    def look(self) -> None:
        """See that the scheduler is there, and tell where no worker is left for some of the work.

        Raises:
            ExecutorError: where the scheduler is gone.
        """
        if self._client.status != "running":
            raise ExecutorError(f"the scheduler at {shown(self.address)} is gone")
        if time.monotonic() > self._looked + _LOOK:
            workers = self._workers().values()
            for key in self._executors:
                met = any(all(w["resources"].get(n, -1) >= amount for n, amount in key) for w in workers)
                if not met and key not in self._short:
                    names = " and ".join(name for name, _ in key)
                    self._tell(f"no worker {f'that declares {names} ' if names else ''}is left: waiting for one")
                (self._short.discard if met else self._short.add)(key)
            self._looked = time.monotonic()

    def installation(self, names: Sequence[str] | None, devices: Iterable[str], jobs: int | None) -> Installation:
        """What the workers have of these adapters, for work on these devices.

        Raises:
            RequestError: where a device, or an adapter that was named, is on no worker, or only on some of those that
                may get its work; and where workers differ in a version.
        """
        adapters, devices = find_adapters(names), list(devices)
        members = self._members(tuple(adapters))
        self._sorted = any(not {*registry.adapters(), *(a.name for a in adapters.values())}.isdisjoint(m.resources)
                           for m in members)  # fmt: skip
        absent, versions, used = {}, {}, dict[str, Member]()
        for request, adapter in adapters.items():
            able = self._able(members, adapter, devices)
            usable(able)
            absent[request] = _lacking(request, adapter.name, able)
            if not absent[request]:
                versions[request] = agreed(request, able)
                used |= {member.address: member for member in able}
        absent = {request: reason for request, reason in absent.items() if reason}
        found = installed_adapters(adapters, absent, names)
        about = surroundings(list(used.values()), list(found))
        for request in found:
            about["versions"] |= versions[request]
        self._compare(take_inventory(found), about["versions"])
        return Installation(found, absent, versions, {**about, "jobs": 2 * about["cores"] if jobs is None else jobs})

    def _demands(self, adapter: Adapter, device: str) -> dict[str, float]:
        """The resources that a worker must declare: one of a device, any amount of an adapter."""
        demands = {} if device == "cpu" else {device.partition(":")[0]: 1.0}
        return {**demands, adapter.name: 0.0} if self._sorted else demands

    def _able(self, members: Sequence[Member], adapter: Adapter, devices: Sequence[str]) -> list[Member]:
        """The workers that may get work of an adapter on one of the devices; each device must be on one of them."""
        found = []
        for device in devices:
            demands = self._demands(adapter, device)
            able = [member for member in members if member.meets(demands)]
            if not able and device != "cpu":
                declared = sorted({shown(name) for member in members for name in member.resources})
                raise RequestError(
                    f"device={device!r} with adapter {adapter.name!r} must have a worker that declares the resources "
                    f"{' and '.join(demands)}, and none of the {len(members)} at {shown(self.address)} does (declared: "
                    f"{', '.join(declared) or 'none'}). Start one: {_starting(self.address, demands)}, or ask for "
                    "other devices or adapters"
                )
            found += [member for member in able if member not in found]
        return found

    def _compare(self, here: Inventory, there: Mapping[str, str]) -> None:
        """Tell where workers have other versions than this machine."""
        mine = dict(here.environment["versions"])
        for request in here.versions:
            mine |= here.versions[request]
        for name, version in there.items():
            if name in mine and public_version(mine[name]) != public_version(version):
                self._tell(f"workers have {name} {shown(version)}, here is {mine[name]}; the report is of theirs")

    def _members(self, requests: tuple[str, ...]) -> list[Member]:
        workers = self._workers()
        if not workers:
            raise RequestError(
                f"the scheduler at {shown(self.address)} must have a worker, and has none. Start one: "
                f"{_starting(self.address, {})}"
            )
        answers = self._client.run(take_inventory, requests, workers=list(workers), on_error="return")
        return [_member(address, about, answers.get(address)) for address, about in workers.items()]

    def _workers(self) -> dict[str, dict[str, Any]]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])


def _member(address: str, about: Mapping[str, Any], answer: object) -> Member:
    problem = "" if isinstance(answer, Inventory) else f"{type(answer).__name__}: {answer}"
    found = answer if isinstance(answer, Inventory) else Inventory({})
    return Member(address, int(about["nthreads"]), dict(about["resources"]), found, problem)


def _lacking(request: str, name: str, members: Sequence[Member]) -> str:
    """Why an adapter cannot run on the workers that may get its work; empty where it can."""
    if not members:
        return f"adapter {name!r} must have a worker that declares the resource {name}, as others declare theirs"
    without = [member for member in members if request in member.inventory.absent]
    if not without:
        return ""
    reason = shown(without[0].inventory.absent[request])
    if len(without) == len(members):
        return f"{reason} on the workers"
    return (
        f"{reason} on {len(without)} of {len(members)} workers ({at(without)}); those that have it must declare it: "
        f"--resources {name}=1"
    )


def _starting(address: str, demands: Mapping[str, float]) -> str:
    """The command that starts a worker which meets these demands."""
    resources = " ".join(f"{name}=1" for name in demands)
    return f"dask worker {shown(address)}" + (f" --resources '{resources}'" if resources else "")


def _connected(address: str) -> Client:
    if not re.fullmatch(r"(?:[a-z]+://)?[^/\s]+:[0-9]+", address):
        raise RequestError(f"dask={address!r} must be the address of a scheduler, with its port: tls://host:8786")
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise RequestError(
            f"a Dask cluster needs {error.name}, which is not installed: pip install 'convspec[dask]'"
        ) from None
    try:
        return Client(address, timeout=_PATIENCE, set_as_default=False, name="convspec")
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise RequestError(
            f"dask={address!r} must be the address of a scheduler that can be reached, as in tls://host:8786: "
            f"{shown(str(error))}"
        ) from None


def _private(address: str) -> bool:
    """Whether nobody else reads or writes what goes to an address."""
    scheme, _, place = address.rpartition("://")
    host = place.rpartition(":")[0].strip("[]")
    if scheme in _SAFE or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _warn(sentence: str) -> None:
    warnings.warn(sentence, ClusterWarning, stacklevel=3)

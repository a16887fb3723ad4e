"""Run the work of a run on a Dask cluster.

The resources that a worker declares (``dask worker … --resources cuda=1``) decide what it may run. A case on another
device than the CPU is sent to workers that declare the device, one chunk at a time for each unit of the resource. If
any worker declares the name of an adapter, in whatever amount, each adapter's cases are sent only to workers that
declare its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import convspec
from convspec.conformance.environment import (
    Installation,
    Inventory,
    find_adapters,
    installed_adapters,
    not_usable,
    public_version,
    take_inventory,
)
from convspec.conformance.remote.executor import stop
from convspec.conformance.trials.work_plan import Target
from convspec.contract import Adapter, registry
from convspec.errors import ExecutorError, RequestError, printable

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client


_PATIENCE = 30  # seconds for the scheduler to answer
_SENDER = logging.getLogger("distributed.batched")
_STOPPING = 5.0  # seconds for the workers to stop
_LOOK = 10.0  # seconds between looks at the workers
_SAFE = ("tls", "wss", "inproc")
_SHOWN = 3  # addresses


class ClusterWarning(UserWarning):
    """A property of a cluster that the user should know, but that does not stop the run."""


class Cluster:
    """A running Dask cluster; ``convspec.check(…, executor=cluster)`` sends its work there.

    Close it, or use it in a ``with`` statement; if that ends with an error, the work on the workers is stopped.

    Args:
        address: of the scheduler, ``"tcp://host:8786"`` or ``"tls://host:8786"``; TLS uses the certificates of Dask's
            own configuration.
        tell: called with each warning about the cluster; by default, ``warnings.warn``.

    Raises:
        RequestError: if the scheduler cannot be reached, or Dask is not installed.
    """

    def __init__(self, address: str, tell: Callable[[str], None] | None = None) -> None:
        self.address, self._tell, self.session = address, tell or _warn, uuid.uuid4().hex
        self._client = _connect(address)
        if not _private(address):
            self._tell(
                f"{printable(address)} is neither encrypted nor authenticated: anyone on the network can run programs "
                "here and on every worker; tls:// is both"
            )
        self._by_adapter = False  # whether workers declare the adapters that they take
        self._executors: dict[tuple[tuple[str, float], ...], Executor] = {}
        self._looked = 0.0
        self._short: set[tuple[tuple[str, float], ...]] = set()

    def __enter__(self) -> Cluster:
        _SENDER.disabled = True  # it logs a lost connection with a traceback; `look` says it in words
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._client.status == "running":
            stopping = threading.Thread(target=self._stop, daemon=True)
            stopping.start()
            stopping.join(_STOPPING)
        self.close()

    def close(self) -> None:
        """Disconnect from the cluster."""
        log = logging.getLogger("distributed.client")
        before, log.disabled = log.disabled, True  # if the scheduler is gone, Dask logs that its reconnection ends
        try:
            with contextlib.suppress(Exception, asyncio.CancelledError):
                self._client.close(timeout=_PATIENCE)
        finally:
            log.disabled = before
            _SENDER.disabled = False

    def _stop(self) -> None:
        """Stop the work of this session on the workers, as far as they can be reached."""
        with contextlib.suppress(Exception, asyncio.CancelledError):
            self._client.run(stop, self.session, on_error="ignore")

    def __call__(self, target: Target) -> Executor:
        """Return the executor whose workers may run a target."""
        key = tuple(self._demands(registry.adapter(target.request), target.device).items())
        if key not in self._executors:
            self._executors[key] = self._client.get_executor(resources=dict(key) or None, pure=False)
        return self._executors[key]

    def look(self) -> None:
        """Check the scheduler, and warn if no worker is left for some of the work.

        Raises:
            ExecutorError: if the scheduler cannot be reached.
        """
        if self._client.status != "running":
            raise ExecutorError(f"the scheduler at {printable(self.address)} is gone")
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
        """Return the adapters that the workers have, for work on these devices.

        Raises:
            RequestError: if a device or a named adapter exists on no worker, or only on some of those that may get its
                work, or if workers differ in a version.
        """
        adapters, devices = find_adapters(names), list(devices)
        workers = self._ask_workers(tuple(adapters))
        self._by_adapter = any(not {*registry.adapters(), *(a.name for a in adapters.values())}.isdisjoint(m.resources)
                           for m in workers)  # fmt: skip
        absent, versions, used = {}, {}, dict[str, ClusterWorker]()
        for request, adapter in adapters.items():
            able = self._eligible(workers, adapter, devices)
            check_versions(able)
            absent[request] = _why_absent(request, adapter.name, able)
            if not absent[request]:
                versions[request] = common_versions([(worker, worker.inventory.versions[request]) for worker in able])
                used |= {worker.address: worker for worker in able}
        absent = {request: reason for request, reason in absent.items() if reason}
        absent |= not_usable(adapters, absent, names)
        found = installed_adapters(adapters, absent, names)
        about = describe(list(used.values()), list(found))
        for request in found:
            about["versions"] |= versions[request]
        self._compare(take_inventory(found), about["versions"])
        return Installation(found, absent, versions, {**about, "jobs": 2 * about["cores"] if jobs is None else jobs})

    def _demands(self, adapter: Adapter, device: str) -> dict[str, float]:
        """Return the resources that a worker must declare: one of a device, any amount of an adapter."""
        demands = {} if device == "cpu" else {device.partition(":")[0]: 1.0}
        return {**demands, adapter.name: 0.0} if self._by_adapter else demands

    def _eligible(
        self, workers: Sequence[ClusterWorker], adapter: Adapter, devices: Sequence[str]
    ) -> list[ClusterWorker]:
        """Return the workers for an adapter on any of the devices; raises RequestError for a device on no worker."""
        eligible: list[ClusterWorker] = []
        for device in devices:
            demands = self._demands(adapter, device)
            able = [worker for worker in workers if worker.meets(demands)]
            if not able and device != "cpu":
                declared = sorted({printable(name) for worker in workers for name in worker.resources})
                raise RequestError(
                    f"device={device!r} with adapter {adapter.name!r} must have a worker that declares the resources "
                    f"{' and '.join(demands)}, and none of the {len(workers)} at {printable(self.address)} does "
                    f"(declared: {', '.join(declared) or 'none'}). Start one: {_command(self.address, demands)}, or "
                    "ask for other devices or adapters"
                )
            eligible += [worker for worker in able if worker not in eligible]
        return eligible

    def _compare(self, local: Inventory, versions: Mapping[str, str]) -> None:
        """Warn if workers have other versions than this machine."""
        own = dict(local.environment["versions"])
        for request in local.versions:
            own |= local.versions[request]
        for name, version in versions.items():
            if name in own and public_version(own[name]) != public_version(version):
                self._tell(
                    f"the workers have {name} {printable(version)}, this machine {own[name]}; the report is about the "
                    "workers' version"
                )

    def _ask_workers(self, requests: tuple[str, ...]) -> list[ClusterWorker]:
        workers = self._workers()
        if not workers:
            raise RequestError(
                f"the scheduler at {printable(self.address)} must have a worker, and has none. Start one: "
                f"{_command(self.address, {})}"
            )
        with self._reached():
            answers = self._client.run(take_inventory, requests, workers=list(workers), on_error="return")
        return [_cluster_worker(address, about, answers.get(address)) for address, about in workers.items()]

    def _workers(self) -> dict[str, dict[str, Any]]:
        with self._reached():
            return dict(self._client.scheduler_info(n_workers=-1)["workers"])

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn whatever Dask raises where its scheduler ends meanwhile into ExecutorError."""
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            reason = printable(error) or type(error).__name__
            raise ExecutorError(f"the scheduler at {printable(self.address)} is gone ({reason})") from error


def _cluster_worker(address: str, about: Mapping[str, Any], answer: object) -> ClusterWorker:
    problem = "" if isinstance(answer, Inventory) else f"{type(answer).__name__}: {answer}"
    own = answer if isinstance(answer, Inventory) else Inventory({})
    return ClusterWorker(address, int(about["nthreads"]), dict(about["resources"]), own, problem)


def _why_absent(request: str, name: str, workers: Sequence[ClusterWorker]) -> str:
    """Return why an adapter cannot run on the workers eligible for it, or ""."""
    if not workers:
        return f"adapter {name!r} must have a worker that declares the resource {name}, as others declare theirs"
    without = [worker for worker in workers if request in worker.inventory.absent]
    if not without:
        return ""
    reason = printable(without[0].inventory.absent[request])
    if len(without) == len(workers):
        return f"{reason} on the workers"
    return (
        f"{reason} on {len(without)} of {len(workers)} workers ({addresses(without)}); the others must declare it: "
        f"--resources {name}=1"
    )


def _command(address: str, demands: Mapping[str, float]) -> str:
    """Return the command that starts a worker with these resources."""
    resources = " ".join(f"{name}=1" for name in demands)
    return f"dask worker {printable(address)}" + (f" --resources '{resources}'" if resources else "")


def _connect(address: str) -> Client:
    if not re.fullmatch(r"(?:[a-z]+://)?[^/\s]+:[0-9]+", address):
        raise RequestError(f"dask={address!r} must be the address of a scheduler, with its port: tls://host:8786")
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise RequestError(
            f"a Dask cluster needs {error.name}, which is not installed: {registry.install_command('dask')}"
        ) from None
    try:
        return Client(address, timeout=_PATIENCE, set_as_default=False, name="convspec")
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise RequestError(
            f"dask={address!r} must be the address of a reachable scheduler, e.g. tls://host:8786: {printable(error)}"
        ) from None


def _private(address: str) -> bool:
    """Return whether the connection to an address is encrypted or local."""
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


def common_versions(of_workers: Sequence[tuple[ClusterWorker, Mapping[str, str]]]) -> dict[str, str]:
    """Return the workers' versions, which are equal on all of them but for the build, for example ``+cpu``.

    Raises:
        RequestError: if a version differs.
    """
    common = {}
    for name in dict.fromkeys(name for _, own in of_workers for name in own):
        versions: dict[str, list[ClusterWorker]] = {}
        for worker, own in of_workers:
            versions.setdefault(own.get(name, "none"), []).append(worker)
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
    about["versions"] = common_versions([(w, w.inventory.environment["versions"]) for w in workers])
    kinds = Counter(repr(worker.kind(requests)) for worker in workers)
    first = {repr(worker.kind(requests)): worker.kind(requests) for worker in workers}
    about["workers"] = [{"count": count, **first[kind]} for kind, count in kinds.items()]
    return about

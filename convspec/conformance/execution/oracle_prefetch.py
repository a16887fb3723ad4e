"""Run the oracle ahead of the workers, in threads, within bounds on the arrays that are still in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from convspec.conformance.checks.expected import expected_bytes
from convspec.conformance.execution.shared_arrays import ArrayStore, Lease, SharedArrays
from convspec.conformance.trials.work_plan import Problem

_MOST = 256  # problems in use


class OraclePrefetch:
    """The problems of a run, each with the arrays that its units share.

    Args:
        wake: called, from any thread, when the arrays of a problem are ready.
        local: whether a worker computes the arrays of a problem that no other worker needs, which is cheaper than to
            share them.
    """

    def __init__(
        self, problems: Iterator[Problem], threads: int, capacity: int, wake: Callable[[], None], *, local: bool
    ) -> None:
        self._problems, self._capacity, self._wake, self._local = problems, capacity, wake, local
        self._ready: list[Problem] = []
        self._next = next(problems, None)
        self._store = ArrayStore(capacity)
        self._threads = ThreadPoolExecutor(threads, "oracle")
        self._in_use = self._bytes = self._serial = 0
        self.pending: dict[Future[SharedArrays], tuple[Problem, int]] = {}

    @property
    def unfinished(self) -> bool:
        """Whether problems remain that :meth:`ready` has not yielded yet."""
        return self._next is not None or bool(self.pending or self._ready)

    def fill(self, wanted: int) -> None:
        """Keep so many problems under way or ready, within the bounds; one may always run, however large."""
        while self._next is not None and len(self.pending) + len(self._ready) < wanted:
            local = self._local and not self._next.shared
            nbytes = 0 if local else expected_bytes(self._next.case, self._next.recipes)
            if self._in_use and (self._in_use >= _MOST or self._bytes + nbytes > self._capacity):
                return
            self._in_use += 1
            self._bytes += nbytes
            if local:
                self._ready.append(self._next)
            else:
                self._start(self._next, nbytes)
            self._next = next(self._problems, None)

    def _start(self, problem: Problem, nbytes: int) -> None:
        self._serial += 1
        future = self._threads.submit(self._store.put, self._serial, problem.case, problem.recipes)
        self.pending[future] = (problem, nbytes)
        future.add_done_callback(lambda _: self._wake())

    def ready(self) -> Iterator[tuple[Problem, Lease]]:
        """Yield each problem whose arrays are ready, or left to the worker, once."""
        while self._ready:
            yield self._ready.pop(0), Lease(SharedArrays(None), 1, 0)
        for future in [f for f in self.pending if f.done()]:
            problem, nbytes = self.pending.pop(future)
            yield problem, Lease(future.result(), len(problem.units), nbytes)

    def release(self, lease: Lease) -> None:
        """End one unit's use of its arrays; the last one frees them."""
        lease.users -= 1
        if lease.users == 0:
            self._store.drop(lease.arrays)
            self._in_use -= 1
            self._bytes -= lease.nbytes

    def close(self) -> None:
        """Stop the threads and remove all arrays."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._store.close()

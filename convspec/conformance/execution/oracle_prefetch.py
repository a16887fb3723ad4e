"""Runs the oracle ahead of the workers, in threads, within bounds on what is not used up yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from convspec.conformance.checks.expected import expected_bytes
from convspec.conformance.execution.shared_arrays import Bundle, Held, Store
from convspec.conformance.trials.work_plan import Problem

_BUNDLES = 256


class Feed:
    """The problems of a run, each with the bundle that its units share.

    ``ring`` is called, from some thread, whenever a bundle is ready. Where ``local`` is true, a worker that alone needs
    the data of a problem makes them itself: that is cheaper than any way to hand them over.
    """

    def __init__(
        self, problems: Iterator[Problem], threads: int, capacity: int, ring: Callable[[], None], *, local: bool
    ) -> None:
        self._problems, self._capacity, self._ring, self._local = problems, capacity, ring, local
        self._ready: list[Problem] = []
        self._next = next(problems, None)
        self._store = Store(capacity)
        self._threads = ThreadPoolExecutor(threads, "oracle")
        self._live = self._bytes = self._serial = 0
        self.pending: dict[Future[Bundle], tuple[Problem, int]] = {}

    @property
    def going(self) -> bool:
        """Whether there are problems that have not come out yet."""
        return self._next is not None or bool(self.pending or self._ready)

    def fill(self, wanted: int) -> None:
        """Start the oracle on so many problems, if the bounds allow; one may always run, however large."""
        while self._next is not None and len(self.pending) + len(self._ready) < wanted:
            local = self._local and not self._next.shared
            nbytes = 0 if local else expected_bytes(self._next.case, self._next.recipes)
            if self._live and (self._live >= _BUNDLES or self._bytes + nbytes > self._capacity):
                return
            self._live += 1
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
        future.add_done_callback(lambda _: self._ring())

    def come(self) -> Iterator[tuple[Problem, Held]]:
        """The problems whose bundles are ready."""
        while self._ready:
            yield self._ready.pop(0), Held(Bundle(None), 1, 0)
        for future in [f for f in self.pending if f.done()]:
            problem, nbytes = self.pending.pop(future)
            yield problem, Held(future.result(), len(problem.units), nbytes)

    def let_go(self, held: Held) -> None:
        """One unit needs its bundle no more; the last one removes it."""
        held.users -= 1
        if held.users == 0:
            self._store.drop(held.bundle)
            self._live -= 1
            self._bytes -= held.nbytes

    def close(self) -> None:
        """Stop the threads and remove every bundle."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._store.close()

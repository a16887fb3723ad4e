"""Runs the oracle ahead of the workers, in threads, within bounds on what is not used up yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from convspec.conformance.bundles import Bundle, Held, Store, expected_bytes
from convspec.conformance.units import Problem

_BUNDLES = 256
_PENDING = 16


class Feed:
    """The problems of a run, each with the bundle that its units share.

    ``ring`` is called, from some thread, whenever a bundle is ready.
    """

    def __init__(self, problems: Iterator[Problem], threads: int, capacity: int, ring: Callable[[], None]) -> None:
        self._problems, self._capacity, self._ring = problems, capacity, ring
        self._next = next(problems, None)
        self._store = Store(capacity)
        self._threads = ThreadPoolExecutor(threads, "oracle")
        self._live = self._bytes = self._serial = 0
        self.pending: dict[Future[Bundle], tuple[Problem, int]] = {}

    @property
    def going(self) -> bool:
        """Whether there are problems that have not come out yet."""
        return self._next is not None or bool(self.pending)

    def fill(self) -> None:
        """Start the oracle on as many problems as the bounds allow; one may always run, however large."""
        while self._next is not None:
            recipes = self._next.recipes
            nbytes = expected_bytes(self._next.case, recipes)
            full = len(self.pending) >= _PENDING or self._live >= _BUNDLES or self._bytes + nbytes > self._capacity
            if full and self._live:
                return
            self._serial += 1
            self._live += 1
            self._bytes += nbytes
            future = self._threads.submit(self._store.put, self._serial, self._next.case, recipes)
            self.pending[future] = (self._next, nbytes)
            future.add_done_callback(lambda _: self._ring())
            self._next = next(self._problems, None)

    def come(self) -> Iterator[tuple[Problem, Held]]:
        """The problems whose bundles are ready."""
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

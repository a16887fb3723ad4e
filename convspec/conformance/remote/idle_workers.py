"""Workers between two chunks of work: starting a framework takes longer than most chunks."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from convspec.conformance.execution.worker_handle import Worker
from convspec.conformance.trials.work_plan import Target

_SECONDS = 60.0
_SPARE = 2

Key = tuple[Target, int, int | None]


@dataclass(frozen=True, slots=True)
class _Idle:
    key: Key
    worker: Worker
    timer: threading.Timer


class Kept:
    """The idle workers of this process, each for a minute; no more than there are chunks under way, and two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._under_way = 0

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """A chunk is under way."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def put(self, key: Key, worker: Worker) -> None:
        """Keep a worker; the oldest makes room where there are too many."""
        timer = threading.Timer(_SECONDS, self._drop, (worker,))
        timer.daemon = True
        with self._lock:
            self._idle.append(_Idle(key, worker, timer))
            much = max(0, len(self._idle) - self._under_way - _SPARE)
            ended, self._idle = self._idle[:much], self._idle[much:]
        timer.start()
        _end(ended)

    def take(self, key: Key) -> Worker | None:
        """A worker that is alive; it belongs to the caller from now on.

        Where there is none, those of other targets on the same device end: two frameworks at a time would want all
        of its memory.
        """
        while True:
            with self._lock:
                entry = next((e for e in reversed(self._idle) if e.key == key), None)
                if entry is None:
                    others = [e for e in self._idle if e.key[0].device == key[0].device != "cpu"]
                    self._idle = [e for e in self._idle if e not in others]
                    break
                self._idle.remove(entry)
            entry.timer.cancel()
            if not entry.worker.dead():
                return entry.worker
            entry.worker.end()
        _end(others)
        return None

    def processes(self) -> list[int]:
        """Those of the idle workers."""
        return [entry.worker.process for entry in self._idle]

    def _drop(self, worker: Worker) -> None:
        with self._lock:
            mine = [entry for entry in self._idle if entry.worker is worker]
            self._idle = [entry for entry in self._idle if entry.worker is not worker]
        _end(mine)

    def clear(self) -> None:
        """End them all."""
        with self._lock:
            ended, self._idle = self._idle, []
        _end(ended)


def _end(entries: list[_Idle]) -> None:
    for entry in entries:
        entry.timer.cancel()
        entry.worker.end()


KEPT = Kept()
atexit.register(KEPT.clear)

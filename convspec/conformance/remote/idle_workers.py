"""Idle workers, kept between two chunks of work: to start a framework takes longer than most chunks."""

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


class IdleWorkers:
    """The idle workers of this process, each for a minute; at most two more than chunks are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._under_way = 0

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count a chunk as under way."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def put(self, key: Key, worker: Worker) -> None:
        """Keep a worker; if there are too many, the oldest ends."""
        timer = threading.Timer(_SECONDS, self._drop, (worker,))
        timer.daemon = True
        with self._lock:
            self._idle.append(_Idle(key, worker, timer))
            surplus = max(0, len(self._idle) - self._under_way - _SPARE)
            ended, self._idle = self._idle[:surplus], self._idle[surplus:]
        timer.start()
        _end(ended)

    def take(self, key: Key) -> Worker | None:
        """Return a living worker for the key, or None; it then belongs to the caller.

        If none is left, workers of other targets on the same device end: two frameworks would compete for its memory.
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
            if not entry.worker.dead:
                return entry.worker
            entry.worker.end()
        _end(others)
        return None

    def processes(self) -> list[int]:
        """Return the process numbers of the idle workers."""
        return [entry.worker.process for entry in self._idle]

    def _drop(self, worker: Worker) -> None:
        with self._lock:
            dropped = [entry for entry in self._idle if entry.worker is worker]
            self._idle = [entry for entry in self._idle if entry.worker is not worker]
        _end(dropped)

    def clear(self) -> None:
        """End all."""
        with self._lock:
            ended, self._idle = self._idle, []
        _end(ended)


def _end(entries: list[_Idle]) -> None:
    for entry in entries:
        entry.timer.cancel()
        entry.worker.end()


IDLE_WORKERS = IdleWorkers()
atexit.register(IDLE_WORKERS.clear)

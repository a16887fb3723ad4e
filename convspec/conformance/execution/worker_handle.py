"""A worker as the runner sees it: a process with its keeper, a pipe to it, a pipe from it, and its last words."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from convspec.conformance.execution import messages as protocol
from convspec.contract.isolation import child_process, memory_limit

if TYPE_CHECKING:
    from convspec.conformance.checks.checks import Outcome
    from convspec.conformance.execution.shared_arrays import Held
    from convspec.conformance.trials.work_plan import Target, Unit

_THREAD_SETTINGS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip
# Arrays of some megabytes come and go with every layer: kept by the allocator of the GNU C library, not given back to
# the system, which would clear their pages each time; measured: 10 to 20 % of a worker's time.
_KEPT_BY_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 29)}
_DECODER = json.JSONDecoder()
_STDERR_LIMIT = 1 << 20
_ROOM = 1 << 15  # bytes, of the 65,536 that a pipe holds
_LOOK = 0.1  # seconds between looks at its memory
_LAST_WORDS = 5
_ORACLE = 600.0
_STOPPING = 5.0  # seconds that a keeper has to end everything


@dataclass(frozen=True, slots=True)
class Job:
    """A unit and the bundle that it needs; ``first`` is how it ended before, where it is a suspect that runs alone."""

    unit: Unit
    held: Held
    first: Outcome | None = None

    @property
    def grace(self) -> float:
        """Seconds that the worker may take for the data, where it makes them itself."""
        return _ORACLE if self.held.bundle.path is None else 0.0


class Worker:
    """One child process and the units that it has been sent as jobs, the first of which it is working on.

    ``allowed`` are the bytes of memory that it may take, ``cores`` those that it may use if it has some of its own;
    ``deadline`` is when the next message must have come, ``patience`` how long that was from the one before.
    """

    def __init__(
        self, target: Target, threads: int, patience: float, allowed: int | None, cores: tuple[int, ...] = ()
    ) -> None:
        self.target, self.cores = target, cores
        self.jobs: deque[Job] = deque()
        self._sizes: deque[int] = deque()  # bytes of their messages
        self.done = 0  # verdicts received for the first job
        self.given = False  # whether it has the data of the first job, where it makes them itself
        self.served = 0  # and for all jobs
        self.began = 0.0  # when it turned to the first of the jobs whose end has not been seen
        self.ended = 0  # jobs that ended since
        self.process = 0  # of the worker itself, once it is ready
        self._weighed = 0.0  # when its memory was looked at
        self.started = time.monotonic()
        self.allow(patience)
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 – closed with the worker
        flags = fcntl.fcntl(self._stderr, fcntl.F_GETFL)
        fcntl.fcntl(self._stderr, fcntl.F_SETFL, flags | os.O_APPEND)
        self._process = subprocess.Popen(
            child_process.command("convspec.conformance.execution.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_environment(threads),
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._replies = self._process.stdout.fileno()
        os.set_blocking(self._replies, False)
        self._partial = b""
        opening = {"target": protocol.target_to_json(target), "threads": threads, "memory": allowed, "cores": cores}
        self._send(protocol.line(opening))

    def fileno(self) -> int:
        return self._replies

    @property
    def ready(self) -> bool:
        """Whether it has started and waits for jobs, or is at one."""
        return self.process > 0

    def allow(self, patience: float) -> None:
        """The next message must come within so many seconds."""
        self.patience = patience
        self.deadline = time.monotonic() + patience

    @property
    def room(self) -> bool:
        """Whether another job's message surely fits into its pipe: a runner that waits to write does not read."""
        return sum(self._sizes) < _ROOM

    def give(self, job: Job) -> None:
        """Send it a job, behind those that it has."""
        line = protocol.line(protocol.unit_to_json(job.unit, job.held.bundle))
        self.jobs.append(job)
        self._sizes.append(len(line))
        self._send(line)

    def finish(self) -> None:
        """Take its first job off: every verdict has come."""
        self.jobs.popleft()
        self._sizes.popleft()
        self.ended += 1
        self.done, self.given = 0, False

    def _send(self, line: bytes) -> None:
        """Send a message; a worker that is dead already shows that when it is read from."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
        except BrokenPipeError:
            return

    def receive(self) -> tuple[list[Any], bool]:
        """The messages that have come, and whether the worker is gone."""
        gone = self._process.poll() is not None  # asked first: what a dead worker wrote is all in the pipe
        chunks = [self._partial]
        while True:
            try:
                chunk = os.read(self._replies, 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                gone = True
                break
            chunks.append(chunk)
        whole, end, self._partial = b"".join(chunks).rpartition(b"\n")
        messages = []
        for line in whole.decode(errors="replace").split("\n") if end else ():
            try:
                messages.append(_DECODER.decode(line))
            except ValueError:  # something else wrote into the pipe: what follows cannot be trusted
                return messages, True
        return messages, gone

    def dead(self) -> bool:
        """Whether the process has ended, even where something that it started keeps the pipe open."""
        return self._process.poll() is not None

    def outgrown(self, nbytes: int) -> bool:
        """Whether it holds more memory, as far as a look now and then tells."""
        now = time.monotonic()
        if now < self._weighed + _LOOK:
            return False
        self._weighed = now
        return memory_limit.held(self.process) > nbytes

    def quiet(self) -> None:
        """Forget what was printed so far, where it has grown large."""
        if os.fstat(self._stderr.fileno()).st_size > _STDERR_LIMIT:
            os.ftruncate(self._stderr.fileno(), 0)

    def last_words(self) -> str:
        """The last lines that the worker or its framework printed."""
        size = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), 4096, max(size - 4096, 0)).decode(errors="replace")
        return "\n".join([line.rstrip() for line in tail.splitlines() if line.strip()][-_LAST_WORDS:])

    def stop(self) -> None:
        """Tell the keeper to end the worker and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def end(self, patience: float = 0.0) -> str:
        """End the worker and everything that it started; how it had ended by itself, if it had: ``"SIGSEGV"``."""
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
            self.stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOPPING)
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()
        return ended(code)


def ended(code: int | None) -> str:
    """How a process ended: its exit status, or the signal that killed it."""
    if code is None:
        return "killed"
    if code == memory_limit.EXIT_STATUS:
        return "memory"
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _environment(threads: int) -> dict[str, str]:
    """The runner's environment with its import path, and with the number of threads that a worker may use."""
    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 – "" means the current folder
    return {
        **_KEPT_BY_ALLOCATOR,
        **os.environ,
        **dict.fromkeys(_THREAD_SETTINGS, str(threads)),
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
    }

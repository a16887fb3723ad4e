"""A child process that answers requests: one JSON value per line in both directions, with deadlines."""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from convspec.contract.isolation import memory_limit
from convspec.contract.isolation.fork_server import ForkedProcess, fork
from convspec.errors import printable

_MAIN, _SERVER = "convspec.contract.isolation.child", "convspec.contract.isolation.fork_server"
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip
# Every layer allocates and frees arrays of some megabytes. The allocator of the GNU C library keeps them instead of
# returning them to the system, which would clear their pages each time; measured: 10 to 20 % of a worker's time.
_KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 29)}
_PATIENCE = 5.0  # seconds for a reaper to end everything
_LONGEST = 1 << 26  # bytes of a message
_STDERR_LIMIT = 1 << 20


class ChildError(Exception):
    """A child process gives no answer; the message says why: it is late, has ended, or wrote something else."""


class ChildTimeout(ChildError):
    """A child process does not answer in time."""


class ChildProcess:
    """A process of this Python that runs ``serve(requests, replies)`` of a module.

    It ends, with everything that it started, at the latest with this object or this process, however the latter ends.
    ``folder`` is for files that both exchange, and is removed at the end.

    Args:
        threads: for the libraries that take their number of threads from the environment; None leaves that alone.
        environment: further variables.
        prefix: how the folder's name begins.
    """

    def __init__(
        self, module: str, threads: int | None = None, environment: Mapping[str, str] | None = None,
        prefix: str = "convspec",
    ) -> None:  # fmt: skip
        self.folder = Path(tempfile.gettempdir()) / f"{prefix}-{os.getpid()}-{os.urandom(8).hex()}"
        self._stderr = _appended_file()
        variables = {**_KEEP_PAGES, **os.environ, **_variables(threads), **(environment or {})}
        self._process, self._requests, self._replies = _start(module, self.folder, variables, self._stderr)
        os.set_blocking(self.fileno(), False)
        self._partial, self._garbled = b"", False
        self._arrived: deque[Any] = deque()
        self._close = weakref.finalize(
            self, _end, os.getpid(), self._process, (self._requests, self._replies, self._stderr), self.folder
        )
        try:
            self.folder.mkdir(0o700)  # now that there is a process which removes it if this one is killed
        except OSError:
            self._close()
            raise

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def fileno(self) -> int:
        return self._replies.fileno()

    @property
    def dead(self) -> bool:
        """Whether the process has ended, even if a process that it started keeps the pipe open."""
        return not self._close.alive or self._process.poll() is not None

    def send(self, message: Any) -> int:
        """Send a message and return its size in bytes; a dead process shows when it is read from."""
        data = encode(message)
        with suppress(BrokenPipeError):
            send(self._requests.fileno(), data)
        return len(data)

    def receive(self) -> tuple[list[Any], bool]:
        """Return the messages that have arrived, and whether no further one can be trusted or expected."""
        if self._garbled:
            return [], True
        ended = self._process.poll() is not None  # polled first: then the pipe has everything that it wrote
        chunks, size = [self._partial], len(self._partial)
        with suppress(BlockingIOError):
            while size <= _LONGEST:
                chunk = os.read(self.fileno(), 1 << 16)
                if not chunk:
                    ended = True
                    break
                chunks.append(chunk)
                size += len(chunk)
        lines, end, self._partial = b"".join(chunks).rpartition(b"\n")
        messages: list[Any] = []
        for line in lines.decode(errors="replace").split("\n") if end else ():
            try:
                messages.append(_DECODER.decode(line))
            except (ValueError, RecursionError):  # something else wrote into the pipe
                self._garbled = True
                break
        return messages, ended or self._garbled or len(self._partial) > _LONGEST

    def next(self, seconds: float, total: float | None = None) -> Any:
        """Return the next message.

        Raises:
            ChildTimeout: if none arrives within so many seconds (``total`` is the number in the message).
            ChildError: if the process has ended, or what it wrote is not JSON.
        """
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            while not self._arrived:
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    raise ChildTimeout(f"no answer within {seconds if total is None else total:g} s")
                messages, ended = self.receive()
                self._arrived += messages
                if ended and not messages:
                    raise ChildError(self._failure())
        return self._arrived.popleft()

    def ask(self, message: Any, seconds: float) -> Any:
        """Send a message and return its answer; raises as :meth:`next` does."""
        self.send(message)
        answer = self.next(seconds)
        if self._arrived:
            raise ChildError("the process answered with nonsense")
        return answer

    def messages(self, seconds: float) -> Iterator[Any]:
        """Yield every message; the process may take so many seconds for all, the caller's own time excluded.

        Raises:
            ChildError: as :meth:`next`; the caller stops at the message that it knows to be the last.
        """
        left = seconds
        while True:
            began = time.monotonic()
            message = self.next(left, seconds)
            left -= time.monotonic() - began
            yield message

    def _failure(self) -> str:
        if self._garbled:
            return "the process answered with nonsense"
        if len(self._partial) > _LONGEST:
            return f"the process answered with more than {_LONGEST >> 20} MiB"
        ending, words = self._ending(_PATIENCE), self.last_words(1)
        if ending == "killed":
            return "the process closed its pipe"
        return f"the process ended with {ending}" + (f": {words}" if words else "")

    def last_words(self, most: int = 5) -> str:
        """Return the last lines that the process printed."""
        size = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), 4096, max(size - 4096, 0)).decode(errors="replace")
        lines = [printable(line.rstrip(), 1000) for line in tail.splitlines() if line.strip()]
        return "\n".join(lines[-most:])

    def forget_words(self) -> None:
        """Drop what was printed so far if it is large."""
        if os.fstat(self._stderr.fileno()).st_size > _STDERR_LIMIT:
            os.ftruncate(self._stderr.fileno(), 0)

    def stop(self) -> None:
        """Have the reaper end the process and everything that it started; does not wait."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def end(self, patience: float = 0.0) -> str:
        """End the process and everything that it started.

        Returns:
            How it ended by itself within ``patience`` seconds (``"SIGSEGV"``), or ``"killed"``.
        """
        ending = self._ending(patience)
        self._close()
        return ending

    def _ending(self, patience: float) -> str:
        try:
            status = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return "killed"
        if status == memory_limit.EXIT_STATUS:
            return "memory"
        if status >= 0:
            return f"exit status {status}"
        with suppress(ValueError):
            return signal.Signals(-status).name
        return f"signal {-status}"


def _appended_file() -> IO[bytes]:
    """Return a file without a name, to which every write appends, as it may be cut while the child writes."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 – its owner closes it
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def _start(
    module: str, folder: Path, environment: Mapping[str, str], stderr: IO[bytes]
) -> tuple[subprocess.Popen[bytes] | ForkedProcess, IO[bytes], IO[bytes]]:
    """Return the process, and the pipes of its requests and replies."""
    (its_requests, requests), (replies, its_replies) = os.pipe(), os.pipe()
    files = its_requests, its_replies, stderr.fileno()
    try:
        try:
            process: subprocess.Popen[bytes] | ForkedProcess = fork(module, environment, str(folder), files)
        except OSError:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MAIN, str(os.getpid()), str(folder), module],
                stdin=its_requests, stdout=its_replies, stderr=stderr, start_new_session=True, env=environment,
            )  # fmt: skip
    except BaseException:
        os.close(requests)
        os.close(replies)
        raise
    finally:
        os.close(its_requests)
        os.close(its_replies)
    return process, os.fdopen(requests, "wb", buffering=0), os.fdopen(replies, "rb", buffering=0)


def _end(
    owner: int, process: subprocess.Popen[bytes] | ForkedProcess, pipes: Sequence[IO[bytes]], folder: Path
) -> None:
    """Have the reaper end everything, and release what the parent holds."""
    if os.getpid() != owner:  # a fork of the parent
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    process.kill()
    process.wait()
    for pipe in pipes:
        pipe.close()
    shutil.rmtree(folder, ignore_errors=True)


def _variables(threads: int | None) -> dict[str, str]:
    """Return the import path of this process, and the settings for so many threads."""
    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 – "" means the current folder
    counts = {} if threads is None else dict.fromkeys(_THREADS, str(threads))
    return {**counts, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


# -- both sides --------------------------------------------------------------------------------------------------------


def encode(message: Any) -> bytes:
    """Return a message as a line of JSON; NaN and infinities as JavaScript writes them, NumPy's values as Python's."""
    return _ENCODER.encode(message).encode() + b"\n"


def send(descriptor: int, data: bytes) -> None:
    """Write all data, however little the pipe takes at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


def _python_value(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_python_value)
_DECODER = json.JSONDecoder()


def in_child() -> bool:
    """Return whether this process is the child of a :class:`ChildProcess`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name in (_MAIN, _SERVER)


def alive(process: int) -> bool:
    """Return whether a process of this number exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists, and belongs to another user
        return True
    return True

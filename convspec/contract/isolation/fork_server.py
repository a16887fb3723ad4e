"""Children forked from a process that has imported NumPy and convspec: ready in milliseconds instead of 0.15 s.

``python -P -m convspec.contract.isolation.fork_server PARENT`` waits for requests on the socket that is its standard
input, imports the module of each once, and forks. It serves modules of the core alone, which import no framework. It
ends with its parent, and its children's reapers end with it. Linux only: elsewhere children are started one by one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

_LOOK = 1.0  # seconds between looks at the parent: a fork of it may hold the socket open
_MOST = 3  # servers that a process keeps
_PATIENCE = 5.0
_CORE = "convspec."
_AT_START = re.compile("^(PYTHON|LD_|MALLOC_|GLIBC_|NPY_)|_THREADS$")  # variables that are read before the fork


class ForkedProcess:
    """A child of a server; like ``subprocess.Popen`` as far as it goes."""

    def __init__(self, server: ForkServer, request: Mapping[str, Any], files: Sequence[int]) -> None:
        self.returncode: int | None = None
        self._server, self._words = server, b""
        self._pipe, status = os.pipe()
        self._close = weakref.finalize(self, os.close, self._pipe)
        folder = os.open(".", os.O_PATH | os.O_DIRECTORY)
        try:
            server.send(self, request, [*files, folder, status])
        except OSError:
            self._close()
            raise
        finally:
            os.close(folder)
            os.close(status)

    def poll(self) -> int | None:
        """Return how it ended, as ``Popen`` does; None while it runs."""
        self._read(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended.

        Raises:
            subprocess.TimeoutExpired: if it runs on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if end is None else max(end - time.monotonic(), 0.0)
            if not self._read(left):
                raise subprocess.TimeoutExpired("fork", timeout or 0.0)
        return self.returncode

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the reaper; or the server, if it does not tell within seconds that the reaper has ended."""
        self._signal(signal.SIGKILL)
        try:
            self.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._server.kill()

    @property
    def pid(self) -> int:
        """The number of the reaper; 0 if the server has ended without an answer."""
        end = time.monotonic() + _PATIENCE
        while self.returncode is None and not self._words and time.monotonic() < end:
            self._read(end - time.monotonic())
        return int((self._words.split() or [b"0"])[0])

    def _signal(self, number: int) -> None:
        if self.poll() is None and (pid := self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _read(self, seconds: float | None) -> bool:
        """Take in what the server says of this child within so many seconds: its number, and how it ended."""
        if self.returncode is not None:
            return True
        if not select.select([self._pipe], [], [], seconds)[0]:
            return False
        words = os.read(self._pipe, 64)
        self._words += words
        numbers = self._words.split()
        if len(numbers) == 2 and self._words.endswith(b"\n"):
            self.returncode = int(numbers[1])
        elif not words:  # the server was killed, and its children with it
            self.returncode = -signal.SIGKILL
        if self.returncode is not None:
            self._close()
        return True


class ForkServer:
    """The parent's side of one server."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, "-P", "-m", "convspec.contract.isolation.fork_server", str(os.getpid())]
            self._process = subprocess.Popen(
                command, stdin=its.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                start_new_session=True, env=dict(environment),
            )  # fmt: skip
        self._socket = ours
        self._children: weakref.WeakSet[ForkedProcess] = weakref.WeakSet()
        self.close = weakref.finalize(self, _close, os.getpid(), ours, self._process)

    @property
    def alive(self) -> bool:
        return self.close.alive and self._process.poll() is None

    @property
    def idle(self) -> bool:
        """Whether all its children have ended."""
        return all(child.poll() is not None for child in self._children)

    def kill(self) -> None:
        """Kill it; its children's reapers end with it."""
        self._process.kill()

    def send(self, child: ForkedProcess, request: Mapping[str, Any], files: Sequence[int]) -> None:
        """Have it fork: ``files`` are the child's standard ones, its folder, and where its end is told."""
        self._children.add(child)
        data = json.dumps(request).encode()
        socket.send_fds(self._socket, [len(data).to_bytes(4, "big") + data], list(files))


def _close(owner: int, connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """End a server once its children have ended."""
    connection.close()
    if os.getpid() != owner:  # a fork of the parent, which has no such child
        process.returncode = 0
    else:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)


_servers: dict[Any, ForkServer] = {}  # the last one used at the end
_lock = threading.Lock()


def fork(module: str, environment: Mapping[str, str], folder: str, files: Sequence[int]) -> ForkedProcess:
    """Return a child that serves a module of the core; ``files`` are its standard ones.

    Raises:
        OSError: if no server can be had: the caller starts the child in another way.
    """
    if sys.platform != "linux" or not module.startswith(_CORE):
        raise OSError("no server forks this module here")
    key = os.getpid(), *sorted((name, value) for name, value in environment.items() if _AT_START.search(name))
    with _lock:
        server = _servers.pop(key, None)
        if server is None or not server.alive:
            server = ForkServer(environment)
        _servers[key] = server
        for other in [k for k, one in list(_servers.items())[:-_MOST] if k[0] != os.getpid() or one.idle]:
            _servers.pop(other).close()
        return ForkedProcess(server, {"arguments": [folder, module], "environment": dict(environment)}, files)


# -- the server's side -------------------------------------------------------------------------------------------------


def main() -> None:
    parent = int(sys.argv[1])
    socket_ = os.dup(0)
    connection = socket.socket(fileno=socket_)
    waker, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    importlib.import_module("convspec.contract.isolation.child")
    told: dict[int, int] = {}
    open_ = True
    while open_ or told:
        ready = select.select([waker, *[socket_] * open_], [], [], _LOOK)[0]
        if os.getppid() != parent:
            break
        if waker in ready:
            os.read(waker, 1 << 10)
        _tell(told)
        if socket_ in ready:
            open_ = _serve(connection, told)
    os._exit(0)


def _tell(told: dict[int, int]) -> None:
    """Tell how children ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pipe = told.pop(ended[0])
            with contextlib.suppress(OSError):
                os.write(pipe, b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
            os.close(pipe)


def _serve(connection: socket.socket, told: dict[int, int]) -> bool:
    """Fork a child, and tell its number; False once the parent has closed the socket."""
    head, files, _, _ = socket.recv_fds(connection, 4, 8)
    if not head:
        return False
    data = b""
    while left := int.from_bytes(head, "big") - len(data):
        if not (more := connection.recv(left)):  # the parent was killed while it wrote
            return False
        data += more
    request = json.loads(data)
    with contextlib.suppress(Exception):  # the child imports it again, and says why it cannot be
        importlib.import_module(request["arguments"][1])
    gc.freeze()
    server, pid = os.getpid(), _fork()
    if not pid:
        _become(server, request, files)
    *others, told[pid] = files
    with contextlib.suppress(OSError):
        os.write(told[pid], b"%d " % pid)
    for other in others:
        os.close(other)
    return True


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: those of NumPy's library survive a fork
        return os.fork()


def _become(server: int, request: dict[str, Any], files: list[int]) -> None:
    """Become the child that ``python -m convspec.contract.isolation.child ARGUMENTS`` is."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for number, file in enumerate(files[:3]):
            os.dup2(file, number)
        os.fchdir(files[3])
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv[1:] = [str(server), *request["arguments"]]
        from convspec.contract.isolation import child

        child.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 – nothing may return into the server
        traceback.print_exc()
    os._exit(status)


if __name__ == "__main__":
    main()

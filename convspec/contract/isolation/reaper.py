"""The parent of a worker: it outlives neither the runner nor the worker, and leaves nothing that the worker started.

``runner → keeper → worker → whatever a framework starts``. The kernel kills a process with the one that started it only
where that was asked for by the process itself, and a framework's children do not ask. The keeper waits for the
worker's end, the runner's end and the runner's order to stop; descendants that lose their parent become its own
children (Linux), wherever they moved in the meantime, so it can end them all. It ends as the worker did.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGALRM)
_LOOK = 1.0  # seconds between looks at the runner, where the kernel does not tell of its end
_PATIENCE = 3.0
_DEATH_SIGNAL, _SUBREAPER = 1, 36  # of prctl(2)


def keep(runner: int) -> None:
    """Split in two before any thread is there: the child returns, to be the worker; the parent stays as its keeper."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    _ask_kernel(_SUBREAPER, 1)
    _ask_kernel(_DEATH_SIGNAL, signal.SIGTERM)
    keeper, worker = os.getpid(), os.fork()
    if worker:
        _stay(worker, runner)
    os.setsid()
    _ask_kernel(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != keeper:  # it went before we asked
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _stay(worker: int, runner: int) -> None:
    """Wait for what comes first, end everything, and end as the worker did."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):  # the pipes are the worker's alone: their ends shall show
        os.dup2(nothing, descriptor)
    signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
    status = None
    while status is None and os.getppid() == runner:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:
            break
        status = _ending(worker)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing of its session is left
        os.killpg(worker, signal.SIGKILL)
    _end_children()
    _end_as(status)


def _ending(worker: int) -> int | None:
    """How the worker ended, if it did; adopted children that ended are forgotten."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            status = found[1] if found[0] == worker else status
    return status


def _end_children() -> None:
    """Kill every child until there is none: those of a child that is gone become ours."""
    end = time.monotonic() + _PATIENCE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            for child in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.005)


def _children() -> list[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(child) for child in found.read_text("ascii").split()] if found.exists() else []


def _end_as(status: int | None) -> None:
    if status is not None and os.WIFSIGNALED(status):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os._exit(0 if status is None else os.waitstatus_to_exitcode(status) & 0xFF)


def _ask_kernel(request: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(request, value, 0, 0, 0)

"""The main module of every child process: ``python -P -m convspec.contract.isolation.child PARENT FOLDER MODULE``.

It forks the reaper, redirects what frameworks print from standard output to standard error, and calls
``serve(requests, replies)`` of the module. It imports nothing that starts a thread before the fork.

The reaper ends everything that the child started, when the child or the parent ends:
``parent → reaper → child → whatever a framework starts``. The kernel kills a process with its parent only if the
process itself has asked for it, and a framework's children do not ask. The reaper waits for the end of the child, the
end of the parent, or the parent's SIGTERM. Descendants that lose their parent become its own children (Linux), even
from another session, so it can end them all. It ends as the child did.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from pathlib import Path

_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGALRM)
_LOOK = 1.0  # seconds between looks at the parent, for systems whose kernel does not report its end
_PATIENCE = 3.0
_DEATH_SIGNAL, _NAME, _SUBREAPER = 1, 15, 36  # of prctl(2)


def main() -> None:
    """Serve until the pipe is closed or the parent has ended."""
    parent, folder, module = sys.argv[1:]
    _prctl(_NAME, module.rpartition(".")[2].encode())  # for ps and top: "worker"
    _fork_reaper(int(parent), folder)
    replies = os.dup(1)
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _forbid_core_dumps()
    importlib.import_module(module).serve(requests, replies)
    os._exit(0)  # threads and destructors of frameworks have hung or aborted at the interpreter's exit


def _fork_reaper(parent: int, folder: str) -> None:
    """Fork before any thread exists: the child returns; its parent becomes the reaper and never returns.

    The reaper removes ``folder``, as the parent may be killed before it does.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    _prctl(_SUBREAPER, 1)
    _prctl(_DEATH_SIGNAL, signal.SIGTERM)
    reaper, child = os.getpid(), os.fork()
    if child:
        _reap(child, parent, folder)
    os.setsid()
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != reaper:  # the reaper ended before the request above
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _reap(child: int, parent: int, folder: str) -> None:
    """Wait for the first of the three ends, kill every descendant, and end as the child did."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):  # only the child holds the pipes, so that they close with it
        os.dup2(null, descriptor)
    signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
    status = None
    while status is None and os.getppid() == parent:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:
            break
        status = _wait_status(child)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # its session is empty already
        os.killpg(child, signal.SIGKILL)
    _kill_children()
    import shutil  # now: the child must not pay for it

    shutil.rmtree(folder, ignore_errors=True)
    _end_as(status)


def _wait_status(child: int) -> int | None:
    """Return the child's wait status if it has ended; ended descendants are reaped as well."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            status = ended[1] if ended[0] == child else status
    return status


def _kill_children() -> None:
    """Kill children until none is left: the children of a killed one become the reaper's."""
    end = time.monotonic() + _PATIENCE
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            for child in children.read_text("ascii").split() if children.exists() else ():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(child), signal.SIGKILL)
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.005)


def _end_as(status: int | None) -> None:
    if status is not None and os.WIFSIGNALED(status):
        _forbid_core_dumps()
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os._exit(0 if status is None else os.waitstatus_to_exitcode(status) & 0xFF)


def _forbid_core_dumps() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _prctl(request: int, value: int | bytes) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(request, value, 0, 0, 0)


if __name__ == "__main__":
    main()

"""Python programs that start in milliseconds: forked from a process that has imported what they import.

:class:`Program` is a process like any other: a child of this one, with its own files, folder, variables and group.
:func:`python` is the same for a line of the shell. A program whose variables an interpreter reads at its start, or that
is to be started in a way of its own, gets an interpreter of its own.
"""

import atexit
import ctypes
import inspect
import marshal
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import types
import uuid
from pathlib import Path

FOLDER = Path(__file__).parent
COMMAND = (  # what the commands import, some of it when they need it
    "convspec.cli.app", "convspec.cli.terminal", "convspec.cli.reports.run_terminal", "convspec.conformance.journal",
    "convspec.conformance.runner", "convspec.contract.isolation", "convspec.layers.translation",
    "convspec.reference.verdict", "importlib.metadata", "numpy.typing", "packaging.requirements",
    "pydantic.plugin._loader", "typer._adapters", "typer.rich_utils", "xml.etree.ElementTree",
)  # fmt: skip
CLUSTER = (*COMMAND, "distributed.cli.dask_scheduler", "distributed.cli.dask_worker")
_AT_START = re.compile("^(PYTHON(?!PATH$|UNBUFFERED$)|LD_|LC_|LANG|MALLOC_|GLIBC_|NPY_|COVERAGE|DASK_)|_THREADS$")
_SUBREAPER = 36  # of prctl(2)
_LIBC, _lock = ctypes.CDLL(None), threading.Lock()
_CALL = inspect.signature(subprocess.Popen._execute_child)
_servers = {}


class _Server:
    """A process that has imported some modules, and forks."""

    def __init__(self, modules, variables):
        self.variables, self.address = variables, f"\0convspec-tests-{uuid.uuid4().hex}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(64)
            path = os.pathsep.join(filter(None, sys.path))
            self._process = subprocess.Popen(
                [sys.executable, FOLDER / "server.py", str(os.getpid()), path, *modules], stdin=listener.fileno(),
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self.end)

    def end(self):
        self._process.kill()
        self._process.wait()

    def start(self, request, files):
        """Return the number of a new child of this process."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.address)
            data = marshal.dumps(request)
            socket.send_fds(connection, [len(data).to_bytes(4, "big") + data], files)
            return int(connection.recv(16))


def server(modules=COMMAND):
    """Return this process' server of these modules; a new one where it began with other variables."""
    key, variables = (os.getpid(), modules), at_start(os.environ)
    if key in _servers and _servers[key].variables != variables:
        _servers.pop(key).end()
    if key not in _servers:
        _servers[key] = _Server(modules, variables)
    return _servers[key]


def at_start(environment):
    """Return the variables that an interpreter, or Dask, reads at its start."""
    return {name: value for name, value in environment.items() if _AT_START.search(name)}


def _is_odd(environment):
    """Return whether a program with these variables needs an interpreter of its own, as any does but on Linux."""
    return sys.platform != "linux" or at_start(environment) != at_start(os.environ)


class Program(subprocess.Popen):
    """``python WORDS``: a module by ``-m``, or the code after ``-c``; ``modules`` are imported already.

    Args:
        any_variables: whether those that are read at the start do not matter.
    """

    def __init__(self, *words, modules=COMMAND, any_variables=False, **options):
        self._modules, self._any = modules, any_variables
        super().__init__([sys.executable, *map(str, words)], **options)

    def _execute_child(self, *given):
        call = _CALL.bind(self, *given).arguments
        environment = os.environ if call["env"] is None else call["env"]
        odd = any(call[name] for name in ("preexec_fn", "pass_fds", "shell", "gid", "gids", "uid"))
        odd = odd or not call["close_fds"] or max(call["umask"], call["process_group"]) >= 0
        if odd or (_is_odd(environment) and not self._any):
            return super()._execute_child(*given)
        request = {
            "words": call["args"][1:], "environment": dict(environment), "folder": str(call["cwd"] or Path.cwd()),
            "session": call["start_new_session"], "parent": os.getpid(),
        }  # fmt: skip
        given_files = call["p2cread"], call["c2pwrite"], call["errwrite"]
        files = [number if file == -1 else file for number, file in enumerate(given_files)]
        with _lock:
            _LIBC.prctl(_SUBREAPER, 1, 0, 0, 0)  # the server's fork ends at once, and its child is ours then
            try:
                self.pid = server(self._modules).start({**request, "files": (0, 1, 2)}, files)
            finally:
                _LIBC.prctl(_SUBREAPER, 0, 0, 0, 0)
        self._child_created = True
        names = "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"
        self._close_pipe_fds(*(call[name] for name in names))
        return None


def run(*words, stdin="", timeout=100, **options):
    """Run ``python WORDS`` to its end, as ``subprocess.run`` with ``capture_output`` and ``text``."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Program(*words, **pipes, text=True, **options) as program:
        try:
            out, err = program.communicate(stdin, timeout)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


def subprocess_of(modules):
    """Return what a module of the product may have in place of ``subprocess``: its interpreters have imported these."""

    def popen(command, **options):
        return Program(*command[1:], modules=modules, any_variables=True, **options)

    return types.SimpleNamespace(**{**vars(subprocess), "Popen": popen})


def python(environment, modules=COMMAND):
    """Return the words that stand for ``python`` in a line of the shell with these variables."""
    if _is_odd(environment):
        return shlex.quote(sys.executable)
    # no site: the client needs the core of Python alone
    return shlex.join([sys.executable, "-I", "-S", str(FOLDER / "client.py"), server(modules).address[1:]])

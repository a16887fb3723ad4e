"""The process that forks: ``server.py PARENT PATH MODULES`` imports modules and waits at the socket on standard input.

A request is a dictionary: words of a command line, environment, folder, session, files – and the parent that a program
is to have: then a fork in between ends, so that it gets the child. Without a parent the program stays a child of the
server, which says how it ended, and kills it if nobody listens any more.
"""

import atexit
import contextlib
import gc
import importlib
import inspect
import io
import marshal
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

_LOOK = 1.0  # seconds between looks at the parent
_PATHS = []  # of modules, without those that PYTHONPATH adds
_STREAMS = sys.stdin, sys.stdout, sys.stderr
_CALL = inspect.signature(subprocess.Popen._execute_child)


def serve(parent):
    """Return the request and the files of each program, in the program; never in the server."""
    listener = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    waker, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watched = {}  # by the connection of its client: the number of the program
    while os.getppid() == parent:
        ready = select.select([waker, listener, *watched], [], [], _LOOK)[0]
        if waker in ready:
            os.read(waker, 1 << 10)
        for client in watched.keys() & set(ready):  # which says nothing: it has ended
            os.kill(watched[client], signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                client = next(client for client, program in watched.items() if program == ended[0])
                del watched[client]
                with contextlib.suppress(OSError), client:
                    client.send(b"%d" % os.waitstatus_to_exitcode(ended[1]))
        if listener in ready:
            connection = listener.accept()[0]
            if found := _fork(connection, watched):
                return found
    os._exit(0)


def _fork(connection, watched):
    """Start the program of one request; return the request in it, and None in the server."""
    head, files, _, _ = socket.recv_fds(connection, 4, 3)
    data = b""
    while len(data) < (size := int.from_bytes(head, "big")):
        data += connection.recv(size - len(data))
    request = marshal.loads(data)
    gc.freeze()
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        child = os.fork() if request.get("parent") else 0
        if not child:
            while os.getppid() != request.get("parent", os.getppid()):  # the fork in between has not ended
                time.sleep(0.0005)
            return request, files
        os.write(writer, b"%d" % child)
        os._exit(0)
    os.close(writer)
    for file in files:
        os.close(file)
    if request.get("parent"):
        os.waitpid(process, 0)
        connection.send(os.read(reader, 16))
        connection.close()
    else:
        watched[connection] = process
        connection.send(b"%d\n" % process)
    os.close(reader)
    return None


def become(request, files):
    """Make this process what a new interpreter is when it begins with its program."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if request["session"]:
        os.setsid()
    os.chdir(request["folder"])
    given = dict(zip(request["files"], files, strict=True))
    for number in range(3):
        if number not in given:
            os.close(number)
    for number, file in given.items():
        os.dup2(file, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        at_once = bool(request["environment"].get("PYTHONUNBUFFERED"))
        stream = _stream(number, name, at_once) if number in given else None
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    added = filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = dict.fromkeys([*map(os.path.abspath, added), *_PATHS])


def _stream(number, name, at_once):
    """Return a standard stream, as the interpreter opens it."""
    old = _STREAMS[number]
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    buffered = io.BufferedReader(raw) if number == 0 else raw if at_once else io.BufferedWriter(raw)
    raw.name = f"<{name}>"
    lines = not at_once and (number == 2 or raw.isatty())
    stream = io.TextIOWrapper(buffered, old.encoding, old.errors, line_buffering=lines, write_through=at_once)
    stream.mode = raw.mode[0]
    return stream


class _ForkedServer(subprocess.Popen):
    """A server of workers that a command starts: forked from the command, which has imported what that would import."""

    def _execute_child(self, args, *given):
        call = _CALL.bind(self, args, *given).arguments
        self.pid = os.fork()
        if not self.pid:
            request = {"words": args[1:], "environment": call["env"], "folder": call["cwd"], "session": True}
            files = call["p2cread"], call["c2pwrite"], call["errwrite"]
            run({**request, "files": (0, 1, 2)}, files)
        self._child_created = True
        names = "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"
        self._close_pipe_fds(*(call[name] for name in names))


def main(option, word, *arguments):
    """Run a module, or code; ``-P`` before it leaves out the current folder."""
    if option == "-P":
        option, word, *arguments = word, *arguments
    else:
        sys.path.insert(0, str(Path.cwd()) if option == "-m" else "")
    sys.argv[:] = [option, *arguments]
    if option == "-m":
        runpy.run_module(word, run_name="__main__", alter_sys=True)
    else:
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(word, "<string>", "exec"), vars(module))


def end(status):
    """End as the interpreter does, but leave the memory to the system: to free it takes longer than the program."""
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):  # the interpreter says so
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(status & 0xFF)
    sys.exit(status)


def run(request, files):
    """Be the program of a request, to its end."""
    become(request, files)
    try:
        main(*request["words"])
    except SystemExit as error:
        if error.code and not isinstance(error.code, int):
            raise
        end(error.code or 0)
    end(0)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads do not survive a fork
    _, parent, more, *modules = sys.argv
    added = {*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(Path(__file__).parent)}
    _PATHS[:] = [path for path in sys.path if path not in added]
    sys.path[:] = more.split(os.pathsep)
    for module in modules:
        with contextlib.suppress(ModuleNotFoundError):  # of another version of a library
            importlib.import_module(module)
    fork_server = sys.modules["convspec.contract.isolation.fork_server"]
    fork_server.subprocess = types.SimpleNamespace(**{**vars(subprocess), "Popen": _ForkedServer})
    run(*serve(int(parent)))

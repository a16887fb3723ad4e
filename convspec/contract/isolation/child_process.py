"""The process of a model file as the parent sees it: a question, a deadline, an answer – or how it ended."""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from convspec import errors
from convspec.errors import ConvspecError, RequestError

_PATIENCE = 5.0  # seconds that a keeper has to end everything
_LONGEST = 1 << 26  # bytes of an answer
_KINDS: dict[str, type[ConvspecError]] = {
    kind.__name__: kind
    for kind in (
        errors.FrameworkAbsent, errors.ParamsError, errors.PlacementError, errors.RequestError, errors.ShapeError,
        errors.UnsupportedError,
    )
}  # fmt: skip


def command(module: str) -> list[str]:
    """The command line of a child of this process, which is served by ``serve(requests, replies)`` of the module."""
    return [sys.executable, "-P", "-m", "convspec.contract.isolation.child", str(os.getpid()), module]


def send(descriptor: int, data: bytes) -> None:
    """Write all of it, however little the pipe takes at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


class Process:
    """One child process with the model that it has loaded; it ends with this object.

    Raises:
        ConvspecError: where the model could not be loaded; whatever is wrong with it, the message begins with its name.
    """

    def __init__(self, opening: Message, name: str, seconds: float) -> None:
        self.name = plain(name)
        self.folder = Path(tempfile.mkdtemp(prefix="convspec-model-"))
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 – as long as the process
        self._child = subprocess.Popen(
            command("convspec.models.files.child"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=_environment(), bufsize=0,
            start_new_session=True,
        )  # fmt: skip
        self.end = weakref.finalize(self, _end, self._child, self._errors, self.folder)
        self.ask({**opening, "folder": str(self.folder)}, seconds)

    @property
    def ended(self) -> bool:
        return not self.end.alive

    def ask(self, message: Message, seconds: float) -> Message:
        """The answer; raises RequestError where there is none in time, or never will be, and what it says is wrong."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a dead process shows itself when it is read from
            self._child.stdin.write(json.dumps(message).encode() + b"\n")
        answer: Message = self._parsed(self._line(time.monotonic() + seconds, seconds))
        if "error" in answer:
            kind = _KINDS.get(str(answer["error"]), RequestError)
            raise kind(f"{self.name}: {plain(str(answer.get('message')))}")
        return answer

    def _parsed(self, line: bytes) -> Message:
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            self.end()
            raise RequestError(f"{self.name}: its process answered with nonsense")
        return answer

    def _line(self, deadline: float, seconds: float) -> bytes:
        assert self._child.stdout is not None
        found, descriptor = b"", self._child.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    self.end()
                    raise RequestError(
                        f"{self.name}: no answer within {seconds:g} s; where it only is slow, give "
                        f"convspec.ModelFile(path, seconds=…)"
                    )
                chunk = os.read(descriptor, 1 << 20)
                found += chunk
                if not chunk or len(found) > _LONGEST:
                    raise self._gone(too_long=bool(chunk))
        return found

    def _gone(self, *, too_long: bool) -> RequestError:
        if too_long:
            self.end()
            return RequestError(f"{self.name}: its process said more than {_LONGEST >> 20} MiB")
        try:
            code = self._child.wait(10)
        except subprocess.TimeoutExpired:
            code = None
        words = _last_words(self._errors)
        self.end()
        return RequestError(f"{self.name}: the process that read it ended with {_ending(code)}{words}")


def _end(child: subprocess.Popen[bytes], words: IO[bytes], folder: Path) -> None:
    """Have the keeper end the process and all that it started."""
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout, words):
        if pipe is not None:
            pipe.close()
    shutil.rmtree(folder, ignore_errors=True)


def _ending(code: int | None) -> str:
    if code is None:
        return "a closed pipe"
    if code >= 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _last_words(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    tail = os.pread(file.fileno(), 4096, max(size - 4096, 0)).decode(errors="replace")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return f": {plain(lines[-1])}" if lines else ""


def plain(text: str, most: int = 1000) -> str:
    """Text of unknown origin on one line, with nothing in it that a terminal would obey."""
    one = "".join(c if c.isprintable() else " " if c in "\n\t" else f"\\x{ord(c):02x}" for c in text[:most])
    return one if len(text) <= most else one + "…"


def _environment() -> dict[str, str]:
    """The parent's, with its import path and without its accelerators."""
    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 – "" means the current folder
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "CUDA_VISIBLE_DEVICES": ""}


Message = dict[str, Any]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Deadline:
    at: float


def lines(
    module: str,
    request: Mapping[str, Any],
    timeout: float,
    answer: Callable[[Message], Message] | None = None,
    *,
    each: bool = False,
) -> Iterator[Message]:
    """The messages of one process, and ``{"died": how}`` where it did not end as it should.

    Args:
        timeout: seconds for all of them, or, where ``each``, from one to the next; answers take none of them.
        answer: what to say to a message ``wanted``.
    """
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env=environment, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _tell(process.stdin, request, last=answer is None)
            deadline = _Deadline(time.monotonic() + timeout)
            for message in map(json.loads, _patiently(process.stdout.fileno(), deadline, timeout if each else 0.0)):
                if answer is None or "wanted" not in message:
                    yield message
                    continue
                began = time.monotonic()
                _tell(process.stdin, answer(message["wanted"]))
                deadline.at += time.monotonic() - began
            status = process.wait(10)
            if status:
                errors.seek(0)
                words = errors.read().decode(errors="replace").strip().splitlines()[-1:] or [""]
                how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
                yield {"died": f"the process ended with {how} {_plain(words[0])}".strip()}
        except TimeoutError:
            yield {"died": f"no answer within {timeout:g} s"}
        except BrokenPipeError:
            yield {"died": "the process ended before it had read the request"}
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()
            with suppress(BrokenPipeError):
                process.stdin.close()


def _tell(pipe: IO[bytes], message: Mapping[str, Any], *, last: bool = False) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()
    if last:
        pipe.close()


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


def _patiently(descriptor: int, deadline: _Deadline, each: float) -> Iterator[bytes]:
    """Lines as they come; raises TimeoutError when the time is up, ``each`` seconds after the last one if not 0."""
    partial = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(max(deadline.at - time.monotonic(), 0)):
                raise TimeoutError
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                return
            deadline.at = time.monotonic() + each if each else deadline.at
            *lines, partial = (partial + chunk).split(b"\n")
            yield from lines


def alive(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and somebody else's
        return True
    return True

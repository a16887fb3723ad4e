"""A module run in a process of its own, that may hang or crash: it is given one request and answers line by line.

``python -m <module>`` reads one JSON object from standard input and writes one to each line of standard output. Where
it may ask back, the object is the first line, and each further line the answer to a message ``wanted``.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

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

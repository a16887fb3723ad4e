"""A module run in a process of its own, that may hang or crash: it is given one request and answers line by line.

``python -m <module>`` reads one JSON object from standard input and writes one to each line of standard output.
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
from collections.abc import Iterator, Mapping
from typing import Any

Message = dict[str, Any]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def lines(module: str, request: Mapping[str, Any], timeout: float, *, each: bool = False) -> Iterator[Message]:
    """The messages of one process, and ``{"died": how}`` where it did not end as it should.

    Args:
        timeout: seconds for all of them, or, where ``each``, from one to the next.
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
            process.stdin.write(json.dumps(request).encode())
            process.stdin.close()
            yield from map(json.loads, _patiently(process.stdout.fileno(), timeout, each=each))
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


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


def _patiently(descriptor: int, timeout: float, *, each: bool) -> Iterator[bytes]:
    """Lines as they come; raises TimeoutError when the time is up."""
    partial = b""
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise TimeoutError
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                return
            deadline = time.monotonic() + timeout if each else deadline
            *lines, partial = (partial + chunk).split(b"\n")
            yield from lines

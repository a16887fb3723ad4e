"""A run on a Dask cluster of two workers, one of which is killed half-way: nothing may be lost or there twice.

Starts a scheduler and two workers on this machine, sends so many cases through them, kills one of the workers with
SIGKILL when half of the verdicts are in the journal, and counts what the journal holds in the end.

    python scripts/cluster.py --cases 50000 --adapter torch
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from convspec import Case, ConvSpec

LOOPBACK = "127.0.0.1"


def cases(number: int) -> Iterator[Case]:
    """Small layers that differ in every field, and in their numbers."""
    for n in range(number):
        kernel, stride, dilation = (1 + n % 3, 1 + n // 3 % 3), (1 + n // 9 % 2, 1 + n // 18 % 3), 1 + n // 54 % 2
        spec = ConvSpec(3, 2 + n % 7, kernel, stride=stride, dilation=dilation, padding=n // 108 % 3)
        yield Case(spec, (2, 3, 8 + n // 324 % 4, 7 + n // 1296 % 3), seed=n)


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Dask's command, ended with the block."""
    command = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def verdicts(journal: Path) -> int:
    """How many a journal that is being written has, about."""
    return max(0, journal.read_bytes().count(b"\n") - 2) if journal.exists() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--adapter", default="torch")
    asked = parser.parse_args()
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        address = f"tcp://{LOOPBACK}:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as cluster:
        place = Path(folder)
        corpus, journal = place / "cases.jsonl", place / "run.jsonl"
        corpus.write_text("".join(case.to_json() + "\n" for case in cases(asked.cases)))
        port = address.rpartition(":")[2]
        cluster.enter_context(started("dask_scheduler", "--host", LOOPBACK, "--port", port, "--no-dashboard"))
        words = ("dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder)
        doomed, _ = (cluster.enter_context(started(*words)) for _ in range(2))
        time.sleep(10)
        run = [sys.executable, "-m", "convspec", "check", "--dask", address, "--corpus", str(corpus), "--journal",
               str(journal), "--adapters", asked.adapter, "--layouts", "NCHW", "--data", "exact"]  # fmt: skip
        began = time.monotonic()
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None and verdicts(journal) < asked.cases // 2:
                time.sleep(0.5)
            killed = verdicts(journal)
            os.kill(doomed.pid, signal.SIGKILL)
            out, _ = process.communicate()
        seconds = time.monotonic() - began
        entries = [json.loads(line) for line in journal.read_bytes().splitlines()[2:]]
    found = Counter(entry["index"] for entry in entries if "verdict" in entry)
    once = sum(count == 1 for count in found.values())
    kinds = Counter(entry["verdict"] for entry in entries if "verdict" in entry)
    lines = [
        out.strip().splitlines()[-1],
        f"a worker was killed at {killed} verdicts; {once} of {asked.cases} cases have exactly one: {dict(kinds)}",
        f"{seconds:.0f} s, {asked.cases / seconds:.0f} cases/s, exit status {process.returncode}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if once == asked.cases == len(found) and process.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

"""The bench of the drills: it starts commands, watches for what they leave behind, and says what was wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
FAKES = ROOT / "tests" / "fakes"
PATH = [entry for entry in sys.path if entry and not Path(entry).is_relative_to(ROOT / "scripts")]
COMMAND = (sys.executable, "-m", "convspec")
GRACE = 15.0  # seconds for processes and folders to vanish after the end of a command
LIMIT = 180.0  # seconds for a command; the machine may be busy
_MARK = "CONVSPEC_DRILL"
_OURS = ("convspec", "tmp")  # frameworks have temporary files of their own
_TRACES = ("Traceback (most recent call last)", "Exception ignored in")


class Trial(NamedTuple):
    """One fault that was tried; ``problem`` is empty where convspec took it as it should."""

    title: str
    problem: str


@dataclass(slots=True)
class Done:
    """A command that has ended; ``status`` is None where it had to be killed at the time limit.

    Attributes:
        left: what it left behind, or removed that is not its own; a phrase each.
    """

    status: int | None
    out: str = ""
    err: str = ""
    left: list[str] = field(default_factory=list)

    def problem(self, statuses: Iterable[int]) -> str:
        """Return what is wrong with the end of the command, empty if nothing is."""
        words = (self.err.strip().splitlines() or [""])[-1][:200]
        if self.status is None:
            return f"it hangs: {words}"
        if any(trace in self.out or trace in self.err for trace in _TRACES):
            return f"a traceback: {words}"
        if self.status not in statuses:
            return f"exit status {self.status}: {words}"
        return ", ".join(self.left)


class Running:
    """A command that runs: every process that it starts has its mark, and its temporary files have a folder."""

    def __init__(self, words: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        if _MARK in os.environ:
            raise RuntimeError("a drill started a drill: is a module of the import path named like one of a framework?")
        self._mark, self._temporary = f"{_MARK}={uuid.uuid4().hex}", folder / f"tmp-{uuid.uuid4().hex[:8]}"
        self._temporary.mkdir()
        path = os.pathsep.join([str(FAKES), *PATH])
        own = {"PYTHONPATH": path, "TMPDIR": str(self._temporary), _MARK: self._mark.partition("=")[2]}
        self._files = [(self._temporary.with_suffix(f".{name}")).open("w+b") for name in ("out", "err")]
        self.process = subprocess.Popen(
            words, cwd=folder, env={**os.environ, **own, **environment}, stdin=subprocess.DEVNULL,
            stdout=self._files[0], stderr=self._files[1], start_new_session=True,
        )  # fmt: skip

    def end(self, limit: float = LIMIT) -> Done:
        """Wait for the end of the command, and for that of everything that it started."""
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        left = wait_for(lambda: not self._left(), GRACE) or self._left()
        for process in marked(self._mark):
            os.kill(process, signal.SIGKILL)
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return Done(status, *texts, left=[] if left is True else left)

    def _left(self) -> list[str]:
        if not self._temporary.exists():
            return [f"{self._temporary} is removed"]
        processes = [f"process {process}" for process in marked(self._mark)]
        folders = [path.name for path in self._temporary.iterdir() if path.name.startswith(_OURS)]
        if self.process.returncode != -signal.SIGKILL:  # else the next run removes its arrays
            folders += [path.name for path in Path("/dev/shm").glob(f"convspec-run-{self.process.pid}-*")]
        return [f"left behind: {name}" for name in processes + folders]


class Bench:
    """Where a drill works: a folder, chance from a seed, and the number of trials.

    Attributes:
        skipped: what could not be tried on this machine, one sentence each.
    """

    def __init__(self, folder: Path, seed: int, *, short: bool) -> None:
        self.folder, self.short = folder, short
        self.chance, self.skipped = random.Random(seed), list[str]()

    def chosen(self, items: Iterable[T], few: int) -> list[T]:
        """Return all items; in the short form a few, by chance."""
        listed = list(items)
        return self.chance.sample(listed, min(few, len(listed))) if self.short else listed

    def count(self, many: int, few: int) -> int:
        """Return the number of trials of the long form, or that of the short one."""
        return few if self.short else many

    def start(self, *words: str, **environment: str) -> Running:
        """Start ``convspec`` with these words."""
        return Running([*COMMAND, *words], self.folder, environment)

    def run(self, *words: str, limit: float = LIMIT, **environment: str) -> Done:
        """Run ``convspec`` with these words."""
        return self.start(*words, **environment).end(limit)

    def shell(self, line: str, limit: float = LIMIT, **environment: str) -> Done:
        """Run a line of bash in which ``convspec`` is the command."""
        text = line.replace("convspec ", f"{' '.join(COMMAND)} ")
        return Running(["bash", "-c", text], self.folder, environment).end(limit)

    def many(self, requests: Sequence[Sequence[str]], each: int = 60) -> list[Done]:
        """Run ``convspec`` on many requests in one process, and in another one after each that ends it."""
        found: list[Done] = []
        while len(found) < len(requests):
            file = self.folder / "requests.json"
            file.write_text(json.dumps(list(map(list, requests[len(found) :]))))
            words = [sys.executable, str(Path(__file__).with_name("many.py")), str(file), str(each)]
            done = Running(words, self.folder, {}).end(LIMIT + each * len(requests))
            found += [Done(*json.loads(line)) for line in done.out.split("\n")[:-1]]
            if len(found) < len(requests):  # the process ended within a request; 256 is no status
                status = None if done.status in (None, -signal.SIGALRM) else done.status or 256
                found.append(Done(status, "", done.err, done.left))
            elif done.left:
                found[-1].left = done.left
        return found


def marked(mark: str) -> list[int]:
    """Return the processes that have a mark in their environment, without those that have ended.

    While a process loads another program its environment reads as empty, and it must not count as ended: it is looked
    at again.
    """
    processes, found = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()], list[int]()
    for pause in (0.0, 0.02, 0.1):
        time.sleep(pause if processes else 0)
        texts = {process: _environment(process) for process in processes}
        found += [process for process, text in texts.items() if mark.encode() in text.split(b"\0")]
        processes = [process for process, text in texts.items() if not text and _loads(process)]
    return found


def _environment(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return b"ended"


def _loads(process: int) -> bool:
    """Return whether a process has a program; one that has ended, or is the kernel's own, has none."""
    try:
        return bool(Path(f"/proc/{process}/exe").readlink())
    except OSError:
        return False


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    children = Path(f"/proc/{process}/task/{process}/children")
    try:
        found = [int(child) for child in children.read_text("ascii").split()]
    except OSError:
        return []
    return [*found, *(one for child in found for one in descendants(child))]


def alive(process: int) -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return False


def wait_for(condition: Callable[[], Any], patience: float) -> bool:
    """Return whether a condition comes true within so many seconds."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def lines(path: Path) -> int:
    """Return the number of complete lines of a file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0

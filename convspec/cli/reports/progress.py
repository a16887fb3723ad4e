"""The progress of a run: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from convspec.conformance import Progress

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

_EVERY = 10.0  # seconds between lines


class Display(Protocol):
    """Context manager of a run, called with every step."""

    def __enter__(self) -> Display: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __call__(self, progress: Progress) -> None: ...


def display(console: Console, doing: str = "checking") -> Display:
    """A bar on a terminal, else lines."""
    return Bar(console, doing) if console.is_terminal else Lines(console)


def count_steps(display: Display) -> Callable[[int, int], None]:
    """Return a function to call with the number of steps done and in all; it measures time from now on."""
    began = time.monotonic()

    def step(done: int, total: int) -> None:
        elapsed = time.monotonic() - began
        display(Progress(done, total, elapsed, elapsed / done * (total - done) if done else None, 0))

    return step


class Lines:
    """One line every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console, self._next = console, _EVERY

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, progress: Progress) -> None:
        if progress.elapsed >= self._next:
            self._next = progress.elapsed + _EVERY
            self._console.print(line(progress), soft_wrap=True, highlight=False)


class Bar:
    """Rich's bar, with the rate and the time left."""

    def __init__(self, console: Console, doing: str) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn(doing), BarColumn(), TextColumn("{task.fields[text]}"))
        self._bar = RichProgress(*columns, console=console, transient=True, refresh_per_second=5)
        self._task = self._bar.add_task("", total=None, text="starting")

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        self._bar.update(self._task, total=progress.total, completed=progress.done, text=line(progress))


def line(progress: Progress) -> str:
    """``30 of 120, 2.0/s, 0:15 elapsed, 0:45 left``, and the number of unexpected results."""
    rate = (progress.done - progress.before) / progress.elapsed if progress.elapsed else 0.0
    left = "" if progress.left is None else f", {clock(progress.left)} left"
    unexpected = f", {progress.unexpected} unexpected" if progress.unexpected else ""
    return f"{progress.done} of {progress.total}, {rate:.1f}/s, {clock(progress.elapsed)} elapsed{left}{unexpected}"


def clock(seconds: float) -> str:
    """``m:ss``, from one hour on ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

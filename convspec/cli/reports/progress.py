"""The progress of a run: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from convspec.conformance import Progress

if TYPE_CHECKING:
    from rich.console import Console

Show: TypeAlias = Callable[[Progress], None]
_EVERY = 10.0  # seconds between lines


@contextmanager
def display(console: Console, doing: str = "checking") -> Iterator[Show]:
    """Yield a function to call with every step of a run: it draws a bar on a terminal, else prints lines."""
    if not console.is_terminal:
        yield _lines(console)
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(doing), BarColumn(), TextColumn("{task.fields[text]}"))
    with Bar(*columns, console=console, transient=True, refresh_per_second=5) as bar:
        task = bar.add_task("", total=None, text="starting")
        yield lambda step: bar.update(task, total=step.total, completed=step.done, text=line(step))


def _lines(console: Console) -> Show:
    due = _EVERY

    def show(step: Progress) -> None:
        nonlocal due
        if step.elapsed >= due:
            due = step.elapsed + _EVERY
            console.print(line(step), soft_wrap=True, highlight=False)

    return show


def count_steps(show: Show) -> Callable[[int, int], None]:
    """Return a function to call with the number of steps done and in all; it measures time from now on."""
    began = time.monotonic()

    def step(done: int, total: int) -> None:
        elapsed = time.monotonic() - began
        show(Progress(done, total, elapsed, elapsed / done * (total - done) if done else None, 0))

    return step


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

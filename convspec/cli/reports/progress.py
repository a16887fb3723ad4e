"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from convspec.conformance import Progress

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

_EVERY = 10.0  # seconds between lines


class Shown(Protocol):
    """Something to call with every step of a run, open as long as the run lasts."""

    def __enter__(self) -> Shown: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __call__(self, progress: Progress) -> None: ...


def shown(console: Console, doing: str = "checking") -> Shown:
    """A bar where the console is a terminal, lines where it is not."""
    return Bar(console, doing) if console.is_terminal else Lines(console)


def counted(show: Shown) -> Callable[[int, int], None]:
    """Something to call with how many steps are done, of how many: time is taken from now on."""
    began = time.monotonic()

    def step(done: int, total: int) -> None:
        elapsed = time.monotonic() - began
        show(Progress(done, total, elapsed, elapsed / done * (total - done) if done else None, 0))

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
    """Rich's bar with the rate and the time left."""

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
    """Done, rate and time left, in words."""
    rate = (progress.done - progress.before) / progress.elapsed if progress.elapsed else 0.0
    left = "" if progress.left is None else f", {clock(progress.left)} left"
    odd = f", {progress.unexpected} unexpected" if progress.unexpected else ""
    return f"{progress.done} of {progress.total}, {rate:.1f}/s, {clock(progress.elapsed)} gone{left}{odd}"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

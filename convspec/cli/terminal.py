"""Text on a terminal: whatever file or framework it comes from, no character of it is obeyed by the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from convspec.errors import printable, printable_lines


class Terminal(Console):
    """A console whose only control characters are those of its own styles."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable_lines(text), style, control)


def print_line(console: Console, line: str, style: str = "") -> None:
    """Print one line without markup and wrapping, so that commands can be copied; a line break in it is a space."""
    console.print(Text(printable(line, None), style), soft_wrap=True)

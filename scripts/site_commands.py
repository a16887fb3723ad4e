"""The generated reference of the command: every command's arguments and options as tables, its examples as code."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from typer.main import get_command

from convspec.cli.app import app

_PLACES = {"Arguments": 0, "Options": 2, "Output": 3}  # of a command's tables; those with other titles are between
Table = Callable[[tuple[str, ...], list[tuple[object, ...]]], str]


def reference(table: Table) -> str:
    """One section for each command, and for each below it."""
    return "\n".join(section(words, command, table) for words, command in commands(get_command(app)))


def commands(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command with the words that call it, then those below it."""
    yield words, command
    for name, below in sorted(getattr(command, "commands", {}).items()):
        if not below.hidden:
            yield from commands(below, *words, name)


def section(words: tuple[str, ...], command: Any, table: Table) -> str:
    """What the command's ``--help`` says, as a page has it."""
    below = getattr(command, "commands", {})
    arguments = [_value(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    usage = ["convspec", *words, "[OPTIONS]", *(["COMMAND …"] if below else arguments)]
    parts = [f"## {' '.join(['convspec', *words])}\n", f"```text\n{' '.join(usage)}\n```\n"]
    parts += [paragraph + "\n" for paragraph in _text(command.help)]
    if below:
        rows: list[tuple[object, ...]] = [
            (f"[`{name}`](#{'-'.join(['convspec', *words, name])})", _first(sub)) for name, sub in below.items()
        ]
        parts.append(table(("command", "what it does"), rows))
    panels: dict[str, list[tuple[object, ...]]] = {}
    for parameter in command.params:
        panels.setdefault(_panel(parameter), []).append(_row(parameter))
    for title in sorted(panels, key=lambda title: _PLACES.get(title, 1)):
        parts.append(f"**{title}**\n\n{table(('', 'value', 'meaning'), panels[title])}")
    return "\n".join([*parts, *(paragraph + "\n" for paragraph in _text(command.epilog))])


def _panel(parameter: Any) -> str:
    return parameter.rich_help_panel or ("Arguments" if parameter.param_type_name == "argument" else "Options")


def _row(parameter: Any) -> tuple[object, ...]:
    """Names, value, what it is for, default."""
    option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if option else [_value(parameter)]
    words = [str(parameter.help or "").strip()]
    if option and not parameter.is_flag and parameter.default is not None:
        words.append(f"Default: `{parameter.default}`.")
    if option and parameter.required:
        words.append("Required.")
    value = f"`{_value(parameter)}`" if option and not parameter.is_flag else ""
    return ", ".join(f"`{name}`" for name in names), value, " ".join(words)


def _value(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    return "NUMBER" if type(parameter.default) in (int, float) else "TEXT"


def _first(command: Any) -> str:
    return next(iter(_text(command.help)), "").replace("\n", " ")


def _text(text: str | None) -> Iterator[str]:
    """Paragraphs; those that are indented are code, and neighbouring ones are one block."""
    block: list[str] = []
    for paragraph in (text or "").strip("\n").split("\n\n"):
        if paragraph.startswith("    "):
            block.append(textwrap.dedent(paragraph))
            continue
        if block:
            yield _code(block)
            block = []
        if paragraph.strip():
            yield " ".join(line.strip() for line in paragraph.strip().splitlines())
    if block:
        yield _code(block)


def _code(block: list[str]) -> str:
    return "```sh\n" + "\n".join(block) + "\n```"

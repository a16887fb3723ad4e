"""The options that several commands share: their values, lists of names, and the shell completion."""

from __future__ import annotations

import functools
import pkgutil
from typing import Annotated, Any

import typer

from convspec.errors import RequestError

# what the values of an option are completed from, and whether ``all`` is one more value
_VALUES = {
    "adapter": ("convspec.contract:registry.adapters", False), "corpus": ("convspec.corpora:names", False),
    "layout": ("convspec.spec:LAYOUTS", False), "dtype": ("convspec.spec:DTYPES", True),
    "data": ("convspec.conformance:ASKED", True), "precision": ("convspec.conformance:PRECISIONS", False),
}  # fmt: skip


def option(
    text: str, metavar: str | None = None, *names: str, panel: str | None = None, one: str = "", several: str = "",
    **rules: Any,
) -> Any:  # fmt: skip
    """Return an option with this help text; ``one`` or ``several`` is the kind of its values, for the completion."""
    complete = (lambda incomplete: _complete(one or several, bool(several), incomplete)) if one or several else None
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel, autocompletion=complete, **rules)


def _complete(kind: str, several: bool, incomplete: str) -> list[str]:
    """Return the values of a kind that complete the text; in a list of several, without those already in it."""
    place, with_all = _VALUES[kind]
    found = pkgutil.resolve_name(place)
    before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
    values = [*(found() if callable(found) else found), *["all"] * with_all]
    return [f"{before}{comma}{v}" for v in values if v.startswith(last) and not (several and v in before.split(","))]


what = functools.partial(option, panel="What")
how = functools.partial(option, panel="How")
long = functools.partial(option, panel="Long runs")
_output = functools.partial(option, panel="Output")

# fmt: off
Adapters = Annotated[str | None, what(
    "Adapters: `name`, `name:variant`, `name:*`, or `all`: every variant but costly ones. Default: all installed.",
    "A,B", several="adapter")]
Layouts = Annotated[str | None, how("Layouts. Default: both.", "NCHW,NHWC", several="layout")]
Dtypes = Annotated[str | None, how("Dtypes, or `all`. Default: the dtype of each case.", "D,…", several="dtype")]
Gradients = Annotated[bool, how("Also check the gradients of input, kernel and bias.", None, "--gradients")]
Jobs = Annotated[int | None, how("Number of workers. Default: number of cores.", "N", "--jobs", "-j", min=1)]
Timeout = Annotated[float, how("Time limit of one build and run, in seconds.", "SECONDS")]
StartTimeout = Annotated[float | None, how(
    "Time limit for the start of a worker, in seconds. Default: --timeout, at least 60.", "SECONDS")]
Memory = Annotated[str | None, how("Memory limit per worker, e.g. 4GiB; exceeding it counts as a crash.", "SIZE")]
Journal = Annotated[str | None, long("Write each verdict to this new file immediately.", "FILE")]
JsonOption = Annotated[str | None, _output("Write the result as JSON (`-`: standard output).", "FILE", "--json")]
HtmlOption = Annotated[str | None, _output("Write a self-contained HTML report.", "FILE", "--html")]
MarkdownOption = Annotated[
    str | None, _output("Write a summary for GitHub (`-`: standard output).", "FILE", "--markdown")]
JunitOption = Annotated[str | None, _output("Write a JUnit XML report.", "FILE", "--junit")]
# fmt: on


def parse_names(text: str | None, everything: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The names in a comma-separated list; ``all`` means ``everything``, if given."""
    if text is None:
        return None
    if text == "all" and everything:
        return everything
    if not (names := split(text)):
        raise RequestError(f"{text!r} has no name in it")
    return names


def split(text: str) -> tuple[str, ...]:
    """The words of a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())

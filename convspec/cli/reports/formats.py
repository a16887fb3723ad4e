"""Markdown, JUnit and HTML for every report; names of unknown origin are escaped in all of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from convspec.errors import printable

if TYPE_CHECKING:
    from jinja2 import Environment

ROWS = 200  # rows of a Markdown summary
_SPECIAL = set("\\`*_{}[]()<>#+-!|~&@$:/")


# -- Markdown ----------------------------------------------------------------------------------------------------------


def md(text: object) -> str:
    """Text escaped for GitHub's Markdown."""
    return "".join(f"&#{ord(c)};" if c in _SPECIAL else c for c in printable(text, 500))


def md_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table of escaped cells, line by line."""
    lines = [list(head), ["-"] * len(head), *([md(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


# -- JUnit -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a JUnit report.

    Attributes:
        group: the class name, by which viewers group.
        failures: kind and message of each failure.
        skipped: why there is no verdict, empty where there is one.
        details: lines on the failures.
    """

    group: str
    name: str
    failures: Sequence[tuple[str, str]] = ()
    skipped: str = ""
    seconds: float = 0.0
    details: Sequence[str] = ()


def junit(name: str, cases: Sequence[Entry]) -> str:
    """A JUnit document of one suite."""
    root = ET.Element("testsuites")
    failures, skipped = sum(bool(case.failures) for case in cases), sum(bool(case.skipped) for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}
    suite = ET.SubElement(root, "testsuite", {"name": printable(name, 500), **counts})
    for case in cases:
        about = {"classname": printable(case.group, 500), "name": printable(case.name, 500)}
        entry = ET.SubElement(suite, "testcase", {**about, "time": f"{case.seconds:.3f}"})
        for kind, message in case.failures:
            about = {"type": printable(kind, 500), "message": printable(message, 500)}
            failure = ET.SubElement(entry, "failure", about)
            failure.text = "\n".join(printable(line, 2000) for line in case.details) or None
        if case.skipped:
            ET.SubElement(entry, "skipped", {"message": printable(case.skipped, 500)})
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, "unicode")}\n'


# -- HTML --------------------------------------------------------------------------------------------------------------


def html(template: str, **content: Any) -> str:
    """A self-contained page; the template escapes every value but convspec's own SVG."""
    return _environment().get_template(f"{template}.html").render(**content)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("convspec.cli.reports", "templates"), autoescape=True, finalize=_printable,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["grouped"] = lambda number: f"{number:,}"
    environment.globals["zipped"] = lambda names: [(name, name) for name in names]
    environment.globals["spelt"] = lambda names: [(name.replace(" ", "_"), name or "all") for name in names if name]
    return environment


def _printable(value: Any) -> Any:
    """A value for a template: line breaks stay, other control characters are escaped."""
    if hasattr(value, "__html__"):
        return value
    return "\n".join(printable(line, 4000) for line in str(value).split("\n"))

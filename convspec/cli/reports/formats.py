"""What every report has in common as Markdown, JUnit and HTML: names of unknown origin are text in all of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from convspec.errors import printable

if TYPE_CHECKING:
    from jinja2 import Environment

ROWS = 200  # of a summary that a web site shows
_SPECIAL = set("\\`*_{}[]()<>#+-!|~&@$:/")


# -- Markdown ----------------------------------------------------------------------------------------------------------


def md(text: object) -> str:
    """Text that GitHub's Markdown shows as it is, whatever signs are in it."""
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
        group: what a viewer groups by.
        failures: kind and message of everything that is wrong with it.
        skipped: why it says nothing, if it does not.
    """

    group: str
    name: str
    failures: Sequence[tuple[str, str]] = ()
    skipped: str = ""
    seconds: float = 0.0
    details: str = ""


def junit(name: str, cases: Sequence[Entry]) -> str:
    """A JUnit document of one suite."""
    root = ET.Element("testsuites")
    failures, skipped = sum(bool(case.failures) for case in cases), sum(bool(case.skipped) for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}
    suite = ET.SubElement(root, "testsuite", {"name": printable(name, 500), **counts})
    for case in cases:
        about = {
            "classname": printable(case.group, 500),
            "name": printable(case.name, 500),
            "time": f"{case.seconds:.3f}",
        }
        entry = ET.SubElement(suite, "testcase", about)
        for kind, message in case.failures:
            failure = ET.SubElement(
                entry, "failure", {"type": printable(kind, 500), "message": printable(message, 500)}
            )
            failure.text = "\n".join(printable(line, 2000) for line in case.details.splitlines()) or None
        if case.skipped:
            ET.SubElement(entry, "skipped", {"message": printable(case.skipped, 500)})
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, "unicode")}\n'


# -- HTML --------------------------------------------------------------------------------------------------------------


def html(template: str, **content: Any) -> str:
    """A page that needs nothing but itself; all that the template puts in is escaped, but for convspec's own SVG."""
    return _environment().get_template(f"{template}.html").render(**content)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("convspec.cli.reports", "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["grouped"] = lambda number: f"{number:,}"
    found.globals["zipped"] = lambda names: [(name, name) for name in names]
    found.globals["spelt"] = lambda names: [(name.replace(" ", "_"), name or "all") for name in names if name]
    return found


def _shown(value: Any) -> Any:
    """Every value that a template prints: line breaks stay, other signs that are not for reading are spelt out."""
    if hasattr(value, "__html__"):
        return value
    return "\n".join(printable(line, 4000) for line in str(value).split("\n"))

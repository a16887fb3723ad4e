"""The command ``adapters``: list, validate or create adapters."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from convspec.cli.console import JsonOption, console

_MARKS = {True: ("kept", "green"), False: ("BROKEN", "bold red"), None: ("skipped", "yellow")}


def adapters(
    gaps: Annotated[bool, typer.Option("--gaps", help="List the declared gaps of each adapter.")] = False,
    validate: Annotated[
        str | None, typer.Option(metavar="NAME", help="Check that an adapter keeps the adapter contract.")
    ] = None,
    new: Annotated[
        str | None, typer.Option(metavar="NAME", help="Create convspec-NAME/, a template for a new adapter.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """List the adapters, their framework versions, and their declared support."""
    from convspec.cli.reports import json_document, listing
    from convspec.contract import registry

    if new is not None:
        _create(new)
        return
    if validate is not None:
        _validate(validate, json)
    entries = [listing.Entry.of(registry.adapter(name)) for name in registry.adapters()]
    if json is not None:
        json_document.write(json_document.dumps({"adapters": [entry.to_dict() for entry in entries]}), json)
    if json != "-":
        listing.show(entries, console(), gaps=gaps)


def _validate(name: str, json: str | None) -> None:
    """Print each promise of the contract and whether it is kept; exit with status 1 if one is not."""
    from rich.text import Text

    from convspec.cli.reports import json_document
    from convspec.conformance import validate

    promises = validate(name)
    if json is not None:
        document = {"adapter": name, "promises": [promise.to_dict() for promise in promises]}
        json_document.write(json_document.dumps(document), json)
    if json != "-":
        shown = console()
        for promise in promises:
            mark, style = _MARKS[promise.kept]
            line = Text.assemble((f"{mark:9}", style), f"  {promise.id:10}  {promise.title}")
            shown.print(line, soft_wrap=True)
            if promise.reason:
                shown.print(Text(f"{'':23}{promise.reason}", style), soft_wrap=True)
        counts = Counter(promise.kept for promise in promises)
        shown.print(f"{counts[True]} promises kept, {counts[False]} broken, {counts[None]} skipped", style="bold")
    raise typer.Exit(0 if all(promise.kept for promise in promises) else 1)


def _create(name: str) -> None:
    """Write the package of a new adapter, and print the next step."""
    from rich.text import Text

    from convspec.contract import create

    written = create(name)
    shown = console()
    for path in written:
        shown.print(Text(str(path)), soft_wrap=True)
    shown.print(Text(f"next: pip install -e {written[0].parts[0]} && convspec adapters --validate {name}", "bold"))

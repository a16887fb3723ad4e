"""The command ``adapters``: what is installed, and what it declares."""

from __future__ import annotations

from typing import Annotated

import typer

from convspec.cli.console import JsonOption, console

_MARKS = {True: ("kept", "green"), False: ("BROKEN", "bold red"), None: ("not tried", "yellow")}


def adapters(
    gaps: Annotated[bool, typer.Option("--gaps", help="List each adapter's declared gaps.")] = False,
    validate: Annotated[
        str | None, typer.Option(metavar="NAME", help="Hold an adapter against the contract, before any case runs.")
    ] = None,
    new: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write convspec-NAME/: an adapter of your own, to be filled in.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """List the adapters, the versions of their frameworks, and what they declare."""
    from convspec.cli.reports import json_document, listing
    from convspec.contract import registry

    if new is not None:
        _created(new)
        return
    if validate is not None:
        _validated(validate, json)
    found = [listing.Entry.of(registry.adapter(name)) for name in registry.adapters()]
    if json is not None:
        json_document.write(json_document.dumps({"adapters": [entry.to_dict() for entry in found]}), json)
    if json != "-":
        listing.show(found, console(), gaps=gaps)


def _validated(name: str, json: str | None) -> None:
    """Print each promise of the contract and whether it is kept; leave with status 1 where one is not."""
    from rich.text import Text

    from convspec.cli.reports import json_document
    from convspec.conformance import validate

    checked = validate(name)
    if json is not None:
        json_document.write(
            json_document.dumps({"adapter": name, "promises": [one.to_dict() for one in checked]}), json
        )
    if json != "-":
        shown = console()
        for one in checked:
            mark, style = _MARKS[one.kept]
            line = Text.assemble((f"{mark:9}", style), f"  {one.id:10}  {one.title}")
            shown.print(line, soft_wrap=True)
            if one.reason:
                shown.print(Text(f"{'':23}{one.reason}", style), soft_wrap=True)
        broken = sum(one.kept is False for one in checked)
        missing = sum(one.kept is None for one in checked)
        words = f"{len(checked) - broken - missing} promises kept, {broken} broken, {missing} not tried"
        shown.print(words, style="bold")
    raise typer.Exit(0 if all(one.kept for one in checked) else 1)


def _created(name: str) -> None:
    """Write the package of a new adapter, and say what comes next."""
    from rich.text import Text

    from convspec.contract import create

    written = create(name)
    shown = console()
    for path in written:
        shown.print(Text(str(path)), soft_wrap=True)
    shown.print(Text(f"next: pip install -e {written[0].parts[0]} && convspec adapters --validate {name}", "bold"))

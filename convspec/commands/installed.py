"""The command ``adapters``: what is installed, and what it declares."""

from __future__ import annotations

from typing import Annotated

import typer

from convspec.commands.console import JsonOption, console


def adapters(
    gaps: Annotated[bool, typer.Option("--gaps", help="List each adapter's declared gaps.")] = False,
    json: JsonOption = None,
) -> None:
    """List the adapters, the versions of their frameworks, and what they declare."""
    from convspec import registry
    from convspec.reports import document, listing

    found = [listing.Entry.of(registry.adapter(name)) for name in registry.adapters()]
    if json is not None:
        document.write(document.dumps({"adapters": [entry.to_dict() for entry in found]}), json)
    if json != "-":
        listing.show(found, console(), gaps=gaps)

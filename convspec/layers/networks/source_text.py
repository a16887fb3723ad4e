"""The text of a network as it is parsed."""

from __future__ import annotations

import textwrap


def plain(text: str) -> str:
    """Return the text that is parsed: without an indent that all lines have."""
    return textwrap.dedent(text.expandtabs(4))

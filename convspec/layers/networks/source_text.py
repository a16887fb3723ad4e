"""The text of a network as it is parsed."""

from __future__ import annotations

import re
import textwrap

_COMMAND = re.compile(r"^[%!]+\w.*$", re.MULTILINE)


def plain(text: str) -> str:
    """Return the text that is parsed: without an indent that all lines have, and without a notebook's commands."""
    return _COMMAND.sub("", textwrap.dedent(text.expandtabs(4)))

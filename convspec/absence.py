"""What is said where an adapter's framework is not installed, and what would install it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import entry_points

_EXTRA = re.compile(r"""([\w.-]+)\s*[^;]*;.*\bextra\s*==\s*["']([\w.-]+)["']""")


def sentence(adapter: str, missing: Sequence[str]) -> str:
    """Which modules an adapter needs that are not there, and the line that installs them where one is known."""
    needed = f"{', '.join(missing[:-1])} and {missing[-1]}" if missing[1:] else missing[0]
    text = f"adapter {adapter!r} needs {needed}, which {'are' if missing[1:] else 'is'} not installed"
    line = remedy(adapter, missing)
    return f"{text}: {line}" if line else text


def remedy(adapter: str, missing: Sequence[str]) -> str:
    """``pip install 'convspec[keras]' jax``: the extra of the adapter's name, and what it does not bring.

    Empty where no distribution declares the adapter, or where it has no extra from which the names could be known.
    """
    name = adapter.partition(":")[0]
    own = name.partition("-")[0]
    for point in entry_points(group="convspec.adapters", name=name):
        brings: dict[str, set[str]] = {}
        for requirement in (point.dist and point.dist.requires) or ():
            if found := _EXTRA.fullmatch(requirement):
                brings.setdefault(found[2], set()).add(found[1])
        rest = [module for module in missing if module not in brings.get(own, ())]
        if point.dist is not None and set(missing) <= set().union(*brings.values()):
            extra = [f"'{point.dist.name}[{own}]'"] if len(rest) < len(missing) else []
            return " ".join(["pip install", *extra, *rest])
    return ""

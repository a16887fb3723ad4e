"""The ``picture`` directive of the site: an expression of ``convspec.layers.pictures``, drawn at each build.

The expressions stand on a page of their own, "How the pictures are drawn", to which every picture links.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from convspec import Chain, ConvSpec
from convspec.layers import pictures

DOCS = Path(__file__).parents[1] / "docs"
PAGE = "reference/pictures"
_PICTURE = re.compile(r"^```\{picture\}\n(.*?)^```$", re.M | re.S)


def draw(expression: str) -> str:
    """Return the SVG of an expression over ``ConvSpec``, ``Chain`` and ``convspec.layers.pictures``."""
    names: dict[str, Any] = {name: getattr(pictures, name) for name in pictures.__all__}
    return str(eval(expression, {**names, "ConvSpec": ConvSpec, "Chain": Chain}))


def mark(expression: str) -> str:
    """Return the id of an expression's place on the page of pictures."""
    return f"picture-{hashlib.sha256(_flat(expression).encode()).hexdigest()[:8]}"


def drawn_by(place: str, root: str) -> str:
    return f'<p class="drawn-by"><a href="{root}{PAGE}.html#{place}">How this was drawn</a></p>'


def _flat(expression: str) -> str:
    return " ".join(line.strip() for line in expression.strip().splitlines())


def listing() -> str:
    """Return the call of every picture on the site, under the page that shows it."""
    parts, seen = [], set()
    for page in sorted(DOCS.rglob("*.md")):
        name = page.relative_to(DOCS)
        found = [text for text in _PICTURE.findall(page.read_text("utf-8")) if mark(text) not in seen]
        if name.parts[0].startswith("_") or not found:
            continue
        title = re.search(r"^# (.+)$", page.read_text("utf-8"), re.M)
        parts.append(f"## [{title[1] if title else name.stem}](/{name})\n")
        for text in found:
            seen.add(mark(text))
            parts.append(f"({mark(text)})=\n```py\npictures.{_flat(text)}\n```\n")
    return "\n".join(parts)


class Picture(SphinxDirective):
    """A picture in the page, with a link to the call that drew it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        expression = "\n".join(self.content)
        root = "../" * self.env.docname.count("/")
        box = nodes.container(classes=["picture"])
        box += nodes.raw("", draw(expression) + drawn_by(mark(expression), root), format="html")
        return [box]

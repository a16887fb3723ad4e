"""The ``picture`` directive of the site: an expression of ``convspec.layers.pictures``, drawn at each build."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from convspec import Chain, ConvSpec
from convspec.layers import pictures


def draw(expression: str) -> str:
    """Return the SVG of an expression over ``ConvSpec``, ``Chain`` and ``convspec.layers.pictures``."""
    names: dict[str, Any] = {name: getattr(pictures, name) for name in pictures.__all__}
    return str(eval(expression, {**names, "ConvSpec": ConvSpec, "Chain": Chain}))


class Picture(SphinxDirective):
    """A picture in the page, with the call that drew it below."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        expression = "\n".join(self.content)
        call = " ".join(line.strip() for line in self.content)
        box = nodes.container(classes=["picture"])
        box += nodes.raw("", draw(expression), format="html")
        box += nodes.paragraph("", "", nodes.literal(call, call), classes=["drawn-by"])
        return [box]

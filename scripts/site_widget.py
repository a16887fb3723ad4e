"""The widgets of the site: on pages that have one, its script and its style."""

from __future__ import annotations

from typing import Any

from docutils import nodes


def _add(app: Any, _page: str, _template: str, _context: dict[str, Any], doctree: nodes.document | None) -> None:
    if doctree is not None and any("<conv-" in raw.astext() for raw in doctree.findall(nodes.raw)):
        app.add_js_file("widget/elements.js", type="module")
        app.add_css_file("widget/widget.css")


def setup(app: Any) -> None:
    """Register with Sphinx."""
    app.connect("html-page-context", _add)

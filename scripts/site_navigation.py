"""The navigation of the site: the sections of the front page's toctrees, and the breadcrumbs of each page."""

from __future__ import annotations

from typing import Any

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def sections(env: BuildEnvironment) -> dict[str, list[str]]:
    """Return the pages of each section: the captions and entries of the front page's toctrees."""
    trees = env.get_doctree(env.config.root_doc).findall(addnodes.toctree)
    return {tree["caption"]: [page for _, page in tree["entries"]] for tree in trees}


def path(env: BuildEnvironment, page: str) -> tuple[str, list[str]] | None:
    """Return the section of a page and the pages above it, the topmost first; None if no toctree lists the page."""
    above = {child: parent for parent, children in env.toctree_includes.items() for child in children}
    pages = []
    while (parent := above.get(page)) not in (None, env.config.root_doc):
        assert parent is not None
        pages.insert(0, parent)
        page = parent
    section = next((name for name, listed in sections(env).items() if page in listed), None)
    return None if section is None else (section, pages)


def breadcrumbs(app: Sphinx, pagename: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Give a page's template its breadcrumbs: title and address of its section, then of each page above."""
    found = path(app.env, pagename)
    if found is None:
        return
    section, pages = found
    link, first = context["pathto"], sections(app.env)[section][0]
    titles = [(app.env.titles[page].astext(), link(page)) for page in pages]
    context["breadcrumbs"] = [(section, None if first in (*pages, pagename) else link(first)), *titles]

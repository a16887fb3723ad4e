"""What search engines and the site's own search read: descriptions, synonyms, the index by Pagefind, the sitemap."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import site_messages
from docutils import nodes
from sphinx.application import Sphinx

HIDDEN = ("decisions/", "performance", "404", "genindex", "search")  # beginnings of pages that the search leaves out
LONGEST = 160  # characters of a description
SECONDS = 120


def base(address: str) -> str:
    """Return the site's address with a slash at its end, empty if none is set; raise ValueError for another text."""
    if address and not address.startswith(("http://", "https://")):
        raise ValueError(f"CONVSPEC_SITE_URL={address!r} must start with http:// or https://")
    return address and f"{address.rstrip('/')}/"


def searchable(page: str) -> bool:
    """Return whether the search finds a page."""
    return not page.startswith(HIDDEN)


def describe(
    app: Sphinx, pagename: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give a page's template the site's address, and description and synonyms: of its front matter, else its text."""
    meta = app.env.metadata.get(pagename, {})
    context["keywords"] = _keywords(app, pagename)
    context["searchable"] = searchable(pagename)
    context["site"] = app.config.html_baseurl
    paragraph = None if doctree is None else next(doctree.findall(nodes.paragraph), None)
    text = meta.get("description") or ("" if paragraph is None else " ".join(paragraph.astext().split()))
    context["description"] = text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Write the search's index and, if the site's address is known, the sitemap."""
    if exception is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    (site / "_static" / "search-words.js").write_text(words(app), "utf-8")
    command = [sys.executable, "-m", "pagefind", "--site", str(site), "--quiet", "--include-characters", "_"]
    subprocess.run(command, check=True, timeout=SECONDS)
    if app.config.html_baseurl:
        pages = sorted(page for page in app.env.found_docs if searchable(page))
        (site / "sitemap.xml").write_text(sitemap(app.config.html_baseurl, pages), "utf-8")


def words(app: Sphinx) -> str:
    """Return the JavaScript module with titles and synonyms of all pages and messages that the search finds."""
    pages = [
        {"url": f"{page}.html", "title": app.env.titles[page].astext(), "keywords": _keywords(app, page)}
        for page in sorted(app.env.found_docs)
        if searchable(page)
    ]
    for kind, place in (("error", None), ("reported", "others")):
        for entry in site_messages.errors(kind):
            url = f"reference/messages/{place or entry['framework']}.html"
            pages.append({"url": url, "title": entry["title"], "keywords": entry["says"]})
    return f"export const pages = {json.dumps(pages, ensure_ascii=False, indent=0)};\n"


def _keywords(app: Sphinx, page: str) -> str:
    return str(app.env.metadata.get(page, {}).get("keywords", ""))


def sitemap(base: str, pages: list[str]) -> str:
    """Return the sitemap of a site at this address."""
    places = [escape(f"{base}{page}.html") for page in pages]
    urls = "".join(f"  <url><loc>{place}</loc></url>\n" for place in places)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    return f"{head}{urls}</urlset>\n"

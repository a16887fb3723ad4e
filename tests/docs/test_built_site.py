"""The site as ``make docs`` has built it: no link within it leads nowhere, neither to a page nor to a place on it."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.places = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.places |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]


def broken(folder):
    pages = {page.resolve(): Links(page.read_text("utf-8")) for page in folder.rglob("*.html")}
    for page, found in pages.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            # the fragments of the calculator are layers
            place = parts.fragment if target in pages and target.name != "calculator.html" else ""
            if not target.exists() or (place and unquote(place) not in pages[target].places):
                yield f"{page.relative_to(folder.resolve())}: {link}"


def test_no_link_is_broken():
    if not (SITE / "index.html").exists():
        pytest.skip("the site is not built: make docs")
    assert len(list(SITE.rglob("*.html"))) > 50
    assert not [*broken(SITE)]


def test_a_broken_link_is_noticed(tmp_path):
    (tmp_path / "a.html").write_text('<p id="here"><a href="b.html">b</a><a href="#here">h</a><a href="#there">t</a>')
    assert [*broken(tmp_path)] == ["a.html: b.html", "a.html: #there"]

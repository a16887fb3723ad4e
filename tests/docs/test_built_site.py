"""The site as ``make docs`` has built it: no link within it leads nowhere, neither to a page nor to a place on it."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

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


CONF = """
import sys
sys.path.insert(0, {scripts!r})
import site_search

extensions = ["myst_parser"]
html_theme = "furo"
html_title = "convspec"
templates_path = [{templates!r}]
html_baseurl = site_search.base({address!r})

def setup(app):
    app.connect("html-page-context", site_search.describe)
    app.connect("build-finished", site_search.finish)
"""
PAGES = {
    "index.md": "# Home\n\nThe first page.\n\n```{toctree}\ndecisions/index\nreference/stride\n404\n```\n",
    "404.md": "# No such page\n\nSearch for it.\n",
    "decisions/index.md": "# Decisions\n\nNot for the search.\n",
    "reference/stride.md": "# stride\n\nThe step of the window.\n",
}


@pytest.fixture
def built(tmp_path):
    """A small site with the templates and the search of the documentation, built for an address."""
    pytest.importorskip("furo", reason="the extra docs is not installed")
    pytest.importorskip("pagefind", reason="the extra docs is not installed")

    def build(address):
        for name, text in PAGES.items():
            (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "docs" / name).write_text(text)
        root = Path(__file__).parents[2]
        words = {"scripts": str(root / "scripts"), "templates": str(root / "docs" / "_templates"), "address": address}
        (tmp_path / "docs" / "conf.py").write_text(CONF.format(**words))
        command = [sys.executable, "-m", "sphinx", "-q", "-W", str(tmp_path / "docs"), str(tmp_path / "site")]
        subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
        return {page.relative_to(tmp_path / "site").as_posix(): page for page in (tmp_path / "site").rglob("*")}

    return build


@pytest.mark.parametrize("address", ["https://example.org/convspec", "https://example.org/convspec/"])
def test_with_an_address_pages_have_canonical_links_and_there_is_a_sitemap(built, address):
    files = built(address)
    base = "https://example.org/convspec/"
    page = files["reference/stride.html"].read_text("utf-8")
    for part in (
        f'<link rel="canonical" href="{base}reference/stride.html"',
        f'<meta property="og:url" content="{base}reference/stride.html">',
        f'<meta property="og:image" content="{base}_static/social.png">',
        '<meta name="description" content="The step of the window.">',
    ):
        assert page.count(part) == 1, part
    missing = files["404.html"].read_text("utf-8")
    assert missing.index(f'<base href="{base}">') < min(missing.index(link) for link in ("stylesheet", "<script"))
    sitemap = ET.parse(files["sitemap.xml"]).getroot()
    places = [element.text for element in sitemap.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert places == [f"{base}index.html", f"{base}reference/stride.html"]


def test_without_an_address_nothing_is_canonical(built, monkeypatch):
    files = built("")
    assert "sitemap.xml" not in files
    page = files["reference/stride.html"].read_text("utf-8")
    assert not [word for word in ("canonical", "og:url", "og:image", "<base") if word in page]
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    import site_search

    with pytest.raises(ValueError, match="must start with http"):
        site_search.base("example.org")

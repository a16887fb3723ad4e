"""Pages of the site by axe, light and dark, on a phone and on a desk: no violation."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
VERSION = "4.14.1"
INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="  # SHA-512
ARCHIVE = Path(__file__).parents[2] / "docs" / "_build" / f"axe-core-{VERSION}.tgz"
PAGES = {
    **{name: f"{name}.html" for name in ("index", "explain", "calculator", "divergences/index")},
    **{name: f"reference/parameters/{name}.html" for name in ("out_channels", "padding", "kernel_size")},
    "first answer": "calculator.html#layer=nn.Conv2d(4,+8,+3,+stride=2)&input=33",
    "network that fails": "calculator.html",
}
WIDTHS = (360, 1280)


@pytest.fixture(scope="module")
def axe():
    """The script of axe-core, one pinned release from npm."""
    if not ARCHIVE.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm, which fetches axe-core, is not installed")
        command = [npm, "pack", "--silent", f"axe-core@{VERSION}", "--pack-destination", str(ARCHIVE.parent)]
        if subprocess.run(command, capture_output=True, check=False, timeout=180).returncode:
            pytest.skip(f"npm cannot fetch axe-core {VERSION}")
    assert base64.b64encode(hashlib.sha512(ARCHIVE.read_bytes()).digest()).decode() == INTEGRITY
    with tarfile.open(ARCHIVE) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


def violations(page, axe):
    """Return the rule, its impact, and the first places of each violation on the page."""
    page.evaluate(axe)
    found = page.evaluate("async () => (await axe.run(document, { resultTypes: ['violations'] })).violations")
    return [(one["id"], one["impact"], [node["html"][:160] for node in one["nodes"][:3]]) for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(name, scheme, axe, browser, site):
    for width in WIDTHS:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.route("**/calculator-worker.js", lambda route: None)  # Python is not needed, and takes its time
        page.goto(f"{site}/{PAGES[name]}")
        if "calculator" in PAGES[name]:
            page.wait_for_selector("article table")
        if name == "network that fails":
            page.locator(".examples a").last.click()
            page.wait_for_selector("tr.misfit")
        assert violations(page, axe) == [], (name, scheme, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        context.close()


def test_a_violation_is_noticed(axe, browser):
    page = browser.new_page()
    page.set_content("<html lang=en><title>x</title><main><img src=x.png><h1>x</h1></main></html>")
    assert [rule for rule, _, _ in violations(page, axe)] == ["image-alt"]
    page.close()

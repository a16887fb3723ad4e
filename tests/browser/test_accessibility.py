"""Pages with pictures, widgets and the calculator break no rule of axe, in light and dark, at both widths.

axe is the npm package ``axe-core``, one pinned release with its checksum, fetched once into ``docs/_build``.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
BUILD = Path(__file__).parents[2] / "docs" / "_build"
VERSION = "4.14.1"
INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="  # SHA-512
PAGES = {
    "calculator": "calculator.html",
    "first-answer": "calculator.html#layer=nn.Conv2d(4,+8,+3,+stride=2)&input=33",
    "network-that-fails": "calculator.html",
    "out_channels": "reference/parameters/out_channels.html",
    "padding": "reference/parameters/padding.html",
    "kernel_size": "reference/parameters/kernel_size.html",
}
RUN = """axe.run().then(({ violations }) => violations.map(({ id, nodes }) =>
    `${id}: ${nodes.map(({ target, any }) => `${target.join(" ")} (${any[0]?.message ?? ""})`).join("; ")}`))"""


@pytest.fixture(scope="session")
def axe():
    archive = BUILD / f"axe-core-{VERSION}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None or subprocess.run(
            [npm, "pack", "--silent", f"axe-core@{VERSION}", "--pack-destination", str(BUILD)],
            capture_output=True, check=False, timeout=180,
        ).returncode:  # fmt: skip
            pytest.skip("axe-core cannot be fetched: no npm, or no network")
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == INTEGRITY
    with tarfile.open(archive) as package:
        script = package.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_no_rule_is_broken(browser, site, axe, name, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.route("**/calculator-worker.js", lambda route: None)  # Python is not needed, and takes its time
    page.goto(f"{site}/{PAGES[name]}")
    page.wait_for_selector("article table")
    if name == "network-that-fails":
        page.locator(".examples a").last.click()
        page.wait_for_selector("tr.misfit")
    page.evaluate(axe)
    found = page.evaluate(RUN)
    context.close()
    assert not found


def test_a_broken_rule_is_noticed(browser, axe):
    page = browser.new_page()
    page.set_content("<main><h1>A</h1><img src='a.png'></main>")
    page.evaluate(axe)
    assert any(text.startswith("image-alt") for text in page.evaluate(RUN))
    page.close()

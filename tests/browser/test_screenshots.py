"""The screenshots of the documentation, taken by this test: ``CONVSPEC_UPDATE_SCREENSHOTS=1`` writes them anew."""

import os
import struct
from pathlib import Path

import pytest

import convspec
from convspec import corpora
from convspec.cli.reports import run_files

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "_static"
LARGEST = 150_000  # bytes
SIZE = {"width": 1100, "height": 760}
SHOTS = {
    "front": ("index.html", "h1", "light"),
    "out_channels": ("reference/parameters/out_channels.html", "h1", "light"),
    "calculator": ("calculator.html", "#answer table", "light"),
    "report": (None, "details.case", "light"),
}


@pytest.mark.parametrize("name", SHOTS)
def test_screenshot(name, browser, site, tmp_path):
    path, awaited, scheme = SHOTS[name]
    if path is None:
        cases = corpora.sample(corpora.load("features"), 90, 0)
        report = convspec.check(cases, ["convspec_fakes:GOOD", "convspec_fakes:SAME_LOWER"])
        (tmp_path / "run.html").write_text(run_files.page(report), "utf-8")
    context = browser.new_context(viewport=SIZE, color_scheme=scheme)
    page = context.new_page()
    page.goto((tmp_path / "run.html").as_uri() if path is None else f"{site}/{path}")
    page.wait_for_selector(awaited, timeout=60_000)
    if path is None:
        page.click("details.case summary")
        page.evaluate(
            "document.getElementById('failures').scrollIntoView(); scrollBy({ top: -260, behavior: 'instant' })"
        )
    if name == "calculator":
        page.evaluate("document.querySelector('label[for=layer]').scrollIntoView({ behavior: 'instant' })")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # painted
    taken = page.screenshot()
    context.close()
    assert len(taken) <= LARGEST
    file = FOLDER / f"{name}.png"
    if os.environ.get("CONVSPEC_UPDATE_SCREENSHOTS"):
        file.write_bytes(taken)
    kept = file.read_bytes()
    assert kept.startswith(b"\x89PNG")
    assert struct.unpack(">II", kept[16:24]) == tuple(SIZE.values())
    assert len(kept) <= LARGEST

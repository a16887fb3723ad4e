"""The screenshots of the documentation, taken by this test: ``CONVSPEC_UPDATE_SCREENSHOTS=1`` writes them anew.

Two are shown in the documentation; the others, in ``docs/screenshots``, are kept to be looked at when the site changes.
"""

import os
import struct
from pathlib import Path

import pytest

import convspec
from convspec import corpora
from convspec.cli.reports import run_files

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
LARGEST = 150_000  # bytes
SIZE = (1100, 760)
NETWORK = "calculator.html"
PAGES = {  # the page, what is waited for, what is scrolled to
    "front": ("index.html", "h1", None),
    "out_channels": ("reference/parameters/out_channels.html", "h1", None),
    "widget": ("reference/parameters/kernel_size.html", "conv-window .cell.chosen", "conv-window"),
    "network": (NETWORK, "tr.misfit", "#answer"),
    "divergences": ("divergences/index.html", "table tbody tr", None),
}
SHOTS = {
    "_static/calculator": (NETWORK, "#answer table", "label[for=layer]", SIZE),
    "_static/report": (None, "details.case", None, SIZE),
    **{
        f"screenshots/{name}-{width}": (*page, (width, height))
        for name, page in PAGES.items()
        for width, height in ((1280, 640), (360, 740))
    },
}


@pytest.mark.parametrize("name", SHOTS)
def test_screenshot(name, browser, site, tmp_path):
    path, awaited, place, (width, height) = SHOTS[name]
    if path is None:
        cases = corpora.sample(corpora.load("features"), 90, 0)
        report = convspec.check(cases, ["convspec_fakes:GOOD", "convspec_fakes:SAME_LOWER"])
        (tmp_path / "run.html").write_text(run_files.page(report), "utf-8")
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
    page = context.new_page()
    page.goto((tmp_path / "run.html").as_uri() if path is None else f"{site}/{path}")
    if awaited == "tr.misfit":
        page.locator(".examples a").last.click()
    page.wait_for_selector(awaited, timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if path is None:
        page.click("details.case summary")
        page.evaluate(
            "document.getElementById('failures').scrollIntoView(); scrollBy({ top: -260, behavior: 'instant' })"
        )
    elif place:
        page.evaluate("place => document.querySelector(place).scrollIntoView({ behavior: 'instant' })", place)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # painted
    taken = page.screenshot()
    context.close()
    assert len(taken) <= LARGEST
    file = ROOT / "docs" / f"{name}.png"
    if os.environ.get("CONVSPEC_UPDATE_SCREENSHOTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(taken)
    kept = file.read_bytes()
    assert kept.startswith(b"\x89PNG")
    assert struct.unpack(">II", kept[16:24]) == (width, height)
    assert len(kept) <= LARGEST

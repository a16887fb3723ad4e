"""A real browser without a window: Chromium, the system's or Playwright's, on the site that ``make docs`` has built."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder):
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("CONVSPEC_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: install one, or `playwright install chromium`")
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site():
    """The address of the built site, its scripts and its Python those of this very tree."""
    import site_calculator

    if not (SITE / "calculator.html").exists():
        pytest.skip("the site is not built: make docs")
    if not (SITE / "calculator" / "pyodide" / "pyodide.asm.wasm").exists():
        pytest.skip("the site was built without pyodide, for want of npm or a network")
    site_calculator.wheel(SITE / "calculator" / "convspec.whl")
    site_calculator.bundle(SITE / "calculator")
    shutil.copytree(ROOT / "docs" / "_static", SITE / "_static", dirs_exist_ok=True)
    server = serve(SITE)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()

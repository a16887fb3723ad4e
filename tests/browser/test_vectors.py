"""The JavaScript reader of the pack of test vectors, in a browser."""

import shutil
from pathlib import Path

import pytest

from convspec.corpora import pack
from tests.browser.conftest import serve

pytestmark = pytest.mark.browser
READER = Path(__file__).parents[2] / "vectors" / "readers" / "javascript"


def test_the_reader_passes_the_pack_in_a_browser(browser, tmp_path):
    shutil.copytree(READER, tmp_path, dirs_exist_ok=True)
    made = pack.write(tmp_path / "pack", lambda _: {})
    server = serve(tmp_path)
    page = browser.new_page()
    try:
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/example.html")
        page.wait_for_selector("pre[data-status]", state="attached", timeout=120_000)
        assert page.inner_text("#result").strip() == f"{made.vectors} vectors, 0 failed"
        assert page.get_attribute("#result", "data-status") == "0"
    finally:
        page.close()
        server.shutdown()
        server.server_close()

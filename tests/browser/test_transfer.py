"""What a reader's connection has to carry: bytes, which are the same on every machine, at 12 Mbit/s."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
RATE = 12e6 / 8  # bytes per second
LANDING, FIRST, WHOLE = 1.5, 0.5, 8.0  # seconds that the front page, the first answer and Python's answer may take
COMPUTING = 3.5  # of them for starting Python, beside the transfer


class Counting(http.server.SimpleHTTPRequestHandler):
    """A static server that knows how many bytes it has sent, of which file."""

    sent: dict[str, int] = {}

    def copyfile(self, source, outputfile):
        self.sent[self.path] = Path(source.name).stat().st_size
        shutil.copyfileobj(source, outputfile)

    def log_message(self, *_):
        pass


@pytest.fixture
def counted(site):  # the site with this tree's scripts
    class Handler(Counting):
        sent: dict[str, int] = {}

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", Handler.sent
    server.shutdown()
    server.server_close()


def test_the_front_page_is_small(browser, counted):
    address, sent = counted
    page = browser.new_page()
    page.goto(f"{address}/index.html", wait_until="networkidle")
    page.close()
    assert sum(sent.values()) < LANDING * RATE, sent


def test_the_first_answer_needs_no_python_and_the_whole_one_is_small(browser, counted):
    address, sent = counted
    page = browser.new_page()
    page.goto(f"{address}/calculator.html")
    page.wait_for_selector("#answer table")
    later = ("/calculator/", "/_static/calculator-answers.json")
    before = {path: size for path, size in sent.items() if not path.startswith(later)}
    assert sum(before.values()) < FIRST * RATE, before
    page.wait_for_function("document.getElementById('status').textContent === 'ready'", timeout=120_000)
    page.close()
    assert "/calculator/pyodide/pyodide.asm.wasm.gz" in sent
    whole = ("pyodide/pyodide.asm.wasm", "pyodide/pyodide.asm.mjs", "pyodide/python_stdlib.zip", "convspec.whl")
    assert not {f"/calculator/{name}" for name in whole} & {*sent}
    assert sum(sent.values()) < (WHOLE - COMPUTING) * RATE, sent


def test_a_module_that_was_not_packed_is_loaded_with_the_whole_library(browser, counted):
    """A request may need a module of the library that no example of the page has used."""
    address, sent = counted
    page = browser.new_page()
    page.goto(f"{address}/404.html")
    found = page.evaluate(
        """async (address) => {
            const file = `${address}/_static/calculator-worker.js`;
            const code = (await (await fetch(file)).text()).replaceAll("import.meta.url", JSON.stringify(file))
              .replace("return json.dumps", "import wave\\n    return json.dumps");
            const place = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
            const worker = new Worker(place, { type: "module" });
            const told = () => new Promise((done) => { worker.onmessage = ({ data }) => done(data); });
            const ready = await told();
            worker.postMessage({ id: 1, call: "calculate", args: ["nn.Conv2d(3, 16, 3)", "32"] });
            return [ready, await told()];
        }""",
        address,
    )
    page.close()
    assert found[0] == {"ready": True}
    assert found[1]["result"]["layers"][0]["rows"]
    assert {"/calculator/pyodide/python_stdlib.zip", "/calculator/convspec.whl"} <= {*sent}

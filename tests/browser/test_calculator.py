"""The calculator as a reader meets it: the page, Python in the browser, and what comes out."""

import json
import urllib.parse
from pathlib import Path

import pytest

from convspec.layers import calculate

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
READY = 60_000  # ms, Python's start on a slow machine
TYPED = "nn.Conv2d(3, 8, (3, 5), stride=2, padding=1)"


@pytest.fixture(scope="module")
def opened(browser, site):
    """One page for all tests: Python starts once."""
    context = browser.new_context()
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    page.goto(f"{site}/calculator.html")
    page.wait_for_selector("#answer table", timeout=READY)
    yield page, errors
    context.close()


@pytest.fixture
def page(opened):
    """A test fails on any error of a script, and on any dialog."""
    found, errors = opened
    errors.clear()
    yield found
    assert not errors


def settled(page, act):
    """Do something, and wait for the answer to it."""
    before = int(page.evaluate("document.body.dataset.round ?? 0"))
    act()
    page.wait_for_function(f"Number(document.body.dataset.round ?? 0) > {before}", timeout=20_000)


def typed(page, text, size="", channels="", layout=""):
    """Fill in the form; the last key starts the computation."""
    rest = {"input": size, "in_channels": channels, "layout": layout}
    page.evaluate("rest => { for (const id in rest) document.getElementById(id).value = rest[id] }", rest)
    settled(page, lambda: page.fill("#layer", text + " "))


def rows(page):
    return [
        [cell.inner_text() for cell in row.query_selector_all("th,td")] for row in page.query_selector_all(".rows tr")
    ]


def told_below(page, what):
    """The line in small print below something; none is the empty text."""
    return page.evaluate(
        "what => { const next = document.querySelector(`#answer ${what}`).nextElementSibling;"
        " return next.matches('p.soft') ? next.innerText : '' }",
        what,
    )


def told(page):
    return page.inner_text("#problem") if page.is_visible("#problem") else ""


def test_it_starts_with_an_example(page):
    assert page.input_value("#layer") == "nn.Conv2d(3, 16, 3, stride=2, padding=1)"
    assert ["output H", "⌊(32 + 1 + 1 - 3) / 2⌋ + 1 = 16"] in rows(page)
    assert page.inner_text("#status") == "ready"


def test_what_it_shows_is_what_python_says_here(page):
    typed(page, TYPED, "9, 11")
    wanted = calculate(TYPED, "9, 11")["layers"][0]
    assert rows(page) == wanted["rows"]
    assert [s.inner_text().rstrip("\n") for s in page.query_selector_all(".framework > .highlight pre")] == [
        f["source"].rstrip("\n") for f in wanted["frameworks"]
    ]
    assert page.locator(".framework li").count() == sum(len(f["remarks"]) for f in wanted["frameworks"])
    drawn = page.evaluate("document.querySelector('#answer svg.convspec desc').textContent")
    assert drawn.startswith("Output (0, 0) reads")
    assert drawn in wanted["picture"]
    assert told_below(page, ".picture") == wanted["drawn"]
    typed(page, TYPED, "224, 224")
    assert "same pads and windows as for yours" in told_below(page, ".picture")


@pytest.mark.parametrize(
    ("text", "channels", "support"),
    [
        ("keras.layers.Conv2D(16, 3, strides=2, padding='same')", "3", ["composed", "native", "native", "native"]),
        ("nnx.Conv(3, 16, (3, 3), padding='VALID')", "", ["native"] * 4),
        ("Conv(W=[6, 3, 3, 3], strides=[2, 2], pads=[1, 1, 1, 1])", "", ["native", "native", "composed", "native"]),
        ('{"in_channels": 3, "out_channels": 8, "kernel_size": [3, 3]}', "", ["native"] * 4),
        ("ConvSpec(3, 8, kernel_size=(3, 3))", "", ["native"] * 4),
    ],
)
def test_a_pasted_constructor_of_every_framework(page, text, channels, support):
    typed(page, text, "32", channels)
    assert told(page) == ""
    assert [s.inner_text() for s in page.query_selector_all(".support")][:4] == support


def test_a_wrong_layer_says_what_must_be(page):
    typed(page, "nn.Conv2d(3, 16, 3, groups=2)", "32")
    assert told(page).strip() == "groups=2 must divide in_channels=3"
    assert page.get_attribute("#layer", "aria-invalid") == "true"
    typed(page, "nn.Conv2d(3, 16, kernel)", "32")
    line, _, pointer = told(page).splitlines()[0:3]
    assert "kernel_size must be a literal" in line
    assert pointer.strip() == "^"
    typed(page, "Conv2D(16, 3)", "32")
    assert page.get_attribute("#in_channels", "aria-invalid") == "true"
    typed(page, "nn.Conv2d(3, 16, 3)", "1, 32, 32, 3")
    assert "this looks like NHWC" in told(page)
    assert page.get_attribute("#input", "aria-invalid") == "true"
    typed(page, "nn.Conv2d(3, 16, 3)", "32")
    assert told(page) == ""


def test_a_chain(page):
    typed(page, "nn.Conv2d(1, 6, 5, padding=2)\nConv2D(16, 5, strides=2)", "28")
    assert ["Linear/Dense after a flatten", "in_features = 2,304"] in rows(page)
    assert page.locator("details.layer").count() == 2


def test_the_fields_write_the_layer(page):
    typed(page, "nn.Conv2d(3, 16, 3)", "32")
    page.click("#fields summary")
    assert page.input_value("#f-out_channels") == "16"
    settled(page, lambda: page.fill("#f-padding", "same"))
    assert page.input_value("#layer") == "ConvSpec(in_channels=3, out_channels=16, kernel_size=3, padding='same')"
    settled(page, lambda: page.fill("#f-kernel_size", "3, 5"))
    assert ["kernel (O, I/g, …)", "16 × 3 × 3 × 5"] in rows(page)
    page.click("#fields summary")


def test_a_link_brings_it_back(page, site):
    typed(page, TYPED, "9, 11")
    link = page.url
    assert link.startswith(f"{site}/calculator.html#layer=")
    wanted = rows(page)
    typed(page, "nn.Conv1d(3, 8, 3)", "")
    settled(page, lambda: page.evaluate("link => { location.hash = new URL(link).hash }", link))
    assert page.input_value("#layer").strip() == TYPED
    assert rows(page) == wanted


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "nn.Conv2d(3, 16, '<script>alert(1)</script>')",
    "nn.Conv2d(3, 16, 3, padding_mode='</textarea><svg onload=alert(1)>')",
    json.dumps({"in_channels": 3, "<b onmouseover=alert(1)>": "<iframe src=javascript:alert(1)>"}),
    "javascript:alert(1)",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_link_holds_is_text_and_never_markup(page, text):
    link = "#" + urllib.parse.urlencode({"layer": text, "input": "<b>1</b>", "in_channels": "'\"><i>", "layout": "<u>"})
    before = page.evaluate("document.querySelectorAll('script,img,iframe,b,i,u').length")
    page.evaluate("document.getElementById('answer').replaceChildren()")
    settled(page, lambda: page.evaluate("link => { location.hash = link }", link))
    assert page.input_value("#layer") == text
    assert told(page)
    assert page.evaluate("document.querySelectorAll('script,img,iframe,b,i,u').length") <= before
    assert page.evaluate("document.querySelectorAll('#problem > pre > *').length") == 0


def test_a_layer_beyond_reason_is_refused(page):
    typed(page, "nn.Conv2d(3, 16, 999999999, padding=499999999)", "")
    assert rows(page)[-1][0] == "receptive field"
    typed(page, "nn.Conv2d(3, 16, 12345678901)", "")
    assert "more than 9 digits" in told(page)


def test_by_keyboard_alone(page):
    typed(page, "nn.Conv2d(3, 16, 3)", "32")
    page.focus("#layer")
    seen = []
    for _ in range(5):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert seen == ["input", "in_channels", "layout", "SUMMARY", "copy"]
    page.focus("#layer")
    page.keyboard.press("Control+A")
    settled(page, lambda: page.keyboard.type("nn.Conv1d(2, 4, 5)"))
    page.wait_for_function("document.querySelector('.spec').textContent.startsWith('ConvSpec(2, 4, kernel_size=(5,)')")
    controls = "[...document.querySelectorAll('.calculator input,.calculator select,.calculator textarea')]"
    assert page.evaluate(f"{controls}.filter(e => !e.labels.length).length") == 0


def test_on_a_phone_nothing_sticks_out(page):
    page.set_viewport_size(PHONE)
    typed(page, "keras.layers.Conv2D(16, 3, strides=2, padding='same')", "1, 224, 224, 3", "3")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]


def test_opened_as_a_file_the_page_says_what_is_missing(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.goto((Path(__file__).parents[2] / "docs" / "_build" / "html" / "calculator.html").as_uri())
    assert "make docs-serve" in page.inner_text("#status")
    page.goto((Path(__file__).parents[2] / "docs" / "_build" / "html" / "index.html").as_uri())
    assert page.locator("svg.convspec").count() > 0
    context.close()


def test_without_python_the_page_says_so(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.route("**/pyodide.mjs", lambda route: route.abort())
    page.goto(f"{site}/calculator.html")
    page.wait_for_selector("#problem:not([hidden])", timeout=10_000)
    assert "Python could not be loaded" in page.inner_text("#problem")
    context.close()


FACTS = """
import json, sys
from convspec import ConvSpec, Chain
from convspec.spec import layouts
from convspec.errors import ConvspecError

def told(line):
    entry = json.loads(line)
    spec, shape = ConvSpec.from_dict(entry["spec"]), tuple(entry["input_shape"])
    found = [repr(spec), spec.to_json(), spec.kernel_shape, spec.num_parameters, spec.effective_kernel]
    try:
        field = spec.receptive_field(shape)
        found += [spec.output_shape(shape), repr(spec.explicit(shape)), spec.macs(shape), repr(field)]
        found += [layouts.shape_in(shape, "NHWC", spec.ndim), Chain([spec]).shapes(shape)]
    except ConvspecError as error:
        found.append(f"{type(error).__name__}: {error}")
    return found

def refused(fields):
    try:
        return repr(ConvSpec.from_dict(fields))
    except ConvspecError as error:
        return str(error)

from importlib.resources import files
lines = (files("convspec") / "corpora" / "features.jsonl").read_text("utf-8").splitlines()
broken = [{"in_channels": 3, "out_channels": 0, "kernel_size": [3, 0], "groups": 2}, {"stride": None, "padding": 1.5}]
facts = json.dumps([[told(line) for line in lines if line.strip()], [refused(fields) for fields in broken]])
"""


def test_a_newer_python_computes_the_same_of_every_layer(page, site):
    """The browser's Python is 3.14: specs, sizes, errors and layouts of the corpus ``features``, compared with ours."""
    found = page.evaluate(
        """async ([home, code]) => {
            const { loadPyodide } = await import(`${home}/pyodide/pyodide.mjs`);
            const python = await loadPyodide({ indexURL: `${home}/pyodide/` });
            python.unpackArchive(await (await fetch(`${home}/convspec.whl`)).arrayBuffer(), "wheel");
            python.runPython(code);
            return [python.runPython("sys.version_info[:2]").toJs(), python.runPython("facts")];
        }""",
        [f"{site}/calculator", FACTS],
    )
    assert [*found[0]] == [3, 14]
    ours: dict[str, object] = {}
    exec(FACTS, ours)
    theirs, here = json.loads(found[1]), json.loads(str(ours["facts"]))
    assert len(here[0]) > 150
    assert theirs == here


NETWORK = "nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(864, 10))"


@pytest.mark.parametrize("size", ["28", "32"])
def test_a_network_is_a_table_and_what_does_not_fit_is_marked(page, size):
    typed(page, NETWORK, size)
    assert told(page) == ""
    wanted = calculate(NETWORK, size)["network"]
    shown = [row.inner_text().split("\t") for row in page.query_selector_all("table.network tbody tr")]
    assert shown == wanted["table"]["rows"]
    assert page.locator("#answer svg.convspec").count() == 1
    marked = [row.inner_text().split("\t")[0] for row in page.query_selector_all("tr.misfit")]
    assert marked == (["4"] if size == "32" else [])
    if size == "32":
        assert page.inner_text("p.misfit") == wanted["error"]["message"]
        assert [li.inner_text() for li in page.query_selector_all("#answer ul li")] == [
            mend["words"] for mend in wanted["error"]["mends"]
        ]

"""The calculator as a reader meets it: the page, Python in the browser, and what comes out."""

import json
import random
import urllib.parse
from pathlib import Path

import pytest

from convspec.layers import calculate

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
READY = 120_000  # ms, Python's start on a slow machine
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
    page.wait_for_function("document.getElementById('status').textContent === 'ready'", timeout=READY)
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


def test_the_first_answers_are_in_the_page(browser, site):
    """Without Python: the examples have whole answers, and other simple layers their numbers and a widget."""
    context = browser.new_context()
    found = context.new_page()
    found.route("**/calculator-worker.js", lambda route: None)  # never answered
    with found.expect_response("**/calculator-answers.json"):
        found.goto(f"{site}/calculator.html")
    assert ["output H", "⌊(32 + 1 + 1 - 3) / 2⌋ + 1 = 16"] in rows(found)
    assert found.locator("[role=tab]").count() >= 4
    for i in range(found.locator(".examples a").count()):
        found.locator(".examples a").nth(i).click()
        found.wait_for_selector("#answer:not(.old) svg.convspec")
    assert found.locator("tr.misfit").count() == 1
    link = urllib.parse.urlencode({"layer": "nn.Conv2d(4, 8, 3, stride=2)", "input": "33"})
    found.evaluate("link => { location.hash = link }", link)
    found.wait_for_selector("#answer conv-window svg")
    assert rows(found) == calculate("nn.Conv2d(4, 8, 3, stride=2)", "33")["layers"][0]["rows"]
    link = urllib.parse.urlencode({"layer": NETWORK, "input": "32"})
    found.evaluate("link => { location.hash = link }", link)
    found.wait_for_selector("tr.misfit")
    assert found.inner_text("p.misfit") == "4 (Linear) expects 864 features, but gets 1,176"
    context.close()


WRITTEN = {
    "nn.Conv{n}d": ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias"),
    "nn.ConvTranspose{n}d": ("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding",
                             "groups", "bias", "dilation"),
    "keras.layers.Conv{n}D": ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate"),
    "nnx.Conv": ("in_features", "out_features", "kernel_size", "strides", "padding", "kernel_dilation",
                 "feature_group_count", "use_bias"),
    "ConvSpec": ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias",
                 "padding_mode", "transposed", "output_padding", "ndim"),
}  # fmt: skip


def random_text(rng):
    """A constructor with random arguments, some in order and some by name; and the size and channels of the form."""
    name, order = rng.choice([*WRITTEN.items()])
    n = rng.randint(1, 3)

    def each(low, high):
        return rng.choice([rng.randint(low, high), tuple(rng.randint(low, high) for _ in range(n))])

    groups = rng.choice([1, 1, 1, 2, 3])
    words = ["'same'", "'valid'", "'same_lower'", "'causal'"] if name == "ConvSpec" else ["'same'", "'valid'", "'SAME'"]
    pairs = tuple((rng.randint(0, 2), rng.randint(0, 2)) for _ in range(n))
    values = {
        "in_channels": groups * rng.randint(1, 4), "out_channels": groups * rng.randint(1, 900),
        "kernel_size": each(1, 5), "stride": each(1, 4), "dilation": each(1, 3),
        "padding": rng.choice([each(0, 3), pairs, rng.choice(words)]),
        "groups": groups, "bias": rng.choice([True, False]), "output_padding": each(0, 2), "padding_mode": "'zeros'",
        "transposed": rng.choice([True, False]), "ndim": n, "data_format": "'channels_last'",
    }  # fmt: skip
    alike = {
        "filters": "out_channels", "in_features": "in_channels", "out_features": "out_channels", "strides": "stride",
        "dilation_rate": "dilation", "kernel_dilation": "dilation", "feature_group_count": "groups", "use_bias": "bias",
    }  # fmt: skip
    least = 2 if "keras" in name else 3
    chosen = [key for i, key in enumerate(order) if i < least or rng.random() < 0.4]
    if name == "nnx.Conv":
        values["kernel_size"] = tuple(rng.randint(1, 5) for _ in range(n))
    placed = next((i for i, key in enumerate(order) if key not in chosen), len(order))
    first = min(rng.randint(0, placed), 4 if "keras" in name else 5 if name == "nnx.Conv" else placed)
    shown = [str(values[alike.get(key, key)]) for key in order[:first]]
    shown += [f"{key}={values[alike.get(key, key)]}" for key in chosen if key not in order[:first]]
    channels = rng.choice(["", str(values["in_channels"])])
    sizes = [rng.randint(1, 40) for _ in range(n)]
    size = rng.choice([[], sizes[:1], sizes, [values["in_channels"], *sizes], [2, values["in_channels"], *sizes],
                       [1, *sizes, values["in_channels"]]])  # fmt: skip
    text = f"{name.format(n=n)}({', '.join(shown)})"
    return text, rng.choice([", ", "×", "x"]).join(map(str, size)), rng.choice(["", "", "NCHW", "NHWC"]), channels


def test_the_first_answer_is_pythons_on_random_layers(page, site):
    """Python's rows, or no answer at all: wrong ones are never shown; of the layers that exist, most have one."""
    rng = random.Random(3)
    requests = [random_text(rng) for _ in range(500)]
    found = page.evaluate(
        "async ([module, requests]) => { const { firstAnswer } = await import(module);"
        " return requests.map((request) => firstAnswer(...request)?.rows ?? null) }",
        [f"{site}/_static/calculator/first.js", requests],
    )
    wanted = [calculate(*request) for request in requests]
    exist = [i for i, answer in enumerate(wanted) if "layers" in answer]
    for request, answer, shown in zip(requests, wanted, found, strict=True):
        assert shown is None or ("layers" in answer and shown == answer["layers"][0]["rows"]), request
    assert len(exist) > 150
    assert sum(found[i] is not None for i in exist) > 0.85 * len(exist)


def random_network(rng):
    """A Sequential that mostly fits, and its input's size; sometimes a layer has another number of channels."""
    rank, channels = rng.randint(1, 3), rng.randint(1, 4)
    size = [rng.randint(4, 40) for _ in range(rank)]
    shape, layers = (1, channels, *size), []

    def each(low, high):
        return rng.choice([rng.randint(low, high), tuple(rng.randint(low, high) for _ in range(rank))])

    for i in range(rng.randint(2, 7)):
        kind = "conv" if i == 0 else rng.choice(["conv", "up", "max", "avg", "norm", "same", "adaptive"])
        slip = rng.choice([0] * 12 + [1])
        ins, outs, kernel = shape[1] + slip, rng.randint(1, 9), each(1, 4)
        layers.append({
            "conv": f"nn.Conv{rank}d({ins}, {outs}, {kernel}, padding={each(0, 2)}, stride={each(1, 2)})",
            "up": f"nn.ConvTranspose{rank}d({ins}, {outs}, {kernel}, 2, bias=False)",
            "max": f"nn.MaxPool{rank}d({kernel}, {rng.choice([2, 'stride=1', 'padding=1'])})",
            "avg": f"nn.AvgPool{rank}d({kernel})", "norm": f"nn.BatchNorm{rank}d({ins})",
            "same": rng.choice(["nn.ReLU()", "nn.ReLU(inplace=True)", "nn.Dropout(0.25)", "nn.LeakyReLU(0.2)"]),
            "adaptive": f"torch.nn.AdaptiveAvgPool{rank}d({each(1, 3)})",
        }[kind])  # fmt: skip
        shape = shape if kind not in ("conv", "up") else (1, outs, *size)
    if rng.random() < 0.5:
        features = rng.choice([str(rng.randint(1, 900)), f"{rng.randint(1, 9)} * {rng.randint(1, 7)} * 7"])
        layers += ["nn.Flatten()", f"nn.Linear({features}, {rng.randint(1, 9)})"]
    return f"model = nn.Sequential(\n  {', '.join(layers)})", ", ".join(map(str, size))


def test_the_first_answer_of_a_network_is_pythons_on_random_networks(page, site):
    """The columns are those of Python's table, up to the layer that does not fit, or there is no answer."""
    rng = random.Random(11)
    requests = [random_network(rng) for _ in range(300)]
    found = page.evaluate(
        "async ([module, requests]) => { const { firstNetwork } = await import(module);"
        " return requests.map((request) => firstNetwork(...request)) }",
        [f"{site}/_static/calculator/network.js", requests],
    )
    answered, misfits = 0, 0
    for request, shown in zip(requests, found, strict=True):
        if shown is None:
            continue
        wanted = calculate(*request)["network"]
        assert shown["rows"] == [[row[i] for i in (0, 1, 3, 4)] for row in wanted["table"]["rows"]], request
        assert ("misfit" in shown) == ("error" in wanted), request
        if "misfit" in shown:
            assert wanted["error"]["message"].startswith(shown["misfit"])
        answered, misfits = answered + 1, misfits + ("misfit" in shown)
    assert answered > 100
    assert misfits > 20


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
    typed(page, "nn.Conv2d(3, 16, 3)", "1, 32, 32, 3", layout="NCHW")
    assert "this looks like NHWC" in told(page)
    assert page.get_attribute("#input", "aria-invalid") == "true"
    typed(page, "nn.Conv2d(3, 16, 3)", "32")
    assert told(page) == ""


def test_sizes_may_be_written_in_many_ways_and_nhwc_is_recognised(page):
    for size in ("224", "3,224,224", "1×3×224×224"):
        typed(page, "nn.Conv2d(3, 16, 3)", size)
        assert ["output (NCHW)", "1 × 16 × 222 × 222"] in rows(page)
    typed(page, "nn.Conv2d(3, 16, 3)", "1, 224, 224, 3")
    assert ["output (NHWC)", "1 × 222 × 222 × 16"] in rows(page)
    assert "is read as NHWC" in page.inner_text("#answer .note")


def test_an_error_stands_at_its_field_after_a_pause_and_the_answer_is_grey(page):
    typed(page, "nn.Conv2d(3, 16, 3)", "32")
    page.locator("#layer").press_sequentially("x")
    page.wait_for_timeout(500)
    assert told(page) == ""  # half a word is no mistake
    page.wait_for_selector("#problem:not([hidden])")
    assert page.evaluate("document.getElementById('problem').previousElementSibling.id") == "layer"
    assert "old" in page.get_attribute("#answer", "class")
    typed(page, "nn.Conv2d(3, 16, 3)", "a lot")
    assert page.evaluate("document.querySelector('.row:has(#input)').nextElementSibling.id") == "problem"
    typed(page, "nn.Conv2d(3, 16, 3)", "32")
    assert "old" not in page.get_attribute("#answer", "class")


def test_frameworks_are_tabs_with_coloured_code_that_can_be_copied(page):
    typed(page, TYPED, "9, 11")
    names = [tab.inner_text() for tab in page.query_selector_all("[role=tab]")]
    assert names[:4] == ["PyTorch", "Flax", "Keras", "ONNX"]
    page.click("[role=tab]:text-is('Keras')")
    assert [panel.is_visible() for panel in page.query_selector_all("[role=tabpanel]")].count(True) == 1
    assert "keras" in page.inner_text("[role=tabpanel]:not([hidden]) pre")
    assert page.locator("[role=tabpanel]:not([hidden]) pre .kn").first.inner_text() in ("from", "import")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("[role=tab][aria-selected=true]") == "ONNX"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    source = page.inner_text("[role=tabpanel]:not([hidden]) pre")
    page.click("[role=tabpanel]:not([hidden]) button.copy")
    page.wait_for_selector("[role=tabpanel]:not([hidden]) button.copy:text-is('Copied')")
    assert page.evaluate("navigator.clipboard.readText()").strip() == source.strip()
    typed(page, "nn.Conv2d(3, 8, 5)", "32")  # the choice is remembered
    assert page.inner_text("[role=tab][aria-selected=true]") == "ONNX"
    page.click("[role=tab]:text-is('PyTorch')")


def test_the_framework_is_remembered_over_the_site_and_over_visits(browser, site, tmp_path):
    """A tab chosen on a page is open on the next page, in the calculator, and after the browser's restart."""
    context = browser.new_context()
    found = context.new_page()
    found.route("**/calculator-worker.js", lambda route: None)

    def chosen(address, tab):
        found.goto(f"{site}/{address}")
        return found.locator(tab).first.inner_text()

    label = ".sd-tab-set > input:checked + label"
    assert chosen("reference/parameters/stride.html", label) == "PyTorch"
    found.locator(".sd-tab-label:text-is('Keras')").first.click()
    assert chosen("reference/parameters/padding.html", label) == "Keras"
    assert chosen("calculator.html", "[role=tab][aria-selected=true]") == "Keras"
    found.locator("[role=tab]:text-is('ONNX')").click()
    context.storage_state(path=tmp_path / "state.json")  # what the browser keeps between visits: no session storage
    context.close()
    context = browser.new_context(storage_state=tmp_path / "state.json")
    found = context.new_page()
    assert chosen("reference/parameters/groups.html", label) == "ONNX"
    context.close()


def test_every_row_links_to_its_page(page, site):
    typed(page, TYPED, "9, 11")
    links = page.evaluate("[...document.querySelectorAll('#answer th a')].map(a => [a.textContent, a.href])")
    assert ["output H", f"{site}/reference/parameters/padding.html"] in links
    assert ["stride", f"{site}/reference/parameters/stride.html"] in links
    root = Path(__file__).parents[2] / "docs" / "_build" / "html"
    for _, link in links:
        assert (root / link.removeprefix(f"{site}/")).exists(), link
    assert page.locator("#answer th").count() == len(links)


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
    page.goto(
        (
            Path(__file__).parents[2] / "docs" / "_build" / "html" / "reference" / "parameters" / "out_channels.html"
        ).as_uri()
    )
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

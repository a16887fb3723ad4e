"""The widgets: their arithmetic is Python's on random layers, and they can be used by mouse, keyboard and touch."""

import random
from fractions import Fraction

import numpy as np
import pytest

from convspec import Chain, ConvParams, ConvSpec, ShapeError, SpecError, reference
from convspec.spec import resolve_padding

pytestmark = pytest.mark.browser
LAYERS = 500
RAW = """async ([module, layers]) => {
  const a = await import(module);
  return layers.map(({ axes, x, w }) => ({
    sizes: axes.map((axis, i) => a.outputLength(axis, [x.length, x[0].length][i])),
    pads: axes.map((axis, i) => a.pads(axis, [x.length, x[0].length][i])),
    y: a.convolve(axes, x, w),
    read: axes.map((axis, i) => Array.from({ length: [x.length, x[0].length][i] }, (_, n) =>
      a.writes(axis, [x.length, x[0].length][i], n).map(({ tap, output }) => [tap, output]))),
    field: axes.map((axis, i) => a.receptiveField([axis], [x.length, x[0].length][i])),
  }));
}"""


def random_layer(rng):
    """A layer with one channel, other numbers along each axis, and an input's size; about one in ten has no output."""
    transposed = rng.random() < 0.35
    fields = {"kernel_size": (rng.randint(1, 5), rng.randint(1, 5)), "stride": (rng.randint(1, 4), rng.randint(1, 4)),
              "dilation": (rng.randint(1, 3), rng.randint(1, 3)), "transposed": transposed, "bias": False}  # fmt: skip
    word = rng.choice(["same", "numbers"] if transposed else ["same", "same_lower", "numbers", "numbers"])
    fields["padding"] = word if word != "numbers" else tuple((rng.randint(0, 3), rng.randint(0, 3)) for _ in range(2))
    if transposed and word == "numbers":
        most = [max(s, d) - 1 for s, d in zip(fields["stride"], fields["dilation"], strict=True)]
        fields["output_padding"] = tuple(rng.randint(0, n) for n in most)
    return ConvSpec(1, 1, **fields), (rng.randint(1, 8), rng.randint(1, 9))


def axes_of(spec):
    names = {"kernel": spec.kernel_size, "stride": spec.stride, "dilation": spec.dilation,
             "outputPadding": spec.output_padding}  # fmt: skip
    return [
        {
            **{name: values[i] for name, values in names.items()},
            "padding": spec.padding if isinstance(spec.padding, str) else list(spec.padding[i]),
            "transposed": spec.transposed,
        }
        for i in range(2)
    ]


@pytest.fixture(scope="module")
def page(browser, site):
    context = browser.new_context()
    found = context.new_page()
    errors = []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.goto(f"{site}/reference/parameters/padding.html")
    found.wait_for_selector("conv-window svg")
    yield found
    assert not errors
    context.close()


def computed(page, site, layers):
    return page.evaluate(RAW, [f"{site}/_static/widget/arithmetic.js", layers])


def test_the_arithmetic_is_pythons_on_random_layers(page, site):
    rng, numbers = random.Random(19), np.random.default_rng(19)
    drawn = [random_layer(rng) for _ in range(LAYERS)]
    arrays = [(numbers.integers(-9, 10, size), numbers.integers(-3, 4, spec.kernel_size)) for spec, size in drawn]
    given = [
        {"axes": axes_of(spec), "x": x.tolist(), "w": w.tolist()}
        for (spec, _), (x, w) in zip(drawn, arrays, strict=True)
    ]
    without = 0
    for (spec, size), (x, w), found in zip(drawn, arrays, computed(page, site, given), strict=True):
        before, extra = resolve_padding(spec, size)
        assert found["pads"] == [
            {"before": lo, "after": hi, "extra": more} for (lo, hi), more in zip(before, extra, strict=True)
        ], spec
        try:
            shape = spec.output_shape((1, 1, *size))
        except ShapeError:
            without += 1
            assert None in found["sizes"], (spec, size)
            continue
        assert tuple(found["sizes"]) == shape[2:], (spec, size)
        params = ConvParams(w.reshape(spec.kernel_shape).astype(float), None)
        wanted = reference.conv(spec, params, x[None, None].astype(float))[0, 0]
        assert np.array_equal(np.array(found["y"]).reshape(wanted.shape), wanted), (spec, size)
        check_readers(spec, size, found["read"])
        field = spec.receptive_field((1, 1, *size))
        for i, axis in enumerate(found["field"]):
            said = (axis["size"], Fraction(*axis["jump"]), Fraction(*axis["offset"]))
            assert said == (field.size[i], field.jump[i], field.offset[i]), (spec, size)
    assert 10 < without < LAYERS / 4


def check_readers(spec, size, read):
    """Of every input along both axes the outputs that read it: those that the reference's kernel gradient would."""
    pads, extra = resolve_padding(spec, size)
    for axis, found in enumerate(read):
        kernel = [1, 1]
        kernel[axis] = spec.kernel_size[axis]
        one = ConvSpec(1, 1, tuple(kernel), stride=_only(spec.stride, axis, 1), dilation=_only(spec.dilation, axis, 1),
                       padding=_only(pads, axis, (0, 0)), transposed=spec.transposed, bias=False,
                       output_padding=_only(extra, axis, 0))  # fmt: skip
        shape = _only(size, axis, 1)
        for place, pairs in enumerate(found):
            x = np.zeros((1, 1, *shape))
            x[(0, 0, place, 0) if axis == 0 else (0, 0, 0, place)] = 1
            taps = np.arange(1.0, kernel[axis] + 1).reshape(one.kernel_shape)
            wanted = reference.conv(one, ConvParams(taps, None), x).ravel()
            said = np.zeros(len(wanted))
            for tap, output in pairs:
                said[output] += tap + 1
            assert np.array_equal(said, wanted), (spec, size, axis, place)


def _only(values, axis, otherwise):
    return tuple(value if i == axis else otherwise for i, value in enumerate(values))


def test_receptive_fields_of_random_chains(page, site):
    rng, drawn = random.Random(7), []
    while len(drawn) < 100:
        specs, length = [], rng.randint(8, 20)
        for _ in range(rng.randint(2, 4)):
            k, s, d, lo, hi = (rng.randint(*ends) for ends in ((1, 4), (1, 3), (1, 2), (0, 2), (0, 2)))
            transposed = rng.random() < 0.3
            padding = rng.choice(["same", ((lo, hi),)])
            specs.append(ConvSpec(1, 1, (k,), stride=s, dilation=d, padding=padding, transposed=transposed))
        try:
            chain = Chain(specs)
            drawn.append((specs, length, chain.receptive_field((1, 1, length))))
        except (ShapeError, SpecError):
            continue
    script = """async ([module, chains]) => { const a = await import(module);
        return chains.map(([layers, length]) => a.receptiveField(layers, length)); }"""
    layers = [[[_axis(spec) for spec in specs], length] for specs, length, _ in drawn]
    found = page.evaluate(script, [f"{site}/_static/widget/arithmetic.js", layers])
    for (specs, length, field), said in zip(drawn, found, strict=True):
        shown = (said["size"], Fraction(*said["jump"]), Fraction(*said["offset"]))
        assert shown == (field.size[0], field.jump[0], field.offset[0]), (specs, length)


def _axis(spec):
    return {"kernel": spec.kernel_size[0], "stride": spec.stride[0], "dilation": spec.dilation[0], "outputPadding": 0,
            "padding": spec.padding if isinstance(spec.padding, str) else list(spec.padding[0]),
            "transposed": spec.transposed}  # fmt: skip


def sum_of(page):
    return page.inner_text("conv-window .sum")


def test_an_output_is_multiplied_and_summed(page):
    page.locator("conv-window figure:nth-of-type(3) .cell").nth(1).hover()
    said = sum_of(page).replace("−", "-")
    assert said.startswith("output (0, 1) = ")
    terms, _, result = said.removeprefix("output (0, 1) = ").rpartition(" = ")
    assert sum(int(a) * int(b.strip("()")) for a, b in (term.split("·") for term in terms.split(" + "))) == int(result)
    assert page.locator("conv-window figure:first-child .cell.read").count() == 9


def test_an_input_shows_the_outputs_that_read_it(page):
    inside = page.locator("conv-window figure:first-child .cell:not(.pad)")
    inside.nth(2 * 6 + 2).hover()
    assert sum_of(page).startswith("input (2, 2) =")
    assert page.locator("conv-window .cell.reader").count() == 4  # kernel 3 at stride 2, on an even row and column


def test_play_step_keyboard_and_sliders(page):
    page.locator("conv-window figure:nth-of-type(3) .cell").first.hover()
    page.get_by_role("button", name="Next output").first.click()
    assert sum_of(page).startswith("output (0, 1)")
    page.focus("conv-window figure:nth-of-type(3) svg")
    page.keyboard.press("ArrowDown")
    assert sum_of(page).startswith("output (1, 1)")
    page.get_by_role("button", name="Play: move the window by itself").first.click()
    page.wait_for_function("document.querySelector('conv-window .sum').textContent.startsWith('output (1, 2)')")
    page.get_by_role("button", name="Play: move the window by itself").first.click()
    page.get_by_label("kernel_size").first.fill("5")
    assert page.locator("conv-window figure:nth-of-type(2) .cell").count() == 25
    page.get_by_label("kernel_size").first.fill("3")
    page.locator("conv-window select").first.select_option("same_lower")
    assert '"same_lower" pads by (1, 0)' in page.inner_text("conv-window .formula")
    page.locator("conv-window select").first.select_option("numbers")


def test_same_beside_padding_1(page):
    """At stride 2 and an even size the windows differ, at an odd size they are equal."""
    size = page.locator("conv-chain").get_by_label("size")
    said = {}
    for number in ("8", "9"):
        size.fill(number)
        said[number] = page.inner_text("conv-chain .sum")
    assert 'padding="same": output 2 depends on the inputs 4 to 6' in said["8"]
    assert "padding=1: output 2 depends on the inputs 3 to 5" in said["8"]
    assert said["9"].count("depends on the inputs 3 to 5") == 2


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out_and_a_finger_chooses(browser, site, width):
    context = browser.new_context(viewport={"width": width, "height": 800}, has_touch=True, reduced_motion="reduce")
    found = context.new_page()
    for name in ("padding", "kernel_size", "transposed", "output_padding", "out_channels"):
        found.goto(f"{site}/reference/parameters/{name}.html")
        assert found.evaluate("document.documentElement.scrollWidth") <= width, name
    found.goto(f"{site}/reference/parameters/transposed.html")
    found.locator("conv-window figure:first-child .cell").first.tap()
    assert sum_of(found).startswith("input (0, 0) = 1 is added to 4 outputs")
    context.close()


def test_height_and_width_of_a_window_may_differ(browser, site):
    """What the widget draws and says of a layer with pairs is what Python computes."""
    context = browser.new_context()
    found = context.new_page()
    found.goto(f"{site}/reference/parameters/kernel_size.html")
    found.get_by_label("height ≠ width").check()
    for name, number in (("kernel_size, width", "5"), ("stride, height", "2"), ("size, width", "8"),
                         ("padding before, width", "2"), ("padding after, height", "1")):  # fmt: skip
        found.get_by_role("slider", name=name, exact=True).fill(number)
    spec = ConvSpec(1, 1, (3, 5), stride=(2, 1), padding=((0, 1), (2, 0)))
    assert found.inner_text("conv-window .layer code").startswith(
        "ConvSpec(1, 1, (3, 5), stride=(2, 1), padding=((0, 1), (2, 0))"
    )
    _, _, high, wide = spec.output_shape((1, 1, 6, 8))
    assert f"so {high} × {wide}" in found.inner_text("conv-window .formula")
    cells = [figure.locator(".cell") for figure in found.locator("conv-window figure").all()]
    x, w = ([int(text.replace("−", "-")) for text in part.locator(".number").all_text_contents()] for part in cells[:2])
    padded = np.array(x, float).reshape(1, 1, 7, 10)
    params = ConvParams(np.array(w, float).reshape(1, 1, 3, 5), None)
    wanted = reference.conv(ConvSpec(1, 1, (3, 5), stride=(2, 1), bias=False), params, padded)[0, 0]
    said = [int(text.replace("−", "-")) for text in cells[2].locator(".number").all_text_contents()]
    assert np.array_equal(np.reshape(said, (high, wide)), wanted)
    found.get_by_label("height ≠ width").uncheck()
    assert found.inner_text("conv-window .layer code").startswith(
        "ConvSpec(1, 1, 3, stride=2, padding=((0, 1), (0, 1))"
    )
    context.close()

"""The page that explains a message, in a browser: it says what ``convspec.explain`` says, of every known message."""

import pytest
import site_messages

from convspec import explain

pytestmark = pytest.mark.browser
TEXTS = [
    *(entry["says"] for kind in ("error", "reported") for entry in site_messages.errors(kind)),
    "mat1 and mat2 shapes cannot be\n  multiplied (896x28 and 784x10)",
    "site-packages/flax/nnx/linear.py division by zero",
    "Expected input batch_size (1568) to match target batch_size (32).",
    "expected min_ndim=4, found ndim=3. Full shape received: (None, 28, 28)",
    "size mismatch for fc.weight: copying a param with shape torch.Size([1000, 512]) from checkpoint, "
    "the shape in current model is torch.Size([10, 512]).",
    "running_mean should contain 16 elements not 8 … mat1 and mat2 shapes cannot be multiplied (1x20 and 10x2)",
    "nothing known",
]


@pytest.fixture
def page(browser, site):
    (page := browser.new_page()).goto(f"{site}/explain.html")
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert not errors
    page.close()


def test_the_browser_says_what_python_says(page):
    found = page.evaluate(
        "async (texts) => { const { explain } = await import('/_static/explain.js');"
        " return texts.map((text) => explain(text).map(({ id, fix }) => [id, fix])) }",
        TEXTS,
    )
    for text, said in zip(TEXTS, found, strict=True):
        assert sorted(said) == sorted([one.id, one.fix] for one in explain(text)), text
    assert sum(map(len, found)) > 150


def test_a_pasted_message_is_explained(page):
    page.fill("#message", "RuntimeError: running_mean should contain 16 elements not 8")
    page.wait_for_selector(".explanation")
    assert "nn.BatchNorm2d(16)" in page.inner_text(".explanation .fix")
    page.fill("#message", "KeyError: 'x'")
    page.wait_for_function("document.getElementById('explanation').innerText.startsWith('No known message')")


def test_a_link_opens_an_explanation(page, site):
    page.goto(f"{site}/explain.html#message=running_mean+should+contain+16+elements+not+8")
    page.reload()
    assert "16" in page.inner_text(".explanation .fix")

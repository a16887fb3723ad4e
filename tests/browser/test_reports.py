"""The page of a run in a browser: filters, names that must stay text, on a phone and in the dark."""

import dataclasses

import pytest

from convspec import Case, ConvSpec
from convspec.cli.reports import run_files, verify_files
from convspec.conformance import Report, Result
from convspec.models import Node, VerifyReport

pytestmark = pytest.mark.browser
VERDICTS = ("agree", "disagree", "error")
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>"
CASE = Case(ConvSpec(3, 6, (3, 5), stride=(2, 1)), (2, 3, 9, 11), name=EVIL)
EVIDENCE = {
    "index": [0, 0, 0, 0], "got": 1.0, "expected": 2.0, "wrong": 1, "total": 9,
    "location": {"where": EVIL, "picture": ["·░▒▓█"], "channel": [0, 1]},
    "findings": [{"id": "x", "title": EVIL, "fix": EVIL}],
}  # fmt: skip


def result(adapter, verdict="disagree", case=CASE):
    return Result(
        case=case, adapter=adapter, request=adapter, variant="default", precision="shipped", support="native",
        support_reason="", verdict=verdict, reason=EVIL, accuracy_class=None, evidence=EVIDENCE, gap=None, seconds=0.1,
    )  # fmt: skip


def report():
    plain = dataclasses.replace(CASE, spec=ConvSpec(3, 6, (3, 5)))
    results = (result("torch"), result("torch", case=plain), result(EVIL), result("keras", "agree"))
    return Report({"python": EVIL}, results)


@pytest.fixture
def page(browser, tmp_path):
    (tmp_path / "run.html").write_text(run_files.page(report()), "utf-8")
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    page.goto((tmp_path / "run.html").as_uri())
    yield page
    context.close()
    assert not errors


def shown(page):
    return page.locator("details.case:visible").count()


def test_the_filters(page):
    assert shown(page) == 3
    page.select_option("[data-filter=adapter]", "torch")
    assert shown(page) == 2
    page.select_option("[data-filter=features]", "stride")
    assert shown(page) == 1
    assert page.inner_text("#count") == "1 of 3 shown"
    page.click("#clear")
    page.fill("[data-filter=words]", "stride=(2, 1)")
    assert shown(page) == 2
    page.click("#clear")
    page.click(".matrix button[data-adapter=torch][data-features=stride]")
    assert shown(page) == 1


def test_a_failure_shows_its_layer_before_it_is_opened(page):
    closed = page.locator("details.case summary").first.inner_text()
    assert repr(CASE.spec) in closed
    assert closed.count("disagree") == 1
    page.locator("details.case summary").first.click()
    assert page.locator("details.case").first.inner_text().count(repr(CASE.spec)) == 1


def test_names_stay_text(page):
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert EVIL in page.inner_text("body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_sticks_out_and_colours_follow(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(PHONE)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]


def test_the_rows_of_a_verification_are_cards_on_a_phone(browser, tmp_path):
    nodes = [Node(f"{EVIL} {i}", "Conv", ConvSpec(3, 8, 3), [1, 3, 9, 9], verdict=v) for i, v in enumerate(VERDICTS)]
    (tmp_path / "verify.html").write_text(verify_files.page(VerifyReport("m.onnx", None, nodes)), "utf-8")
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    page.goto((tmp_path / "verify.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    cells = page.locator("table.wide tbody td")
    assert min(cells.nth(i).bounding_box()["width"] for i in range(cells.count())) > 0.8 * PHONE["width"]
    label = page.evaluate("getComputedStyle(document.querySelector('[data-label=input]'), '::before').content")
    assert label == '"input: "'
    page.select_option("[data-filter=verdict]", "disagree")
    assert page.locator("table.wide tbody tr:visible").count() == 1
    context.close()

"""A run, a verification and the difference of two runs as Markdown, JUnit and HTML: the facts, and nothing obeyed."""

import dataclasses
import html
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from convspec import Case, ConvSpec
from convspec.cli.app import app
from convspec.cli.console import dumps
from convspec.cli.reports import formats, run_files, verify_files
from convspec.cli.reports.diff import Difference
from convspec.cli.reports.matrix import STATES, Matrix, features, parts, state
from convspec.conformance.gap_ledger import Tally
from convspec.conformance.results import Report, Result
from convspec.contract.known_gaps import parse
from convspec.models.verification.report import Node, Operator, VerifyReport

EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>\x1b[31m\u202e| `x` \n# head\n{{ 7 * 71 }}"
CASE = Case(ConvSpec(3, 6, (3, 5), stride=(2, 1), padding="same", groups=3), (2, 3, 9, 11), "NHWC", name=EVIL)
PLACE = {"where": "group 1 only (of 3)", "picture": ["·░▒▓█", "·····"], "channel": [1, 4]}
EVIDENCE = {
    "index": [1, 4, 3, 2], "got": 3.0, "expected": 2.5, "wrong": 4, "total": 440, "worst_q": 0.5, "bound": 0.0,
    "unit": "1", "location": PLACE, "message": EVIL,
    "findings": [{"id": "kernel-flipped", "title": EVIL, "fix": "turn it"}],
}  # fmt: skip
GAP = parse('[[gap]]\nid="g"\nkind="todo"\nwhen="bias"\nfails=["error"]\nreason="known"\nlink="https://x.y"', "f")[0]


def result(verdict="disagree", adapter="torch", gap=None, support="native", **more):
    fields = {"case": CASE, "request": adapter, "reason": EVIL, "evidence": EVIDENCE, **more}
    return Result(adapter=adapter, verdict=verdict, gap=gap, support=support, accuracy_class=None, seconds=0.25,
                  variant="default", precision="shipped", support_reason=EVIL, **fields)  # fmt: skip


def report(*results, **more):
    environment = {"python": "3.11", "versions": {"torch": EVIL}, "adapters": ["torch", "keras"]}
    return Report(environment, results, **more)


def all_kinds():
    results = (
        result("agree"), result(), result("error", gap="g"), result("unsupported", support="unsupported"),
        result("agree", "keras", case=CASE.varied(layout="NCHW")),
    )  # fmt: skip
    tallies = (Tally(GAP, "torch", failed=1), Tally(GAP, "keras", failed=1, passed=2, example={"case": EVIL}))
    return report(*results, gaps=tallies, absent={EVIL: EVIL}, missing=(EVIL,))


class Page(HTMLParser):
    """What a browser would make of it: tags, and every attribute."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


def verification():
    node = Node(EVIL, EVIL, None, [1, EVIL, 3], verdict="disagree", reason=EVIL, matched=EVIL,
                findings=[{"id": EVIL, "title": EVIL}])  # fmt: skip
    operators = {EVIL: Operator(EVIL, EVIL, EVIL, "disagree", EVIL), "l": Operator("l", EVIL, EVIL, "unsupported")}
    return VerifyReport(model=EVIL, nodes=[node], operators=operators, against=EVIL)


MARKED = {
    "run": lambda: [f(all_kinds()) for f in (run_files.page, run_files.markdown, run_files.junit)],
    "verification": lambda: [getattr(verify_files, form)(verification()) for form in ("page", "markdown", "junit")],
    "difference": lambda: [
        run_files.difference_page(Difference(report(result("agree")), all_kinds())),
        run_files.difference_markdown(Difference(report(result("agree")), all_kinds())),
    ],
}  # fmt: skip


def test_a_wrong_node_that_is_no_convolution_is_in_every_form():
    operators = {
        "relu": Operator("relu", "Relu", "ReLU", "disagree", "3 of 8"),
        "s": Operator("s", "GRU", "GRU", "agree"),
    }
    report = VerifyReport("m.onnx", None, [Node("c", "Conv", verdict="agree")], operators)
    page, markdown, junit = (getattr(verify_files, form)(report) for form in ("page", "markdown", "junit"))
    assert "3 of 3 nodes judged: wrong" in page
    assert "3 of 3 nodes judged: wrong" in html.unescape(markdown)
    assert report.first_divergence == "relu"
    root = ET.fromstring(junit)
    failed = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert failed == ["relu"]
    assert [case.get("name") for case in root.iter("testcase")] == ["c", "relu", "model"]


@pytest.mark.parametrize("kind", MARKED)
def test_names_are_text_and_nothing_else(kind):
    page, markdown, *junit = MARKED[kind]()
    for text in (page, markdown, *junit):
        assert "<script>alert" not in text
        assert not set(text) & {"\x1b", "\x07", "\x00", "\u202e"}
        assert "497" not in text  # {{ 7 * 71 }} is no template
    found = Page(page)
    assert found.tags.count("script") == 1
    assert "img" not in found.tags
    assert not [name for name in found.attributes if name.startswith("on")]
    assert "alert(1)" in found.text
    assert "default-src 'none'" in page
    assert "\n# head" not in markdown
    assert "<img" not in markdown
    for text in junit:
        assert ET.fromstring(text).tag == "testsuites"


def test_the_states_of_results():
    found = [state(one) for one in all_kinds().results]
    assert found == ["agree", "unexpected", "gap", "unsupported", "agree"]
    assert set(found) == set(STATES)


def test_the_matrix_counts_every_result_under_its_features():
    found = Matrix.of(all_kinds())
    assert found.adapters == ("torch", "keras")
    assert parts(found.rows[""]["torch"]) == [("agree", 1), ("unsupported", 1), ("gap", 1), ("unexpected", 1)]
    assert parts(found.rows["depthwise"]["keras"]) == [("agree", 1)]
    assert list(found.rows)[-5:] == ["NHWC", "NCHW", "float32", "cpu", "exact data"]
    assert "keras" not in found.rows["NHWC"]
    assert set(features(result())) >= {"2-D", "stride", "same with a stride", "depthwise", "NHWC", "float32"}
    gradient = result(direction="kernel", case=CASE.varied(data="random"))
    assert {"gradient of kernel", "random data"} <= set(features(gradient))


def test_a_page_has_everything_of_a_failing_case():
    text = Page(run_files.page(all_kinds())).text
    for words in (
        repr(CASE.spec), "seed 0", "expected 2.5, got 3.0", "group 1 only (of 3)", "turn it", "kernel-flipped",
        "convspec check --corpus - --adapters torch --layouts NHWC", "unfinished: ", "too wide", "python",
        "skipped (not installed): ",
        "In sample 1, output channel 4, 4 of 10 positions are wrong.",
    ):  # fmt: skip
        assert words in text


def test_a_page_of_a_large_run_is_cut_and_says_so():
    many = report(*(result() for _ in range(310)), *(result("error", gap="g") for _ in range(50)))
    text = run_files.page(many)
    assert text.count('class="case"') == 303
    assert "57 more failures are not on this page" in text


def test_junit_counts():
    suite = ET.fromstring(run_files.junit(all_kinds()))[0]
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "6", "failures": "2", "skipped": "2",
    }  # fmt: skip
    assert [case.get("classname") for case in suite][-1] == "convspec.check.keras"
    failed = suite.findall("testcase/failure")
    assert failed[0].get("type") == "disagree"
    assert "reproduce" in failed[0].text


def test_markdown_names_what_is_unexpected_and_has_the_matrix():
    lines = run_files.markdown(all_kinds()).splitlines()
    assert sum(line.startswith("* ❌") for line in lines) == 2
    assert "| all | ❌ 1 agree, 1 unsupported, 1 gap, 1 unexpected | ✅ 1 agree |" in lines
    text = run_files.markdown(report(*(result() for _ in range(formats.ROWS + 5))))
    assert "… and 5 more" in text


def test_the_difference_shows_both_runs():
    old = report(result("agree"))
    new = dataclasses.replace(report(result()), environment={"python": "3.12", "versions": {"torch": "2"}})
    text = Page(run_files.difference_page(Difference(old, new))).text
    for words in ("3.11", "3.12", "agree → disagree", "1 verdicts changed"):
        assert words in text
    same = Page(run_files.difference_page(Difference(old, old))).text
    assert "No verdict changed." in same


def test_the_command_writes_every_form(tmp_path):
    kept = tmp_path / "run.json"
    kept.write_text(dumps(report(result("agree"), result(case=CASE.varied(layout="NCHW"))).to_dict()), "utf-8")
    paths = {name: tmp_path / f"out.{name}" for name in ("html", "markdown", "junit")}
    options = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    done = CliRunner().invoke(app, ["report", str(kept), *options])
    assert done.exit_code == 1, done.output
    assert "1 agree, 1 unexpected" in done.stdout
    assert paths["html"].read_text("utf-8").startswith("<!doctype html>")
    assert paths["markdown"].read_text("utf-8").startswith("## convspec check")
    assert ET.fromstring(paths["junit"].read_text("utf-8")).tag == "testsuites"
    printed = CliRunner().invoke(app, ["report", str(kept), "--markdown", "-"])
    assert printed.stdout == paths["markdown"].read_text("utf-8")
    assert "1 unexpected" in printed.stderr
    compared = CliRunner().invoke(app, ["report", "diff", str(kept), str(kept), "--html", str(tmp_path / "d.html")])
    assert compared.exit_code == 0
    assert "No verdict changed." in (tmp_path / "d.html").read_text("utf-8")
    nowhere = CliRunner().invoke(app, ["report", str(kept), "--html", str(tmp_path / "none" / "x.html")])
    assert nowhere.exit_code == 2

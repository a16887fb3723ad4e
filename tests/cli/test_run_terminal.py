"""What people and programs are told of a run."""

import io
import json
import shlex
from dataclasses import replace

import pytest
from rich.console import Console

from convspec import Case, ConvSpec, RequestError
from convspec.cli.console import dumps, write
from convspec.cli.reports import progress, run_terminal
from convspec.conformance.gap_ledger import Tally
from convspec.conformance.results import Report, Result, reproduction
from convspec.conformance.runner import Progress
from convspec.contract.known_gaps import parse

CASE = Case(ConvSpec(3, 5, (3, 5), stride=(2, 1), groups=1), (2, 3, 9, 11), "NHWC", data="random", seed=7, name="it's")
WRONG = {"index": [1, 4, 3, 2], "got": 3.0, "expected": 2.5, "wrong": 4, "total": 440, "worst_q": 7.5, "bound": 0.5}
GAP = parse('[[gap]]\nid="g"\nkind="todo"\nwhen="bias"\nfails=["error"]\nreason="known"\nlink="https://x.y"', "file")[0]


def result(verdict="disagree", *, case=CASE, adapter="torch", request="torch", gap=None, evidence=WRONG, **more):
    fields = {"variant": "default", "precision": "shipped", "support": "native", "support_reason": "", **more}
    return Result(case=case, adapter=adapter, request=request, verdict=verdict, reason="value: off", gap=gap,
                  accuracy_class=None, evidence=evidence, seconds=0.25, **fields)  # fmt: skip


def shown(report, width=200):
    console = Console(file=io.StringIO(), width=width)
    run_terminal.show(report, console)
    return console.file.getvalue()


def test_unexpected_are_the_failures_that_nothing_declared():
    declared = result("unsupported", support="unsupported", support_reason="no")
    results = [result("agree"), result(), result("error", gap="g"), declared, result("unsupported"), result("timeout")]
    assert [r.unexpected for r in results] == [False, True, False, False, True, True]
    report = Report({}, tuple(results), (Tally(GAP, "torch", passed=1), Tally(GAP, "torch", failed=1)))
    assert report.summary["unexpected"] == 4
    assert report.summary["unsupported"] == 2


def test_a_failure_is_shown_with_all_that_is_needed():
    text = shown(Report({"seconds": 1.5}, (result(), result("agree"))))
    for words in (
        "torch NHWC float32 random on cpu: disagree – value: off",
        "ConvSpec(3, 5, kernel_size=(3, 5), stride=(2, 1))",
        "(2, 3, 9, 11), seed 7  (it's)",
        "expected 2.5, got 3.0",
        "(1, 4, 3, 2)",
        "4 of 440",
        "7.5, bound 0.5, in u*G",
        "2 results in 1.5 s: 1 agree, 1 unexpected",
    ):
        assert words in text


def test_the_matrix_counts_by_adapter_and_layout_and_by_what_varies():
    first = result(case=CASE.varied(layout="NCHW"))
    rows = shown(Report({}, (result(), result("agree"), first))).splitlines()
    assert rows[0].split() == ["adapter", "layout", "unexpected", "agree", "disagree", "seconds"]
    assert rows[1].split() == ["torch", "NHWC", "1", "1", "1", "0.5"]
    assert rows[2].split() == ["torch", "NCHW", "1", "0", "1", "0.2"]
    double = result("agree", case=CASE.varied(dtype="float64"))
    assert shown(Report({}, (result("agree"), double))).splitlines()[2].split()[:5] == [
        "torch",
        "NHWC",
        "float64",
        "0",
        "1",
    ]


def every_verdict(**case):
    """One result of each verdict and state, by an adapter with a long name, in both layouts."""
    declared = {"adapter": "keras-torch", "request": "keras-torch", "support": "unsupported", "support_reason": "no"}
    return [
        *(result(verdict, case=CASE.varied(layout=layout, **case), adapter="keras-torch", request="keras-torch")
          for layout in ("NCHW", "NHWC") for verdict in ("agree", "disagree", "error")),
        result("error", gap="g", case=CASE.varied(**case)), result("unsupported", **declared, case=CASE.varied(**case)),
    ]  # fmt: skip


def test_the_table_fits_into_80_columns_with_whole_headers():
    text = shown(Report({"seconds": 1.0}, tuple(every_verdict())), width=80)
    lines = text.splitlines()
    header = ["adapter", "layout", "unexpected", "agree", "known", "disagree", "unsupported", "error"]
    assert lines[0].split() == header
    assert max(map(len, lines[:4])) <= 80
    assert not any("…" in line for line in lines[:4])
    assert lines[1].split() == ["keras-torch", "NCHW", "2", "1", "·", "1", "·", "1"]
    wide = shown(Report({}, tuple(every_verdict()))).splitlines()
    assert wide[0].split() == [*header, "seconds"]  # only where there is room


def test_a_table_that_cannot_fit_is_a_sentence_for_each_row():
    results = [replace(r, precision="strict") for r in every_verdict()]
    results += every_verdict(dtype="float16", device="cuda")
    lines = shown(Report({}, tuple(results)), width=80).splitlines()
    assert lines[0] == "results by adapter and layout:"
    assert lines[1] == "keras-torch NCHW float32 cpu strict: 2 unexpected, 1 agree, 1 disagree, 1 error"


def test_known_failures_and_unexpected_ones_add_up_in_the_last_line():
    text = shown(Report({}, tuple(every_verdict())))
    assert text.splitlines()[-1] == "8 results: 2 agree, 2 known framework bugs and limits, 4 unexpected"
    assert shown(Report({}, (result("agree"),))).splitlines()[-1] == "1 results: 1 agree, 0 unexpected"
    closed = Report({}, (result("agree"),), (Tally(GAP, "torch", passed=1),))
    assert shown(closed).splitlines()[-1] == "1 results: 1 agree, 1 unexpected"


def test_printing_a_report_shows_the_table_and_what_is_unexpected(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report = Report({"seconds": 1.0}, tuple(every_verdict()), missing=("2 of 10 verdicts were not reached",))
    lines = str(report).splitlines()
    assert lines[0].split()[:3] == ["adapter", "layout", "unexpected"]
    assert lines[4] == (
        "unexpected: keras-torch NCHW float32 random: disagree, value: off – "
        "ConvSpec(3, 5, kernel_size=(3, 5), stride=(2, 1)) on (2, 3, 9, 11), seed 7"
    )
    assert lines[-2:] == [
        "unfinished: 2 of 10 verdicts were not reached",
        "8 results in 1.0 s: 2 agree, 2 known framework bugs and limits, 4 unexpected",
    ]
    assert repr(report) == f"<Report of {lines[-1]}>"
    assert str(Report({}, (result(),) * 30)).count("unexpected: ") == 10
    assert "… and 20 more" in str(Report({}, (result(),) * 30))
    assert str(Report({}, ())).endswith("0 results: 0 agree, 0 unexpected")


def test_a_report_is_a_table_in_a_notebook():
    page = Report({}, (result(adapter="<b>", request="<b>"),))._repr_html_()
    assert "<th>unexpected</th>" in page
    assert "<td>&lt;b&gt;</td>" in page
    assert page.endswith("<p>1 results: 0 agree, 1 unexpected</p>")


def test_printing_a_result_is_one_line():
    failed = result(gap="g")
    assert str(failed).startswith("torch NHWC float32 random: disagree (known: g), value: off – ConvSpec(")
    assert repr(failed) == f"<Result {failed}>"


def test_the_reproduction_is_a_shell_command_for_exactly_this_result():
    odd = result(
        case=CASE.varied(dtype="float16", device="cuda", data="wide"), request="torch:channels_last", precision="strict"
    )
    words = shlex.split(reproduction(odd))
    assert words[0] == "echo"
    line = json.loads(words[1])
    assert Case.from_dict(line).varied(layout="NHWC", data="random") == CASE
    assert "dilation" not in line["spec"]
    assert words[2:] == [
        "|", "convspec", "check", "--corpus", "-", "--adapters", "torch:channels_last", "--layouts", "NHWC",
        "--dtypes", "float16", "--devices", "cuda", "--data", "wide", "--precision", "strict",
    ]  # fmt: skip


def test_many_failures_are_cut_and_counted():
    text = shown(Report({}, (result(),) * 130))
    assert text.count("reproduce") == 100
    assert "and 30 more; --json FILE has them all" in text


def test_gaps_and_absent_adapters_are_listed():
    tallies = (Tally(GAP, "torch", failed=3), Tally(GAP, "keras", failed=1, passed=2, example={"case": "ab"}))
    text = shown(Report({}, (result("error", gap="g"),), tallies, {"flax": "needs jax"}))
    assert "gap g (torch, todo): 3 results; known https://x.y" in text
    assert "gap g (keras) is TOO WIDE: 2 matching results agree, case ab" in text
    assert "skipped (not installed): flax: needs jax" in text


def test_the_document_has_one_result_a_line_and_is_json(tmp_path):
    text = dumps(Report({"cores": 2}, (result(), result("agree"))).to_dict())
    assert json.loads(text)["results"][0]["evidence"] == WRONG
    assert sum('"verdict"' in line for line in text.splitlines()) == 2
    write((str(tmp_path / "r.json"), lambda: text))
    assert (tmp_path / "r.json").read_text() == text
    with pytest.raises(RequestError, match="cannot write"):
        write((str(tmp_path / "none" / "r.json"), lambda: text))


def test_standard_json_has_no_nan():
    with pytest.raises(ValueError, match="Out of range"):
        dumps({"x": float("nan")})


def test_progress_in_words():
    step = Progress(30, 120, 15.0, 3725.0, 2)
    assert progress.line(step) == "30 of 120, 2.0/s, 0:15 elapsed, 1:02:05 left, 2 unexpected"
    assert progress.line(Progress(0, 120, 0.0, None, 0)) == "0 of 120, 0.0/s, 0:00 elapsed"


def test_without_a_terminal_a_line_now_and_then():
    console = Console(file=io.StringIO(), width=200)
    with progress.display(console) as lines:
        for second in range(35):
            lines(Progress(second, 100, float(second), None, 0))
    assert [line.split()[0] for line in console.file.getvalue().splitlines()] == ["10", "20", "30"]


def test_on_a_terminal_a_bar():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with progress.display(console) as bar:
        bar(Progress(25, 100, 5.0, 15.0, 0))
    assert "25 of 100, 5.0/s" in console.file.getvalue()


def test_a_verdict_that_only_a_lone_run_changed_is_told():
    first = {"verdict": "crash", "reason": "SIGSEGV", "evidence": {}}
    text = shown(Report({}, (result("agree", evidence={"first": first}), result("crash", evidence={"first": first}))))
    assert text.count("rerun alone: torch NHWC float32 random: agree") == 1
    assert text.count("rerun alone") == 1
    assert "  before     crash (SIGSEGV) in a process that had run other cases" in text

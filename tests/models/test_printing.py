"""What results print: the text of their command, a short repr, and a table in a notebook."""

import re

import pytest

from convspec import ConvSpec
from convspec.models import Difference, Node, VerifyReport, text_table
from convspec.models.comparison.outcomes import Outcome
from convspec.models.comparison.results import Comparison, Row
from convspec.models.porting import Move, PortReport

EVIL = "<script>\x1b[31m\u202e"


def agreeing():
    rows = [Row("conv 0", "stem", "conv", input=0.0, output=2e-7, verdict="agree")]
    outcomes = [Outcome("the given inputs", "agree", 3e-7, 2.4e-6, ratio=0.125)]
    return Comparison(("torch", "keras"), rows, "agree", outcomes, "measured", runs=2,
                      unjudged=["model a: the operations before head"])  # fmt: skip


def unknown():
    return Comparison(("torch", "keras"), [Row("conv 0", "stem", "conv")], problem="not run: give inputs")


def diverging():
    rows = [
        Row("conv 0", "stem", "conv", input=0.0, output=0.0, verdict="agree"),
        Row("conv 1", "head", EVIL, ["stride (2, 2) against (1, 1)"], input=0.0, verdict="diverges", reason="why"),
        Row("norm 0", "bn", "bn", input=1.0, output=2.0, verdict="downstream"),
        Row("conv 2", "tail", "", verdict="missing", reason="model b has no such conv (Conv2d)"),
    ]
    outcomes = [Outcome("the given inputs", "differ", 2.0, 1e-6, "the results differ by up to 2")]
    return Comparison(("torch", "keras"), rows, "differ", outcomes, notes=["a note"])


def port():
    moves = [Move("conv", "stem", "conv", "name", ["transposed"]), Move("norm", "bn", "bn", "place")]
    return PortReport(("torch", "keras"), moves, left=["norm bn2 of the source"], warnings=["set epsilon=1e-05 on bn"],
                      written=True, comparison=diverging())  # fmt: skip


def verification(number=2):
    nodes = [Node(f"c{i}", "Conv", ConvSpec(3, 4, 3), [1, 3, 9, 8], verdict="agree", worst_q=0.5, bound=30.0)
             for i in range(number)]  # fmt: skip
    return VerifyReport("m.onnx", None, nodes)


def wrong():
    report = verification()
    report.against = "source.onnx"
    node = report.nodes[1]
    node.name = f"{EVIL}{'/block' * 20}/conv"
    node.verdict, node.reason, node.diverges, node.matched = "disagree", "why", True, "stem"
    node.findings = [{"id": "kernel-flipped", "title": "flipped", "fix": "turn it"}]
    node.notes = [{"id": "slow", "title": "a note", "level": "warning"}]
    report.optimisation = [
        {"level": "all", "provider": "CPU", "changed": ["y"], "passes": ["Fuse"], "largest": 1e-7},
        {"level": "basic", "provider": "CUDA", "problem": "no CUDA"},
    ]
    return report


RESULTS = [agreeing, diverging, unknown, port, verification, wrong]


def test_a_comparison_prints_a_table_and_the_first_divergence():
    assert str(agreeing()).splitlines() == [
        "        a: torch  b: keras  settings  weights  input  output   verdict",
        "conv 0  stem      conv      equal     equal    0      2.0e-07  agree",
        "",
        "Not judged by itself: model a: the operations before head.",
        "The models agree: their results differ by at most 3.0e-07; rounding explains 2.4e-06 "
        "(measured: 2 perturbed runs of each model).",
    ]
    text = str(diverging())
    assert "a note." in text
    assert "First divergence: conv 1 (head): why\n" in text
    assert text.endswith("Differ on the given inputs: the results differ by up to 2.")
    assert str(unknown()).endswith("Unknown: not run: give inputs.")


def test_a_port_prints_moves_remarks_and_the_summary():
    assert str(port()).splitlines() == [
        "      torch  keras  matched by",
        "conv  stem   conv   name        transposed",
        "norm  bn     bn     place",
        "",
        "no counterpart: norm bn2 of the source",
        "warning: set epsilon=1e-05 on bn",
        "2 layers moved; run on the same input, they still differ: conv 1 (head): why.",
    ]


def test_a_verification_prints_nodes_and_the_conclusion():
    assert str(verification()).splitlines() == [
        "node  layer     input    verdict  error  bound",
        "c0    3→4 k3×3  1×3×9×8  agree    0.5    30",
        "c1    3→4 k3×3  1×3×9×8  agree    0.5    30",
        "",
        "2 convolutions: 2 agree, 0 unexpected",
    ]
    lines = str(wrong()).splitlines()
    assert re.match(r"<script>\\x1b\[3….*/block/block/conv  3→4", lines[2])  # both ends of a path tell nodes apart
    assert len(lines[2].split()[0]) == 44
    assert lines[2].endswith("disagree  0.5    30     stem")
    assert "optimisation all changes y by up to 1e-07 of the largest output, in Fuse" in lines
    assert "optimisation basic on CUDA: does not run: no CUDA" in lines
    assert lines[-2:] == ["fix: turn it", "2 convolutions: 1 agree, 1 disagree, 1 unexpected"]


def test_accepted_findings_are_counted():
    report = wrong()
    report.accepted = frozenset({("*", "kernel-flipped")})
    assert text_table.conclusion(report) == "2 convolutions: 1 agree, 1 disagree, 1 accepted, 0 unexpected"
    assert text_table.conclusion(verification(1)) == "1 convolution: 1 agree, 0 unexpected"


def test_many_nodes_are_cut_in_the_text():
    assert "… and 5 more; the HTML and JSON reports have them all" in str(verification(65))


@pytest.mark.parametrize("result", RESULTS)
def test_nothing_printed_is_obeyed_by_a_terminal_or_a_browser(result):
    texts = [str(result()), repr(result()), result()._repr_html_()]
    assert not set("".join(texts)) & {"\x1b", "\u202e"}
    assert "<script>" not in texts[2]
    assert texts[2].startswith("<table><thead><tr><th>")
    assert texts[2].endswith("</pre>")


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (
            agreeing(),
            "<Comparison: The models agree: their results differ by at most 3.0e-07; rounding explains 2.4e-06 "
            "(measured: 2 perturbed runs of each model).>",
        ),
        (unknown(), "<Comparison: Unknown: not run: give inputs>"),
        (diverging(), "<Comparison: First divergence: conv 1 (head): why>"),
        (verification(), "<VerifyReport: 2 convolutions: 2 agree, 0 unexpected>"),
        (agreeing().rows[0], "<Row conv 0: agree>"),
        (verification().nodes[0], "<Node c0: agree>"),
        (port().moves[0], "<Move conv stem → conv: transposed>"),
    ],
)
def test_the_repr_is_one_short_line(thing, text):
    assert repr(thing) == text


def test_rows_print_one_line():
    assert str(diverging().rows[1]).startswith("conv 1 (head, ")
    assert str(diverging().rows[3]) == "conv 2 (tail, –): missing: model b has no such conv (Conv2d)"
    assert str(verification().nodes[0]) == "c0 (3→4 k3×3): agree"
    assert str(wrong().nodes[1]).endswith("(3→4 k3×3): disagree: why")
    assert str(Move("norm", "bn", "")) == "norm bn → –"
    assert str(Difference("bias-lost", "the bias is missing")) == "bias-lost: the bias is missing"


@pytest.mark.parametrize(("path", "shown"), [("a", "a"), ("", "–"), ("x" * 44, "x" * 44), ("y" * 50 + "end", "yend")])
def test_a_path_is_shown_whole_or_by_its_ends(path, shown):
    line = str(Comparison(("torch", "keras"), [Row("conv 0", path, "other", verdict="agree")])).splitlines()[1]
    cell = line.split()[2]
    assert cell.endswith(shown)
    assert cell.startswith(path[:14])
    assert ("…" in cell) == (len(path) > 44)
    assert len(cell) <= 44

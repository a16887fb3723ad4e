"""The ledger of declared gaps: which failure a gap covers, and how the tallies of several runs add up."""

import dataclasses
import itertools

import pytest

from convspec import Case, ConvSpec
from convspec.conformance.gap_ledger import Ledger, Tally, features
from convspec.conformance.results import Result
from convspec.contract.known_gaps import from_tables, parse
from convspec.errors import GapError

CASE = Case(ConvSpec(3, 5, (3, 5), stride=(2, 1)), (2, 3, 9, 11))
ABOUT = ("torch", "default", "native")


def gap(name="g", fails="error", **more):
    lines = {"id": name, "kind": "todo", "when": "bias", "reason": "known", **more}
    text = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
    return parse(f'[[gap]]\n{text}fails = ["{fails}"]', "f")[0]


def result(verdict="error", case=CASE, **more):
    fields = {
        "case": case, "adapter": "torch", "request": "torch", "variant": "default", "precision": "shipped",
        "support": "native", "support_reason": "", "verdict": verdict, "reason": "E: no", "accuracy_class": None,
        "evidence": {}, "gap": None, "seconds": 0.1,
    }  # fmt: skip
    return Result(**{**fields, **more})


def ledger(*gaps, adapter="torch"):
    made = Ledger()
    made.declare(adapter, gaps)
    return made


@pytest.mark.parametrize(("failed", "passed", "whole"), [*itertools.product([0, 2], [0, 3], [True, False])])
def test_the_status_of_a_gap(failed, passed, whole):
    tally = Tally(gap(), "torch", failed, passed, whole=whole)
    closed = "closed" if whole else "passing"
    status = {(0, 0): "unmatched", (2, 0): "holds", (0, 3): closed, (2, 3): "too wide"}[failed, passed]
    assert (tally.status, tally.unexpected) == (status, passed > 0)


def test_tallies_of_two_runs_add_up_and_keep_the_first_example():
    first, second = {"case": "1"}, {"case": "2"}
    for one, other, kept in ((first, second, first), ({}, second, second), (first, {}, first), ({}, {}, {})):
        tally = Tally(gap(), "torch", 1, 20, one)
        tally.add(Tally(gap(), "torch", 300, 4000, other))
        assert (tally.failed, tally.passed, tally.example) == (301, 4020, kept)


def test_the_entry_of_a_report():
    entry = Tally(gap(link="https://x.y"), "torch", 1, 2, {"case": "1"}).to_dict()
    assert (entry["passing_example"], entry["link"], entry["status"]) == ({"case": "1"}, "https://x.y", "too wide")
    entry = Tally(gap(), "torch").to_dict()
    assert (entry["passing_example"], entry["link"], entry["status"]) == (None, None, "unmatched")


def test_only_the_first_declaration_of_an_adapter_counts():
    made = ledger(gap("one"))
    made.judge(CASE, *ABOUT, "error", "")
    made.declare("torch", [gap("two")])
    made.declare("keras", [gap("three")])
    assert [(tally.adapter, tally.gap.id, tally.failed) for tally in made.all()] == [
        ("torch", "one", 1), ("keras", "three", 0),
    ]  # fmt: skip


def test_a_gap_covers_its_verdict_its_reason_its_cases_and_its_adapter_only():
    made = ledger(gap(match="sad"))
    assert made.judge(CASE, *ABOUT, "error", "so sad") == "g"
    for case, adapter, verdict, reason in (
        (CASE, "torch", "error", "happy"),
        (CASE, "torch", "crash", "so sad"),
        (CASE, "keras", "error", "so sad"),
        (CASE.varied(spec=dataclasses.replace(CASE.spec, bias=False)), "torch", "error", "so sad"),
    ):
        assert made.judge(case, adapter, "default", "native", verdict, reason) is None
    assert [(tally.failed, tally.passed) for tally in made.all()] == [(1, 0)]


def test_the_example_is_the_first_case_that_agrees():
    made = ledger(gap())
    for seed, direction in ((1, "kernel"), (2, "forward")):
        made.judge(CASE.varied(seed=seed), *ABOUT, "agree", "", direction)
    (tally,) = made.all()
    assert tally.passed == 2
    assert tally.example == {
        "case": CASE.varied(seed=1).id, "layout": "NCHW", "dtype": "float32", "data": "exact", "direction": "kernel",
    }  # fmt: skip


def test_the_multiplier_is_that_of_depthwise_layers():
    about = {"support": "native", "adapter": "torch", "variant": "default"}
    depthwise = Case(ConvSpec(3, 6, 3, groups=3), (1, 3, 5, 6))
    assert features(depthwise, **about)["multiplier"] == 2
    assert features(CASE, **about)["multiplier"] is None
    assert features(depthwise, **about)["out_spatial"] == (3, 4)
    assert features(CASE.varied(input_shape=(2, 3, 1, 1)), **about)["out_spatial"] is None


@pytest.mark.parametrize(
    ("when", "about"),
    [
        ("support == 'emulated'", {"support": "emulated"}), ("variant == 'onednn'", {"variant": "onednn"}),
        ("direction == 'kernel'", {"direction": "kernel"}), ("adapter == 'torch'", {}), ("layout == 'NHWC'", {}),
    ],
)  # fmt: skip
def test_every_feature_of_a_run_is_that_of_the_run(when, about):
    about = {"support": "native", "variant": "default", "direction": "forward", **about}
    for right, condition in ((True, when), (False, when.replace("==", "!="))):
        made = ledger(gap("never", when="not bias"), gap("g", when=condition))  # the first does not hide the second
        case = CASE.varied(layout="NHWC")
        found = made.judge(case, "torch", about["variant"], about["support"], "error", "", about["direction"])
        assert found == ("g" if right else None)
        assert [tally.failed for tally in made.all()] == [0, int(right)]


# -- results -----------------------------------------------------------------------------------------------------------


def test_the_gap_of_a_failure_is_found_in_reason_message_and_last_words():
    for more in ({"reason": "so sad"}, {"evidence": {"message": "so\nsad"}}, {"evidence": {"last_words": "sad"}}):
        assert result(**more).assign_gap(ledger(gap(match="sad"))).gap == "g"
    assert result().assign_gap(ledger(gap(match="sad"))).gap is None


def test_no_gap_covers_a_result_that_did_not_reach_the_adapter():
    made = ledger(gap())
    found = result(evidence={"unreached": True}, gap="g").assign_gap(made)
    assert (found.gap, found.unexpected, made.all()[0].failed) == (None, True, 0)


def test_a_relation_that_holds_is_no_evidence_against_a_gap_and_one_that_fails_may_be_covered():
    made = ledger(gap())
    shift = CASE.varied(data="shift")
    assert result("agree", shift).assign_gap(made).gap is None
    assert made.all()[0].passed == 0
    assert result("error", shift).assign_gap(made).gap == "g"
    other = CASE.varied(spec=dataclasses.replace(CASE.spec, bias=False), data="shift")
    assert result("error", other).assign_gap(made).gap is None
    run = {"spec": CASE.spec.to_dict(), "input_shape": list(CASE.input_shape), "layout": "NHWC"}
    assert result("error", other, evidence={"runs": [run]}).assign_gap(made).gap == "g"


def test_a_replayed_result_has_the_gap_of_the_recorded_one_and_agrees_with_no_gap():
    made = ledger(gap(fails="disagree"))
    recorded = {"recorded": {"gap": "theirs"}}
    other = CASE.varied(spec=dataclasses.replace(CASE.spec, bias=False))
    assert result("disagree", other, evidence=recorded).assign_gap(made).gap == "theirs"
    assert result("disagree", CASE, evidence=recorded).assign_gap(made).gap == "g"
    result("agree", CASE, evidence=recorded).assign_gap(made)
    assert (made.all()[0].failed, made.all()[0].passed) == (1, 0)


@pytest.mark.parametrize(
    ("verdict", "support", "declared", "unexpected"),
    [
        ("agree", "native", None, False), ("disagree", "native", None, True), ("disagree", "native", "g", False),
        ("unsupported", "unsupported", None, False), ("unsupported", "native", None, True),
        ("unsupported", "native", "g", False), ("error", "unsupported", None, True),
    ],
)  # fmt: skip
def test_what_is_unexpected(verdict, support, declared, unexpected):
    assert result(verdict, support=support, gap=declared).unexpected is unexpected


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_gap_is_what_its_table_says_and_gives_it_back():
    full = gap(match="a|b", link="https://x.y", versions="torch>=2")
    (again,) = from_tables([full.to_dict()], "x")
    names = ("id", "kind", "fails", "reason", "match", "adapters", "versions", "processor", "link")
    assert [getattr(again, name) for name in names] == [getattr(full, name) for name in names]
    assert again.when.text == "bias"
    assert "adapters" not in full.to_dict()


@pytest.mark.parametrize(
    "versions",
    ["torch", "torch[x]>=2", "torch>=2; python_version>'3'", "torch @ https://x.y/z.whl", ">=2", "torch>=2 <"],
)
def test_versions_are_one_distribution_and_its_numbers(versions):
    with pytest.raises(GapError, match=r"versions=.* must read like 'keras>=3\.6, <4'"):
        gap(versions=versions)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": 3}, "id must be a text"), ({"fails": "error"}, "fails must be a list of words"),
        ({"fails": ["error", 3]}, "fails must be a list of words"), ({"adapters": [3]}, "adapters must be a list"),
        ({"fails": []}, "fails must be given"), ({"reason": ""}, "reason must be given"),
        ({"kind": "ours"}, "kind='ours' must be one of todo, upstream, never"),
        ({"fails": ["agree"]}, "fails='agree' must be one of"), ({"match": "("}, "match='(' may have"),
        ({"reasn": "x"}, "unknown key 'reasn'; did you mean 'reason'?"), ({"zzz": "x"}, "unknown key 'zzz'"),
    ],
)  # fmt: skip
def test_a_table_has_rules(changes, words):
    with pytest.raises(GapError) as caught:
        from_tables([{**gap().to_dict(), **changes}], "the file")
    assert words in str(caught.value)
    assert str(caught.value).startswith("the file: gap ")

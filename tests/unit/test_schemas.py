"""The JSON Schemas of reports: what is written fits, what is broken does not."""

import json
from collections import Counter
from importlib.resources import files

import jsonschema
import pytest

from convspec import Case, ConvSpec
from convspec.conformance.results import Report, Result
from convspec.fuzzing.session import Finding, Fuzzed
from convspec.gaps import Tally, parse
from convspec.models.verification import Node, VerifyReport, collected

GAP = parse('[[gap]]\nid="g"\nkind="todo"\nwhen="bias"\nfails=["error"]\nreason="known"', "file")[0]


def schema(name):
    return json.loads(files("convspec").joinpath(f"{name}.schema.json").read_text("utf-8"))


def report():
    case = Case(ConvSpec(3, 5, (3, 5), padding="same", stride=2), (2, 3, 9, 11), "NHWC")
    usual = {"variant": "default", "precision": "shipped", "support_reason": ""}
    results = (
        Result(case=case, adapter="torch", request="torch", verdict=verdict, reason="", gap=None, support="native",
               accuracy_class=None, evidence={}, seconds=0.25, **usual)
        for verdict in ("agree", "disagree")
    )  # fmt: skip
    tallies = (Tally(GAP, "torch", failed=1), Tally(GAP, "keras", failed=1, passed=2, example={"case": "ab"}))
    return Report({"convspec": "0", "versions": {"torch": "2"}}, tuple(results), tallies, {"flax": "absent"})


def verification():
    run = {"path": "a", "inputs": 0, "level": "off", "verdict": "agree", "reason": "", "spec": None,
           "evidence": {"worst_q": 0.5, "bound": 3.0}, "shapes": {"x": [1, 3, 9, 9], "y": [1, 5, 7, 7]}}  # fmt: skip
    node = Node("a", "Conv", ConvSpec(3, 5, 3), [1, "C", 9, 9])
    return collected(VerifyReport("m.onnx", "n.onnx", [node]), [run])


def fuzzed():
    failure = report().results[1]
    return Fuzzed(
        7, [Finding("torch-disagree", failure, failure, 2, smallest=True, confirmed=True)], 25, 100,
        verdicts=Counter(agree=97, disagree=3), declared=Counter({"torch: g": 1}), absent={"flax": "no flax"},
        tallies={("keras", "g"): Tally(GAP, "keras", failed=1, passed=2, example={"case": "ab"})},
    )  # fmt: skip


DOCUMENTS = {"report": report, "fuzz": fuzzed, "verify": verification}


@pytest.mark.parametrize("name", ["spec", "report", "run", "record", "fuzz", "verify"])
def test_it_is_a_schema(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_written_fits(name):
    jsonschema.validate(json.loads(json.dumps(DOCUMENTS[name]().to_dict())), schema(name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_missing_and_a_strange_key_are_noticed(name):
    document = json.loads(json.dumps(DOCUMENTS[name]().to_dict()))
    for key in list(document):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in document.items() if k != key}, schema(name))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "strange": 1}, schema(name))


def test_a_result_is_the_same_in_a_report_and_in_a_journal():
    assert schema("report")["$defs"]["result"] == schema("run")["$defs"]["result"]


def test_results_and_gaps_of_a_fuzz_run_are_those_of_a_report():
    report, fuzz = schema("report")["$defs"], schema("fuzz")["$defs"]
    assert [fuzz[name] for name in ("gap", "result", "shape")] == [report[name] for name in ("gap", "result", "shape")]
    assert len(fuzzed().to_dict()["too_wide"]) == len(fuzzed().to_dict()["findings"]) == 1

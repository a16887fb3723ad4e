"""The JSON Schemas of reports: what is written fits, what is broken does not."""

import dataclasses
import functools
import json
import re
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import convspec
from convspec import Case, ConvParams, ConvSpec, diagnose, reference
from convspec.cli import explain as explain_command
from convspec.cli import vectors as vector_commands
from convspec.cli import verify as verify_commands
from convspec.cli.gate import Outcome as Checked
from convspec.cli.reports import gate_files
from convspec.cli.reports.diff import Difference
from convspec.conformance.fuzzing.session import Finding, FuzzReport
from convspec.conformance.gap_ledger import Tally
from convspec.conformance.results import Report, Result
from convspec.contract.known_gaps import parse
from convspec.corpora import pack
from convspec.corpora.pack import folder
from convspec.models.comparison.outcomes import Outcome
from convspec.models.comparison.results import Comparison, Row
from convspec.models.judging.draws import Draw
from convspec.models.judging.judgement import Judgement, Trial
from convspec.models.porting import Move, PortReport
from convspec.models.verification.report import Node, VerifyReport, collect

GAP = parse('[[gap]]\nid="g"\nkind="todo"\nwhen="bias"\nfails=["error"]\nreason="known"', "file")[0]


FILES = {path.name.removesuffix(".schema.json"): path for path in Path(convspec.__file__).parent.rglob("*.schema.json")}


def schema(name):
    return json.loads(FILES[name].read_text("utf-8"))


@functools.cache
def validator(name):
    return jsonschema.Draft202012Validator(schema(name))


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
    return collect(VerifyReport("m.onnx", "n.onnx", [node]), [run])


def fuzzed():
    failure = report().results[1]
    return FuzzReport(
        7, [Finding("torch-disagree", failure, failure, 2, smallest=True, confirmed=True)], 25, 100,
        verdicts=Counter(agree=97, disagree=3), declared=Counter({"torch: g": 1}), absent={"flax": "no flax"},
        tallies={("keras", "g"): Tally(GAP, "keras", failed=1, passed=2, example={"case": "ab"})},
    )  # fmt: skip


def diagnosis():
    spec = ConvSpec(3, 4, (3, 5), stride=2, padding="same")
    params, x = ConvParams.random(spec, seed=0), np.random.default_rng(0).standard_normal((2, 3, 8, 10))
    port = ConvSpec(3, 4, (3, 5), stride=2, padding=(1, 2))
    found = diagnose(spec, params, x, reference.conv(port, params, x), seconds=0)
    assert found.findings
    return found


def comparison():
    diverging = Row("conv 0", "a", "b", ["stride 2 against 1"], input=0.0, output=0.5, verdict="diverges",
                  reason="why", diagnosis=diagnosis())  # fmt: skip
    outcomes = [Outcome("the given inputs", "differ", 0.5, 1e-6, "the results differ")]
    return Comparison(("torch", "keras"), [diverging, Row("norm 0", "n", "", verdict="missing")], "differ", outcomes)


def port():
    moves = [Move("conv", "a", "b", "shape", ["transposed"]), Move("norm", "n", "")]
    return PortReport(("torch", "keras"), moves, left=["n"], written=True, comparison=comparison())


def changed():
    first, second = report().results
    probe = dataclasses.replace(first, case=first.case.varied(data="probe"), accuracy_class="float32")
    gone = dataclasses.replace(first, request="keras", adapter="keras")
    old = dataclasses.replace(report(), results=(first, probe, gone))
    new = Report(
        {"convspec": "1", "versions": {"torch": "3"}},
        (dataclasses.replace(first, verdict="error", gap="g"), dataclasses.replace(probe, accuracy_class="tf32"),
         dataclasses.replace(second, request="onnx")),
    )  # fmt: skip
    found = Difference(old, new)
    assert all((found.verdicts, found.classes, found.gone, found.added, found.gaps, found.versions))
    return found


def outcomes():
    said = {"name": "dd594ca8634c", "verdict": "crash", "reason": "the process ended", "evidence": {}}
    return {"schema": "convspec.vectors/1", "results": [vector_commands._result("onnx", None, said)]}


def judgement():
    drawn = Draw([np.zeros((2, 3, 9, 9), np.float32)], "normal numbers")
    trials = [Trial(drawn, False, Outcome("normal numbers", "differ", 0.5, 1e-6, "the results differ"))]
    return Judgement("port.py:Net", "net.py:Net", "refused", 7, "they differ", trials=trials)


def gate():
    found, known = ("conv 0 (a)", "diverges", "why"), ("model", "differ", "why")
    outcome = Checked("pair", "compare", "a ↔ b", "failed", "differ: why", (found, known), frozenset({known}), 0.5)
    return gate_files.document("convspec.toml", 1, [outcome], ["pair: gone: differ"])


def manifest():
    some = [v for v in pack.draw_vectors() if v.id.startswith(("001", "003"))]
    assert {v.kind for v in some} == {"exact", "random", "quantized"}
    entries = [folder._entry(v) | {"graph": None} for v in some]
    return json.loads(folder._manifest(entries, {"index.tsv": "0" * 64}))


def weights():
    kernel = np.arange(24.0).reshape(2, 3, 4)
    return convspec.match_weights({"a": kernel, "gone": np.ones(2)}, {"b": kernel.T, "more": np.zeros(2)})


def baseline():
    found = verification()
    found.environment = {"expect": {"CUDA": "tf32"}}
    found.missing = ["layer4.conv2"]
    kept = json.loads(verify_commands._baseline(found))
    assert kept["accepted"]
    return kept


def explained():
    return explain_command.document(convspec.explain("running_mean should contain 16 elements not 8"))


DOCUMENTS = {
    "report": report, "fuzz": fuzzed, "verify": verification, "diagnosis": diagnosis, "comparison": comparison,
    "port": port, "diff": changed, "vectors": outcomes, "baseline": baseline,
    "weights": weights, "judgement": judgement, "explain": explained, "pack": manifest, "gate": gate,
}  # fmt: skip


def written(name):
    """The document as a reader of JSON gets it."""
    found = DOCUMENTS[name]()
    return json.loads(json.dumps(found if isinstance(found, dict) else found.to_dict(), allow_nan=False))


@pytest.mark.parametrize("name", [*DOCUMENTS, "spec", "run", "record", "gate-file"])
def test_it_is_a_schema(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$id"] == f"convspec.{name}/1"


def test_every_document_that_names_a_schema_has_one():
    assert FILES.keys() == {*DOCUMENTS, "spec", "run", "record", "gate-file"}


@pytest.mark.parametrize("name", FILES)
def test_a_schema_can_be_used_alone(name):
    text = FILES[name].read_text("utf-8")
    assert all(reference.startswith("#/$defs/") for reference in re.findall(r'"\$ref": "(.*?)"', text))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_written_fits(name):
    validator(name).validate(written(name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_missing_and_a_strange_key_are_noticed(name):
    document = written(name)
    for key in {*document} - {"expect"}:  # a baseline may have no classes
        with pytest.raises(jsonschema.ValidationError):
            validator(name).validate({k: v for k, v in document.items() if k != key})
    with pytest.raises(jsonschema.ValidationError):
        validator(name).validate({**document, "strange": 1})


def test_a_result_is_the_same_in_a_report_and_in_a_journal():
    assert schema("report")["$defs"]["result"] == schema("run")["$defs"]["result"]


def test_definitions_in_several_documents_are_equal():
    known: dict[str, object] = {}
    for name in ("diagnosis", "comparison", "port"):
        for part, described in schema(name)["$defs"].items():
            assert known.setdefault(part, described) == described
    for inner, outer in (("diagnosis", "comparison"), ("comparison", "port")):
        alone = schema(inner)
        assert schema(outer)["$defs"][inner]["properties"] == alone["properties"]
        assert schema(outer)["$defs"][inner]["required"] == alone["required"]


def test_results_and_gaps_of_a_fuzz_run_are_those_of_a_report():
    report, fuzz = schema("report")["$defs"], schema("fuzz")["$defs"]
    assert [fuzz[name] for name in ("gap", "result", "shape")] == [report[name] for name in ("gap", "result", "shape")]
    assert len(fuzzed().to_dict()["too_wide"]) == len(fuzzed().to_dict()["findings"]) == 1

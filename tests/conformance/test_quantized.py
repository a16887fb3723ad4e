"""Quantised layers in a run: verdicts, the table of roundings, gaps, diagnosis, and adapters without them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convspec
from convspec import Case, ConvSpec, corpora
from convspec.conformance.results import Result
from convspec.conformance.roundings import Rounding, count_roundings, rounding_lines
from convspec.contract import registry
from convspec.corpora import QUANTIZED_KINDS, quantized_arrays
from convspec.errors import UnknownName, UnsupportedError

PLAIN = ConvSpec(4, 6, 3, padding=1)
CASES = [Case(PLAIN, (2, 4, 9, 8), data=kind, seed=seed) for kind in QUANTIZED_KINDS for seed in (0, 1)]
ROOT = Path(__file__).parents[2]


def check(name, cases=CASES, **options):
    return convspec.check(cases, [f"convspec_fakes:{name}"], **{"timeout": 20, "layouts": ["NHWC"], **options})


def test_a_case_of_integers_is_run_as_such_whatever_data_are_asked_for():
    report = check("QUANTIZES", gradients=True).expect()
    assert [one.case.data for one in report.results] == [case.data for case in CASES]
    assert {one.verdict for one in report.results} == {"agree"}
    for one in report.results:
        assert Result.from_dict(json.loads(json.dumps(one.to_dict()))).evidence["rounding"] == one.evidence["rounding"]


def test_any_case_is_run_with_integers_where_they_are_asked_for():
    report = check("QUANTIZES", [Case(PLAIN, (1, 4, 5, 5))], data=["int8", "uint8"]).expect()
    assert [one.case.data for one in report.results] == ["int8", "uint8"]
    command = convspec.conformance.reproduction(report.results[0])
    assert "--data int8" in command


def test_the_table_counts_outputs_and_names_the_rule_of_each_form():
    report = check("QUANTIZES", [case.varied(seed=2 * seed) for case in CASES for seed in range(3)])
    table = count_roundings(report.results)
    assert {key: row.rules for key, row in table.items() if key[3] == "int8"} == {
        ("quantizes", "even", "plain", "int8"): ("half to even",),
        ("quantizes", "up", "plain", "int8"): ("half up", "fixed point in one rounding, half up"),
    }  # fmt: skip
    assert table["quantizes", "even", "plain", "int8"].outputs == 3 * 2 * 3 * 864
    lines = rounding_lines(report.results)
    assert lines[0].split() == ["adapter", "operator", "layers", "type", "outputs", "illegal", "rounding"]
    assert lines[1].endswith("half to even")
    assert "undetermined: half up; fixed point in one rounding, half up" in lines[3]
    assert rounding_lines(check("GOOD", [Case(PLAIN, (1, 4, 5, 5))]).results) == []


def test_a_rule_must_explain_every_layer():
    row = Rounding()
    row.add(outputs=10, illegal=0, rules=["a", "b"])
    row.add(outputs=10, illegal=0, rules=["b", "c"])
    assert (row.outputs, str(row)) == (20, "b")
    row.add(outputs=1, illegal=0, rules=["c"])
    assert str(row) == "no single rule"
    row.add(outputs=1, illegal=1, rules=[])
    assert str(row) == "wrong"


def test_a_wrong_form_is_named_with_its_mistake():
    report = check("NO_QUANTIZED_BIAS", CASES[:1])
    (result,) = report.unexpected
    assert result.verdict == "disagree"
    assert result.reason.startswith("up: value: ")
    assert "no legal rounding of the exact result" in result.reason
    assert [one["id"] for one in result.evidence["findings"]] == ["quantised-bias-left-out"]
    assert result.evidence["rounding"]["even"]["illegal"] == 0 < result.evidence["rounding"]["up"]["illegal"]


def test_another_type_is_wrong():
    (result,) = check("WIDE_INTEGERS", CASES[:1]).unexpected
    assert (result.verdict, result.reason) == ("disagree", "up: dtype: expected int8, got int16")


def test_a_gap_covers_integers_where_it_names_them():
    report = check("SAD_INTEGERS", CASES)
    assert {one.gap for one in report.results if one.case.data == "int8"} == {"g"}
    assert {one.gap for one in report.results if one.case.data != "int8"} == {None}
    assert all("the integers are sad" in one.reason for one in report.results)
    assert not check("QUANTIZES").gaps[0].passed, "the gap of float layers is not about integers"


def test_what_an_adapter_does_not_build_is_unsupported():
    report = check("GOOD").expect()
    assert {(one.verdict, one.reason) for one in report.results} == {
        ("unsupported", "adapter 'good' builds no quantised layers")
    }
    grouped = Case(ConvSpec(4, 6, 3, groups=2), (1, 4, 5, 5), data="int8")
    assert [one.reason for one in check("QUANTIZES", [grouped]).expect().results] == ["no groups of integers here"]
    with pytest.raises(UnsupportedError, match="builds no quantised layers"):
        registry.adapter("convspec_fakes:GOOD").quantized(PLAIN, convspec.QuantSpec(), None)


@pytest.mark.parametrize("kind", QUANTIZED_KINDS)
def test_integers_are_those_of_the_seed_fill_the_range_and_lie_at_ties(kind):
    case = Case(PLAIN, (4, 4, 20, 20), data=kind, seed=2)
    quant, params, x = quantized_arrays(case)
    again = quantized_arrays(Case.from_dict(json.loads(case.to_json())))
    assert (quant, params.kernel.tobytes(), x.tobytes()) == (again[0], again[1].kernel.tobytes(), again[2].tobytes())
    params.check(PLAIN)
    assert (x.dtype, params.kernel.dtype, params.bias.dtype) == (quant.input, quant.weight, "int32")
    assert quant.input_zero
    assert quant.output_zero
    assert quant.symmetric == (kind != "uint8_asymmetric")
    layer = convspec.reference.quantized.QuantizedLayer(PLAIN, quant, x, params.kernel, params.bias)
    values = layer.values(layer.sums())
    low, high = layer.ends
    assert 0.001 < ((values < low) | (values > high)).mean() < (0.6 if kind.endswith("relu") else 0.2)
    assert np.count_nonzero(values % 1 == 0.5) > 3
    assert quantized_arrays(case.varied(seed=3))[2].tobytes() != x.tobytes()


def test_other_data_are_no_integers():
    with pytest.raises(UnknownName, match="unknown kind of quantised data 'exact'"):
        quantized_arrays(Case(PLAIN, (1, 4, 5, 5)))


def test_the_corpus_is_what_its_script_writes():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "cover_quantised.py"], capture_output=True, text=True,
                          check=True, timeout=60)  # fmt: skip
    assert done.stdout == (ROOT / "convspec" / "corpora" / "quantised.jsonl").read_text("utf-8")
    cases = corpora.load("quantised")
    assert {case.data for case in cases} == set(QUANTIZED_KINDS)
    assert {case.spec.ndim for case in cases} == {1, 2, 3}

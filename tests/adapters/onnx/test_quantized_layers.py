"""Quantised layers on ONNX Runtime and onnx's evaluator: legal roundings only, and the rule of each."""

import dataclasses

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from convspec_onnx import ADAPTER, REFERENCE

from convspec import Case, ConvSpec, QuantSpec
from convspec.conformance.gap_ledger import Ledger
from convspec.corpora.cases import quantized_arrays
from convspec.errors import SpecError, UnsupportedError
from tests.adapters.quantized import PAIRS_SATURATE, assert_clipped, check, check_corpus, rules, total
from tests.adapters.suite import gaps_of

pytestmark = pytest.mark.onnx

REFLECTING = ConvSpec(4, 10, 3, padding=1, padding_mode="reflect")
SATURATING = "ort-pairs-saturate-in-channels-last-integers"
QUANTIZED_GAPS = {
    "ort-pad-axes-before-channels-last-integers": (ADAPTER, Case(REFLECTING, (2, 4, 13, 14), "NHWC", data="int8")),
    SATURATING: (
        ADAPTER, Case(ConvSpec(5, 13, 3, padding=1), (2, 5, 14, 13), "NHWC", data="int8")),
    "evaluator-qlinear-conv-is-two-dimensional": (REFERENCE, Case(ConvSpec(3, 5, 3, ndim=1), (1, 3, 9), data="uint8")),
    "evaluator-grouped-conv-transpose-of-integers": (
        REFERENCE, Case(ConvSpec(6, 12, 3, 2, groups=2, transposed=True), (1, 6, 5, 4), data="int8_per_tensor")),
}  # fmt: skip


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("variant", ADAPTER.variants)
def test_every_output_of_onnx_runtime_is_legal_and_half_to_even(variant, layout):
    results, wrong = check_corpus(ADAPTER.with_variant(variant), layout)
    if (variant, layout) == ("all", "NHWC"):
        ledger = Ledger()
        ledger.declare("onnx", gaps_of(ADAPTER))
        gaps = {one.assign_gap(ledger).gap for one in results if one.verdict == "disagree"}
        assert gaps == ({SATURATING} if PAIRS_SATURATE else set())
        assert {one.case.name for one in wrong if one.verdict == "error"} == {"reflecting"}
        assert not any(one.assign_gap(ledger).gap for one in results if one.verdict == "agree")
    else:
        assert not wrong
    assert total(results) > 200_000
    for (form, *_), found in rules(results).items():
        if form == "QLinearConv":
            assert found == ("half to even",)


def test_the_evaluator_rounds_the_sum_with_the_zero_point():
    results, wrong = check_corpus(REFERENCE, "NCHW")
    assert {(one.verdict, one.case.name) for one in wrong} == {
        ("error", "transposed, grouped"), ("error", "1-D"), ("error", "1-D, causal"), ("error", "3-D"),
    }  # fmt: skip
    found = rules(results)
    assert found["QLinearConv", "plain", "uint8"] == ("half to even, with the zero point",)
    assert found["QDQ", "transposed", "uint8"] == ("half to even",)


@pytest.mark.parametrize("name", QUANTIZED_GAPS)
def test_each_gap_fails_as_declared(name):
    adapter, case = QUANTIZED_GAPS[name]
    (result,) = check(adapter, [case], case.layout)
    ledger = Ledger()
    ledger.declare(adapter.name, gaps_of(adapter))
    if name == SATURATING and not PAIRS_SATURATE:
        assert result.verdict == "agree"
        return
    assert result.assign_gap(ledger).gap == name
    float_case = case.varied(data="exact")
    judge = (adapter.name, adapter.variant, "native", "error", "Gather could not be broadcast")
    assert ledger.judge(float_case, *judge) != name, "the gap is about integers"


@pytest.mark.parametrize("activation", ["relu6", "relu_n1_to_1"])
def test_activations_clip_between_their_ends(activation):
    assert_clipped(ADAPTER, activation, "NCHW")


def test_what_cannot_be_built_is_said():
    case = Case(ConvSpec(3, 5, 3), (1, 3, 9, 8), data="int8")
    quant, params, _ = quantized_arrays(case)
    with pytest.raises(UnsupportedError, match="ConvInteger"):
        ADAPTER.quantized(case.spec, QuantSpec(output="int32"), params)
    with pytest.raises(SpecError, match="weight_scale must be one number, or one for each of 5"):
        ADAPTER.quantized(case.spec, dataclasses.replace(quant, weight_scale=(1.0, 2.0)), params)

"""Quantised layers on OpenVINO: legal roundings only, by the rule of its FakeQuantize."""

import pytest

pytest.importorskip("openvino")

from convspec_openvino import ADAPTER

from convspec import Case, ConvSpec, QuantSpec
from convspec.corpora import quantized_arrays
from convspec.errors import UnsupportedError
from tests.adapters.quantized import assert_clipped, check_corpus, rules, total

pytestmark = pytest.mark.openvino


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_output_is_legal(layout):
    results, wrong = check_corpus(ADAPTER, layout)
    assert not wrong
    assert {one.verdict for one in results} == {"agree"}
    assert total(results) > 200_000
    found = rules(results)
    for kind in ("depthwise", "grouped", "transposed"):
        assert found["FakeQuantize", kind, "uint8"] == ("half to even, with the zero point",)


@pytest.mark.parametrize("activation", ["relu6", "relu_n1_to_1"])
def test_activations_clip_between_their_ends(activation):
    assert_clipped(ADAPTER, activation, "NCHW")


def test_sums_are_no_output_of_a_fake_quantize():
    with pytest.raises(UnsupportedError, match="outputs of 8 bits"):
        ADAPTER.quantized(ConvSpec(1, 1, 1, bias=False), QuantSpec(output="int32"), quantized_params())


def quantized_params():
    return quantized_arrays(Case(ConvSpec(1, 1, 1, bias=False), (1, 1, 1, 1), data="int8"))[1]

"""PyTorch's quantised modules by each engine: legal roundings only, and the rule of each."""

import dataclasses

import pytest

pytest.importorskip("torch")

import torch
from convspec_torch import ADAPTER

from convspec import Case, ConvSpec
from convspec.contract import known_gaps
from convspec.corpora import quantized_arrays
from convspec.errors import UnsupportedError
from tests.adapters.quantized import check_corpus, rules, total

pytestmark = pytest.mark.torch
RULES = {"fbgemm": "half to even", "qnnpack": "half to even", "onednn": "half to even, with the zero point"}
RULES["x86"] = RULES["onednn" if "avx512_vnni" in known_gaps.processor_features() else "fbgemm"]
"""The engine x86 is oneDNN where the processor has AVX-512 VNNI, and FBGEMM elsewhere."""


def test_every_output_is_legal_and_each_engine_has_its_rule():
    before = torch.backends.quantized.engine
    results, wrong = check_corpus(ADAPTER, "NCHW", seeds=(0, 1))
    assert torch.backends.quantized.engine == before
    assert not wrong
    assert total(results) > 200_000
    found = rules(results)
    for engine in torch.backends.quantized.supported_engines:
        if engine in RULES:
            assert found[engine, "plain", "uint8"] == (RULES[engine],)


@pytest.mark.parametrize(
    ("changes", "variant", "words"),
    [
        ({"padding": ((0, 1), (0, 0))}, "default", "pad both sides alike"),
        ({"padding": 1, "padding_mode": "circular"}, "default", "with zeros"),
        ({}, "channels_last", "run in the variant default"),
    ],
)
def test_what_the_modules_lack_is_said(changes, variant, words):
    spec = ConvSpec(3, 5, 3, **changes)
    quant, params, _ = quantized_arrays(Case(spec, (1, 3, 9, 8), data="uint8"))
    with pytest.raises(UnsupportedError, match=words):
        ADAPTER.with_variant(variant).quantized(spec, quant, params)


def test_types_that_the_modules_lack_are_said():
    spec = ConvSpec(3, 5, 3)
    quant, params, _ = quantized_arrays(Case(spec, (1, 3, 9, 8), data="uint8"))
    with pytest.raises(UnsupportedError, match="uint8 data and symmetric int8 weights"):
        ADAPTER.quantized(spec, dataclasses.replace(quant, weight_zero=1), params)

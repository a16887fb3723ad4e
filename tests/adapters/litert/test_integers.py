"""Layers of integers by LiteRT's three kinds of kernels: legal roundings only, each by the rule of its kind."""

import dataclasses
import itertools

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from convspec_litert import ADAPTER
from convspec_litert.flatbuffer import RESOLVERS, Graph
from convspec_litert.judge import judge_conv
from convspec_litert.weights import ORDERS

from convspec import Case, ConvSpec
from convspec.corpora import quantized_arrays
from convspec.errors import UnsupportedError
from tests.adapters.quantized import assert_clipped, check_corpus, rules, total

pytestmark = pytest.mark.litert
EVEN = "half to even"
UP, AWAY = "fixed point, half up", "fixed point, half away from zero"
BLOCKS = "fixed point, half up in blocks of 8 channels, half away from zero in the rest"
LAYERS = {  # with the rule of LiteRT's own kernels
    "plain": (ConvSpec(5, 13, (3, 2), stride=(2, 1), padding="same"), UP),
    "grouped": (ConvSpec(6, 12, 3, padding=1, groups=3), AWAY),
    "depthwise": (ConvSpec(11, 11, 3, padding=1, groups=11), BLOCKS),
    "transposed": (ConvSpec(5, 13, 3, stride=2, padding="same", transposed=True), BLOCKS),
}  # fmt: skip


def quantised(spec, shape, seed, level):
    """The quantised layer, its convolution, and integers of this shape in the model's layout."""
    quant, params, x = quantized_arrays(Case(spec, (shape[0], shape[3], *shape[1:3]), data="int8", seed=seed))
    (form,) = ADAPTER.with_variant(level).quantized(spec, quant, params)
    graph = Graph(form.layer)
    [conv] = [own for own in graph.operators if own.kind in ORDERS]
    return form, graph, conv, np.moveaxis(x, 1, -1)


@pytest.mark.parametrize("level", RESOLVERS)
@pytest.mark.parametrize("name", LAYERS)
def test_all_outputs_are_legal_roundings_by_one_rule(name, level):
    spec, own = LAYERS[name]
    wanted = {"xnnpack": EVEN, "reference": AWAY, "builtin": own}[level]
    outputs = 0
    for seed in range(4):
        _, graph, conv, x = quantised(spec, (4, 40, 40, spec.in_channels), seed, level)
        verdict = judge_conv(graph, conv, graph.values([x], level), level)
        assert verdict.verdict == "agree", verdict.reason
        (note,) = verdict.evidence["notes"]
        assert wanted in note["title"]
        outputs += verdict.evidence["total"]
    assert outputs > 150_000


def test_the_kinds_of_kernels_disagree_among_themselves():
    layers = [quantised(LAYERS["plain"][0], (4, 40, 40, 5), 0, level) for level in RESOLVERS]
    results = [form.run(x).astype(int) for form, _, _, x in layers]
    assert any((a != b).any() for a, b in itertools.pairwise(results))
    assert all(abs(a - b).max() <= 1 for a in results for b in results)


@pytest.mark.parametrize("level", RESOLVERS)
def test_every_output_of_the_corpus_is_legal(level):
    results, wrong = check_corpus(ADAPTER.with_variant(level), "NHWC")
    assert not wrong
    assert total(results) > 200_000
    reasons = {one.reason for one in results if one.verdict == "unsupported"}
    assert reasons == {
        "LiteRT's CONV_3D has no integers", "LiteRT's TRANSPOSE_CONV has no activation",
        "LiteRT's transposed convolutions have no groups and no dilation",
        "LiteRT convolves int8 by int8, or uint8 by uint8, not uint8 by int8",
    }  # fmt: skip
    found = rules(results)
    own = {"xnnpack": EVEN, "reference": AWAY, "builtin": UP}[level]
    assert found["CONV_2D", "plain", "int8"] == (own,)
    own = {"xnnpack": EVEN, "reference": AWAY, "builtin": BLOCKS}[level]
    assert found["DEPTHWISE_CONV_2D", "depthwise", "int8"] == (own,)
    assert found["DEPTHWISE_CONV_2D", "depthwise", "uint8"] == (AWAY,)


@pytest.mark.parametrize("activation", ["relu6", "relu_n1_to_1"])
def test_activations_clip_between_their_ends(activation):
    assert_clipped(ADAPTER, activation, "NHWC")


def test_a_zero_point_of_symmetric_weights_is_refused():
    case = Case(ConvSpec(3, 5, 3), (1, 3, 9, 8), data="int8")
    quant, params, _ = quantized_arrays(case)
    with pytest.raises(UnsupportedError, match="their zero point is 0"):
        ADAPTER.quantized(case.spec, dataclasses.replace(quant, weight_zero=1), params)

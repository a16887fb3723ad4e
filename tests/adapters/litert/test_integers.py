"""Layers of integers by LiteRT's three kinds of kernels: legal roundings only, each by the rule of its kind."""

import itertools

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as tfl
from convspec_litert import ADAPTER
from convspec_litert.flatbuffer import RESOLVERS, Graph
from convspec_litert.judge import judge_conv
from convspec_litert.weights import ORDERS, to_litert

from convspec import ConvParams, ConvSpec

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


def quantised(spec, seed):
    """The model of a layer of int8 with scales for each channel."""
    rng = np.random.default_rng(seed)
    layer = ADAPTER.build(spec, ConvParams.random(spec, seed=seed))
    graph = Graph(layer)
    [conv] = [own for own in graph.operators if own.kind in ORDERS]
    channels = spec.out_channels
    scales = rng.uniform(0.001, 0.01, channels).astype(np.float32)
    kernel = to_litert(rng.integers(-127, 128, spec.kernel_shape), conv.kind)
    axis = 3 if conv.kind == "DEPTHWISE_CONV_2D" else 0
    grids = {
        graph.inputs[0]: ([0.05], [int(rng.integers(-20, 20))], 0, tfl.TensorType.INT8),
        conv.inputs[1]: (scales, [0] * channels, axis, tfl.TensorType.INT8),
        conv.inputs[-1]: (scales * np.float32(0.05), [0] * channels, 0, tfl.TensorType.INT32),
        conv.outputs[0]: ([rng.uniform(0.3, 0.5)], [int(rng.integers(-9, 9))], 0, tfl.TensorType.INT8),
    }
    for number, (scale, zero, dimension, kind) in grids.items():
        own = layer.subgraphs[0].tensors[number]
        own.type = kind
        own.quantization = tfl.QuantizationParametersT(
            scale=np.asarray(scale, np.float32), zeroPoint=np.asarray(zero, np.int64), quantizedDimension=dimension
        )
    graph.set(conv.inputs[1], kernel)
    graph.set(conv.inputs[-1], rng.integers(-900, 900, channels))
    code = layer.operatorCodes[conv.own.opcodeIndex]
    code.version = max(code.version, 3)
    return graph, conv, rng


@pytest.mark.parametrize("level", RESOLVERS)
@pytest.mark.parametrize("name", LAYERS)
def test_all_outputs_are_legal_roundings_by_one_rule(name, level):
    spec, own = LAYERS[name]
    wanted = {"xnnpack": EVEN, "reference": AWAY, "builtin": own}[level]
    outputs = 0
    for seed in range(4):
        graph, conv, rng = quantised(spec, seed)
        x = rng.integers(-128, 128, (4, 40, 40, spec.in_channels))
        verdict = judge_conv(graph, conv, graph.values([x], level), level)
        assert verdict.verdict == "agree", verdict.reason
        (note,) = verdict.evidence["notes"]
        assert wanted in note["title"]
        outputs += verdict.evidence["total"]
    assert outputs > 150_000


def test_the_kinds_of_kernels_disagree_among_themselves():
    graph, _, rng = quantised(*[LAYERS["plain"][0], 1])
    x = rng.integers(-128, 128, (4, 40, 40, 5))
    results = [graph.run([x], level)[0].astype(int) for level in RESOLVERS]
    assert any((a != b).any() for a, b in itertools.pairwise(results))
    assert all(abs(a - b).max() <= 1 for a in results for b in results)

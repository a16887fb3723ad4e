"""``convspec verify`` of ``.tflite`` files: floats, float16 weights, dynamic range and integers."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from convspec_litert import ADAPTER
from convspec_litert.files import load, store
from convspec_litert.flatbuffer import RESOLVERS, Graph
from convspec_litert.judge import judge_conv
from convspec_litert.model import parts, write
from convspec_litert.weights import ORDERS

import convspec
from convspec import ConvParams, ConvSpec
from convspec.errors import RequestError

pytestmark = pytest.mark.litert
CONVS = 7
RULES = {"xnnpack": "half to even", "reference": "fixed point, half away from zero"}


@pytest.mark.keras
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_every_convolution_is_judged_by_each_kind_of_kernels(converted, precision):
    report = convspec.verify(str(converted / f"{precision}.tflite"))
    assert report.summary["agree"] == report.summary["convs"] == CONVS
    assert not report.unexpected
    assert all({run["level"] for run in node.runs} == set(RESOLVERS) for node in report.nodes)
    if precision == "int8":
        assert report.judged == (CONVS, 12)
        assert report.not_judged == {"ADD": 1, "MAX_POOL_2D": 1, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
        titles = [note["title"] for note in report.nodes[3].notes]
        assert all(any(t.startswith(f"{level}: every output is rounded {rule}") for t in titles)
                   for level, rule in RULES.items())  # fmt: skip
    else:
        assert report.judged == (16, 16)
        assert report.rounding == "rounding, proved"


@pytest.mark.keras
def test_a_file_is_verified_against_its_source(converted, tmp_path):
    right, source = str(converted / "float32.tflite"), str(converted / "network.keras")
    report = convspec.verify(right, against=source, levels=["builtin"])
    assert [node.matched for node in report.nodes] == [
        "stem", "depthwise", "pointwise", "dilated", "grouped", "up", "last",
    ]  # fmt: skip
    assert not report.unexpected
    model = load(right)
    part = next(one for one in parts(model) if one.path == "conv_2d_5")
    store(write(model, {part.path: {"kernel": part.reading.params.kernel[:, ::-1]}}), str(tmp_path / "spoilt.tflite"))
    spoilt = convspec.verify(str(tmp_path / "spoilt.tflite"), against=source, levels=["builtin"])
    assert spoilt.first_divergence == "conv_2d_5"


ROUNDED = ("float16", "dynamic", "int8")
NOISE = {"float16": (60, 80), "dynamic": (35, 150), "int8": (30, 45)}  # dB; "dynamic" has small layers in float32


@pytest.fixture(scope="module")
def source(converted):
    import keras

    return keras.models.load_model(converted / "network.keras")


@pytest.mark.keras
@pytest.mark.parametrize("precision", ROUNDED)
def test_rounding_is_no_difference_from_the_source(converted, source, precision):
    report = convspec.verify(str(converted / f"{precision}.tflite"), against=source, levels=["builtin"])
    assert not report.unexpected
    assert [node.matched for node in report.nodes] == [
        "stem", "depthwise", "pointwise", "dilated", "grouped", "up", "last",
    ]  # fmt: skip
    low, high = NOISE[precision]
    assert all(low < node.snr_db < high for node in report.nodes), [node.snr_db for node in report.nodes]
    assert [note["id"] for note in report.notes] == ["weights-float16"] * (precision == "float16")


def number_of(graph, path):
    return next(own for own in graph.operators if own.path.rpartition("_")[0] == path)


def flipped(graph, conv):
    graph.set(conv.inputs[1], graph.constant(conv.inputs[1])[:, ::-1, ::-1])


def without_bias(graph, conv):
    graph.set(conv.inputs[2], 0 * graph.constant(conv.inputs[2]))


def one_channel(graph, conv):
    """Twice as large: of integers, by the scale."""
    kernel = graph.constant(conv.inputs[1])
    if kernel.dtype == np.int8:
        graph.graph.tensors[conv.inputs[1]].quantization.scale[2] *= 2
    else:
        kernel[2] *= 2
        graph.set(conv.inputs[1], kernel)


def average_pool(graph, _):
    pool = number_of(graph, "max_pool_2d")
    code = graph.model.operatorCodes[pool.own.opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = 1  # AVERAGE_POOL_2D


FAULTS = {
    "flipped": (flipped, 3, {"kernel-flipped"}, "its spatial axes reversed"),
    "bias": (without_bias, 3, {"bias-lost"}, "the source has a bias"),
    "channel": (one_channel, 3, {"weight-scale", "kernel-scaled"}, "channel 2 is 2 times"),
    "pool": (average_pool, 6, {"input-differs"}, "input of this node"),
}


@pytest.mark.keras
@pytest.mark.parametrize("precision", ROUNDED)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_rounding_does_not_explain_is_named_first(converted, source, tmp_path, precision, fault):
    plant, place, ids, words = FAULTS[fault]
    graph = Graph(load(str(converted / f"{precision}.tflite")))
    convs = [own for own in graph.operators if own.kind in ORDERS]
    plant(graph, convs[place])
    store(graph.model, str(tmp_path / "spoilt.tflite"))
    report = convspec.verify(str(tmp_path / "spoilt.tflite"), against=source, levels=["builtin"])
    assert report.first_divergence == convs[place].path, report.unexpected
    assert report.unexpected[0][1] in ids
    assert words in report.unexpected[0][2]


def spoilt(values, conv, **changes):
    """What the tensors of a run held, with other numbers in some."""
    return {n: changes.get(name, x) for n, x in values.items() for name in [{conv.outputs[0]: "y"}.get(n, "")]}


@pytest.mark.keras
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_wrong_outputs_are_not_accepted(converted, precision):
    """One step more in one element of each convolution; of floats, a thousandth."""
    graph = Graph(load(str(converted / f"{precision}.tflite")))
    x = np.random.default_rng(1).standard_normal((1, 24, 20, 3))
    values = graph.values([(40 * x).clip(-128, 127) if precision == "int8" else x.astype(np.float32)], "builtin")
    for conv in (own for own in graph.operators if own.kind in ORDERS):
        assert judge_conv(graph, conv, values, "builtin").verdict == "agree"
        y = values[conv.outputs[0]].copy()
        at = np.unravel_index(np.argmax(y < 100 if y.dtype == np.int8 else np.abs(y)), y.shape)
        y[at] += 2 if y.dtype == np.int8 else 0.001
        verdict = judge_conv(graph, conv, spoilt(values, conv, y=y), "builtin")
        assert verdict.verdict == "disagree", conv.path
        assert "1 of" in verdict.reason


@pytest.mark.keras
@pytest.mark.parametrize("level", RESOLVERS)
def test_mistakes_of_quantisation_are_named(converted, level):
    """The file that ran differs from the one that is judged."""
    graph, wrong = (Graph(load(str(converted / "int8.tflite"))) for _ in range(2))
    conv = next(own for own in graph.operators if own.kind == "CONV_2D")
    x = np.random.default_rng(2).integers(-128, 128, (1, 24, 20, 3))
    weight, bias = conv.inputs[1:]

    def reason():
        values = wrong.values([x], level) | {n: graph.constant(n) for n in (weight, bias)}
        return judge_conv(graph, conv, values, level).reason

    scales = wrong.graph.tensors[weight].quantization.scale
    wrong.graph.tensors[weight].quantization.scale = np.roll(scales, 1)
    assert "channel 0 has the scale of channel 7; channel 1 has the scale of channel 0" in reason()
    wrong.graph.tensors[weight].quantization.scale = scales
    wrong.set(bias, np.zeros(8))
    assert reason().endswith("the bias is left out")


def test_a_process_that_dies_is_a_verdict(tmp_path):
    """A depthwise convolution without a bias ends the process that runs it."""
    layer = ADAPTER.build(spec := ConvSpec(2, 2, 3, groups=2), ConvParams.random(spec, seed=1))
    operator = layer.subgraphs[0].operators[0]
    operator.inputs = operator.inputs[:2]
    store(layer, str(tmp_path / "crash.tflite"))
    report = convspec.verify(str(tmp_path / "crash.tflite"))
    assert report.summary["crash"] == 1
    assert "SIGSEGV" in report.nodes[0].reason


def test_requests_that_are_refused(tmp_path):
    path = tmp_path / "layer.tflite"
    store(ADAPTER.build(spec := ConvSpec(2, 2, 3), ConvParams.random(spec, seed=1)), str(path))
    with pytest.raises(RequestError, match="the levels are xnnpack, builtin, reference"):
        convspec.verify(str(path), levels=["off"])
    with pytest.raises(RequestError, match="takes 1 inputs, but 2 are given"):
        convspec.verify(str(path), inputs=[np.zeros((1, 9, 9, 2)), np.zeros(3)])
    for content, words in ((b"not a model", "TFL3"), (path.read_bytes()[:300], "not a valid LiteRT model")):
        (tmp_path / "wrong.tflite").write_bytes(content)
        with pytest.raises(RequestError, match=words):
            convspec.verify(str(tmp_path / "wrong.tflite"))
    report = convspec.verify(str(path), inputs=np.ones((2, 9, 9, 2), np.float32))
    assert report.nodes[0].input_shape == [2, 2, 9, 9]
    assert report.summary["agree"] == 1

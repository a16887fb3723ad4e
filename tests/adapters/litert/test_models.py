"""LiteRT's files as models: listed, compared, ported, written; and files of unknown origin."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from convspec_litert import ADAPTER
from convspec_litert.files import load, store
from convspec_litert.flatbuffer import Graph
from convspec_litert.model import parts, trace_steps, write
from convspec_litert.weights import ORDERS

import convspec
from convspec import ConvParams, ConvSpec, reference
from convspec.errors import RequestError
from convspec.spec.steps import Other

pytestmark = pytest.mark.litert
X = np.random.default_rng(7).standard_normal((1, 24, 20, 3)).astype(np.float32)
SPECS = {
    "conv_2d_0": ConvSpec(3, 8, 3, stride=2, padding="same"),
    "depthwise_conv_2d_1": ConvSpec(8, 8, 3, padding=1, groups=8),
    "conv_2d_2": ConvSpec(8, 16, 1),
    "conv_2d_3": ConvSpec(16, 16, 3, padding=2, dilation=2),
    "conv_2d_5": ConvSpec(16, 16, 3, padding=1, groups=4),
    "transpose_conv_6": ConvSpec(16, 8, 3, stride=2, padding="same", transposed=True),
    "conv_2d_8": ConvSpec(8, 4, 3, padding=1),
}


@pytest.mark.keras
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_convolutions_of_a_file_are_listed(converted, precision):
    found = convspec.convs(str(converted / f"{precision}.tflite"))
    assert [one.reading.spec for one in found] == list(SPECS.values())
    assert all(one.reading.layout == "NHWC" for one in found)
    if precision == "float32":
        assert [one.path for one in found] == list(SPECS)


@pytest.mark.keras
def test_quantised_weights_are_not_read(converted):
    with_reasons = convspec.convs(str(converted / "int8.tflite"))
    assert [one.reading for one in with_reasons] == [None] * len(SPECS)
    assert "int8" in with_reasons[0].problem


@pytest.mark.keras
def test_a_file_is_compared_with_its_source(converted):
    report = convspec.compare(str(converted / "network.keras"), str(converted / "float32.tflite"), [X])
    assert report.verdict == "agree"
    assert "proved" in str(report)
    half = convspec.compare(str(converted / "network.keras"), str(converted / "float16.tflite"), [X])
    assert half.verdict == "differ"
    assert "rounded to float16" in str(half)


@pytest.mark.keras
def test_a_spoilt_file_is_named(converted, tmp_path):
    model = load(str(converted / "float32.tflite"))
    part = next(one for one in parts(model) if one.path == "conv_2d_3")
    write(model, {part.path: {"kernel": part.reading.params.kernel[:, :, ::-1]}})
    store(model, str(tmp_path / "spoilt.tflite"))
    report = convspec.compare(str(converted / "network.keras"), str(tmp_path / "spoilt.tflite"), [X])
    assert report.verdict == "differ"
    assert "First divergence: conv 3 (dilated)" in str(report)


@pytest.mark.keras
def test_weights_of_a_file_are_ported(converted, tmp_path):
    """From a file into another file, whose weights are ones."""
    source, empty = (load(str(converted / "float32.tflite")) for _ in range(2))
    own = {part.path: {name: np.ones_like(array) for name, array in part.parameters.items()} for part in parts(empty)}
    store(write(empty, own), str(tmp_path / "empty.tflite"))
    ported = convspec.port_weights(str(converted / "float32.tflite"), str(tmp_path / "empty.tflite"), inputs=[X])
    assert ported.complete, str(ported)
    result = Graph(load(ported.model.path)).run([X], "builtin")[0]
    np.testing.assert_array_equal(result, Graph(source).run([X], "builtin")[0])


@pytest.mark.keras
def test_every_step_of_a_network_has_a_word(converted):
    trace = trace_steps(load(str(converted / "float32.tflite")), [X])
    assert not [step.name for step in trace.steps if isinstance(step.step, Other) or step.note]
    assert [step.step for step in trace.steps if isinstance(step.step, ConvSpec)] == list(SPECS.values())
    used = {path for step in trace.steps for paths in step.sources.values() for path in paths}
    assert used == set(trace.parameters)
    by_kind = {step.name for step in trace.steps}
    assert {"RELU", "RELU6", "ADD", "MAX_POOL_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"} <= by_kind
    for step in trace.steps:
        if isinstance(step.step, ConvSpec):
            x, y = (np.moveaxis(trace.tensors[n[0]], -1, 1) for n in (step.reads, step.writes))
            expected = reference.conv(step.step, ConvParams(step.arrays["kernel"], step.arrays.get("bias")), x)
            np.testing.assert_allclose(y, expected, atol=1e-4)


@pytest.mark.keras
def test_a_quantised_model_is_not_compared(converted):
    with pytest.raises(RequestError, match="is quantised"):
        convspec.compare(str(converted / "network.keras"), str(converted / "int8.tflite"), [X])


def test_a_layer_is_ported_to_a_file(tmp_path):
    spec = ConvSpec(3, 4, (3, 2), stride=2, padding="same")
    layer = ADAPTER.build(spec, params := ConvParams.random(spec, seed=1))
    store(layer, str(tmp_path / "layer.tflite"))
    [found] = convspec.convs(str(tmp_path / "layer.tflite"))
    assert found.reading.spec == spec
    assert np.array_equal(found.reading.params.kernel, params.kernel)
    assert len(ORDERS) == 5


@pytest.mark.parametrize("content", [b"", b"0123TFL3", b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64, b"PK\x03\x04" * 8])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "wrong.tflite"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"wrong\.tflite"):
        convspec.convs(str(path))


def test_a_file_that_kills_the_runtime_kills_a_child_only(tmp_path):
    """A depthwise convolution without a bias ends the process that runs it."""
    spec = ConvSpec(2, 2, 3, groups=2)
    layer = ADAPTER.build(spec, ConvParams.random(spec, seed=1))
    operator = layer.subgraphs[0].operators[0]
    operator.inputs = operator.inputs[:2]
    store(layer, str(tmp_path / "crash.tflite"))
    model = convspec.ModelFile(str(tmp_path / "crash.tflite"))
    with pytest.raises(RequestError, match="SIGSEGV"):
        model.trace([np.zeros((1, 5, 5, 2), np.float32)])

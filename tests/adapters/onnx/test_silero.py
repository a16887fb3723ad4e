"""The ONNX files of the package silero-vad, which are said to be one network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from convspec_onnx.source.run_source import layer_of
from convspec_onnx.verify import open_model

from convspec.models.matching.differences import layer_differences
from convspec.models.matching.kernels import pair_layers
from tests.adapters.onnx.verifying import audited

FOUND = importlib.util.find_spec("silero_vad")
pytestmark = [
    pytest.mark.onnx,
    pytest.mark.skipif(FOUND is None, reason="pip install --no-deps silero-vad==6.2.3"),
]
DATA = Path(FOUND.origin).parent / "data" if FOUND and FOUND.origin else Path()
CONVS = {
    "silero_vad": 12, "silero_vad_16k_op15": 6, "silero_vad_op18_ifless": 12, "silero_vad_half": 6,
    "silero_vad_openvino_16k": 6, "silero_vad_16k_sequence": 6,
}  # fmt: skip
INPUTS = dict.fromkeys(CONVS, "three.npz") | {
    "silero_vad_half": "two.npz", "silero_vad_openvino_16k": "two.npz", "silero_vad_16k_sequence": "sequence.npz",
}  # fmt: skip
SAME = {**CONVS, "silero_vad_op18_ifless": 7, "silero_vad_half": 1}


@pytest.fixture
def speech(tmp_path):
    """One window of noise in the shapes that the network wants, with the sampling rate and without it."""
    x = np.random.default_rng(0).standard_normal((1, 576)).astype(np.float32) / 10
    arrays = {"input": x, "state": np.zeros((2, 1, 128), np.float32)}
    np.savez(tmp_path / "two.npz", **arrays)
    np.savez(tmp_path / "three.npz", **arrays, sr=np.array(16000))
    windows = np.random.default_rng(1).standard_normal((5, 576)).astype(np.float32) / 10
    np.savez(tmp_path / "sequence.npz", input=windows, **dict.fromkeys("hc", np.zeros((1, 1, 128), np.float32)))
    return tmp_path


@pytest.mark.parametrize("name", CONVS)
def test_every_convolution_computes_what_its_graph_says(name, speech):
    report = audited(DATA / f"{name}.onnx", inputs=str(speech / INPUTS[name]), levels=["off", "all"])
    assert report.summary["agree"] == report.summary["convs"] == CONVS[name]
    assert not report.unexpected


def layers(name):
    return [layer_of(conv) for conv in open_model.open_model(str(DATA / f"{name}.onnx"))[1]]


@pytest.mark.parametrize("name", SAME)
def test_two_of_the_files_hold_another_training(name):
    matched = [(a, b) for a, b in pair_layers(layers(name), layers("silero_vad")) if a is not None and b is not None]
    assert sum(not [d for d in layer_differences(a, b) if d.fatal] for a, b in matched) == SAME[name]


def test_the_first_divergence_of_the_half_precision_file_is_its_first_learnt_layer(speech):
    report = audited(
        DATA / "silero_vad_half.onnx",
        inputs=str(speech / "two.npz"),
        against=str(DATA / "silero_vad_openvino_16k.onnx"),
    )
    assert report.first_divergence == "/encoder/0/reparam_conv/Conv"


@pytest.mark.parametrize("name", ["silero_vad", "silero_vad_half"])
def test_the_script_itself_is_the_source(name, tmp_path):
    """It takes no state, and 64 samples fewer, which it remembers; it is run by a process of its own."""
    pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32) / 10
    whole = np.concatenate([np.zeros((1, 64), np.float32), x], 1)
    rate = {} if name == "silero_vad_half" else {"sr": np.array(16000)}
    np.savez(tmp_path / "in.npz", input=whole, state=np.zeros((2, 1, 128), np.float32), **rate)
    report = audited(
        DATA / f"{name}.onnx",
        inputs=str(tmp_path / "in.npz"),
        source=DATA / "silero_vad.jit",
        source_inputs=[x, np.array(16000)],
    )
    assert all(node.matched.startswith("_model") for node in report.nodes)
    right = name == "silero_vad"
    assert (report.first_divergence, not report.unexpected) == (
        None if right else "/encoder/0/reparam_conv/Conv",
        right,
    )
    assert sum(not node.diverges for node in report.nodes) == SAME[name]

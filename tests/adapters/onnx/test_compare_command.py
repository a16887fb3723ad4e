"""`convspec compare` with an ONNX file whose inputs the other model does not take as they are."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("onnxruntime")
tf = pytest.importorskip("tensorflow")
tf2onnx = pytest.importorskip("tf2onnx")

from convspec.cli.app import app  # noqa: E402
from tests.adapters.onnx.verifying import weights  # noqa: E402

pytestmark = [pytest.mark.onnx, pytest.mark.slow]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A SavedModel of audio, and its graph, whose convolutions have two axes and whose input has its channels first."""
    folder = tmp_path_factory.mktemp("audio")
    kernels = [tf.Variable(weights(9, 2, 8) / 4), tf.Variable(weights(5, 8, 6) / 4)]

    class Audio(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 200, 2], tf.float32)])
        def serve(self, audio):
            y = tf.nn.relu(tf.nn.conv1d(audio, kernels[0], 4, "SAME"))
            return {"frames": tf.nn.conv1d(y, kernels[1], 2, "VALID")}

    model = Audio()
    model.kernels = kernels
    tf.saved_model.save(model, str(folder / "saved"), signatures=model.serve)
    signature = [tf.TensorSpec([None, 2, 200], tf.float32, name="audio")]
    function = tf.function(lambda audio: model.serve(tf.transpose(audio, [0, 2, 1])), input_signature=signature)
    tf2onnx.convert.from_function(function, signature, opset=17, output_path=str(folder / "audio.onnx"))
    for name, shape in (("first", (2, 2, 200)), ("last", (2, 200, 2))):
        np.savez(folder / f"{name}.npz", audio=weights(*shape))
    return folder


@pytest.mark.parametrize("layout", ["first", "last"])
def test_a_saved_model_and_its_own_graph_agree_in_either_layout(files, layout):
    names = [str(files / "saved"), str(files / "audio.onnx"), "--input", str(files / f"{layout}.npz")]
    done = CliRunner().invoke(app, ["compare", *names])
    assert done.exit_code == 0, done.output
    assert ("Compared as by `convspec verify" in done.output) is (layout == "first")

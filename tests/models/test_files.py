"""Model files that are programs: read by a process of their own, whatever becomes of it."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import convspec_filed
import numpy as np
import pytest
from convspec_filed.model import SPEC

import convspec
from convspec.contract import Part, Reading, StepTrace, TracedStep
from convspec.errors import FrameworkAbsent, RequestError, UnsupportedError
from convspec.models import arguments, run_model
from convspec.models.files import messages, model_file
from convspec.models.files.model_file import ModelFile
from convspec.spec import steps

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are the kernel's")


@pytest.fixture(autouse=True)
def _adapters(monkeypatch):
    monkeypatch.setattr(
        model_file, "loaders", lambda: {kind: [convspec_filed.ADAPTER] for kind in convspec_filed.ADAPTER.files}
    )


def written(folder, words, name="model.fake"):
    path = folder / name
    path.write_text(words, "utf-8")
    return path


def running(model):
    """The id of the process that holds a model."""
    return model._child._process.pid


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_is_in_a_file_comes_back_as_it_was(tmp_path):
    path = written(tmp_path, "chatty")
    model = ModelFile(path)
    one, norm, other = model.parts()
    assert (one.path, one.reading.spec, one.reading.layout, one.reading.dtype) == ("a\x1b[31m", SPEC, "NHWC", "float16")
    assert np.array_equal(one.reading.params.kernel, convspec.ConvParams.random(SPEC, seed=0).kernel)
    assert (norm.epsilon, norm.axis, list(norm.arrays)) == (1e-5, -1, ["gain", "shift", "mean", "variance"])
    assert np.array_equal(norm.arrays["variance"], np.full(3, 3.5, np.float32))
    assert (other.reading, other.problem) == (None, "it is computed")
    assert [found.path for found in convspec.convs(path)] == ["a\x1b[31m", "c"]
    assert [found.pads for found in convspec.convs(model, fold_pads=True)] == [((1, 0), (2, 2))] * 2
    assert model.read((1, 2, 8, 8)).spec == SPEC
    x = np.arange(6, dtype=np.float16).reshape(2, 3)
    trace = model.trace([x[:, ::2]])
    (call,), outputs = trace.calls, trace.outputs
    assert np.array_equal(call.x, x[:, ::2])
    assert call.y.dtype == np.float16
    assert np.array_equal(call.y, x[:, ::2] * 2)
    assert (outputs[1].shape, int(outputs[1])) == ((), 7)
    outputs = model.trace({"image": x, "rate": np.array(16000)}).outputs
    assert int(outputs[1]) == 16000
    with pytest.raises(UnsupportedError, match="not an array of numbers"):
        model.trace([np.array(["a"])])


def test_a_trace_comes_back_as_it_was_and_names_no_tensor_that_is_not_there():
    x = np.arange(6.0, dtype=np.float32).reshape(1, 2, 3)
    step = TracedStep(
        "a", steps.PReLU(2), (0,), (1,), {"slope": x[0, :, 0]}, {"slope": ("w",)}, "prelu", "NCHW", "said"
    )
    trace = StepTrace([step], [x, x * 2], (0,), (1,), {"w": (2,)}, [Part("c", "conv", "Conv", problem="unknown")])
    arrays = {}
    message = json.loads(json.dumps(messages.pack(trace, arrays)))
    back = messages.unpack(message, arrays)
    assert [asdict(one) | {"arrays": 0} for one in back.steps] == [asdict(one) | {"arrays": 0} for one in trace.steps]
    assert np.array_equal(back.steps[0].arrays["slope"], [0, 3])
    assert np.array_equal(back.tensors[1], x * 2)
    assert (back.inputs, back.outputs, back.parameters) == ((0,), (1,), {"w": (2,)})
    assert [(part.path, part.problem) for part in back.parts] == [("c", "unknown")]
    for key, value in (("inputs", [2]), ("outputs", [-1])):
        with pytest.raises(ValueError, match="out of 2"):
            messages.unpack({"StepTrace": message["StepTrace"] | {key: value}}, arrays)


def test_a_file_whose_steps_are_not_seen_is_unsupported(tmp_path):
    with pytest.raises(UnsupportedError, match="steps are not seen"):
        ModelFile(written(tmp_path, "")).steps([np.zeros((1, 8), np.float32)])


def test_a_model_is_opened_by_one_process_which_ends_with_it(tmp_path):
    opened = run_model.open_model(written(tmp_path, ""), np.zeros((1, 8, 9, 2), np.float32))
    assert opened.executed
    assert opened.layout == "NHWC"
    pid, folder = running(opened.native), opened.native._child.folder
    assert alive(pid)
    assert folder.exists()
    del opened
    gc.collect()
    assert not alive(pid)
    assert not folder.exists()


def test_new_weights_are_a_new_file(tmp_path):
    model = ModelFile(written(tmp_path, "{}"))
    new = model.written({"a\x1b[31m": {"bias": np.array([5, 6, 7], np.float32)}})
    assert np.array_equal(new.parts()[0].weights["bias"], [5, 6, 7])
    assert np.array_equal(model.parts()[0].weights["bias"], [1, 2, 3])
    with pytest.raises(RequestError, match=r"must end in \.fake"):
        new.save(tmp_path / "other.pt")
    with pytest.raises(RequestError, match="cannot write"):
        new.save(tmp_path / "no folder" / "other.fake")
    new.save(tmp_path / "other.fake")
    gone = Path(new.path)
    del new
    gc.collect()
    assert not gone.exists()
    assert np.array_equal(ModelFile(tmp_path / "other.fake").parts()[0].weights["bias"], [5, 6, 7])


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("killed", RequestError, "model.fake: the process ended with SIGSEGV"),
        ("leaves", RequestError, "ended with exit status 3: last \\x1b[31mwords"),
        ("large", RequestError, "needs more memory than the 64 MiB that are allowed"),
        ("refused", UnsupportedError, "model.fake: a \\x1b[31mname from the file"),
        ("broken", RequestError, "it cannot be read: OSError: whatever it was"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path, words, error, message):
    with pytest.raises(error) as caught:
        ModelFile(written(tmp_path, words), memory=64 << 20).parts()
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_process_that_hangs_is_ended(tmp_path):
    model, began = ModelFile(written(tmp_path, "hang"), seconds=3), time.monotonic()
    with pytest.raises(RequestError, match=r"no answer within 3 s; .*seconds="):
        model.parts()
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "answer",
    [
        {"values": [{}]},
        {"values": 5},
        {"values": [5]},
        {"values": [{"Part": {"path": "a"}}]},
        {"values": [{"ConvParams": {"kernel": 0, "bias": None}}]},
        {"values": [], "arrays": "none.safetensors"},
    ],
)
def test_answers_that_are_none(tmp_path, monkeypatch, answer):
    model = ModelFile(written(tmp_path, ""))
    pid = running(model) if model._running() else 0
    monkeypatch.setattr(model._child, "ask", lambda *_: answer)
    with pytest.raises(RequestError, match="answered with nonsense"):
        model.parts()
    assert not alive(pid)


def test_arrays_are_no_larger_than_allowed_and_no_other_files(tmp_path, monkeypatch):
    model = ModelFile(written(tmp_path, ""), memory=64 << 20)
    folder = model._running().folder
    (folder / "large.safetensors").write_bytes(b"")
    os.truncate(folder / "large.safetensors", 1 << 30)
    for name, words in (("large.safetensors", "larger than the 64 MiB"), ("/etc/passwd", "nonsense")):
        model._running()
        monkeypatch.setattr(model._child, "ask", lambda *_, name=name: {"values": [], "arrays": name})
        with pytest.raises(RequestError, match=words):
            model.parts()


def test_which_adapter_reads_which_file(tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    folder.mkdir()
    with pytest.raises(
        RequestError, match=r"must be a model's file, ending in (\.\w+, )*\.onnx, \.fake, or a folder with fake.pb"
    ):
        ModelFile(folder)
    written(folder, "", "fake.pb")
    assert ModelFile(folder).parts()
    with pytest.raises(RequestError, match="file not found: 'none\\.fake'"):
        ModelFile("none.fake")
    with pytest.raises(RequestError) as caught:
        convspec.convs("\x1b[31m.bin")
    assert str(caught.value).isprintable()
    absent = replace(convspec_filed.ADAPTER, requires=("no_such_framework",))
    monkeypatch.setattr(model_file, "loaders", lambda: {key: [absent] for key in absent.files})
    with pytest.raises(FrameworkAbsent, match="needs no_such_framework"):
        ModelFile(folder)


def test_a_path_on_the_command_line_is_a_file(tmp_path):
    path = written(tmp_path, "")
    assert isinstance(arguments.load_model(str(path)), ModelFile)
    with pytest.raises(RequestError, match="file not found"):
        arguments.load_model(str(tmp_path / "none.fake"))


def test_adapters_say_which_files_they_read(monkeypatch):
    monkeypatch.undo()
    found = {kind: [adapter.name for adapter in own] for kind, own in model_file.loaders().items()}
    assert found[".pt2"] == found[".pt"] == ["torch"]
    assert found[".keras"] == ["keras", "keras-jax", "keras-torch"]
    assert found["saved_model.pb"] == ["keras"]


def test_the_input_shape_and_options_reach_the_process_of_a_file(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(ModelFile, "convs", lambda model, **options: seen.append(options) or [])
    adapter = model_file.FileAdapter(convspec_filed.ADAPTER)
    adapter.convs(written(tmp_path, ""), (1, 2, 8, 8), fold_pads=True)
    adapter.convs(written(tmp_path, ""))
    assert seen == [{"input_shape": [1, 2, 8, 8], "fold_pads": True}, {"input_shape": None}]


def test_every_word_on_a_layer_crosses_between_the_processes():
    arrays = {name: np.full(3, place, np.float32) for place, name in enumerate(("gain", "shift"))}
    norm = Part("n", "norm", "LayerNorm", None, arrays, 1e-3, 1, "layer", (-2, -1), 3, True, "a problem")
    params = convspec.ConvParams.random(SPEC, seed=4)
    conv = Part("c", "conv", "Conv", Reading(SPEC, params, "NHWC", "float16"))
    packed: dict[str, np.ndarray] = {}
    entries = json.loads(json.dumps(messages.pack([norm, conv], packed)))
    first, second = messages.unpack(entries, packed)
    assert asdict(replace(first, arrays={})) == asdict(replace(norm, arrays={}))
    assert {name: array.tolist() for name, array in first.arrays.items()} == {n: a.tolist() for n, a in arrays.items()}
    assert (second.reading.spec, second.reading.layout, second.reading.dtype) == (SPEC, "NHWC", "float16")
    assert np.array_equal(second.reading.params.kernel, params.kernel)

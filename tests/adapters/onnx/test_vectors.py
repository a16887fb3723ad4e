"""Cases as ONNX backend tests: written, run by the adapters here, and ONNX's own tests run the same way."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

pytest.importorskip("onnxruntime")
import onnx
from onnx import numpy_helper
from typer.testing import CliRunner

from convspec import corpora
from convspec.cli.app import app
from convspec.corpora.cases import Case
from convspec.errors import ConvspecError
from tests.adapters.onnx.verifying import conv, model, node_cases, saved, weights

pytestmark = pytest.mark.onnx
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


def command(*arguments):
    return CliRunner().invoke(app, ["vectors", *map(str, arguments)])


def results(folder, adapters, report):
    """The exit status, and what became of each test: (adapter, verdict) → its entries in the report."""
    done = command("run", folder, "--adapters", adapters, "--json", report)
    found = {}
    document = json.loads(report.read_text())
    jsonschema.validate(document, json.loads(files("convspec.cli").joinpath("vectors.schema.json").read_text("utf-8")))
    for entry in document["results"]:
        found.setdefault((entry["adapter"], entry["verdict"]), []).append(entry)
    return done, found


@pytest.mark.slow
def test_the_whole_corpus_of_features_from_end_to_end(tmp_path):
    """Every test's own output is right; what an adapter gets wrong is a declared gap, a dying process included."""
    done = command("export", tmp_path / "v", "--corpus", "features")
    assert done.exit_code == 0, done.output
    cases = corpora.load("features")
    impossible = [case for case in cases if not possible(case)]
    assert f"{len(cases) - len(impossible)} tests in " in done.output
    assert {line.split(":")[0] for line in done.stderr.splitlines()} == {"skipped"}
    assert len(done.stderr.splitlines()) == len(impossible)
    done, found = results(tmp_path / "v", "onnx,onnx-reference", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    assert len(found["expected", "agree"]) == len(cases) - len(impossible)
    assert [key for key in found if key[0] == "expected"] == [("expected", "agree")]
    failed = [entry for (_, verdict), entries in found.items() if verdict != "agree" for entry in entries]
    assert failed
    assert all(entry["gap"] for entry in failed), [entry for entry in failed if not entry["gap"]]
    assert len(found["onnx", "crash"]) == 1  # and the tests behind it are run all the same
    assert sum(len(entries) for (name, _), entries in found.items() if name == "onnx") == len(cases) - len(impossible)


def possible(case):
    try:
        case.spec.output_shape(case.input_shape)
    except ConvspecError:
        return False
    return case.spec.padding_mode == "zeros" or padded(case)


def padded(case):
    from convspec import reference
    from convspec.corpora.cases import arrays

    try:
        reference.conv(case.spec, *arrays(case))
    except ConvspecError:
        return False
    return True


def test_a_test_holds_what_any_runtime_needs(tmp_path):
    assert command("export", tmp_path, "--corpus", "tutorial").exit_code == 0
    for case in corpora.load("tutorial"):
        folder = tmp_path / case.id
        proto = onnx.load(folder / "model.onnx")
        onnx.checker.check_model(proto, full_check=True)
        assert Case.from_dict(json.loads(proto.doc_string)) == case
        x = numpy_helper.to_array(onnx.load_tensor(folder / "test_data_set_0" / "input_0.pb"))
        y = numpy_helper.to_array(onnx.load_tensor(folder / "test_data_set_0" / "output_0.pb"))
        assert (x.shape, y.shape) == (case.input_shape, case.spec.output_shape(case.input_shape))
        assert y.any()


def test_an_output_that_is_wrong_is_found(tmp_path):
    assert command("export", tmp_path / "v", "--corpus", "tutorial", "--sample", "1").exit_code == 0
    (output,) = (tmp_path / "v").glob("*/test_data_set_0/output_0.pb")
    tensor = onnx.load_tensor(output)
    array = numpy_helper.to_array(tensor) + 1
    output.write_bytes(numpy_helper.from_array(array, tensor.name).SerializeToString())
    done = command("run", tmp_path / "v")
    assert done.exit_code == 1
    assert "expected: 1 disagree" in done.output
    assert "onnx: 1 agree" in done.output


def test_the_folders_of_the_wheel_are_run(tmp_path):
    for folder, n in (("pytorch-converted", 28), ("pytorch-operator", 2)):
        done, found = results(DATA / folder, "onnx", tmp_path / "r.json")
        assert done.exit_code == 0
        assert {key: len(entries) for key, entries in found.items() if key[1] != "unsupported"} == {
            (name, "agree"): n for name in ("expected", "onnx")
        }
        # what is no single convolution is told and left alone
        assert all("Conv" not in entry["name"] for entry in found["expected", "unsupported"])


# Tests of onnx that are no one layer of float numbers, and why. All others agree.
LEFT_OUT = {
    "test_basic_convinteger": "operators: ConvInteger",
    "test_convinteger_without_padding": "operators: ConvInteger",
    "test_convinteger_with_padding": "operators: ConvInteger",
    "test_qlinearconv": "operators: QLinearConv",
    "test_causal_conv_with_state": "no part of one layer|more than one layer",  # the state is a Concat before the layer
}


@pytest.mark.filterwarnings("ignore")  # of other operators' cases, while they are collected
def test_the_tests_of_onnx_for_the_nodes_are_run(tmp_path):
    cases = node_cases()
    for case in cases:
        folder = tmp_path / "v" / case.name / "test_data_set_0"
        folder.mkdir(parents=True)
        saved(case.model, folder.parent / "model.onnx")
        for word, arrays in zip(("input", "output"), case.data_sets[0], strict=True):
            for i, array in enumerate(arrays):
                (folder / f"{word}_{i}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    done, found = results(tmp_path / "v", "onnx", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    assert {key for key in found if key[0] == "expected"} == {("expected", "agree"), ("expected", "unsupported")}
    for entry in found["expected", "unsupported"]:
        why = [reason for name, reason in LEFT_OUT.items() if entry["name"].startswith(name)]
        assert why, entry["name"]
        assert re.search(why[0], entry["reason"])
    assert len(found["expected", "agree"]) == len(found["onnx", "agree"]) >= 17


def test_a_damaged_folder_does_not_stop_the_others(tmp_path):
    assert command("export", tmp_path / "v", "--corpus", "tutorial").exit_code == 0
    first, second, _ = sorted((tmp_path / "v").iterdir())
    (first / "model.onnx").write_bytes(b"no model")
    (second / "test_data_set_0" / "input_0.pb").write_bytes(b"\xff" * 9)
    done, found = results(tmp_path / "v", "onnx", tmp_path / "r.json")
    assert done.exit_code == 1
    assert {key: len(entries) for key, entries in found.items()} == {
        ("expected", "agree"): 1, ("expected", "error"): 1, ("expected", "unsupported"): 1, ("onnx", "agree"): 1,
    }  # fmt: skip


def test_weights_may_come_as_inputs(tmp_path):
    proto = model([conv("c", "x", "y", "w")], {"w": weights(4, 3, 3, 5)}, (1, 3, 8, 9))
    (tensor,) = proto.graph.initializer
    del proto.graph.initializer[:]
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [4, 3, 3, 5]))
    folder = tmp_path / "t" / "test_data_set_0"
    folder.mkdir(parents=True)
    saved(proto, folder.parent / "model.onnx")
    x = weights(1, 3, 8, 9)
    from onnx.reference import ReferenceEvaluator

    y = ReferenceEvaluator(proto).run(None, {"x": x, "w": numpy_helper.to_array(tensor)})[0]
    for name, array in (("input_0", x), ("input_1", numpy_helper.to_array(tensor)), ("output_0", y)):
        (folder / f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    done, found = results(tmp_path, "onnx", tmp_path / "r.json")
    assert done.exit_code == 0
    assert set(found) == {("expected", "agree"), ("onnx", "agree")}


def test_a_wrong_request_is_status_2(tmp_path):
    assert command("run", tmp_path / "none").exit_code == 2
    assert command("run", tmp_path).exit_code == 2
    assert command("run", DATA / "pytorch-operator", "--adapters", "abacus").exit_code == 2

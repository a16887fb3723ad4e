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
from convspec.corpora import pack
from convspec.corpora.cases import Case
from convspec.errors import ConvspecError
from tests.adapters.onnx.verifying import conv, model, node_cases, saved, weights
from tests.adapters.quantized import PAIRS_SATURATE

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
    "test_causal_conv_with_state": "not part of one layer|more than one layer",  # the state is a Concat before it
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


# -- the pack's folders, which are written without onnx ----------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "pack"
    assert command("pack", folder).exit_code == 0
    return folder / "onnx"


def test_each_model_of_the_pack_is_valid_and_has_the_bytes_that_onnx_would_write(packed):
    files_of = [*packed.glob("*/model.onnx")]
    assert len(files_of) >= 200
    for file in files_of:
        loaded = onnx.load(file)
        onnx.checker.check_model(loaded, full_check=True)
        assert loaded.SerializeToString(deterministic=True) == file.read_bytes()
    for file in packed.glob("*/test_data_set_0/*.pb"):
        tensor = onnx.TensorProto.FromString(file.read_bytes())
        assert tensor.SerializeToString(deterministic=True) == file.read_bytes()


def test_float_models_of_the_pack_have_the_nodes_that_the_adapter_builds(packed):
    from convspec_onnx import REFERENCE

    compared = 0
    for vector in pack.draw_vectors():
        file = packed / vector.id / "model.onnx"
        if vector.kind in ("exact", "random") and file.exists():
            built = REFERENCE.build(vector.spec.explicit(vector.input_shape), vector.params, "NCHW", "float32")
            graph, expected = onnx.load(file).graph, built.graph
            assert [n.SerializeToString() for n in graph.node] == [n.SerializeToString() for n in expected.node]
            own, other = ({t.name: numpy_helper.to_array(t) for t in g.initializer} for g in (graph, expected))
            assert own.keys() == other.keys()
            assert all((own[name] == other[name]).all() for name in own)
            compared += 1
    assert compared >= 200


@pytest.mark.slow
def test_the_packs_own_outputs_are_right_and_failures_of_runtimes_are_declared(packed, tmp_path):
    done, found = results(packed, "onnx", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    unsupported = {entry["name"].partition("/")[0] for entry in found["expected", "unsupported"]}
    assert all("-quantized-" in name for name in unsupported)
    known = json.loads((Path(__file__).parents[3] / "vectors" / "onnxruntime-web" / "known.json").read_text("utf-8"))
    failed = [entry for key, entries in found.items() for entry in entries if key[1] not in ("agree", "unsupported")]
    assert {entry["name"].partition("/")[0] for entry in failed} == known.keys()


def test_onnx_runtime_rounds_the_packs_quantised_layers_within_their_limits(packed):
    """On processors without VNNI uint8 data need the precise mode, and saturate otherwise."""
    import numpy as np
    import onnxruntime

    tried, saturated = 0, 0
    for vector in pack.draw_vectors():
        if vector.kind != "quantized" or not (packed / vector.id).exists():
            continue
        x, y = (
            numpy_helper.to_array(onnx.load_tensor(packed / vector.id / "test_data_set_0" / f"{name}_0.pb"))
            for name in ("input", "output")
        )
        for precise in (False, True) if x.dtype == np.uint8 else (False,):
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
            session = onnxruntime.InferenceSession(str(packed / vector.id / "model.onnx"), options)
            equal = np.array_equal(session.run(None, {"x": x})[0], y)
            if PAIRS_SATURATE and x.dtype == np.uint8 and not precise:
                saturated += not equal
            else:
                assert equal, vector.id
        tried += 1
    assert tried >= 10
    assert (saturated > 0) == PAIRS_SATURATE

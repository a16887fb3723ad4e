"""The audit of small graphs: static findings, bodies, functions, quantised nodes, inputs, the report, the command."""

from __future__ import annotations

import itertools
import json
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from convspec_onnx.loading import infer_shapes
from convspec_onnx.verify import run as running
from convspec_onnx.verify import runtimes
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import convspec
from convspec.cli.app import app
from convspec.models.verification import verifier
from convspec.models.verification.report import VerificationFailed
from tests.adapters.onnx.verifying import audited, conv, model, node_cases, saved, weights

pytestmark = pytest.mark.onnx
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FOLDERS = sorted(
    path.parent
    for name in ("pytorch-converted", "pytorch-operator", "simple")
    for path in (DATA / name).glob("*/model.onnx")
    if any("Conv" in node.op_type for node in onnx.load(path).graph.node)
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_the_conv_models_of_the_wheel_agree(folder):
    report = audited(folder / "model.onnx", inputs=str(folder), levels=["off", "all", "evaluator"])
    assert report.summary["agree"] == report.summary["convs"] >= 1
    assert not report.unexpected


def test_the_wheel_has_conv_models():
    assert len(FOLDERS) >= 30


@pytest.mark.filterwarnings("ignore")  # of other operators' cases, while they are collected
def test_the_conv_cases_of_onnx_agree_but_for_those_that_are_explained(tmp_path):
    found = {}
    cases = node_cases()
    assert len(cases) >= 33
    for case in cases:
        path = saved(case.model, tmp_path / f"{case.name}.onnx")
        names = [entry.name for entry in case.model.graph.input]
        np.savez(tmp_path / "in.npz", **dict(zip(names, case.data_sets[0][0], strict=True)))
        report = audited(path, inputs=str(tmp_path / "in.npz"), levels=["off", "all"])
        if report.summary["agree"] != report.summary["convs"]:
            found[case.name] = [(node.verdict, node.reason) for node in report.nodes]
    # ONNX Runtime 1.32 wants the weight's zero point to be one number where it is given as one for each channel.
    assert set(found) == {"test_convinteger_with_padding"}, found
    ((verdict, reason),) = found["test_convinteger_with_padding"]
    assert verdict == "error"
    assert "Non per-tensor quantization is not supported" in reason


def findings(proto, tmp_path, **request):
    report = audited(saved(proto, tmp_path / "m.onnx"), **request)
    return {note["id"] for node in report.nodes for note in node.notes} | {note["id"] for note in report.notes}


def changed(where, value):
    kernel = weights(4, 3, 3, 5)
    kernel[where] = value
    return kernel


STATIC = {
    "missing-kernel-shape": ({}, weights(4, 3, 3, 5)),
    "auto-pad": ({"auto_pad": "VALID"}, weights(4, 3, 3, 5)),
    "auto-pad-differs": ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, weights(4, 3, 3, 5)),
    "auto-pad-dilation": ({"auto_pad": "SAME_UPPER", "dilations": [2, 1]}, weights(4, 3, 3, 5)),
    "auto-pad-and-pads": ({"auto_pad": "SAME_UPPER", "pads": [1, 1, 1, 1]}, weights(4, 3, 3, 5)),
    "asymmetric-pads": ({"pads": [0, 1, 1, 1]}, weights(4, 3, 3, 5)),
    "pad-beyond-kernel": ({"pads": [3, 0, 0, 0]}, weights(4, 3, 3, 5)),
    "skipped-input": ({"strides": [4, 1]}, weights(4, 3, 3, 5)),
    "idle-dilation": ({"dilations": [2, 1]}, weights(4, 3, 1, 5)),
    "nan-weights": ({}, changed((1, 2, 0, 3), np.nan)),
    "inf-weights": ({}, changed((0, 0, 0, 0), np.inf)),
    "denormal-weights": ({}, changed((0, 0, 0, 0), 1e-40)),
    "dead-output-channel": ({}, changed(2, 0)),
    "half-precision-weights": ({}, weights(4, 3, 3, 5).astype(np.float16).astype(np.float32)),
    "group-does-not-divide": ({"group": 3}, weights(4, 1, 3, 5)),
    "kernel-shape-contradicts-weight": ({"kernel_shape": [3, 3]}, weights(4, 3, 3, 5)),
}


@pytest.mark.parametrize("name", STATIC)
def test_what_can_be_said_without_running_is_said(name, tmp_path):
    attributes, kernel = STATIC[name]
    proto = model([conv("c", "x", "y", "w", **attributes)], {"w": kernel}, (1, 3, 12, 14))
    assert name in findings(proto, tmp_path)


def test_a_sound_graph_is_left_in_peace(tmp_path):
    proto = model(
        [conv("c", "x", "y", "w", kernel_shape=[3, 5], pads=[1, 2, 1, 2])], {"w": weights(4, 3, 3, 5)}, (1, 3, 9, 11)
    )
    assert findings(proto, tmp_path) == set()


def test_further_findings(tmp_path):
    nodes = [conv("c", "x", "y", "w"), conv("d", "x", "dead", "w")]
    found = findings(model(nodes, {"w": weights(4, 3, 3, 5), "unused": weights(2)}, (1, 3, 9, 11)), tmp_path)
    assert {"unused-weights", "dead-node", "shared-weights"} <= found
    proto = model([conv("c", "x", "y", "w", "b")], {"w": weights(4, 3, 3, 5), "b": weights(3)}, (1, 3, 9, 11))
    assert "bias-length" in findings(proto, tmp_path)
    wrong = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 9, 9])
    proto = model([conv("c", "x", "y", "w")], {"w": weights(4, 3, 3, 5)}, (1, 3, 9, 11))
    proto.graph.output[0].CopyFrom(wrong)
    assert "shape-contradicts-spec" in findings(proto, tmp_path)


def test_what_convolves_but_is_not_judged_is_told(tmp_path):
    deformed = helper.make_node("DeformConv", ["x", "w", "offset"], ["h"], "bent", pads=[0, 0, 0, 0])
    tensors = {"w": weights(3, 3, 3, 3), "offset": np.zeros((1, 18, 7, 9), np.float32), "v": weights(4, 3, 3, 5)}
    report = audited(saved(model([deformed, conv("c", "h", "y", "v")], tensors, (1, 3, 9, 11)), tmp_path / "m.onnx"))
    ((found, level),) = [(n["title"], n["level"]) for n in report.notes if n["id"] == "not-judged"]
    assert ("'bent' is a DeformConv" in found, level) == (True, "warning")
    assert report.summary["convs"] == 1


# -- where convolutions hide -------------------------------------------------------------------------------------------


def body(nodes, output, inputs=(), kind=TensorProto.FLOAT):
    outputs = [helper.make_tensor_value_info(name, k, list(shape)) for name, k, shape in output]
    return helper.make_graph(nodes, "body", list(inputs), outputs)


def branching(flag):
    then = body([conv("inner", "x", "t", "w")], [("t", 1, "abcd")])
    other = body([conv("inner", "x", "e", "v", strides=[2, 1])], [("e", 1, "abcd")])
    nodes = [helper.make_node("If", ["flag"], ["y"], "choice", then_branch=then, else_branch=other)]
    return model(nodes, {"w": weights(4, 3, 3, 5), "v": weights(4, 3, 2, 2), "flag": np.array(flag)}, (2, 3, 9, 11))


@pytest.mark.parametrize("flag", [True, False])
def test_both_branches_are_judged_the_one_that_runs_by_what_it_reads(tmp_path, flag):
    report = audited(saved(branching(flag), tmp_path / "m.onnx"))
    assert {node.name: node.verdict for node in report.nodes} == {
        "choice/then_branch/inner": "agree",
        "choice/else_branch/inner": "agree",
    }
    ran = {node.name: node.runs[0]["inputs"].startswith("x ") for node in report.nodes}
    assert ran == {"choice/then_branch/inner": flag, "choice/else_branch/inner": not flag}


def test_all_steps_of_a_loop_are_judged(tmp_path):
    scalars = [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("go", 9, [])]
    carried = helper.make_tensor_value_info("c", 1, ["a", "b", "d", "e"])
    nodes = [conv("inner", "c", "n", "w", pads=[1, 2, 1, 2]), helper.make_node("Identity", ["go"], ["on"])]
    inner = body(nodes, [("on", 9, ()), ("n", 1, "abde")], [*scalars, carried])
    proto = model(
        [helper.make_node("Loop", ["steps", "go_on", "x"], ["y"], "loop", body=inner)],
        {"w": weights(3, 3, 3, 5), "steps": np.array(4), "go_on": np.array(True)},
        (2, 3, 6, 7),
    )
    (node,) = audited(saved(proto, tmp_path / "m.onnx")).nodes
    assert (node.name, node.verdict, node.input_shape) == ("loop/body/inner", "agree", [8, 3, 6, 7])


def scanning(direction=0, axis=0):
    """A state that is convolved and added to each of four slices; the slices come along ``axis``, maybe backwards."""
    state = helper.make_tensor_value_info("s", 1, ["a", "b", "d", "e"])
    slice_ = helper.make_tensor_value_info("u", 1, ["a", "b", "d", "e"])
    nodes = [
        conv("inner", "s", "c", "w", pads=[1, 2, 1, 2]),
        helper.make_node("Add", ["c", "u"], ["n"]),
        helper.make_node("Identity", ["n"], ["seen"]),
    ]
    inner = body(nodes, [("n", 1, "abde"), ("seen", 1, "abde")], [state, slice_])
    scan = helper.make_node(
        "Scan", ["first", "x"], ["last", "y"], "scan", body=inner, num_scan_inputs=1,
        scan_input_axes=[axis], scan_input_directions=[direction], scan_output_axes=[axis],
        scan_output_directions=[direction],
    )  # fmt: skip
    shape = [2, 3, 6, 7]
    shape.insert(axis, 4)
    return model([scan], {"w": weights(3, 3, 3, 5), "first": weights(2, 3, 6, 7)}, shape)


@pytest.mark.parametrize(("direction", "axis"), [(0, 0), (1, 0), (0, 1), (1, 4)])
def test_all_steps_of_a_scan_are_judged(tmp_path, direction, axis):
    """Slices along any axis, forwards or backwards, in and out; the captured steps always come along the first one."""
    levels = ["off", "all", "evaluator"] if direction == axis == 0 else ["off", "all"]  # onnx's own has no others
    report = audited(saved(scanning(direction, axis), tmp_path / "m.onnx"), levels=levels)
    (node,) = report.nodes
    assert (node.name, node.verdict, node.input_shape) == ("scan/body/inner", "agree", [8, 3, 6, 7])
    assert all(run["inputs"].startswith("x ") for run in node.runs)
    assert not report.broken


def test_a_wrong_step_of_a_scan_is_found(tmp_path, monkeypatch):
    honest = runtimes.run

    def wrong(proto, feeds, outputs, arm, without=()):
        found = honest(proto, feeds, outputs, arm, without)
        for name, value in found.items():
            if name.endswith("/1"):  # what the node in the body wrote
                value[2, 1, 2, 3, 4] += 1
        return found

    monkeypatch.setattr(running.runtimes, "run", wrong)
    (node,) = audited(saved(scanning(), tmp_path / "m.onnx")).nodes
    assert node.verdict == "disagree"
    assert "(5, 2, 3, 4)" in node.reason  # the third step's second sample


def test_a_function_is_looked_into_at_each_call(tmp_path):
    inner = [conv("c", "a", "m", "w", pads=[1, 1, 1, 1]), helper.make_node("Relu", ["m"], ["r"], "act")]
    function = helper.make_function("own", "f", ["a", "w"], ["r"], inner, [helper.make_opsetid("", 19)])
    calls = [
        helper.make_node("f", [a, "w"], [b], n, domain="own") for a, b, n in (("x", "h", "one"), ("h", "y", "two"))
    ]
    proto = model(calls, {"w": weights(3, 3, 3, 3)}, (1, 3, 6, 7), functions=[function])
    proto.opset_import.append(helper.make_opsetid("own", 1))
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert [(node.name, node.verdict) for node in report.nodes] == [("one/c", "agree"), ("two/c", "agree")]


def test_weights_that_are_computed_are_taken_as_they_come(tmp_path):
    nodes = [helper.make_node("Tanh", ["w"], ["tanh"]), conv("c", "x", "y", "tanh")]
    (node,) = audited(saved(model(nodes, {"w": weights(4, 3, 3, 5)}, (1, 3, 9, 11)), tmp_path / "m.onnx")).nodes
    assert (node.verdict, node.spec) == ("agree", convspec.ConvSpec(3, 4, (3, 5), bias=False))


# -- quantised ---------------------------------------------------------------------------------------------------------


def integers(shape, low, high, dtype, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def quantised(op, tmp_path):
    w = integers((4, 3, 3, 5), -63, 64, np.int8)  # of 7 bits: no sum of two products saturates, on any processor
    common = {"w": w, "xz": np.array(7, np.uint8), "wz": np.zeros(4, np.int8)}
    if op == "ConvInteger":
        nodes, kind = [helper.make_node(op, ["x", "w", "xz"], ["y"], "c", pads=[1, 2, 1, 2])], TensorProto.INT32
    else:
        names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
        nodes, kind = [helper.make_node(op, names, ["y"], "c", pads=[1, 2, 1, 2])], TensorProto.UINT8
        common |= {"xs": np.float32(0.02), "ws": np.float32([0.01, 0.02, 0.03, 0.004]), "ys": np.float32(0.5),
                   "yz": np.array(100, np.uint8), "b": integers(4, -999, 999, np.int32)}  # fmt: skip
    proto = model(nodes, common, (1, 3, 9, 11))
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    proto.graph.output[0].type.tensor_type.elem_type = kind
    return saved(proto, tmp_path / "m.onnx")


@pytest.mark.parametrize("op", ["ConvInteger", "QLinearConv"])
def test_quantised_convolutions_are_judged_by_their_own_bound(op, tmp_path, monkeypatch):
    path = quantised(op, tmp_path)
    (node,) = audited(path, levels=["off", "all"]).nodes
    assert node.verdict == "agree", node.reason
    honest = runtimes.run

    def off_by_one(*arguments):
        found = honest(*arguments)
        return {n: v + np.array(1, v.dtype) if n == "y" else v for n, v in found.items()}

    monkeypatch.setattr(running.runtimes, "run", off_by_one)
    (node,) = audited(path).nodes
    assert node.verdict == "disagree"


def test_a_quantised_convolution_that_no_run_reaches_is_judged_on_its_own_integers(tmp_path):
    """Random inputs are of the declared type: uint8, where the weight is int8."""
    inner = [helper.make_node("ConvInteger", ["bytes", "w", "zero"], ["t"], "inner")]
    other = [helper.make_node("Cast", ["bytes"], ["e"], to=TensorProto.INT32)]
    branches = {"then_branch": body(inner, [("t", 6, "abcd")]), "else_branch": body(other, [("e", 6, "abcd")])}
    nodes = [helper.make_node("Cast", ["x"], ["bytes"], to=TensorProto.UINT8),
             helper.make_node("If", ["flag"], ["y"], "choice", **branches)]  # fmt: skip
    tensors = {"w": integers((4, 3, 3, 5), -100, 100, np.int8), "zero": np.array(7, np.uint8), "flag": np.array(False)}
    proto = model(nodes, tensors, (2, 3, 9, 11))
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    (node,) = audited(saved(proto, tmp_path / "m.onnx")).nodes
    assert (node.name, node.verdict) == ("choice/then_branch/inner", "agree"), node.reason


def test_a_convolution_between_quantisers_is_judged(tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["wq", "ws"], ["w"], "dq", axis=0),
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        conv("c", "xd", "y", "w"),
    ]  # fmt: skip
    tensors = {"wq": integers((4, 3, 3, 5), -100, 100, np.int8), "ws": np.float32([0.1, 0.2, 0.3, 0.4]),
               "xs": np.float32(0.02), "xz": np.array(7, np.uint8)}  # fmt: skip
    (node,) = audited(saved(model(nodes, tensors, (1, 3, 9, 11)), tmp_path / "m.onnx"), levels=["off", "all"]).nodes
    assert (node.verdict, node.spec) == ("agree", convspec.ConvSpec(3, 4, (3, 5), bias=False))


# -- a runtime that errs -----------------------------------------------------------------------------------------------


def chain(n=20):
    nodes = [
        conv(f"c{i}", f"t{i}" if i else "x", f"t{i + 1}" if i < n - 1 else "y", f"w{i}", pads=[1, 1, 1, 1])
        for i in range(n)
    ]
    return model(nodes, {f"w{i}": weights(3, 3, 3, 3, seed=i) / 3 for i in range(n)}, ("N", 3, "H", "W"))


def test_a_wrong_number_in_the_middle_is_found_where_it_is(tmp_path, monkeypatch):
    honest = runtimes.run

    def wrong(proto, feeds, outputs, arm, without=()):
        found = honest(proto, feeds, outputs, arm, without)
        if arm.level == "all" and "t16" in found:
            found["t16"].reshape(-1)[5] *= np.float32(1.001)
        return found

    monkeypatch.setattr(running.runtimes, "run", wrong)
    report = audited(saved(chain(), tmp_path / "m.onnx"), levels=["off", "all"])
    assert report.summary["disagree"] == 1
    assert report.first_divergence == "c15"
    assert [f["id"] for f in report.nodes[15].findings] == ["graph-optimisation"]


def test_two_sizes_are_run_where_an_axis_has_none(tmp_path):
    path = saved(chain(3), tmp_path / "m.onnx")
    assert len({run["inputs"] for node in audited(path).nodes for run in node.runs}) == 2
    one = audited(path, dims={"N": [1], "H": [8], "W": [9]})
    assert {tuple(node.input_shape) for node in one.nodes} == {(1, 3, 8, 9)}


def test_a_node_that_the_runtime_refuses_does_not_hide_the_rest(tmp_path):
    nodes = [conv("refused", "x", "h", "w", auto_pad="SAME_UPPER", dilations=[2, 2]), conv("good", "h", "y", "v")]
    proto = model(nodes, {"w": weights(3, 3, 3, 3), "v": weights(4, 3, 3, 5)}, (1, 3, 9, 11))
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert [node.verdict for node in report.nodes] == ["error", "agree"]
    assert "Dilation not supported" in report.nodes[0].reason


def test_a_graph_without_a_node_may_fail_too(tmp_path):
    """A call of a function that does nothing: no node is left, and the output never comes."""
    proto = model([helper.make_node("f", ["x"], ["y"], "call", domain="own")], {}, (1, 3, 4, 5))
    proto.functions.append(helper.make_function("own", "f", ["a"], [], [], [helper.make_opsetid("", 19)]))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert ["has no node" in text for text in report.broken] == [True]


def test_elements_of_no_known_type_are_borne(tmp_path):
    """In a body, where the checker does not look: the captured tensor's type is then told by the weight's."""
    proto = branching(True)
    for attribute in proto.graph.node[0].attribute:
        attribute.g.output[0].type.tensor_type.elem_type = 1385458632
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert audited(path).summary["convs"] == 2


def test_a_graph_may_have_a_name_that_is_no_text(tmp_path):
    content = chain(1).SerializeToString().replace(b"\x12\x03net", b"\x12\x03\xbdet")
    (tmp_path / "m.onnx").write_bytes(content)
    assert audited(tmp_path / "m.onnx").summary["agree"] == 1


def test_shapes_are_inferred_as_with_all_weights_in_place(tmp_path):
    shape = numpy_helper.from_array(np.array([1, 3, 99, 101]), "s")
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]), conv("c", "r", "h", "w", strides=[2, 3]),
        conv("d", "h", "y", "v", pads=[1, 1, 0, 0]),
    ]  # fmt: skip
    proto = model(nodes, {"w": weights(400, 3, 3, 5), "v": weights(2, 400, 3, 5)}, (1, 3, 9999, 1))
    proto.graph.initializer.append(shape)
    right = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    found, problem = infer_shapes(onnx.ModelProto.FromString(proto.SerializeToString()))
    assert not problem
    assert found.graph.value_info == right.graph.value_info
    assert found.graph.output == right.graph.output
    assert found.graph.initializer == proto.graph.initializer
    assert found.graph.input == proto.graph.input


def test_a_size_that_fails_is_unexpected(tmp_path):
    shape = numpy_helper.from_array(np.array([1, 3, 64, 64]), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"], "traced"), conv("c", "r", "y", "w")]
    proto = model(nodes, {"w": weights(4, 3, 3, 5)})
    proto.graph.initializer.append(shape)
    report = audited(saved(proto, tmp_path / "m.onnx"))
    assert any("traced" in text for _, _, text in report.unexpected)


# -- the report and the command ----------------------------------------------------------------------------------------


def command(*arguments):
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_the_command_from_end_to_end(tmp_path):
    path = saved(chain(3), tmp_path / "m.onnx")
    files = list(
        itertools.chain.from_iterable((f"--{k}", tmp_path / f"r.{k}") for k in ("json", "html", "junit", "markdown"))
    )
    done = command(path, "--against", path, *files)
    assert done.exit_code == 0, done.output
    assert "3 convolutions: 3 agree, 0 unexpected" in done.output
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["schema"] == "convspec.verify/1"
    schema = json.loads(
        resources.files("convspec.models.verification").joinpath("verify.schema.json").read_text("utf-8")
    )
    jsonschema.validate(document, schema)
    assert document["summary"] == {
        "convs": 3,
        "agree": 3,
        "disagree": 0,
        "unsupported": 0,
        "error": 0,
        "crash": 0,
        "timeout": 0,
    }
    assert set(document) >= {"schema", "model", "against", "summary", "first_divergence", "nodes"}
    keys = "name op_type spec input_shape verdict worst_q bound matched findings notes"
    assert set(document["nodes"][0]) >= set(keys.split())  # fmt: skip
    assert document["nodes"][1]["matched"] == "c1"


def test_a_baseline_accepts_what_is_known_and_nothing_else(tmp_path):
    source, model_ = chain(3), chain(3)
    model_.graph.node[1].attribute[0].ints[:] = [0, 1, 2, 1]
    paths = [saved(p, tmp_path / f"{i}.onnx") for i, p in enumerate((source, model_))]
    arguments = (paths[1], "--against", paths[0], "--dim", "N=1", "--dim", "H=8", "--dim", "W=9")
    assert command(*arguments).exit_code == 1
    assert command(*arguments, "--write-baseline", tmp_path / "known.json").exit_code == 0
    done = command(*arguments, "--baseline", tmp_path / "known.json")
    assert done.exit_code == 0
    assert "accepted" in done.output


def test_nothing_that_agreed_is_never_success(tmp_path):
    sums = [helper.make_node("CumSum", ["x", "axis"], ["y"])]  # for which there is no reference
    path = saved(model(sums, {"axis": np.array(2)}, (1, 3, 4, 5)), tmp_path / "m.onnx")
    assert command(path).exit_code == 1
    (tmp_path / "all.json").write_text(
        '{"schema": "convspec.baseline/1", "accepted": [{"node": "*", "id": "nothing-agreed"}]}'
    )
    assert command(path, "--baseline", tmp_path / "all.json").exit_code == 1
    with pytest.raises(VerificationFailed):
        convspec.verify(path).expect()


def test_a_graph_without_convolutions_agrees_if_its_nodes_do(tmp_path):
    path = saved(model([helper.make_node("Relu", ["x"], ["y"])], {}, (1, 3, 4, 5)), tmp_path / "m.onnx")
    done = command(path)
    assert done.exit_code == 0
    assert "1 of 1 node judged: rounding, proved" in done.output


WRONG = (
    "--dim N",
    "--dim Q=3",
    "--levels x",
    "--inputs no.npz",
    "--baseline no",
    "--against no.onnx",
    "--against no:one",
)


@pytest.mark.parametrize("arguments", [text.split() for text in WRONG])
def test_a_wrong_request_is_status_2(tmp_path, arguments):
    assert command(saved(chain(1), tmp_path / "m.onnx"), *arguments).exit_code == 2


def test_arrays_are_inputs(tmp_path):
    path = saved(chain(2), tmp_path / "m.onnx")
    x = weights(1, 3, 6, 7)
    for given in (x, {"x": x}, [x]):
        report = verifier.verify(path, inputs=given, levels=["off"])
        assert {tuple(node.input_shape) for node in report.nodes} == {(1, 3, 6, 7)}

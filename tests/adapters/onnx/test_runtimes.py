"""Who runs a graph: levels, passes, execution providers, and the accuracy class that is expected of one."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnxruntime
from convspec_onnx.loading import DetachedModel
from convspec_onnx.verify import judge, optimizer_passes, runtimes
from convspec_onnx.verify.runtimes import RunConfig, RunError
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from convspec.cli.app import app
from convspec.models.verification import verifier
from convspec.spec import ComputePrecision
from convspec.spec.dtypes import rounded
from tests.adapters.onnx.verifying import audited, conv, model, saved, weights

pytestmark = pytest.mark.onnx


def normalised():
    """A convolution and its batch normalisation: a pass of the level ``basic`` folds the two."""
    nodes = [conv("c", "x", "h", "w"), helper.make_node("BatchNormalization", ["h", *"gsmv"], ["y"], "norm")]
    tensors = {name: weights(4, seed=i) for i, name in enumerate("gsm")} | {"v": np.abs(weights(4)) + 1}
    return model(nodes, {"w": weights(4, 3, 3, 5), **tensors}, (2, 3, 12, 14))


def changes(report):
    return {change["level"]: change for change in report.optimisation}


def test_the_pass_that_changed_the_outputs_is_named(tmp_path):
    found = changes(audited(saved(normalised(), tmp_path / "m.onnx"), levels=["off", "all"]))
    assert (found["basic"]["changed"], found["basic"]["passes"]) == (["y"], ["ConvBNFusion"])
    assert 0 < found["basic"]["largest"] < 1
    assert (found["extended"]["changed"], found["extended"]["passes"]) == ([], [])


def test_a_pass_without_a_known_name_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(optimizer_passes.NAMES, "basic", "EliminateIdentity ConstantFolding")
    found = changes(audited(saved(normalised(), tmp_path / "m.onnx"), levels=["off", "all"]))
    assert found["basic"]["passes"] == [optimizer_passes.UNKNOWN]


def test_all_of_several_guilty_passes_are_named(monkeypatch):
    """A runtime whose passes each add one: three of them change the output, one more takes a change back."""
    steps = {"a": 0, "b": 1, "c": 0, "d": 2, "e": 0, "f": -2, "g": 4}
    monkeypatch.setattr(optimizer_passes, "NAMES", {"basic": "a b c d e f g"})

    def run(proto, feeds, outputs, arm, without=()):
        allowed = () if arm.level == "off" else [name for name in steps if name not in without]
        return {"y": np.array([sum(steps[name] for name in allowed)], np.float32)}

    monkeypatch.setattr(optimizer_passes.runtimes, "run", run)
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {}, (1,))
    found = {change["level"]: change for change in optimizer_passes.find_changes(DetachedModel(proto), {}, "CPU")}
    assert found["basic"]["passes"] == ["b", "d", "f", "g"]
    assert found["extended"]["passes"] == []


def test_a_level_that_does_not_run_is_told(monkeypatch):
    honest = runtimes.run

    def run(proto, feeds, outputs, arm, without=()):
        if arm.level == "extended":
            raise runtimes.RunError("no")
        return honest(proto, feeds, outputs, arm, without)

    monkeypatch.setattr(optimizer_passes.runtimes, "run", run)
    found = {
        change["level"]: change
        for change in optimizer_passes.find_changes(DetachedModel(normalised()), {"x": weights(2, 3, 12, 14)}, "CPU")
    }
    assert found["extended"]["problem"] == "no"
    assert "changed" in found["all"]


@pytest.mark.parametrize(("a", "b", "largest"), [
    ([1.0, 2.0], [1.0, 4.0], 0.5), ([1.0, np.inf], [2.0, np.inf], 0.5), ([1.0, 0.0], [2.0, -np.inf], 0.5),
    ([1.0, np.nan], [2.0, 1.0], 0.5), ([1.0], [1.0, 2.0], 1.0), ([3.0], [0.0], 3.0), ([], [], 0.0),
])  # fmt: skip
def test_a_change_is_measured_by_the_largest_finite_number_of_the_output(a, b, largest):
    assert optimizer_passes._largest_difference(np.array(a), np.array(b)) == largest


# -- accuracy classes ---


def coarse(name, monkeypatch):
    """ONNX Runtime as if its provider rounded inputs and weights to that format, and kept its tensors in it."""
    honest = runtimes.run
    kept = name if name in ("float16", "bfloat16") else "float32"

    def rough(array, form):
        return rounded(array, form).astype(np.float32) if array.dtype == np.float32 else array

    def run(proto, feeds, outputs, arm, without=()):
        copy = proto.attach()
        for tensor in copy.graph.initializer:
            values = rough(numpy_helper.to_array(tensor), name)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        found = honest(
            DetachedModel(copy), {key: rough(value, name) for key, value in feeds.items()}, outputs, arm, without
        )
        return {key: rough(value, kept) for key, value in found.items()}

    monkeypatch.setattr(runtimes, "run", run)


def plain(tmp_path, scale=1.0):
    nodes = [conv("c", "x", "y", "w", "b", pads=[1, 2, 1, 2], strides=[2, 1])]
    tensors = {"w": weights(4, 3, 3, 5) * np.float32(scale), "b": np.float32(scale) * weights(4)}
    return saved(model(nodes, tensors, (2, 3, 40, 50)), tmp_path / "m.onnx")


def test_the_class_is_measured_where_one_is_expected(tmp_path):
    path = plain(tmp_path)
    (node,) = audited(path, levels=["off", "all"], expect={"cpu": "float32"}).nodes
    assert (node.verdict, node.classes) == ("agree", {"CPU": "float32"})
    assert node.to_dict()["accuracy_class"] == {"CPU": "float32"}
    (node,) = audited(path).nodes
    assert (node.verdict, node.classes) == ("agree", {})


@pytest.mark.parametrize("name", ["tf32", "bfloat16", "float16"])
def test_a_coarser_class_is_wrong_unless_it_is_the_expected_one(name, tmp_path, monkeypatch):
    path = plain(tmp_path)
    coarse(name, monkeypatch)
    assert audited(path).nodes[0].verdict == "disagree"
    (node,) = audited(path, expect={"CPU": name}).nodes
    assert (node.verdict, node.classes) == ("agree", {"CPU": name}), node.reason
    for other in {"float32", "tf32", "bfloat16", "float16"} - {name}:
        (node,) = audited(path, expect={"CPU": other}).nodes
        assert node.verdict == "disagree"
        assert node.reason.startswith(("precision", "value"))


def test_a_finer_class_than_the_expected_one_is_a_wrong_declaration(tmp_path):
    (node,) = audited(plain(tmp_path), expect={"CPU": "tf32"}).nodes
    assert node.verdict == "disagree"
    assert "measured float32 (inputs float32, sums float32), expected tf32 of CPU" in node.reason
    measured = {"inputs": "float32", "accumulator": "float32", "expected_class": "tf32"}
    assert measured.items() <= node.runs[0]["evidence"].items()


@pytest.mark.parametrize(("name", "kept"), [("tf32", None), ("float16", "float16"), ("bfloat16", "bfloat16")])
def test_a_class_of_its_own_storage_format_also_rounds_the_results(name, kept):
    own = ComputePrecision("float32", output_roundings=2)
    assert judge.precision_of_class(name, own) == replace(own, inputs=name, stored=kept)
    assert judge.precision_of_class("float32", own) == own


def test_numbers_below_the_reach_of_float16_are_borne(tmp_path, monkeypatch):
    """Weights of 1e-6 keep few of their digits in float16: the bound says how few may be left."""
    path = plain(tmp_path, 1e-6)
    coarse("float16", monkeypatch)
    (node,) = audited(path, expect={"CPU": "float16"}).nodes
    assert node.verdict == "agree", node.reason
    monkeypatch.setattr(
        judge, "_lifted_magnitude", lambda spec, params, x, least: judge.reference.magnitude(spec, params, x)
    )
    assert audited(path, expect={"CPU": "float16"}).nodes[0].verdict == "disagree"


def test_a_fault_is_not_hidden_by_a_coarse_class(tmp_path, monkeypatch):
    honest = runtimes.run

    def run(proto, feeds, outputs, arm, without=()):
        found = honest(proto, feeds, outputs, arm, without)
        return {key: value * np.float32(1.02) for key, value in found.items()}

    path = plain(tmp_path)
    monkeypatch.setattr(runtimes, "run", run)
    assert audited(path, expect={"CPU": "bfloat16"}).nodes[0].verdict == "disagree"


# -- providers ---


@pytest.mark.skipif("AzureExecutionProvider" not in onnxruntime.get_available_providers(), reason="another wheel")
def test_a_provider_that_leaves_the_node_to_the_cpu_did_not_run_it(tmp_path):
    """The provider for Azure takes no convolution at all; ONNX Runtime then uses the CPU and says nothing."""
    report = audited(plain(tmp_path), providers=["CPU", "azure"])
    (node,) = report.nodes
    assert [(run["provider"], run["verdict"]) for run in node.runs] == [("CPU", "agree"), ("Azure", "error")]
    assert "placement: AzureExecutionProvider does not take this node" in node.reason
    assert report.unexpected


class Session:
    """A session that assigns nodes to providers."""

    def __init__(self, **names):
        self._names = names

    def get_providers(self):
        return ["MineExecutionProvider", "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self):
        for provider, names in self._names.items():
            nodes = [SimpleNamespace(name=name) for name in names]
            yield SimpleNamespace(ep_name=provider, get_nodes=lambda nodes=nodes: nodes)


@pytest.mark.parametrize(("on_cpu", "refused"), [([], False), (["norm"], False), (["c"], True), (["c", "norm"], True)])
def test_a_provider_may_fuse_a_convolution_but_not_leave_it(on_cpu, refused):
    """What a provider fused has another name in its list: only a convolution in another's list was left."""
    session = Session(MineExecutionProvider=["fused_0"], CPUExecutionProvider=on_cpu)
    with pytest.raises(RunError, match="runs on CPUExecutionProvider instead") if refused else nullcontext():
        runtimes._check_placement(normalised().graph, session, "MineExecutionProvider")


def test_each_level_runs_on_each_provider():
    assert runtimes.run_configs(["off", "evaluator", "all"], ["CPU", "CUDA"]) == [
        RunConfig("off", "CPU"), RunConfig("all", "CPU"), RunConfig("off", "CUDA"),
        RunConfig("all", "CUDA"), RunConfig("evaluator", "CPU"),
    ]  # fmt: skip


def test_optimisation_is_blamed_on_the_provider_where_it_changed_something():
    from convspec.models.verification.report import VerifyReport, collect

    shapes = {"spec": None, "input_shape": None, "output_shape": None, "problem": "", "notes": []}
    messages = [{"convs": [{"name": "c", "op_type": "Conv", **shapes}]}]
    for provider, level, word in (("CPU", "off", "agree"), ("CUDA", "off", "disagree"), ("CUDA", "all", "disagree")):
        messages.append({"path": "c", "level": level, "provider": provider, "inputs": "a", "verdict": word,
                         "reason": word, "evidence": {}, "shapes": {}, "spec": None})  # fmt: skip
    assert not collect(VerifyReport("m", None, []), messages).nodes[0].findings


def command(*arguments):
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_the_baseline_keeps_the_expected_classes(tmp_path):
    path, known = plain(tmp_path), tmp_path / "known.json"
    assert command(path, "--expect", "CPU=tf32", "--write-baseline", known).exit_code == 0
    assert json.loads(known.read_text())["expect"] == {"CPU": "tf32"}
    document = {"schema": "convspec.baseline/1", "expect": {"CPU": "tf32"}, "accepted": []}
    known.write_text(json.dumps(document))
    done = command(path, "--baseline", known)
    assert done.exit_code == 1
    assert "expected tf32 of CPU" in done.output
    assert command(path, "--baseline", known, "--expect", "CPU=float32").exit_code == 0


WRONG = ("--expect CPU", "--expect CPU=float33", "--expect CUDA=tf32", "--providers Abacus", "--providers ,")


@pytest.mark.parametrize("arguments", [text.split() for text in WRONG])
def test_a_wrong_request_is_status_2(tmp_path, arguments):
    assert command(plain(tmp_path), *arguments).exit_code == 2


def test_a_run_from_python_takes_providers_and_classes(tmp_path):
    report = verifier.verify(plain(tmp_path), providers=["cpu"], expect={"cpu": "float32"}).expect()
    assert report.environment["expect"] == {"cpu": "float32"}
    assert report.nodes[0].classes == {"CPU": "float32"}


# -- progress ---


def test_in_a_pipe_progress_is_a_line_every_ten_seconds(tmp_path, monkeypatch):
    from convspec.cli.reports import progress

    monkeypatch.setattr(progress, "_EVERY", 0.0)
    done = command(plain(tmp_path))
    assert done.exit_code == 0
    lines = [line for line in done.stderr.splitlines() if " elapsed" in line]
    assert lines[-1].startswith("2 of 2, ")
    monkeypatch.setattr(progress, "_EVERY", 999.0)
    assert not command(plain(tmp_path)).stderr


def test_on_a_terminal_progress_is_a_bar(tmp_path):
    """A pseudo-terminal as standard error: rich draws its bar there, and the report stays on standard output."""
    import os
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "convspec", "verify", str(plain(tmp_path))],
        stdout=subprocess.PIPE, stderr=theirs, timeout=100, check=True, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = os.read(ours, 1 << 16).decode(errors="replace")  # may end within a character
    os.close(ours)
    assert "verifying" in seen
    assert "━" in seen
    assert b"0 unexpected" in done.stdout
    assert b"\x1b" not in done.stdout


# -- without the oracle ---


def test_without_the_oracle_a_graph_is_held_against_its_source_alone(tmp_path, monkeypatch):
    from convspec import reference

    nodes = [conv(f"c{i}", a, b, f"w{i}", pads=[1, 2, 1, 2]) for i, (a, b) in enumerate((("x", "h"), ("h", "y")))]
    tensors = {"w0": weights(4, 3, 3, 5), "w1": weights(2, 4, 3, 5)}
    source = saved(model(nodes, tensors, (1, 3, 9, 11)), tmp_path / "source.onnx")
    tensors["w1"] = tensors["w1"].copy()
    tensors["w1"][1, 2, 0, 3] *= -1
    faulty = saved(model(nodes, tensors, (1, 3, 9, 11)), tmp_path / "faulty.onnx")
    assert audited(faulty, against=str(source), oracle=False).first_divergence == "c1"

    def never(*_):
        raise AssertionError("the oracle was asked")

    monkeypatch.setattr(reference, "conv", never)
    report = audited(source, against=str(source), oracle=False)
    assert report.summary["agree"] == report.summary["convs"] == 2
    assert not report.unexpected
    with pytest.raises(AssertionError, match="asked"):
        audited(source, against=str(source))


def test_without_oracle_and_source_there_is_nothing_to_hold_it_against(tmp_path):
    assert command(plain(tmp_path), "--no-oracle").exit_code == 2

"""Whole models' weights moved: pairs, what is ambiguous, what is left, rows behind a flatten, files."""

from __future__ import annotations

import errno
import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, atomic_files
from convspec.contract import Reading
from convspec.errors import StorageError, UnsupportedError
from convspec.models import porting
from convspec.models.comparison.outcomes import Outcome
from convspec.models.comparison.results import Comparison
from convspec.models.run_model import Model, Part
from convspec.spec.chains import Flattened

SCHEMA = json.loads(files("convspec.models").joinpath("port.schema.json").read_text("utf-8"))


class Adapter:
    native_layout = "NCHW"

    def __init__(self, name, module):
        self.name, self.module = name, module

    def model_module(self):
        return self.module


class Writer:
    """Writes into the parts themselves, as a framework would into its layers."""

    def __init__(self, *, faithful=True):
        self.faithful, self.written = faithful, 0

    def write(self, model, arrays):
        self.written += 1
        parts = {part.path: part for part in model.parts}
        for path, own in arrays.items():
            for name, array in own.items():
                parts[path].weights[name][...] = array if self.faithful else array + 1
        return model


def conv(path, spec, seed, layout="NCHW"):
    return Part(path, "conv", "Conv", Reading(spec, ConvParams.random(spec, seed), layout))


def norm(path, seed, epsilon=1e-5, size=4):
    rng = np.random.default_rng(seed)
    return Part(path, "norm", "BatchNorm", epsilon=epsilon, arrays={
        name: rng.uniform(0.5, 1, size).astype(np.float32) for name in ("gain", "shift", "mean", "variance")
    })  # fmt: skip


def linear(path, shape, seed):
    rng = np.random.default_rng(seed)
    return Part(path, "linear", "Linear", arrays={
        "kernel": rng.normal(size=shape).astype(np.float32), "bias": rng.normal(size=shape[0]).astype(np.float32),
    })  # fmt: skip


A, B = ConvSpec(3, 4, (3, 5)), ConvSpec(4, 4, (3, 3))


@pytest.fixture
def port(monkeypatch):
    """``port_weights`` between models that are given as parts."""

    def run(source, target, *, faithful=True, **options):
        writer = Writer(faithful=faithful)
        models = [Model(None, Adapter(name, writer), parts) for name, parts in (("one", source), ("other", target))]
        for model in models:
            model.native = model
        monkeypatch.setattr(porting, "open_model", lambda model, *_, **__: model)
        report = porting.port_weights(*models, **options)
        assert writer.written == report.written
        jsonschema.validate(json.loads(json.dumps(report.to_dict())), SCHEMA)
        return report

    return run


def equal(a, b):
    return all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_layers_of_different_shapes_are_moved_bit_for_bit(port):
    source = [conv("a", A, 0), norm("b", 1), conv("c", B, 2)]
    target = [conv("x", B, 3, "NHWC"), conv("y", A, 4, "NHWC"), norm("z", 5)]
    report = port(source, target)
    assert report.written
    assert not report.ambiguous
    assert not report.left
    assert equal(source[0], target[1])
    assert equal(source[1], target[2])
    assert equal(source[2], target[0])
    assert "3 layers moved" in str(report)
    assert report.complete


def test_layers_of_one_shape_are_ambiguous_by_definition_alone(port):
    source, target = [conv("a", B, 0), conv("b", B, 1)], [conv("x", B, 3), conv("y", B, 4)]
    before = target[0].weights["kernel"].copy()
    report = port(source, target)
    assert not report.written
    assert np.array_equal(target[0].weights["kernel"], before)
    assert "order of definition" in report.ambiguous[0]
    assert "Nothing was written" in report.summary
    report = port(source, target, force=True)
    assert report.written
    assert equal(source[0], target[0])
    assert equal(source[1], target[1])


def test_names_tell_layers_of_one_shape_apart(port):
    source, target = (
        [conv("net.first", B, 0), conv("net.last", B, 1)],
        [conv("net/last", B, 3), conv("net/first", B, 4)],
    )
    report = port(source, target)
    assert [move.how for move in report.moves] == ["name", "name"]
    assert equal(source[0], target[1])
    assert equal(source[1], target[0])


def test_layers_without_a_counterpart_are_left_and_counted(port):
    report = port([conv("a", A, 0), conv("b", B, 1)], [conv("x", A, 2)])
    assert report.left == ["conv b of the source"]
    report = port([conv("a", B, 0)], [conv("x", B, 2), conv("y", B, 3)])
    assert "1 layers of the source (a) have the shape of 2 of the target (x, y)" in report.ambiguous[0]
    assert not report.written


@pytest.mark.parametrize(("layout", "moved"), [("NCHW", False), ("NHWC", True)])
def test_rows_behind_a_flatten(port, layout, moved):
    source = [conv("a", A, 0), linear("fc", (7, 4 * 6), 1)]
    target = [conv("x", A, 2, layout), linear("y", (7, 4 * 6), 3)]
    port(source, target)
    order = list(Flattened(4, (2, 3)).order("NHWC")) if moved else slice(None)
    assert np.array_equal(target[1].weights["kernel"], source[1].weights["kernel"][:, order])
    assert np.array_equal(target[1].weights["bias"], source[1].weights["bias"])


def test_rows_behind_a_global_pool_or_another_linear_layer_stay(port):
    source = [conv("a", A, 0), linear("fc1", (8, 4), 1), linear("fc2", (3, 8), 1)]
    target = [conv("x", A, 2, "NHWC"), linear("y", (8, 4), 3), linear("z", (3, 8), 4)]
    port(source, target)
    assert equal(source[1], target[1])
    assert equal(source[2], target[2])


def test_features_that_are_no_multiple_of_the_channels_are_ambiguous(port):
    report = port([conv("a", A, 0), linear("fc", (7, 9), 1)], [conv("x", A, 2, "NHWC"), linear("y", (7, 9), 3)])
    assert "no multiple of the 4 channels" in report.ambiguous[0]
    assert not report.written


def test_epsilons_are_compared(port):
    report = port([conv("a", A, 0), norm("b", 1)], [conv("x", A, 2), norm("y", 3, epsilon=1e-3)])
    assert report.warnings == ["set epsilon=1e-05 on y (it has 0.001; source layer 'b' has 1e-05)"]
    assert report.written


def test_a_bias_that_has_no_place_stops_the_port(port):
    report = port([conv("a", A, 0)], [conv("x", ConvSpec(3, 4, (3, 5), bias=False), 2)])
    assert report.ambiguous == ["x has no place for the bias of a: build it with one"]
    assert not report.written
    report = port([conv("a", ConvSpec(3, 4, (3, 5), bias=False), 0)], [target := conv("x", A, 2)])
    assert not target.weights["bias"].any()


def test_a_dry_run_writes_nothing(port):
    target = conv("x", A, 2)
    before = target.weights["kernel"].copy()
    report = port([conv("a", A, 0)], [target], dry_run=True)
    assert not report.written
    assert np.array_equal(target.weights["kernel"], before)
    assert "would be moved" in report.summary


def test_what_reads_back_differently_is_an_error(port):
    with pytest.raises(UnsupportedError, match="reads back differently"):
        port([conv("a", A, 0)], [conv("x", A, 2)], faithful=False)


@pytest.mark.parametrize("name", ["moved.safetensors", "moved.fake"])
def test_weights_that_do_not_fit_on_the_disk_leave_the_file_before(port, tmp_path, monkeypatch, name):
    def full(_):
        raise OSError(errno.ENOSPC, "full")

    report = port([conv("a", A, 0)], [conv("x", A, 2)])
    monkeypatch.setattr(porting.PortReport, "_save", lambda _, path: path.write_bytes(b"half"))
    target = tmp_path / name
    target.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, "fsync", full)
        with pytest.raises(StorageError, match=f"cannot write .*{name}: No space left on device"):
            report.save(target)

    def failing(_, path):
        path.write_bytes(b"half")
        raise RuntimeError(f"failed writing {path.name}")  # as PyTorch does

    monkeypatch.setattr(porting.PortReport, "_save", failing)
    with pytest.raises(StorageError, match=f"cannot write .*{name}: failed writing {name}"):
        report.save(target)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert target.read_text() == "before"


def test_the_moved_arrays_as_safetensors(port, tmp_path):
    from safetensors.numpy import load_file

    source = conv("a", A, 0)
    port([source], [conv("x/y", A, 2)]).save(tmp_path / "moved.safetensors")
    found = load_file(tmp_path / "moved.safetensors")
    assert set(found) == {"x/y.kernel", "x/y.bias"}
    assert np.array_equal(found["x/y.kernel"], source.weights["kernel"])


def test_the_report_is_json(port):
    import json

    assert json.loads(json.dumps(port([conv("a", A, 0)], [conv("x", A, 2)]).to_dict()))["written"] is True


def test_where_inputs_were_given_the_summary_says_what_is_ambiguous():
    report = porting.PortReport(("one", "other"), ambiguous=["x has no place for the bias of a: build it with one"])
    assert "give inputs" in report.summary
    report.ran = True
    assert report.summary == (
        "Nothing was written: x has no place for the bias of a: build it with one; use force to write what is matched."
    )


def test_names_decide_where_one_model_has_more_layers(port):
    source = [conv("net.first", B, 0), conv("net.last", B, 1), conv("net.unused", B, 2)]
    target = [conv("net/last", B, 3), conv("net/first", B, 4)]
    report = port(source, target)
    assert report.written
    assert report.left == ["conv net.unused of the source"]
    assert equal(source[0], target[1])
    assert equal(source[1], target[0])


@pytest.mark.parametrize(("count", "words"), [(4, "l0, l1, l2, l3 of"), (5, "l0, l1, l2, l3, … (5 in all) of")])
def test_many_layers_of_one_shape_are_named_by_the_first(port, count, words):
    source, target = ([conv(f"{name}{i}", B, i) for i in range(count)] for name in "lx")
    assert words in port(source, target).ambiguous[0]


def test_a_port_is_complete_where_nothing_is_ambiguous_or_left_and_the_models_agree():
    def report(**more):
        return porting.PortReport(("one", "other"), **more)

    assert report().complete
    assert not report(ambiguous=["which?"]).complete
    assert not report(left=["conv c of the source"]).complete
    assert not report(unmoved=["a parameter"]).complete
    for verdict, words in (
        ("agree", "the models agree"),
        ("differ", "they still differ: "),
        ("unknown", "it is unknown"),
    ):
        outcomes = [Outcome("the given inputs", verdict, 0.0, 1.0, "why")]
        found = report(written=True, ran=True, comparison=Comparison(("one", "other"), [], verdict, outcomes))
        assert found.complete == (verdict == "agree")
        assert f"run on the same input, {words}" in found.summary


def test_the_layouts_are_those_of_source_and_target(monkeypatch):
    seen = []

    def opened(model, inputs, *layouts, name):
        seen.append((name, layouts))
        return Model(None, Adapter("one", Writer()), [])

    monkeypatch.setattr(porting, "open_model", opened)
    porting.port_weights(None, None, layouts=("NHWC", "NCHW"), dry_run=True)
    assert seen == [("the source", ("NHWC",)), ("the target", ("NCHW", "NHWC"))]


def test_a_parameter_that_a_framework_does_not_take_stays_in_the_list_with_the_reason():
    report = porting.PortReport(("one", "other"), unmoved=["a.scale (4,) of the source", "b.scale (4,) of the target"])
    lines = (report.unmoved[0], report.unmoved[1])

    def write(model, arrays):
        if arrays:
            raise UnsupportedError("no")
        return model

    porting._write(report, write, {("b", "scale"): porting._Other("a", "b", np.ones(4), lines)})
    assert report.unmoved == ["a.scale (4,) of the source", "b.scale (4,) of the target: no"]
    assert not report.moves
    porting._write(report, lambda model, arrays: model, {("b", "scale"): porting._Other("a", "b", np.ones(4), lines)})
    assert report.unmoved == ["b.scale (4,) of the target: no"]
    assert [(move.source, move.target) for move in report.moves] == [("a", "b")]

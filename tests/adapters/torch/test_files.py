"""TorchScript archives and programs of torch.export: what they hold, and what they may not do."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import warnings
import zipfile
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from convspec_torch import files, model, operations, vetting
from torch import nn
from typer.testing import CliRunner

import convspec
from convspec import ConvSpec
from convspec.errors import RequestError, UnsupportedError

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")]
SPECS = [
    ConvSpec(3, 4, (3, 5), (2, 1), (1, 2)),
    ConvSpec(4, 8, (3, 3), padding="same", dilation=(1, 2), groups=2, bias=False),
    ConvSpec(8, 5, (2, 3), (2, 3), transposed=True, output_padding=(0, 1)),
    ConvSpec(5, 6, (1, 1)),
]
PATHS = ["first", "inner.0", "up", "kernel"]
SILERO = importlib.util.find_spec("silero_vad")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, (3, 5), (2, 1), (1, 2))
        self.norm = nn.BatchNorm2d(4, eps=0.01)
        self.inner = nn.Sequential(nn.Conv2d(4, 8, 3, padding="same", dilation=(1, 2), groups=2, bias=False))
        self.up = nn.ConvTranspose2d(8, 5, (2, 3), (2, 3), output_padding=(0, 1))
        self.kernel = nn.Parameter(torch.randn(6, 5, 1, 1))
        self.bias = nn.Parameter(torch.randn(6))
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = self.up(self.inner(x).relu_())
        x = nn.functional.conv2d(x, self.kernel, self.bias)
        return self.fc(x.mean((2, 3)))


class Branches(nn.Module):
    """One conv whose weight is computed, one in each branch, one in a loop."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv1d(2, 3, 3), nn.Conv1d(2, 3, 3, padding=1), nn.Conv1d(3, 3, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(3, 3, 1))

    def forward(self, x, rate: int):
        x = self.a(x) if rate > 8 else self.b(x)
        for _ in range(rate):
            x = self.c(x)
        return torch.conv1d(x, self.weight * 2.0)


def seeded(seed=0):
    torch.manual_seed(seed)
    net = Net().eval()
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return net


def inputs(seed=0):
    return np.random.default_rng(seed).standard_normal((2, 3, 16, 20), np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where, net, x = tmp_path_factory.mktemp("files"), seeded(), torch.from_numpy(inputs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        height = torch.export.Dim("height", min=8, max=64)
        torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({2: 2 * height},)), where / "net.pt2")
        torch.jit.save(torch.jit.script(net), where / "scripted.pt")
        torch.jit.save(torch.jit.trace(net, x), where / "traced.ts")
    return where


@pytest.mark.parametrize("name", ["net.pt2", "scripted.pt", "traced.ts"])
def test_a_program_is_read_and_watched_like_its_module(folder, name):
    net = seeded()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = files.load(str(folder / name))
    found = model.parts(program)
    assert [part.reading.spec for part in found if part.kind == "conv"] == SPECS
    assert [part.path for part in found if part.kind == "conv"][:3] == PATHS[:3]
    norm, linear = (next(part for part in found if part.kind == kind) for kind in ("norm", "linear"))
    assert norm.epsilon == pytest.approx(0.01, abs=0)
    assert np.array_equal(norm.arrays["variance"], net.norm.running_var)
    assert np.array_equal(linear.arrays["kernel"], net.fc.weight.detach())
    calls, (y,), _ = model.trace_model(program, [inputs()])
    own, (expected,), _ = model.trace_model(net, [inputs()])
    assert np.array_equal(y, expected)
    function = "conv2d_0"  # which a program calls by its weight
    assert [call.path for call in own if call.path != function] == [c.path for c in calls if c.path not in PATHS[3:]]
    for call, mine in zip(calls, own, strict=True):
        assert np.array_equal(call.x, mine.x)
        assert np.array_equal(call.y, mine.y)
    assert function in [call.path for call in own]


@pytest.mark.parametrize("name", ["net.pt2", "scripted.pt", "traced.ts"])
def test_the_steps_of_a_file_are_those_of_its_program(folder, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = model.trace_steps(files.load(str(folder / name)), [inputs()])
    trace = convspec.ModelFile(folder / name).steps([inputs()])
    facts = attrgetter("path", "step", "reads", "writes", "sources", "name", "layout", "note")
    assert list(map(facts, trace.steps)) == list(map(facts, own.steps))
    assert (trace.inputs, trace.outputs, trace.parameters) == (own.inputs, own.outputs, own.parameters)
    assert [part.path for part in trace.parts] == [part.path for part in own.parts]
    for found, expected in zip(trace.tensors, own.tensors, strict=True):
        assert np.array_equal(found, expected)
    for step, mine in zip(trace.steps, own.steps, strict=True):
        assert {n: a.tobytes() for n, a in step.arrays.items()} == {n: a.tobytes() for n, a in mine.arrays.items()}


def test_files_are_compared_and_ported_by_their_paths(folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(seeded(1)), tmp_path / "other.pt")
    report = convspec.port_weights(folder / "net.pt2", tmp_path / "other.pt", inputs())
    assert report.comparison.agrees, str(report.comparison)
    assert [row.verdict for row in report.comparison.rows] == ["agree"] * 6
    report.save(tmp_path / "ported.pt")
    with torch.no_grad():
        assert np.array_equal(torch.jit.load(tmp_path / "ported.pt")(torch.from_numpy(inputs())),
                              seeded()(torch.from_numpy(inputs())))  # fmt: skip


def test_branches_and_loops(tmp_path):
    script = torch.jit.script(Branches().eval())
    a, b, c, computed = convspec.convs(script)
    assert [found.path for found in (a, b, c)] == ["a", "b", "c"]
    assert b.reading.spec == ConvSpec(2, 3, 3, padding=1, ndim=1)
    assert computed.problem == "its weight is computed: by aten::mul"
    x = np.ones((1, 2, 9), np.float32)
    calls, _, _ = model.trace_model(script, [x, np.array(2)])
    assert [call.path for call in calls] == ["b", "c", "c"]
    calls, _, _ = model.trace_model(script, {"x": x, "rate": np.array(9)})
    assert [call.path for call in calls] == ["a", *"c" * 9]
    with pytest.raises(RequestError, match="does not take these inputs"):
        model.trace_model(script, [x])


def test_a_run_leaves_a_script_as_it_was():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.count = nn.Conv1d(2, 3, 3), 0

        def forward(self, x):
            self.count += 1
            return self.conv(x)

    script = torch.jit.script(Counts().eval())
    model.trace_model(script, [np.ones((1, 2, 9), np.float32)])
    assert script.count == 0


def test_a_program_without_convolutions_lists_its_operators():
    with pytest.raises(UnsupportedError, match=r"no convolutions; its operators: .*aten::linear"):
        convspec.convs(torch.jit.script(nn.Linear(2, 3)))


@pytest.mark.skipif(SILERO is None, reason="pip install --no-deps silero-vad==6.2.3")
def test_silero_has_twelve_convolutions_in_two_branches():
    path = Path(SILERO.submodule_search_locations[0]) / "data" / "silero_vad.jit"
    program = files.load(str(path))
    found = convspec.convs(program)
    assert len(found) == 12
    assert all(entry.reading is not None for entry in found)
    assert sum(entry.path.startswith("_model_8k.") for entry in found) == 6
    calls, (y,), _ = model.trace_model(program, [inputs()[0, 0].reshape(1, -1)[:, :256], np.array(8000)])
    assert len(calls) == 6
    assert y.shape == (1, 1)


# -- files that mean harm ----------------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def rewritten(source, target, change):
    """An archive with records changed by ``change(name, content)``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return str(target)


def with_graph(folder, target, change):
    """The exported program with its graph's JSON changed in place by ``change``."""

    def edit(name, content):
        if name != "models/model.json":
            return content
        graph = json.loads(content)
        change(graph)
        return json.dumps(graph).encode()

    return rewritten(folder / "net.pt2", target, edit)


def loaded(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return files.load(path)


@pytest.mark.parametrize("name", ["net.pt2", "scripted.pt"])
@pytest.mark.parametrize("keep", [0, 100, 3000, -40])
def test_truncated_files(folder, tmp_path, name, keep):
    (tmp_path / name).write_bytes((folder / name).read_bytes()[:keep])
    with pytest.raises((RequestError, UnsupportedError), match=r"truncated|broken|pickle of torch.save"):
        loaded(str(tmp_path / name))  # without its end, the last archive is that of the sample inputs, within


def test_pickles_are_named_and_not_opened(tmp_path):
    canary = tmp_path / "opened"
    torch.save({"weight": Bomb(canary)}, tmp_path / "state.pt")
    torch.save(Bomb(canary), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb(canary)))
    for name, message in (("state.pt", "pickle of torch.save"), ("old.pt", "old pickle"), ("plain.pth", "old pickle")):
        with pytest.raises((RequestError, UnsupportedError), match=message):
            loaded(str(tmp_path / name))
    assert not canary.exists()


@pytest.mark.parametrize("place", ["weights", "constants", "sample_inputs"])
def test_pickles_within_a_program_are_not_run(folder, tmp_path, place):
    canary = tmp_path / "opened"
    bomb = io.BytesIO()
    torch.save((Bomb(canary),), bomb)
    config = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}

    def change(name, content):
        if place == "sample_inputs":
            return bomb.getvalue() if name == "data/sample_inputs/model.pt" else content
        if name == f"data/{place}/model_{place}_config.json":
            entries = json.loads(content)
            entries["config"]["first.weight"] = config
            return json.dumps(entries)
        return bomb.getvalue() if name == "data/weights/weight_0" else content

    def add(path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/data/{place}/weight_0", bomb.getvalue())
        return path

    path = rewritten(folder / "net.pt2", tmp_path / "net.pt2", change)
    if place == "sample_inputs":
        assert len(convspec.convs(loaded(path))) == 4
    else:
        with pytest.raises(RequestError, match="pickled and contain more than tensors"):
            loaded(path if place == "weights" else add(path))
    assert not canary.exists()


def test_opaque_objects_are_not_unpickled(folder, tmp_path):
    canary = tmp_path / "opened"

    def change(name, content):
        if name == "data/constants/model_constants_config.json":
            entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
            return json.dumps({"config": {"thing": entry}})
        return content

    path = rewritten(folder / "net.pt2", tmp_path / "net.pt2", change)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/constants/opaque_obj_0", pickle.dumps(Bomb(canary)))
    with pytest.raises(UnsupportedError, match="pickled object"):
        loaded(path)
    assert not canary.exists()


def test_guards_are_no_code_of_ours(folder, tmp_path):
    canary = tmp_path / "run"

    def change(graph):
        graph["guards_code"] = [f"__import__('os').mkdir({str(canary)!r}) or True"]

    program = loaded(with_graph(folder, tmp_path / "net.pt2", change))
    model.trace_model(program, [inputs()])
    assert not canary.exists()


def test_sizes_are_expressions_of_sizes(folder, tmp_path):
    canary = tmp_path / "run"
    code = f"__import__('os').mkdir({str(canary)!r})"

    def change(graph):
        def visit(value):
            if isinstance(value, dict):
                for key, inner in value.items():
                    if key == "expr_str":
                        value[key] = code
                    visit(inner)
            elif isinstance(value, list):
                for inner in value:
                    visit(inner)

        assert "expr_str" in json.dumps(graph)
        visit(graph)

    with pytest.raises(RequestError, match="no expression of sizes"):
        loaded(with_graph(folder, tmp_path / "net.pt2", change))
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    ["s0.__class__", "(lambda: 1)()", "open('x')", "Symbol('__import__(1)')", "[1]", "s0 if 1 else 2", "f'{1}'",
     "Symbol('s0', **{})", "Max(*[1])", "'__import__'", "s0 := 1", "1 if", "eval('1')", "x" * 20_000, "(" * 500],
)  # fmt: skip
def test_other_expressions_are_refused(text):
    with pytest.raises(RequestError):
        vetting.vetted({"expr_str": text})


@pytest.mark.parametrize(
    "text",
    ["s77", "2*s0 + 1", "Mul(Integer(2), Symbol('s77', positive=True, integer=True))", "Max(1, s0 - 3)", "-s1 // 2",
     "FloorDiv(Symbol('s0', positive=True), Integer(2))", "Float('0.5', precision=53)", "u0 <= 4"],
)  # fmt: skip
def test_expressions_that_torch_writes_are_taken(text):
    assert vetting.vetted({"expr_str": text}) == {"expr_str": text}


@pytest.mark.parametrize(
    "target",
    ["torch.load", "torch.hub.load", "torch._C._jit_pass_inline", "torch.ops.aten.from_file.default",
     "torch.ops.aten.save.default", "torch.ops.higher_order.print", "mine::op", "torch.ops.mine.op.default", "math.inf",
     "#mine:op", "_operator.attrgetter", "_operator.methodcaller"],
)  # fmt: skip
def test_operators_that_are_not_pytorchs_own_are_refused(folder, tmp_path, target):
    def change(graph):
        graph["graph_module"]["graph"]["nodes"][0]["target"] = target

    with pytest.raises(UnsupportedError, match="not an operator of PyTorch that only computes"):
        loaded(with_graph(folder, tmp_path / "net.pt2", change))


@pytest.mark.parametrize("name", ["x):\n  import os\n  def f(", 'a"); x("', "a b", "a\x1b[31m", "é"])
def test_names_that_could_be_code_are_refused(folder, tmp_path, name):
    def change(graph):
        graph["graph_module"]["graph"]["inputs"][0]["as_tensor"]["name"] = name

    with pytest.raises(RequestError, match="is not one that"):
        loaded(with_graph(folder, tmp_path / "net.pt2", change))


@pytest.mark.parametrize(
    "tree",
    [{"type": "collections.defaultdict", "context": '{"default_factory_module": "antigravity"}', "children_spec": []},
     {"type": "builtins.dict", "context": '[{"__enum__": true, "fqn": "antigravity:x"}]', "children_spec": []}],
)  # fmt: skip
def test_containers_that_would_be_imported_are_refused(tree):
    with pytest.raises(UnsupportedError, match="which is not built"):
        vetting.vetted({"in_spec": json.dumps([1, tree])})


def test_weights_may_not_reach_beyond_their_record(folder, tmp_path):
    def change(name, content):
        if name == "data/weights/model_weights_config.json":
            entries = json.loads(content)
            entries["config"]["first.weight"]["tensor_meta"]["storage_offset"] = {"as_int": 10**6}
            return json.dumps(entries)
        return content

    with pytest.raises(RequestError, match="fewer bytes than its shape"):
        loaded(rewritten(folder / "net.pt2", tmp_path / "net.pt2", change))


def test_a_script_that_reaches_files_is_listed_and_not_run(tmp_path):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 3)

        def forward(self, x):
            return self.conv(x) + torch.from_file("victim", True, 4).sum()

    script = torch.jit.script(Reads().eval())
    assert operations.strange(script) == ["aten::from_file"]
    assert len(convspec.convs(script)) == 1
    with pytest.raises(UnsupportedError, match=r"may do more than compute: \['aten::from_file'\]"):
        model.trace_model(script, [np.ones((1, 2, 9), np.float32)])


def test_code_that_runs_while_a_script_is_loaded_is_refused(tmp_path):
    class Restores(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 3)

        def forward(self, x):
            return self.conv(x)

        @torch.jit.export
        def __getstate__(self):
            return self.training

        @torch.jit.export
        def __setstate__(self, state: bool):
            self.training = state
            self.conv = self.conv

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(Restores().eval())
        torch.jit.save(script, tmp_path / "restores.pt")
    with pytest.raises(UnsupportedError, match="__setstate__"):
        loaded(str(tmp_path / "restores.pt"))


def test_the_command_answers_harm_with_status_2(folder, tmp_path):
    from convspec.cli.app import app

    (tmp_path / "net.pt2").write_bytes((folder / "net.pt2").read_bytes()[:3000])
    found = CliRunner().invoke(app, ["compare", str(tmp_path / "net.pt2"), str(folder / "scripted.pt")])
    assert found.exit_code == 2
    assert "net.pt2: it is not an archive of PyTorch, or a truncated one" in found.stderr

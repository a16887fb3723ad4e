"""Graphs that PyTorch exported, against the module: what exporters do is seen through, what they break is named."""

from __future__ import annotations

import functools
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")
import onnx  # noqa: E402
from convspec_onnx.source.run_source import RemoteSource  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402
from torch import nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import convspec  # noqa: E402
from convspec.cli.app import app  # noqa: E402
from convspec.errors import RequestError  # noqa: E402
from tests.adapters.onnx import exported  # noqa: E402
from tests.adapters.onnx import faulty as faults  # noqa: E402
from tests.adapters.onnx.verifying import audited, conv, model, saved, weights  # noqa: E402

pytestmark = [pytest.mark.onnx, pytest.mark.slow]


KINDS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


def clean(report, count):
    assert not report.unexpected, report.unexpected
    assert (report.summary["agree"], report.first_divergence) == (count, None)
    assert None not in [node.matched for node in report.nodes]
    return report


@pytest.mark.parametrize("name", [*exported.NETWORKS, "resnet-raw", "wavenet-raw"])
def test_every_convolution_of_an_export_is_that_of_the_module(name):
    path, source, count = exported.network(name)
    report = clean(audited(path, source=source), count)
    paths = [path for path, module in source.named_modules() if isinstance(module, KINDS)]
    assert sorted(node.matched for node in report.nodes) == sorted(paths)


def test_names_do_not_matter(tmp_path):
    path, source, count = exported.network("resnet")
    proto = onnx.load(path)
    for number, node in enumerate(proto.graph.node):
        node.name = f"n{number * 7 % 100}"
    names = {t.name: f"t{number}" for number, t in enumerate(proto.graph.initializer)}
    for tensor in proto.graph.initializer:
        tensor.name = names[tensor.name]
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    report = clean(audited(saved(proto, tmp_path / "renamed.onnx"), source=source), count)
    paths = [path for path, module in source.named_modules() if isinstance(module, KINDS)]
    assert sorted(node.matched for node in report.nodes) == sorted(paths)
    assert all(node.name[0] == "n" and node.name[1:].isdecimal() for node in report.nodes)


# -- what exporters do to convolutions, one at a time ---


def exports(source, *inputs, **options):
    """The graph that PyTorch's exporter makes of a module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(source.eval(), inputs, dynamo=True, verbose=False, **options).model_proto


class Siamese(nn.Module):
    """One convolution called twice, one never, one that is no module, and results of two kinds."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Conv2d(3, 4, (3, 5), padding="same", padding_mode="circular")
        self.idle = nn.Conv2d(3, 4, 3)
        self.last = nn.Conv2d(4, 2, 3, stride=2, padding=1, padding_mode="reflect")

    def forward(self, x):
        left, right = self.shared(x), self.shared(x.flip(3))
        ahead = nn.functional.pad(left * right.sigmoid(), (1, 2, 0, 3))
        return self.last(ahead), ahead.mean((2, 3))


def test_shared_idle_and_padded_layers(tmp_path):
    torch.manual_seed(0)
    source = Siamese()
    path = saved(exports(source, torch.randn(2, 3, 9, 12)), tmp_path / "m.onnx")
    report = clean(audited(path, source=source), 3)
    assert [node.matched for node in report.nodes] == ["shared", "shared", "last"]


SPEC = convspec.ConvSpec(3, 4, (3, 5), padding=((2, 0), (0, 3)))


def module(kernel, bias=None, **options):
    """A PyTorch convolution with these weights."""
    ndim = kernel.ndim - 2
    kind = (nn.Conv1d, nn.Conv2d)[ndim - 1]
    layer = kind(kernel.shape[1] * options.get("groups", 1), kernel.shape[0], kernel.shape[2:], bias=bias is not None,
                 **options)  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
    return layer.eval()


@pytest.mark.parametrize(("kinds", "seen"), [([1], True), ([1, 1], True), ([10, 1], False)])
def test_a_bias_behind_casts(kinds, seen, tmp_path):
    """Keras' export on PyTorch casts float32 to float32 all over; a cast to float16 does change the numbers."""
    kernel, bias = weights(4, 3, 3, 5), weights(4)
    casts = [helper.make_node("Cast", [f"c{i}"], [f"c{i + 1}"], to=kind) for i, kind in enumerate(kinds)]
    nodes = [conv("c", "x", "c0", "w"), *casts, helper.make_node("Add", [f"c{len(kinds)}", "b"], ["y"])]
    proto = model(nodes, {"w": kernel, "b": bias.reshape(1, 4, 1, 1)}, (2, 3, 9, 8))
    report = audited(saved(proto, tmp_path / "m.onnx"), source=module(kernel, bias))
    found = {name for _, name, _ in report.unexpected}
    assert (not found) if seen else ("bias-lost" in found), report.unexpected


def matrices(op):
    """A graph in which a 1×1 convolution is a product of matrices, its bias added behind it."""
    kernel, bias = weights(4, 3), weights(4)
    last = [helper.make_node("Transpose", ["m"], ["y"], perm=[0, 3, 1, 2])]
    first = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1])]
    tensors = {"w": kernel.T.copy(), "b": bias, "rows": np.array([-1, 3]), "image": np.array([2, 9, 8, 4])}
    if op == "MatMul":
        nodes = [*first, helper.make_node(op, ["t", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["m"]), *last]
    elif op == "Gemm":
        nodes = [
            *first,
            helper.make_node("Reshape", ["t", "rows"], ["r"]),
            helper.make_node(op, ["r", "w", "b"], ["g"]),
            helper.make_node("Reshape", ["g", "image"], ["m"]),
            *last,
        ]
    elif op == "Einsum":
        nodes = [helper.make_node(op, ["x", "w"], ["p"], equation="nchw,cd->ndhw"),
                 helper.make_node("Add", ["p", "channels"], ["y"])]  # fmt: skip
        tensors["channels"] = bias.reshape(1, 4, 1, 1)
    else:  # the constant on the left
        tensors |= {"w": kernel, "flat": np.array([2, 3, 72]), "image": np.array([2, 4, 9, 8]),
                    "column": bias.reshape(4, 1)}  # fmt: skip
        nodes = [
            helper.make_node("Reshape", ["x", "flat"], ["r"]),
            helper.make_node("MatMul", ["w", "r"], ["p"]),
            helper.make_node("Add", ["p", "column"], ["m"]),
            helper.make_node("Reshape", ["m", "image"], ["y"]),
        ]
    return model(nodes, tensors, (2, 3, 9, 8)), module(kernel[:, :, None, None], bias)


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Einsum", "left"])
def test_a_product_of_matrices_stands_for_a_convolution(op, tmp_path):
    proto, source = matrices(op)
    clean(audited(saved(proto, tmp_path / "m.onnx"), source=source), 1)
    tensor = next(t for t in proto.graph.initializer if t.name == "w")
    wrong = numpy_helper.to_array(tensor).copy()
    wrong[1, 2] *= -1
    tensor.CopyFrom(numpy_helper.from_array(wrong, "w"))
    report = audited(saved(proto, tmp_path / "wrong.onnx"), source=source)
    assert report.first_divergence == report.nodes[0].name
    assert report.nodes[0].findings[0]["id"] == "kernel-sign"


@pytest.mark.parametrize("axis", [2, 3])
def test_a_rank_may_change(axis, tmp_path):
    kernel = weights(4, 3, 5)
    pads = [0, 2, 0, 2] if axis == 2 else [2, 0, 2, 0]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["u"]),
        conv("c", "u", "v", "w", pads=pads, strides=[1, 2] if axis == 2 else [2, 1]),
        helper.make_node("Squeeze", ["v", "axis"], ["y"]),
    ]
    tensors = {"w": np.expand_dims(kernel, axis), "axis": np.array([axis])}
    path = saved(model(nodes, tensors, (2, 3, 17)), tmp_path / "m.onnx")
    clean(audited(path, source=module(kernel, stride=2, padding=2)), 1)
    report = audited(path, source=module(kernel, stride=2, padding=1))
    assert report.first_divergence == "c"


def test_a_linear_layer_may_become_a_convolution(tmp_path):
    kernel = weights(4, 3)
    layer = nn.Linear(3, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel))

    class Moved(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense, self.last = layer, nn.Conv2d(4, 2, 3)

        def forward(self, x):
            return self.last(self.dense(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    source = Moved().eval()
    last = source.last.weight.detach().numpy()
    nodes = [conv("c", "x", "h", "w"), conv("d", "h", "y", "v", "b")]
    tensors = {"w": kernel[:, :, None, None], "v": last, "b": source.last.bias.detach().numpy()}
    path = saved(model(nodes, tensors, (2, 3, 9, 8)), tmp_path / "m.onnx")
    report = clean(audited(path, source=source), 2)
    assert [node.matched for node in report.nodes] == ["dense", "last"]


def test_a_source_that_takes_images_in_another_layout_is_given_them_so(tmp_path):
    kernel = weights(4, 3, 3, 5)

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = module(kernel)

        def forward(self, x):
            return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    path = saved(model([conv("c", "x", "y", "w")], {"w": kernel}, (2, 3, 9, 8)), tmp_path / "m.onnx")
    report = clean(audited(path, source=Last().eval()), 1)
    assert [node.matched for node in report.nodes] == ["conv"]


def test_a_node_that_runs_more_often_than_its_layer_is_still_that_layer(tmp_path):
    """The second node has no call to be compared with: its weights and settings are."""
    kernel = weights(3, 3, 3, 3)
    nodes = [conv(name, a, b, "w", pads=[1] * 4) for name, a, b in (("c", "x", "h"), ("d", "h", "y"))]
    for pads, first in (([1] * 4, None), ([1, 1, 2, 0], "d")):
        nodes[1] = conv("d", "h", "y", "w", pads=pads)
        path = saved(model(nodes, {"w": kernel}, (2, 3, 9, 8)), tmp_path / "m.onnx")
        report = audited(path, source=module(kernel, padding=1))
        assert [node.matched for node in report.nodes] == ["", ""]
        assert (report.nodes[0].verdict, report.first_divergence) == ("agree", first)


def test_nodes_that_share_a_layers_weights_are_that_layer_and_no_others(tmp_path):
    tensors = {"w": weights(3, 3, 3, 3), "v": weights(3, 3, 3, 3, seed=1)}
    nodes = [conv(*names, pads=[1] * 4) for names in (("c", "x", "h", "w"), ("d", "h", "g", "w"), ("e", "g", "y", "v"))]
    path = saved(model(nodes, tensors, (2, 3, 9, 8)), tmp_path / "m.onnx")
    report = audited(path, source=module(tensors["w"], padding=1))
    assert [node.matched for node in report.nodes] == ["", "", None]


def test_a_source_is_told_the_layout_of_each_input(tmp_path):
    nodes = [conv("c", "first", "g", "w"), helper.make_node("Transpose", ["last"], ["t"], perm=[0, 3, 1, 2]),
             conv("d", "t", "h", "w"), helper.make_node("Add", ["other", "h"], ["y"])]  # fmt: skip
    asked = []

    def ask(request):
        asked.append(request)
        return {"problem": "no"}

    feeds = {name: np.zeros((1, 3, 4, 4), np.float32) for name in ("first", "last", "other")}
    source = RemoteSource(ask, model(nodes, {"w": weights(4, 3, 3, 3)}).graph, tmp_path)
    assert source.run("zeros", feeds).problem == "no"
    assert asked[0]["layouts"] == {"first": "NCHW", "last": "NHWC", "other": None}


@pytest.mark.parametrize("first", [0, 1])
def test_a_crop_behind_a_transposed_node_is_the_layers_padding(first, tmp_path):
    kernel = weights(3, 4, 3, 3)
    layer = nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel))
    crop = {"starts": np.array([first] * 2), "ends": np.array([first - 2] * 2), "axes": np.array([2, 3])}
    nodes = [conv("c", "x", "h", "w", op="ConvTranspose", strides=[2, 2]),
             helper.make_node("Slice", ["h", *crop], ["y"])]  # fmt: skip
    report = audited(saved(model(nodes, {"w": kernel, **crop}, (2, 3, 5, 6)), tmp_path / "m.onnx"), source=layer.eval())
    assert report.first_divergence == (None if first == 1 else "c")


# -- faults that need the source ---


def folded(tmp_path, place, **how):
    """The folded ResNet with one normalisation folded in wrongly, its node and its source."""
    path, source, _ = exported.network("resnet")
    proto = onnx.load(path)
    node = faults.convs(proto)[place]
    convs = [m for m in source.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in source.modules() if isinstance(m, nn.BatchNorm2d)]
    kernel, norm = convs[place].weight.detach().numpy(), norms[place]
    gain, shift, mean, variance = (t.detach().numpy().astype(np.float64) for t in (
        norm.weight, norm.bias, norm.running_mean, norm.running_var))  # fmt: skip
    scale = gain / np.sqrt(variance + how.get("epsilon", norm.eps))
    bias = np.zeros(len(kernel))
    for _ in range(how.get("times", 1)):
        kernel, bias = kernel * scale.reshape(-1, 1, 1, 1), (bias - mean) * scale + shift
    faults.change(proto, node.input[1], lambda w: kernel.astype(np.float32))
    faults.change(proto, node.input[2], lambda b: bias.astype(np.float32))
    return saved(proto, tmp_path / "faulty.onnx"), node.name, source


@pytest.mark.parametrize("place", [0, 4, 11])
@pytest.mark.parametrize(
    ("how", "finding"),
    [({"epsilon": 1e-3}, "batch-norm-epsilon"), ({"times": 2}, "batch-norm-twice"), ({"times": 0}, "batch-norm-lost")],
)
def test_a_wrong_fold_is_named(tmp_path, place, how, finding):
    path, name, source = folded(tmp_path, place, **how)
    report = audited(path, source=source)
    assert report.first_divergence == name
    node = next(node for node in report.nodes if node.name == name)
    assert [(f["id"], bool(f["fix"])) for f in node.findings] == [(finding, True)]


def test_the_same_fold_done_rightly_agrees(tmp_path):
    path, name, source = folded(tmp_path, 4)
    report = clean(audited(path, source=source), 13)
    assert [node.findings for node in report.nodes if node.name == name] == [[]]


FAULTS = [
    ("resnet", 6, faults.stride_moved_to_pads),
    ("resnet", 3, faults.outputs_reversed),
    ("unet", 1, faults.bias_of_another),
    ("unet", 1, faults.channels_transposed),
    ("unet", 1, faults.pad_of_one_axis_moved),
    ("unet", 2, faults.dilation_dropped),
    ("mobilenet", 2, faults.groups_one),
    ("mobilenet", 4, faults.one_sign),
    ("wavenet", 4, faults.pads_on_the_other_side),
    ("wavenet", 2, faults.bias_lost),
    ("resnet-raw", 1, faults.epsilon_wrong),
    ("resnet-raw", 4, faults.folded_twice),
    ("resnet-raw", 2, faults.normalisation_lost),
    ("unet", 3, faults.crop_moved),
    ("unet", 1, faults.activation_lost),
]


@pytest.mark.parametrize(("name", "place", "fault"), FAULTS, ids=[faults.names(*fault) for fault in FAULTS])
def test_a_planted_fault_is_seen_and_its_node_named_first(tmp_path, name, place, fault):
    path, source, _ = exported.network(name)
    proto = onnx.load(path)
    node = faults.convs(proto)[place]
    fault(proto, node)
    report = audited(saved(proto, tmp_path / "faulty.onnx"), source=source)
    assert report.unexpected
    assert report.first_divergence == node.name, report.unexpected[:3]
    found = next(entry for entry in report.nodes if entry.name == node.name)
    assert all(finding.get("fix") for finding in found.findings)


class Hidden(nn.Module):
    """A convolution whose output never shows: behind a gain of zero, and in a branch that nothing reads."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = (
            nn.Conv2d(1, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Conv2d(6, 2, 1),
        )
        self.gain = nn.Parameter(torch.zeros(6, 1, 1))

    def forward(self, x):
        y = self.first(x).relu()
        return self.last(y + self.gain * self.second(y))


@functools.cache
def hidden():
    torch.manual_seed(0)
    source = Hidden().eval()
    return source, exports(source, torch.randn(2, 1, 12, 16)).SerializeToString()


@pytest.mark.parametrize(
    "fault", [faults.pad_moved, faults.one_sign, faults.bias_of_another, faults.channels_transposed]
)
def test_a_fault_that_the_outputs_hide_is_seen_as_well(tmp_path, fault):
    source, right = hidden()
    proto = onnx.ModelProto.FromString(right)
    clean(audited(saved(proto, tmp_path / "right.onnx"), source=source), 3)
    node = faults.convs(proto)[1]
    fault(proto, node)
    report = audited(saved(proto, tmp_path / "faulty.onnx"), source=source)
    assert report.first_divergence == node.name


def test_a_fault_behind_the_last_convolution_is_seen(tmp_path):
    source = nn.Sequential(module(weights(4, 3, 3, 5)), nn.Sigmoid())
    nodes = [conv("c", "x", "h", "w"), helper.make_node("Tanh", ["h"], ["y"])]
    path = saved(model(nodes, {"w": weights(4, 3, 3, 5)}, (2, 3, 9, 8)), tmp_path / "m.onnx")
    report = audited(path, source=source)
    assert report.first_divergence is None
    assert [(node, found) for node, found, _ in report.unexpected] == [("model", "output-differs")]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = module(weights(4, 3, 3, 3)), module(weights(4, 3, 3, 3, seed=1))

    def forward(self, x):
        return self.a(x), self.b(x)


@pytest.mark.parametrize(("outputs", "unexpected"), [(["q", "p"], []), (["p", "p"], ["output-differs"])])
def test_results_in_another_order_are_noted_and_one_that_is_there_twice_is_wrong(outputs, unexpected, tmp_path):
    nodes = [conv("a", "x", "p", "w"), conv("b", "x", "q", "v")]
    proto = model(nodes, {"w": weights(4, 3, 3, 3), "v": weights(4, 3, 3, 3, seed=1)}, (2, 3, 9, 8), output="p")
    copies = [helper.make_node("Identity", [name], [f"out{place}"]) for place, name in enumerate(outputs)]
    proto.graph.node.extend(copies)
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_tensor_value_info(n.output[0], 1, [2, 4, 7, 6]) for n in copies)
    report = audited(saved(proto, tmp_path / "m.onnx"), source=Two())
    assert [found for _, found, _ in report.unexpected] == unexpected
    permuted = [note["title"] for note in report.notes if note["id"] == "outputs-permuted"]
    assert permuted == [] if unexpected else "outputs 1, 0" in permuted[0]


# -- from end to end ---


def test_a_source_that_does_not_take_the_inputs_is_no_success(tmp_path):
    path = saved(model([conv("c", "x", "y", "w")], {"w": weights(4, 3, 3, 5)}, (2, 3, 9, 8)), tmp_path / "m.onnx")
    report = audited(path, source=nn.Sequential(nn.Flatten(), nn.Unflatten(1, (5, 7)), module(weights(4, 5, 3))))
    assert any("takes the graph's inputs" in text for _, _, text in report.unexpected)
    with pytest.raises(RequestError, match="is no layer or model"):
        convspec.verify(path, against=object())


def test_the_audits_process_asks_for_the_source():
    path, source, count = exported.network("unet")
    report = clean(convspec.verify(path, against=source, levels=["off"]), count)
    document = report.to_dict()
    assert document["against"].endswith("exported.UNet")
    assert [node["matched"] for node in document["nodes"]][:2] == ["first.0", "first.2"]


# -- the page ---

PAGE = Path(__file__).parents[3] / "docs/how-to/verify-an-onnx-export.md"


@pytest.mark.filterwarnings("ignore")  # PyTorch's exporter, about itself
def test_the_page_shows_what_comes_out(tmp_path, monkeypatch):
    """But for the errors, whose last digits differ from machine to machine."""
    text = PAGE.read_text("utf-8")
    (tmp_path / "mymodels.py").write_text(re.search(r"^```python\n(.*?)^```$", text, re.M | re.S)[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import mymodels

    mymodels.export("right.onnx")
    mymodels.export("wrong.onnx", epsilon=1e-3)
    sessions = re.findall(r"^```console\n\$ convspec ([^\n]*)\n(.*?)^```$", text, re.M | re.S)
    assert len(sessions) == 3
    for (command, shown), status in zip(sessions, (0, 1, 0), strict=True):
        done = CliRunner().invoke(app, command.split(), env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        assert plain(done.stdout) == plain(shown), done.stdout


def plain(text):
    return " ".join(re.sub(r"\d\.\d+(e-\d+)?", "#", text).split())

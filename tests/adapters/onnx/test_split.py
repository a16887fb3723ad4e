"""Grouped convolutions that an exporter split: each part is its part of the source's layer, and judged as that."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest

pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")
import onnx  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

from tests.adapters.onnx import faulty as faults  # noqa: E402
from tests.adapters.onnx.splitting import split  # noqa: E402
from tests.adapters.onnx.verifying import audited, saved  # noqa: E402

pytestmark = [pytest.mark.onnx, pytest.mark.slow]


class Net(nn.Module):
    """Grouped in several ways: with a normalisation that the exporter folds, transposed, depthwise, and not at all."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, (3, 3), stride=(1, 2), padding=(1, 0), groups=4)
        self.same = nn.Conv2d(12, 12, 3, padding=1, groups=4)
        self.norm = nn.BatchNorm2d(12)
        self.up = nn.ConvTranspose2d(12, 8, (2, 3), stride=2, groups=2)
        self.depthwise = nn.Conv2d(8, 8, (3, 5), groups=8, bias=False)
        self.head = nn.Conv2d(8, 6, 1)

    def forward(self, x):
        x = self.grouped(self.stem(x).relu()).relu()
        return self.head(self.depthwise(self.up(self.norm(self.same(x)).relu())))


LAYERS = ["stem", "grouped", "same", "up", "depthwise", "head"]
GROUPS = {"grouped": 4, "same": 4, "up": 2, "depthwise": 8}


@functools.cache
def network():
    torch.manual_seed(0)
    source = Net().eval()
    nn.init.uniform_(source.norm.running_var, 0.5, 2.0)
    nn.init.normal_(source.norm.running_mean)
    return source, exported(source, (2, 3, 9, 13)).SerializeToString()


def exported(source, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(source, (torch.randn(shape),), dynamo=True, verbose=False).model_proto


def graph(*layers, **how):
    """The exported graph with these layers split, the parts of the last one, and the module."""
    source, content = network()
    proto = onnx.ModelProto.FromString(content)
    nodes = dict(zip(LAYERS, faults.convs(proto), strict=True))
    parts = [split(proto, nodes[name], **how) for name in layers]
    return proto, parts[-1], source


def right(report, expected):
    assert not report.unexpected, report.unexpected
    assert [node.matched for node in report.nodes] == expected
    assert (report.missing, report.first_divergence) == ([], None)
    return report


@pytest.mark.parametrize("bias", ["inside", "apart", "behind"])
@pytest.mark.parametrize("cut", ["Split", "Slice"])
def test_all_that_is_split_is_recognised(tmp_path, bias, cut):
    proto, _, source = graph(*GROUPS, bias=bias, cut=cut)
    report = right(audited(saved(proto, tmp_path / "m.onnx"), source=source, levels=["off", "all"]),
                   [name for name in LAYERS for _ in range(GROUPS.get(name, 1))])  # fmt: skip
    told = [note["title"] for node in report.nodes for note in node.notes if note["id"] == "part-of-layer"]
    assert len(told) == 18
    assert told[1] == "this node is part 2 of 4 of 'grouped' in the source"


def test_a_part_may_hold_several_groups(tmp_path):
    proto, parts, source = graph("grouped", groups=2)
    right(audited(saved(proto, tmp_path / "m.onnx"), source=source),
          ["stem", "grouped", "grouped", *LAYERS[2:]])  # fmt: skip
    faults.outputs_reversed(proto, parts[1])
    report = audited(saved(proto, tmp_path / "wrong.onnx"), source=source)
    assert report.first_divergence == parts[1].name


@pytest.mark.parametrize(("layer", "count"), [("stem", 2), ("head", 3)])
def test_a_layer_without_groups_may_be_split_by_its_output_channels(tmp_path, layer, count):
    proto, parts, source = graph(layer, grouped=False, parts=count)
    expected = [name for name in LAYERS for _ in range(count if name == layer else 1)]
    right(audited(saved(proto, tmp_path / "m.onnx"), source=source), expected)
    faults.flipped(proto, parts[1]) if layer == "stem" else faults.one_sign(proto, parts[1])
    report = audited(saved(proto, tmp_path / "wrong.onnx"), source=source)
    assert report.first_divergence == parts[1].name


def test_an_activation_may_be_split_as_well(tmp_path):
    proto, parts, source = graph("grouped")
    concat = next(node for node in proto.graph.node if node.op_type == "Concat")
    for place, part in enumerate(parts):
        concat.input[place] = f"relu{place}"
        at = list(proto.graph.node).index(concat)
        proto.graph.node.insert(at, helper.make_node("Relu", [part.output[0]], [f"relu{place}"]))
    right(audited(saved(proto, tmp_path / "m.onnx"), source=source), ["stem", *["grouped"] * 4, *LAYERS[2:]])


def bias_of_part_lost(proto, node):
    faults.change(proto, node.input[2], lambda b: b * 0)


def stride_changed(proto, node):
    faults.put(node, strides=[2, 2])


def stride_left_to_a_slice(proto, node):
    """The shape stays, by a Slice behind the node that takes the wrong columns."""
    faults.put(node, strides=[1, 1], pads=[1, 1, 1, 1])
    bounds = {"starts": 0, "ends": 12, "axes": 3, "steps": 2}
    for name, value in bounds.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array([value]), f"fault/{name}"))
    target, node.output[0] = node.output[0], f"{node.output[0]}/full"
    cut = helper.make_node("Slice", [node.output[0], *(f"fault/{name}" for name in bounds)], [target])
    proto.graph.node.insert(list(proto.graph.node).index(node) + 1, cut)


FAULTS = [
    ("grouped", faults.spatially_transposed, "kernel-spatial-transposed"),
    ("grouped", faults.flipped, "kernel-flipped"),
    ("grouped", faults.one_sign, "kernel-sign"),
    ("grouped", faults.half_weights, "kernel-float16"),
    ("grouped", bias_of_part_lost, "bias-lost"),
    ("grouped", stride_changed, "stride-differs"),
    ("same", faults.channels_transposed, "kernel-channels-transposed"),
    ("same", faults.outputs_reversed, "kernel-channels-reversed"),
    ("grouped", stride_left_to_a_slice, "stride-differs"),
    ("up", faults.one_weight_zero, "kernel-differs"),
    ("up", faults.flipped, "kernel-flipped"),
    ("depthwise", faults.one_sign, "kernel-sign"),
]


@pytest.mark.parametrize(("layer", "fault", "finding"), FAULTS, ids=[f"{a}-{b.__name__}" for a, b, _ in FAULTS])
@pytest.mark.parametrize("place", [0, 1])
def test_a_fault_in_one_part_is_named_there(tmp_path, layer, fault, finding, place):
    proto, parts, source = graph(layer)
    fault(proto, parts[place])
    report = audited(saved(proto, tmp_path / "m.onnx"), source=source)
    assert report.first_divergence == parts[place].name, report.unexpected
    node = next(node for node in report.nodes if node.name == parts[place].name)
    assert finding in [found["id"] for found in node.findings]
    assert (node.matched, report.missing) == (layer, [])
    others = {part.name for part in parts} - {node.name}
    assert not [found for found in report.unexpected if found[0] in others]


@pytest.mark.parametrize(("layer", "a", "b"), [("grouped", 1, 2), ("up", 0, 1), ("depthwise", 2, 5)])
def test_parts_that_change_places_at_the_concat_are_named(tmp_path, layer, a, b):
    proto, parts, source = graph(layer)
    concat = next(node for node in proto.graph.node if node.op_type == "Concat")
    concat.input[a], concat.input[b] = concat.input[b], concat.input[a]
    report = audited(saved(proto, tmp_path / "m.onnx"), source=source)
    assert report.first_divergence == parts[a].name
    found = [(node, name) for node, name, _ in report.unexpected]
    assert found == [(parts[place].name, "part-misplaced") for place in (a, b)]
    for place, other in ((a, b), (b, a)):
        (title,) = [f["title"] for n in report.nodes if n.name == parts[place].name for f in n.findings]
        assert title == f"{concat.name!r} has part {place + 1} of the source's layer at position {other + 1}"


@pytest.mark.parametrize("layer", ["grouped", "up"])
def test_parts_that_read_one_anothers_channels_are_named(tmp_path, layer):
    proto, parts, source = graph(layer)
    node = next(node for node in proto.graph.node if node.op_type == "Split")
    node.output[0], node.output[1] = node.output[1], node.output[0]
    report = audited(saved(proto, tmp_path / "m.onnx"), source=source)
    assert report.first_divergence == parts[0].name
    assert [(node, name) for node, name, _ in report.unexpected] == [(part.name, "input-differs") for part in parts[:2]]


def test_a_wrong_fold_into_all_parts_is_named_at_each(tmp_path):
    proto, parts, source = graph("same")
    for part in parts:
        faults.change(proto, part.input[1], lambda w: w[..., ::-1])
    report = audited(saved(proto, tmp_path / "m.onnx"), source=source)
    assert report.first_divergence == parts[0].name
    assert {node for node, _, _ in report.unexpected} == {part.name for part in parts}
    assert {node.matched for node in report.nodes if "part" in node.name} == {"same"}


class Twice(nn.Module):
    """One grouped layer, called twice."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Conv2d(4, 4, 3, padding=1, groups=2)

    def forward(self, x):
        return self.shared(self.shared(x).relu())


def test_a_layer_that_is_called_twice_is_split_twice(tmp_path):
    torch.manual_seed(2)
    source = Twice().eval()
    proto = exported(source, (1, 4, 7, 9))
    for node in faults.convs(proto):
        split(proto, node)
    right(audited(saved(proto, tmp_path / "m.onnx"), source=source), ["shared"] * 4)


class Branches(nn.Module):
    """What looks split in the graph is so in the source: its layers stand side by side."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.whole = nn.Conv2d(12, 12, 3, padding=1, groups=2)
        self.c, self.d = nn.Conv2d(12, 6, 3), nn.Conv2d(12, 6, 3)

    def forward(self, x):
        left, right = x.split(4, 1)
        x = self.whole(torch.cat([self.a(left), self.b(right)], 1).relu())
        return torch.cat([self.c(x), self.d(x)], 1)


@pytest.mark.parametrize("fault", [None, faults.one_sign, faults.spatially_transposed])
def test_layers_side_by_side_stay_layers(tmp_path, fault):
    torch.manual_seed(1)
    source = Branches().eval()
    proto = exported(source, (1, 8, 7, 9))
    names = [node.name for node in faults.convs(proto)]
    if fault is None:
        right(audited(saved(proto, tmp_path / "m.onnx"), source=source), ["a", "b", "whole", "c", "d"])
        return
    fault(proto, faults.convs(proto)[1])
    report = audited(saved(proto, tmp_path / "m.onnx"), source=source)
    assert [node.matched for node in report.nodes] == ["a", "b", "whole", "c", "d"]
    assert report.first_divergence == names[1]

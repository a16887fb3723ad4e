"""Graphs against PyTorch modules that call convolutions as functions: those are matched and judged like layers."""

from __future__ import annotations

import functools
import warnings

import pytest

pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")
import onnx  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from tests.adapters.onnx import faulty as faults  # noqa: E402
from tests.adapters.onnx.verifying import audited, saved  # noqa: E402
from tests.adapters.torch.standardised import Standardised  # noqa: E402

pytestmark = [pytest.mark.onnx, pytest.mark.slow]


class Block(nn.Module):
    """Functions and a layer."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 2, 3, 5) / 4)
        self.u = nn.Parameter(torch.randn(4, 4, 3, 3) / 4)
        self.b = nn.Parameter(torch.randn(4))
        self.layer = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = F.conv2d(x, self.w, padding="same", groups=2).relu()
        y = F.conv2d(y, self.w, self.b, stride=(1, 2), padding=(1, 2), groups=2).relu()
        return self.layer(torch.conv_transpose2d(y, self.u, None, (2, 2), (1, 1), (1, 1)))


class Net(nn.Module):
    """A layer that computes in its own way, a block of functions called twice, and a function at the top."""

    def __init__(self):
        super().__init__()
        self.stem, self.block = Standardised(3, 4, 3, stride=(2, 1)), Block()
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("blur", torch.rand(4, 1, 2, 3))

    def forward(self, x):
        return self.norm(F.conv2d(self.block(self.block(self.stem(x))), self.blur, groups=4))


MATCHED = ["stem", *["block.conv2d_0", "block.conv2d_1", "block.conv_transpose2d_0", "block.layer"] * 2, "conv2d_0"]


@functools.cache
def network():
    torch.manual_seed(0)
    source = Net().eval()
    nn.init.uniform_(source.norm.running_var, 0.5, 2.0)
    nn.init.normal_(source.norm.running_mean)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(source, (torch.randn(2, 3, 9, 14),), dynamo=True, verbose=False)
    return source, program.model_proto.SerializeToString()


def test_functions_are_matched_like_layers(tmp_path):
    source, content = network()
    report = audited(saved(onnx.ModelProto.FromString(content), tmp_path / "m.onnx"), source=source)
    assert not report.unexpected, report.unexpected
    assert [node.matched for node in report.nodes] == MATCHED
    assert (report.missing, [node.verdict for node in report.nodes]) == ([], ["agree"] * len(MATCHED))


FAULTS = [
    (0, faults.flipped, "kernel-flipped"),
    (1, faults.one_sign, "kernel-sign"),
    (2, faults.pad_moved, "padding-differs"),
    (2, faults.outputs_reversed, "kernel-channels-reversed"),
    (3, faults.channels_transposed, "kernel-channels-transposed"),
    (9, faults.half_weights, "kernel-float16"),
]


@pytest.mark.parametrize(("place", "fault", "finding"), FAULTS, ids=[f"{a}-{b.__name__}" for a, b, _ in FAULTS])
def test_a_planted_fault_is_named(tmp_path, place, fault, finding):
    source, content = network()
    proto = onnx.ModelProto.FromString(content)
    node = faults.convs(proto)[place]
    own = f"{node.input[1]}/own"  # others share the tensor
    tensor = next(t for t in proto.graph.initializer if t.name == node.input[1])
    proto.graph.initializer.add().CopyFrom(tensor)
    proto.graph.initializer[-1].name = node.input[1] = own
    fault(proto, node)
    report = audited(saved(proto, tmp_path / "m.onnx"), source=source)
    assert report.first_divergence == node.name, report.unexpected[:3]
    found = next(entry for entry in report.nodes if entry.name == node.name)
    assert (found.matched, found.findings[0]["id"]) == (MATCHED[place], finding)


class Dynamic(nn.Module):
    """Weights that depend on the input: each run has others."""

    def __init__(self):
        super().__init__()
        self.base = nn.Parameter(torch.randn(4, 3, 3, 5))

    def forward(self, x):
        return F.conv2d(x, self.base * x.mean(), stride=2, padding=1)


@pytest.mark.parametrize("fault", [None, faults.pad_moved])
def test_weights_that_the_input_decides(tmp_path, fault):
    torch.manual_seed(1)
    source = Dynamic().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch")
        proto = torch.onnx.export(source, (torch.randn(2, 3, 9, 14),), dynamo=True, verbose=False,
                                  dynamic_shapes=({0: batch},)).model_proto  # fmt: skip
    (node,) = faults.convs(proto)
    if fault:
        fault(proto, node)
    report = audited(saved(proto, tmp_path / "m.onnx"), source=source)
    assert (report.nodes[0].matched, report.missing) == ("conv2d_0", [])
    assert report.first_divergence == (node.name if fault else None), report.unexpected
    assert len({run["inputs"] for run in report.nodes[0].runs}) == 2
    assert bool(report.unexpected) == bool(fault)

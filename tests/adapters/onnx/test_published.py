"""Whole networks with every block that was published, exported by PyTorch: each convolution accounted for, all agree.

The inputs are smaller than the papers', and most channels fewer; ``scripts/exports.py`` runs them as they are.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("torch")
from torch import nn

import convspec
from convspec.corpora import architectures
from tests.adapters.onnx.verifying import audited
from tests.networks import published

pytestmark = [pytest.mark.onnx, pytest.mark.slow]

KINDS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
SMALL = {  # the divisor of the channels, and the input
    "ResNet-50": (8, (1, 3, 64, 80)),
    "MobileNetV3-Large": (1, (1, 3, 64, 80)),
    "ConvNeXt-T": (4, (1, 3, 64, 96)),
    "U-Net": (16, (1, 1, 188, 204)),
    "WaveNet": (4, (1, 256, 700)),
}
PARAMETERS = {"ResNet-50": 25_557_032, "MobileNetV3-Large": 5_483_032, "ConvNeXt-T": 28_589_128}
DEAD = {"WaveNet": ["layers.29.residual"]}  # nothing reads what it gives: exporters leave it out
_FOLDER = tempfile.TemporaryDirectory(prefix="convspec-published-")  # as long as the process


@functools.cache
def exported(name: str) -> tuple[Path, nn.Module]:
    """The small form of a network as ONNX, and the module; exported once."""
    width, shape = SMALL[name]
    model = published.NETWORKS[name][0](width)
    path = Path(_FOLDER.name) / f"{name}.onnx"
    published.export(model, shape, path)
    return path, model


def paths(model):
    return [path for path, module in model.named_modules() if isinstance(module, KINDS)]


@pytest.mark.parametrize("name", published.NETWORKS)
def test_every_convolution_of_the_graph_agrees(name):
    path, model = exported(name)
    report = audited(path, levels=["off", "all"])
    count = published.NETWORKS[name][2]
    assert len(paths(model)) == count
    assert report.summary["agree"] == report.summary["convs"] == count - len(DEAD.get(name, ()))
    assert not report.unexpected
    assert all(0 < node.worst_q <= node.bound for node in report.nodes)


@pytest.mark.parametrize("name", published.NETWORKS)
def test_every_convolution_of_the_module_is_in_the_graph(name):
    path, model = exported(name)
    report = audited(path, source=model)
    dead = DEAD.get(name, [])
    assert report.first_divergence is None
    assert sorted(node.matched for node in report.nodes) == sorted(set(paths(model)) - set(dead))
    assert report.missing == dead
    assert [kind for _, kind, _ in report.unexpected] == ["missing-layer"] * len(dead)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_networks_have_the_published_number_of_parameters(name):
    model = published.NETWORKS[name][0]()
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def shape_of(spec):
    """What a convolution is, but for its bias and for pads that may be a layer of their own."""
    fields = ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups", "transposed")
    return tuple(getattr(spec, field) for field in fields)


@pytest.mark.parametrize(
    ("name", "papers"),
    [("ResNet-50", architectures.resnet50), ("U-Net", architectures.unet), ("WaveNet", architectures.wavenet)],
)
def test_the_networks_are_those_of_the_corpus(name, papers):
    model = published.NETWORKS[name][0]()
    found = sorted(shape_of(conv.reading.spec) for conv in convspec.convs(model))
    expected = sorted(shape_of(case.spec) for case in papers())
    assert found == expected
    assert len(found) == published.NETWORKS[name][2]

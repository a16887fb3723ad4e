"""Faults planted into graphs that PyTorch exported: each must be seen, and the right node named first."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")
import onnx  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

from tests.adapters.onnx import exported, faulty  # noqa: E402
from tests.adapters.onnx.verifying import audited, saved  # noqa: E402

pytestmark = [pytest.mark.onnx, pytest.mark.slow]


@pytest.mark.parametrize("name", exported.NETWORKS)
def test_every_convolution_of_an_exported_network_is_accounted_for_and_agrees(name):
    path, _, count = exported.network(name)
    report = audited(path, levels=["off", "all", "evaluator"])
    assert report.summary == {"convs": count, "agree": count, "disagree": 0,
                              "unsupported": 0, "error": 0, "crash": 0, "timeout": 0}  # fmt: skip
    assert not report.unexpected
    assert all(0 < node.worst_q <= node.bound for node in report.nodes)


def test_a_folded_export_is_the_unfolded_one():
    folded, raw = exported.network("resnet")[0], exported.network("resnet-raw")[0]
    for ours, theirs in ((folded, raw), (raw, folded)):
        report = audited(ours, against=str(theirs))
        assert not report.unexpected
        assert None not in [node.matched for node in report.nodes]


# -- faults: (network, place of the convolution) and what is done to it ---


FAULTS = [
    ("resnet", 0, faulty.pad_moved),
    ("mobilenet", 2, faulty.pad_moved),
    ("unet", 1, faulty.pad_of_one_axis_moved),
    ("unet", 2, faulty.dilation_dropped),
    ("unet", 1, faulty.dilation_added),
    ("resnet", 6, faulty.stride_moved_to_pads),
    ("resnet", 0, faulty.auto_pad_swapped),
    ("resnet", 2, faulty.spatially_transposed),
    ("unet", 0, faulty.flipped),
    ("unet", 1, faulty.channels_transposed),
    ("resnet", 3, faulty.outputs_reversed),
    ("resnet", 12, faulty.one_sign),
    ("mobilenet", 4, faulty.one_sign),
    ("unet", 5, faulty.one_weight_zero),
    ("wavenet", 3, faulty.one_weight_nan),
    ("unet", 4, faulty.half_weights),
    ("unet", 1, faulty.bias_of_another),
    ("wavenet", 2, faulty.bias_lost),
    ("mobilenet", 2, faulty.groups_one),
    ("mobilenet", 2, faulty.group_does_not_divide),
    ("resnet-raw", 1, faulty.epsilon_wrong),
    ("resnet-raw", 5, faulty.epsilon_wrong),
    ("resnet-raw", 1, faulty.statistics_of_another),
    ("resnet-raw", 4, faulty.folded_twice),
    ("resnet-raw", 2, faulty.normalisation_lost),
    ("unet", 3, faulty.crop_moved),
    ("unet", 1, faulty.activation_lost),
    ("convnext", 1, faulty.one_sign),
    ("wavenet", 9, faulty.one_sign),
]


@pytest.mark.parametrize(("network", "place", "fault"), FAULTS, ids=[faulty.names(*fault) for fault in FAULTS])
def test_a_planted_fault_is_seen_and_its_node_named_first(tmp_path, network, place, fault):
    model = onnx.load(exported.network(network)[0])
    node = faulty.convs(model)[place]
    fault(model, node)
    report = audited(saved(model, tmp_path / "faulty.onnx"), against=str(exported.network(network)[0]))
    assert report.unexpected
    assert report.first_divergence == node.name, report.unexpected[:3]


@pytest.mark.parametrize("hiding", ["zero gain", "dead branch"])
def test_a_fault_that_the_outputs_hide_is_seen_as_well(tmp_path, hiding):
    source, model = (onnx.load(exported.network("unet")[0]) for _ in range(2))
    for proto in (source, model):
        node = faulty.convs(proto)[1]
        place = list(proto.graph.node).index(node)
        if hiding == "zero gain":
            target = node.output[0]
            node.output[0] = "seen"
            proto.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "gain"))
            proto.graph.node.insert(place + 1, helper.make_node("Mul", ["seen", "gain"], [target], "gain"))
        else:
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            copy.name, copy.output[0] = "dead", "never_read"
            proto.graph.node.insert(place, copy)
    guilty = next(
        n for n in faulty.convs(model) if n.name == ("dead" if hiding == "dead branch" else faulty.convs(model)[1].name)
    )
    faulty.put(guilty, pads=[2, 0, 0, 2])
    saved(source, tmp_path / "source.onnx")
    report = audited(saved(model, tmp_path / "faulty.onnx"), against=str(tmp_path / "source.onnx"))
    assert report.first_divergence == guilty.name


def test_nothing_is_seen_where_nothing_was_planted():
    for network in (*exported.NETWORKS, "resnet-raw"):
        report = audited(exported.network(network)[0], against=str(exported.network(network)[0]))
        assert (report.first_divergence, report.unexpected) == (None, [])

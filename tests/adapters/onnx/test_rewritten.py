"""Graphs that optimisers rewrote, against their source: what they moved is explained, what they broke is named."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")
import onnx  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

from tests.adapters.onnx.verifying import audited, conv, model, saved, weights  # noqa: E402

pytestmark = [pytest.mark.onnx, pytest.mark.slow]
SHAPE = (2, 3, 12, 13)


def right(report):
    assert not report.unexpected, report.unexpected
    assert {node.verdict for node in report.nodes} == {"agree"}
    return {node.name: [note["title"] for note in node.notes if note["id"] == "factor-moved"] for node in report.nodes}


def scaled(tensor, *factor):
    return (tensor * np.asarray(factor, np.float32).reshape(-1, *(1,) * (tensor.ndim - 1))).astype(np.float32)


def both(tmp_path, nodes, tensors, source_nodes, source_tensors):
    """The audit of one chain against another."""
    one = saved(model(nodes, tensors, SHAPE), tmp_path / "graph.onnx")
    return audited(one, against=str(saved(model(source_nodes, source_tensors, SHAPE), tmp_path / "source.onnx")))


# -- factors between two layers ----------------------------------------------------------------------------------------

CHAIN = [conv("a", "x", "h", "w", "b"), helper.make_node("Relu", ["h"], ["r"]), conv("c", "r", "y", "v", "d")]
TENSORS = {"w": weights(6, 3, 3, 3), "b": weights(6), "v": weights(4, 6, 3, 3), "d": weights(4)}
MULTIPLIED = [*CHAIN[:2], helper.make_node("Mul", ["r", "s"], ["t"]), conv("c", "t", "y", "v", "d")]
HALF = TENSORS | {"v": TENSORS["v"] * np.float32(0.5)}
EACH = np.float32([0.5, 2, 1, 3, 0.25, 1.5])


def test_a_factor_that_moved_into_the_next_kernel(tmp_path):
    notes = right(both(tmp_path, CHAIN, HALF, MULTIPLIED, TENSORS | {"s": np.float32(0.5)}))
    assert notes == {"a": [], "c": ["factor 0.5 moved into the kernel"]}


def test_a_factor_that_moved_out_of_the_next_kernel(tmp_path):
    notes = right(both(tmp_path, MULTIPLIED, TENSORS | {"s": np.float32(0.5)}, CHAIN, HALF))
    assert notes == {"a": [], "c": ["factor 2 moved into the kernel"]}


def test_a_factor_that_moved_into_the_kernel_before(tmp_path):
    """Through a ReLU, which a positive factor passes."""
    halved = TENSORS | {"w": TENSORS["w"] * np.float32(0.5), "b": TENSORS["b"] * np.float32(0.5)}
    notes = right(both(tmp_path, CHAIN, halved, MULTIPLIED, TENSORS | {"s": np.float32(0.5)}))
    assert notes["c"] == []
    assert notes["a"] == ["factor 0.5 of the output moved into the kernel; the results agree"]


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_factors_by_channel_that_moved_from_one_kernel_to_the_next(groups, tmp_path):
    """As quantisers do to equalise the channels of two layers."""
    nodes = [*CHAIN[:2], conv("c", "r", "y", "v", "d", group=groups)]
    tensors = TENSORS | {"v": weights(6, 6 // groups, 3, 3), "d": weights(6)}
    columns = np.repeat((1 / EACH).reshape(groups, 1, -1, 1, 1), 6 // groups, axis=1).reshape(tensors["v"].shape[:2])
    moved = tensors | {"w": scaled(tensors["w"], *EACH), "b": tensors["b"] * EACH,
                       "v": (tensors["v"] * columns[:, :, None, None]).astype(np.float32)}  # fmt: skip
    notes = right(both(tmp_path, nodes, moved, nodes, tensors))
    assert [len(words) for words in notes.values()] == [1, 1]


@pytest.mark.parametrize("folded", [0, 1], ids=["in the graph", "in the source"])
def test_a_normalisation_before_a_layer_that_was_folded_into_it(folded, tmp_path):
    norm = {name: np.abs(weights(6, seed=seed)) + np.float32(0.5) for seed, name in enumerate(("g", "s", "m", "n"))}
    apart = [*CHAIN[:2], helper.make_node("BatchNormalization", ["r", "g", "s", "m", "n"], ["t"]),
             conv("c", "t", "y", "v", "d")]  # fmt: skip
    gain = norm["g"] / np.sqrt(norm["n"] + 1e-5)
    shift = norm["s"] - norm["m"] * gain
    one = TENSORS | {
        "v": (TENSORS["v"] * gain[None, :, None, None]).astype(np.float32),
        "d": (TENSORS["d"] + (TENSORS["v"].sum((2, 3)) * shift).sum(1)).astype(np.float32),
    }
    pairs = [(CHAIN, one), (apart, TENSORS | norm)]
    (nodes, tensors), (source, own) = pairs[:: -1 if folded else 1]
    notes = right(both(tmp_path, nodes, tensors, source, own))
    assert "by channel" in notes["c"][0]


WRONG = {  # the tensors of the graph, and the node and finding that come first
    "not undone": ({"w": scaled(TENSORS["w"], *EACH), "b": TENSORS["b"] * EACH}, "a", "kernel-scaled"),
    "undone in the wrong order": ({"w": scaled(TENSORS["w"], *EACH), "b": TENSORS["b"] * EACH,
                                   "v": (TENSORS["v"] / EACH[::-1, None, None]).astype(np.float32)},
                                  "a", "kernel-scaled"),
    "negative": ({"w": -TENSORS["w"], "b": -TENSORS["b"], "v": -TENSORS["v"]}, "a", "kernel-scaled"),
    "kernel only": ({"w": TENSORS["w"] * np.float32(2)}, "a", "kernel-differs"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_factor_that_nothing_makes_up_for_is_named(name, tmp_path):
    tensors, node, finding = WRONG[name]
    report = both(tmp_path, CHAIN, TENSORS | tensors, CHAIN, TENSORS)
    assert (report.first_divergence, report.unexpected[0][1]) == (node, finding), report.unexpected


def test_a_wrong_weight_beside_factors_is_seen(tmp_path):
    tensors = {name: array.copy() for name, array in HALF.items()}
    tensors["v"][1, 2, 0, 1] *= 1.01
    report = both(tmp_path, CHAIN, tensors, MULTIPLIED, TENSORS | {"s": np.float32(0.5)})
    assert report.first_divergence == "c"


# -- kernels that the source computes ----------------------------------------------------------------------------------


class Standardised(nn.Conv2d):
    """As in NFNet: each filter has mean 0 and variance 1, times a gain."""

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        gain = torch.linspace(0.2, 0.6, self.out_channels)
        flat = F.batch_norm(flat, None, None, weight=gain, training=True, momentum=0.0, eps=1e-6)
        return F.conv2d(
            x, flat.reshape_as(self.weight), self.bias, self.stride, self.padding, self.dilation, self.groups
        )


def network():
    torch.manual_seed(0)
    layers = [Standardised(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Standardised(8, 8, 3, groups=2),
              nn.ReLU(), nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.Conv2d(6, 4, 1)]  # fmt: skip
    net = nn.Sequential(*layers).eval()
    nn.init.uniform_(net[1].running_var, 0.5, 2.0)
    nn.init.normal_(net[1].running_mean)
    return net


@functools.cache
def exported(*, optimize):
    net = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(net, (torch.randn(SHAPE),), dynamo=True, verbose=False, optimize=optimize)
    return net, program.model_proto


def by_onnxscript(proto):
    from onnxscript import optimizer

    return optimizer.optimize(proto)


def by_onnx_runtime(level):
    def rewrite(proto, tmp_path):
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        options.optimized_model_filepath = str(tmp_path / "rewritten.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(tmp_path / "rewritten.onnx")

    return rewrite


REWRITES = {
    "exported": lambda proto, _: proto,
    "onnxscript": lambda proto, _: by_onnxscript(proto),
    "basic": by_onnx_runtime("BASIC"),
    "extended": by_onnx_runtime("EXTENDED"),
}


@pytest.mark.parametrize("name", REWRITES)
def test_a_standardised_kernel_is_folded_by_every_optimiser(name, tmp_path):
    net, proto = exported(optimize=False)
    path = saved(REWRITES[name](proto, tmp_path), tmp_path / "graph.onnx")
    right(audited(path, source=net))
    right(audited(path, against=str(saved(proto, tmp_path / "raw.onnx"))))


def test_a_wrong_weight_of_a_standardised_kernel_is_seen(tmp_path):
    net, proto = exported(optimize=True)
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    name = next(node.input[1] for node in proto.graph.node if node.op_type == "Conv")
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array[3, 1, 1, 2] += 1e-4 * np.abs(array).max()
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    report = audited(saved(proto, tmp_path / "m.onnx"), source=net)
    assert report.unexpected[0][1] == "kernel-differs"


# -- crops and pads after a transposed layer ---------------------------------------------------------------------------


def up(tmp_path, *nodes, pads=(0, 1, 1, 0), bias="b", tensors=None):
    """A transposed layer with pads in the source; its graph has none, and crops with ``nodes``."""
    own = {"w": weights(3, 4, 3, 3), "b": weights(4), **(tensors or {})}
    source = [conv("up", "x", "u", "w", "b", op="ConvTranspose", strides=[2, 2], pads=list(pads)),
              helper.make_node("Slice", ["u", "one", "far", "axes"], ["y"])]  # fmt: skip
    cut = {"one": np.int64([1, 1]), "far": np.int64([-1, -2]), "axes": np.int64([2, 3])}
    inputs = ["x", "w", bias] if bias else ["x", "w"]
    first = helper.make_node("ConvTranspose", inputs, ["t"], "up", strides=[2, 2])
    return both(tmp_path, [first, *nodes], own | cut, source, own | cut)


CUT = {"start": np.int64([0, 1]), "end": np.int64([-1, 1 << 40])}
CROP = helper.make_node("Slice", ["t", "start", "end", "axes"], ["u"])
AFTER = helper.make_node("Slice", ["u", "one", "far", "axes"], ["y"])


def test_a_layers_own_crop_and_a_crop_after_it(tmp_path):
    right(up(tmp_path, CROP, AFTER, tensors=CUT))


def test_a_bias_after_the_crop(tmp_path):
    add = helper.make_node("Add", ["u", "column"], ["v"])
    after = helper.make_node("Slice", ["v", "one", "far", "axes"], ["y"])
    right(up(tmp_path, CROP, add, after, bias="", tensors=CUT | {"column": weights(4).reshape(4, 1, 1)}))


def test_sizes_that_are_computed_from_a_shape(tmp_path):
    """As tf2onnx writes 'same': half of what is too much goes, of a size that only the inference of shapes knows."""
    nodes = [helper.make_node("Shape", ["t"], ["shape"]), helper.make_node("Gather", ["shape", "axes"], ["sizes"]),
             helper.make_node("Split", ["sizes"], ["rows", "columns"], num_outputs=2),
             helper.make_node("Sub", ["rows", "unit"], ["fewer"]), helper.make_node("Max", ["fewer", "none"], ["last"]),
             helper.make_node("Concat", ["last", "columns"], ["end"], axis=0), CROP, AFTER]  # fmt: skip
    right(up(tmp_path, *nodes, tensors={"start": CUT["start"], "unit": np.int64([1]), "none": np.int64([0])}))


def test_zeros_after_a_transposed_layer_are_its_output_padding(tmp_path):
    own = {"w": weights(3, 4, 2, 2), "b": weights(4), "pads": np.int64([0, 0, 0, 0, 0, 0, 1, 1]),
           "column": weights(4).reshape(4, 1, 1)}  # fmt: skip
    source = [conv("up", "x", "y", "w", "b", op="ConvTranspose", strides=[3, 3], output_padding=[1, 1])]
    nodes = [conv("up", "x", "t", "w", op="ConvTranspose", strides=[3, 3]),
             helper.make_node("Pad", ["t", "pads"], ["u"]),
             helper.make_node("Add", ["u", "column"], ["y"])]  # fmt: skip
    right(both(tmp_path, nodes, own, source, own))
    own["pads"] = np.int64([0, 0, 1, 0, 0, 0, 0, 1])
    assert both(tmp_path, nodes, own, source, own).first_divergence == "up"


@pytest.mark.parametrize("start", [[1, 0], [1, 1]])
def test_a_wrong_crop_is_seen(start, tmp_path):
    report = up(tmp_path, CROP, AFTER, tensors=CUT | {"start": np.int64(start)})
    assert report.first_divergence == "up"

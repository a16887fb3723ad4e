"""Models read in two parts, message and weights: together what protobuf makes of the file, and no safer or freer."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from convspec_onnx.loading import inline, load_model, load_proto
from onnx import TensorProto, helper, numpy_helper

from convspec.errors import RequestError
from tests.adapters.onnx.verifying import audited, conv, model, saved, weights

pytestmark = pytest.mark.onnx
LARGE = (8, 3, 32, 32)


def net(dtype=np.float32, **more):
    tensors = {"w": weights(*LARGE).astype(dtype), "b": weights(8).astype(dtype)}
    return model([conv("c", "x", "y", "w", "b")], tensors, (1, 3, 40, 41), **more)


def part(path):
    """The model in one part, as it was read in one or in two; None where it is refused."""
    try:
        return inline(load_proto(path))
    except RequestError:
        return None


def halves(path):
    try:
        return load_model(path).attach()
    except RequestError:
        return None


def same(a, b):
    """Equal messages, but for a tensor's remark that its numbers are where they always are."""
    for tensor in [*a.graph.initializer, *b.graph.initializer] if a and b else ():
        tensor.ClearField("data_location")
    return a == b


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_only_the_large_weights_stand_beside_the_message(tmp_path, dtype):
    path = saved(net(dtype), tmp_path / "m.onnx")
    found = load_model(path)
    assert list(found.weights) == ["w"] == list(found.detached())
    np.testing.assert_array_equal(found.weights["w"], weights(*LARGE).astype(dtype))
    assert found.proto.ByteSize() < 1000
    assert same(part(path), found.attach())


def test_numbers_that_are_no_raw_data_stay_in_the_message(tmp_path):
    proto = net()
    values = numpy_helper.to_array(proto.graph.initializer[0])
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, LARGE, values.reshape(-1)))
    found = load_model(saved(proto, tmp_path / "m.onnx"))
    assert not found.weights
    assert audited(tmp_path / "m.onnx", levels=["off", "evaluator"]).expect()


def test_external_data_go_where_the_others_go(tmp_path):
    onnx.save(net(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    found = load_model(tmp_path / "m.onnx")
    assert list(found.weights) == ["w"]
    assert same(part(tmp_path / "m.onnx"), found.attach())


def test_a_name_that_was_read_opens_no_file(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4 * 8 * 3 * 32 * 32))
    folder = tmp_path / "model"
    folder.mkdir()
    for location in ("../secret", str(tmp_path / "secret"), "*/_ORT_MEM_ADDR_/*", "detached"):
        proto = net()
        second = proto.graph.initializer.add()
        second.CopyFrom(TensorProto(name="w", dims=LARGE, data_type=1, data_location=TensorProto.EXTERNAL))
        second.external_data.add(key="location", value=location)
        with pytest.raises(RequestError, match="external data of tensor w"):
            load_model(saved_bytes(proto, folder))


def saved_bytes(proto, folder):
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def two_of_one_name(proto):
    proto.graph.initializer.append(proto.graph.initializer[0])


def two_kinds_of_numbers(proto):
    proto.graph.initializer[0].float_data.extend([1.0] * 8 * 3 * 32 * 32)


def old_without_input(proto):
    proto.ir_version = 3


@pytest.mark.parametrize("spoil", [two_of_one_name, two_kinds_of_numbers, old_without_input])
def test_the_rules_of_onnx_hold_for_both_parts(tmp_path, spoil):
    proto = net()
    spoil(proto)
    with pytest.raises(RequestError, match="breaks a rule of ONNX"):
        load_model(saved_bytes(proto, tmp_path))


def test_a_weight_that_is_a_declared_input(tmp_path):
    proto = net()
    old_without_input(proto)
    proto.opset_import[0].version = 8
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, 1, tensor.dims))
    assert audited(saved_bytes(proto, tmp_path)).expect()


def test_a_body_reads_a_weight_from_beside_the_graph(tmp_path):
    def branch(name):
        out = helper.make_tensor_value_info(f"{name}/y", 1, list("nchw"))
        return helper.make_graph([conv(name, "x", f"{name}/y", "w")], name, [], [out])

    node = helper.make_node("If", ["flag"], ["y"], "if", then_branch=branch("t"), else_branch=branch("e"))
    path = saved(model([node], {"w": weights(*LARGE), "flag": np.array(True)}, (1, 3, 40, 41)), tmp_path / "m.onnx")
    nodes = audited(path, levels=["off", "all", "evaluator"]).nodes
    assert [(n.name, n.verdict) for n in nodes] == [("if/else_branch/e", "agree"), ("if/then_branch/t", "agree")]


def test_files_that_are_damaged_mean_the_same_in_one_part_and_in_two(tmp_path):
    """Bytes of the message changed, dropped or doubled at random; both ways of reading accept and refuse the same."""
    content, rng = net(doc_string="text").SerializeToString(), random.Random(0)
    raw = content.index(weights(*LARGE).tobytes())
    outside = [*range(raw), *range(raw + weights(*LARGE).nbytes, len(content))]
    accepted = 0
    for _ in range(400):
        at, kind = rng.choice(outside), rng.randrange(3)
        bad = bytearray(content)
        bad[at : at + (kind < 2)] = bytes([rng.randrange(256)] * (kind != 1))
        path = tmp_path / "m.onnx"
        path.write_bytes(bad)
        one, two = part(path), halves(path)
        accepted += one is not None
        assert same(one, two), (at, kind, bad[at - 4 : at + 4])
    assert 20 < accepted < 380


def test_a_product_with_weights_beside_the_message_is_the_sources_convolution(tmp_path):
    kernel = weights(300, 200)
    convolution = model([conv("c", "x", "y", "w")], {"w": kernel[:, :, None]}, (1, 200, 3))
    product = model([helper.make_node("MatMul", ["w", "x"], ["y"], "p")], {"w": kernel}, (1, 200, 3))
    source, path = saved(convolution, tmp_path / "source.onnx"), saved(product, tmp_path / "m.onnx")
    assert list(load_model(path).weights) == ["w"]
    (node,) = audited(path, against=str(source)).nodes
    assert (node.name, node.matched, node.verdict) == ("p", "c", "agree")

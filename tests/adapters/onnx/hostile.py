"""ONNX files that mean harm, and the folder with every way out of it."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.adapters.onnx.verifying import conv, model, weights

EVIL = "</td><script>alert(1)</script>\x1b]0;owned\x07\x1b[31m|`*\"'&]]>\u202e\x00\n# x"


def plain(**more):
    return model([conv("c", "x", "y", "w")], {"w": weights(2, 3, 2, 5)}, (1, 3, 8, 9), **more)


def external(location, **more):
    """A weight that is somewhere else."""
    tensor = TensorProto(name="w", data_type=1, dims=[2, 3, 2, 5], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def with_external(location, place="initializer", **more):
    proto, tensor = plain(), external(location, **more)
    del proto.graph.initializer[:]
    if place == "initializer":
        proto.graph.initializer.append(tensor)
    elif place == "attribute":
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    elif place == "subgraph":
        body = helper.make_graph(
            [conv("in", "x", "b", "w")], "b", [], [helper.make_tensor_value_info("b", 1, list("bcde"))], [tensor]
        )
        other = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["o"])], "o", [], [helper.make_tensor_value_info("o", 1, list("opqr"))]
        )
        proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
        proto.graph.node[0].CopyFrom(helper.make_node("If", ["flag"], ["y"], "if", then_branch=body, else_branch=other))
    elif place == "function":
        inner = [helper.make_node("Constant", [], ["w"], value=tensor), conv("in", "a", "r", "w")]
        proto.functions.append(helper.make_function("own", "f", ["a"], ["r"], inner, [helper.make_opsetid("", 19)]))
        proto.graph.node[0].CopyFrom(helper.make_node("f", ["x"], ["y"], "call", domain="own"))
        proto.opset_import.append(helper.make_opsetid("own", 1))
    elif place == "sparse":
        sparse = proto.graph.sparse_initializer.add()
        sparse.values.CopyFrom(tensor)
        sparse.dims.extend([2, 3, 2, 5])
    return proto


def cyclic():
    return model([conv("a", "p", "q", "w"), conv("b", "q", "p", "w")], {"w": weights(3, 3, 1, 1)}, output="p")


def nested():
    """Bodies in bodies, a thousand deep: written as bytes, since protobuf itself refuses to."""

    def field(number, content):
        size, length = len(content), b""
        while size >= 0x80:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(1000):
        graph = field(1, field(5, field(6, graph)))  # node of a graph, attribute of a node, graph of an attribute
    return plain().SerializeToString() + field(7, graph)


def multiplying():
    """Functions that call one another ten times each: 10**9 nodes."""
    proto = plain()
    for level in range(9):
        calls = [helper.make_node("f" + str(level + 1), [f"t{i}"], [f"t{i + 1}"], domain="own") for i in range(10)]
        first = helper.make_node("Identity", ["a"], ["t0"])
        last = helper.make_node("Identity", ["t10"], ["r"])
        proto.functions.append(
            helper.make_function(
                "own",
                f"f{level}",
                ["a"],
                ["r"],
                [first, *calls, last],
                [helper.make_opsetid("own", 1), helper.make_opsetid("", 19)],
            )
        )
    proto.functions.append(
        helper.make_function(
            "own", "f9", ["a"], ["r"], [helper.make_node("Relu", ["a"], ["r"])], [helper.make_opsetid("", 19)]
        )
    )
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node.append(helper.make_node("f0", ["y"], ["z"], domain="own"))
    return proto


def huge_weight():
    proto = plain()
    proto.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=1, dims=[1000, 1000, 1000], raw_data=b"1234"))
    return proto


def huge_constant():
    shape = numpy_helper.from_array(np.array([1, 3, 20000, 20000], np.int64), "s")
    proto = model(
        [helper.make_node("ConstantOfShape", ["s"], ["big"]), conv("c", "big", "y", "w")],
        {"w": weights(2, 3, 2, 5)},
        (1, 3),
    )
    proto.graph.initializer.append(shape)
    return proto


def single(*more, shape=("N", 3, "H", "W")):
    return model([conv("c", "x", "y", "w"), *more], {"w": weights(2, 3, 2, 5)}, shape)


def recursive():
    proto = plain()
    inner = [helper.make_node("f", ["a"], ["r"], domain="own")]
    proto.functions.append(helper.make_function("own", "f", ["a"], ["r"], inner, [helper.make_opsetid("own", 1)]))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node.append(helper.make_node("f", ["y"], ["z"], domain="own"))
    return proto


HOSTILE = {
    "wrong magic": lambda: b"PK\x03\x04 this is a zip file, is it not",
    "empty": lambda: b"",
    "text": lambda: b"hello\n" * 999,
    "truncated": lambda: plain().SerializeToString()[:-40],
    "no graph": lambda: onnx.ModelProto(ir_version=9).SerializeToString(),
    "cyclic": cyclic,
    "deep nesting": nested,
    "multiplying functions": multiplying,
    "10**9 elements of input": lambda: single(shape=(10, 3, 10000, 10000)),
    "no element of input, 6**38 beside": lambda: single(shape=(0, 3, *[6] * 38)),
    "84 axes": lambda: model([helper.make_node("Relu", ["x"], ["y"])], {}, [1] * 84),
    "10**9 elements of weight": huge_weight,
    "10**9 elements made when run": huge_constant,
    "10**18 elements of output": lambda: model(
        [conv("c", "x", "y", "w", pads=[1 << 62, 0, 0, 0])], {"w": weights(2, 3, 2, 5)}
    ),
    "negative pads": lambda: model([conv("c", "x", "y", "w", pads=[-1, 0, 0, 0])], {"w": weights(2, 3, 2, 5)}),
    "zero stride": lambda: model([conv("c", "x", "y", "w", strides=[0, 1])], {"w": weights(2, 3, 2, 5)}),
    "negative dilation": lambda: model([conv("c", "x", "y", "w", dilations=[-1, 1])], {"w": weights(2, 3, 2, 5)}),
    "zero groups": lambda: model([conv("c", "x", "y", "w", group=0)], {"w": weights(2, 3, 2, 5)}),
    "duplicated outputs": lambda: single(conv("d", "x", "y", "w")),
    "function that calls itself": recursive,
    "absolute path": lambda: with_external("/etc/passwd", length=240),
    "two dots": lambda: with_external("../secret.bin"),
    "hidden two dots": lambda: with_external("a/../../secret.bin"),
    "memory address": lambda: with_external("*/_ORT_MEM_ADDR_/*", offset=4096, length=240),
    "link": lambda: with_external("link.bin"),
    "linked folder": lambda: with_external("linked/secret.bin"),
    "hard link": lambda: with_external("hard.bin"),
    "pipe": lambda: with_external("pipe"),
    "offset beyond the end": lambda: with_external("data.bin", offset=200),
    "negative offset": lambda: with_external("data.bin", offset=-8),
    "wrong length": lambda: with_external("data.bin", length=8),
    **{
        f"two dots in {place}": partial(with_external, "../secret.bin", place)
        for place in ("attribute", "subgraph", "function", "sparse")
    },
}


def endless_loop():
    """A convolution, and a loop whose condition stays true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["twice"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 2, 7, 5])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("twice", TensorProto.FLOAT, [1, 2, 7, 5])],
    )  # fmt: skip
    nodes = [conv("c", "x", "v0", "w"), helper.make_node("Loop", ["", "true", "v0"], ["y"], body=body)]
    return model(nodes, {"w": weights(2, 3, 2, 5), "true": np.array(True)}, (1, 3, 8, 9))


def trap(tmp_path):
    """Return a folder with a secret beside it, and every way that leads there."""
    (tmp_path / "secret.bin").write_bytes(bytes(240))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "data.bin").write_bytes(weights(2, 3, 2, 5).tobytes())
    (folder / "link.bin").symlink_to("../secret.bin")
    (folder / "linked").symlink_to("..")
    os.link(tmp_path / "secret.bin", folder / "hard.bin")
    os.mkfifo(folder / "pipe")
    return folder

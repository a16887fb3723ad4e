"""What follows from a graph's file alone is what a runtime computes of it."""

from __future__ import annotations

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")
import onnx  # noqa: E402
from convspec_onnx.graph import Scope  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

from tests.adapters.onnx.verifying import model  # noqa: E402

pytestmark = pytest.mark.onnx

ODD = np.array([-7, -6, -1, 0, 1, 6, 7], np.int64)


def both(nodes, tensors, name):
    """A tensor of a graph without its run, and by ONNX Runtime on an input of shape (2, 3, 5, 7)."""
    proto = model(nodes, {name: np.asarray(value) for name, value in tensors.items()}, output=name)
    proto.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info(name))
    proto = onnx.shape_inference.infer_shapes(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (right,) = session.run([name], {"x": np.zeros((2, 3, 5, 7), np.float32)})
    return Scope(proto.graph).constant(name), right


@pytest.mark.parametrize("divisor", [2, -2, 3, -4])
@pytest.mark.parametrize(("op", "attributes"), [("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1})])
def test_integers_are_divided_as_the_runtime_does_it(op, attributes, divisor):
    found, right = both([helper.make_node(op, ["a", "b"], ["c"], **attributes)], {"a": ODD, "b": [divisor]}, "c")
    assert found.tolist() == right.tolist()


def reshaped(*sizes):
    """A vector reshaped to sizes some of which the graph takes from its input: ``(axis of x, tensor's name)``."""
    nodes, tensors, parts = [helper.make_node("Shape", ["x"], ["shape"])], {"v": np.arange(21), "zero": [0]}, []
    for place, size in enumerate(sizes):
        name = f"p{place}"
        parts.append(name)
        if isinstance(size, int):
            tensors[name] = [size]
            continue
        tensors[f"axis{place}"] = np.array(size[0])
        nodes += [helper.make_node("Gather", ["shape", f"axis{place}"], [f"g{place}"]),
                  helper.make_node("Unsqueeze", [f"g{place}", "zero"], [name])]  # fmt: skip
    nodes.append(helper.make_node("Concat", parts, ["target"], axis=0))
    nodes.append(helper.make_node("Reshape", ["v", "target"], ["c"]))
    return both(nodes, tensors, "c")


def test_one_size_that_the_graph_computes_follows_from_the_others():
    found, right = reshaped(1, (1,), 7, 1)
    assert found.shape == right.shape == (1, 3, 7, 1)
    assert np.array_equal(found, right)


def test_two_of_them_do_not():
    found, right = reshaped((1,), (3,))
    assert right.shape == (3, 7)
    assert found is None


def test_what_divides_by_zero_is_no_constant_that_ends_the_audit():
    proto = model([helper.make_node("Mod", ["a", "b"], ["c"])], {"a": ODD, "b": np.array([0])})
    assert numpy_helper.to_array(proto.graph.initializer[0]).size == Scope(proto.graph).constant("c").size

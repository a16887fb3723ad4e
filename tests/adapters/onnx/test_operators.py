"""verify judges every node, and the results of the whole graph at every level of optimisation."""

import numpy as np
import onnx
import onnxruntime
import pytest
from convspec_onnx.steps import Operation
from convspec_onnx.verify.operators import judge_operation
from onnx import TensorProto, helper, numpy_helper

from convspec import verify
from tests.adapters.onnx import test_steps as table
from tests.adapters.steps import draw, normal

pytestmark = pytest.mark.onnx
F = TensorProto.FLOAT
MOVES = ("max", "pad", "slice", "concat", "split", "gather", "reshape", "identity", "relu", "unsqueeze", "flatten")


def operation(node, inputs, opset=22):
    """Return a node with what ONNX Runtime makes of these inputs."""
    results = table.run_node(node, inputs, opset, "runtime")
    values = [inputs[int(name[1:])] if name else None for name in node.input]
    fixed = [name != "x0" for name in node.input]
    return Operation(node, opset, values, fixed, [np.asarray(y) for y in results])


def spoiled(call, change):
    """Return the operation with one number of the result changed."""
    y = np.array(call.y)
    index = np.unravel_index(int(np.argmax(np.abs(np.where(np.isfinite(y), y, 0.0)))), y.shape)
    y[index] = change(y[index])
    return Operation(call.node, call.opset, call.values, call.fixed, [y, *call.results[1:]])


@pytest.mark.parametrize("name", table.TABLE)
def test_an_operator_is_right_and_one_wrong_number_is_seen(name):
    made, _ = table.TABLE[name]
    made, *further = made if isinstance(made, tuple) else (made,)
    call = operation(made, [normal(table.X, scale=3.0), *further], 21 if name == "global-lp" else 22)
    words, verdict = judge_operation(call)
    assert verdict.verdict == "agree", (words, verdict)
    wrong = judge_operation(spoiled(call, lambda y: y + np.float32(2e-3) * (1 + abs(y))))[1]
    assert wrong.verdict == "disagree"
    assert "1 of" in wrong.reason


@pytest.mark.parametrize("name", table.LAYERS)
def test_a_norm_is_right_and_one_wrong_number_is_seen(name):
    made, step, order = table.LAYERS[name]
    arrays = draw(step)
    call = operation(made, [normal(table.X), *(arrays[n] for n in order)])
    assert judge_operation(call)[1].verdict == "agree"
    assert judge_operation(spoiled(call, lambda y: y * np.float32(1.001)))[1].verdict == "disagree"


def exact(op, *inputs, outputs=1, **attributes):
    """Return a node of any types with what ONNX Runtime makes of these inputs."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
             for n, a in zip(names, inputs, strict=True)]  # fmt: skip
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=name) for name in node.output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return Operation(node, 21, inputs, [False] * len(inputs), session.run(None, dict(zip(names, inputs, strict=True))))


X = normal((3, 4, 5))
EXACT = {
    "where": lambda: exact("Where", X > 0, X, -X),
    "gather": lambda: exact("GatherElements", X, np.arange(24).reshape(3, 4, 2) % 5, axis=2),
    "tile": lambda: exact("Tile", X, np.array([1, 2, 3])),
    "greater": lambda: exact("Greater", X, X[:1]),
    "integers": lambda: exact("Add", np.arange(6), np.arange(6)),
    "maximum-place": lambda: exact("ArgMax", X, axis=1),
    "to-integers": lambda: exact("Cast", X * 9, to=TensorProto.INT32),
    "to-half": lambda: exact("Cast", X, to=TensorProto.FLOAT16),
    "quantize": lambda: exact("QuantizeLinear", X, np.float32([0.02, 0.1, 0.007, 3]), np.uint8([128, 3, 255, 0])),
    "dequantize": lambda: exact("DequantizeLinear", np.arange(-8, 8, dtype=np.int8).reshape(4, 4),
                                np.float32([0.1, 3, 1e-3, 7]), np.int8([1, -2, 3, 0]), axis=0),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_moves_integers_and_quantisation(name):
    call = EXACT[name]()
    assert judge_operation(call)[1].verdict == "agree"
    change = np.logical_not if call.y.dtype.kind == "b" else lambda y: y - np.asarray(1).astype(y.dtype)
    assert judge_operation(spoiled(call, change))[1].verdict == "disagree"


def test_a_number_between_two_integers_may_become_either():
    x = np.random.default_rng(0).integers(0, 255, (1, 2, 3, 4), np.uint8)
    call = exact("Resize", x, np.float32([]), np.float32([1, 1, 2, 2]), mode="linear")
    call = Operation(call.node, 21, call.values, [False, True, True], call.results)
    assert judge_operation(call)[1].verdict == "agree"
    assert judge_operation(spoiled(call, lambda y: y - np.uint8(2)))[1].verdict == "disagree"


def test_dynamic_quantisation():
    call = exact("DynamicQuantizeLinear", X, outputs=3)
    assert judge_operation(call)[1].verdict == "agree"
    y, scale, zero = call.results
    one = np.uint8(1)
    for changed in ([y + one, scale, zero], [y, scale * np.float32(1.01), zero], [y, scale, zero + one]):
        other = Operation(call.node, 21, call.values, call.fixed, changed)
        assert judge_operation(other)[1].verdict == "disagree"


# -- whole graphs ------------------------------------------------------------------------------------------------------


def save(path, nodes, arrays, shape, out):
    info = [helper.make_tensor_value_info(name, F, s) for name, s in (("x", shape), ("y", out))]
    weights = [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:], weights),
                              opset_imports=[helper.make_opsetid("", 17)], ir_version=9)  # fmt: skip
    onnx.save(model, path)
    return path


def quantised(path, axis):
    """A convolution between quantised tensors, whose weights, of 7 bits, have one scale per output or input channel."""
    node, rng = helper.make_node, np.random.default_rng(0)
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["a"]), node("DequantizeLinear", ["a", "xs", "xz"], ["b"]),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], axis=axis), node("Conv", ["b", "w"], ["c"], name="conv"),
        node("QuantizeLinear", ["c", "ys", "yz"], ["d"]), node("DequantizeLinear", ["d", "ys", "yz"], ["y"]),
    ]  # fmt: skip
    arrays = {"xs": np.float32(0.02), "xz": np.uint8(128), "wq": rng.integers(-63, 64, (6, 6, 3, 3)).astype(np.int8),
              "ws": np.linspace(0.002, 0.1, 6).astype(np.float32), "wz": np.zeros(6, np.int8),
              "ys": np.float32(0.3), "yz": np.uint8(120)}  # fmt: skip
    return save(path, nodes, arrays, [1, 6, 10, 10], [1, 6, 8, 8])


def test_a_fused_convolution_that_is_wrong_although_each_node_is_right(tmp_path):
    """ONNX Runtime fuses a convolution with scales along the input channels, and takes them for output channels."""
    report = verify(quantised(tmp_path / "wrong.onnx", axis=1))
    assert report.rounding == "wrong"
    assert [node.verdict for node in report.nodes] == ["agree"]
    assert report.judged == (6, 6)
    (place, kind, words), *_ = report.unexpected
    assert (place, kind) == ("model", "wrong-level")
    assert all(part in words for part in ("extended", "QDQSelectorActionTransformer", "'conv'", "'y'"))


def test_quantised_graphs_that_round_otherwise_are_right(tmp_path):
    report = verify(quantised(tmp_path / "right.onnx", axis=0))
    assert report.rounding == "rounding, proved"
    assert not report.unexpected


def test_what_has_no_reference_is_counted_and_named(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
             helper.make_node("CumSum", ["c", "axis"], ["s"], name="sum"),
             helper.make_node("Relu", ["s"], ["y"], name="relu")]  # fmt: skip
    path = save(
        tmp_path / "m.onnx", nodes, {"w": normal((4, 3, 3, 3)), "axis": np.array(2)}, [1, 3, 9, 8], [1, 4, 7, 6]
    )
    report = verify(path)
    assert report.judged == (2, 3)
    assert report.not_judged == {"CumSum": 1}
    assert report.rounding == "rounding, measured"
    assert "2 of 3 nodes judged: rounding, measured" in str(report)
    assert "not judged: 1 CumSum" in str(report)
    only = verify(path, levels=("off",))
    assert only.rounding == "unknown"
    assert not only.unexpected


def test_the_other_name_of_the_standards_domain(tmp_path):
    """Softmax is along the last axis since opset 13, before over several."""
    path = save(tmp_path / "m.onnx", [helper.make_node("Softmax", ["x"], ["y"])], {}, [2, 3, 4, 5], [2, 3, 4, 5])
    model = onnx.load(path)
    model.opset_import[0].domain = "ai.onnx"
    onnx.save(model, path)
    assert verify(path).rounding == "rounding, proved"


def test_bodies_are_not_judged_but_their_convolutions(tmp_path):
    def body(name, scale):
        inner = [helper.make_node("Mul", ["c", scale], [f"{name}_y"])]
        return helper.make_graph(inner, name, [], [helper.make_tensor_value_info(f"{name}_y", F, None)])

    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
             helper.make_node("If", ["yes"], ["y"], name="if", then_branch=body("t", "two"),
                              else_branch=body("e", "one"))]  # fmt: skip
    arrays = {"w": normal((4, 3, 3, 3)), "yes": np.array(True), "two": np.float32(2), "one": np.float32(1)}
    report = verify(save(tmp_path / "m.onnx", nodes, arrays, [1, 3, 9, 8], [1, 4, 7, 6]))
    assert report.judged == (1, 2)
    assert report.not_judged == {"If": 1}

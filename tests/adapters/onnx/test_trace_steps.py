"""The steps of ONNX graphs: each operator by its word, and the data flow of whole networks."""

import numpy as np
import onnx
import pytest
from convspec_onnx.model import trace_steps
from onnx import helper, numpy_helper

from convspec import ConvSpec
from convspec.spec import steps as S
from tests.adapters.onnx import test_steps as table
from tests.adapters.step_traces import assert_replays, flow, same
from tests.adapters.steps import draw, normal

pytestmark = pytest.mark.onnx


def graph(nodes, arrays=(), inputs=None, outputs=("y0",), opset=22):
    """Return a model; every name in ``arrays`` is an initialiser."""
    inputs = {"x0": table.X} if inputs is None else inputs
    return helper.make_model(helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in dict(arrays).items()],
    ), opset_imports=[helper.make_opsetid("", opset)], ir_version=10)  # fmt: skip


@pytest.mark.parametrize("name", table.TABLE)
def test_the_word_of_an_operator(name):
    made, step = table.TABLE[name]
    made, *further = made if isinstance(made, tuple) else (made,)
    arrays = {f"x{i}": a for i, a in enumerate(further, 1) if a is not None}
    model = graph([made], arrays, outputs=made.output, opset=21 if name == "global-lp" else 22)
    trace = trace_steps(model, [normal(table.X, scale=3.0)])
    (found,) = trace.steps
    assert found.step == step
    assert_replays(trace)


@pytest.mark.parametrize("name", table.LAYERS)
def test_the_word_of_a_norm(name):
    made, step, order = table.LAYERS[name]
    arrays = draw(step)
    named = {f"x{i}": arrays[n] for i, n in enumerate(order, 1)}
    trace = trace_steps(graph([made], named), [normal(table.X)])
    (found,) = trace.steps
    assert found.step == step
    assert {n: found.sources[n] for n in order} == {n: (f"x{i}",) for i, n in enumerate(order, 1)}
    assert set(trace.parameters) == set(named)
    assert_replays(trace)


def test_a_product_and_the_row_that_is_added_are_a_linear_layer():
    arrays = {"w": normal((5, 7)), "row": normal((7,), 1)}
    nodes = [helper.make_node("MatMul", ["x0", "w"], ["p"], name="fc"),
             helper.make_node("Add", ["row", "p"], ["s"], name="bias"),
             helper.make_node("Relu", ["s"], ["y0"])]  # fmt: skip
    trace = trace_steps(graph(nodes, arrays, {"x0": (2, 3, 5)}), [normal((2, 3, 5))])
    assert flow(trace) == [("fc", "Linear", ["input0"]), ("Relu_2", "ReLU", ["fc"])]
    assert trace.steps[0].step == S.Linear(5, 7)
    assert trace.steps[0].sources == {"weight": ("w",), "bias": ("row",)}
    assert_replays(trace)
    both = graph(nodes, arrays, {"x0": (2, 3, 5)}, outputs=("y0", "p"))
    assert [type(s.step) for s in trace_steps(both, [normal((2, 3, 5))]).steps] == [
        S.Linear,
        S.Parameter,
        S.Add,
        S.ReLU,
    ]


def test_shapes_that_are_computed_are_settings():
    """An exporter computes the new shape from the shape of a tensor: no step of the model does."""
    nodes = [helper.make_node("Shape", ["x0"], ["s"]), helper.make_node("Gather", ["s", "zero"], ["batch"]),
             helper.make_node("Unsqueeze", ["batch", "zeros"], ["b"]),
             helper.make_node("Concat", ["b", "rest"], ["shape"], axis=0),
             helper.make_node("Reshape", ["x0", "shape"], ["y0"])]  # fmt: skip
    arrays = {"zero": np.array(0), "zeros": np.array([0]), "rest": np.array([-1, 4])}
    trace = trace_steps(graph(nodes, arrays, {"x0": (2, 3, 8)}), [normal((2, 3, 8))])
    assert [step.step for step in trace.steps] == [S.Reshape((2, -1, 4))]


def test_a_constant_tensor_is_a_parameter():
    scale = normal((1, 6, 1, 1))
    trace = trace_steps(graph([helper.make_node("Mul", ["x0", "g"], ["y0"])], {"g": scale}), [normal(table.X)])
    assert flow(trace) == [("g", "Parameter", []), ("Mul_0", "Multiply", ["input0", "g"])]
    assert same(trace.steps[0].arrays["value"], scale)
    assert_replays(trace)


def test_a_computed_kernel_is_read():
    nodes = [helper.make_node("Mul", ["w", "x1"], ["k"]), helper.make_node("Conv", ["x0", "k"], ["y0"], name="conv")]
    inputs = {"x0": (2, 3, 7), "x1": (1,)}
    trace = trace_steps(graph(nodes, {"w": normal((4, 3, 2))}, inputs), [normal(s) for s in inputs.values()])
    conv = trace.steps[-1]
    assert isinstance(conv.step, ConvSpec)
    assert len(conv.reads) == 2
    assert "computed" in conv.note
    assert not conv.sources


def test_what_has_no_word_keeps_its_name_and_its_place():
    nodes = [helper.make_node("NonZero", ["x0"], ["i"], name="where"), helper.make_node("Cast", ["i"], ["y0"], to=1)]
    trace = trace_steps(graph(nodes, {}, {"x0": (2, 3)}), [normal((2, 3))])
    assert flow(trace) == [("where", "Other", ["input0"]), ("Cast_1", "Other", ["where"])]
    assert trace.steps[1].step.name == "Cast from int64 to float32"


def test_a_branch_is_one_step_that_reads_what_its_bodies_read():
    def body(name, op):
        node = helper.make_node(op, ["r"], [f"{name}_y"])
        return helper.make_graph([node], name, [], [onnx.ValueInfoProto(name=f"{name}_y")])

    nodes = [helper.make_node("Relu", ["x0"], ["r"], name="relu"),
             helper.make_node("If", ["c"], ["y0"], name="if", then_branch=body("t", "Neg"),
                              else_branch=body("e", "Abs"))]  # fmt: skip
    trace = trace_steps(graph(nodes, {"c": np.array(True)}, {"x0": (2, 3)}), [normal((2, 3))])
    assert flow(trace) == [("relu", "ReLU", ["input0"]), ("c", "Parameter", []), ("if", "Other", ["c", "relu"])]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "convnext", "unet", "wavenet"])
def test_an_exported_network_replays(name):
    from tests.adapters.onnx import exported

    path, _, _ = exported.network(name)
    shape = [d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    assert_replays(trace_steps(str(path), [normal(shape)]))

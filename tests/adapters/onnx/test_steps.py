"""Every kind of step as an ONNX node, on ONNX Runtime and on the reference evaluator, against the float64 reference."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from convspec.spec import steps as S
from tests.adapters.steps import assert_step, draw, normal

pytestmark = pytest.mark.onnx

X = (2, 6, 9, 8)


def run_node(node, inputs, opset, runner):
    """Return the outputs of a graph with one node."""
    names = {f"x{i}": np.asarray(x) for i, x in enumerate(inputs) if x is not None}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in names.items()
    ]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output]
    graph = helper.make_graph([node], "step", infos, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    if runner == "reference":
        return ReferenceEvaluator(model).run(None, names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, names
    )


def node(op, inputs=1, outputs=1, **attributes):
    names = [f"x{i}" for i in range(inputs)] if isinstance(inputs, int) else inputs
    return helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)


def resize(mode, size=None, scale=None, **attributes):
    """A Resize node and its further inputs: region, scales, sizes."""
    fixed = [None, None, np.array([2, 6, *size])] if size else [None, np.array([1, 1, *scale], np.float32)]
    names = ["x0", *("" if value is None else f"x{i}" for i, value in enumerate(fixed, 1))]
    return node("Resize", names, mode=mode, **attributes), *fixed


ints = np.array
UPPER = {"auto_pad": "SAME_UPPER"}
TABLE = {  # name: (node and further inputs, step); the input is X
    "max": (node("MaxPool", kernel_shape=[3, 2]), S.MaxPool((3, 2), 1)),
    "max-settings": (
        node("MaxPool", kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 2, 1], dilations=[1, 2]),
        S.MaxPool((3, 2), (2, 3), ((1, 2), (0, 1)), (1, 2)),
    ),
    "max-ceil": (node("MaxPool", kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1), S.MaxPool(2, 3, ceil_mode=True)),
    "max-same": (node("MaxPool", kernel_shape=[3, 2], strides=[2, 3], **UPPER), S.MaxPool((3, 2), (2, 3), "same")),
    "max-lower": (
        node("MaxPool", kernel_shape=[3, 2], strides=[2, 3], auto_pad="SAME_LOWER"),
        S.MaxPool((3, 2), (2, 3), "same_lower"),
    ),
    "average": (node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), S.AveragePool(3, 1, 1)),
    "average-pads": (
        node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        S.AveragePool(3, 2, 1, count_include_pad=True),
    ),
    "average-dilated": (
        node("AveragePool", kernel_shape=[2, 3], dilations=[2, 1]),
        S.AveragePool((2, 3), 1, 0, (2, 1)),
    ),
    "average-same": (node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], **UPPER), S.AveragePool(3, 2, "same")),
    "lp": (node("LpPool", kernel_shape=[3, 2], strides=[2, 2]), S.LpPool((3, 2), 2)),
    "lp-1": (node("LpPool", kernel_shape=[3, 2], strides=[2, 2], p=1), S.LpPool((3, 2), 2, p=1)),
    "lp-3": (node("LpPool", kernel_shape=[3, 2], strides=[2, 2], p=3), S.LpPool((3, 2), 2, p=3)),
    "global": (node("GlobalAveragePool"), S.GlobalPool()),
    "global-max": (node("GlobalMaxPool"), S.GlobalPool("max")),
    "global-lp": (node("GlobalLpPool", p=3), S.GlobalPool("lp", p=3)),
    "nearest": (resize("nearest", (5, 17)), S.Resize((5, 17), rounding="round_prefer_floor")),
    "nearest-floor": (
        resize("nearest", scale=(1.7, 2.3), coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        S.Resize(scale=(np.float32(1.7), np.float32(2.3)), coordinates="asymmetric", rounding="floor"),
    ),
    "nearest-ceil": (
        resize("nearest", (5, 17), coordinate_transformation_mode="asymmetric", nearest_mode="ceil"),
        S.Resize((5, 17), coordinates="asymmetric", rounding="ceil"),
    ),
    "linear": (resize("linear", (5, 17)), S.Resize((5, 17), mode="linear")),
    "linear-scale": (
        resize("linear", scale=(1.7, 2.3)),
        S.Resize(scale=(np.float32(1.7), np.float32(2.3)), mode="linear"),
    ),
    "linear-corners": (
        resize("linear", (5, 17), coordinate_transformation_mode="align_corners"),
        S.Resize((5, 17), mode="linear", coordinates="align_corners"),
    ),
    "linear-asymmetric": (
        resize("linear", (5, 17), coordinate_transformation_mode="asymmetric"),
        S.Resize((5, 17), mode="linear", coordinates="asymmetric"),
    ),
    "linear-pytorch": (
        resize("linear", (1, 17), coordinate_transformation_mode="pytorch_half_pixel"),
        S.Resize((1, 17), mode="linear", coordinates="pytorch_half_pixel"),
    ),
    "linear-symmetric": (
        resize("linear", scale=(1.7, 0.7), coordinate_transformation_mode="half_pixel_symmetric"),
        S.Resize(scale=(np.float32(1.7), np.float32(0.7)), mode="linear", coordinates="half_pixel_symmetric"),
    ),
    "linear-antialias": (
        resize("linear", (4, 5), antialias=1, exclude_outside=1),
        S.Resize((4, 5), mode="linear", antialias=True, exclude_outside=True),
    ),
    "cubic": (resize("cubic", (5, 17)), S.Resize((5, 17), mode="cubic")),
    "cubic-outside": (
        resize("cubic", (5, 17), cubic_coeff_a=-0.5, exclude_outside=1),
        S.Resize((5, 17), mode="cubic", cubic_coefficient=-0.5, exclude_outside=True),
    ),
    "cubic-antialias": (
        resize("cubic", (4, 5), cubic_coeff_a=-0.5, antialias=1, exclude_outside=1),
        S.Resize((4, 5), mode="cubic", cubic_coefficient=-0.5, antialias=True, exclude_outside=True),
    ),
    "cubic-antialias-clamp": (
        resize("cubic", (4, 5), antialias=1),
        S.Resize((4, 5), mode="cubic", antialias=True),
    ),
    "pad": (
        (node("Pad", 3), ints([0, 0, 3, 1, 0, 0, -1, 2]), np.float32(0.3)),
        S.Pad(((3, -1), (1, 2)), value=0.3),
    ),
    "reflect": ((node("Pad", 2, mode="reflect"), ints([0, 0, 1, 3, 0, 0, 4, 2])), S.Pad(((1, 4), (3, 2)), "reflect")),
    "edge": ((node("Pad", 2, mode="edge"), ints([0, 0, 1, 3, 0, 0, 4, 2])), S.Pad(((1, 4), (3, 2)), "replicate")),
    "wrap": ((node("Pad", 2, mode="wrap"), ints([0, 0, 1, 3, 0, 0, 4, 2])), S.Pad(((1, 4), (3, 2)), "circular")),
    "slice": (
        (node("Slice", 5), ints([1, 7]), ints([5, 0]), ints([1, 3]), ints([2, -3])),
        S.Slice([(None, None, 1), (1, 5, 2), (None, None, 1), (7, 0, -3)]),
    ),
    "gather": ((node("Gather", 2, axis=1), ints(2)), S.Select(1, 2)),
    "channel-first": (node("Transpose", perm=[0, 3, 1, 2]), S.Permute((0, 3, 1, 2))),
    "reshape": ((node("Reshape", 2), ints([0, -1, 4])), S.Reshape((0, -1, 4))),
    "flatten": (node("Flatten"), S.Flatten()),
    "unsqueeze": ((node("Unsqueeze", 2), ints([1, -1])), S.Unsqueeze((1, -1))),
    "split": ((node("Split", 2, 3, axis=1), ints([1, 2, 3])), S.Split((1, 2, 3))),
    "identity": (node("Identity"), S.Identity()),
    "dropout": (node("Dropout"), S.Dropout()),
    "relu": (node("Relu"), S.ReLU()),
    "clip": ((node("Clip", 3), np.float32(0), np.float32(6)), S.Clip(0, 6)),
    "leaky": (node("LeakyRelu"), S.LeakyReLU()),
    "thresholded": (node("ThresholdedRelu", alpha=0.3), S.ThresholdedReLU(0.3)),
    "elu": (node("Elu", alpha=0.7), S.ELU(0.7)),
    "celu": (node("Celu", alpha=0.7), S.CELU(0.7)),
    "selu": (node("Selu"), S.SELU()),
    "gelu": (node("Gelu"), S.GELU()),
    "gelu-tanh": (node("Gelu", approximate="tanh"), S.GELU("tanh")),
    "sigmoid": (node("Sigmoid"), S.Sigmoid()),
    "hard-sigmoid": (node("HardSigmoid"), S.HardSigmoid(0.2)),
    "hard-swish": (node("HardSwish"), S.HardSwish()),
    "mish": (node("Mish"), S.Mish()),
    "tanh": (node("Tanh"), S.Tanh()),
    "softplus": (node("Softplus"), S.Softplus()),
    "softsign": (node("Softsign"), S.Softsign()),
    "shrink": (node("Shrink", lambd=0.3, bias=0.3), S.SoftShrink(0.3)),
    "softmax": (node("Softmax"), S.Softmax(-1)),
    "log-softmax": (node("LogSoftmax", axis=1), S.Softmax(1, log=True)),
    "mean": ((node("ReduceMean", 2), ints([2, 3])), S.Reduce("mean", (2, 3), keepdims=True)),
    "sum": ((node("ReduceSum", 2, keepdims=0), ints([1])), S.Reduce("sum", 1)),
    "max-reduced": ((node("ReduceMax", 2, keepdims=0), ints([1, 3])), S.Reduce("max", (1, 3))),
    "lrn": (node("LRN", size=3, alpha=0.5, beta=0.6, bias=2.0), S.LocalResponseNorm(3, 0.5, 0.6, 2.0)),
    "lp-norm": (node("LpNormalization", axis=1), S.LpNorm(1, epsilon=0)),
    "mvn": (
        node("MeanVarianceNormalization"),
        S.LayerNorm((2, 9, 8), (0, 2, 3), epsilon=0, scale=False, bias=False),
    ),
    "exp": (node("Exp"), S.Pointwise("exp")),
    "erf": (node("Erf"), S.Pointwise("erf")),
    "reciprocal": (node("Reciprocal"), S.Pointwise("reciprocal")),
    "scale": ((node("Mul", 2), np.float32(0.3)), S.Multiply(0.3)),
    "less": ((node("Sub", ["x1", "x0"]), np.float32(0.3)), S.Subtract(0.3, reflected=True)),
}  # fmt: skip
WRONG_IN_THE_EVALUATOR = {
    "max-lower": "one row less than the specification's size",
    "global-lp": "no implementation",
    "pad": "negative pads raise",
    "lrn": "sums squares for as many channels as there are samples",
}
RUNS = [("runtime", name) for name in TABLE] + [
    pytest.param("reference", name, marks=pytest.mark.xfail(strict=True, reason=WRONG_IN_THE_EVALUATOR[name]))
    if name in WRONG_IN_THE_EVALUATOR
    else ("reference", name)
    for name in TABLE
]


@pytest.mark.parametrize(("runner", "name"), RUNS)
def test_a_step_without_arrays(runner, name):
    made, step = TABLE[name]
    made, *further = made if isinstance(made, tuple) else (made,)
    x = normal(X, scale=3.0)
    opset = 21 if name == "global-lp" else 22  # ONNX Runtime has no later one
    assert_step(step, [x], run_node(made, [x, *further], opset, runner))


LAYERS = {  # name: (node, step, names of the inputs after the data)
    "batch": (node("BatchNormalization", 5), S.BatchNorm(6), ["scale", "bias", "mean", "variance"]),
    "layer": (node("LayerNormalization", 3), S.LayerNorm(8), ["scale", "bias"]),
    "layer-2": (
        node("LayerNormalization", 2, axis=2, epsilon=0.1),
        S.LayerNorm((9, 8), (2, 3), epsilon=0.1, bias=False),
        ["scale"],
    ),
    "group": (node("GroupNormalization", 3, num_groups=3), S.GroupNorm(6, 3, fast_variance=True), ["scale", "bias"]),
    "instance": (node("InstanceNormalization", 3), S.InstanceNorm(6), ["scale", "bias"]),
}  # fmt: skip


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("runner", ["runtime", "reference"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_norm(name, runner, shift):
    made, step, order = LAYERS[name]
    x, arrays = normal(X) + np.float32(shift), draw(step)
    assert_step(step, [x], run_node(made, [x, *(arrays[n] for n in order)], 22, runner), arrays)


def test_layers_with_weights():
    for made, step, order in (
        (node("Gemm", 3, transB=1), S.Linear(6, 5), ["weight", "bias"]),
        (node("PRelu", 2), S.PReLU(6), ["slope"]),
    ):
        arrays = draw(step)
        x = normal((4, 6))
        assert_step(step, [x], run_node(made, [x, *(arrays[n] for n in order)], 22, "runtime"), arrays)


@pytest.mark.parametrize("size", [(5, 17), (12, 4)])
def test_the_places_of_tensorflow_1_for_nearest_pixels(size):
    """ONNX has them in opset 11 only."""
    made = node("Resize", ["x0", "x1", "x2", "x3"], mode="nearest", nearest_mode="floor",
                coordinate_transformation_mode="tf_half_pixel_for_nn")  # fmt: skip
    x, none = normal(X), np.zeros(0, np.float32)
    y = run_node(made, [x, none, none, np.array([2, 6, *size])], 11, "runtime")
    assert_step(S.Resize(size, coordinates="tf_half_pixel_for_nn", rounding="floor"), [x], y)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_channels_and_space(mode):
    x = normal((2, 12, 4, 6))
    y = run_node(node("DepthToSpace", blocksize=2, mode=mode), [x], 22, "runtime")
    assert_step(S.PixelShuffle(2, mode), [x], y)
    if mode == "DCR":
        assert_step(S.PixelUnshuffle(2, mode), [x], run_node(node("SpaceToDepth", blocksize=2), [x], 22, "runtime"))


PAIRS = {
    "add": (node("Add", 2), S.Add(), (2, 3, 1, 5), (3, 4, 5)),
    "divide": (node("Div", 2), S.Divide(), X, X),
    "matmul": (node("MatMul", 2), S.MatMul(), (2, 1, 5, 300), (3, 300, 4)),
    "concat": (node("Concat", 2, axis=1), S.Concat(1), (2, 3, 4, 5), (2, 1, 4, 5)),
}


@pytest.mark.parametrize("runner", ["runtime", "reference"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_step_of_two_inputs(name, runner):
    made, step, *shapes = PAIRS[name]
    inputs = [normal(shape, i) for i, shape in enumerate(shapes)]
    assert_step(step, inputs, run_node(made, inputs, 22, runner))

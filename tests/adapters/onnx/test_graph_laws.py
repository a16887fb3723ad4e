"""What is read of a graph without running it is what onnx's evaluator computes; a quantised node by exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from convspec_onnx.graph import Scope, find_convolutions, find_products
from convspec_onnx.graph.convolutions import COMPUTED_WEIGHTS, to_rows
from convspec_onnx.graph.lint import lint_graph
from convspec_onnx.graph.scope import read_pad, resolve_output_shape
from convspec_onnx.loading import DetachedModel
from convspec_onnx.verify.judge import ExpectedCache, expected_output, judge_node, node_arrays
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from convspec import ConvParams, ConvSpec, reference
from convspec.errors import RequestError
from convspec.spec import ComputePrecision
from tests.adapters.onnx.verifying import conv, model, weights

pytestmark = pytest.mark.onnx

node = helper.make_node
I, O = 3, 5  # channels in and out
X = np.random.default_rng(1).integers(-5, 6, (2, 4, I)).astype(np.float32)
Wt = np.random.default_rng(2).integers(-5, 6, (I, O)).astype(np.float32)
BIAS = np.arange(1.0, O + 1, dtype=np.float32)


def evaluated(proto, name, **feeds):
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    del watched.graph.output[:]
    watched.graph.output.append(helper.make_empty_tensor_value_info(name))
    return ReferenceEvaluator(watched).run(None, feeds)[0]


# -- products as convolutions of one pixel -----------------------------------------------------------------------------

LAST = ("N", "T", I)
PRODUCTS = {
    "MatMul": (node("MatMul", ["x", "w"], ["y"]), {"w": Wt}, X),
    "MatMul, weight first": (node("MatMul", ["w", "x"], ["y"]), {"w": Wt.T}, X.swapaxes(1, 2)),
    "Gemm": (node("Gemm", ["x", "w"], ["y"]), {"w": Wt}, X[0]),
    "Gemm, transposed weight": (node("Gemm", ["x", "w"], ["y"], transB=1), {"w": Wt.T}, X[0]),
    "Gemm, transposed data": (node("Gemm", ["x", "w"], ["y"], transA=1), {"w": Wt}, X[0].T),
    "Gemm with a bias": (node("Gemm", ["x", "w", "b"], ["y"]), {"w": Wt, "b": BIAS}, X[0]),
    "Gemm, scaled": (node("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=4.0), {"w": Wt, "b": BIAS}, X[0]),
    "Gemm, one number": (node("Gemm", ["x", "w", "b"], ["y"], beta=2.0), {"w": Wt, "b": BIAS[2:3]}, X[0]),
    "Gemm, a row of biases": (node("Gemm", ["x", "w", "b"], ["y"]), {"w": Wt, "b": BIAS[None]}, X[0]),
    "Einsum": (node("Einsum", ["x", "w"], ["y"], equation="btc,co->bto"), {"w": Wt}, X),
    "Einsum, weight first": (node("Einsum", ["w", "x"], ["y"], equation="co,btc->bto"), {"w": Wt}, X),
    "Einsum, transposed": (node("Einsum", ["x", "w"], ["y"], equation="btc , oc -> bto"), {"w": Wt.T}, X),
    "Einsum, channels first": (node("Einsum", ["x", "w"], ["y"], equation="bct,co->bot"), {"w": Wt}, X.swapaxes(1, 2)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_the_convolution_that_is_read(name):
    one, tensors, x = PRODUCTS[name]
    proto = model([one], tensors, x.shape)
    (found,) = find_products(DetachedModel(proto), [(I, O)])
    assert (found.data, found.weight) == ("x", "w")
    y = evaluated(proto, "y", x=x)
    _, read, written = found.rows
    rows = to_rows(x, read)
    assert np.array_equal(reference.conv(found.spec, found.params, rows), to_rows(y, written))
    assert node_arrays(found, {"x": x, "y": y})["x"].shape == rows.shape
    assert judge_node(found, {"x": x, "y": y}, lambda *_: ComputePrecision("float32"))[0].verdict == "agree"
    wrong = y.copy()
    wrong.reshape(-1)[3] += 1
    assert judge_node(found, {"x": x, "y": wrong}, lambda *_: ComputePrecision("float32"))[0].verdict == "disagree"


@pytest.mark.parametrize("one", [
    node("Einsum", ["x", "w"], ["y"], equation="btc,co->bo"), node("Einsum", ["x", "w"], ["y"], equation="btc,co->tbo"),
    node("Einsum", ["x", "w"], ["y"], equation="...c,co->...o"),
    node("Einsum", ["x", "w"], ["y"], equation="btc,co->btco"),
    node("Einsum", ["x", "w", "w"], ["y"], equation="btc,co,co->bto"), node("Add", ["x", "w"], ["y"]),
    node("Gemm", ["w", "x"], ["y"]), node("MatMul", ["x", "w"], ["y"], domain="another"),
    node("Gemm", ["x", "w", "x"], ["y"]), node("Gemm", ["x", "w", "wide"], ["y"]),
])  # fmt: skip
def test_what_is_no_product_of_channels_is_left_alone(one):
    proto = model([one], {"w": Wt, "wide": np.ones((4, O), np.float32)}, (2, 4, I))
    assert list(find_products(DetachedModel(proto), [(I, O)])) == []


def test_products_of_other_sizes_are_left_alone():
    proto = model([PRODUCTS["MatMul"][0]], {"w": Wt}, LAST)
    assert list(find_products(DetachedModel(proto), [(I, O + 1)])) == []
    assert len(list(find_products(DetachedModel(proto), [(O, I)]))) == 1


# -- constants ---------------------------------------------------------------------------------------------------------

A = np.random.default_rng(4).integers(-20, 20, (2, 3, 4)).astype(np.float32)
B = np.array([1.5, -2, 4, 0.5], np.float32)
INT = np.arange(-6, 6, dtype=np.int64).reshape(3, 4)
FOLDED = {
    "Identity": (["a"], {}), "Neg": (["a"], {}), "Sqrt": (["positive"], {}), "Reciprocal": (["b"], {}),
    "Shape": (["a"], {}), "Shape of a part": (["a"], {"start": 1, "end": 3}),
    "Shape to the end": (["a"], {"start": -1}),
    "Expand": (["b", "shape"], {}), "ConstantOfShape": (["shape"], {}),
    "ConstantOfShape of a value": (["shape"], {"value": numpy_helper.from_array(np.array([7], np.int64))}),
    "Reshape": (["a", "six"], {}), "Transpose": (["a"], {}), "Transpose by a list": (["a"], {"perm": [1, 2, 0]}),
    "Unsqueeze": (["b", "axes"], {}), "Squeeze": (["thin", "zero"], {}), "Squeeze of all": (["thin"], {}),
    "Concat": (["a", "a2"], {"axis": 1}), "Slice": (["a", "starts", "ends"], {}),
    "Slice of axes": (["a", "starts", "ends", "axes"], {}),
    "Slice in steps": (["a", "backs", "far", "axes", "steps"], {}),
    "Add": (["a", "b"], {}), "Sub": (["a", "b"], {}), "Sub, other way": (["b", "a"], {}), "Mul": (["a", "b"], {}),
    "Div": (["a", "b"], {}), "Div of integers": (["int", "three"], {}), "Mod": (["int", "three"], {}),
    "Mod with the dividend's sign": (["int", "three"], {"fmod": 1}), "Cast": (["a"], {"to": onnx.TensorProto.INT32}),
    "CastLike": (["a", "int"], {}),
    "DequantizeLinear": (["bytes", "scale", "point"], {}), "DequantizeLinear without a point": (["bytes", "scale"], {}),
    "DequantizeLinear by axis": (["bytes", "scales", "points"], {"axis": 2}),
    "DequantizeLinear by the first axis": (["bytes", "two", "twos"], {"axis": 0}),
    "DequantizeLinear by an axis from the end": (["bytes", "scales", "points"], {"axis": -1}),
}  # fmt: skip
TENSORS = {
    "a": A, "a2": A[:, :1], "b": B, "positive": np.abs(A), "shape": np.array([2, 3, 4]), "six": np.array([6, -1]),
    "axes": np.array([0, 2]), "thin": A[:1, :, :1], "zero": np.array([0]), "starts": np.array([1, -2]),
    "ends": np.array([2, 100]), "backs": np.array([-1, 3]), "far": np.array([-100, 0]), "steps": np.array([-1, -2]),
    "int": INT, "three": np.array([3, -3, 5, -2]), "bytes": A.astype(np.int8), "scale": np.float32(0.5),
    "point": np.int8(3), "scales": B, "points": np.array([1, 2, -3, 4], np.int8), "two": np.float32([0.5, 3]),
    "twos": np.array([-1, 2], np.int8),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_a_constant_is_what_its_nodes_compute(name):
    inputs, attributes = FOLDED[name]
    one = node(name.split()[0].rstrip(","), inputs, ["c"], **attributes)
    proto = onnx.shape_inference.infer_shapes(model([one], {n: TENSORS[n] for n in inputs}, output="c"))
    proto.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("c"))
    found, right = Scope(proto.graph).constant("c"), evaluated(proto, "c", x=np.zeros((1, 3, 1, 1), np.float32))
    assert found is not None
    assert (found.dtype, found.shape) == (right.dtype, right.shape)
    assert np.array_equal(found, right)


@pytest.mark.parametrize(("op", "inputs", "attributes"), [
    ("Add", ["a", "x"], {}), ("Relu", ["a"], {}), ("Reshape", ["a", "keeping"], {}), ("Transpose", ["x"], {}),
    ("Expand", ["b", "huge"], {}), ("ConstantOfShape", ["huge"], {}), ("Concat", ["a", "b"], {"axis": 0}),
    ("DequantizeLinear", ["bytes", "scale"], {"block_size": 2}), ("Cast", ["x"], {"to": 1}),
])  # fmt: skip
def test_what_depends_on_an_input_or_is_not_known_is_no_constant(op, inputs, attributes):
    tensors = TENSORS | {"keeping": np.array([0, -1]), "huge": np.array([1 << 14, 1 << 13, 4])}
    proto = model([node(op, inputs, ["c"], **attributes)], tensors, output="c")
    assert Scope(proto.graph).constant("c") is None


@pytest.mark.parametrize(
    "names", [["x", "pads"], ["x", "pads", "value"], ["x", "pads", "value", "axes"], ["x", "pads", "", "axes"]]
)
def test_a_pad_is_read_as_it_runs(names):
    pads = [1, 2, 3, 4, 5, 6, 7, 8] if len(names) < 4 else [1, 2, 3, 4]
    tensors = {"pads": np.array(pads), "value": np.float32(9), "axes": np.array([-1, 2])}
    proto = model([node("Pad", names, ["y"])], tensors)
    found = read_pad(Scope(proto.graph), proto.graph.node[0], 4)
    x = np.random.default_rng(0).standard_normal((1, 3, 2, 2)).astype(np.float32)
    right = evaluated(proto, "y", x=x)
    assert np.array_equal(np.pad(x, found.pairs, constant_values=found.value), right)
    assert found.mode == "constant"


# -- attributes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(
    ("stride", "dilation", "extra"), [((1, 2), (1, 1), (0, 0)), ((2, 3), (2, 1), (1, 0)), ((3, 2), (1, 2), (0, 1))]
)
def test_an_output_shape_is_reached_by_its_pads(auto, stride, dilation, extra):
    for kernel in ((2, 3), (1, 4)):
        for spatial in ((4, 5), (1, 3)):
            full = [
                (n - 1) * s + (k - 1) * d + 1 + e
                for n, s, k, d, e in zip(spatial, stride, kernel, dilation, extra, strict=True)
            ]
            for less in ((0, 1), (1, 2), (3, 0), (-1, 1)):
                wanted = tuple(max(f - n, 1) for f, n in zip(full, less, strict=True))
                given = {
                    "strides": stride,
                    "dilations": dilation,
                    "output_padding": extra,
                    "output_shape": wanted,
                    "auto_pad": auto,
                }
                found = resolve_output_shape(given, kernel, spatial)
                assert found.keys() == {"strides", "dilations", "output_padding", "pads"}
                before, after = found["pads"][:2], found["pads"][2:]
                sizes = [
                    f - a - b + more - e
                    for f, a, b, more, e in zip(full, before, after, found["output_padding"], extra, strict=True)
                ]
                assert tuple(sizes) == wanted
                for a, b in zip(before, after, strict=True):
                    assert (b - a if auto == "SAME_UPPER" else a - b) in (0, 1)


# -- quantised nodes ---------------------------------------------------------------------------------------------------


def quantised(scale=0.043, zero=7, per_channel=True, low=-128, dtype=np.int8):
    rng = np.random.default_rng(3)
    w_scale = np.float32([0.02, 0.013, 0.3, 0.0071, 0.05]) if per_channel else np.float32(0.02)
    tensors = {
        "w": rng.integers(-90, 90, (O, I, 2, 3)).astype(np.int8), "xs": np.float32(0.31), "xz": np.uint8(12),
        "ws": w_scale,
        "wz": np.zeros(w_scale.shape, np.int8), "ys": np.float32(scale), "yz": dtype(zero),
        "b": rng.integers(-900, 900, O).astype(np.int32),
    }  # fmt: skip
    one = node(
        "QLinearConv",
        ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"],
        ["y"],
        "q",
        strides=[2, 1],
        pads=[0, 1, 1, 0],
    )
    (found,) = find_convolutions(DetachedModel(model([one], tensors)))
    return found, tensors, rng.integers(0, 256, (2, I, 5, 6)).astype(np.uint8)


def ideal(tensors, x):
    """The scaled sums before rounding, as exact fractions of the scales' own numbers."""
    spec = ConvSpec(I, O, (2, 3), (2, 1), ((0, 1), (1, 0)))
    centred = x.astype(np.float64) - float(tensors["xz"])
    kernel = tensors["w"].astype(np.float64)
    sums = reference.conv(spec, ConvParams(kernel, tensors["b"].astype(np.float64)), centred)
    scales = np.broadcast_to(tensors["ws"], (O,))
    factors = [Fraction(float(tensors["xs"])) * Fraction(float(s)) / Fraction(float(tensors["ys"])) for s in scales]
    return sums, factors


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 4.3},
        {"per_channel": False, "scale": 6.1},
        {"scale": 9.0, "zero": -3},
        {"scale": 5.0, "zero": 200, "dtype": np.uint8},
        {"scale": 2.7},
    ],
)
def test_a_quantised_node_is_right_on_the_nearest_grid_points_and_wrong_on_all_others(options):
    found, tensors, x = quantised(**options)
    sums, factors = ideal(tensors, x)
    info, zero = np.iinfo(tensors["yz"].dtype), int(tensors["yz"])
    y = np.empty(sums.shape, tensors["yz"].dtype)
    free = []  # elements within the range, not near the middle of two grid points
    for at in np.ndindex(*sums.shape):
        exact = int(sums[at]) * factors[at[1]] + zero
        y[at] = min(max(round(exact), info.min), info.max)
        if info.min + 1 < exact < info.max - 1 and abs(abs(exact - round(exact)) - Fraction(1, 2)) > Fraction(1, 100):
            free.append(at)
    verdict, arrays = judge_node(found, {"x": x, "y": y}, lambda *_: ComputePrecision("float32"))
    assert (verdict.verdict, verdict.evidence["wrong"], verdict.evidence["unit"]) == ("agree", 0, "steps")
    assert verdict.evidence["worst_q"] <= 0.5 + 1e-3
    assert set(arrays) == {"x", "y"}
    assert len(free) > 10
    for at, step in ((free[0], 1), (free[-1], -1), (free[len(free) // 2], 1)):
        wrong = y.copy()
        wrong[at] = int(wrong[at]) + step
        verdict, _ = judge_node(found, {"x": x, "y": wrong}, lambda *_: ComputePrecision("float32"))
        assert (verdict.verdict, verdict.evidence["wrong"], verdict.evidence["index"]) == ("disagree", 1, list(at))
        assert verdict.evidence["got"] == wrong[at]
        assert verdict.evidence["expected"] == pytest.approx(float(int(sums[at]) * factors[at[1]] + zero), rel=1e-6)
        assert verdict.evidence["worst_q"] >= 0.5


def test_what_is_clipped_may_not_leave_the_end_of_the_range():
    found, tensors, x = quantised(scale=0.001)
    sums, factors = ideal(tensors, x)
    y = np.where(sums > 0, 127, -128).astype(np.int8)
    close = np.abs(np.array([[float(f) for f in factors]]).reshape(1, O, 1, 1) * sums) < 200
    y[close] = np.clip(np.rint(sums * np.array([float(f) for f in factors]).reshape(1, O, 1, 1)) + 7, -128, 127)[close]
    assert judge_node(found, {"x": x, "y": y}, lambda *_: ComputePrecision("float32"))[0].verdict == "agree"
    at = tuple(np.argwhere(~close & (sums > 0))[0])
    y[at] = 126
    assert judge_node(found, {"x": x, "y": y}, lambda *_: ComputePrecision("float32"))[0].evidence["wrong"] == 1


def test_a_sum_in_the_middle_may_go_either_way():
    found, tensors, x = quantised(per_channel=False, scale=2 * 0.31 * 0.02, zero=0)
    tensors["xs"], tensors["ws"] = np.float32(0.5), np.float32(0.5)
    (found,) = find_convolutions(DetachedModel(model(
        [node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], "q",
        strides=[2, 1], pads=[0, 1, 1, 0])],
        tensors | {"ys": np.float32(0.5), "w": np.sign(tensors["w"]).astype(np.int8), "b": np.zeros(O, np.int32),
        "yz": np.int8(0)},
    )))  # fmt: skip
    x = (np.random.default_rng(8).integers(0, 5, x.shape) + 12).astype(np.uint8)
    sums, _ = ideal(tensors | {"w": np.sign(tensors["w"]), "b": np.zeros(O)}, x)
    half = sums / 2
    assert (half != np.rint(half)).any()
    for y in (np.floor(half), np.ceil(half), np.rint(half)):
        assert (
            judge_node(found, {"x": x, "y": y.astype(np.int8)}, lambda *_: ComputePrecision("float32"))[0].verdict
            == "agree"
        )
    beyond = np.ceil(half) + (half == np.rint(half))
    assert (
        judge_node(found, {"x": x, "y": beyond.astype(np.int8)}, lambda *_: ComputePrecision("float32"))[0].verdict
        == "disagree"
    )


# -- the oracle's cache ------------------------------------------------------------------------------------------------


def test_the_oracle_runs_again_for_other_numbers_and_only_then(monkeypatch):
    spec = ConvSpec(2, 3, 2)
    x, params = weights(1, 2, 4, 4), ConvParams(weights(3, 2, 2, 2), weights(3))
    cache = ExpectedCache()
    first = expected_output(spec, params, x, cache)
    assert expected_output(spec, params, x.copy(), cache) is first
    changed = x.copy()
    changed[0, 0, 1, 1] += 1
    for other_params, other_x in (
        (params, changed), (ConvParams(params.kernel * 2, params.bias), x),
        (ConvParams(params.kernel, params.bias + 1), x),
        (ConvParams(params.kernel.copy(), params.bias), x),
    ):  # fmt: skip
        expected_output(spec, params, x, cache)
        output, size, ignore = expected_output(spec, other_params, other_x, cache)
        assert np.array_equal(output, reference.conv(spec, other_params, other_x))
        assert np.array_equal(size, reference.magnitude(spec, other_params, other_x))
        assert ignore is None
    infinite = params.kernel.copy()
    infinite[0, 0, 0, 0] = np.inf
    padded = ConvSpec(2, 3, 2, padding=1)
    assert expected_output(padded, ConvParams(infinite, params.bias), x)[2].any()


# -- notes -------------------------------------------------------------------------------------------------------------


def notes(**changes):
    attributes = {"kernel_shape": [3, 3]} | changes.pop("attributes", {})
    tensors = {"w": changes.pop("w", weights(4, 3, 3, 3)), "b": changes.pop("b", weights(4))}
    op = changes.pop("op", "Conv")
    proto = model(
        [conv("conv", "x", "y", "w", "b", op=op, **{k: v for k, v in attributes.items() if v})], tensors, **changes
    )
    convs = find_convolutions(DetachedModel(proto))
    graph = lint_graph(proto.graph, convs)
    return {note["id"]: note["level"] for note in (*convs[0].notes, *graph)}


EXACT = np.round(weights(4, 3, 3, 3) * 64).astype(np.float32) / 64


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, {}),
    ({"attributes": {"kernel_shape": None}}, {"missing-kernel-shape": "info"}),
    ({"attributes": {"pads": [1, 0, 0, 0]}}, {"asymmetric-pads": "info"}),
    ({"attributes": {"pads": [2, 2, 2, 2]}}, {}),
    ({"attributes": {"pads": [3, 3, 3, 3]}}, {"pad-beyond-kernel": "warning"}),
    ({"attributes": {"strides": [3, 3]}}, {}), ({"attributes": {"strides": [3, 4]}}, {"skipped-input": "info"}),
    ({"attributes": {"dilations": [2, 2]}}, {}),
    ({"attributes": {"kernel_shape": [1, 3], "dilations": [2, 2]}, "w": weights(4, 3, 1, 3)},
    {"idle-dilation": "info"}),
    ({"attributes": {"auto_pad": "VALID"}}, {"auto-pad": "info"}),
    ({"attributes": {"auto_pad": "SAME_UPPER"}}, {"auto-pad": "info"}),
    ({"attributes": {"auto_pad": "SAME_UPPER", "strides": [1, 2]}},
    {"auto-pad": "info", "auto-pad-differs": "warning"}),
    ({"attributes": {"auto_pad": "SAME_LOWER", "dilations": [1, 2]}},
    {"auto-pad": "info", "auto-pad-dilation": "warning"}),
    ({"w": np.where(np.arange(4).reshape(4, 1, 1, 1) == 2, 0, weights(4, 3, 3, 3)).astype(np.float32)},
     {"dead-output-channel": "warning"}),
    ({"w": np.where(np.arange(3).reshape(1, 3, 1, 1) == 2, 0, weights(4, 3, 3, 3)).astype(np.float32)}, {}),
    ({"b": np.float32([1, np.nan, 2, 3])}, {"nan-weights": "error"}), ({"b": np.float32([1, np.inf, 2, 3])},
    {"inf-weights": "error"}),
    ({"b": np.float32([1, 1e-40, 2, 3])}, {"denormal-weights": "warning"}), ({"b": np.float32([1, 0, 2, 3])}, {}),
    ({"b": np.float32([1, 2.0**-126, 2, 3])}, {}),
    ({"w": EXACT}, {"half-precision-weights": "warning"}), ({"w": np.round(EXACT * 64).astype(np.float32)}, {}),
    ({"w": np.sign(weights(4, 3, 3, 3)) * np.float32(0.5)}, {}),
    ({"attributes": {"group": 2}, "w": weights(4, 3, 3, 3)}, {"input-contradicts-weight": "error"}),
    ({"attributes": {"group": 3}, "w": weights(4, 1, 3, 3)}, {"group-does-not-divide": "error"}),
    ({"attributes": {"kernel_shape": [3, 2]}}, {"kernel-shape-contradicts-weight": "error"}),
    ({"b": weights(3)}, {"bias-length": "error"}),
    ({"shape": ("N", 2, "H", "W")}, {"input-contradicts-weight": "error"}),
    ({"shape": (1, 3, 2, 9)}, {"no-output": "error"}),
    ({"op": "ConvTranspose", "w": weights(3, 4, 3, 3), "attributes": {"output_shape": [7, 7], "strides": [2, 2]},
      "shape": (1, 3, 4, 4)}, {"output-shape": "warning"}),
])  # fmt: skip
def test_what_is_noted_of_a_convolution(changes, expected):
    assert notes(**changes) == expected


@pytest.mark.parametrize(("number", "word"), [(np.nan, "nan"), (-np.inf, "inf")])
def test_weights_that_are_no_finite_numbers_are_counted_and_the_first_is_placed(number, word):
    w = weights(4, 3, 3, 3)
    w[2, 1, 0, 2] = w[3, 0, 0, 0] = number
    proto = model([conv("conv", "x", "y", "w", kernel_shape=[3, 3])], {"w": w})
    (found,) = find_convolutions(DetachedModel(proto))
    lint_graph(proto.graph, [found])
    assert [note["title"] for note in found.notes] == [
        f"2 elements of the kernel are {word}, the first at (2, 1, 0, 2)"
    ]


# -- nodes that cannot be read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attributes", "words"), [
    ({"strides": [1, 0]}, "strides=[1, 0] must be positive"), ({"group": 0}, "group=[0] must be positive"),
    ({"dilations": [-1, 1]}, "dilations=[-1, 1] must be positive"), ({"pads": [0, 0, 0, -1]}, "must not be negative"),
    ({"kernel_shape": [3, 0]}, "kernel_shape=[3, 0] must be positive"),
])  # fmt: skip
def test_attributes_of_no_convolution_are_refused_and_the_node_is_named(attributes, words):
    proto = model([conv("first", "x", "y", "w", **attributes)], {"w": weights(4, 3, 3, 3)})
    with pytest.raises(RequestError, match=re.escape(f"node 'first': {words}" if "pos" in words else words)):
        find_convolutions(DetachedModel(proto))


@pytest.mark.parametrize("missing", ["w", "b"])
def test_a_node_of_weights_that_a_run_computes_says_so(missing):
    tensors = {"w": weights(4, 3, 3, 3), "b": weights(4)}
    computed = node("Mul", ["x", "x"], ["unused"]), node("Tanh", [missing], ["computed"])
    names = ["computed" if name == missing else name for name in ("w", "b")]
    proto = model([*computed, conv("conv", "x", "y", *names)], tensors)
    (found,) = find_convolutions(DetachedModel(proto))
    assert (found.problem, found.spec) == (COMPUTED_WEIGHTS, None)
    x, y = np.zeros((2, 3, 5, 5), np.float32), np.zeros((2, 4, 3, 3), np.float32)
    kept = node_arrays(found, {"x": x, "y": y})  # for the comparison with a source, as they are
    assert (kept["x"].shape, kept["y"].shape) == (x.shape, y.shape)

"""One convolution node's output against the oracle's, computed from what the node really read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from convspec import reference
from convspec.corpora import test_data
from convspec.errors import ParamsError, RequestError, ShapeError, SpecError, UnsupportedError
from convspec.reference import Verdict, gamma, judge, products
from convspec.spec import ComputePrecision, ConvParams, format_of
from convspec_onnx.graph.convolutions import Conv, as_float, fix
from convspec_onnx.graph.matmul_convolutions import rows
from convspec_onnx.loading.large_weights import Lean
from convspec_onnx.verify import capture, runtimes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.spec import ConvSpec
    from convspec_onnx.verify.runtimes import Arm

    Arrays = dict[str, NDArray[Any]]
    How = Callable[[ConvSpec, str], ComputePrecision]  # a layer computes in a dtype

_NAMES = {"float32": "float32", "float64": "float64", "float16": "float16", "bfloat16": "bfloat16"}
_MOST_CELLS = 1 << 48  # of an output: beyond it, allocating fails in other ways than by want of memory
NOT_RUN = "not run: with these inputs the node is in a branch that is not taken, or in a loop without a step"


@dataclass
class Right:
    """The oracle's result for one input, kept for the next level of optimisation, whose input is mostly the same."""

    x: NDArray[Any] | None = None
    weights: tuple[NDArray[Any], ...] = ()
    results: tuple[Any, ...] = field(default=())


def judged(conv: Conv, values: Arrays, how: How, kept: Right | None = None) -> tuple[Verdict, Arrays]:
    """The verdict on a node, and what it read and wrote as ``x`` and ``y``, the steps of a loop in the batch axis."""
    try:
        inputs = [_value(conv, name, values) for name in conv.node.input]
        y = values[conv.node.output[0]]
    except KeyError as error:
        return Verdict("error", f"tensor {error} was not seen"), {}
    if any(v is not None and v.ndim == 1 and not v.size for v in (inputs[0], y)):
        return Verdict("unsupported", NOT_RUN), {}
    try:
        if conv.rows:
            x, y = rows(values[conv.data], conv.rows[1]), rows(y, conv.rows[2])
            return _floating(conv, x, y, how, kept or Right()), {"x": x, "y": y}
        return _judged(conv, inputs, y, how, kept or Right())
    except (SpecError, ParamsError, ShapeError) as error:
        return Verdict("error", f"no layer: {error}"), {}
    except (UnsupportedError, RequestError) as error:
        return Verdict("unsupported", str(error)), {}


def once(model: onnx.ModelProto, node: onnx.NodeProto, values: Arrays, element: int, arm: Arm) -> Arrays:
    """Run one node of ``model`` by itself on ``values``; ``element`` is the type of its output."""
    small = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    for name, value in values.items():
        if name != node.input[0]:  # some runtimes take no weights from outside
            small.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    feeds = {node.input[0]: values[node.input[0]]}
    show = [capture.Shown(node.output[0], node.output[0], element, ())]
    built, names = capture.submodel(small, capture.Segment([node], []), feeds, set(), show)
    return runtimes.run(Lean(built), feeds, names, arm)


def seen(conv: Conv, values: Arrays) -> Arrays:
    """What a node read and wrote, unjudged: ``x`` and ``y``, or nothing where it did not run."""
    x, y = values.get(conv.data), values.get(conv.node.output[0])
    if x is None or y is None:
        return {}
    if conv.rows:
        return {"x": rows(x, conv.rows[1]), "y": rows(y, conv.rows[2])}
    ndim = conv.spec.ndim + 2 if conv.spec else 0
    if min(x.ndim, y.ndim) < max(ndim, 2):
        return {}
    return {"x": _flat(x, ndim), "y": _flat(y, ndim)} if ndim else {"x": x, "y": y}


def _value(conv: Conv, name: str, values: Arrays) -> NDArray[Any] | None:
    if not name:
        return None
    constant = conv.scope.constant(name)
    return constant if constant is not None else values[name]


def _judged(
    conv: Conv, inputs: list[NDArray[Any] | None], y: NDArray[Any], how: How, kept: Right
) -> tuple[Verdict, Arrays]:
    x, weight = inputs[0], inputs[3 if conv.node.op_type == "QLinearConv" else 1]
    if x is None or weight is None:
        raise SpecError(["the node must have an input and a weight"])
    x, y = (_flat(a, weight.ndim) for a in (x, y))
    arrays = {"x": x, "y": y}
    if conv.node.op_type == "ConvInteger":
        return _integers(conv, x, weight, inputs, y), arrays
    if conv.node.op_type == "QLinearConv":
        return _quantised(conv, x, weight, inputs, y), arrays
    bias = inputs[2] if len(inputs) > 2 else None
    if (
        conv.params is None
        or any(conv.scope.constant(n) is None for n in (conv.weight, conv.bias) if n)
        or conv.attributes.get("output_shape")
    ):
        fix(conv, weight, bias, x.shape)
    return _floating(conv, x, y, how, kept), arrays


def _floating(conv: Conv, x: NDArray[Any], y: NDArray[Any], how: How, kept: Right) -> Verdict:
    spec, params = conv.spec, conv.params
    assert spec is not None
    assert params is not None
    activation = conv.attributes.get("activation", "")
    if conv.node.op_type == "FusedConv" and (activation not in ("", "Relu") or len(conv.node.input) > 3):
        raise UnsupportedError(f"a convolution fused with {activation or 'a sum'} is not judged")
    dtype = _NAMES.get(str(y.dtype))
    if dtype is None:
        raise UnsupportedError(f"a convolution of {y.dtype} is not judged")
    expected, size, ignore = expectation(spec, params, as_float(x), kept)
    if activation == "Relu":
        expected = np.maximum(expected, 0)  # moves no two numbers further apart: the bound stays
    arithmetic = how(spec, dtype)
    if arithmetic.inputs and format_of(arithmetic.inputs).emin > format_of(dtype).emin:
        size = _lifted_magnitude(spec, params, as_float(x), format_of(arithmetic.inputs).smallest_normal)
    return judge(as_float(y), expected, size, dtype=dtype, data="captured", products=products(spec),
                 arithmetic=arithmetic, ignore=ignore)  # fmt: skip


def _lifted_magnitude(spec: ConvSpec, params: ConvParams, x: NDArray[Any], least: float) -> NDArray[Any]:
    """G with no number but 0 below ``least``, the smallest normal one of the format that inputs are rounded to.

    Rounding to that format costs at most u·max(|x|, least), so that the bound of rounded inputs holds with this G.
    """

    def lifted(a: NDArray[Any]) -> NDArray[Any]:
        return np.where(a == 0, 0, np.maximum(np.abs(a), least)).astype(a.dtype)

    return reference.magnitude(spec, ConvParams(lifted(params.kernel), params.bias), lifted(x))


def expectation(
    spec: ConvSpec, params: ConvParams, x: NDArray[Any], kept: Right | None = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_] | None]:
    """The oracle's output, its magnitude, and which elements say nothing.

    Those are the ones where an infinite weight meets a pad.
    """
    kept = kept or Right()
    weights = (params.kernel,) if params.bias is None else (params.kernel, params.bias)
    same = kept.x is not None and np.array_equal(kept.x, x, equal_nan=True)
    if same and all(a is b for a, b in zip(kept.weights, weights, strict=False)):
        return kept.results
    with np.errstate(invalid="ignore", over="ignore"):
        found = (_right(spec, params, x), reference.magnitude(spec, params, x))
    ignore = None if np.isfinite(params.kernel).all() else test_data.uncompared(spec, params, x.shape)
    kept.x, kept.weights, kept.results = x, weights, (*found, ignore)
    return *found, ignore


def _right(spec: ConvSpec, params: ConvParams, x: NDArray[Any]) -> NDArray[Any]:
    """The oracle's output; pads may ask for one that no machine holds, which NumPy calls a wrong value."""
    if math.prod(spec.output_shape(x.shape)) > _MOST_CELLS:
        raise MemoryError
    return reference.conv(spec, params, x)


def _integers(
    conv: Conv, x: NDArray[Any], weight: NDArray[Any], inputs: list[NDArray[Any] | None], y: NDArray[Any]
) -> Verdict:
    """ConvInteger: integers in, integers out, no rounding: the result must be exact, padded with the zero point."""
    zeros = [inputs[i] if len(inputs) > i else None for i in (2, 3)]
    spec, params = fix(conv, _centred(weight, zeros[1]), None, x.shape)
    expected = _right(spec, params, _centred(x, zeros[0]))
    return judge(y.astype(np.float64), expected, None, dtype="float64", data="exact", products=products(spec),
                 arithmetic=ComputePrecision("float64"))  # fmt: skip


def _quantised(
    conv: Conv, x: NDArray[Any], weight: NDArray[Any], inputs: list[NDArray[Any] | None], y: NDArray[Any]
) -> Verdict:
    """QLinearConv: exact sums of integers, scaled, rounded to the grid of the output and cut off at its ends.

    |ŷ - y/s| ≤ 1/2 + γ(5)·(|y/s| + |z|) before the cut: half a step, and five roundings of the scaling in float32.
    """
    x_scale, x_zero, w_scale, w_zero, y_scale, y_zero = (inputs[i] for i in (1, 2, 4, 5, 6, 7))
    bias = inputs[8] if len(inputs) > 8 else None
    spec, params = fix(conv, _centred(weight, w_zero), bias, x.shape)
    sums = _right(spec, params, _centred(x, x_zero))
    assert x_scale is not None
    assert w_scale is not None
    assert y_scale is not None
    scale = x_scale.astype(np.float64) * w_scale.astype(np.float64).reshape(-1) / y_scale.astype(np.float64)
    ideal = sums * scale.reshape(-1, *(1,) * spec.ndim)
    zero = 0.0 if y_zero is None else float(y_zero.reshape(-1)[0])
    info = np.iinfo(y.dtype)
    slack = 0.5 + gamma(5, 2.0**-24) * (np.abs(ideal) + abs(zero))
    low, high = (np.clip(ideal + zero + side * slack, info.min, info.max) for side in (-1, 1))
    q = np.abs(y - np.clip(ideal + zero, info.min, info.max))
    wrong = (y < np.ceil(low)) | (y > np.floor(high))
    # a grid point is allowed where the interval reaches it; the clip keeps both ends on the grid
    at = np.unravel_index(int(np.argmax(np.where(wrong, q + info.max, q))), y.shape) if y.size else ()
    evidence = {"total": int(y.size), "wrong": int(wrong.sum()), "unit": "steps", "bound": 0.5,
                "worst_q": float(q[at]) if y.size else 0.0}  # fmt: skip
    if y.shape != ideal.shape:
        return Verdict("disagree", f"shape {y.shape} where {ideal.shape} is right", evidence=evidence)
    if not wrong.any():
        return Verdict("agree", evidence=evidence)
    evidence |= {"index": [int(i) for i in at], "got": float(y[at]), "expected": float((ideal + zero)[at])}
    reason = f"value: {evidence['wrong']} of {y.size} elements are off the grid point that is right"
    return Verdict("disagree", reason, evidence=evidence)


def _centred(values: NDArray[Any], zero: NDArray[Any] | None) -> NDArray[np.float64]:
    """Values - zero, in numbers that hold it exactly; a zero for each of the first axis, or one for all."""
    if zero is None:
        return values.astype(np.float64)
    wide = zero.astype(np.float64)
    shaped = wide.reshape(-1, *(1,) * (values.ndim - 1)) if wide.size > 1 else wide.reshape(())
    return np.asarray(values.astype(np.float64) - shaped)


def _flat(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    """The steps of a loop, stacked in front, as more samples: a convolution treats every sample alike."""
    return array.reshape(-1, *array.shape[1 - ndim :]) if array.ndim > ndim else array

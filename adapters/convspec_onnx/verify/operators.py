"""Judge every node that is no convolution, by what it read and wrote in one run.

A node of the steps' vocabulary is judged by the float64 reference and the bound of its step. Integers, truths and moves
are exact: onnx's evaluator must give the same. Quantisation has a set of legal results, which the rounding of a
quotient leaves open. A node of another kind is not judged, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from convspec import reference
from convspec.errors import ConvspecError
from convspec.reference import Verdict, gamma
from convspec.spec import ConvSpec, format_of
from convspec.spec.steps import Other, Resize
from convspec_onnx.graph import Scope, along_axis
from convspec_onnx.loading import Array, Arrays, DetachedModel, subgraphs
from convspec_onnx.steps import Operation, fixed_tensors, opset_of, opsets_of, word_of

_FLOATS = ("float16", "float32", "float64")
_MOVES = frozenset((
    "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Tile", "Where", "Compress", "TopK",
    "OneHot", "Trilu", "EyeLike", "ConstantOfShape", "ReverseSequence", "Cast", "CastLike", "Slice", "Pad", "Reshape",
    "Expand", "Squeeze", "Unsqueeze", "Split", "Concat", "Flatten", "Clip",
))  # by onnx's evaluator, whatever the type  # fmt: skip
_ROUNDINGS = 3  # of a quotient that is computed as a product with the reciprocal


class OperatorJudge:
    """The nodes of one graph that are no convolutions, each judged once per set of inputs."""

    def __init__(self, model: DetachedModel, convs: Collection[str]) -> None:
        self.scope = Scope(model.graph, weights=model.weights)
        self.fixed = fixed_tensors(model.graph)
        self.opsets = opsets_of(model.proto)
        self.convs = convs

    def judges(self, node: onnx.NodeProto) -> bool:
        """Whether a node is one of these: no convolution, and no constant, which computes nothing."""
        return node.name not in self.convs and node.op_type != "Constant"

    def judge(self, node: onnx.NodeProto, values: Arrays) -> dict[str, Any]:
        """Return a node's verdict, JSON-ready, given the values of one run."""
        words, verdict = node.op_type, Verdict("unsupported", "it has bodies, whose convolutions alone are judged")
        if not any(list(subgraphs(attribute)) for attribute in node.attribute):
            try:
                call = self.operation(node, values)
                words, verdict = judge_operation(call)
            except KeyError as error:
                verdict = Verdict("unsupported", f"tensor {error} was not captured")
            except (ConvspecError, ValueError, TypeError, IndexError) as error:
                verdict = Verdict("unsupported", str(error))
        return {"path": node.name, "op_type": node.op_type, "words": words, "verdict": verdict.verdict,
                "reason": verdict.reason, "evidence": verdict.evidence}  # fmt: skip

    def operation(self, node: onnx.NodeProto, values: Arrays) -> Operation:
        """Return a node with what it read and wrote; raise KeyError for a tensor that is not known."""
        known = [self.value(name, values) if name else None for name in node.input]
        return Operation(
            node, opset_of(node, self.opsets), known, [not name or name in self.fixed for name in node.input],
            [values[name] for name in node.output if name],
        )  # fmt: skip

    def value(self, name: str, values: Arrays) -> Array:
        if name in values:
            return values[name]
        constant = self.scope.constant(name)
        if constant is None:
            raise KeyError(name)
        return constant


def judge_operation(call: Operation) -> tuple[str, Verdict]:
    """Return a node in words and the verdict on it; unsupported where nothing can judge it."""
    name = call.node.op_type
    if rule := _QUANTISED.get(name):
        return name, rule(call)
    word = word_of(call)
    if not isinstance(word.step, Other | ConvSpec) and call.y.dtype.name in _FLOATS:
        outputs = call.results[:1] if "positions" in word.note else call.results
        xs = [call.value(number) for number in word.reads]
        return str(word.step), reference.steps.judge_step(word.step, xs, outputs, word.arrays)
    if isinstance(word.step, Resize) and word.step.mode != "nearest" and call.y.dtype.kind in "iu":
        return str(word.step), _judge_interpolated(call, word.step)
    if name in _MOVES or not isinstance(word.step, Other) or all(y.dtype.kind in "iub" for y in call.results):
        return name, _judge_exact(call)
    return name, Verdict("unsupported", f"{word.step.name}: there is no reference for it")


def _judge_exact(call: Operation) -> Verdict:
    """Compare a node with onnx's evaluator, element by element."""
    try:
        wanted = _evaluate(call)
    except Exception as error:  # noqa: BLE001 – the evaluator raises whatever NumPy does
        return Verdict("unsupported", f"onnx's evaluator does not compute it: {type(error).__name__}")
    for y, expected in zip(call.results, wanted, strict=True):
        if y.shape != expected.shape:
            return Verdict("disagree", f"shape: expected {expected.shape}, got {y.shape}")
        wrong = np.asarray(y != expected) & ~(np.asarray(y != y) & np.asarray(expected != expected))  # noqa: PLR0124
        if call.node.op_type in ("Cast", "CastLike") and y.dtype.kind in "iu" and call.x.dtype.kind == "f":
            info = np.iinfo(y.dtype)  # the standard leaves open what becomes of other numbers
            wrong &= np.isfinite(call.x) & (call.x > info.min - 1.0) & (call.x < info.max + 1.0)
        if wrong.any():
            at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            return reference.steps.wrong_elements(y, expected, wrong, at, "and nothing is rounded here")
    return Verdict("agree")


def _judge_interpolated(call: Operation, step: Resize) -> Verdict:
    """Judge integers between integers: the standard leaves open which of the two next to a number it becomes."""
    info = np.iinfo(call.y.dtype)
    (ideal,) = (np.clip(y, info.min, info.max) for y in reference.steps.evaluate(step, [call.x.astype(np.float64)]))
    wrong = np.abs(call.y - ideal) >= 1
    at = np.unravel_index(int(np.argmax(np.abs(call.y - ideal))), ideal.shape)
    if not wrong.any():
        return Verdict("agree")
    return reference.steps.wrong_elements(call.y, ideal, wrong, at, "which no rounding to an integer gives")


def _evaluate(call: Operation) -> list[Array]:
    feeds = {name: value for name, value in zip(call.node.input, call.values, strict=True) if value is not None}
    domain = helper.make_opsetid(call.node.domain, call.opset)

    def entry(name: str, value: Array) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)

    names = [name for name in call.node.output if name]
    graph = helper.make_graph([call.node], "node", [entry(*item) for item in feeds.items()],
                              [entry(*item) for item in zip(names, call.results, strict=True)])  # fmt: skip
    return [
        np.asarray(y) for y in ReferenceEvaluator(helper.make_model(graph, opset_imports=[domain])).run(names, feeds)
    ]


# -- quantisation ------------------------------------------------------------------------------------------------------


def _grid(call: Operation, x: Array) -> tuple[Array, Array]:
    """Return scale and zero point of a quantisation, to be broadcast."""
    if call.attributes.get("block_size"):
        raise ValueError("blocks have scales of their own")
    axis = call.attributes.get("axis", 1)
    numbers = call.value(1), call.value(2) if call.has(2) else np.zeros(())
    scale, zero = (along_axis(own.astype(np.float64), axis, x.ndim) for own in numbers)
    return scale, zero


def _judge_rounded(y: Array, ideal: Array, zero: Array, unit: float) -> Verdict:
    """Judge integers that are ``ideal + zero``, rounded either way where the error of the quotient leaves it open."""
    info = np.iinfo(y.dtype)
    slack = 0.5 + gamma(_ROUNDINGS, unit) * (np.abs(ideal) + np.abs(zero))
    low, high = (np.clip(ideal + zero + side * slack, info.min, info.max) for side in (-1, 1))
    wrong = (y < np.ceil(low)) | (y > np.floor(high))
    if not wrong.any():
        return Verdict("agree")
    at = np.unravel_index(int(np.argmax(np.where(wrong, np.abs(y - low), -1.0))), y.shape)
    return reference.steps.wrong_elements(
        y, np.broadcast_to(ideal + zero, y.shape), wrong, at, "which no legal rounding gives"
    )


def _quantize(call: Operation) -> Verdict:
    if call.y.dtype.kind not in "iu":
        raise ValueError(f"convspec does not judge quantisation to {call.y.dtype}")
    scale, zero = _grid(call, call.x)
    with np.errstate(divide="ignore", invalid="ignore"):
        ideal = np.nan_to_num(call.x.astype(np.float64) / scale, nan=0.0, posinf=1e30, neginf=-1e30)
    return _judge_rounded(call.y, ideal, zero, format_of(call.x.dtype.name).unit_roundoff)


def _dequantize(call: Operation) -> Verdict:
    if call.x.dtype.kind not in "iu":
        raise ValueError(f"convspec does not judge quantised numbers of {call.x.dtype}")
    scale, zero = _grid(call, call.x)
    expected = (call.x.astype(np.float64) - zero) * scale
    bound = gamma(2, format_of(call.y.dtype.name).unit_roundoff) * np.abs(expected)
    ratio = reference.steps.error_ratio(call.y, expected, bound)
    if not (ratio > 1).any():
        return Verdict("agree")
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return reference.steps.wrong_elements(call.y, expected, ratio > 1, at, f"{float(ratio[at]):.3g} times the bound")


def _quantize_dynamically(call: Operation) -> Verdict:
    y, scale, zero = call.results
    x = call.x.astype(np.float64)
    low, high = min(float(x.min(initial=0.0)), 0.0), max(float(x.max(initial=0.0)), 0.0)
    unit = format_of("float32").unit_roundoff
    expected = np.asarray((high - low) / 255.0)
    if abs(float(scale) - expected) > gamma(_ROUNDINGS, unit) * expected:
        return reference.steps.wrong_elements(scale.reshape(()), expected, np.asarray(True), (), "and is the scale")
    if not scale:
        return Verdict("agree")
    verdict = _judge_rounded(zero.reshape(()), np.asarray(-low / float(scale)), np.zeros(()), unit)
    return verdict if verdict.verdict != "agree" else _judge_rounded(y, x / float(scale), np.asarray(float(zero)), unit)


_QUANTISED: dict[str, Callable[[Operation], Verdict]] = {
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize, "DynamicQuantizeLinear": _quantize_dynamically,
}  # fmt: skip

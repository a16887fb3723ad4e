"""Fold constants: compute the nodes that exporters put between an initialiser and a convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from convspec_onnx.loading import Array, to_array

_MAX_ELEMENTS = 1 << 26  # of a folded constant


def fold(node: onnx.NodeProto, values: Sequence[Array | None], element: int) -> Array | None:
    """Return the output of a node with constant inputs; None for an input that is no constant or another operator.

    ``element``: the element type of the output, if it depends on a tensor that is no constant (CastLike).
    """
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Constant" and attributes:
        value = next(iter(attributes.values()))
        return to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    if node.op_type in ("Cast", "CastLike"):
        to = attributes.get("to") or element
        return None if values[0] is None or not to else values[0].astype(helper.tensor_dtype_to_np_dtype(to))
    rule = _RULES.get(node.op_type)
    if rule is None or any(value is None for value in values):
        return None
    try:
        with np.errstate(all="ignore"):
            return rule(attributes, *values)
    except (ValueError, TypeError, IndexError):
        return None  # the runtime reports what is wrong with the node


def _expand(_: dict[str, Any], x: Array, shape: Array) -> Array | None:
    target = np.broadcast_shapes(x.shape, tuple(int(n) for n in shape))
    return np.broadcast_to(x, target).copy() if math.prod(target) <= _MAX_ELEMENTS else None


def _constant_of_shape(attributes: dict[str, Any], shape: Array) -> Array | None:
    sizes = tuple(int(n) for n in shape)
    value = to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return np.full(sizes, value.reshape(-1)[0]) if math.prod(sizes) <= _MAX_ELEMENTS else None


def _binary(function: Callable[[Array, Array], Array]) -> Callable[..., Array | None]:
    def rule(_: dict[str, Any], a: Array, b: Array) -> Array | None:
        return function(a, b) if math.prod(np.broadcast_shapes(a.shape, b.shape)) <= _MAX_ELEMENTS else None

    return rule


def _divide_integers(a: Array, b: Array) -> Array:
    """Divide integers and round towards zero, as ONNX does; NumPy rounds down."""
    return np.asarray(a // b + ((a % b != 0) & ((a < 0) != (b < 0))).astype(a.dtype))


def _dequantize(attributes: dict[str, Any], values: Array, scale: Array, *zero: Array) -> Array | None:
    """Compute (values - zero)·scale; scale and zero are for the whole tensor, or for each index of an axis."""
    if attributes.get("block_size"):
        return None
    axis = attributes.get("axis", 1)

    def align(numbers: Array) -> Array:
        if numbers.size == 1:
            return numbers.reshape(())
        return numbers.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)])

    shifted = values.astype(np.int64) - (align(zero[0]).astype(np.int64) if zero else 0)
    return np.asarray(shifted.astype(np.float32) * align(scale).astype(np.float32), np.float32)


def _concat(attributes: dict[str, Any], *parts: Array) -> Array | None:
    return np.concatenate(parts, attributes["axis"]) if sum(p.size for p in parts) <= _MAX_ELEMENTS else None


def _slice(_: dict[str, Any], x: Array, starts: Array, ends: Array, *rest: Array) -> Array:
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts), np.int64)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(*(a.tolist() for a in (axes, starts, ends, steps)), strict=True):
        # a negative step to before the first element has no number in Python
        stop = None if step < 0 and end < -x.shape[axis] else end
        index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _unsqueeze(attributes: dict[str, Any], x: Array, *axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(n) for n in (axes[0] if axes else attributes["axes"])))


_RULES: dict[str, Callable[..., Array | None]] = {
    "Identity": lambda _, x: x,
    "Shape": lambda a, x: np.array(x.shape[a.get("start", 0) : a.get("end")], np.int64),
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Reshape": lambda _, x, s: None if 0 in s else x.reshape(tuple(int(n) for n in s)),
    "Transpose": lambda a, x: np.transpose(x, a.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Squeeze": lambda a, x, *axes: np.squeeze(x, tuple(axes[0]) if axes else tuple(a["axes"]) if "axes" in a else None),
    "Concat": _concat,
    "Slice": _slice,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(lambda a, b: a / b if a.dtype.kind == "f" else _divide_integers(a, b)),
    "Mod": lambda a, x, y: _binary(np.fmod if a.get("fmod") else np.mod)(a, x, y),
    "Neg": lambda _, x: -x,
    "Sqrt": lambda _, x: np.sqrt(x),
    "Reciprocal": lambda _, x: (1 / x).astype(x.dtype),
    "DequantizeLinear": _dequantize,
}

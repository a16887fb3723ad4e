"""The nodes that exporters put between an initialiser and a convolution, computed without running anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convspec.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_LARGEST = 1 << 26  # elements of a computed constant


def computed(node: onnx.NodeProto, values: Sequence[Array | None], element: int) -> Array | None:
    """What a node makes of constant inputs; None where an input is none, or the operator is not one of a few.

    ``element`` is the type of the result, where it depends on a tensor that is no constant (CastLike).
    """
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Constant" and attributes:
        value = next(iter(attributes.values()))
        return array_of(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
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
        return None  # whoever runs the model will say what is wrong with the node


def _expand(_: dict[str, Any], x: Array, shape: Array) -> Array | None:
    target = np.broadcast_shapes(x.shape, tuple(int(n) for n in shape))
    return np.broadcast_to(x, target).copy() if math.prod(target) <= _LARGEST else None


def _filled(attributes: dict[str, Any], shape: Array) -> Array | None:
    sizes = tuple(int(n) for n in shape)
    value = array_of(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    return np.full(sizes, value.reshape(-1)[0]) if math.prod(sizes) <= _LARGEST else None


def _binary(function: Callable[[Array, Array], Array]) -> Callable[..., Array | None]:
    def rule(_: dict[str, Any], a: Array, b: Array) -> Array | None:
        return function(a, b) if math.prod(np.broadcast_shapes(a.shape, b.shape)) <= _LARGEST else None

    return rule


def _truncated(a: Array, b: Array) -> Array:
    """Integers divided and rounded towards zero, as ONNX does it; NumPy rounds down."""
    return np.asarray(a // b + ((a % b != 0) & ((a < 0) != (b < 0))).astype(a.dtype))


def _dequantise(attributes: dict[str, Any], values: Array, scale: Array, *zero: Array) -> Array | None:
    if attributes.get("block_size"):
        return None
    return dequantised(values, scale, zero[0] if zero else None, attributes.get("axis", 1))


def _concatenated(attributes: dict[str, Any], *parts: Array) -> Array | None:
    return np.concatenate(parts, attributes["axis"]) if sum(p.size for p in parts) <= _LARGEST else None


def _sliced(_: dict[str, Any], x: Array, starts: Array, ends: Array, *rest: Array) -> Array:
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts), np.int64)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(*(a.tolist() for a in (axes, starts, ends, steps)), strict=True):
        size = x.shape[axis]
        # backwards to before the first cell, which Python cannot say by a number
        stop = None if step < 0 and end < -size else end
        index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _unsqueeze(attributes: dict[str, Any], x: Array, *axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(n) for n in (axes[0] if axes else attributes["axes"])))


_RULES: dict[str, Callable[..., Array | None]] = {
    "Identity": lambda _, x: x,
    "Shape": lambda a, x: np.array(x.shape[a.get("start", 0) : a.get("end")], np.int64),
    "Expand": _expand,
    "ConstantOfShape": _filled,
    "Reshape": lambda _, x, s: None if 0 in s else x.reshape(tuple(int(n) for n in s)),
    "Transpose": lambda a, x: np.transpose(x, a.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Squeeze": lambda a, x, *axes: np.squeeze(x, tuple(axes[0]) if axes else tuple(a["axes"]) if "axes" in a else None),
    "Concat": _concatenated,
    "Slice": _sliced,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(lambda a, b: a / b if a.dtype.kind == "f" else _truncated(a, b)),
    "Mod": lambda a, x, y: _binary(np.fmod if a.get("fmod") else np.mod)(a, x, y),
    "Neg": lambda _, x: -x,
    "Sqrt": lambda _, x: np.sqrt(x),
    "Reciprocal": lambda _, x: (1 / x).astype(x.dtype),
    "DequantizeLinear": _dequantise,
}


def dequantised(values: Array, scale: Array, zero: Array | None, axis: int = 0) -> NDArray[np.float32]:
    """(values - zero)·scale as DequantizeLinear computes it; scale and zero are for all, or for each of an axis."""

    def along(numbers: Array) -> Array:
        if numbers.size == 1:
            return numbers.reshape(())
        return numbers.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)])

    shifted = values.astype(np.int64) - (0 if zero is None else along(zero).astype(np.int64))
    return np.asarray(shifted.astype(np.float32) * along(scale).astype(np.float32), np.float32)


def array_of(tensor: onnx.TensorProto) -> Array:
    """A tensor's numbers; raises RequestError where there are fewer than its shape has places for."""
    try:
        found: Array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, MemoryError, KeyError) as error:
        raise RequestError(f"tensor {tensor.name!r} cannot be read: {error}") from None
    return found

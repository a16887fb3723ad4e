"""Backend tests as bytes, without onnx: a layer's plan is run with writers of the few messages that it uses.

The messages are those of onnx.proto. Their fields are written in the order of their numbers, as onnx writes them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convspec.corpora.pack import Vector
from convspec.errors import UnsupportedError
from convspec.spec import resolve_padding
from convspec_onnx import plan

_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}
_INT, _STRING, _INTS = 2, 3, 7  # AttributeProto.AttributeType
_OPSET, _IR_VERSION = 19, 9


def _varint(number: int) -> bytes:
    out, rest = bytearray(), number & (1 << 64) - 1
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*out, rest])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _fields(number: int, values: Sequence[int | str | bytes]) -> bytes:
    return b"".join(_field(number, value) for value in values)


def tensor(array: NDArray[Any], name: str) -> bytes:
    """Return a TensorProto: its sizes, type, name and raw data."""
    raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    head = _fields(1, array.shape) + _field(2, _TYPES[str(array.dtype)])
    return head + _field(8, name) + _field(9, raw)


def _node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> bytes:
    written = b"".join(_field(5, _attribute(name, value)) for name, value in sorted(attributes.items()))
    return _fields(1, inputs) + _fields(2, outputs) + _field(4, op) + written


def _attribute(name: str, value: int | str | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, _INT)
    if isinstance(value, str):
        return _field(1, name) + _field(4, value) + _field(20, _STRING)
    return _field(1, name) + _fields(8, value) + _field(20, _INTS)


def _value_info(name: str, element: int, shape: Sequence[int]) -> bytes:
    sizes = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, element) + _field(2, sizes)))


def _model(nodes: Sequence[bytes], arrays: Mapping[str, NDArray[Any]], x: NDArray[Any], y: NDArray[Any]) -> bytes:
    """Return a ModelProto of one graph from ``x`` to ``y``."""
    infos = [_value_info(name, _TYPES[str(array.dtype)], array.shape) for name, array in (("x", x), ("y", y))]
    graph = _fields(1, nodes) + _field(2, "conv")
    graph += _fields(5, [tensor(array, name) for name, array in arrays.items()])
    graph += _field(11, infos[0]) + _field(12, infos[1])
    return _field(1, _IR_VERSION) + _field(2, "convspec") + _field(7, graph) + _field(8, _field(2, _OPSET))


def _planned(vector: Vector) -> tuple[list[bytes], dict[str, NDArray[Any]]]:
    """Return the nodes of the layer's plan, and its tensors with the vector's weights."""
    spec = vector.spec.explicit(vector.input_shape)
    text = plan.plan(spec, "NCHW", "float32").text
    code = [line for line in text.split("graph = ")[0].splitlines() if "import" not in line]
    named: dict[str, Any] = {"np": np, "helper": SimpleNamespace(make_node=_node)}
    exec("\n".join(code), named)  # the text of convspec's own plan
    weights = {"weight": vector.params.kernel, "bias": vector.params.bias}
    arrays = {name: np.asarray(weights.get(name, own), own.dtype) for name, own in named["tensors"].items()}
    return named["nodes"], arrays


def _quantized(vector: Vector) -> tuple[list[bytes], dict[str, NDArray[Any]]]:
    """Return a QLinearConv and its tensors."""
    spec, dtype = vector.spec, np.dtype(vector.dtype)
    x_scale, y_scale, *w_scales = vector.scales
    arrays = {
        "x_scale": np.float32(x_scale), "x_zero": dtype.type(vector.zeros[0]),
        "weight": vector.params.kernel.astype(np.int8), "w_scales": np.array(w_scales, np.float32),
        "w_zero": np.zeros(len(w_scales), np.int8), "y_scale": np.float32(y_scale),
        "y_zero": dtype.type(vector.zeros[1]),
    }  # fmt: skip
    if vector.params.bias is not None:
        arrays["bias"] = vector.params.bias.astype(np.int32)
    pads, _ = resolve_padding(spec, vector.input_shape[2:])
    ends = [lo for lo, _ in pads] + [hi for _, hi in pads]
    node = _node("QLinearConv", ["x", *arrays], ["y"], kernel_shape=spec.kernel_size, strides=spec.stride,
                 dilations=spec.dilation, group=spec.groups, pads=ends)  # fmt: skip
    return [node], {name: np.asarray(array) for name, array in arrays.items()}


def backend_test(vector: Vector) -> dict[str, bytes]:
    """Return the files of a vector as a backend test; none where the format cannot express it.

    It has channels-first layers in float32, and quantised ones that are not transposed, of zero padding, and have one
    legal rounding for every output.
    """
    arrays, spec = vector.canonical, vector.spec
    if vector.layout != "NCHW" or vector.kind not in ("exact", "random", "quantized"):
        return {}
    if vector.kind == "quantized":
        if spec.transposed or spec.padding_mode != "zeros" or not np.array_equal(arrays["lower"], arrays["upper"]):
            return {}
        (nodes, weights), dtype, y = _quantized(vector), vector.dtype, arrays["lower"]
    elif vector.kind == "random" and vector.dtype != "float32":
        return {}
    else:
        try:
            (nodes, weights), dtype, y = _planned(vector), "float32", arrays["y"]
        except UnsupportedError:
            return {}
    x, y = arrays["x"].astype(dtype), y.astype(dtype)
    return {
        "model.onnx": _model(nodes, weights, x, y),
        "test_data_set_0/input_0.pb": tensor(x, "x"),
        "test_data_set_0/output_0.pb": tensor(y, "y"),
    }

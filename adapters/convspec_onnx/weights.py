"""Arrays in and out of models. ONNX has the canonical orders of data and kernels, so nothing is transposed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from convspec.contract import check_layout
from convspec.errors import PlacementError, ShapeError
from convspec.spec import Array, ConvParams, layouts


def load(model: onnx.ModelProto, params: ConvParams) -> onnx.ModelProto:
    """Fill the initialisers ``weight`` and ``bias`` of a model, and return it."""
    values = {"weight": params.kernel, "bias": params.bias}
    for tensor in model.graph.initializer:
        array = values.get(tensor.name)
        if array is not None:
            native = array.astype(helper.tensor_dtype_to_np_dtype(tensor.data_type), copy=False)
            tensor.raw_data = numpy_helper.from_array(native).raw_data
    return model


def feed(model: onnx.ModelProto, x: Array, layout: str) -> dict[str, NDArray[Any]]:
    """Return ``x`` by the name of the model's input, in its dtype; ShapeError if either has another layout."""
    entry = model.graph.input[0]
    sizes = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    ndim = len(sizes) - 2
    channels = sizes[1 if layouts.family(layout, ndim) == layouts.CHANNELS_FIRST else -1]
    if not channels:
        shape = ", ".join(dim.dim_param or str(dim.dim_value) for dim in entry.type.tensor_type.shape.dim)
        raise ShapeError(f"this model is not {layouts.name(layout, ndim)}: its input is ({shape})")
    check_layout(x, channels, layout, ndim)
    return {entry.name: x.astype(_dtype(entry), copy=False)}


def fetch(y: NDArray[Any], model: onnx.ModelProto) -> Array:
    """Return ``y`` in a dtype of NumPy; raises PlacementError if it is not in the dtype of the model's output."""
    expected = _dtype(model.graph.output[0])
    if y.dtype != expected:
        raise PlacementError(f"the model's output: expected {expected}, got {y.dtype}")
    return y if expected.kind == "f" else y.astype(np.float32)


def _dtype(entry: onnx.ValueInfoProto) -> np.dtype[Any]:
    dtype: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    return dtype

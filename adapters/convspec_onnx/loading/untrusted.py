"""Read an ONNX model of unknown origin: complete in memory, and nothing from outside its folder."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from convspec.contract.isolation import out_of_memory
from convspec.errors import RequestError, UnsupportedError, printable
from convspec_onnx.loading.normalization import normalize

Array = NDArray[Any]
Arrays = dict[str, Array]

_MAX_BYTES = (1 << 31) - 1  # protobuf reads no larger message
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO opens at once, and is refused
MAX_SHAPE_TENSOR = 1 << 12  # elements: a larger tensor never means a shape
_ELEMENTS_PER_BYTE = {TensorProto.INT4: 2, TensorProto.UINT4: 2, TensorProto.FLOAT4E2M1: 2}


def load_proto(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Return the checked model with its external data inside it: a runtime has no reason to open a file.

    Raises:
        RequestError: for a file that cannot be read, breaks a rule of ONNX, or names data outside its folder.
    """
    path = check_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{printable(path)} cannot be read: {error.strerror}") from None
    model = parse(content, path.name)
    changed = [embed_external_data(model, path.parent), *normalize(model)]
    check_model(model if any(changed) else content)
    return model


def to_proto(model: Any) -> onnx.ModelProto:
    """Return the model, or that at a path; raises UnsupportedError for other objects."""
    if isinstance(model, str | os.PathLike):
        return load_proto(model)
    if not isinstance(model, onnx.ModelProto):
        raise UnsupportedError(f"{type(model).__name__} is not an ONNX model")
    return model


def parse(content: bytes, name: str = "the model") -> onnx.ModelProto:
    """Return the bytes as a model with a graph; raises RequestError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RecursionError) as error:
        raise RequestError(f"{printable(name)} is not an ONNX model: {printable(error)}") from None
    if not model.HasField("graph") or not model.ir_version:
        missing = "graph" if model.ir_version else "IR version"
        raise RequestError(f"{printable(name)} is not an ONNX model: it has no {missing}")
    return model


def check_model(model: onnx.ModelProto | bytes) -> None:
    """Raise RequestError, with the message of ONNX's checker, for a model that breaks a rule of ONNX."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError, UnicodeDecodeError) as error:
        if out_of_memory(str(error)):
            raise MemoryError from None
        raise RequestError(f"the model breaks a rule of ONNX: {printable(str(error).strip())}") from None


def infer_shapes(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Return the model with inferred shapes, and the error of strict shape inference, or ""."""
    light, problem = _without_large_weights(model), ""
    for strict in (True, False):
        try:
            inferred = onnx.shape_inference.infer_shapes(light, strict_mode=strict)
        except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
            problem = problem or printable(str(error).strip())
            continue
        graph = model.graph
        for entries, found in ((graph.node, inferred.graph.node), (graph.output, inferred.graph.output),
                               (graph.value_info, inferred.graph.value_info)):  # fmt: skip
            copies = list(found)
            del entries[:]
            entries.extend(copies)
        break
    return model, problem


def _without_large_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its large weights as inputs: inference would copy their numbers twice."""
    graph = model.graph
    small = [tensor for tensor in graph.initializer if math.prod(tensor.dims) <= MAX_SHAPE_TENSOR]
    given = {entry.name for entry in graph.input}
    light = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import,
        graph=onnx.GraphProto(name="graph", node=graph.node, input=graph.input, output=graph.output,
                              value_info=graph.value_info, initializer=small,
                              sparse_initializer=graph.sparse_initializer),
    )  # fmt: skip
    large = (t for t in graph.initializer if t.name not in given and math.prod(t.dims) > MAX_SHAPE_TENSOR)
    light.graph.input.extend(onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large)
    return light


def all_tensors(message: Message) -> Iterator[TensorProto]:
    """Yield every tensor anywhere in a message, found by its type, so that no field can be forgotten."""
    stack = [message]
    while stack:
        part = stack.pop()
        if isinstance(part, TensorProto):
            yield part
            continue
        for field, value in part.ListFields():
            if field.message_type is None:
                continue
            if isinstance(value, Message):
                stack.append(value)
            else:
                stack.extend(value)


def embed_external_data(model: onnx.ModelProto, folder: Path, total: int = 0) -> bool:
    """Read all external data into the model and return whether there were any; raises RequestError.

    ``total``: bytes of the model's data that have been read before.
    """
    external = False
    for tensor in all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
            continue
        external = True
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = read_external_data(tensor, folder)
            total += len(tensor.raw_data)
        if total + len(tensor.raw_data) > _MAX_BYTES:
            raise RequestError("the model has more than 2 GiB of data, the limit of one protobuf message")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
    return external


def read_external_data(tensor: TensorProto, folder: Path) -> bytes:
    """Return the bytes of a tensor that are in a file of their own; raises RequestError."""
    where = f"external data of tensor {printable(tensor.name)}"
    fields = {entry.key: entry.value for entry in tensor.external_data}
    # protobuf returns text that is not UTF-8 as bytes
    if not all(isinstance(text, str) for pair in fields.items() for text in pair):
        raise RequestError(f"{where}: the location is not UTF-8 text")
    needed = _raw_bytes(tensor)
    try:
        offset, length = (int(fields.get(key, default)) for key, default in (("offset", 0), ("length", needed)))
    except ValueError:
        raise RequestError(f"{where}: offset and length must be integers") from None
    if offset < 0:
        raise RequestError(f"{where}: offset={offset} must not be negative")
    if length != needed:
        raise RequestError(f"{where}: expected length {needed} from the shape, got {length}")
    descriptor = _open_below(fields.get("location", ""), folder, where)
    with os.fdopen(descriptor, "rb") as file:
        available = os.fstat(descriptor).st_size - offset
        if length > available:
            raise RequestError(f"{where}: the file ends {length - available} bytes too early")
        file.seek(offset)
        return file.read(length)


def _raw_bytes(tensor: TensorProto) -> int:
    """Return the number of bytes of a tensor's raw data."""
    if any(n < 0 for n in tensor.dims):
        raise RequestError(f"tensor {printable(tensor.name)} has a negative axis")
    elements = int(math.prod(tensor.dims))
    if tensor.data_type in _ELEMENTS_PER_BYTE:
        return -(-elements // _ELEMENTS_PER_BYTE[tensor.data_type])
    try:
        return elements * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, ValueError):
        raise RequestError(f"tensor {printable(tensor.name)} has the unknown element type {tensor.data_type}") from None


def _open_below(location: str, folder: Path, where: str) -> int:
    """Return a descriptor of a regular file below the folder, opened component by component without following links."""
    parts = PurePosixPath(location).parts
    where = f"{where} at {printable(location)}"
    if not parts or "\0" in location or "\\" in location or location.startswith("/") or ".." in parts:
        raise RequestError(f"{where}: the location must be a file below the model's folder, without '..'")
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            child = os.open(part, _OPEN_FLAGS | os.O_DIRECTORY, dir_fd=parent)
            os.close(parent)
            parent = child
        descriptor = os.open(parts[-1], _OPEN_FLAGS, dir_fd=parent)
    except OSError as error:
        raise RequestError(f"{where}: {error.strerror}; links are not followed") from None
    finally:
        os.close(parent)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        kind = "has other names (hard links)" if stat.S_ISREG(status.st_mode) else "is not a regular file"
        raise RequestError(f"{where}: the file {kind}")
    return descriptor


def check_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that protobuf can read; raises RequestError."""
    path = Path(path)
    try:
        if not path.is_file():
            raise RequestError(f"{printable(path)}: file not found")
        if path.stat().st_size > _MAX_BYTES:
            raise RequestError(f"{printable(path)} is larger than 2 GiB, the limit of protobuf")
    except OSError as error:
        raise RequestError(f"{printable(path)} cannot be read: {error.strerror}") from None
    return path


def to_array(tensor: TensorProto) -> Array:
    """Return a tensor's numbers; raises RequestError for fewer numbers than its shape needs."""
    try:
        array: Array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, MemoryError, KeyError) as error:
        raise RequestError(f"tensor {tensor.name!r} cannot be read: {error}") from None
    return array

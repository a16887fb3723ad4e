"""Models of unknown origin: read without trusting them, complete in memory, nothing from outside their folder."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import TensorProto

from convspec.errors import RequestError, printable

_LARGEST = (1 << 31) - 1  # protobuf reads no larger message
_WITHIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO opens at once, and is refused
SMALL = 1 << 12  # elements: no more are ever meant as a shape
_PER_BYTE = {TensorProto.INT4: 2, TensorProto.UINT4: 2, TensorProto.FLOAT4E2M1: 2}


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model, checked, with its external data inside it: whoever runs it has no reason to open a file.

    Raises:
        RequestError: where it cannot be read, breaks a rule of ONNX, or names data that are not beside it.
    """
    path = file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{printable(path)} cannot be read: {error.strerror}") from None
    model = parse(content, path.name)
    check(model if embed(model, path.parent) else content)
    return model


def parse(content: bytes, name: str = "the model") -> onnx.ModelProto:
    """The bytes as a model with a graph; raises RequestError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RecursionError) as error:
        raise RequestError(f"{printable(name)} is no ONNX model: {printable(error)}") from None
    if not model.HasField("graph") or not model.ir_version:
        raise RequestError(
            f"{printable(name)} is no ONNX model: it has no {'graph' if model.ir_version else 'IR version'}"
        )
    return model


def check(model: onnx.ModelProto | bytes) -> None:
    """Hold the model against ONNX's own rules; raises RequestError with the checker's words."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError, UnicodeDecodeError) as error:
        raise RequestError(f"the model breaks a rule of ONNX: {printable(str(error).strip())}") from None


def inferred(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model with the shapes that follow from it, and what the inference had against it, or nothing."""
    light = _light(model)
    try:
        return _laden(onnx.shape_inference.infer_shapes(light, strict_mode=True), model), ""
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        words = printable(str(error).strip())
    try:
        return _laden(onnx.shape_inference.infer_shapes(light), model), words
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return model, words


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large weights as inputs: their numbers say nothing of shapes, but would be copied twice."""
    graph = model.graph
    small = [tensor for tensor in graph.initializer if math.prod(tensor.dims) <= SMALL]
    given = {entry.name for entry in graph.input}
    found = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import,
        graph=onnx.GraphProto(name="graph", node=graph.node, input=graph.input, output=graph.output,
                              value_info=graph.value_info, initializer=small,
                              sparse_initializer=graph.sparse_initializer),
    )  # fmt: skip
    found.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in graph.initializer
        if tensor.name not in given and math.prod(tensor.dims) > SMALL
    )
    return found


def _laden(light: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """What was found of the light model, on the whole one."""
    graph = model.graph
    for entries, found in ((graph.node, light.graph.node), (graph.output, light.graph.output),
                           (graph.value_info, light.graph.value_info)):  # fmt: skip
        copies = list(found)
        del entries[:]
        entries.extend(copies)
    return model


def tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor anywhere below a message: found by what it is, so that no place can be forgotten."""
    stack = [message]
    while stack:
        found = stack.pop()
        if isinstance(found, TensorProto):
            yield found
            continue
        for field, value in found.ListFields():
            if field.message_type is None:
                continue
            if isinstance(value, Message):
                stack.append(value)
            else:
                stack.extend(value)


def embed(model: onnx.ModelProto, folder: Path, total: int = 0) -> bool:
    """Read all external data into the model, and return whether there were any; raises RequestError.

    ``total`` bytes have been read before.
    """
    some = False
    for tensor in tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
            continue
        some = True
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = external(tensor, folder)
            total += len(tensor.raw_data)
        if total + len(tensor.raw_data) > _LARGEST:
            raise RequestError("the model has more than 2 GiB of data, more than one message can hold")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
    return some


def external(tensor: TensorProto, folder: Path) -> bytes:
    """The bytes that a tensor says are elsewhere; raises RequestError."""
    name = printable(tensor.name)
    fields = {entry.key: entry.value for entry in tensor.external_data}
    if not all(
        isinstance(text, str) for pair in fields.items() for text in pair
    ):  # protobuf hands broken text on as bytes
        raise RequestError(f"external data of tensor {name}: their place is no text")
    try:
        offset, length = (int(fields[key]) if key in fields else None for key in ("offset", "length"))
    except ValueError:
        raise RequestError(f"external data of tensor {name}: offset and length must be numbers") from None
    needed = _size(tensor)
    if length is None:
        length = needed
    if (offset or 0) < 0:
        raise RequestError(f"external data of tensor {name}: the offset {offset} is negative")
    if length != needed:
        raise RequestError(f"external data of tensor {name}: {length} bytes are named where its shape has {needed}")
    descriptor = _opened(fields.get("location", ""), folder, name)
    with os.fdopen(descriptor, "rb") as file:
        available = os.fstat(descriptor).st_size - (offset or 0)
        if length > available:
            raise RequestError(f"external data of tensor {name}: the file ends {length - available} bytes too early")
        file.seek(offset or 0)
        return file.read(length)


def _size(tensor: TensorProto) -> int:
    """Bytes of a tensor's raw data."""
    cells = 1
    for n in tensor.dims:
        if n < 0:
            raise RequestError(f"tensor {printable(tensor.name)} has a negative axis")
        cells *= n
    if tensor.data_type in _PER_BYTE:
        return -(-cells // _PER_BYTE[tensor.data_type])
    try:
        return cells * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, ValueError):
        raise RequestError(f"tensor {printable(tensor.name)} has unknown elements, type {tensor.data_type}") from None


def _opened(location: str, folder: Path, tensor: str) -> int:
    """A descriptor of a plain file below the folder, reached step by step without following a link."""
    parts = PurePosixPath(location).parts
    where = f"external data of tensor {tensor} at {printable(location)}"
    if not parts or "\0" in location or "\\" in location or location.startswith("/") or ".." in parts:
        raise RequestError(f"{where}: the place must be a file below the model's folder, named without '..'")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, _WITHIN | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        descriptor = os.open(parts[-1], _WITHIN, dir_fd=at)
    except OSError as error:
        raise RequestError(f"{where}: {error.strerror}; links are not followed") from None
    finally:
        os.close(at)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        kind = "has other names elsewhere (hard links)" if stat.S_ISREG(status.st_mode) else "is no plain file"
        raise RequestError(f"{where}: the file {kind}")
    return descriptor


def file(path: str | os.PathLike[str]) -> Path:
    """The path of a file that protobuf could read; raises RequestError."""
    path = Path(path)
    try:
        if not path.is_file():
            raise RequestError(f"{printable(path)}: no such file")
        if path.stat().st_size > _LARGEST:
            raise RequestError(f"{printable(path)} is larger than 2 GiB, more than protobuf can read")
    except OSError as error:
        raise RequestError(f"{printable(path)} cannot be read: {error.strerror}") from None
    return path

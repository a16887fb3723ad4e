"""Models whose large weights stand beside their message, as arrays: each is read once and never copied."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from convspec.errors import RequestError, printable
from convspec_onnx.loading import inline_functions, untrusted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"), TensorProto.DOUBLE: np.dtype("<f8"), TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.INT8: np.dtype("i1"), TensorProto.UINT8: np.dtype("u1"), TensorProto.INT32: np.dtype("<i4"),
}  # fmt: skip
_MOST_AXES = 32
_MOST_FIELDS = 1 << 20  # that are walked over; protobuf is faster with more
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types
_GRAPH, _INITIALIZER, _RAW_DATA = (number << 3 | _BYTES for number in (7, 5, 9))  # of model, graph and tensor
_SAID = (1, 2, 8, 12)  # of a tensor: dims, data_type, name and doc_string


class _OddError(Exception):
    """The bytes are not what this module reads; protobuf says whether they are a message."""


@dataclass
class Lean:
    """A model in two parts.

    Attributes:
        proto: the model, without the numbers of its large weights; their initialisers name a place that is no file.
        weights: those numbers, by name.
    """

    proto: onnx.ModelProto
    weights: dict[str, Array] = field(default_factory=dict)

    @property
    def graph(self) -> onnx.GraphProto:
        return self.proto.graph

    def beside(self) -> dict[str, Array]:
        """The weights whose numbers the message lacks."""
        return {t.name: self.weights[t.name] for t in self.graph.initializer if t.data_location == TensorProto.EXTERNAL}

    def whole(self) -> onnx.ModelProto:
        """The model with its numbers inside it, for those that take no others."""
        found, beside = onnx.ModelProto(), self.beside()
        found.CopyFrom(self.proto)
        for tensor in found.graph.initializer:
            if tensor.name in beside:
                tensor.raw_data = beside[tensor.name].tobytes()
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
        return found


def load(path: str | os.PathLike[str]) -> Lean:
    """The model, checked, without functions, its external data read: whoever runs it has no reason to open a file.

    Raises:
        RequestError: where it cannot be read, breaks a rule of ONNX, or names data that are not beside it.
    """
    path = untrusted.file(path)
    try:
        content, weights = _parts(path)
    except OSError as error:
        raise RequestError(f"{printable(path)} cannot be read: {error.strerror}") from None
    proto = untrusted.parse(content, path.name)
    del content
    for tensor in proto.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL and _large(tensor) and tensor.name not in weights:
            flat = np.frombuffer(untrusted.external(tensor, path.parent), _DTYPES[tensor.data_type])
            weights[tensor.name] = flat.reshape(tensor.dims)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    untrusted.embed(proto, path.parent, sum(array.nbytes for array in weights.values()))
    _check(proto, weights)
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="beside")
    return Lean(inline_functions.inlined(proto), weights)


def _check(proto: onnx.ModelProto, weights: dict[str, Array]) -> None:
    """Hold the model against ONNX's rules, those on the data of the weights beside it apart: they are seen to."""
    hollow = onnx.ModelProto()
    hollow.CopyFrom(proto)
    for tensor in hollow.graph.initializer:
        if tensor.name in weights:
            tensor.dims[:] = [0]
    untrusted.check(hollow)


def _large(tensor: TensorProto) -> bool:
    dims = tensor.dims
    named = isinstance(tensor.name, str) and tensor.name  # protobuf hands broken text on as bytes
    return bool(named) and tensor.data_type in _DTYPES and len(dims) <= _MOST_AXES and min(dims, default=0) > 0 and (
        math.prod(dims) > untrusted.SMALL)  # fmt: skip


def _parts(path: Path) -> tuple[bytes, dict[str, Array]]:
    """The file without the numbers of its large initialisers, and those."""
    weights: dict[str, Array] = {}
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _without(file, 0, size, (_GRAPH, _INITIALIZER), weights), weights
        except _OddError:
            file.seek(0)
            return file.read(), {}


def _without(file: BinaryIO, start: int, end: int, way: tuple[int, ...], weights: dict[str, Array]) -> bytes:
    """A message without the numbers of the tensors to which its fields ``way`` lead."""
    if not way:
        return _stub(file, start, end, weights) or _read(file, start, end)
    parts, copied = [], start
    for key, begin, content, stop in _fields(file, start, end):
        if key == way[0]:
            inner = _without(file, content, stop, way[1:], weights)
            parts += [_read(file, copied, begin), bytes([key]), _length(len(inner)), inner]
            copied = stop
    return b"".join([*parts, _read(file, copied, end)])


def _stub(file: BinaryIO, start: int, end: int, weights: dict[str, Array]) -> bytes:
    """What remains of a tensor whose numbers have been added to ``weights``; nothing where they are not."""
    said, raw = b"", []
    for key, begin, content, stop in _fields(file, start, end):
        if key == _RAW_DATA:
            raw.append((content, stop))
        elif key >> 3 in _SAID:
            said += _read(file, begin, stop)
        else:
            return b""
    try:
        tensor = TensorProto.FromString(said)
    except DecodeError:
        return b""
    if len(raw) != 1 or not _large(tensor) or tensor.name in weights:
        return b""
    (content, stop), dtype = raw[0], _DTYPES[tensor.data_type]
    if math.prod(tensor.dims) * dtype.itemsize != stop - content:
        return b""
    array = np.empty(tuple(tensor.dims), dtype)
    file.seek(content)
    if file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:  # type: ignore[attr-defined]
        raise _OddError
    weights[tensor.name] = array
    return bytes(tensor.SerializeToString())


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Of each field of a message its number and wire type, and where it, its content and what follows begin."""
    for _ in range(_MOST_FIELDS):
        if start == end:
            return
        file.seek(start)
        key = _varint(file)
        wire = key & 7
        if wire == _VARINT:
            content = file.tell()
            _varint(file)
            stop = file.tell()
        elif wire in (_FIXED64, _FIXED32):
            content = file.tell()
            stop = content + (8 if wire == _FIXED64 else 4)
        elif wire == _BYTES:
            length = _varint(file)
            content = file.tell()
            stop = content + length
        else:
            raise _OddError
        if stop > end:
            raise _OddError
        yield key, start, content, stop
        start = stop
    raise _OddError


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise _OddError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _OddError


def _length(size: int) -> bytes:
    found = bytearray()
    while size >= 0x80:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*found, size])


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    found = file.read(end - start)
    if len(found) != end - start:
        raise _OddError
    return found

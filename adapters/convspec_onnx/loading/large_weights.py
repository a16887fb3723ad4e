"""Read a model with its large weights as arrays outside the protobuf message: read once, never copied."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from convspec.errors import RequestError, printable
from convspec_onnx.loading import untrusted
from convspec_onnx.loading.inline_functions import inline
from convspec_onnx.loading.normalization import normalize
from convspec_onnx.loading.untrusted import Arrays

_DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"), TensorProto.DOUBLE: np.dtype("<f8"), TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.INT8: np.dtype("i1"), TensorProto.UINT8: np.dtype("u1"), TensorProto.INT32: np.dtype("<i4"),
}  # fmt: skip
_MAX_AXES = 32
_MAX_FIELDS = 1 << 20  # of one message; protobuf is faster with more
_VARINT, _LENGTH_DELIMITED = 0, 2  # protobuf's wire types
_FIXED_SIZES = {1: 8, 5: 4}  # bytes by wire type
_GRAPH, _INITIALIZER, _RAW_DATA = (number << 3 | _LENGTH_DELIMITED for number in (7, 5, 9))  # of model, graph, tensor
_KEPT_FIELDS = (1, 2, 8, 12)  # of a tensor: dims, data_type, name and doc_string


class _ForeignBytesError(Exception):
    """The bytes are not of the form that this module reads; protobuf decides whether they are a message."""


@dataclass
class DetachedModel:
    """A model whose large weights are arrays outside its protobuf message.

    Attributes:
        proto: the model without the numbers of its large weights; their initialisers name a location that is no file.
        weights: these numbers, by name.
        notes: what was changed in the model so that ONNX's checker accepts it.
    """

    proto: onnx.ModelProto
    weights: Arrays = field(default_factory=dict)
    notes: list[dict[str, str]] = field(default_factory=list)

    @property
    def graph(self) -> onnx.GraphProto:
        return self.proto.graph

    def detached(self) -> Arrays:
        """Return the weights that the message lacks."""
        return {t.name: self.weights[t.name] for t in self.graph.initializer if t.data_location == TensorProto.EXTERNAL}

    def attach(self) -> onnx.ModelProto:
        """Return one message with all numbers inside it, for runtimes that take nothing else."""
        model, detached = onnx.ModelProto(), self.detached()
        model.CopyFrom(self.proto)
        for tensor in model.graph.initializer:
            if tensor.name in detached:
                tensor.raw_data = detached[tensor.name].tobytes()
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
        return model


def load_model(path: str | os.PathLike[str]) -> DetachedModel:
    """Return the checked model, its functions inlined, its external data read: a runtime has no file to open.

    Raises:
        RequestError: for a file that cannot be read, breaks a rule of ONNX, or names data outside its folder.
    """
    path = untrusted.check_file(path)
    try:
        content, weights = _split_file(path)
    except OSError as error:
        raise RequestError(f"{printable(path)} cannot be read: {error.strerror}") from None
    proto = untrusted.parse(content, path.name)
    del content
    for tensor in proto.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL and _is_large(tensor) and tensor.name not in weights:
            flat = np.frombuffer(untrusted.read_external_data(tensor, path.parent), _DTYPES[tensor.data_type])
            weights[tensor.name] = flat.reshape(tensor.dims)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    untrusted.embed_external_data(proto, path.parent, sum(array.nbytes for array in weights.values()))
    notes = normalize(proto)
    _check(proto, weights)
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="detached")
    return DetachedModel(inline(proto), weights, notes)


def _check(proto: onnx.ModelProto, weights: Arrays) -> None:
    """Check the model by ONNX's rules, but for the data of detached weights, whose size has been checked."""
    hollow = onnx.ModelProto()
    hollow.CopyFrom(proto)
    for tensor in hollow.graph.initializer:
        if tensor.name in weights:
            tensor.dims[:] = [0]
    untrusted.check_model(hollow)


def _is_large(tensor: TensorProto) -> bool:
    dims = tensor.dims
    named = isinstance(tensor.name, str) and tensor.name  # protobuf returns text that is not UTF-8 as bytes
    return bool(named) and tensor.data_type in _DTYPES and len(dims) <= _MAX_AXES and min(dims, default=0) > 0 and (
        math.prod(dims) > untrusted.MAX_SHAPE_TENSOR)  # fmt: skip


def _split_file(path: Path) -> tuple[bytes, Arrays]:
    """Return the file without the numbers of its large initialisers, and these numbers."""
    weights: Arrays = {}
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _strip_message(file, 0, size, (_GRAPH, _INITIALIZER), weights), weights
        except _ForeignBytesError:
            file.seek(0)
            return file.read(), {}


def _strip_message(file: BinaryIO, start: int, end: int, path: tuple[int, ...], weights: Arrays) -> bytes:
    """Return a message without the numbers of the tensors at the end of ``path``, the keys of fields."""
    if not path:
        return _strip_tensor(file, start, end, weights) or _read(file, start, end)
    parts, copied = [], start
    for key, begin, content, stop in _fields(file, start, end):
        if key == path[0]:
            inner = _strip_message(file, content, stop, path[1:], weights)
            parts += [_read(file, copied, begin), bytes([key]), _encode_varint(len(inner)), inner]
            copied = stop
    return b"".join([*parts, _read(file, copied, end)])


def _strip_tensor(file: BinaryIO, start: int, end: int, weights: Arrays) -> bytes:
    """Move a tensor's numbers to ``weights`` and return its other fields; b"" if it stays in the message."""
    kept, raw = b"", []
    for key, begin, content, stop in _fields(file, start, end):
        if key == _RAW_DATA:
            raw.append((content, stop))
        elif key >> 3 in _KEPT_FIELDS:
            kept += _read(file, begin, stop)
        else:
            return b""
    try:
        tensor = TensorProto.FromString(kept)
    except DecodeError:
        return b""
    if len(raw) != 1 or not _is_large(tensor) or tensor.name in weights:
        return b""
    (content, stop), dtype = raw[0], _DTYPES[tensor.data_type]
    if math.prod(tensor.dims) * dtype.itemsize != stop - content:
        return b""
    array = np.empty(tuple(tensor.dims), dtype)
    file.seek(content)
    if file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:  # type: ignore[attr-defined]
        raise _ForeignBytesError
    weights[tensor.name] = array
    return bytes(tensor.SerializeToString())


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the key of each field (number and wire type), and the offsets of the field, its content and its end."""
    for _ in range(_MAX_FIELDS):
        if start == end:
            return
        file.seek(start)
        key = _varint(file)
        wire, content = key & 7, file.tell()
        if wire == _VARINT:
            _varint(file)
            stop = file.tell()
        elif wire in _FIXED_SIZES:
            stop = content + _FIXED_SIZES[wire]
        elif wire == _LENGTH_DELIMITED:
            length = _varint(file)
            content = file.tell()
            stop = content + length
        else:
            raise _ForeignBytesError
        if stop > end:
            raise _ForeignBytesError
        yield key, start, content, stop
        start = stop
    raise _ForeignBytesError


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise _ForeignBytesError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _ForeignBytesError


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    content = file.read(end - start)
    if len(content) != end - start:
        raise _ForeignBytesError
    return content

"""TorchScript archives and programs of ``torch.export``, read without Python's unpickler. Called in a child process.

``torch.export.load`` unpickles weights, constants and sample inputs, evaluates shape expressions and guards as Python,
calls any function of ``torch`` that the graph names, and writes names into code. So this module reads the weights
without pickle except ``weights_only``, leaves out sample inputs and guards, and accepts only texts of the graph that
:mod:`convspec_torch.vetting` knows to be harmless. It runs nothing: PyTorch's own deserialiser makes the program.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import torch

from convspec.errors import RequestError, UnsupportedError
from convspec_torch.vetting import vetted

_LARGEST = 1 << 28  # bytes of the graph's text


def load(path: str) -> Any:
    """Return a ScriptModule on the CPU in evaluation mode, or an ExportedProgram.

    Raises:
        RequestError: where the file is broken.
        UnsupportedError: where it is something else: a pickle, weights alone, a compiled library.
    """
    content = Path(path).read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(content)):
        pickled = content[:1] == b"\x80"
        kind = "an old pickle of torch.save" if pickled else "not an archive of PyTorch, or a truncated one"
        raise RequestError(f"it is {kind}; read are TorchScript (torch.jit.save) and programs of torch.export.save")
    archive = _Archive(content)
    if "archive_format" in archive.names:
        return _exported(archive)
    if "serialized_exported_program.json" in archive.names:
        raise UnsupportedError("it is a program of a PyTorch before 2.8: load and save it again with torch.export")
    if not any(name.startswith("code/") for name in archive.names):
        raise UnsupportedError(
            "it is a pickle of torch.save – weights, or a module of Python code – not a program: load the weights with "
            "torch.load(path, weights_only=True) into the module, and give that"
        )
    return _script(content)


def store(model: Any, path: str) -> None:
    """Write the program unchanged."""
    if isinstance(model, torch.export.ExportedProgram):
        torch.export.save(model, path)
    else:
        torch.jit.save(model, path)


def _script(content: bytes) -> torch.jit.ScriptModule:
    """Return the module; loading runs none of its code, as modules with ``__setstate__`` are refused.

    The records are searched as PyTorch itself reads them: two zip readers may see different records.
    """
    reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    for name in reader.get_all_records():
        if name.startswith("code/") and b"__setstate__" in reader.get_record(name):
            raise UnsupportedError(
                "objects in it are restored by code of their own (__setstate__), as quantised layers are: it is not run"
            )
    module = torch.jit.load(io.BytesIO(content), map_location="cpu")
    if not module._c._has_method("forward"):
        raise UnsupportedError("it has no forward method")
    return module.eval()


# -- torch.export ------------------------------------------------------------------------------------------------------


class _Archive:
    """The records of an archive by name, without their common folder."""

    def __init__(self, content: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise RequestError(f"it is a broken archive: {error}") from None
        self.names = {name.partition("/")[2]: name for name in self._zip.namelist()}

    def bytes(self, name: str, largest: int = 1 << 40) -> bytes:
        if name not in self.names:
            raise RequestError(f"the archive has no {name!r}")
        if self._zip.getinfo(self.names[name]).file_size > largest:
            raise RequestError(f"{name!r} in the archive has more than {largest >> 20} MiB")
        try:
            return self._zip.read(self.names[name])
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise RequestError(f"{name!r} in the archive is broken: {error}") from None

    def json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.bytes(name, _LARGEST))
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{name!r} in the archive is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise RequestError(f"{name!r} in the archive is not what torch.export writes")
        return found


def _exported(archive: _Archive) -> torch.export.ExportedProgram:
    """Return the program of torch.export in the archive.

    Raises:
        RequestError: where the archive is broken, or contains operations that could do more than compute.
        UnsupportedError: where it contains no program, or several.
    """
    graphs = [name for name in archive.names if name.startswith("models/") and name.endswith(".json")]
    if len(graphs) != 1:
        compiled = any(name.startswith("data/aotinductor") for name in archive.names)
        what = "a compiled library, which is not loaded" if compiled else f"{len(graphs)} programs"
        raise UnsupportedError(f"expected one program of torch.export, got {what}")
    model = graphs[0].removeprefix("models/").removesuffix(".json")
    graph = vetted(archive.json(graphs[0]))
    try:
        from torch._export.serde import schema, serialize

        state, constants = (_tensors(archive, kind, model) for kind in ("weights", "constants"))
        serialized = serialize._dict_to_dataclass(schema.ExportedProgram, graph)
        return serialize.ExportedProgramDeserializer().deserialize(serialized, state, constants)
    except (KeyError, TypeError, AttributeError, AssertionError, ValueError, RuntimeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"its program cannot be read: {type(error).__name__}: {error}") from None


def _tensors(archive: _Archive, kind: str, model: str) -> dict[str, Any]:
    """Return the tensors of ``data/weights`` or ``data/constants`` by name."""
    if f"data/{kind}/{model}.pt" in archive.names:  # as PyTorch before 2.9 wrote them
        return dict(_unpickled(archive.bytes(f"data/{kind}/{model}.pt"), kind))
    config = archive.json(f"data/{kind}/{model}_{kind}_config.json")["config"]
    records: dict[str, bytearray] = {}
    found: dict[str, Any] = {}
    for name, entry in config.items():
        place = str(entry["path_name"])
        if not place.startswith(("weight_", "tensor_")):
            raise UnsupportedError(f"its constant {name!r} is a pickled object, which is not read")
        if entry["use_pickle"]:
            found[name] = _unpickled(archive.bytes(f"data/{kind}/{place}"), kind)
            continue
        if place not in records:  # tensors may share their memory
            records[place] = bytearray(archive.bytes(f"data/{kind}/{place}"))
        tensor = _tensor(records[place], entry["tensor_meta"], name)
        found[name] = torch.nn.Parameter(tensor, requires_grad=False) if entry["is_param"] else tensor
    return found


def _unpickled(content: bytes, kind: str) -> Any:
    try:
        return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # noqa: BLE001 – any bytes may raise anything
        first = str(error).strip().splitlines()[:1] or [""]
        raise RequestError(f"its {kind} are pickled and contain more than tensors: {first[0]}") from None


def _tensor(record: bytearray, meta: dict[str, Any], name: str) -> torch.Tensor:
    """Return a view of a record's bytes; raises RequestError where it would exceed them."""
    from torch._export.serde import schema, serialize

    dtype = serialize.deserialize_scalar_type(schema.ScalarType(meta["dtype"]))
    sizes, strides = ([int(n["as_int"]) for n in meta[key]] for key in ("sizes", "strides"))
    offset = int(meta["storage_offset"]["as_int"])
    if min([*sizes, *strides, offset], default=0) < 0 or len(sizes) != len(strides):
        raise RequestError(f"{name!r} in the archive has no valid shape")
    if not math.prod(sizes):
        return torch.empty(sizes, dtype=dtype)
    last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    if (last + 1) * dtype.itemsize > len(record):
        raise RequestError(f"{name!r} in the archive has fewer bytes than its shape {tuple(sizes)} needs")
    flat = torch.frombuffer(record, dtype=dtype, count=len(record) // dtype.itemsize)
    return flat.as_strided(sizes, strides, offset)

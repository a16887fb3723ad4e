"""TorchScript archives and programs of ``torch.export``, read without Python's unpickler. Called in a child process."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from convspec.errors import RequestError, UnsupportedError
from convspec_torch import archives


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
    names = _names(content)
    if "archive_format" in names:
        return archives.load(content)
    if "serialized_exported_program.json" in names:
        raise UnsupportedError("it is a program of a PyTorch before 2.8: load and save it again with torch.export")
    if not any(name.startswith("code/") for name in names):
        raise UnsupportedError(
            "it is a pickle of torch.save – weights, or a module of Python code – not a program: load the weights with "
            "torch.load(path, weights_only=True) into the module, and give that"
        )
    return _script(content)


def _names(content: bytes) -> set[str]:
    """Return the names of the records, without their common folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise RequestError(f"it is a broken archive: {error}") from None


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


def store(model: Any, path: str) -> None:
    """Write the program unchanged."""
    if isinstance(model, torch.export.ExportedProgram):
        torch.export.save(model, path)
    else:
        torch.jit.save(model, path)

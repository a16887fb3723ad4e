"""The child process of a model file; :mod:`convspec.models.files.model_file` starts it.

Each request is one line of JSON, and so is its answer; arrays are exchanged as files in a shared folder. The first
request is ``{"adapter", "path", "folder", "memory"}``, each further one ``{"do": "convs" | "parts" | "read" | "trace" |
"steps" | "store", "with": arguments}``. The answer is ``{"values": […], "arrays": name of a file}``, or
``{"error": kind, "message": …}`` where the request fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from convspec.contract import Adapter, registry
from convspec.contract.isolation import encode, limit_memory, out_of_memory, send
from convspec.errors import ConvspecError, UnsupportedError
from convspec.models.files.messages import pack, read_arrays, write_arrays
from convspec.spec import Array

Message: TypeAlias = dict[str, Any]


def serve(requests: BinaryIO, replies: int) -> None:
    """Answer until the parent closes the pipe or ends."""
    served: _Served | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if served is None:
                served, answer = _Served(request), {}
            else:
                answer = getattr(served, request["do"])(**request["with"])
        except Exception as error:  # noqa: BLE001 – the parent tells the user
            answer = refusal(error, request.get("memory", 0) if served is None else served.memory)
        send(replies, encode(answer))


def refusal(error: Exception, memory: int) -> Message:
    """Return an error as an answer."""
    text = str(error)
    if isinstance(error, MemoryError) or out_of_memory(text) or "std::length_error" in text:
        return {
            "error": "RequestError",
            "message": f"it needs more memory than the {memory >> 20} MiB that are allowed; if you trust the file, "
            f"allow more with convspec.ModelFile(path, memory=…)",
        }
    if isinstance(error, ConvspecError):
        return {"error": type(error).__name__, "message": text}
    first = next((line for line in text.splitlines() if line.strip()), "")
    return {"error": "RequestError", "message": f"it cannot be read: {type(error).__name__}: {first}"}


class _Served:
    """The loaded model; each method answers one kind of request."""

    def __init__(self, opening: Message) -> None:
        self.folder, self.memory = Path(opening["folder"]), opening["memory"]
        self.adapter: Adapter = registry.adapter(opening["adapter"])
        self.adapter.configure(device="cpu")
        self.module = self.adapter.model_module()
        limit_memory(self.memory, files=True)
        self.model = self.adapter.load(opening["path"])

    def convs(self, **options: Any) -> Message:
        return self._answer("convs", *self.adapter.convs(self.model, **options))

    def parts(self) -> Message:
        return self._answer("parts", *self.module.parts(self.model))

    def read(self, input_shape: list[int] | None) -> Message:
        return self._answer("read", self.adapter.read(self.model, input_shape))

    def trace(self, arrays: str, names: list[str] | None) -> Message:
        return self._answer("trace", self.module.trace_model(self.model, self._inputs(arrays, names)))

    def steps(self, arrays: str, names: list[str] | None) -> Message:
        if self.module.trace_steps is None:
            raise UnsupportedError("its steps are not seen")
        return self._answer("steps", self.module.trace_steps(self.model, self._inputs(arrays, names)))

    def _inputs(self, arrays: str, names: list[str] | None) -> list[Array] | dict[str, Array]:
        given = read_arrays(self.folder / arrays)
        ordered = [given[str(place)] for place in range(len(given))]
        return ordered if names is None else dict(zip(names, ordered, strict=True))

    def store(self, arrays: str, keys: list[list[str]], path: str) -> Message:
        given = read_arrays(self.folder / arrays)
        wanted: dict[str, dict[str, Any]] = {}
        for place, (where, name) in enumerate(keys):
            wanted.setdefault(where, {})[name] = given[str(place)]
        self.model = self.module.write(self.model, wanted)
        self.adapter.store(self.model, path)
        return {}

    def _answer(self, name: str, *values: Any) -> Message:
        """Return values as an answer, their arrays in a file."""
        arrays: dict[str, Array] = {}
        packed = pack(values, arrays)
        write_arrays(self.folder / f"{name}.safetensors", arrays)
        return {"values": packed, "arrays": f"{name}.safetensors"}

"""What the process of a model file does; :mod:`convspec.models.files.model_file` starts it.

It is asked one thing a line, as JSON, and answers with one line; arrays go through files in a folder that both know.
First comes ``{"adapter", "path", "folder", "memory"}``, then any of ``{"do": "convs" | "parts" | "read" | "trace" |
"store", …}``. ``{"error": kind, "message": …}`` answers what could not be done.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from convspec.contract.isolation import send

if TYPE_CHECKING:
    from convspec.contract import Adapter
    from convspec.models.files.messages import Message

_MEMORY_WORDS = ("can't allocate memory", "bad_alloc", "out of memory", "oom when allocating", "std::length_error")


def serve(requests: BinaryIO, replies: int) -> None:
    """Answer until the pipe is closed or the parent is gone."""
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
        send(replies, json.dumps(answer).encode() + b"\n")


def refusal(error: Exception, memory: int) -> Message:
    """An error as it travels."""
    from convspec.errors import ConvspecError

    text = str(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _MEMORY_WORDS):
        return {
            "error": "RequestError",
            "message": f"it needs more memory than the {memory >> 20} MiB that are allowed; where you trust it, "
            f"give convspec.ModelFile(path, memory=…)",
        }
    if isinstance(error, ConvspecError):
        return {"error": type(error).__name__, "message": text}
    first = next((line for line in text.splitlines() if line.strip()), "")
    return {"error": "RequestError", "message": f"it cannot be read: {type(error).__name__}: {first}"}


class _Served:
    """The model that was loaded; each method answers one kind of request."""

    def __init__(self, opening: Message) -> None:
        from convspec.contract import registry

        self.folder, self.memory = Path(opening["folder"]), opening["memory"]
        self.adapter: Adapter = registry.adapter(opening["adapter"])
        self.adapter.configure(device="cpu")
        self.module = self.adapter.model_module()
        limit(self.memory)
        self.model = self.adapter.load(opening["path"])

    def convs(self, **options: Any) -> Message:
        from dataclasses import fields

        from convspec.models.files.messages import pack_readings

        found = self.adapter.convs(self.model, **options)
        arrays: dict[str, Any] = {}
        readings = pack_readings((entry.reading for entry in found), arrays)
        others = [{f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "reading"} for entry in found]
        return {"found": others, "readings": readings, "arrays": self._file("convs", arrays)}

    def parts(self) -> Message:
        from convspec.models.files.messages import pack_parts

        arrays: dict[str, Any] = {}
        parts = pack_parts(self.module.parts(self.model), arrays)
        return {"parts": parts, "arrays": self._file("parts", arrays)}

    def read(self, input_shape: list[int] | None) -> Message:
        from convspec.models.files.messages import pack_readings

        arrays: dict[str, Any] = {}
        readings = pack_readings([self.adapter.read(self.model, input_shape)], arrays)
        return {"readings": readings, "arrays": self._file("read", arrays)}

    def trace(self, arrays: str, names: list[str] | None) -> Message:
        from convspec.models.files.messages import read_arrays

        given = read_arrays(self.folder / arrays)
        ordered = [given[str(place)] for place in range(len(given))]
        inputs = ordered if names is None else dict(zip(names, ordered, strict=True))
        calls, outputs, _ = self.module.trace_model(self.model, inputs)
        found = {f"x{place}": call.x for place, call in enumerate(calls)}
        found |= {f"y{place}": call.y for place, call in enumerate(calls)}
        found |= {f"output{place}": y for place, y in enumerate(outputs)}
        return {"calls": [call.path for call in calls], "outputs": len(outputs), "arrays": self._file("calls", found)}

    def store(self, arrays: str, keys: list[list[str]], path: str) -> Message:
        from convspec.models.files.messages import read_arrays

        given = read_arrays(self.folder / arrays)
        wanted: dict[str, dict[str, Any]] = {}
        for place, (where, name) in enumerate(keys):
            wanted.setdefault(where, {})[name] = given[str(place)]
        self.model = self.module.write(self.model, wanted)
        self.adapter.store(self.model, path)
        return {}

    def _file(self, name: str, arrays: dict[str, Any]) -> str:
        from convspec.models.files.messages import write_arrays

        write_arrays(self.folder / f"{name}.safetensors", arrays)
        return f"{name}.safetensors"


def limit(more: int) -> None:
    """Let this process write so many bytes of memory beyond what it has now, and no larger file."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_within(more, hard), hard))
    try:
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:  # no Linux: the system does not tell, nor does it bound
        return
    taken = next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:")), 0)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_within(taken + more, hard), hard))


def _within(soft: int, hard: int) -> int:
    return soft if hard == resource.RLIM_INFINITY else min(soft, hard)

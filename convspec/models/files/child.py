"""The child process of a model file; :mod:`convspec.models.files.model_file` starts it.

Each request is one line of JSON, and so is its answer; arrays are exchanged as files in a shared folder. The first
request is ``{"adapter", "path", "folder", "memory"}``, each further one ``{"do": "convs" | "parts" | "read" | "trace" |
"steps" | "store", "with": arguments}``. A request that fails is answered with ``{"error": kind, "message": …}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from convspec.contract import Part, Reading, StepTrace, TracedStep, registry
from convspec.contract.isolation import encode, limit_memory, out_of_memory, send
from convspec.errors import ConvspecError, UnsupportedError
from convspec.spec import ConvParams, ConvSpec
from convspec.spec.steps import Step

if TYPE_CHECKING:
    from convspec.contract import Adapter
    from convspec.spec import Array

    Message = dict[str, Any]
    Entries = list[Message]


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
        found = self.adapter.convs(self.model, **options)
        arrays: dict[str, Any] = {}
        readings = pack_readings((entry.reading for entry in found), arrays)
        others = [{f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "reading"} for entry in found]
        return {"found": others, "readings": readings, "arrays": self._file("convs", arrays)}

    def parts(self) -> Message:
        arrays: dict[str, Any] = {}
        parts = pack_parts(self.module.parts(self.model), arrays)
        return {"parts": parts, "arrays": self._file("parts", arrays)}

    def read(self, input_shape: list[int] | None) -> Message:
        arrays: dict[str, Any] = {}
        readings = pack_readings([self.adapter.read(self.model, input_shape)], arrays)
        return {"readings": readings, "arrays": self._file("read", arrays)}

    def trace(self, arrays: str, names: list[str] | None) -> Message:
        calls, outputs, _ = self.module.trace_model(self.model, self._inputs(arrays, names))
        found = {f"{name}{place}": getattr(call, name) for place, call in enumerate(calls) for name in "xy"}
        found |= {f"output{place}": y for place, y in enumerate(outputs)}
        return {"calls": [call.path for call in calls], "outputs": len(outputs), "arrays": self._file("calls", found)}

    def steps(self, arrays: str, names: list[str] | None) -> Message:
        if self.module.trace_steps is None:
            raise UnsupportedError("its steps are not seen")
        found: dict[str, Any] = {}
        trace = pack_trace(self.module.trace_steps(self.model, self._inputs(arrays, names)), found)
        return {"trace": trace, "arrays": self._file("steps", found)}

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

    def _file(self, name: str, arrays: dict[str, Any]) -> str:
        write_arrays(self.folder / f"{name}.safetensors", arrays)
        return f"{name}.safetensors"


# -- layers in messages: JSON, and safetensors for the arrays ---


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays of numbers to a file; raises UnsupportedError for other elements."""
    from safetensors.numpy import save_file

    for array in arrays.values():
        if array.dtype.kind not in "fiub":
            raise UnsupportedError(f"a tensor of {array.dtype} is not an array of numbers")
    save_file({name: np.array(array, order="C") for name, array in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays that :func:`write_arrays` wrote."""
    from safetensors.numpy import load_file

    return load_file(path)


def pack_readings(readings: Iterable[Reading | None], arrays: dict[str, Array]) -> Entries:
    """Return readings as JSON; their kernels and biases go into ``arrays``, by position."""
    entries: Entries = []
    for place, reading in enumerate(readings):
        if reading is None:
            entries.append({})
            continue
        arrays[f"{place}.kernel"] = reading.params.kernel
        if reading.params.bias is not None:
            arrays[f"{place}.bias"] = reading.params.bias
        entries.append({"spec": reading.spec.to_dict(), "layout": reading.layout, "dtype": reading.dtype})
    return entries


def unpack_readings(entries: Entries, arrays: Mapping[str, Array]) -> list[Reading | None]:
    """Return the readings that :func:`pack_readings` packed; raises ConvspecError if an array does not fit its spec."""
    found: list[Reading | None] = []
    for place, entry in enumerate(entries):
        if not entry:
            found.append(None)
            continue
        spec = ConvSpec.from_dict(entry["spec"])
        params = ConvParams(arrays[f"{place}.kernel"], arrays.get(f"{place}.bias"))
        params.check(spec)
        found.append(Reading(spec, params, str(entry["layout"]), str(entry["dtype"])))
    return found


def pack_parts(parts: Sequence[Part], arrays: dict[str, Array]) -> Entries:
    """Return layers as JSON; all their arrays go into ``arrays``."""
    readings = pack_readings((part.reading for part in parts), arrays)
    entries: Entries = []
    for place, (part, reading) in enumerate(zip(parts, readings, strict=True)):
        arrays.update({f"{place}.{name}": array for name, array in part.arrays.items()})
        entries.append({
            "path": part.path, "kind": part.kind, "name": part.name, "reading": reading, "arrays": list(part.arrays),
            "epsilon": part.epsilon, "axis": part.axis, "problem": part.problem, "norm": part.norm,
            "axes": list(part.axes), "groups": part.groups, "fast_variance": part.fast_variance,
        })  # fmt: skip
    return entries


def pack_trace(trace: StepTrace, arrays: dict[str, Array]) -> Message:
    """Return the steps of a run as JSON; tensors, weights and the arrays of parts go into ``arrays``."""
    steps: Entries = []
    for place, step in enumerate(trace.steps):
        arrays.update({f"step.{place}.{name}": array for name, array in step.arrays.items()})
        own = {name: getattr(step, name) for name in ("path", "reads", "writes", "sources", "name", "layout", "note")}
        steps.append({**own, "step": step.step.to_dict(), "arrays": list(step.arrays)})
    arrays.update({f"tensor.{place}": tensor for place, tensor in enumerate(trace.tensors)})
    inner: dict[str, Array] = {}
    parts = pack_parts(trace.parts, inner)
    arrays.update({f"part.{name}": array for name, array in inner.items()})
    return {"steps": steps, "tensors": len(trace.tensors), "inputs": trace.inputs, "outputs": trace.outputs,
            "parameters": trace.parameters, "parts": parts}  # fmt: skip


def unpack_trace(entry: Message, arrays: Mapping[str, Array]) -> StepTrace:
    """Return the steps that :func:`pack_trace` packed; raises ValueError for tensors that are not there."""
    count = int(entry["tensors"])

    def numbers(values: Sequence[Any]) -> tuple[int, ...]:
        if not all(isinstance(n, int) and 0 <= n < count for n in values):
            raise ValueError(f"a tensor out of {count}")
        return tuple(values)

    def unpack(place: int, own: Message) -> TracedStep:
        kind = ConvSpec if "in_channels" in own["step"] else Step
        return TracedStep(
            str(own["path"]), kind.from_dict(own["step"]), numbers(own["reads"]), numbers(own["writes"]),
            {str(name): arrays[f"step.{place}.{name}"] for name in own["arrays"]},
            {str(name): tuple(map(str, paths)) for name, paths in own["sources"].items()},
            str(own["name"]), str(own["layout"]), str(own["note"]),
        )  # fmt: skip

    parts = unpack_parts(entry["parts"], {n.removeprefix("part."): a for n, a in arrays.items() if n[:5] == "part."})
    shapes = {str(name): tuple(map(int, shape)) for name, shape in entry["parameters"].items()}
    return StepTrace(
        [unpack(place, own) for place, own in enumerate(entry["steps"])], [arrays[f"tensor.{i}"] for i in range(count)],
        numbers(entry["inputs"]), numbers(entry["outputs"]), shapes, parts,
    )  # fmt: skip


def unpack_parts(entries: Entries, arrays: Mapping[str, Array]) -> list[Part]:
    """Return the layers that :func:`pack_parts` packed."""
    readings = unpack_readings([entry["reading"] for entry in entries], arrays)
    return [
        Part(
            str(entry["path"]), str(entry["kind"]), str(entry["name"]), reading,
            {str(name): arrays[f"{place}.{name}"] for name in entry["arrays"]},
            epsilon=float(entry["epsilon"]), axis=int(entry["axis"]), problem=str(entry["problem"]),
            norm=str(entry["norm"]), axes=tuple(map(int, entry["axes"])), groups=int(entry["groups"]),
            fast_variance=bool(entry["fast_variance"]),
        )
        for place, (entry, reading) in enumerate(zip(entries, readings, strict=True))
    ]  # fmt: skip

"""Model files that are programs – TorchScript, exported programs, Keras files, SavedModels – as models.

A child process (:mod:`convspec.models.files.child`) reads and runs such a file, within limits of time and memory. To
the rest of :mod:`convspec.models` a :class:`ModelFile` is a model like any other.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from convspec import errors
from convspec.atomic_files import replace_file
from convspec.contract import Adapter, FoundConv, ModelModule, ModelTrace, Part, Reading, StepTrace, registry
from convspec.contract.isolation import ChildError, ChildProcess, ChildTimeout
from convspec.errors import ConvspecError, FrameworkAbsent, RequestError, printable
from convspec.models.files.child import Message
from convspec.models.files.messages import read_arrays, unpack, write_arrays
from convspec.spec import Array

T = TypeVar("T")

SECONDS = 300.0
MEMORY = 4 << 30
_COPIES = 8  # of the file's size, which the process may take in addition
_ERRORS = ("FrameworkAbsent", "ParamsError", "PlacementError", "RequestError", "ShapeError", "UnsupportedError")


def loaders() -> dict[str, list[Adapter]]:
    """Return the adapters that read each kind of file, by its suffix or by a file that its folder holds."""
    known = registry.importable().values()
    return {kind: [one for one in known if kind in one.files] for adapter in known for kind in adapter.files}


def loader(path: str | os.PathLike[str]) -> Adapter:
    """Return the first adapter for this file whose framework is installed.

    Raises:
        RequestError: if the file does not exist, or no adapter reads its kind.
        FrameworkAbsent: if no framework that reads it is installed.
    """
    place, known = Path(path), loaders()
    fitting = [one for kind, those in known.items() for one in those
               if (place.name.endswith(kind) if kind.startswith(".") else (place / kind).is_file())]  # fmt: skip
    if not fitting:
        endings = ", ".join([*registry.graph_files(), *(kind for kind in known if kind.startswith("."))])
        folders = ", ".join(kind for kind in known if not kind.startswith("."))
        more = f", or a folder with {folders}" if folders else ""
        raise RequestError(f"{printable(os.fspath(path))!r} must be a model's file, ending in {endings}{more}")
    if not place.exists():
        raise RequestError(f"file not found: {printable(os.fspath(path))!r}")
    absences = [registry.absence(adapter) for adapter in fitting]
    if None in absences:
        return fitting[absences.index(None)]
    raise FrameworkAbsent(f"{printable(place.name)}: {'; '.join(map(str, absences))}")


class ModelFile:
    """A model in a file that is a program, loaded in a child process when it is first used.

    Wherever a model is accepted, so is a path; a ModelFile sets other limits.

    Args:
        path: of a TorchScript archive, a program of ``torch.export``, a Keras file or a SavedModel's folder.
        seconds: time limit for each step: reading the file, running the model once.
        memory: bytes that the process may allocate beyond the framework's own; default 4 GiB plus eight times the
            file's size.

    Raises:
        RequestError: if the file does not exist, or no adapter reads its kind.
        FrameworkAbsent: if its framework is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, seconds: float = SECONDS, memory: int | None = None) -> None:
        self.path = os.path.abspath(path)  # noqa: PTH100 – links stay as they are
        self.loader = loader(path)
        self.seconds = seconds
        self.memory = memory if memory is not None else MEMORY + _COPIES * _size(Path(path))
        self._child: ChildProcess | None = None

    def __repr__(self) -> str:
        return f"ModelFile({self.path!r})"

    def convs(self, **options: Any) -> list[FoundConv]:
        """Return every convolution, as the adapter's own ``convs`` does."""
        return self._ask_all("convs", options, FoundConv)

    def read(self, input_shape: Sequence[int] | None = None) -> Reading:
        """Return the one convolution that the model is or contains."""
        return self._ask("read", {"input_shape": None if input_shape is None else list(input_shape)}, Reading)

    def parts(self) -> list[Part]:
        """Return all its layers with weights."""
        return self._ask_all("parts", {}, Part)

    def trace(self, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
        """Return one run: the inputs and outputs of its layers, and its own outputs."""
        return self._ask("trace", self._send(inputs), ModelTrace)

    def steps(self, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
        """Return one run as steps; raises UnsupportedError where the adapter sees none of such a file."""
        return self._ask("steps", self._send(inputs), StepTrace)

    def _send(self, inputs: Sequence[Array] | Mapping[str, Array]) -> Message:
        """Write inputs for the process, and return where they are."""
        names = list(inputs) if isinstance(inputs, Mapping) else None
        arrays = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
        write_arrays(self._running().folder / "inputs.safetensors", {str(i): x for i, x in enumerate(arrays)})
        return {"arrays": "inputs.safetensors", "names": names}

    def written(self, arrays: Mapping[str, Mapping[str, Array]]) -> ModelFile:
        """Return the model with other weights, in a file that is removed with the object unless ``save`` copies it."""
        child = self._running()
        keys = [(path, name) for path, own in arrays.items() for name in own]
        given = {str(i): np.asarray(arrays[path][name]) for i, (path, name) in enumerate(keys)}
        write_arrays(child.folder / "weights.safetensors", given)
        folder = tempfile.mkdtemp(prefix="convspec-ported-")
        target = Path(folder) / Path(self.path).name
        request = {"arrays": "weights.safetensors", "keys": keys, "path": str(target)}
        try:
            self._answer({"do": "store", "with": request})
        except ConvspecError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.close()  # the loaded model no longer has the weights of its file
        new = ModelFile(target, seconds=self.seconds, memory=self.memory)
        weakref.finalize(new, shutil.rmtree, folder, ignore_errors=True)
        return new

    def save(self, path: str | os.PathLike[str]) -> None:
        """Copy the file; raises RequestError if ``path`` has another suffix."""
        ending = Path(self.path).suffix
        if Path(path).suffix != ending:
            raise RequestError(f"{os.fspath(path)!r} must end in {ending}, as the model's file does, or .safetensors")
        try:
            with replace_file(path) as part:
                shutil.copyfile(self.path, part)
        except OSError as error:
            raise RequestError(f"cannot write {os.fspath(path)!r}: {error.strerror}") from None

    def close(self) -> None:
        """End the process; the next use starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _running(self) -> ChildProcess:
        if self._child is None:
            self._child = ChildProcess("convspec.models.files.child", environment={"CUDA_VISIBLE_DEVICES": ""})
            folder = str(self._child.folder)
            try:
                self._answer({"adapter": self.loader.name, "path": self.path, "folder": folder, "memory": self.memory})
            except ConvspecError:
                self.close()
                raise
        return self._child

    def _answer(self, request: Message) -> Message:
        """Return the process's answer; raises an error that names the file if it is one, or no answer comes."""
        assert self._child is not None
        name = printable(Path(self.path).name)
        try:
            answer = self._child.ask(request, self.seconds)
        except ChildError as error:
            self.close()
            slow = isinstance(error, ChildTimeout)
            hint = "; if the model is only slow, allow more with convspec.ModelFile(path, seconds=…)" if slow else ""
            raise RequestError(f"{name}: {error}{hint}") from None
        if not isinstance(answer, dict):
            self.close()
            raise RequestError(f"{name}: the process answered with nonsense")
        if "error" in answer:
            kind = getattr(errors, answer["error"]) if answer["error"] in _ERRORS else RequestError
            raise kind(f"{name}: {printable(answer.get('message'), 1000)}")
        return answer

    def _ask(self, what: str, options: Message, kind: type[T]) -> T:
        """Return the one value of this kind that the process answers with."""
        return self._ask_all(what, options, kind, count=1)[0]

    def _ask_all(self, what: str, options: Message, kind: type[T], count: int | None = None) -> list[T]:
        folder = self._running().folder
        answer = self._answer({"do": what, "with": options})
        try:
            values = list(unpack(answer["values"], _arrays(folder, answer, self.memory)))
            if count not in (None, len(values)) or not all(isinstance(value, kind) for value in values):
                raise ValueError(f"not {count or 'a list'} of {kind.__name__}")
        except ConvspecError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError, OSError) as error:
            self.close()
            name = printable(Path(self.path).name)
            raise RequestError(f"{name}: the process answered with nonsense: {printable(error)}") from None
        return values


def _arrays(folder: Path, answer: Message, memory: int) -> Mapping[str, Array]:
    name = answer.get("arrays")
    if name is None:
        return {}
    path = folder / Path(str(name)).name
    if path.stat().st_size > memory:
        raise RequestError(f"its arrays are larger than the {memory >> 20} MiB that are allowed")
    from safetensors import SafetensorError

    try:
        return read_arrays(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _size(path: Path) -> int:
    try:
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


class FileAdapter:
    """An adapter for its files: the child process that holds a model does the work on it."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def convs(self, model: Any, input_shape: Sequence[int] | None = None, **options: Any) -> list[FoundConv]:
        shape = None if input_shape is None else list(input_shape)
        return open_file(model).convs(input_shape=shape, **options)

    def read(self, layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
        return open_file(layer).read(input_shape)

    def model_module(self) -> ModelModule:
        return ModelModule(
            lambda model: open_file(model).parts(), lambda model, inputs: open_file(model).trace(inputs),
            lambda model, arrays: open_file(model).written(arrays), lambda model, path: open_file(model).save(path),
            open_file, trace_steps=lambda model, inputs: open_file(model).steps(inputs), writes_in_memory=False,
        )  # fmt: skip


def open_file(model: Any) -> ModelFile:
    """Return a path as a ModelFile."""
    return model if isinstance(model, ModelFile) else ModelFile(model)

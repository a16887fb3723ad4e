"""The model that a graph was made from, run in this process on the inputs that the graph is run on.

An audit asks: ``{"feeds": path of an .npz, "names": [in order], "layouts": {name: layout or null}}``. It is answered
with ``{"index": path of a JSON file}``, or with ``{"problem": why}``. The file holds ``layers``, each with ``path``,
``linear``, ``spec``, ``kernel``, ``bias``, ``norm`` and ``inputs``, one for each call; ``calls``, the paths of all that
was called, in order; ``outputs``; and ``layout``. Arrays are the names of ``.npy`` files beside it, canonical, those of
linear layers ``(rows, channels, 1)``. Nothing of the model itself leaves this process.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.contract import Part
from convspec.errors import ConvspecError, RequestError
from convspec.models import run_model
from convspec.models.find_adapter import owner
from convspec.models.matching import layers as alignment
from convspec.models.run_model import Model, canonical
from convspec.spec import ConvSpec, layouts

if TYPE_CHECKING:
    from convspec.models.run_model import Array

_NORM = ("gain", "shift", "mean", "variance")


@dataclass
class Origin:
    """A model, or the path of one, and a folder for what it shows; ``inputs`` of its own, where it takes others.

    Raises:
        RequestError: where the object is of no framework that an adapter knows.
    """

    model: Any
    folder: Path
    inputs: Any = None
    _runs: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.model = owner(self.model).model_module().open(self.model)

    def answer(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model on the inputs of one question, and write down all that its layers read and wrote."""
        with np.load(wanted["feeds"], allow_pickle=False) as stored:
            feeds = {name: stored[f"input_{place}"] for place, name in enumerate(wanted["names"])}
        try:
            if self.inputs is not None:
                found = run_model.open_model(self.model, self.inputs)
            else:
                found = self._run(feeds, wanted.get("layouts") or {})
        except ConvspecError as error:
            return {"problem": str(error)}
        self._runs += 1
        target = self.folder / f"run_{self._runs}"
        target.mkdir()
        index = target / "index.json"
        index.write_text(json.dumps(_written(found, _Files(target))))
        return {"index": str(index)}

    def _run(self, feeds: Mapping[str, Array], declared: Mapping[str, str | None]) -> Model:
        """The model, run: the inputs as they are, or moved to the layout of its convolutions, whichever it takes."""
        own = _own_layout(self.model)
        there = next((layout for layout in declared.values() if layout), None)
        other = layouts.CHANNELS_LAST if own == layouts.CHANNELS_FIRST else layouts.CHANNELS_FIRST
        moves = [(own, own), (other, own), (own, other)]  # the first one moves nothing
        if there not in (None, own):
            moves = [moves[1], moves[0], moves[2]]
        failures = []
        given: list[Any] = [list(feeds.values())] + ([dict(feeds)] if len(feeds) > 1 else [])
        for inputs in given:
            for move in moves:
                try:
                    return run_model.open_model(self.model, _arrays(inputs, *move), own, own)
                except RequestError as error:
                    failures.append(str(error))
        shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
        raise RequestError(
            f"the source takes the graph's inputs ({shapes}) in neither layout: {failures[0]}; where it takes others, "
            f"give them as source_inputs"
        )


def _own_layout(model: Any) -> str:
    """Return the layout of the model's first convolution; the framework's own where only a run can tell."""
    adapter = owner(model)
    module = adapter.model_module()
    if module.parts_need_inputs:
        return adapter.native_layout
    found = Model(model, adapter, module.parts(model)).layout
    return layouts.CHANNELS_LAST if found.endswith("C") else layouts.CHANNELS_FIRST


def _arrays(inputs: Any, source: str, target: str) -> Any:
    if isinstance(inputs, Mapping):
        return {name: run_model.moved([array], source, target)[0] for name, array in inputs.items()}
    return run_model.moved(inputs, source, target)


class _Files:
    """Arrays as files, each stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def put(self, array: Array) -> str:
        self.count += 1
        name = f"{self.count}.npy"
        np.save(self.folder / name, np.ascontiguousarray(array), allow_pickle=False)
        return name


def _written(model: Model, files: _Files) -> dict[str, Any]:
    layers = [_layer(model, part, files) for part in (*model.ordered("conv"), *model.ordered("linear"))]
    outputs = [files.put(y) for y in model.outputs if y.dtype.kind in "fiub"]
    calls = [call.path for call in model.calls]
    return {"layers": [layer for layer in layers if layer], "calls": calls, "outputs": outputs, "layout": model.layout}


def _layer(model: Model, part: Part, files: _Files) -> dict[str, Any] | None:
    """One layer with its calls; None where it could not be read."""
    calls = [call for call in model.calls if call.path == part.path]
    entry: dict[str, Any] = {"path": part.path, "linear": part.kind == "linear", "norm": None}
    if part.kind == "linear":
        kernel, bias = part.arrays["kernel"], part.arrays.get("bias")
        spec = ConvSpec(kernel.shape[1], kernel.shape[0], 1, ndim=1, bias=bias is not None)
        kernel = kernel[:, :, None]
        inputs = [call.x.reshape(-1, call.x.shape[-1], 1) for call in calls]
    elif part.reading is None:
        return None
    else:
        spec, kernel, bias = part.reading.spec, part.reading.params.kernel, part.reading.params.bias
        layout = part.reading.layout
        inputs = [canonical(call.x, layout) for call in calls]
        if norm := alignment.norm_behind(model, part):
            found = alignment.normalised(norm)
            entry["norm"] = {name: files.put(getattr(found, name)) for name in _NORM} | {"epsilon": found.epsilon}
    entry |= {"spec": spec.to_dict(), "kernel": files.put(kernel), "bias": None if bias is None else files.put(bias)}
    return entry | {"inputs": [files.put(x) for x in inputs]}


def arrays_of(inputs: Any) -> Any:
    """Inputs in the order of the source's arguments, or by name: arrays, or those in a ``.npz`` or ``.npy``.

    Raises:
        RequestError: where the file cannot be read.
    """
    if isinstance(inputs, np.ndarray):
        return [inputs]
    if not isinstance(inputs, str | os.PathLike):
        return inputs
    try:
        found = np.load(inputs, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"the source's inputs {os.fspath(inputs)!r} cannot be read: {error}") from None
    return [found] if isinstance(found, np.ndarray) else [found[name] for name in found.files]


def named(model: Any) -> str:
    """What to call a model: the path of its file, or its class."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    kind = type(model[0] if isinstance(model, Sequence) and len(model) else model)
    return f"{kind.__module__}.{kind.__qualname__}"

"""Run the model that a graph was exported from, in this process, on the inputs that the graph is run on.

The audit sends ``{"feeds": path of an .npz, "names": [in order], "layouts": {name: layout or null}}``. The answer is
``{"index": path of a JSON file}`` or ``{"problem": why}``. The file holds ``layers``, each with ``path``, ``linear``,
``spec``, ``kernel``, ``bias``, ``norm`` and ``inputs``, one per call; ``calls``, the paths of all called layers, in
order; ``outputs``; and ``layout``. Arrays are the names of ``.npy`` files beside it, canonical, those of linear layers
``(rows, channels, 1)``. The model itself never leaves this process.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.contract import Part
from convspec.errors import ConvspecError, RequestError
from convspec.models import run_model
from convspec.models.arguments import read_arrays
from convspec.models.files.model_file import ModelFile
from convspec.models.find_adapter import adapter_for
from convspec.models.matching.layers import batch_norm, norm_after
from convspec.models.run_model import Model, canonical
from convspec.spec import ConvSpec, layouts

if TYPE_CHECKING:
    from convspec.models.run_model import Array

_NORM = ("gain", "shift", "mean", "variance")


@dataclass
class SourceModel:
    """The source of a graph: a model or the path of one, a folder for its answers, and its own inputs, if others.

    Raises:
        RequestError: if no adapter knows the object's framework.
    """

    model: Any
    folder: Path
    inputs: Any = None
    _runs: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.model = adapter_for(self.model).model_module().open(self.model)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model on the inputs of one request, and write what its layers read and returned to files."""
        with np.load(request["feeds"], allow_pickle=False) as stored:
            feeds = {name: stored[f"input_{place}"] for place, name in enumerate(request["names"])}
        try:
            if self.inputs is not None:
                model = run_model.open_model(self.model, self.inputs)
            else:
                model = self._run(feeds, request.get("layouts") or {})
        except ConvspecError as error:
            return {"problem": str(error)}
        self._runs += 1
        target = self.folder / f"run_{self._runs}"
        target.mkdir()
        index = target / "index.json"
        index.write_text(json.dumps(_describe(model, target)))
        return {"index": str(index)}

    def _run(self, feeds: Mapping[str, Array], declared: Mapping[str, str | None]) -> Model:
        """Return the model, run on the inputs as they are, or in the layout of its convolutions, whichever it takes."""
        own = _own_layout(self.model)
        given = next((layout for layout in declared.values() if layout), own)
        other = layouts.CHANNELS_LAST if own == layouts.CHANNELS_FIRST else layouts.CHANNELS_FIRST
        moves = [(own, own), (other, own), (own, other)]  # the first one moves nothing
        if given != own:
            moves = [moves[1], moves[0], moves[2]]
        failures = []
        forms: list[Any] = [list(feeds.values())] + ([dict(feeds)] if len(feeds) > 1 else [])
        for inputs in forms:
            for move in moves:
                try:
                    return run_model.open_model(self.model, run_model.moved(inputs, *move), own, own)
                except RequestError as error:
                    failures.append(str(error))
        shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
        raise RequestError(
            f"the source takes the graph's inputs ({shapes}) in neither layout: {failures[0]}; if it takes other "
            f"inputs, give them as source_inputs"
        )


def _own_layout(model: Any) -> str:
    """Return the layout of the model's first convolution; the framework's own where only a run can tell."""
    adapter = adapter_for(model)
    module = adapter.model_module()
    if module.parts_need_inputs:
        return adapter.native_layout
    layout = Model(model, adapter, module.parts(model)).layout
    return layouts.CHANNELS_LAST if layout.endswith("C") else layouts.CHANNELS_FIRST


def _describe(model: Model, folder: Path) -> dict[str, Any]:
    """Return what the model did in one run, its arrays written to numbered files."""
    numbers = itertools.count()

    def put(array: Array) -> str:
        name = f"{next(numbers)}.npy"
        np.save(folder / name, np.ascontiguousarray(array), allow_pickle=False)
        return name

    layers = [_layer(model, part, put) for part in (*model.ordered("conv"), *model.ordered("linear"))]
    outputs = [put(y) for y in model.outputs if y.dtype.kind in "fiub"]
    calls = [call.path for call in model.calls]
    return {"layers": [layer for layer in layers if layer], "calls": calls, "outputs": outputs, "layout": model.layout}


def _layer(model: Model, part: Part, put: Callable[[Array], str]) -> dict[str, Any] | None:
    """Return one layer with its calls; None where it could not be read."""
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
        if part_after := norm_after(model, part):
            norm = batch_norm(part_after)
            entry["norm"] = {name: put(getattr(norm, name)) for name in _NORM} | {"epsilon": norm.epsilon}
    entry |= {"spec": spec.to_dict(), "kernel": put(kernel), "bias": None if bias is None else put(bias)}
    return entry | {"inputs": [put(x) for x in inputs]}


def load_source_inputs(inputs: Any) -> Any:
    """Return inputs in the order of the source's arguments, or by name; a ``.npz`` or ``.npy`` file is read.

    Raises:
        RequestError: if the file cannot be read.
    """
    if isinstance(inputs, np.ndarray):
        return [inputs]
    if isinstance(inputs, str | os.PathLike):
        return list(read_arrays(inputs).values())
    return inputs


def model_name(model: Any) -> str:
    """Return the path of a model's file, or the model's class."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    if isinstance(model, ModelFile):
        return model.path
    kind = type(model[0] if isinstance(model, Sequence) and len(model) else model)
    return f"{kind.__module__}.{kind.__qualname__}"

"""The layers of a model that have weights, and what they read and wrote in one run.

The seam to a framework: its package's ``model.py`` has ``parts(model) -> list[Part]``, in the order of definition;
``capture(model, inputs) -> (list[Call], list[Array])``, the calls in the order of execution and the model's outputs;
or ``met(model, inputs) -> (list[Part], …)``, which also gives the convolutions that only a run shows;
``write(model, {path: {name: array}}) -> model``; and ``save(model, path)``, in the framework's own format.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.contract import Call, Part
from convspec.errors import RequestError, UnsupportedError
from convspec.models.find_adapter import owner
from convspec.spec import layouts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.contract import Adapter

    Array = NDArray[np.floating[Any]]


@dataclass(slots=True)
class Model:
    """A model opened: whose it is, its parts, and, where it has been run, the calls of its parts."""

    native: Any
    adapter: Adapter
    parts: list[Part]
    calls: list[Call] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)

    @property
    def executed(self) -> bool:
        return bool(self.calls)

    @property
    def layout(self) -> str:
        """That of its first convolution."""
        return next((p.reading.layout for p in self.parts if p.reading is not None), layouts.CHANNELS_FIRST)

    def ordered(self, kind: str) -> list[Part]:
        """The parts of a kind, those that were called first, in the order of their first calls."""
        first = {call.path: place for place, call in reversed(list(enumerate(self.calls)))}
        parts = [part for part in self.parts if part.kind == kind]
        return sorted(parts, key=lambda part: first.get(part.path, len(self.calls)))

    def run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> None:
        """Capture one run."""
        module = seam(self.adapter)
        if not hasattr(module, "met"):
            self.calls, self.outputs = module.capture(self.native, inputs)
            return
        met, self.calls, self.outputs = module.met(self.native, inputs)
        found = {part.path: part for part in met}
        self.parts = [found.pop(part.path, part) for part in self.parts] + list(found.values())


def opened(
    model: Any,
    inputs: Any = None,
    layout: str | None = None,
    source: str | None = None,
    *,
    fold_pads: bool = False,
) -> Model:
    """The model with its parts; run on ``inputs``, where given, which are moved from layout ``source`` to ``layout``.

    Raises:
        UnsupportedError: where the adapter cannot look into models, or there is no convolution in this one.
        RequestError: where the object is of no framework that an adapter knows.
    """
    adapter = owner(model)
    module = seam(adapter)
    model = getattr(module, "held", lambda same: same)(model)
    needs_run = getattr(module, "NEEDS_RUN", False)
    if needs_run and inputs is None:
        raise UnsupportedError(f"{adapter.name} makes its layers when the model is called: give inputs")
    found = Model(model, adapter, [] if needs_run else module.parts(model))
    if inputs is not None:
        own = layout or (found.layout if not needs_run else layouts.CHANNELS_LAST)
        given = moved(inputs, source or own, own)
        if needs_run:
            found.parts = module.parts(model, given)
        if fold_pads:
            _fold(found, given)
        found.run(given)
    elif fold_pads:
        _fold(found, ())
    if not any(part.kind == "conv" for part in found.parts):
        names = ", ".join(sorted({part.name for part in found.parts})) or "none with weights"
        raise UnsupportedError(f"this model has no convolutions; its layers: {names}")
    return found


def _fold(model: Model, inputs: Sequence[Array] | Mapping[str, Array]) -> None:
    """Count the pads before convolutions as theirs; those of code are met by a run, which takes a single input."""
    shape = inputs[0].shape if isinstance(inputs, Sequence) and len(inputs) == 1 else None
    found = {one.path: one for one in model.adapter.convs(model.native, shape, fold_pads=True)}
    for place, part in enumerate(model.parts):
        if part.reading is not None and (one := found.get(part.path)) is not None:
            model.parts[place] = replace(part, reading=one.reading, pads=one.pads, note=one.note)


def seam(adapter: Adapter) -> Any:
    """The ``model`` module of an adapter's package, for files :mod:`convspec.models.files.model_file`.

    Raises:
        UnsupportedError: where the package has none.
    """
    from convspec.models.files import model_file

    if isinstance(adapter, model_file.FileAdapter):
        return model_file
    package = getattr(adapter, "package", None)
    try:
        return importlib.import_module(f"{package}.model")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.model":
            raise
        raise UnsupportedError(f"adapter {adapter.name!r} reads layers, but does not run models") from None


def moved(inputs: Any, source: str, target: str) -> Any:
    """The inputs in another layout: arrays of three to five axes are moved, others are none of images."""
    if isinstance(inputs, Mapping):
        return {name: moved(array, source, target)[0] for name, array in inputs.items()}
    arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    return [_moved(np.asarray(array), source, target) for array in arrays]


def _moved(x: Array, source: str, target: str) -> Array:
    if x.dtype.kind not in "fiub":
        raise RequestError(f"an input must be an array of numbers, not of {x.dtype}")
    ndim = x.ndim - 2
    if ndim not in (1, 2, 3) or source == target:
        return x
    return np.ascontiguousarray(layouts.move_axes(x, source, target))


def canonical(x: Array, layout: str) -> Array:
    """A tensor of images, moved to ``(N, C, *spatial)``."""
    return _moved(x, layouts.family(layout, max(x.ndim - 2, 1)), layouts.CHANNELS_FIRST)

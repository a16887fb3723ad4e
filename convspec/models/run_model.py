"""The adapter of a model, its layers that have weights, and their inputs and outputs in one run."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import numpy as np

from convspec.contract import Call, Part, registry
from convspec.errors import RequestError, UnsupportedError
from convspec.models.files import model_file
from convspec.spec import layouts

if TYPE_CHECKING:
    from convspec.contract import Adapter, FoundConv
    from convspec.spec import Array

P = ParamSpec("P")
R = TypeVar("R")
_LOCK = threading.RLock()


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Let one thread at a time call the function: to run a model, hooks are set on its layers and removed again."""

    @functools.wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LOCK:
            return function(*args, **kwargs)

    return locked


def adapter_for(layer: Any) -> Adapter:
    """Return the adapter of an object's framework, without importing any framework.

    A pair is a linen module with its variables; a path is that of a graph file, or of a program as in
    :class:`~convspec.models.files.model_file.ModelFile`.

    Raises:
        RequestError: where no adapter knows the object's class, nor any of its bases.
    """
    if isinstance(layer, str | os.PathLike) and (adapter := registry.graph_adapter(layer)):
        return adapter
    if isinstance(layer, str | os.PathLike | model_file.ModelFile):
        return cast("Adapter", model_file.FileAdapter(model_file.open_file(layer).loader))
    kind = type(layer[0]) if isinstance(layer, tuple) and layer else type(layer)
    problems: dict[str, str] = {}
    if owner := registry.owner(kind, problems):
        return owner
    names = ", ".join(registry.importable())
    unusable = "".join(f"; {sentence}" for sentence in (registry.faults() | problems).values())
    raise RequestError(
        f"{kind.__module__}.{kind.__qualname__} is no layer or model that an adapter knows: {names}{unusable}"
    )


@one_at_a_time
def convs(model: Any, input_shape: Sequence[int] | None = None, *, fold_pads: bool = False) -> list[FoundConv]:
    """Return every convolution of a model of any framework with its path, each by itself.

    Args:
        model: a module, layer, exported program or ``ModelProto``; a linen module bound to its variables, or
            ``(module, variables)``; the path of an ONNX file, or of a TorchScript archive, an exported program, a Keras
            file or a SavedModel, which are loaded in a process of their own.
        input_shape: of the model's input, for linen, which makes its layers when it is called.
        fold_pads: whether a pad immediately before a convolution – ``nn.ZeroPad2d``, ``ZeroPadding2D``, a ``Pad``
            node – is counted as the convolution's own padding. Where the order of operations is code – ``F.pad``,
            ``jnp.pad``, models that are subclasses – only a run shows it: give ``input_shape``.

    Raises:
        UnsupportedError: where there is no convolution, listing the layers that the model has.
        RequestError: where no adapter knows the object's framework.
    """
    return adapter_for(model).convs(model, input_shape, fold_pads=fold_pads)


@dataclass(slots=True)
class Model:
    """An open model: its adapter, its parts and, once it has been run, the calls of its parts."""

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
        """The layout of its first convolution."""
        return next((p.reading.layout for p in self.parts if p.reading is not None), layouts.CHANNELS_FIRST)

    def ordered(self, kind: str) -> list[Part]:
        """Return the parts of a kind in the order of their first calls, uncalled ones last."""
        first = {call.path: place for place, call in reversed(list(enumerate(self.calls)))}
        parts = [part for part in self.parts if part.kind == kind]
        return sorted(parts, key=lambda part: first.get(part.path, len(self.calls)))

    def run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> None:
        """Run the model once and keep its calls, its outputs, and the parts that only a run shows."""
        self.calls, self.outputs, parts = self.adapter.model_module().trace_model(self.native, inputs)
        shown = {part.path: part for part in parts}
        self.parts = [shown.pop(part.path, part) for part in self.parts] + list(shown.values())


@one_at_a_time
def open_model(
    model: Any, inputs: Any = None, layout: str | None = None, source: str | None = None, *, fold_pads: bool = False
) -> Model:
    """Return the model with its parts; with ``inputs`` it is run on them, moved from layout ``source`` to ``layout``.

    Raises:
        UnsupportedError: where the adapter cannot read models, or this one has no convolution.
        RequestError: where no adapter knows the object's framework.
    """
    adapter = adapter_for(model)
    module = adapter.model_module()
    if module.parts_need_inputs and inputs is None:
        raise UnsupportedError(f"{adapter.name} makes its layers when the model is called: give inputs")
    native = module.open(model)
    opened = Model(native, adapter, [] if module.parts_need_inputs else module.parts(native))
    if inputs is not None:
        own = layout or (adapter.native_layout if module.parts_need_inputs else opened.layout)
        given = moved(inputs, source or own, own)
        if module.parts_need_inputs:
            opened.parts = module.parts(native, given)
        if fold_pads:
            _fold(opened, given)
        opened.run(given)
    elif fold_pads:
        _fold(opened, ())
    if not any(part.kind == "conv" for part in opened.parts):
        names = ", ".join(sorted({part.name for part in opened.parts})) or "none with weights"
        raise UnsupportedError(f"this model has no convolutions; its layers: {names}")
    return opened


def _fold(model: Model, inputs: Sequence[Array] | Mapping[str, Array]) -> None:
    """Fold preceding pads into convolutions; pads written as code show only in a run, which takes a single input."""
    shape = inputs[0].shape if isinstance(inputs, Sequence) and len(inputs) == 1 else None
    found = {one.path: one for one in model.adapter.convs(model.native, shape, fold_pads=True)}
    for place, part in enumerate(model.parts):
        if part.reading is not None and (one := found.get(part.path)) is not None:
            model.parts[place] = replace(part, reading=one.reading, pads=one.pads, note=one.note)


def moved(inputs: Any, source: str, target: str) -> Any:
    """Return the inputs in another layout: arrays of three to five axes are transposed, others left as they are."""
    if isinstance(inputs, Mapping):
        return {name: moved(array, source, target)[0] for name, array in inputs.items()}
    arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    return [_moved(np.asarray(array), source, target) for array in arrays]


def _moved(x: Array, source: str, target: str) -> Array:
    if x.dtype.kind not in "fiub":
        raise RequestError(f"an input must be an array of numbers, not of {x.dtype}")
    if x.ndim not in (3, 4, 5) or source == target:
        return x
    return np.ascontiguousarray(layouts.move_axes(x, source, target))


def canonical(x: Array, layout: str) -> Array:
    """Return a tensor of images in the order ``(N, C, *spatial)``."""
    return _moved(x, layouts.family(layout, max(x.ndim - 2, 1)), layouts.CHANNELS_FIRST)

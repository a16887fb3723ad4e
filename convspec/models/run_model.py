"""The adapter of a model, its layers that have weights, and their inputs and outputs in one run."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np

from convspec.contract import Adapter, Call, FoundConv, Part, StepTrace, registry
from convspec.errors import RequestError, UnsupportedError
from convspec.models.dataflow.calls import layers_of, trace_of_calls
from convspec.models.dataflow.graph import Graph
from convspec.models.files import model_file
from convspec.spec import Array, layouts

Given: TypeAlias = "Sequence[Array] | Mapping[str, Array]"
P = ParamSpec("P")
R = TypeVar("R")
_LOCK = threading.RLock()
_NO_MODEL = "is no model: weights alone cannot be run; load them into a model (model.load_state_dict), and give that"


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Let one thread at a time call the function: to run a model, hooks are set on its layers and removed again."""

    @functools.wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LOCK:
            return function(*args, **kwargs)

    return locked


def adapter_for(layer: Any) -> Adapter:
    """Return the adapter of an object's framework, without importing any framework.

    A pair is a linen module with its variables, or a module of Equinox with its state; a path is that of a graph file,
    or of a program as in :class:`~convspec.models.files.model_file.ModelFile`.

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
    if isinstance(layer, Mapping):
        raise RequestError(f"{kind.__name__} {_NO_MODEL}")
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
            ``(module, variables)``; a module of Equinox, or ``(module, state)``; the path
            of an ONNX file, or of a TorchScript archive, an exported program, a Keras file or a SavedModel, which are
            loaded in a process of their own.
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
    """An open model: its adapter, its parts and, once it has been run, the calls of its parts.

    Attributes:
        inputs: of the run, as the model takes them; None: it cannot be run again.
        input_layout: the layout of those.
        calls: of its parts, in the order of execution.
        outputs: its results.
        problem: why it was not run on the inputs.
        rest: the shapes of its parameters that no part has, by name.
        unfollowed: why its steps are not in its graph, although its adapter sees them.
    """

    native: Any
    adapter: Adapter
    parts: list[Part]
    calls: list[Call] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)
    inputs: Given | None = None
    input_layout: str = layouts.CHANNELS_FIRST
    problem: str = ""
    rest: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unfollowed: str = ""
    _graph: Graph | None = None
    _followed: bool = False

    @property
    def graph(self) -> Graph | None:
        """The steps of its run, which is made once more for them; the layers alone where its adapter sees no others."""
        if self._graph is None and self.inputs is not None and self.outputs:
            self._graph = self._follow(self.inputs)
            self._followed = self._graph is not None
            if self._graph is None:
                layers = trace_of_calls(self.parts, self.calls, self.inputs, self.outputs)
                self._graph = Graph(layers, self.input_layout)
        return self._graph

    def _follow(self, inputs: Given) -> Graph | None:
        """Return the steps of one run; None where its adapter sees none, or cannot follow this model."""
        trace = self.adapter.model_module().trace_steps
        try:
            return Graph(trace(self.native, inputs), self.input_layout) if trace else None
        except Exception as error:  # noqa: BLE001 – of any framework; the layers are compared without
            self.unfollowed = f"{type(error).__name__}: {error}"
            return None

    @property
    def followed(self) -> bool:
        """Whether all its steps are in its graph, not its layers alone."""
        return self.graph is not None and self._followed

    @property
    def executed(self) -> bool:
        """Whether the order of execution is known."""
        return bool(self.calls)

    @property
    def layout(self) -> str:
        """The layout of its first convolution, else that of its framework."""
        first = next((part.reading.layout for part in self.parts if part.reading is not None), None)
        return first or self.adapter.native_layout

    def ordered(self, kind: str) -> list[Part]:
        """Return the parts of a kind in the order of their first calls, uncalled ones last."""
        first = {call.path: place for place, call in reversed(list(enumerate(self.calls)))}
        parts = [part for part in self.parts if part.kind == kind]
        return sorted(parts, key=lambda part: first.get(part.path, len(self.calls)))

    def run(self, inputs: Given) -> None:
        """Run the model once and keep its calls, its outputs, and the parts that only a run shows."""
        module = self.adapter.model_module()
        graph = self._follow(inputs) if module.traces_plainly(self.native) else None
        if graph is not None:
            self.calls, self.outputs, parts = layers_of(graph.trace, self.parts)
            self._graph, self._followed = graph, True
        else:
            self.calls, self.outputs, parts = module.trace_model(self.native, inputs)
        self.inputs = inputs
        shown = {part.path: part for part in parts}
        self.parts = [shown.pop(part.path, part) for part in self.parts] + list(shown.values())

    def on(self, inputs: Given) -> Model:
        """Return the model, run on other inputs."""
        other = replace(self, parts=list(self.parts), _graph=None, _followed=False)
        other.run(inputs)
        return other

    def seen_as(self, parts: list[Part], calls: list[Call], trace: StepTrace) -> Model:
        """Return the same run with other words for its layers."""
        return replace(self, parts=parts, calls=calls, _graph=Graph(trace, self.input_layout))

    def results(self, inputs: Given, native: Any = None) -> list[Array]:
        """Return the results of one more run, of ``native`` in the model's place if it is given."""
        module = self.adapter.model_module()
        native = self.native if native is None else native
        return module.results(native, inputs) if module.results else list(module.trace_model(native, inputs).outputs)


@one_at_a_time
def open_model(
    model: Any, inputs: Any = None, layout: str | None = None, source: str | None = None, *, fold_pads: bool = False,
    name: str = "",
) -> Model:  # fmt: skip
    """Return the model with its parts; with ``inputs`` it is run on them, moved from layout ``source`` to ``layout``.

    A model that is run may have no layers that can be read: its results are compared all the same.

    Args:
        model: of any framework.
        inputs: one array, or several in order or by name.
        layout: of the inputs that the model takes; None: that of its first convolution.
        source: the layout of ``inputs``.
        fold_pads: whether preceding pads are counted as a convolution's own.
        name: of the model in messages: ``model b``.

    Raises:
        UnsupportedError: where the adapter cannot read models, or this one has no convolution and is not run.
        RequestError: where no adapter knows the object's framework, or the model does not take the inputs.
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
        with _named_refusal(name, opened, given, own):
            if module.parts_need_inputs:
                opened.parts = module.parts(native, given)
            if fold_pads:
                _fold(opened, given)
            opened.input_layout = own
            try:
                opened.run(given)
            except UnsupportedError as error:
                opened.problem = str(error)
    elif fold_pads:
        _fold(opened, ())
    if inputs is None and not any(part.kind == "conv" for part in opened.parts):
        names = ", ".join(sorted({part.name for part in opened.parts})) or "none with weights"
        raise UnsupportedError(f"this model has no convolutions; its layers: {names}; give inputs to compare results")
    opened.rest = _unread_parameters(opened, module.parameters(native))
    return opened


def _unread_parameters(model: Model, parameters: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the parameters that no part has; those of a function call are known by their module and shape."""
    read = {f"{part.path}/{array}" for part in model.parts for array in part.weights}
    called = [(part.path.rpartition(".")[0], array.shape) for part in model.parts if part.function
              for array in part.weights.values()]  # fmt: skip
    return {key: shape for key, shape in parameters.items()
            if key not in read and (key.rpartition("/")[0], shape) not in called}  # fmt: skip


@contextmanager
def _named_refusal(name: str, model: Model, given: Given, layout: str) -> Iterator[None]:
    """Let a refusal say which model was run, on inputs of which shapes, and what to try next."""
    try:
        yield
    except RequestError as error:
        arrays = given.values() if isinstance(given, Mapping) else given
        shapes = ", ".join(str(np.shape(x)) for x in arrays)
        first = next((part for part in model.parts if part.reading is not None), None)
        channels = "" if first is None or first.reading is None else (
            f"; its first convolution, {first.path or first.name}, takes {first.reading.spec.in_channels} channels"
        )  # fmt: skip
        raise RequestError(
            f"{name or 'the model'} ({model.adapter.name}), given inputs of shape {shapes} as {layout}: {error}"
            f"{channels}. Check inputs=, say the layouts of both models' inputs with layouts=, and put the model in "
            f"evaluation mode"
        ) from error


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

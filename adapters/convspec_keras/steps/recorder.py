"""Record the steps of a run: every call of a layer or operation that gets a tensor of the data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras

from convspec.contract import Array, StepTrace, TracedStep
from convspec.contract.tracing import Frame, Link, NoWord, paths_of_links
from convspec.errors import ConvspecError
from convspec.spec.steps import Other, Parameter
from convspec_keras import read
from convspec_keras.steps import layers, operations
from convspec_keras.steps.tensors import Builder, Call, Learnt, Traced, real, traced, traced_in

_UNSEEN = "its code is not seen: it computes with functions of the backend"
_FAILED = object()


class Recorder:
    """Steps and tensors of a run, in the order of execution."""

    def __init__(self, model: Any) -> None:
        self.steps: list[TracedStep] = []
        self.tensors: list[Array] = []
        self.read: dict[int, Any] = {}  # the variables whose values were read since the last step
        self._model = model
        self._frames = [Frame(joint="/")]
        self._paths = {id(layer): path for path, layer in read._walk(model)}
        self._weights = {id(weight): path for path, weight in weights_of(model).items()}
        self._state: list[tuple[Any, Array]] = []
        self._constants: dict[int, tuple[int, Any]] = {}  # positions of arrays, which are kept alive

    def trace(self, inputs: Sequence[Traced], results: Any) -> StepTrace:
        """Return all that was recorded, with the model's results."""
        outputs = tuple(self.number(t) for t in keras.tree.flatten(results) if t is not None)
        shapes = {path: tuple(weight.shape) for path, weight in weights_of(self._model).items()}
        return StepTrace(self.steps, self.tensors, tuple(map(self.number, inputs)), outputs, shapes)

    def _keep_state(self) -> None:
        """Keep the statistics and seeds that a layer in training changes."""
        if not self._state:
            learnt = {id(v) for _, layer in read._walk(self._model) for v in layer._trainable_variables}
            self._state = [(v, read._array(v)) for v in self._model.variables if id(v) not in learnt]

    def restore_state(self) -> None:
        """Give the model the state that it had."""
        for variable, values in self._state:
            variable.assign(values)

    # -- tensors -------------------------------------------------------------------------------------------------------

    def list_tensor(self, t: Traced) -> int:
        """List a tensor of the data; returns its position."""
        self.tensors.append(read._array(t.value))
        t.number = len(self.tensors) - 1
        return t.number

    def number(self, t: Any) -> int:
        """Return the position of a tensor; one that no input reaches is listed as a parameter."""
        if isinstance(t, Traced):
            assert t.number is not None, "a tensor that no step wrote"
            return t.number
        if id(t) not in self._constants:
            learnt = t if isinstance(t, Learnt) else Learnt(read._array(t), self.sources(t))
            random = any("seed" in variable.name for variable in self.read.values())
            self.tensors.append(learnt.values)
            number = len(self.tensors) - 1
            self._constants[id(t)] = number, t
            path = learnt.sources[0] if len(learnt.sources) == 1 else self._frames[-1].path_of("constant")
            self._step(TracedStep(path, Parameter(learnt.values.shape), (), (number,), {"value": learnt.values},
                                  {"value": learnt.sources}, "Parameter", note="drawn at random" * random)
                      )  # fmt: skip
        return self._constants[id(t)][0]

    def sources(self, t: Any) -> tuple[str, ...]:
        """Return the paths of the weights that an array was made of: all those that were read since the last step."""
        made_of = [t] if id(t) in self._weights else self.read.values()
        return tuple(self._weights[id(weight)] for weight in made_of if id(weight) in self._weights)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call a layer or an operation, and list its steps."""
        if kwargs.get("training"):
            self._keep_state()
        if not isinstance(op, keras.layers.Layer):
            return self._operation(op, args, kwargs)
        path = self._paths.get(id(op)) or f"{self._frames[-1].path}/{op.name}".lstrip("/")
        build = layers.builder_of(op, args, kwargs)
        if build is not None or layers.is_opaque(op):
            return self._layer(op, path, args, kwargs, build)
        return self._open(op, path, args, kwargs)

    def call_base(self, op: Any, kind: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """Call what a layer inherits from a class of Keras, and list it as that class's step."""
        kwargs = {**dict(zip(("training", "mask"), args[1:], strict=False)), **kwargs}
        if kwargs.get("training"):
            self._keep_state()
        build = layers.builder_of_kind(kind, op, args[:1], kwargs)
        return self._layer(op, self._frames[-1].path, args[:1], kwargs, build, call=call)

    def _operation(self, op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        kind = type(op).__name__
        if kind == "Cond" and isinstance(args[0], Traced):
            return args[1 if args[0] else 2]()
        y = operations.evaluate(op, real(args), real(kwargs))
        if kind in operations.SHAPES:
            return y
        name = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", kind).lower()
        result = traced(y)
        if kind in operations.SAME:
            (x,), dtypes = traced_in((args, kwargs)), {result.dtype}
            if dtypes == {x.dtype} or all("int" in dtype for dtype in (x.dtype, *dtypes)):
                result.number = x.number  # the same values
                return x if dtypes == {x.dtype} else result
            name = f"cast to {result.dtype}"
        call = Call(op, args, kwargs, traced_in(result), self.sources)
        self._emit(self._frames[-1].path_of(name), name, call, operations.TABLE.get(kind))
        return result

    def _layer(
        self, op: Any, path: str, args: Any, kwargs: Any, build: Builder | None, note: str = "",
        call: Callable[..., Any] | None = None,
    ) -> Any:  # fmt: skip
        """Call a layer as a whole; the activation of one with a word of its own is a step after it."""
        activation = None if build is None else getattr(op, "activation", None)
        own, name = vars(op).get("activation", _FAILED), type(op).__name__
        if build is None:
            self._keep_state()
        call = call or (op.quantized_call if getattr(op, "quantization_mode", None) else op.call)
        try:
            if activation is not None:
                object.__setattr__(op, "activation", None)
            result = traced(call(*real(args), **real(kwargs)))
        finally:
            vars(op).pop("activation", None)
            if own is not _FAILED:
                object.__setattr__(op, "activation", own)
        self._frames.append(Frame(path, name, joint="/"))
        self._emit(path, name, Call(op, args, kwargs, traced_in(result), self.sources), build, note)
        if activation not in (None, keras.activations.linear):
            result = self._activate(activation, result)
        self._frames.pop()
        return result

    def _activate(self, function: Any, x: Traced) -> Any:
        """Call an activation; one whose code is not seen is one step."""
        y = self._seen(function, x)
        if y is _FAILED:
            y, name = Traced(function(x.value)), getattr(function, "__name__", type(function).__name__)
            own = function is getattr(keras.activations, name, None)
            build = operations.TABLE.get(name.capitalize()) if own else None
            call = Call(function, (x,), {}, (y,), self.sources)
            self._emit(self._frames[-1].path_of(name), name, call, build, _UNSEEN)
        return y

    def _open(self, layer: Any, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See through a layer to the layers and operations that it calls."""
        frame = Frame("" if layer is self._model else path, type(layer).__name__, joint="/")
        plain = type(layer) is keras.layers.Activation
        self._frames.append(frame)
        y = self._seen(partial(self._activate, layer.activation) if plain else layer.call, *args, **kwargs)
        self._frames.pop()
        if y is _FAILED:
            return self._layer(layer, path, args, kwargs, None, _UNSEEN)
        for i, own in frame.own if frame.is_one_function else ():
            inner = self.steps[i].path.removeprefix(own)
            self.steps[i] = replace(self.steps[i], path=path + inner, name=frame.kind)
        return y

    def _seen(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the result of a call; of one that tensors of this run do not suit, no step stays listed."""
        steps, tensors, depth = len(self.steps), len(self.tensors), len(self._frames)
        try:
            return call(*args, **kwargs)
        except Exception:  # noqa: BLE001 – whatever a user's code does with a tensor that is none
            del self.steps[steps:], self.tensors[tensors:], self._frames[depth:]
            self._constants = {key: known for key, known in self._constants.items() if known[0] < tensors}
            return _FAILED

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _emit(self, path: str, name: str, call: Call, build: Builder | None, note: str = "") -> None:
        """List the steps of one call; an unknown one, or settings without a word, are ``Other``."""
        made: Sequence[Link] = ()
        try:
            built = () if build is None else build(call)
            made = [built] if isinstance(built, Link) else list(built)
        except (NoWord, ConvspecError) as error:
            note = str(error)
        if not made:
            own = weights_of(call.op).items() if isinstance(call.op, keras.layers.Layer) else ()
            weights = {p.removeprefix(f"{call.op.name}/"): Learnt(read._array(t), self.sources(t)) for p, t in own}
            macs = layers.macs_of(call)
            made = [Link(Other(name), traced_in((call.args, call.kwargs)), call.results, weights, note=note, macs=macs)]
        parts = ("depthwise", "pointwise") if name.startswith("SeparableConv") and len(made) == 2 else ()
        paths = [f"{path}/{part}" for part in parts] or paths_of_links(path, made, "/")
        for inner, link in zip(paths, made, strict=True):
            reads, writes = tuple(map(self.number, link.reads)), tuple(map(self.list_tensor, link.writes))
            arrays = {key: learnt.values for key, learnt in link.arrays.items()}
            sources = {key: learnt.sources for key, learnt in link.arrays.items()}
            self._step(TracedStep(inner, link.step, reads, writes, arrays, sources, name, link.layout, link.note,
                                  link.macs))  # fmt: skip
            self._frames[-1].own.append((len(self.steps) - 1, path))
        self.read.clear()

    def _step(self, step: TracedStep) -> None:
        for frame in self._frames[:-1]:
            frame.inner = True
        self.steps.append(step)


def weights_of(model: Any) -> dict[str, Any]:
    """Return all weights by the path of their layer and their name; a second one of a path is numbered.

    What a ``Normalization`` has counted is none.
    """
    found: dict[str, Any] = {}
    for path, layer in read._walk(model):
        for weight in (*layer._trainable_variables, *layer._non_trainable_variables):
            if weight.name == "count":
                continue
            key, number = f"{path}/{weight.name}", 1
            while key in found:
                number += 1
                key = f"{path}/{weight.name} ({number})"
            found[key] = weight
    return found

"""Record the steps of a run: every call of a layer or operation that gets a tensor of the data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras

from convspec.contract import StepTrace, TracedStep
from convspec.contract.tracing import Frame, Link, NoWord, paths_of_links
from convspec.errors import ConvspecError
from convspec.spec.steps import Mish, Other, Parameter
from convspec_keras import read
from convspec_keras.steps import layers, operations
from convspec_keras.steps.tensors import Builder, Call, Learnt, Traced, real, traced, traced_in

if TYPE_CHECKING:
    from convspec.contract import Array

_UNSEEN = "its code is not seen: it computes with functions of the backend"


class Recorder:
    """Steps and tensors of a run, in the order of execution."""

    def __init__(self, model: Any) -> None:
        self.steps: list[TracedStep] = []
        self.tensors: list[Array] = []
        self._frames = [Frame(joint="/")]
        self._paths = {id(layer): path for path, layer in read._walk(model)}
        self._weights = {id(weight): path for path, weight in weights_of(model).items()}
        self._model = model
        self._state: list[tuple[Any, Array]] = []
        self.read: dict[int, Any] = {}  # the weights whose values were read since the last step
        self._kept: list[Any] = []  # constants whose positions are known, kept alive
        self._constants: dict[int, int] = {}

    def trace(self, inputs: Sequence[Traced], results: Any) -> StepTrace:
        """Return all that was recorded, with the model's results."""
        outputs = tuple(self.number(t) for t in keras.tree.flatten(results) if t is not None)
        shapes = {path: tuple(weight.shape) for path, weight in weights_of(self._model).items()}
        return StepTrace(self.steps, self.tensors, tuple(map(self.number, inputs)), outputs, shapes)

    def _keep_state(self) -> None:
        """Keep the statistics and seeds that a layer in training changes, to restore them after the run."""
        if not self._state:
            learnt = {id(v) for _, layer in read._walk(self._model) for v in layer._trainable_variables}
            self._state = [(v, read._array(v)) for v in self._model.variables if id(v) not in learnt]

    def restore_state(self) -> None:
        """Give the model the state that it had."""
        for variable, values in self._state:
            variable.assign(values)

    # -- tensors -------------------------------------------------------------------------------------------------------

    def add_input(self, value: Any) -> Traced:
        """List an input of the model."""
        x = Traced(value)
        self._write(x)
        return x

    def number(self, t: Any) -> int:
        """Return the position of a tensor; one that no input reaches is listed as a parameter."""
        if isinstance(t, Traced):
            assert t.number is not None, "a tensor that no step wrote"
            return t.number
        if id(t) not in self._constants:
            learnt = t if isinstance(t, Learnt) else Learnt(read._array(t), self.sources(t))
            self.tensors.append(learnt.values)
            self._constants[id(t)] = len(self.tensors) - 1
            self._kept.append(t)
            path = learnt.sources[0] if len(learnt.sources) == 1 else self._frames[-1].path_of("constant")
            step = Parameter(learnt.values.shape)
            self._step(TracedStep(path, step, (), (self._constants[id(t)],), {"value": learnt.values},
                                  {"value": learnt.sources}, "Parameter"))  # fmt: skip
        return self._constants[id(t)]

    def sources(self, t: Any) -> tuple[str, ...]:
        """Return the paths of the weights that an array was made of: all those that were read since the last step."""
        made_of = [t] if id(t) in self._weights else self.read.values()
        return tuple(self._weights[id(weight)] for weight in made_of if id(weight) in self._weights)

    def _write(self, t: Traced) -> int:
        self.tensors.append(read._array(t.value))
        t.number = len(self.tensors) - 1
        return t.number

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call a layer or an operation, and list its steps."""
        if kwargs.get("training"):
            self._keep_state()
        if not isinstance(op, keras.layers.Layer):
            return self._operation(op, args, kwargs)
        path = self._paths.get(id(op)) or f"{self._frames[-1].path}/{op.name}".lstrip("/")
        if layers.is_opaque(op):
            return self._whole(op, path, args, kwargs)
        build = layers.builder_of(op, args, kwargs)
        return self._open(op, path, args, kwargs) if build is None else self._layer(build, op, path, args, kwargs)

    def _operation(self, op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = type(op).__name__
        if name == "Cond" and isinstance(args[0], Traced):
            return args[1 if args[0] else 2]()
        y = operations.evaluate(op, real(args), real(kwargs))
        if name in operations.SHAPES:
            return y
        if name in operations.SAME and (x := _unchanged(y, args, kwargs)) is not None:
            return x
        result = traced(y)
        self._emit(self._frames[-1].path_of(_snake(name)), name, operations.TABLE.get(name), op, args, kwargs, result)
        return result

    def _layer(self, build: Builder, op: Any, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call a layer with a word of its own; its activation is a step after it."""
        own = vars(op).get("activation", self)
        activation = getattr(op, "activation", None)
        try:
            if activation is not None:
                object.__setattr__(op, "activation", None)
            result = traced(op.call(*real(args), **real(kwargs)))
        finally:
            if own is not self:
                object.__setattr__(op, "activation", own)
            else:
                vars(op).pop("activation", None)
        self._frames.append(Frame(path, type(op).__name__, joint="/"))
        try:
            self._emit(path, type(op).__name__, build, op, args, kwargs, result)
            return result if activation in (None, keras.activations.linear) else self._activate(activation, result)
        finally:
            self._frames.pop()

    def _activate(self, function: Any, x: Traced) -> Any:
        """Call an activation; one whose code is not seen is one step."""
        try:
            return self._seen(lambda: function(x))
        except Exception:  # noqa: BLE001 – whatever a user's function does with a tensor that is none
            y = Traced(function(x.value))
            name = getattr(function, "__name__", type(function).__name__)
            known = function is getattr(keras.activations, name, None) and name == "mish"
            link = Link(Mish(), (x,), (y,)) if known else Link(Other(name), (x,), (y,), note=_UNSEEN)
            self._links(self._frames[-1].path_of(name), name, [link])
            return y

    def _open(self, layer: Any, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See through a layer to the layers and operations that it calls."""
        frame = Frame("" if layer is self._model else path, type(layer).__name__, joint="/")
        self._frames.append(frame)
        try:
            if type(layer) is keras.layers.Activation:
                y = self._activate(layer.activation, *args)
            else:
                y = self._seen(lambda: layer.call(*args, **kwargs))
        except Exception:  # noqa: BLE001 – whatever a user's code does with a tensor that is none
            return self._whole(layer, path, args, kwargs, _UNSEEN)
        finally:
            self._frames.remove(frame)
        if frame.is_one_function:
            for i, own in frame.own:
                inner = self.steps[i].path.removeprefix(own)
                self.steps[i] = replace(self.steps[i], path=path + inner, name=frame.kind)
        return y

    def _seen(self, call: Callable[[], Any]) -> Any:
        """Return the result of a call; of one that fails, no step stays listed."""
        counts, depth = (len(self.steps), len(self.tensors)), len(self._frames)
        try:
            return call()
        except Exception:
            del self.steps[counts[0] :], self.tensors[counts[1] :], self._frames[depth:]
            self._constants = {key: number for key, number in self._constants.items() if number < counts[1]}
            raise

    def _whole(self, layer: Any, path: str, args: Any, kwargs: Any, note: str = "") -> Any:
        """Call a layer as one step without a word."""
        self._keep_state()
        call = layer.quantized_call if getattr(layer, "quantization_mode", None) else layer.call
        result = traced(call(*real(args), **real(kwargs)))
        name = type(layer).__name__
        link = Link(Other(name), traced_in((args, kwargs)), traced_in(result), self._own(layer), note=note)
        self._frames.append(Frame(path, name, joint="/"))
        self._links(path, name, [link])
        self._frames.pop()
        return result

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _emit(self, path: str, name: str, build: Builder | None, op: Any, args: Any, kwargs: Any, result: Any) -> None:
        """List the steps of one call; an unknown one, or settings without a word, are ``Other``."""
        call, note = Call(op, args, kwargs, traced_in(result), self.sources), ""
        if build is not None:
            try:
                made = build(call)
                return self._links(path, name, [made] if isinstance(made, Link) else list(made))
            except (NoWord, ConvspecError) as error:
                note = str(error)
        word = f"cast to {call.y.dtype}" if name in operations.SAME else _snake(name)
        is_layer = isinstance(op, keras.layers.Layer)
        arrays = self._own(op) if is_layer else {}
        word = name if is_layer else word
        return self._links(path, name, [Link(Other(word), traced_in((args, kwargs)), call.results, arrays, note=note)])

    def _own(self, layer: Any) -> dict[str, Learnt]:
        """Return all weights of a layer by their path in it."""
        own = weights_of(layer).items()
        return {path.removeprefix(f"{layer.name}/"): Learnt(read._array(t), self.sources(t)) for path, t in own}

    def _links(self, path: str, name: str, made: Sequence[Link]) -> None:
        separable = name.startswith("SeparableConv") and len(made) == 2
        paths = [f"{path}/depthwise", f"{path}/pointwise"] if separable else paths_of_links(path, made, "/")
        for inner, link in zip(paths, made, strict=True):
            reads = tuple(map(self.number, link.reads))
            writes = tuple(map(self._write, link.writes))
            arrays = {key: learnt.values for key, learnt in link.arrays.items()}
            sources = {key: learnt.sources for key, learnt in link.arrays.items()}
            self._step(TracedStep(inner, link.step, reads, writes, arrays, sources, name, link.layout, link.note))
            self._frames[-1].own.append((len(self.steps) - 1, path))
        self.read.clear()

    def _step(self, step: TracedStep) -> None:
        for frame in self._frames[:-1]:
            frame.inner = True
        self.steps.append(step)


def weights_of(model: Any) -> dict[str, Any]:
    """Return all weights by the path of their layer and their name; a second one of a path is numbered."""
    found: dict[str, Any] = {}
    for path, layer in read._walk(model):
        for weight in (*layer._trainable_variables, *layer._non_trainable_variables):
            key, number = f"{path}/{weight.name}", 1
            while key in found:
                number += 1
                key = f"{path}/{weight.name} ({number})"
            found[key] = weight
    return found


def _unchanged(y: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Traced | None:
    """Return the operand as the same tensor if a result has its values: its dtype, or another one of integers."""
    x, dtype = traced_in((args, kwargs))[0], keras.backend.standardize_dtype(y.dtype)
    if dtype != x.dtype and not ("int" in dtype and "int" in x.dtype):
        return None
    same = x if dtype == x.dtype else Traced(y)
    same.number = x.number
    return same


def _snake(name: str) -> str:
    """Return the name of an operation's function: ``MaxPool`` is ``max_pool``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower()

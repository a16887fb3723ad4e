"""Run a Keras model once and record its steps."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from convspec.contract import Array, StepTrace, refuse_inputs
from convspec.errors import UnsupportedError
from convspec_keras import read
from convspec_keras.graph import SavedModel
from convspec_keras.steps.layers import INHERITED
from convspec_keras.steps.recorder import Recorder
from convspec_keras.steps.tensors import Traced, traced_in

_OPERATORS = [f"__{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and",
                                         "or", "xor", "eq", "ne", "lt", "le", "gt", "ge")]  # fmt: skip


def trace_steps(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run the model once in inference and list its steps.

    Layers of users, nested models and functions compiled by TensorFlow are seen through; a layer that calls functions
    of the backend is one step without a word, as are recurrent layers and attention.
    """
    if isinstance(model, SavedModel):
        raise UnsupportedError("the steps of a SavedModel are not traced: give the Keras model")
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedError(f"{type(model).__name__} is not a layer of Keras")
    with refuse_inputs("Keras model"):
        listed = list(inputs.values() if isinstance(inputs, Mapping) else inputs)

        def run(tensors: Sequence[Any]) -> Any:
            if isinstance(inputs, Mapping):
                return model(dict(zip(inputs, tensors, strict=True)), training=False)
            return model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)

        values = [read._tensor(x, model) for x in listed]
        if not all(layer.built for _, layer in read._walk(model)):
            run(values)
        recorder, given = Recorder(model), [Traced(x) for x in values]
        for x in given:
            recorder.list_tensor(x)
        with _recording(recorder, model):
            y = run(given)
    return recorder.trace(given, y)


@contextmanager
def _recording(recorder: Recorder, model: Any) -> Iterator[None]:
    """Send symbolic calls to a recorder, and leave Keras and the model as they were."""
    layer, backend = keras.layers.Layer, sys.modules[keras.activations.mish.__module__].backend
    changes = [(kind, "symbolic_call", _calling(recorder, kind.symbolic_call)) for kind in (keras.Operation, layer)]
    changes += [
        (sys.modules[layer.__module__], "Node", lambda **_: None),  # no call is noted in the layers' own graph
        (layer, "add_loss", lambda *_: None),
        (backend, "convert_to_tensor", _passing(backend.convert_to_tensor)),
    ]
    changes += [(kind, "call", _called_by_subclass(recorder, kind)) for kind in INHERITED]
    for kind in {type(v) for v in model.variables}:
        changes += [(kind, name, _leaving(getattr(kind, name))) for name in _OPERATORS]
        changes.append((kind, "value", _noting(kind.value, recorder.read)))
    if keras.backend.backend() == "tensorflow":
        kind = type(sys.modules["tensorflow"].function(print))
        changes.append((kind, "__call__", _uncompiled(kind.__call__)))
    own = [vars(owner).get(name) for owner, name, _ in changes]
    try:
        for change in changes:
            setattr(*change)
        yield
    finally:
        for (owner, name, _), value in zip(changes, own, strict=True):
            delattr(owner, name) if value is None else setattr(owner, name, value)
        recorder.restore_state()


def _calling(recorder: Recorder, symbolic: Any) -> Any:
    def call(op: Any, *args: Any, **kwargs: Any) -> Any:
        return recorder.call(op, args, kwargs) if traced_in((args, kwargs)) else symbolic(op, *args, **kwargs)

    return call


def _called_by_subclass(recorder: Recorder, kind: Any) -> Any:
    """Return the ``call`` of a class, which lists what a subclass gets from ``super().call``."""
    base = kind.call

    @functools.wraps(base)
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not traced_in((args, kwargs)):
            return base(layer, *args, **kwargs)
        return recorder.call_base(layer, kind, functools.partial(base, layer), args, kwargs)

    return call


def _uncompiled(call: Any) -> Any:
    """Return the call of a compiled function, which runs as it is written on tensors of the data."""

    def run(function: Any, *args: Any, **kwargs: Any) -> Any:
        as_written = traced_in((args, kwargs))
        return function.python_function(*args, **kwargs) if as_written else call(function, *args, **kwargs)

    return run


def _passing(convert: Any) -> Any:
    """Return a conversion that leaves tensors of the data as they are."""
    return lambda x, *args, **kwargs: x if isinstance(x, Traced) else convert(x, *args, **kwargs)


def _leaving(operator: Any) -> Any:
    """Return an operator of a variable that leaves tensors of the data to their own class."""
    return lambda self, other: NotImplemented if isinstance(other, Traced) else operator(self, other)


def _noting(value: Any, noted: dict[int, Any]) -> Any:
    """Return the property of a variable's value, which notes that it was read."""
    return property(lambda variable: value.fget(noted.setdefault(id(variable), variable)))

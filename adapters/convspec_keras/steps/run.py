"""Run a Keras model once and record its steps."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import keras

from convspec.contract import StepTrace, refuse_inputs
from convspec.errors import UnsupportedError
from convspec_keras.steps.recorder import Recorder
from convspec_keras.steps.tensors import Traced, traced_in

if TYPE_CHECKING:
    from convspec.contract import Array

_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def trace_steps(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run the model once in inference and list its steps.

    Layers of users, nested models and functions compiled by TensorFlow are seen through; a layer that calls functions
    of the backend is one step without a word, as are recurrent layers and attention.
    """
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedError(f"{type(model).__name__} is not a layer of Keras")
    from convspec_keras.model import _tensor

    with refuse_inputs("Keras model"):
        named = isinstance(inputs, Mapping)
        values = [_tensor(x, model) for x in (inputs.values() if isinstance(inputs, Mapping) else inputs)]

        def arguments(tensors: Sequence[Any]) -> Any:
            if named:
                return dict(zip(inputs, tensors, strict=True))
            return tensors[0] if len(tensors) == 1 else list(tensors)

        if not model.built:
            model(arguments(values), training=False)
        recorder = Recorder(model)
        given = [recorder.add_input(x) for x in values]
        with _recording(recorder, model):
            y = model(arguments(given), training=False)
    return recorder.trace(given, y)


@contextmanager
def _recording(recorder: Recorder, model: Any) -> Iterator[None]:
    """Send symbolic calls to a recorder, add no node to the layers' own graph, and keep the model's state."""

    def calling(symbolic: Any) -> Any:
        def call(op: Any, *args: Any, **kwargs: Any) -> Any:
            return recorder.call(op, args, kwargs) if traced_in((args, kwargs)) else symbolic(op, *args, **kwargs)

        return call

    names = [f"__{name}__" for name in (*_OPERATORS, *_COMPARISONS)]
    try:
        with ExitStack() as stack:
            for base in (keras.Operation, keras.layers.Layer):
                stack.enter_context(_replaced(base, "symbolic_call", calling(base.symbolic_call)))
            stack.enter_context(_replaced(sys.modules[keras.layers.Layer.__module__], "Node", lambda **_: None))
            backend = sys.modules[keras.activations.mish.__module__].backend
            stack.enter_context(_replaced(backend, "convert_to_tensor", _passing(backend.convert_to_tensor)))
            for kind in {type(v) for v in model.variables}:
                stack.enter_context(_replaced(kind, "value", _noting(kind.value, recorder.read)))
            for kind, name in itertools.product({type(v) for v in model.variables}, names):
                stack.enter_context(_replaced(kind, name, _leaving(getattr(kind, name))))
            if keras.backend.backend() == "tensorflow":
                stack.enter_context(_uncompiled(sys.modules["tensorflow"]))
            yield
    finally:
        recorder.restore_state()


def _passing(convert: Any) -> Any:
    """Return a conversion that leaves tensors of the data as they are."""
    return lambda x, *args, **kwargs: x if isinstance(x, Traced) else convert(x, *args, **kwargs)


def _noting(value: Any, read: dict[int, Any]) -> Any:
    """Return the property of a weight's value, which notes that it was read."""

    def get(weight: Any) -> Any:
        read[id(weight)] = weight
        return value.fget(weight)

    return property(get)


def _leaving(operator: Any) -> Any:
    """Return an operator of a variable that leaves tensors of the data to their own class."""
    return lambda self, other: NotImplemented if isinstance(other, Traced) else operator(self, other)


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


@contextmanager
def _uncompiled(tf: Any) -> Iterator[None]:
    """Run functions that TensorFlow compiles as they are written."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)

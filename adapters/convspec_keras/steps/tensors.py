"""Tensors of a run that Keras takes for symbolic ones, arrays with their sources, and calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np

from convspec.contract import Array, layouts
from convspec.contract.tracing import Link, NoWord
from convspec.spec import ConvSpec, steps
from convspec.spec.steps import Step
from convspec_keras import read

_NONE: Mapping[str, Any] = {}


class Traced(keras.KerasTensor):  # type: ignore[misc]
    """A tensor of a run with its value. Operations of Keras that get one are symbolic calls, which are listed.

    Code can branch on its value; a function of the backend does not get it, as its result would have no origin.
    """

    __array_ufunc__ = None  # NumPy leaves operators to this class

    def __init__(self, value: Any) -> None:
        shape = tuple(int(n) for n in value.shape)
        super().__init__(shape, keras.backend.standardize_dtype(value.dtype), record_history=False)
        self.value = value
        self.number: int | None = None

    @property
    def __jax_array__(self) -> Any:
        raise AttributeError  # so that JAX leaves operators to this class

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    __index__ = __int__
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return keras.ops.equal(self, other)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, slots=True)
class Learnt:
    """An array that no input reaches, with the paths of the weights that it was made of."""

    values: Array
    sources: tuple[str, ...] = ()

    def map(self, function: Callable[[Array], Array]) -> Learnt:
        """Return the array in another form."""
        return Learnt(np.ascontiguousarray(function(self.values)), self.sources)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer or an operation.

    Attributes:
        op: the layer or operation, with its settings as attributes.
        args: positional arguments.
        kwargs: arguments by name.
        results: the tensors that it returned.
        sources: returns the paths of the weights that an array was made of, which no input reaches.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: Sequence[Traced]
    sources: Callable[[Any], tuple[str, ...]]

    @property
    def x(self) -> Traced:
        """The first tensor.

        Raises:
            NoWord: where it does not depend on the data.
        """
        x = (*self.args, *self.kwargs.values())[0]
        if not isinstance(x, Traced):
            raise NoWord
        return x

    @property
    def y(self) -> Traced:
        """The first result."""
        return self.results[0]

    @property
    def layout(self) -> str:
        """The layout of the layer or operation."""
        return read._LAYOUTS[getattr(self.op, "data_format", None) or keras.config.image_data_format()]

    @property
    def spatial(self) -> tuple[int, ...]:
        """The sizes of the spatial axes."""
        return tuple(self.x.shape[2:] if self.layout == layouts.CHANNELS_FIRST else self.x.shape[1:-1])

    def operands(self, *names: str) -> list[Any]:
        """Return the arguments in this order; None for one that is not given."""
        given = dict(zip(names, self.args, strict=False)) | dict(self.kwargs)
        return [given.get(name) for name in names]

    def learn(self, weight: Any) -> Learnt:
        """Return an array that no input reaches with its sources."""
        return Learnt(read._array(weight), self.sources(weight))

    def weights(self, **weights: Any) -> dict[str, Learnt]:
        """Return learnt arrays by name, without those that are None."""
        return {name: self.learn(weight) for name, weight in weights.items() if weight is not None}

    def link(
        self, step: Step | ConvSpec, arrays: Mapping[str, Learnt] = _NONE, layout: str = "", note: str = ""
    ) -> Link:
        """Return the one link of this call, which reads the first tensor."""
        return Link(step, (self.x,), self.results, arrays, layout, note)

    def linear(self, weight: Learnt, bias: Learnt | None = None, axis: int = -1, x: Traced | None = None) -> Link:
        """Return the link of a product with a weight ``(out, in)``."""
        step = steps.Linear(weight.values.shape[1], weight.values.shape[0], bias is not None, axis)
        arrays = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return Link(step, (self.x if x is None else x,), self.results, arrays)


Builder: TypeAlias = Callable[[Call], "Link | Iterable[Link]"]


def axes_of(axis: Any) -> tuple[int, ...]:
    """Return one axis, or several, as a tuple."""
    return tuple(axis) if isinstance(axis, list | tuple) else (int(axis),)


def traced_in(value: Any) -> list[Traced]:
    """Return the tensors of the data in nested arguments, each once."""
    return list({id(t): t for t in keras.tree.flatten(value) if isinstance(t, Traced)}.values())


def real(value: Any) -> Any:
    """Return nested arguments with the values of their tensors."""
    return keras.tree.map_structure(lambda t: t.value if isinstance(t, Traced) else t, value)


def traced(value: Any) -> Any:
    """Return nested results with tensors of the data in the places of their values."""
    return keras.tree.map_structure(lambda t: Traced(t) if keras.ops.is_tensor(t) else t, value)

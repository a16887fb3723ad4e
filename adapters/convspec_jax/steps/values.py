"""The tensors of a run with what is known of them, and one operation on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convspec.contract import Array, format_of
from convspec.contract.tracing import Link
from convspec.spec import DTYPES, ConvSpec
from convspec.spec.steps import Other, Step


@dataclass(eq=False, slots=True)
class Value:
    """A tensor of a run.

    Attributes:
        array: its numbers; of a function of samples with the batch axis, if it is data.
        data: whether it depends on the model's inputs; otherwise it is learnt or a constant.
        sources: paths of the parameters that it was made of.
        made: name of the operation that made it; empty for a parameter.
        random: whether it was drawn.
        number: its position in the trace; None if it is not listed.
        origin: the operation that made it.
    """

    array: Any
    data: bool = False
    sources: tuple[str, ...] = ()
    made: str = ""
    random: bool = False
    number: int | None = None
    origin: Operation | None = field(default=None, repr=False)

    @property
    def constant(self) -> float | None:
        """Its number, if it is one number that was not learnt."""
        learnt = self.data or self.sources or self.random
        return None if learnt or self.array.ndim or not np.isreal(self.array) else float(self.array)

    @property
    def host(self) -> Array:
        """Its numbers as an array that nobody changes; bfloat16 as float32."""
        x = self.array
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        return np.asarray(x, format_of(str(x.dtype)).carrier if str(x.dtype) in DTYPES else None)


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """One operation on tensors.

    Attributes:
        name: of JAX's primitive; ``params``: its settings, with the axes of one sample in a function of samples.
        samples: whether it belongs to such a function: data have one more axis then, the first.
        layout: of images where an operation does not show it.
        around: the modules around it.
    """

    name: str
    params: Mapping[str, Any]
    values: Sequence[Value]
    results: Sequence[Value]
    samples: bool = False
    layout: str = ""
    around: tuple[str, ...] = ()

    @property
    def x(self) -> Value:
        return self.values[0]

    @property
    def y(self) -> Value:
        return self.results[0]

    def axes(self, axes: Sequence[int]) -> tuple[int, ...]:
        """Return axes of the samples as axes of the tensor."""
        return tuple(int(axis) + self.samples for axis in axes)

    def link(self, step: Step | ConvSpec, *reads: Value, layout: str = "", note: str = "", **arrays: Value) -> Link:
        """Return the link of a step that writes the results; it reads the operand unless others are given."""
        return Link(step, reads or (self.x,), self.results, arrays, layout, note)

    def without_word(self, name: str, note: str) -> Link:
        """Return the link of an operation that the vocabulary has no word for."""
        learnt = {f"array_{i}": v for i, v in enumerate(self.values) if not v.data and v.constant is None}
        return Link(Other(name), [v for v in self.values if v.data], self.results, learnt, note=note)


class Chain:
    """Steps one after another, from a tensor to the result of an operation."""

    def __init__(self, start: Value) -> None:
        self.links: list[Link] = []
        self.end = start

    def add(self, step: Step | ConvSpec, array: Any, *more: Value, layout: str = "", **arrays: Value) -> None:
        """Add a step with its result, an array."""
        y = Value(array, data=True)
        self.links.append(Link(step, (self.end, *more), (y,), arrays, layout))
        self.end = y

    def move(self, step: Step, function: Callable[[Any, Any], Any], argument: Sequence[int]) -> None:
        """Add ``function(x, argument)``."""
        self.add(step, function(self.end.array, tuple(argument)))

    def to(self, result: Value) -> list[Link]:
        """Return the links, of which the last one writes this result."""
        self.links[-1] = Link(**{n: getattr(self.links[-1], n) for n in Link.__slots__} | {"writes": (result,)})
        return self.links

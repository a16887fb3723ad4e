"""What the names in a network's text stand for, while it is read."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from convspec.contract import ConvSpec
from convspec.contract.network_words import Placed, Tensor, Word
from convspec.spec.steps import Step

Scope: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[int, int]  # line, from 1, and column of a call in the text


@dataclass(eq=False)
class Member:
    """What has a place in a model: a layer, or what holds layers."""

    owner: Member | None = field(default=None, init=False, repr=False)
    name: str = field(default="", init=False)

    @property
    def path(self) -> str:
        above = self.owner.path if self.owner else ""
        return f"{above}.{self.name}" if above else self.name

    def adopt(self, name: str, value: object) -> None:
        """Give a member its place in this one, if it has none yet; those in lists are numbered."""
        if isinstance(value, list | tuple):
            for i, item in enumerate(value):
                self.adopt(f"{name}.{i}", item)
        elif isinstance(value, dict):
            for key, item in value.items():
                self.adopt(f"{name}.{key}", item)
        elif isinstance(value, Member) and value.owner is None and value is not self:
            value.owner, value.name = self, name


@dataclass(eq=False)
class Layer(Member):
    """A layer as its constructor was written.

    Attributes:
        called: whether it was applied to a tensor before: its arrays count once.
    """

    kind: str
    word: Word
    arguments: Mapping[str, Any]
    text: str
    place: Place
    called: bool = False


@dataclass(eq=False)
class Container(Member):
    """A sequence, list or dictionary of members."""

    kind: str
    form: str
    items: dict[str, Any] = field(default_factory=dict)

    def add(self, value: Any, name: str | None = None) -> None:
        key = str(len(self.items)) if name is None else name
        self.items[key] = value
        self.adopt(key, value)


@dataclass(eq=False)
class Module(Member):
    """An object of a class of the text."""

    kind: Class
    attributes: Scope = field(default_factory=dict)
    sequence: Container | None = None  # where the class is a sequence of layers itself


@dataclass(eq=False)
class Graph(Member):
    """A model made of inputs and results, as of Keras' functional style."""

    inputs: Sequence[Tensor]
    results: Any
    nodes: Sequence[Node]


@dataclass(eq=False)
class Class:
    """A class of the text: its methods, fields and bases."""

    name: str
    node: ast.ClassDef
    bases: Sequence[Any]
    scope: Scope

    def find(self, name: str) -> ast.FunctionDef | None:
        """Return a method, of the class or of a base that is in the text."""
        for statement in self.node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                return statement
        return next((m for base in self.bases if isinstance(base, Class) and (m := base.find(name))), None)


@dataclass(eq=False)
class Function:
    """A function or lambda of the text; ``first`` is the object of a method."""

    node: ast.FunctionDef | ast.Lambda
    scope: Scope
    first: Any = None


@dataclass(eq=False)
class Partial:
    """A callable with arguments given already."""

    function: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Parent:
    """``super()`` in a method of an object."""

    module: Module


@dataclass(eq=False)
class Node:
    """One call of a layer or function on tensors.

    Attributes:
        place: of the constructor of a layer, or of the call of a function; ``called_at`` is that of the layer's call.
        arguments: by name.
        path: of the layer; of a function the path of the object that calls it, its name and number: ``block.relu_0``.
        kind: the class or function as written, without its module.
        reads: the tensors that it reads; ``writes``: those that it gives.
        steps: what it does, in order; ``problem``: why that is not known.
        again: whether it is a layer that was called before.
        repeat: makes the same call on other tensors.
    """

    path: str
    kind: str
    text: str
    place: Place
    reads: Sequence[Tensor]
    writes: Sequence[Tensor] = ()
    steps: Sequence[Placed] = ()
    problem: str = ""
    again: bool = False
    repeat: Callable[[Sequence[Tensor]], Any] | None = None
    is_layer: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    called_at: Place = (0, 0)
    word: Word | None = None

    @property
    def specs(self) -> tuple[ConvSpec | Step, ...]:
        return tuple(placed.step for placed in self.steps)

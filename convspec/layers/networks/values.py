"""What the names in a network's text stand for, while it is read."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from convspec.contract import ConvSpec
from convspec.contract.network_words import Placed, Symbol, Tensor, Word
from convspec.spec.steps import Step

Scope: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[int, int]  # line, from 1, and column of a call in the text


@dataclass(eq=False)
class Member:
    """What has a place in a model: a layer, or what holds layers.

    Attributes:
        name: among those of its owner; empty: it has its owner's path.
        joint: what follows the path of this one for one that it holds, by its name.
    """

    owner: Member | None = field(default=None, init=False, repr=False)
    name: str = field(default="", init=False)
    joint: str = field(default=".{}", kw_only=True)

    @property
    def path(self) -> str:
        above = self.owner.path if self.owner else ""
        if not self.owner or not self.name:
            return above or self.name
        return (above + self.owner.joint.format(self.name)).lstrip("./")

    def adopt(self, name: str, value: object, item_path: str = ".{}") -> None:
        """Give a member its place in this one, if it has none yet; those in lists too; a name stays."""
        if isinstance(value, list | tuple | dict):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                self.adopt(name + item_path.format(key), item, item_path)
        elif isinstance(value, Member) and value.owner is None and value is not self:
            value.owner, value.name = self, value.name or name


@dataclass(eq=False)
class Layer(Member):
    """A layer as its constructor was written.

    Attributes:
        arrays: those that the text reads.
        input, output: of its last call.
    """

    kind: str
    word: Word
    arguments: Mapping[str, Any]
    text: str
    place: Place
    arrays: dict[str, Tensor] = field(default_factory=dict)
    input: Tensor | None = None
    output: Any = None


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
    inner: Container | Layer | Graph | None = None  # where its class is one of the framework's: a sequence, a graph


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

    @property
    def family(self) -> tuple[str, ...]:
        """The names of the class and of all its bases, without their modules."""
        above = [b.family if isinstance(b, Class) else (getattr(b, "text", "").rpartition(".")[2],) for b in self.bases]
        return (self.name, *(name for names in above for name in names))

    def find(self, name: str) -> ast.FunctionDef | None:
        """Return a method, of the class or of a base that is in the text."""
        for statement in reversed(self.node.body):  # the last one of a name counts
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                return statement
        return next((m for base in self.bases if isinstance(base, Class) and (m := base.find(name))), None)

    def field(self, name: str) -> ast.expr | None:
        """Return the value of a name in the class, or in a base that is in the text."""
        for statement in self.node.body:
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            if isinstance(statement, ast.Assign | ast.AnnAssign) and name in [getattr(t, "id", "") for t in targets]:
                return statement.value
        return next((f for base in self.bases if isinstance(base, Class) and (f := base.field(name))), None)

    def holder(self, method: ast.AST) -> Class:
        """Return the class, this one or a base, in whose text a method is."""
        above = [base.holder(method) for base in self.bases if isinstance(base, Class)]
        return self if method in self.node.body else next((c for c in above if method in c.node.body), self)


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
class Mapped:
    """A callable that is mapped over the first axis of its tensors."""

    function: Any


@dataclass(eq=False)
class Parent:
    """``super()`` in a method of an object, where ``kind`` is the class that has the method."""

    module: Module
    kind: Class


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
        layer: that is called; None: a function, or a parameter.
        repeat: makes the same call on other tensors, under a path.
    """

    path: str
    kind: str
    text: str
    place: Place
    reads: Sequence[Tensor]
    writes: Sequence[Tensor] = ()
    steps: Sequence[Placed] = ()
    problem: str = ""
    layer: Layer | None = None
    repeat: Callable[[Sequence[Tensor], str], Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    called_at: Place = (0, 0)
    word: Word | None = None

    @property
    def specs(self) -> tuple[ConvSpec | Step, ...]:
        return tuple(placed.step for placed in self.steps)

    def batched(self) -> Node:
        """Return the call of single samples for a batch of one, which is what its steps are for."""
        reads, writes = (
            [replace(t, shape=batch_of_one(t.shape)) for t in given] for given in (self.reads, self.writes)
        )
        return replace(self, reads=reads, writes=writes, steps=[replace(p, samples=False) for p in self.steps])


def place_of(node: ast.AST) -> Place:
    """Return where a call is in the text."""
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def batch_of_one(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the shape with a batch axis of size 1."""
    return None if shape is None else (1, *shape)


def claim(value: Any, seen: set[int] | None = None) -> None:
    """Give all members of a model their places in it, whatever they were part of before."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    parts = value.items if isinstance(value, Container) else value.attributes if isinstance(value, Module) else {}
    for name, part in parts.items():
        if isinstance(part, Member) and part.owner not in (None, value) and id(part) not in seen:
            part.owner, part.name = value, name
    more = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for part in (*parts.values(), *more, value.inner if isinstance(value, Module) else None):
        claim(part, seen)


def copied(value: Any) -> Any:
    """Return a copy of a value, with layers and objects of its own that have no place yet."""
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, Layer):
        return replace(value, arrays={}, input=None, output=None)
    if isinstance(value, Container):
        made = Container(value.kind, value.form, joint=value.joint)
        for key, item in value.items.items():
            made.add(copied(item), key)
        return made
    if isinstance(value, Module):
        module = Module(value.kind, inner=copied(value.inner), joint=value.joint)
        if module.inner:
            module.inner.owner = module
        for name, item in value.attributes.items():
            module.attributes[name] = copied(item)
            module.adopt(name, module.attributes[name])
        return module
    return value


def tensors_in(values: Any) -> list[Tensor]:
    """Return all tensors in nested lists."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    return [t for v in values for t in tensors_in(v)] if isinstance(values, list | tuple) else []


def symbols_in(values: Any) -> list[Symbol]:
    """Return all names in nested lists of which nothing is known."""
    if isinstance(values, Symbol):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    return [s for v in values for s in symbols_in(v)] if isinstance(values, list | tuple) else []


def replaced(value: Any, new: dict[int, Tensor]) -> Any:
    """Return a value with other tensors in the place of some, by their numbers."""
    if isinstance(value, Tensor):
        return new.get(value.number, value)
    if isinstance(value, list | tuple):
        return type(value)(replaced(v, new) for v in value)
    return {k: replaced(v, new) for k, v in value.items()} if isinstance(value, dict) else value

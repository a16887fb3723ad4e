"""Models that a text makes of inputs and results, and names that layers have from when they are made, as in Keras."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from convspec.contract.network_words import Symbol, Tensor, Vocabulary
from convspec.layers.networks.expressions import MethodOf
from convspec.layers.networks.interpreter import MemberT
from convspec.layers.networks.reading import NO_EDITS, Edits, Reading
from convspec.layers.networks.values import (
    Class,
    Container,
    Function,
    Graph,
    Layer,
    Member,
    Module,
    Parent,
    Partial,
    replaced,
    tensors_in,
)

_OPEN = 224  # for a size that an input leaves open


class ModelReading(Reading):
    """A reading with inputs, models made of them, and names of layers."""

    def __init__(
        self, text: str, vocabulary: Vocabulary, input_shapes: Sequence[tuple[int, ...] | None], edits: Edits = NO_EDITS
    ) -> None:
        super().__init__(text, vocabulary, input_shapes, edits)
        self._inputs = 0

    def call_library(self, name: str, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        special, kind = self.find(self.words.special, name), name.rpartition(".")[2]
        if special == "input":
            return self._input(args, kwargs)
        if special == "graph":
            return self.created(self._graph(args, kwargs), kind, kwargs)
        return super().call_library(name, args, kwargs, node)

    def call_member(self, member: Member, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        given = tensors_in([*args, *kwargs.values()])
        if isinstance(member, Graph):
            return self._replay(member, given, node)
        if isinstance(member, Module):
            self._prepare(member, given, node)
        return super().call_member(member, args, kwargs, node)

    # -- names --------------------------------------------------------------------------------------------------

    def created(self, member: MemberT, kind: str, arguments: Mapping[str, Any]) -> MemberT:
        made = super().created(member, kind, arguments)
        if not isinstance(made, Module):  # which gets its name when its class calls the framework's
            self._give_name(made, kind, arguments.get("name"))
        return made

    def _give_name(self, member: Member, kind: str, name: Any) -> None:
        """Give a new member its name, in a framework that names them when they are made."""
        if self.words.default_name is not None:
            member.name = name if isinstance(name, str) else self._default_name(kind)

    def _default_name(self, kind: str) -> str:
        assert self.words.default_name is not None
        name = self.words.default_name(kind)
        self.names[name] += 1
        return name if self.names[name] == 1 else f"{name}_{self.names[name] - 1}"

    def function_path(self, kind: str) -> str:
        if self.words.default_name is not None and not self.modules:
            return self._default_name(kind)
        return super().function_path(kind)

    def instantiate(self, kind: Class, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Module:
        module = super().instantiate(kind, args, kwargs, node)
        if not module.name and self._is_layer(kind):
            self._give_name(module, kind.name, kwargs.get("name"))
        return module

    def inner_of(
        self, kind: Class, args: list[Any], kwargs: dict[str, Any], node: ast.AST
    ) -> Container | Layer | Graph | None:
        names = [self.full_name(base.text) for base in kind.bases if isinstance(base, Symbol)]
        if (args or "inputs" in kwargs) and any(self.find(self.words.special, name) == "graph" for name in names):
            return self._graph(args, kwargs)
        return super().inner_of(kind, args, kwargs, node)

    def _is_layer(self, kind: Class) -> bool:
        """Return whether a class of the text inherits from the framework's layers or models."""
        names = [base.text.rpartition(".")[2] for base in kind.bases if isinstance(base, Symbol)]
        return any(n in self.words.bases for n in names) or any(
            self._is_layer(base) for base in kind.bases if isinstance(base, Class)
        )

    def _call_method(self, bound: MethodOf, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        value, name = bound.value, bound.name
        if isinstance(value, Parent) and name == "__init__" and not value.module.name and self._is_layer(value.kind):
            self._give_name(value.module, value.module.kind.name, kwargs.get("name"))
        if isinstance(value, Module) and self.words.special.get(f"self.{name}") == "parameter":
            shape = kwargs.get("shape", next((a for a in args if not isinstance(a, str)), ()))
            sizes = shape if isinstance(shape, list | tuple) else (shape,)
            made = self.tensor(tuple(sizes) if all(isinstance(n, int) for n in sizes) else None)
            self.learnt[made.number] = value, str(kwargs.get("name", name))
            return made
        if isinstance(value, Container | Graph) and name == "get_layer":
            wanted = kwargs.get("name", kwargs.get("index", args[0] if args else None))
            layers = self._layers_of(value)
            found = [m for i, m in enumerate(layers) if wanted in (i, m.name)]
            if not found:
                raise self.fail(node, f"the model has no layer {wanted!r}")
            return found[0]
        return super()._call_method(bound, args, kwargs, node)

    def _layers_of(self, model: Container | Graph) -> list[Member]:
        values = list(model.items.values()) if isinstance(model, Container) else [n.layer for n in model.nodes]
        return list(dict.fromkeys(v for v in values if isinstance(v, Member)))

    def member_attribute(self, member: Member, name: str, node: ast.AST) -> Any:
        if isinstance(member, Layer):
            if name in ("input", "output") and member.output is None and member.arguments.get("input_shape"):
                member.input = self.tensor((1, *member.arguments["input_shape"]))
                self._call_layer(member, [member.input], node)
            known = {**member.arguments, "name": member.name, "input": member.input, "output": member.output}
            return known.get(name) if self.words.default_name else None
        if isinstance(member, Module):
            return Partial(MethodOf(member, name)) if f"self.{name}" in self.words.special else None
        if name == "layers" and isinstance(member, Container | Graph) and self.words.default_name:
            return self._layers_of(member)
        if isinstance(member, Graph):
            single = member.inputs[0] if len(member.inputs) == 1 else list(member.inputs)
            return {"input": single, "inputs": list(member.inputs)}.get(
                name, member.results if name in ("output", "outputs") else None
            )
        return None

    # -- inputs, and models made of them ------------------------------------------------------------------------

    def _input(self, args: list[Any], kwargs: dict[str, Any]) -> Tensor:
        """Return an input of the declared shape; sizes that it leaves open are those of the shape given for it."""
        batched = kwargs.get("batch_shape", kwargs.get("batch_input_shape"))
        shape = next(
            (kwargs[k] for k in ("shape", "input_shape") if kwargs.get(k) is not None), args[0] if args else None
        )
        batch = [kwargs.get("batch_size")]
        shape = shape if batched is None else batched
        listed = list(shape) if isinstance(shape, tuple | list) else [shape or Symbol("shape")]
        sizes: list[Any] = [*(batch if batched is None else []), *listed]
        given = self.shapes[self._inputs] if self._inputs < len(self.shapes) else None
        self._inputs += 1
        if given is not None and (shape is None or isinstance(shape, Symbol)):
            sizes = list(given)
        elif given is not None and len(given) == len(sizes):
            sizes = [a if isinstance(a, int) and i else b for i, (a, b) in enumerate(zip(sizes, given, strict=True))]
        if not all(n is None or isinstance(n, int) for n in sizes):
            return self.tensor(None)
        if None in sizes[1:]:
            self.note(f"sizes that an input leaves open are taken as {_OPEN}")
        first = sizes[0] or next((s[0] for s in self.shapes if s), 1)
        return self.tensor((first, *(_OPEN if n is None else n for n in sizes[1:])))

    def _graph(self, args: list[Any], kwargs: dict[str, Any]) -> Graph:
        inputs, results = [*args[:2], None, None][:2]
        inputs, results = kwargs.get("inputs", inputs), kwargs.get("outputs", results)
        needed = {t.number for t in tensors_in([results])}
        given = {t.number for t in tensors_in([inputs])}
        chosen = []
        for one in reversed(self.nodes):
            if needed & {t.number for t in one.writes}:
                chosen.append(one)
                needed |= {t.number for t in one.reads} - given
        return Graph(tensors_in([inputs]), results, chosen[::-1])

    def _prepare(self, module: Module, given: list[Tensor], node: ast.AST) -> None:
        """Run the method that makes a module's arrays, once, with the shapes of its inputs."""
        method = module.kind.find(self.words.prepare) if self.words.prepare else None
        if method is not None and not module.attributes.get("built"):
            module.attributes["built"] = True
            shapes = [Symbol("input_shape") if t.shape is None else t.shape for t in given]
            shape = shapes[0] if len(shapes) == 1 else shapes
            self.call(Function(method, module.kind.scope, module), [shape] * (len(method.args.args) > 1), {}, node)

    def _replay(self, graph: Graph, given: list[Tensor], node: ast.AST) -> Any:
        if len(given) != len(graph.inputs):
            raise self.fail(node, f"the model has {len(graph.inputs)} inputs, and gets {len(given)}")
        new = dict(zip((t.number for t in graph.inputs), given, strict=True))
        for one in graph.nodes:
            if one.repeat is None:  # a learnt array
                continue
            made = one.repeat([new.get(t.number, t) for t in one.reads], self.joined(graph.path, one.path))
            new.update(zip((t.number for t in one.writes), tensors_in([made]), strict=True))
        return replaced(graph.results, new)

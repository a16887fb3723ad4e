"""Read the text of a network with a framework's vocabulary: its layers, and the calls of them in order."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias

from convspec.contract.network_words import Arguments, NotKnown, Placed, Symbol, Tensor, Value, Vocabulary, Word
from convspec.errors import CallError, ConvspecError, ShapeError, SpecError, printable
from convspec.layers.networks.expressions import UnknownWord, has
from convspec.layers.networks.interpreter import MemberT
from convspec.layers.networks.rows import array_shape, possible_outputs
from convspec.layers.networks.tensor_operations import MethodOfTensor, TensorOperations
from convspec.layers.networks.values import (
    Class,
    Container,
    Function,
    Graph,
    Layer,
    Mapped,
    Member,
    Module,
    Node,
    Place,
    place_of,
    replaced,
    symbols_in,
    tensors_in,
)  # fmt: skip
from convspec.spec import ConvSpec, steps

Edits: TypeAlias = Mapping[Place, Mapping[str, Any]]
NO_EDITS: Edits = {}
FLATTEN = "a flatten before it"


class LayerError(ShapeError):
    """A tensor that does not fit a layer of a network.

    Attributes:
        node: the call; ``nodes`` are those before it.
    """

    def __init__(self, message: str, node: Node, nodes: Sequence[Node]) -> None:
        self.node, self.nodes = node, tuple(nodes)
        super().__init__(message)

    def __reduce__(self) -> tuple[type[ShapeError], tuple[str]]:
        return ShapeError, (str(self),)


class Reading(TensorOperations):
    """One reading of a text: what its names are, and the calls on tensors so far.

    Args:
        input_shapes: of the inputs, in the framework's order; those left out are not known.
        edits: other arguments of some calls, by their places; ``FLATTEN`` among them flattens before a layer.
    """

    def __init__(
        self, text: str, vocabulary: Vocabulary, input_shapes: Sequence[tuple[int, ...] | None], edits: Edits = NO_EDITS
    ) -> None:
        super().__init__(text)
        self.edits = edits
        self.words = vocabulary
        self.item_path, self.left_out = vocabulary.item_path, vocabulary.left_out
        self._named = "names" in vocabulary.special.values()
        self._mapped = 0  # calls of jax.vmap around this one
        self.shapes = list(input_shapes)
        self.nodes: list[Node] = []
        self.made: list[Any] = []  # members made by statements, in order
        self.inputs: list[Tensor] = []  # of the model
        self._tensors = 0
        self.names: Counter[str] = Counter()
        self.constants: set[int] = set()  # tensors that depend on no input
        self.learnt: dict[int, tuple[Module | None, str]] = {}  # numbers of parameters, with their places

    # -- tensors ------------------------------------------------------------------------------------------------

    def tensor(self, shape: tuple[int, ...] | None) -> Tensor:
        self._tensors += 1
        return Tensor(self._tensors - 1, shape)

    def set_attribute(self, module: Module, name: str, value: Any) -> None:
        super().set_attribute(module, name, value)
        if isinstance(value, Tensor) and (value.number in self.learnt or self.words.learnt_arrays):
            self.learnt[value.number] = module, name

    def next_input(self, declared: tuple[int, ...] | None = None) -> Tensor:
        """Return a new input, with the next of the shapes that are given, else the one declared."""
        given = self.shapes[len(self.inputs)] if len(self.inputs) < len(self.shapes) else None
        self.inputs.append(self.tensor(declared if given is None else given))
        return self.inputs[-1]

    def expression_statement(self, value: Any, node: ast.Expr) -> None:
        self.made += [v for v in (value if isinstance(value, tuple | list) else [value]) if isinstance(v, Member)]

    # -- names --------------------------------------------------------------------------------------------------

    def full_name(self, name: str) -> str:
        full = super().full_name(name)
        head, dot, rest = full.partition(".")
        module = next((m for m, short in self.words.modules.items() if head in short), None)
        return f"{module}{dot}{rest}" if module and head not in self.aliases else full

    def own_name(self, full: str) -> str | None:
        """Return the name below the framework's modules; None where it is of another library."""
        if "." not in full:
            return full
        root = max((m for m in self.words.modules if full.startswith(f"{m}.")), key=len, default=None)
        return None if root is None else full.removeprefix(f"{root}.")

    def is_known(self, symbol: Symbol) -> bool:
        full, head = self.full_name(symbol.text), symbol.text.partition(".")[0]
        known = {**self.words.layers, **self.words.functions, **self.words.special}
        return head in self.aliases or self.find(known, full) is not None

    def layer_attribute(self, layer: Layer, name: str) -> Any:
        """Return an argument, of a convolution a size for each axis, or the shape of its weight or bias."""
        if name in ("weight", "bias", "gamma", "beta"):
            return self._array(layer, name)
        value = layer.arguments.get(name)
        if name in ("kernel_size", "stride", "padding", "dilation", "output_padding") and isinstance(value, int):
            try:
                meaning = layer.word.means(Arguments(layer.arguments))
            except (NotKnown, ConvspecError):
                return value
            value = (value,) * meaning.ndim if isinstance(meaning, ConvSpec) else value
        return value

    def _array(self, layer: Layer, name: str) -> Tensor | None:
        """Return the weight or bias of a layer; that of an object of a class of the text is learnt there."""
        if layer.arguments.get(name) is False:
            return None
        if name not in layer.arrays:
            try:
                shape = array_shape(layer.word.means(Arguments(layer.arguments)), name)
            except (NotKnown, ConvspecError):
                shape = None
            layer.arrays[name] = self.tensor(shape)
            if isinstance(layer.owner, Module) and layer.owner.inner is layer:
                self.learnt[layer.arrays[name].number] = layer.owner, name
        return layer.arrays[name]

    def with_part(self, tensor: Tensor, value: Any, node: ast.AST) -> Tensor:
        step = Placed(steps.Other("set a part"), shapes=[tensor.shape])
        word = Word("a, b", Value(tensor) if tensor.number in self.constants else step)
        return self.apply(word, "setitem", [tensor, value], {}, node)  # type: ignore[no-any-return]

    def find(self, table: Any, full: str) -> Any:
        """Return the entry of a table for a full name: ``nn.max_pool`` before ``max_pool``; None without one."""
        own = self.own_name(full)
        if own is None:
            return None
        parts = own.split(".")
        named = [".".join(parts[-2:]), parts[-1]]
        short = {s for m, shorts in self.words.modules.items() if full == f"{m}.{own}" for s in shorts}
        return next((table[n] for n in (*(f"{s}.{parts[-1]}" for s in short), *named) if n in table), None)

    def call_library(self, name: str, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        special = self.find(self.words.special, name)
        kind = name.partition("(")[0].rpartition(".")[2]
        if special in ("sequence", "list", "dict"):
            return self.created(self._container(kind, special, args, kwargs), kind, kwargs)
        if special == "parameter":
            made = self.tensor(args[0].shape if args and isinstance(args[0], Tensor) else None)
            self.learnt[made.number] = None, kind
            return made
        if special == "call" or (special and special.startswith("lambda")):
            made = self.evaluate(ast.parse(special, mode="eval").body, {}) if special != "call" else args.pop(0)
            return self.call(made, args, {} if special == "call" else kwargs, node)
        if special in ("wrapper", "map"):
            return Mapped(args[0]) if special == "map" and self.modules else args[0]
        if (word := self.find(self.words.functions, name)) and (
            has([*args, *kwargs.values()], Tensor) or not self.find(self.words.layers, name)
        ):
            return self.apply(word, kind, args, kwargs, node)
        if word := self.find(self.words.layers, name):
            bound = word.bind(self.source(node), args, kwargs) | dict(self.edits.get(place_of(node), {}))
            return self.created(Layer(kind, word, bound, self.source(node), place_of(node)), kind, bound)
        if has([*args, *kwargs.values()], Tensor):
            return self.unknown(kind, self.source(node), tensors_in([*args, *kwargs.values()]), node,
                                 f"{self.words.title}'s {printable(name, 60)} is not known")  # fmt: skip
        raise UnknownWord(name)

    def _container(self, kind: str, form: str, args: list[Any], kwargs: dict[str, Any]) -> Container:
        made = Container(kind, form, joint=self.words.sequence_path if form == "sequence" else self.item_path)
        values = args[0] if len(args) == 1 and isinstance(args[0], list | tuple | dict) else args
        values = values or next((v for v in kwargs.values() if isinstance(v, list | tuple | dict)), ())
        if isinstance(values, dict):
            for key, value in values.items():
                made.add(value, str(key))
        else:
            for value in values:
                pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
                made.add(*reversed(value)) if pair else made.add(value)
        return made

    def forget_calls(self) -> None:
        """Forget what the text applied its model to."""
        self.nodes = []
        if self.words.default_name is None:  # else layers have their names already
            self.names.clear()

    def created(self, member: MemberT, kind: str, arguments: Mapping[str, Any]) -> MemberT:
        if not isinstance(member, Container):
            member.joint = f"{self.words.separator}{{}}"
        if self._named:
            own = arguments.get("name")
            member.name = own if isinstance(own, str) else ""
            decorators = self.running[-1].decorator_list if self.running else ()
            if any(self.find(self.words.special, self.full_name(self.source(d))) == "names" for d in decorators):
                member.owner = self.modules[-1]
                member.name = member.name or self._numbered(kind, "layer ")
        return member

    def inner_of(
        self, kind: Class, args: list[Any], kwargs: dict[str, Any], node: ast.AST
    ) -> Container | Layer | Graph | None:
        for base in kind.bases:
            if isinstance(base, Class):
                if made := self.inner_of(base, args, kwargs, node):
                    return made
                continue
            full = self.full_name(getattr(base, "text", ""))
            if (form := self.find(self.words.special, full)) in ("sequence", "list", "dict"):
                return self._container(kind.name, form, args, {})
            if word := self.find(self.words.layers, full):
                return Layer(
                    kind.name, word, word.bind(self.source(node), args, kwargs), self.source(node), place_of(node)
                )
        return None

    def note(self, text: str) -> None:
        """Keep a sentence on what is assumed, once."""
        if text not in self.notes:
            self.notes.append(text)

    # -- calls --------------------------------------------------------------------------------------------------

    def call_member(self, member: Member, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        given = tensors_in([*args, *kwargs.values()])
        match member:
            case Layer():
                return self._call_layer(member, given, node, kwargs)
            case Module(inner=Container() | Layer() | Graph() as inside) if not self._forward(member):
                return self.call_member(inside, args, kwargs, node)
            case Module():
                method = self._forward(member)
                if method is None:
                    return self._in_order(member, args, node)
                if (setup := member.kind.find("setup")) and not member.attributes.get("setup is done"):
                    member.attributes["setup is done"] = True
                    self.call(Function(setup, member.kind.scope, member), [], {}, node)
                for name, held in member.attributes.items():  # lists that grew
                    member.adopt(name, held, self.item_path)
                for key in [k for k in self.names if k.startswith(f"layer {member.path}/")]:
                    del self.names[key]
                return self.call(Function(method, member.kind.scope, member), args, kwargs, node)
            case Container(form="sequence"):
                value: Any = args[0] if args else None
                for item in [i for i in member.items.values() if not isinstance(i, Tensor)]:
                    value = self.call(item, [value], {}, node)
                    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Symbol):
                        value = value[0]
                state = kwargs.get("state", args[1] if len(args) > 1 else None)
                return value if state is None else (value, state)
        raise self.fail(node, f"a {getattr(member, 'kind', 'list')} of layers cannot be called: call its items")

    def _forward(self, module: Module) -> ast.FunctionDef | None:
        return next((m for name in self.words.forward if (m := module.kind.find(name))), None)

    def _in_order(self, module: Module, args: list[Any], node: ast.AST) -> Any:
        """Apply the members of a module without a method for it in the order in which they were made."""
        members = [v for v in module.attributes.values() if isinstance(v, Member)]
        if not members:
            raise self.fail(node, f"{module.kind.name} has no {' or '.join(self.words.forward)}, and no layers")
        self.note(f"{module.kind.name} has no {self.words.forward[0]} in the text: its layers are taken in their order")
        value = args[0]
        for member in members:
            value = self.call(member, [self.flat_for(member, value)], {}, node)
        return value

    def flat_for(self, member: Member, value: Any) -> Any:
        """Return the tensor as a layer in an assumed order reads it: flattened before a linear one that needs it."""
        while isinstance(member, Container) and member.items:
            member = next(iter(member.items.values()))
        if isinstance(member, Layer) and isinstance(value, Tensor) and value.shape and len(value.shape) > 2:
            with_shape = Arguments(member.arguments, [value])
            try:
                built = member.word.means(with_shape)
            except (NotKnown, ConvspecError):
                return value
            if isinstance(built, steps.Linear) and value.shape[-1] != built.in_features:
                self.notes.append(f"a flatten is assumed before {member.path or member.text}")
                flatten = Word("x", steps.Flatten())
                return self.apply(flatten, "flatten", [value], {}, ast.parse("flatten(x)", mode="eval").body)
        return value

    def _call_layer(
        self, layer: Layer, given: list[Tensor], node: ast.AST, kwargs: Mapping[str, Any] | None = None, path: str = ""
    ) -> Any:
        if layer.arguments.get(FLATTEN) and given:
            flatten = Word("x", steps.Flatten())
            given = [self.apply(flatten, "flatten", [given[0]], {}, ast.parse("flatten(x)", mode="eval").body)]
        if layer.owner is None:
            layer.owner = self.modules[-1] if self.modules else None
            own = layer.arguments.get("name")
            layer.name = layer.name or (own if isinstance(own, str) else self._numbered(layer.kind))
        named = {name: value for name, value in (kwargs or {}).items() if name in layer.arguments}
        arguments = Arguments({**layer.arguments, **named}, given, self._mapped)
        made = Node(
            path or layer.path or layer.kind, layer.kind, layer.text, layer.place, given, layer=layer,
            arguments=layer.arguments, called_at=place_of(node), word=layer.word,
        )  # fmt: skip
        made.repeat = lambda tensors, path: self._call_layer(layer, list(tensors), node, kwargs, path)
        layer.input, layer.output = next(iter(given), None), self._record(made, layer.word, arguments)
        return (layer.output, *layer.word.also) if layer.word.also else layer.output

    def joined(self, *names: str) -> str:
        """Return the path of these names, as the framework writes it."""
        return self.words.separator.join(filter(None, names))

    def function_path(self, kind: str) -> str:
        """Return the path of a function's next call."""
        return self.joined(self._above(), self._numbered(kind))

    def _above(self) -> str:
        return self.modules[-1].path if self.modules else ""

    def _numbered(self, kind: str, role: str = "") -> str:
        key = f"{role}{self._above()}/{kind}"
        self.names[key] += 1
        return f"{kind}_{self.names[key] - 1}"

    def apply(
        self, word: Word, kind: str, args: list[Any], kwargs: dict[str, Any], node: ast.AST, path: str = ""
    ) -> Any:
        """Call a function or method on its arguments; tensors are among them, or it gives a plain value."""
        try:
            bound = word.bind(self.source(node), args, kwargs) | dict(self.edits.get(place_of(node), {}))
        except CallError:
            if tensors_in([*args, *kwargs.values()]):
                raise
            raise UnknownWord(kind) from None
        given = tensors_in(list(bound.values()))
        if not given:
            with suppress(NotKnown, ConvspecError, TypeError, AttributeError, ValueError):
                if isinstance(meaning := word.means(Arguments(bound)), Value):
                    return self._value_of(meaning)
            raise UnknownWord(kind)
        if self.words.default_name is not None and isinstance(kwargs.get("name"), str):
            path = path or self.joined(self._above(), kwargs["name"])
        made = Node(
            path, kind, self.source(node), place_of(node), given, arguments=bound, called_at=place_of(node), word=word
        )

        def repeat(tensors: Sequence[Tensor], path: str) -> Any:
            new = dict(zip((t.number for t in given), tensors, strict=True))
            return self.apply(word, kind, replaced(args, new), replaced(kwargs, new), node, path)

        made.repeat = repeat
        return self._record(made, word, Arguments(bound, given))

    def _record(self, made: Node, word: Word, arguments: Arguments) -> Any:
        """Take down a call, and return its results: a tensor, several, or a plain value."""
        try:
            meaning = word.means(arguments)
            if isinstance(meaning, Value):
                return self._value_of(meaning)
            parts = [meaning] if isinstance(meaning, ConvSpec | steps.Step | Placed) else meaning
            made.steps = [replace(p if isinstance(p, Placed) else Placed(p, word.layout), samples=self.words.samples)
                          for p in parts]  # fmt: skip
        except NotKnown as error:
            return self.without_shape(made, str(error))
        except (SpecError, TypeError, AttributeError, ValueError, IndexError, KeyError) as error:
            symbols = symbols_in(vars(arguments))
            if isinstance(error, ShapeError):
                made.path = made.path or self.function_path(made.kind)
                raise LayerError(str(error), made, self.nodes) from None
            if isinstance(error, CallError):
                raise
            if symbols:
                return self.without_shape(made, f"it depends on {printable(symbols[0].text, 60)}")
            words = str(error) if isinstance(error, SpecError) else f"it is not understood ({printable(error, 100)})"
            raise CallError(made.text, f"line {made.place[0]}: {words}" if "\n" in self.text else words) from None
        made.path = made.path or self.function_path(made.kind)
        return self.results(made)

    def _value_of(self, meaning: Value) -> Any:
        """Return what a function gives without a step; a new array is one that depends on no input."""
        value = meaning.value
        if isinstance(value, Tensor) and value.number < 0:
            value = self.tensor(value.shape)
            self.constants.add(value.number)
        return value

    def without_shape(self, made: Node, problem: str) -> Tensor:
        """Take down a call that is not understood, and return its result, of which nothing is known."""
        made.path = made.path or self.function_path(made.kind)
        made.problem = problem
        self._note(made, [self.tensor(None)])
        return made.writes[0]

    def results(self, made: Node) -> Any:
        """Fill in the outputs of a call, by the shapes that its steps have."""
        shapes: list[tuple[int, ...] | None] = [t.shape for t in made.reads]
        several = False
        for placed in made.steps:
            try:
                together = [[shape] for shape in shapes] if several else [shapes]
                shapes = [shape for group in together for shape in possible_outputs(placed, group)]
            except ShapeError as error:
                raise LayerError(str(error), made, self.nodes) from None
            several = several or isinstance(placed.step, steps.Split) or len(placed.shapes or ()) > 1
        self._note(made, [self.tensor(shape) for shape in shapes])
        return tuple(made.writes) if several else made.writes[0]

    def _note(self, made: Node, results: Sequence[Tensor]) -> None:
        """Take down a call with its results, after the learnt arrays that it is the first to read."""
        for t in made.reads:
            if t.number in self.learnt and not any(t in node.writes for node in self.nodes):
                owner, name = self.learnt[t.number]
                path = self.joined(owner.path if owner else "", name)
                batch = (1,) * self.words.samples
                step = [] if t.shape is None else [Placed(steps.Parameter(batch + t.shape), samples=bool(batch))]
                problem = "" if step else "its shape is not known"
                self.nodes.append(Node(path, "Parameter", "", made.place, (), [t], step, problem))
        made.writes = results
        self.nodes.append(made)

    def unknown(self, kind: str, text: str, reads: list[Tensor], node: ast.AST, problem: str, path: str = "") -> Tensor:
        made = Node(path, kind, text, place_of(node), reads)
        made.repeat = lambda tensors, path: self.unknown(kind, text, list(tensors), node, problem, path)
        return self.without_shape(made, problem)

    def _module_attribute(self, module: Module, name: str, node: ast.AST) -> Any:
        if self._named and name == "param" and name not in module.attributes:
            return MethodOfTensor(module, name)
        return super()._module_attribute(module, name, node)

    def call(self, function: Any, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        if isinstance(function, MethodOfTensor) and isinstance(function.tensor, Module):
            name, *_, shape = [*args, None, None] if len(args) < 3 else args[:3]
            made = self.tensor(tuple(shape) if isinstance(shape, tuple | list) and not symbols_in(shape) else None)
            self.learnt[made.number] = function.tensor, str(name)
            return made
        if isinstance(function, Mapped):
            self._mapped += 1
            try:
                return self.call(function.function, args, kwargs, node)
            finally:
                self._mapped -= 1
        return super().call(function, args, kwargs, node)

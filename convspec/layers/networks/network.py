"""Network: a named graph of steps, read from the text of a network."""

from __future__ import annotations

import ast
import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from convspec.contract import registry
from convspec.contract.network_words import Placed, Symbol, Tensor, Vocabulary
from convspec.errors import CallError, ShapeError, printable
from convspec.layers.networks.expressions import Undecided
from convspec.layers.networks.live import trace_live
from convspec.layers.networks.models import ModelReading
from convspec.layers.networks.printed import apply_printed
from convspec.layers.networks.reading import NO_EDITS, Edits, LayerError, Reading
from convspec.layers.networks.rows import NetworkError, Row, Trace, possible_outputs, total
from convspec.layers.networks.source_text import plain
from convspec.layers.networks.values import (
    Class,
    Container,
    Function,
    Graph,
    Layer,
    Member,
    Module,
    Node,
    Partial,
    Scope,
    claim,
    tensors_in,
)  # fmt: skip
from convspec.layers.networks.vocabularies import as_code, choose
from convspec.layers.networks.writing import NetworkCode, write_network
from convspec.spec.steps import Other, Step

MAX_LENGTH = 100_000  # characters
MAX_CONFIG = 2_000_000  # of a configuration, whose code is much shorter


@dataclass(frozen=True, slots=True)
class Network:
    """A network as its text describes it.

    Attributes:
        text: as it was given.
        adapter: name of the adapter whose framework it is written in.
        vocabulary: the words of that framework.
        name: the class, function or variable that is the network; None: the last.
        model: a live model that was read in the place of a text.
    """

    text: str
    adapter: str
    vocabulary: Vocabulary = field(repr=False)
    name: str | None = None
    model: Any = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, name: str | None = None, framework: str | None = None) -> Network:
        """Read the text of a network in any framework that an adapter has the words of; nothing is evaluated.

        Args:
            text: a constructor such as ``nn.Sequential(…)``, a class, statements, a printed model, the
                configuration of one, or a layer on each line.
            name: the class, function or variable of the text that is meant; None: the last one.
            framework: an adapter's name, where the text could be of several frameworks.

        Raises:
            CallError: where it cannot be read, with the line.
        """
        text = as_code(text) if len(text) <= MAX_CONFIG else text
        if len(text) > MAX_LENGTH:
            raise CallError(text[:40] + "…", f"the text has {len(text):,} characters, more than {MAX_LENGTH:,}")
        adapter, vocabulary = choose(text, framework)
        network = cls(text, adapter, vocabulary, name)
        with contextlib.suppress(Undecided, NetworkError):  # a branch, or a shape in the text: the rows show it
            network.trace()
        return network

    @classmethod
    def read(cls, model: Any, *input_shapes: Sequence[int]) -> Network:
        """Read a live model by one run of it; its rows are all steps of the run.

        Args:
            model: of any framework whose adapter traces steps.
            input_shapes: as of :meth:`shapes`; the model is run again for other shapes.

        Raises:
            RequestError: where no adapter knows the model, or its adapter traces no steps.
            ShapeError: where the model refuses the input; the message is the framework's.
        """
        name, _ = trace_live(model, input_shapes)
        adapter = registry.adapter(name)
        words = adapter.vocabulary() or Vocabulary(name, {}, adapter.native_layout, {})
        return cls("", name, words, model=model)

    @property
    def layout(self) -> str:
        """The layout of its tensors: ``"NCHW"`` or ``"NHWC"``."""
        return self.vocabulary.layout

    def shapes(self, *input_shapes: Sequence[int]) -> tuple[Row, ...]:
        """Return a row for each call of a layer or function, in the order of execution.

        Args:
            input_shapes: one shape for each input, in the framework's own axis order, batch axis included where its
                users have one: Equinox' do not.

        Raises:
            NetworkError: a ``ShapeError``, where a tensor does not fit; it names the layer, the numbers, and what
                would mend it.

        >>> network = Network.parse("nn.Sequential(nn.Conv2d(1, 6, 5), nn.Flatten(), nn.Linear(3456, 10))")
        >>> [row.shape for row in network.shapes((1, 1, 28, 28))]
        [(1, 6, 24, 24), (1, 3456), (1, 10)]
        """
        from convspec.layers.networks.mends import find_mends

        try:
            return self.trace(*input_shapes).rows
        except NetworkError as error:
            mends = find_mends(self, error, input_shapes)
            words = "\n".join([mends.sentence, *(f"  fix: {mend}" for mend in mends.found)])
            raise NetworkError(words, error.row, error.rows, error.nodes) from None

    def table(self, *input_shapes: Sequence[int], width: int = 100) -> str:
        """Return the rows as a table of ``width`` columns, with totals; where a layer does not fit, why, and mends."""
        from convspec.layers.networks.summary import summarize
        from convspec.layers.networks.table import lines

        return "\n".join(line for line, _ in lines(summarize(self, *input_shapes), width))

    def trace(self, *input_shapes: Sequence[int], edits: Edits = NO_EDITS) -> Trace:
        """Return the rows, and the tensors that are inputs and results; raises as :meth:`shapes`.

        Args:
            edits: other arguments of some calls, by line and column of the call: what a mend changes.
        """
        shapes = [tuple(int(n) for n in shape) for shape in input_shapes]
        if self.model is not None:
            return trace_live(self.model, shapes)[1]
        reading = ModelReading(self.text, self.vocabulary, shapes, edits)
        try:
            nodes, results = _follow(reading, self.name)
        except RecursionError:
            raise CallError(printable(self.text.strip(), 60), "the text is nested too deeply") from None
        except LayerError as error:
            *rows, row = self._rows([*error.nodes, error.node])
            calls = [node.batched() if self.vocabulary.samples else node for node in (*error.nodes, error.node)]
            raise NetworkError(f"{row.path}: {error}", row, tuple(rows), calls) from None
        if len(shapes) > len(reading.inputs):
            raise ShapeError(f"the network has {len(reading.inputs)} input(s), and {len(shapes)} shapes are given")
        inputs, outputs = (tuple(t.number for t in tensors) for tensors in (reading.inputs, results))
        return Trace(self._rows(nodes), inputs, outputs, tuple(dict.fromkeys(reading.notes)))

    def source(self, to: str, *input_shapes: Sequence[int], name: str = "Net") -> NetworkCode:
        """Return the network in another framework's code; it is not run.

        Args:
            to: name of the target's adapter.
            input_shapes: as of :meth:`shapes`; the code is for these sizes, and any batch.
            name: of the class, where the code is one.

        Raises:
            UnsupportedError: where the target writes no networks.
            ShapeError: where a tensor does not fit, or a shape is not known.
        """
        shapes = [tuple(int(n) for n in shape) for shape in input_shapes]
        trace = self.trace(*shapes)
        if self.vocabulary.samples:
            trace, shapes = trace.batched(), [(1, *shape) for shape in shapes]
        return write_network(trace, self.layout, to, shapes, name)

    def _rows(self, nodes: Sequence[Node]) -> tuple[Row, ...]:
        """Return the rows of calls; arrays of a layer that was called before, or had its name before, count once."""
        by_name = "names" in self.vocabulary.special.values()
        seen: set[Layer | str | None] = set()
        rows = []
        for node in nodes:
            key = node.path if by_name else node.layer
            rows.append(self._row(node, again=key is not None and key in seen))
            seen.add(key)
        return tuple(rows)

    def _row(self, node: Node, again: bool) -> Row:
        parameters: int | None = sum(map(self._parameters, node.steps))
        parameters = 0 if again else None if node.layer and node.problem and not node.steps else parameters
        macs: list[int | None] = []
        shapes: Sequence[Any] = [t.shape for t in node.reads]
        for placed in node.steps:
            known = all(s is not None for s in shapes) and not isinstance(placed.step, Other)
            macs.append(_macs(placed, shapes) if known and placed.macs is None else placed.macs)
            shapes = _shapes(placed, shapes)
        shape = node.writes[0].shape if node.writes else None
        return Row(
            node.path, node.kind, shape, parameters, None if node.problem else total(macs), node.text, node.place[0],
            node.specs, tuple(p.layout for p in node.steps), tuple(t.shape for t in node.reads),
            tuple(t.number for t in node.reads), tuple(t.number for t in node.writes), node.problem,
            node.layer is not None, again,
        )  # fmt: skip

    def _parameters(self, placed: Placed) -> int:
        step = placed.step
        if placed.parameters is not None:
            return placed.parameters
        if isinstance(step, Step) and self.vocabulary.counts_statistics:
            return sum(_product(shape) for shape in step.arrays.values())
        return step.num_parameters


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for n in sizes:
        result *= n
    return result


def _macs(placed: Placed, shapes: Sequence[tuple[int, ...]]) -> int:
    given = [(1, *shape) for shape in shapes] if placed.samples else shapes
    try:
        if isinstance(placed.step, Step):
            return placed.step.macs(*given, layout=placed.layout or "NCHW")
        return placed.step.macs(given[0], placed.layout or "NCHW")
    except ShapeError:
        return 0


def _shapes(placed: Placed, shapes: Sequence[tuple[int, ...] | None]) -> Sequence[tuple[int, ...] | None]:
    try:
        return possible_outputs(placed, shapes)
    except ShapeError:
        return [None]


def read_network(text: str, error: CallError, name: str | None = None) -> Network:
    """Read a text that is no layer alone as a network; where it is none either, ``error`` says why it is no layer.

    Raises:
        CallError: that error, for one call; what keeps the text from being a network, for a longer one.
    """
    simple = text.count("(") <= 1 and "\n" not in text.strip() and name is None
    try:
        network = Network.parse(text, name)
    except CallError as problem:
        raise error if simple else problem from None
    if simple and not any(row.steps or row.shape for row in network.shapes()):
        raise error
    return network


@functools.lru_cache(maxsize=8)
def parsed(text: str) -> list[ast.stmt]:
    """Return the statements of a text; layers one a line, with commas behind them, are one. Lines are counted as there.

    A search for mends reads one text many times: its tree is kept, and nobody changes it.

    Raises:
        CallError: where it is no Python, with the line.
    """
    body = plain(text)
    if control := next((c for c in body if not c.isprintable() and c not in "\n\r\t\f"), None):
        raise CallError("…", f"it has the control character {control!r}")
    try:
        return ast.parse(body).body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        first = error
    try:
        listed = ast.parse(f"[\n{body}\n]").body
        return [ast.increment_lineno(statement, -1) for statement in listed]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    line = getattr(first, "lineno", None)
    lines = body.split("\n")
    shown = printable(lines[line - 1].strip() if line and line <= len(lines) else body, 60)
    raise CallError(shown, f"not a valid Python text{f' at line {line}' if line else ''}: {first.args[0]}")


def _follow(reading: Reading, name: str | None) -> tuple[Sequence[Node], Sequence[Tensor]]:
    """Run the text and apply its model; return the calls and the results."""
    printed = reading.words.read_printed and reading.words.read_printed(reading.text)
    if printed:
        return reading.nodes, [apply_printed(reading, printed)]
    scope: Scope = {}
    body = parsed(reading.text)
    own = _class_of_self(body)
    left_out = reading.run_script(body if own is None else [own], scope)
    start = ast.parse("network(x)", mode="eval").body
    model = find_model(reading, scope, name)
    if model is None:
        if reading.nodes:
            return reading.nodes, reading.nodes[-1].writes
        nothing = CallError(printable(reading.text.strip(), 60), "it has no layer, no model and no class of one")
        raise left_out or nothing
    if isinstance(model, Function):
        model = _made_by(reading, model, scope, start)
    if isinstance(model, Partial):
        model = reading.call(model, [], {}, start)
    if isinstance(model, Class):
        model = reading.instantiate(model, [], {}, start)
    if reading.words.default_name is None:
        claim(model)
    if isinstance(model, Member) and model.owner is None and not isinstance(model, Layer):
        model.name = ""
    reading.forget_calls()
    graph = model.inner if isinstance(model, Module) else model
    if isinstance(graph, Graph):
        return _graph(reading, graph, start)
    count = 1 if isinstance(model, Layer) else max(1, _inputs_of(reading, model))
    declared = _declared(model)
    listed = isinstance(model, Module) and count == 1 < len(reading.shapes) and "call" in reading.words.forward
    given: list[Any] = [reading.next_input(declared) for _ in range(len(reading.shapes) if listed else count)]
    given = [given] if listed else given
    return reading.nodes, tensors_in(reading.call(model, given, {}, start))


def _graph(reading: Reading, graph: Graph, start: ast.AST) -> tuple[Sequence[Node], Sequence[Tensor]]:
    """Return the calls of a model that is made of inputs and results, for the shapes that are given."""
    reading.inputs = list(graph.inputs)
    declared = [t.shape for t in graph.inputs]
    if len(reading.shapes) > len(declared) or reading.shapes == declared[: len(reading.shapes)]:
        return graph.nodes, tensors_in(graph.results)
    reading.inputs = [reading.tensor(s) for s in [*reading.shapes, *declared[len(reading.shapes) :]]]
    return reading.nodes, tensors_in(reading.call_member(graph, list(reading.inputs), {}, start))


def _made_by(reading: Reading, function: Function, scope: Scope, start: ast.AST) -> Any:
    """Return the model that a function makes, the last one of the text that makes one; what it needs is not known."""
    functions = [v for v in scope.values() if isinstance(v, Function) and v is not function]
    results = []
    for one in (function, *reversed(functions)):
        given = one.node.args
        names = [a.arg for a in given.args]
        needed = [n for n in names[: len(names) - len(given.defaults)] if n not in reading.left_out]
        results.append(reading.call(one, [], {n: Symbol(n) for n in needed}, start))
        if isinstance(results[-1], Member):
            return results[-1]
    return results[0] if isinstance(results[0], Function | Partial | Class) else function


def _declared(model: Any) -> tuple[int, ...] | None:
    """Return the input's shape that the first layer of a sequence declares, with one sample; None without one."""
    while getattr(model, "items", None):
        model = next(iter(model.items.values()))
    if isinstance(model, Tensor):
        return model.shape
    shape = model.arguments.get("input_shape") if isinstance(model, Layer) else None
    sizes = [n for n in shape if isinstance(n, int)] if isinstance(shape, tuple | list) else []
    return (1, *sizes) if shape and len(sizes) == len(shape) else None


def _inputs_of(reading: Reading, model: Any) -> int:
    """Return how many tensors the method of a model takes: parameters without a default, but for its object."""
    method = reading._forward(model) if isinstance(model, Module) else None
    if method is None:
        return 1
    needed = method.args.args[1 : len(method.args.args) - len(method.args.defaults)]
    return sum(a.arg not in reading.left_out for a in needed)


def _class_of_self(body: Sequence[ast.stmt]) -> ast.ClassDef | None:
    """Return a class of statements on ``self`` and a loose ``forward``, as people paste them; None where it is none."""
    loose = [s for s in body if isinstance(s, ast.FunctionDef) and s.args.args and s.args.args[0].arg == "self"]
    fields = [s for s in body if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]).startswith("self.")]
    if not loose and not fields:
        return None
    made = ast.parse("class Network:\n    def __init__(self):\n        pass").body[0]
    assert isinstance(made, ast.ClassDef)
    if not any(s.name == "__init__" for s in loose):
        init = made.body[0]
        assert isinstance(init, ast.FunctionDef)
        init.body = [s for s in body if s not in loose] or init.body
        made.body = [init, *loose]
    else:
        made.body = list(loose)
    return made


def find_model(reading: Reading, scope: Scope, name: str | None = None) -> Any:
    """Return the model that a text describes: that of this name, else the last that it makes, else its last class.

    Raises:
        CallError: where there is none, or a class needs arguments.
    """
    if name is not None:
        if name not in scope:
            raise CallError(reading.text[:60], f"the text has no {name!r}")
        return scope[name]
    values = [*(v for v in scope.values() if isinstance(v, Member)), *reading.made]
    members = [v for v in dict.fromkeys(values) if v.owner is None]
    models = [m for m in members if not isinstance(m, Layer)]
    if models:
        return models[-1]
    if members:
        together = Container("", "sequence")
        names = {id(v): k for k, v in scope.items() if isinstance(v, Member)}
        for member in sorted(members, key=lambda m: getattr(m, "place", (0, 0))):
            together.add(member, names.get(id(member)))
        return together
    classes = [v for v in scope.values() if isinstance(v, Class)]
    for kind in reversed(classes):
        used = {n.id for other in classes if other is not kind for n in ast.walk(other.node) if isinstance(n, ast.Name)}
        if kind.name not in used:
            return kind
    functions = [v for v in scope.values() if isinstance(v, Function)]
    return functions[-1] if functions else None

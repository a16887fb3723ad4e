"""Programs – TorchScript and ``torch.export`` – as operators with their arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeAlias

import torch

Program: TypeAlias = "torch.export.ExportedProgram | torch.jit.ScriptModule"


@dataclass(frozen=True, slots=True)
class Computed:
    """What is known only when the program runs: by which operator it comes about, and that call of it, where seen."""

    by: str
    made: Operation | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of an operator.

    Attributes:
        name: ``"aten::conv2d"``.
        given: its arguments by the names of its schema, defaults filled in.
        names: of the arguments that are parameters or buffers: their names in the program.
        path: of the module that it came from; empty where that is not known.
    """

    name: str
    given: dict[str, Any]
    names: dict[str, str]
    path: str = ""


def operations(program: Program) -> Iterator[Operation]:
    """Every call of an operator, in branches and loops too, in the order of the program's text."""
    if isinstance(program, torch.export.ExportedProgram):
        yield from _exported(program)
    else:
        graph = program.inlined_graph.copy()
        if not strange(program):  # this computes what depends on constants only, the branches taken for them too
            torch._C._jit_pass_constant_propagation(graph)
        yield from _Script(program).operations(graph)


def _operation(name: str, schema: Any, known: dict[str, tuple[Any, str]], path: str = "") -> Operation:
    """Return a call with these arguments, each a value and, of a parameter or buffer, its name."""
    defaults = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    given = defaults | {argument: value for argument, (value, _) in known.items()}
    return Operation(name, given, {argument: stored for argument, (_, stored) in known.items() if stored}, path)


# -- torch.export ------------------------------------------------------------------------------------------------------


def _exported(program: torch.export.ExportedProgram) -> Iterator[Operation]:
    made: dict[str, Operation] = {}
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None:
            continue
        names = [argument.name for argument in schema.arguments]
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        known = {name: _node(program, value, made) for name, value in given.items()}
        made[node.name] = _operation(schema.name, schema, known, _module(node))
        yield made[node.name]


def _node(program: torch.export.ExportedProgram, value: Any, made: dict[str, Operation]) -> tuple[Any, str]:
    """A constant as it is, a parameter or buffer with its name."""
    if isinstance(value, list | tuple):
        found = [_node(program, one, made)[0] for one in value]
        return (Computed("a list") if any(isinstance(one, Computed) for one in found) else found), ""
    if not isinstance(value, torch.fx.Node):
        return value, ""
    signature = program.graph_signature
    for names in (signature.inputs_to_parameters, signature.inputs_to_buffers,
                  signature.inputs_to_lifted_tensor_constants):  # fmt: skip
        if value.name in names:
            name = names[value.name]
            return program.state_dict.get(name, program.constants.get(name)), name
    return Computed(str(value.target) if value.op == "call_function" else "an input", made.get(value.name)), ""


def _module(node: torch.fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].") if stack else ""


# -- TorchScript -------------------------------------------------------------------------------------------------------


def _nodes(block: Any) -> Iterator[Any]:
    """All nodes of a block and of the blocks in it."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


class _Script:
    """A TorchScript graph with the module that its attributes are read from."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self.module = module
        self.made: dict[str, Operation] = {}

    def operations(self, graph: Any) -> Iterator[Operation]:
        for node in _nodes(graph):
            if node.kind().startswith("aten::") and node.schema() != "(no schema)":
                yield self._noted(node, torch._C.parse_schema(node.schema()))

    def _noted(self, node: Any, schema: Any) -> Operation:
        inputs = zip(schema.arguments, node.inputs(), strict=False)
        known = {argument.name: self._value(value) for argument, value in inputs}
        operation = _operation(node.kind(), schema, known)
        self.made.update({value.debugName(): operation for value in node.outputs()})
        return operation

    def _value(self, value: Any) -> tuple[Any, str]:
        node = value.node()
        kind = node.kind()
        if kind == "prim::Constant":
            return value.toIValue(), ""
        if kind in ("prim::ListConstruct", "prim::TupleConstruct"):
            found = [self._value(one)[0] for one in node.inputs()]
            return (Computed("a list") if any(isinstance(one, Computed) for one in found) else found), ""
        if kind == "prim::GetAttr":
            path = _attributes(node)
            return (Computed("an input"), "") if path is None else (reduce(getattr, path, self.module), ".".join(path))
        if kind in ("prim::unchecked_cast", "prim::data", "aten::detach", "aten::contiguous"):
            return self._value(next(iter(node.inputs())))
        return Computed("an input" if kind == "prim::Param" else kind, self.made.get(value.debugName())), ""


def _attributes(node: Any) -> list[str] | None:
    """The names on the way from the program's own module to an attribute; None where it starts elsewhere."""
    names: list[str] = []
    while node.kind() == "prim::GetAttr":
        names.insert(0, node.s("name"))
        node = next(iter(node.inputs())).node()
    return names if node.kind() == "prim::Param" else None


# -- what a program may do ---------------------------------------------------------------------------------------------

_MORE = ("aten::save", "aten::from_file", "prim::CallMethod", "prim::CallFunction", "prim::PythonOp")


def strange(program: torch.jit.ScriptModule) -> list[str]:
    """Return operators that do more than compute: of other libraries, or with access to files or other machines."""
    kinds = {node.kind() for node in _nodes(program.inlined_graph)}
    own = {kind for kind in kinds if kind.startswith(("aten::", "prim::")) and not kind.startswith("prim::rpc")}
    return sorted(kinds - own.difference(_MORE))

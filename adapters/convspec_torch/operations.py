"""Programs – TorchScript and ``torch.export`` – as operators with their arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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
        yield from _Script(program).walk(graph)


def _arguments(schema: Any, values: dict[str, Any]) -> dict[str, Any]:
    defaults = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    return defaults | values


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
        values = {name: value for name, (value, _) in known.items()}
        stored = {n: name for n, (_, name) in known.items() if name}
        made[node.name] = Operation(schema.name, _arguments(schema, values), stored, _module(node))
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


class _Script:
    """A TorchScript graph with the module that its attributes are read from."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self.module = module
        self.made: dict[str, Operation] = {}

    def walk(self, block: Any) -> Iterator[Operation]:
        for node in block.nodes():
            yield from self._operation(node)
            for inner in node.blocks():
                yield from self.walk(inner)

    def _operation(self, node: Any) -> Iterator[Operation]:
        text = node.schema()
        if not node.kind().startswith("aten::") or text == "(no schema)":
            return
        schema = torch._C.parse_schema(text)
        inputs = zip((argument.name for argument in schema.arguments), node.inputs(), strict=False)
        known = {name: self._value(value) for name, value in inputs}
        given = {name: value for name, (value, _) in known.items()}
        names = {n: name for n, (_, name) in known.items() if name}
        operation = Operation(node.kind(), _arguments(schema, given), names)
        self.made.update({value.debugName(): operation for value in node.outputs()})
        yield operation

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
            return (Computed("an input"), "") if path is None else (self._attribute(path), ".".join(path))
        if kind in ("prim::unchecked_cast", "prim::data", "aten::detach", "aten::contiguous"):
            return self._value(next(iter(node.inputs())))
        return Computed("an input" if kind == "prim::Param" else kind, self.made.get(value.debugName())), ""

    def _attribute(self, path: list[str]) -> Any:
        found: Any = self.module
        for name in path:
            found = getattr(found, name)
        return found


def _attributes(node: Any) -> list[str] | None:
    """The names on the way from the program's own module to an attribute; None where it starts elsewhere."""
    names: list[str] = []
    while node.kind() == "prim::GetAttr":
        names.insert(0, node.s("name"))
        node = next(iter(node.inputs())).node()
    return names if node.kind() == "prim::Param" else None


# -- what a program may do ---------------------------------------------------------------------------------------------

_FILES = ("aten::save", "aten::from_file")


def strange(program: torch.jit.ScriptModule) -> list[str]:
    """Return operators that do more than compute: of other libraries, or with access to files or other machines."""
    found: set[str] = set()

    def visit(block: Any) -> None:
        for node in block.nodes():
            kind = node.kind()
            room = kind.partition("::")[0]
            own = room in ("aten", "prim") and kind not in _FILES and not kind.startswith("prim::rpc")
            if not own or kind in ("prim::CallMethod", "prim::CallFunction", "prim::PythonOp"):
                found.add(kind)
            for inner in node.blocks():
                visit(inner)

    visit(program.inlined_graph)
    return sorted(found)

"""Check the texts of a program of ``torch.export``: accepted are those that can only compute."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from convspec.errors import RequestError, UnsupportedError

_NAME = re.compile(r"[A-Za-z0-9_.\-]*")
_STACK = re.compile(r"[^\"'\\\n\r]*")
_ATEN = re.compile(r"torch\.ops\.(aten|prims|higher_order)\.[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_FILES = ("torch.ops.aten.from_file", "torch.ops.aten.save", "torch.ops.higher_order.print")
_NUMBERS = re.compile(
    r"(_operator|math)\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_|"
    r"xor|lshift|rshift|ceil|floor|trunc|sqrt)|torch\.sym_(int|float|ite|max|min|not|sqrt|sum)|torch\._sym_sqrt"
)
_SYMBOL = re.compile(r"[a-z]{1,4}_?\d+")
_FUNCTIONS = {
    "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv",
    "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator",
    "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "Max", "Min", "Eq", "Ne", "Lt",
    "Le", "Gt", "Ge", "And", "Or", "Not", "Abs", "Piecewise", "floor", "ceiling", "Symbol", "Integer", "Rational",
    "Float", "Add", "Mul", "Pow", "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan",
    "StrictGreaterThan",
}  # fmt: skip
_ASSUMPTIONS = ("positive", "negative", "nonnegative", "nonzero", "integer", "real", "precision")
_NUMBER = re.compile(r"-?[0-9.]{1,40}(e[+-]?[0-9]{1,4})?")
_EXPRESSION = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.Call, ast.Load, ast.operator,
    ast.unaryop, ast.cmpop, ast.keyword,
)  # fmt: skip
_TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
_LONGEST = 10_000  # characters of an expression


def vetted(graph: dict[str, Any]) -> dict[str, Any]:
    """The serialised program without guards, and of the metadata only from which module a node came.

    Raises:
        UnsupportedError: where it calls a function that is not an operator of PyTorch.
        RequestError: where ``torch.export`` never writes a text in it.
    """
    try:
        found: dict[str, Any] = _vetted(graph, "")
    except RecursionError:
        raise RequestError("its graph is nested too deeply") from None
    return found


def _vetted(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        if key == "metadata":
            return {name: _matching(text, _STACK) for name, text in value.items() if name == "nn_module_stack"}
        if key == "range_constraints":
            return {_expression(size): _vetted(one, "") for size, one in value.items()}
        return {_matching(name, _NAME): _vetted(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [] if key == "guards_code" else [_vetted(one, key) for one in value]
    if isinstance(value, str):
        return _text(value, key)
    return value


def _text(text: str, key: str) -> str:
    if key in ("as_string", "torch_version"):  # written into code by repr, or not at all
        return text
    if key in ("target", "as_operator") and re.match(r"torch|math|_operator|#|.*::", text):
        return _operator(text)
    if key == "expr_str":
        return _expression(text)
    if key in ("in_spec", "out_spec"):
        return _tree(text)
    return _matching(text, _NAME)


def _matching(text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise RequestError(f"the name {text[:100]!r} in its program is not one that torch.export writes")
    return text


def _operator(text: str) -> str:
    own = _ATEN.fullmatch(text) and not text.startswith(_FILES)
    if not own and not _NUMBERS.fullmatch(text):
        raise UnsupportedError(f"it calls {text[:100]!r}, which is not an operator of PyTorch that only computes")
    return text


def _expression(text: str) -> str:
    """An expression of sizes: PyTorch has it evaluated as Python."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval"))) if len(text) <= _LONGEST else []
    except (SyntaxError, ValueError, MemoryError):
        nodes = []
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    if not nodes or not all(_sober(node, called) for node in nodes):
        raise RequestError(f"the size {text[:100]!r} in its program is no expression of sizes")
    return text


def _sober(node: ast.AST, called: set[int]) -> bool:
    """Whether this is a number, a symbol, or a function of sizes called by its name."""
    match node:
        case ast.Name(id=name):
            symbol = _SYMBOL.fullmatch(name) or name in ("true", "false")
            return name in _FUNCTIONS if id(node) in called else bool(symbol)
        case ast.Constant(value=str(text)):  # of Symbol('s0') and Float('0.5'); elsewhere it would be evaluated in turn
            return bool(_SYMBOL.fullmatch(text) or _NUMBER.fullmatch(text))
        case ast.Constant(value=value):
            return isinstance(value, int | float)
        case ast.Call(func=function):
            return isinstance(function, ast.Name)
        case ast.keyword(arg=name):
            return name in _ASSUMPTIONS
    return isinstance(node, _EXPRESSION)


def _tree(text: str) -> str:
    """The structure of inputs or outputs: other containers than Python's own would be imported by name."""

    def check(node: Any) -> None:
        context = node["context"]
        keys = json.loads(context) if isinstance(context, str) else context
        fine = keys is None or (isinstance(keys, list) and all(isinstance(key, str | int) for key in keys))
        if node["type"] not in _TREES or not fine:
            raise UnsupportedError(f"its inputs or outputs are in a {str(node['type'])[:100]!r}, which is not built")
        for child in node["children_spec"]:
            check(child)

    if text:
        try:
            check(json.loads(text)[1])
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            raise RequestError("the structure of its inputs cannot be read") from None
    return text

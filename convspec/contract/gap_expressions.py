"""Predicates over the features of a case, written as Python expressions and never evaluated as Python.

A feature is a scalar (a number, a word, True, None) or a *vector*, one number per spatial axis. Operators act on
vectors element by element, a scalar standing for all axes; a vector of truths becomes one by ``any(…)`` or
``all(…)``, and ``&``, ``|``, ``~`` combine such vectors; ``gcd(…, …)`` is an operator of arithmetic, in which a truth
counts as 1 or 0. ``name := …`` names a value for the rest of the expression::

    any(effective_kernel < stride)
    layout == 'NCHW' and out_w == out_channels and bias
    any((stride > 1) & (dilation > 1))
    any(flat := spatial == 1) and prod(flat + ~flat * kernel_size) > 8

Comparisons with an absent value (``in_d`` of an image, ``out_w`` where there is no output) are false.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from convspec.errors import GapError

Features = Mapping[str, Any]
_Step = Callable[[Features], Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    run: _Step
    vector: bool


@dataclass(frozen=True, slots=True)
class Predicate:
    """A compiled expression; calling it with the features of a case returns whether it matches."""

    text: str
    names: frozenset[str]
    run: _Step

    def __call__(self, features: Features) -> bool:
        try:
            return bool(self.run(features))
        except (TypeError, ArithmeticError, RecursionError) as error:
            raise GapError(f"{self.text!r} has no value: {error}") from None

    @classmethod
    def parse(cls, text: str, scalars: Collection[str], vectors: Collection[str]) -> Predicate:
        """Return the predicate ``text`` over features of these names.

        Raises:
            GapError: for unknown names, anything that is no plain expression, and a vector where a truth is needed.
        """
        try:
            tree = ast.parse(text, mode="eval").body
            compiled = _Compiler(text, frozenset(scalars), frozenset(vectors))
            result = compiled.visit(tree)
            compiled.scalar(result, tree)
        except SyntaxError as error:
            raise GapError(f"{text!r} is no expression: {error.msg}") from None
        except (RecursionError, MemoryError):  # of Python's parser
            raise GapError(f"{text!r} is nested too deep") from None
        return cls(text, frozenset(compiled.used), result.run)


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_ORDERS = (operator.lt, operator.le, operator.gt, operator.ge)
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
    ast.FloorDiv: lambda a, b: a // b if b else None, ast.Mod: lambda a, b: a % b if b else None,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.Invert: operator.not_}
_REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "any": any, "all": all, "min": min, "max": max, "sum": sum, "prod": math.prod, "len": len
}  # fmt: skip
_PAIRS: dict[str, Callable[[Any, Any], Any]] = {"gcd": math.gcd}


class _Compiler:
    def __init__(self, text: str, scalars: frozenset[str], vectors: frozenset[str]) -> None:
        self.text, self.scalars, self.vectors = text, scalars, vectors
        self.used: set[str] = set()
        self.named: dict[str, _Compiled] = {}

    def wrong(self, node: ast.AST, why: str) -> GapError:
        part = ast.get_source_segment(self.text, node) or type(node).__name__
        where = "" if part == self.text else f" in {self.text!r}"
        return GapError(f"{part!r}{where}: {why}")

    def scalar(self, value: _Compiled, node: ast.AST) -> _Step:
        if value.vector:
            raise self.wrong(node, "has one value per axis where one truth is needed: use any(…) or all(…)")
        return value.run

    def visit(self, node: ast.expr) -> _Compiled:
        method = getattr(self, f"visit_{type(node).__name__.lower()}", None)
        if method is None:
            raise self.wrong(node, f"{type(node).__name__} is not allowed")
        result: _Compiled = method(node)
        return result

    def visit_name(self, node: ast.Name) -> _Compiled:
        name = node.id
        if name in self.named:
            return self.named[name]
        known = self.scalars | self.vectors
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self.wrong(node, f"there is no feature {name!r}{hint}")
        self.used.add(name)
        return _Compiled(operator.itemgetter(name), name in self.vectors)

    def visit_namedexpr(self, node: ast.NamedExpr) -> _Compiled:
        name = node.target.id
        if name in self.scalars | self.vectors | self.named.keys():
            raise self.wrong(node, f"{name!r} is taken")
        value = self.named[name] = self.visit(node.value)
        return value

    def visit_constant(self, node: ast.Constant) -> _Compiled:
        if not isinstance(node.value, int | str | float | bool | None):
            raise self.wrong(node, "only numbers, strings, True, False and None are allowed")
        value = node.value
        return _Compiled(lambda _: value, vector=False)

    def visit_tuple(self, node: ast.Tuple | ast.List | ast.Set) -> _Compiled:
        parts = [self.scalar(self.visit(e), e) for e in node.elts]
        return _Compiled(lambda f: tuple(part(f) for part in parts), vector=True)

    visit_list = visit_set = visit_tuple

    def visit_boolop(self, node: ast.BoolOp) -> _Compiled:
        parts = [self.scalar(self.visit(value), value) for value in node.values]
        reduce = all if isinstance(node.op, ast.And) else any
        return _Compiled(lambda f: reduce(part(f) for part in parts), vector=False)

    def visit_unaryop(self, node: ast.UnaryOp) -> _Compiled:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            run = self.scalar(value, node.operand)
            return _Compiled(lambda f: not run(f), vector=False)
        op = _UNARY.get(type(node.op))
        if op is None:
            raise self.wrong(node, "this operator is not allowed")
        return _Compiled(lambda f: _map(op, value.run(f)), value.vector)

    def visit_binop(self, node: ast.BinOp) -> _Compiled:
        op = _ARITHMETIC.get(type(node.op))
        if op is None:
            raise self.wrong(node, "this operator is not allowed")
        a, b = self.visit(node.left), self.visit(node.right)
        return _Compiled(lambda f: _zip(_of_numbers(op), a.run(f), b.run(f)), a.vector or b.vector)

    def visit_compare(self, node: ast.Compare) -> _Compiled:
        if len(node.ops) > 1:
            raise self.wrong(node, "a chain of comparisons is not allowed: join two with 'and' or '&'")
        a, right, kind = self.visit(node.left), node.comparators[0], node.ops[0]
        b = self.visit(right)
        if isinstance(kind, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set):
                raise self.wrong(right, "the right side of 'in' must be a tuple")
            wanted = isinstance(kind, ast.In)
            return _Compiled(lambda f: _map(lambda v: (v in b.run(f)) is wanted, a.run(f)), a.vector)
        op = _COMPARISONS.get(type(kind))
        if op is None:
            raise self.wrong(node, "this comparison is not allowed")
        return _Compiled(lambda f: _compare(op, a.run(f), b.run(f)), a.vector or b.vector)

    def visit_call(self, node: ast.Call) -> _Compiled:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _PAIRS and not node.keywords and len(node.args) == 2:
            op, (a, b) = _PAIRS[name], map(self.visit, node.args)
            return _Compiled(lambda f: _zip(op, a.run(f), b.run(f)), a.vector or b.vector)
        if name not in _REDUCTIONS or node.keywords or len(node.args) != 1:
            raise self.wrong(node, f"the only calls are {', '.join(_REDUCTIONS)} of one vector, and gcd of two values")
        value, reduce = self.visit(node.args[0]), _REDUCTIONS[name]
        if not value.vector:
            raise self.wrong(node, f"{name}(…) needs a value per axis")
        return _Compiled(lambda f: _reduced(reduce, value.run(f)), vector=False)

    def visit_subscript(self, node: ast.Subscript) -> _Compiled:
        value, index = self.visit(node.value), self.scalar(self.visit(node.slice), node.slice)
        if not value.vector:
            raise self.wrong(node, "only a vector has elements")
        return _Compiled(lambda f: _element(value.run(f), index(f)), vector=False)


def _of_numbers(op: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Refuse words, which Python would repeat and format: to any size."""

    def checked(a: Any, b: Any) -> Any:
        if isinstance(a, str) or isinstance(b, str):
            raise TypeError("a word has no arithmetic")
        return op(a, b)

    return checked


def _map(op: Callable[[Any], Any], value: Any) -> Any:
    return tuple(op(v) for v in value) if isinstance(value, tuple) else op(value)


def _zip(op: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """``op`` element by element; None where either is absent or they have different numbers of axes."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return tuple(_one(op, x, y) for x, y in zip(a, b, strict=True)) if len(a) == len(b) else None
    if isinstance(a, tuple):
        return tuple(_one(op, x, b) for x in a)
    if isinstance(b, tuple):
        return tuple(_one(op, a, y) for y in b)
    return _one(op, a, b)


def _one(op: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    return None if a is None or b is None else op(a, b)


def _compare(op: Callable[[Any, Any], bool], a: Any, b: Any) -> Any:
    if a is None or b is None:
        return op(a, b) if op not in _ORDERS else False
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) != len(b):
        return (op is operator.ne,)
    return _zip(op, a, b)


def _reduced(reduce: Callable[[Any], Any], value: Any) -> Any:
    if value is None or isinstance(value, bool):  # a vector that the case does not have, or a comparison with one
        return bool(value) if reduce in (any, all) else None
    if (reduce in (min, max) and not value) or (reduce not in (any, all, len) and None in value):
        return None
    return reduce(value)


def _element(value: Any, index: Any) -> Any:
    return value[index] if value is not None and -len(value) <= index < len(value) else None

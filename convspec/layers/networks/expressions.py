"""Expressions of a network's text, with the meaning that they have in Python for numbers, strings and lists.

Layers and functions are a matter of the subclasses; what nothing explains is a ``Symbol``.
"""

from __future__ import annotations

import ast
import copy
import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from convspec.contract.network_words import Symbol, Tensor
from convspec.errors import CallError, printable
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
    Scope,
)

MOST_STEPS = 200_000
_DEEPEST = 100
_LARGEST = 10**12
_LONGEST = 10_000  # items of a list, characters of a string

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_, ast.BitXor: operator.xor, ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert,
}  # fmt: skip


def _get(items: Mapping[str, Any], key: str, default: Any = None) -> Any:
    return items.get(key, default)


def _enumerate(items: Iterable[Any], start: int = 0) -> list[tuple[int, Any]]:
    return list(enumerate(items, start))


BUILT_IN: dict[str, Callable[..., Any]] = {
    "range": lambda *n: list(range(*n)), "len": len, "int": int, "float": float, "str": str, "bool": bool, "min": min,
    "max": max, "sum": sum, "abs": abs, "round": round, "list": lambda items=(): list(items), "sorted": sorted,
    "tuple": lambda items=(): tuple(items), "dict": dict, "zip": lambda *items: list(zip(*items, strict=False)),
    "enumerate": _enumerate, "reversed": lambda items: list(reversed(items)), "any": any, "all": all,
    "OrderedDict": dict, "divmod": divmod, "set": lambda items=(): list(dict.fromkeys(items)),
    "copy.deepcopy": copy.deepcopy, "chr": chr,
    "math.sqrt": math.sqrt, "math.ceil": math.ceil, "math.floor": math.floor, "math.prod": math.prod,
    "np.linspace": lambda a, b, n=50: [a + (b - a) * i / max(n - 1, 1) for i in range(n)],
    "math.log2": math.log2, "np.prod": math.prod, "np.sqrt": math.sqrt, "repeat": lambda item, n: [item] * n,
    "math.log": math.log, "np.log": math.log, "math.exp": math.exp,
}  # fmt: skip


MODULE_METHODS = (
    "register_buffer", "register_parameter", "add_module", "register_module", "children", "named_children", "modules",
    "named_modules", "parameters", "named_parameters", "apply", "to", "eval", "train", "cuda", "float",
)  # fmt: skip


STRUCTURAL = ("len", "list", "tuple", "dict", "zip", "enumerate", "reversed", "OrderedDict", "repeat", "set")
"""Functions that do not look at the items of lists."""


class Undecided(CallError):
    """Which branch is taken, or how often a loop runs, cannot be told; it may depend on the shapes of the inputs."""


class UnknownWord(Exception):
    """A name of which no vocabulary knows anything."""


class Expressions:
    """The values of expressions; a subclass says what names of libraries are, and what calls of layers do."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._left, self._depth = MOST_STEPS, 0
        self.aliases: dict[str, str] = {}
        self.modules: list[Module] = []  # the objects whose methods run
        self.kinds: list[Class] = []  # the classes that have these methods
        self.notes: list[str] = []  # what is assumed
        self.item_path = ".{}"
        self.left_out: Mapping[str, Any] = {}  # values of parameters that need none

    # -- what a subclass has ------------------------------------------------------------------------------------

    def with_part(self, tensor: Tensor, value: Any, node: ast.AST) -> Tensor:
        """Return a tensor after a part of it was given a value."""
        raise NotImplementedError

    def layer_attribute(self, layer: Layer, name: str) -> Any:
        """Return an attribute of a layer; None where it is not known."""
        return layer.arguments.get(name)

    def call_library(self, name: str, args: list[Any], kwargs: dict[str, Any], node: ast.Call) -> Any:
        """Call what a library has under this name; raises UnknownWord where nothing is known of it."""
        raise NotImplementedError

    def call(self, function: Any, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        """Return what a call gives."""
        raise NotImplementedError

    def call_member(self, member: Member, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        """Apply a layer, or what holds layers, to tensors."""
        raise NotImplementedError

    def tensor_operation(self, name: str, args: list[Any], node: ast.AST) -> Any:
        """Apply an operator of Python where one operand is a tensor."""
        raise NotImplementedError

    def tensor_attribute(self, tensor: Tensor, name: str, node: ast.AST) -> Any:
        """Return an attribute of a tensor."""
        raise NotImplementedError

    def is_known(self, symbol: Symbol) -> bool:
        """Return whether a name is that of a class or function of a library."""
        return False

    def member_attribute(self, member: Member, name: str, node: ast.AST) -> Any:
        """Return an attribute that the framework gives what is in a model; None where it has none of that name."""
        raise NotImplementedError

    def fail(self, node: ast.AST, problem: str, kind: type[CallError] = CallError) -> CallError:
        """Return the error that a text cannot be read at this place."""
        line = getattr(node, "lineno", None)
        return kind(self.source(node) or "…", f"line {line}: {problem}" if line and "\n" in self.text else problem)

    def source(self, node: ast.AST) -> str:
        """Return the text of an expression in one line."""
        return _one_line(node)

    def _count(self, node: ast.AST) -> None:
        self._left -= 1
        if self._left < 0:
            raise self.fail(node, f"the text takes more than {MOST_STEPS:,} steps")

    def _truth(self, node: ast.expr, scope: Scope) -> bool:
        value = self.evaluate(node, scope)
        if isinstance(value, Symbol) and self.is_known(value):
            return True
        if isinstance(value, Symbol | Tensor):
            problem = "it cannot be told whether this is true: give the value above, or leave the branch out"
            raise self.fail(node, problem, Undecided)
        return bool(value)

    def _assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        match target:
            case ast.Name(id=name):
                scope[name] = value
            case ast.Attribute(value=owner, attr=name):
                holder = self.evaluate(owner, scope)
                if isinstance(holder, Module):
                    self.set_attribute(holder, name, value)
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                for one, item in self._unpacked(targets, value, target):
                    self._assign(one, item, scope)
            case ast.Subscript(value=holder_node, slice=key_node):
                holder, key = self.evaluate(holder_node, scope), self.evaluate(key_node, scope)
                if isinstance(holder, Container):
                    holder.add(value, str(key))
                elif isinstance(holder, list | dict) and not isinstance(key, Symbol):
                    self._plain(target, operator.setitem, holder, key, value)
                elif isinstance(holder, Tensor):
                    self._assign(holder_node, self.with_part(holder, value, target), scope)
            case _:
                raise self.fail(target, "such an assignment cannot be read")

    def set_attribute(self, module: Module, name: str, value: Any) -> None:
        """Give an object of the text an attribute; layers get their place by it."""
        module.attributes[name] = value
        if isinstance(module.inner, Container) and isinstance(value, Member):
            module.inner.add(value, name)
        module.adopt(name, value, self.item_path)

    def _unpacked(self, targets: list[ast.expr], value: Any, node: ast.AST) -> list[tuple[ast.expr, Any]]:
        if isinstance(value, Symbol) or (isinstance(value, Tensor) and value.shape is None):
            part = Symbol(f"{value.text}[…]") if isinstance(value, Symbol) else value
            return [(t.value if isinstance(t, ast.Starred) else t, part) for t in targets]
        items = self.items(value, node)
        star = next((i for i, t in enumerate(targets) if isinstance(t, ast.Starred)), None)
        if star is not None:
            after = len(targets) - star - 1
            middle = items[star : len(items) - after]
            items = [*items[:star], middle, *items[len(items) - after :]]
        if len(items) != len(targets):
            raise self.fail(node, f"{len(items)} values cannot be given to {len(targets)} names")
        return [(t.value if isinstance(t, ast.Starred) else t, v) for t, v in zip(targets, items, strict=True)]

    # -- expressions --------------------------------------------------------------------------------------------

    def evaluate(self, node: ast.expr, scope: Scope) -> Any:
        """Return the value of an expression."""
        self._count(node)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self.fail(node, "the text is nested too deeply")
        try:
            method = getattr(self, f"_value_{type(node).__name__.lower()}", None)
            return Symbol(self.source(node)) if method is None else method(node, scope)
        finally:
            self._depth -= 1

    def _value_constant(self, node: ast.Constant, scope: Scope) -> Any:
        if isinstance(node.value, int) and abs(node.value) > _LARGEST:
            raise self.fail(node, "a number of more than 12 digits")
        return node.value

    def _value_name(self, node: ast.Name, scope: Scope) -> Any:
        return scope[node.id] if node.id in scope else self.global_name(node.id, node)

    def global_name(self, name: str, node: ast.AST) -> Any:
        """Return what a name is that the text does not give a value."""
        return Symbol(name)

    def _value_attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        value = self.evaluate(node.value, scope)
        name = node.attr
        if isinstance(value, Symbol):
            return Symbol(f"{value.text}.{name}")
        if name == "__doc__" and isinstance(value, Function | Class):
            return None if isinstance(value.node, ast.Lambda) else ast.get_docstring(value.node)
        if isinstance(value, Tensor):
            return self.tensor_attribute(value, name, node)
        if isinstance(value, Module):
            return self._module_attribute(value, name, node)
        if isinstance(value, Parent):
            base = next((b for b in value.kind.bases if isinstance(b, Class)), None)
            method = base and base.find(name)
            return Function(method, base.scope, value.module) if base and method else Partial(MethodOf(value, name))
        if isinstance(value, Member) and (known := self.member_attribute(value, name, node)) is not None:
            return known
        if isinstance(value, Layer):
            known = self.layer_attribute(value, name)
            return Symbol(self.source(node)) if known is None else known
        if isinstance(value, Container) and name in value.items:
            return value.items[name]
        if isinstance(value, Class):
            if method := value.find(name):
                return Function(method, value.scope, value if has_decorator(method, "classmethod") else None)
            if field := value.field(name):
                return self.evaluate(field, dict(value.scope))
            above = next((b.text for b in value.bases if isinstance(b, Symbol)), value.name)
            return Symbol(f"{above}.{name}")
        return Partial(MethodOf(value, name))

    def _module_attribute(self, module: Module, name: str, node: ast.AST) -> Any:
        if name in module.attributes:
            return module.attributes[name]
        if name == "training":
            return False
        if method := module.kind.find(name):
            made = Function(method, module.kind.scope, module)
            if has_decorator(method, "property"):
                return self.call(made, [], {}, node)
            return made
        if module.inner is not None and (known := self.member_attribute(module.inner, name, node)) is not None:
            return known
        if isinstance(module.inner, Layer) and (known := self.layer_attribute(module.inner, name)) is not None:
            return known
        if isinstance(module.inner, Container):
            return module.inner.items.get(name, Partial(MethodOf(module.inner, name)))
        if field := module.kind.field(name):
            return self.evaluate(field, dict(module.kind.scope))
        if isinstance(module.inner, Graph) or name in MODULE_METHODS:
            return Partial(MethodOf(module.inner or module, name))
        known = self.member_attribute(module, name, node)
        return Symbol(f"{module.path or 'self'}.{name}") if known is None else known

    def _value_tuple(self, node: ast.Tuple, scope: Scope) -> Any:
        return tuple(self._list(node.elts, scope))

    def _value_list(self, node: ast.List, scope: Scope) -> Any:
        return self._list(node.elts, scope)

    _value_set = _value_list

    def _list(self, nodes: Sequence[ast.expr], scope: Scope) -> list[Any]:
        values: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                values += self.items(self.evaluate(node.value, scope), node)
            else:
                values.append(self.evaluate(node, scope))
        return values

    def _value_dict(self, node: ast.Dict, scope: Scope) -> Any:
        result: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.evaluate(item, scope)
            if key is not None:
                result[self._plain(key, _hashable, self.evaluate(key, scope))] = value
            elif isinstance(value, dict):
                result |= value
        return result

    def _value_joinedstr(self, node: ast.JoinedStr, scope: Scope) -> Any:
        parts = [self.evaluate(v.value if isinstance(v, ast.FormattedValue) else v, scope) for v in node.values]
        plain = all(isinstance(part, str | int | float | None) for part in parts)
        return "".join(map(str, parts))[:_LONGEST] if plain else Symbol(self.source(node))

    def _value_lambda(self, node: ast.Lambda, scope: Scope) -> Any:
        return Function(node, scope)

    def _value_ifexp(self, node: ast.IfExp, scope: Scope) -> Any:
        return self.evaluate(node.body if self._truth(node.test, scope) else node.orelse, scope)

    def _value_namedexpr(self, node: ast.NamedExpr, scope: Scope) -> Any:
        scope[node.target.id] = value = self.evaluate(node.value, scope)
        return value

    def _value_boolop(self, node: ast.BoolOp, scope: Scope) -> Any:
        value: Any = None
        for part in node.values:
            value = self.evaluate(part, scope)
            if isinstance(value, Symbol):
                return value
            if bool(value) == isinstance(node.op, ast.Or):
                break
        return value

    def _value_unaryop(self, node: ast.UnaryOp, scope: Scope) -> Any:
        value = self.evaluate(node.operand, scope)
        if isinstance(value, Tensor):
            return self.tensor_operation(type(node.op).__name__, [value], node)
        if isinstance(value, Symbol):
            return Symbol(self.source(node))
        return self._plain(node, _UNARY[type(node.op)], value)

    def _value_binop(self, node: ast.BinOp, scope: Scope) -> Any:
        return self._binary(node.op, self.evaluate(node.left, scope), self.evaluate(node.right, scope), node)

    def _binary(self, op: ast.operator, a: Any, b: Any, node: ast.AST) -> Any:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return self.tensor_operation(type(op).__name__, [a, b], node)
        if isinstance(a, Symbol) or isinstance(b, Symbol):
            return Symbol(self.source(node))
        if isinstance(op, ast.Pow) and isinstance(b, int | float) and abs(b) > 40:
            raise self.fail(node, "an exponent above 40")
        if isinstance(op, ast.Mult | ast.LShift):
            sizes = [len(v) if isinstance(v, str | list | tuple) else v for v in (a, b)]
            if not all(isinstance(n, int | float) for n in sizes) or abs(math.prod(sizes)) > _LARGEST or (
                not all(isinstance(v, int | float) for v in (a, b)) and math.prod(sizes) > _LONGEST
            ) or (isinstance(op, ast.LShift) and b > 40):  # fmt: skip
                raise self.fail(node, "the product is too large, or not one of numbers")
        return self._plain(node, _OPERATORS[type(op)], a, b)

    def _value_compare(self, node: ast.Compare, scope: Scope) -> Any:
        values = [self.evaluate(part, scope) for part in (node.left, *node.comparators)]
        for op, a, b in zip(node.ops, values, values[1:], strict=False):
            if not isinstance(op, ast.Is | ast.IsNot) and any(isinstance(v, Symbol | Tensor) for v in (a, b)):
                return Symbol(self.source(node))
            unknown = next((v for v in (a, b) if isinstance(v, Symbol)), None)
            if unknown and (None not in (a, b) or not self.is_known(unknown)):
                return Symbol(self.source(node))
            if not self._plain(node, _OPERATORS[type(op)], a, b):
                return False
        return True

    def _value_subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        value, key = self.evaluate(node.value, scope), self.evaluate(node.slice, scope)
        if isinstance(value, Tensor):
            return self.tensor_operation("Subscript", [value, key], node)
        if isinstance(value, Symbol) or isinstance(key, Symbol):
            return Symbol(self.source(node))
        if isinstance(value, Module) and isinstance(value.inner, Container):
            value = value.inner
        if isinstance(value, Container):
            value = list(value.items.values()) if isinstance(key, int | slice) else value.items
        return self._plain(node, operator.getitem, value, key)

    def _value_slice(self, node: ast.Slice, scope: Scope) -> Any:
        return slice(
            *[None if part is None else self.evaluate(part, scope) for part in (node.lower, node.upper, node.step)]
        )

    def _comprehension(self, node: Any, scope: Scope, make: Callable[[Scope], Any]) -> list[Any]:
        results: list[Any] = []

        def follow(generators: Sequence[ast.comprehension], inner: Scope) -> None:
            if not generators:
                results.append(make(inner))
                return
            for item in self.items(self.evaluate(generators[0].iter, inner), generators[0].iter):
                self._assign(generators[0].target, item, inner)
                if all(self._truth(test, inner) for test in generators[0].ifs):
                    follow(generators[1:], inner)

        follow(node.generators, Inner(scope))
        return results

    def _value_listcomp(self, node: ast.ListComp, scope: Scope) -> Any:
        return self._comprehension(node, scope, lambda inner: self.evaluate(node.elt, inner))

    _value_generatorexp = _value_setcomp = _value_listcomp

    def _value_dictcomp(self, node: ast.DictComp, scope: Scope) -> Any:
        return dict(
            self._comprehension(node, scope, lambda s: (self.evaluate(node.key, s), self.evaluate(node.value, s)))
        )

    def items(self, value: Any, node: ast.AST) -> list[Any]:
        """Return what a loop over a value goes through."""
        if isinstance(value, Module) and isinstance(value.inner, Container):
            value = value.inner
        if isinstance(value, Container):
            return list(value.items if value.form == "dict" else value.items.values())
        if isinstance(value, str | list | tuple | dict | range) or hasattr(value, "__next__"):
            values = list(value)
            if len(values) > _LONGEST:
                raise self.fail(node, f"a list of more than {_LONGEST:,} items", Undecided)
            return values
        if isinstance(value, Tensor) and value.shape:
            return [self.tensor_operation("Subscript", [value, i], node) for i in range(min(value.shape[0], 100))]
        kind = Undecided if isinstance(value, Symbol) else CallError  # what it goes through may follow from a shape
        raise self.fail(node, "it cannot be told what this loop goes through", kind)

    def _plain(self, node: ast.AST, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of Python on plain values."""
        try:
            value = function(*args)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, MemoryError) as error:
            raise self.fail(node, printable(error, 120)) from None
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise self.fail(node, "a number of more than 12 digits")
        if isinstance(value, str | list | tuple | dict) and len(value) > _LONGEST:
            raise self.fail(node, f"a list of more than {_LONGEST:,} items", Undecided)
        return value


class Inner(dict[str, Any]):
    """The names of a function, which sees those around it."""

    def __init__(self, outer: Scope) -> None:
        super().__init__()
        self.outer = outer

    def __missing__(self, name: str) -> Any:
        return self.outer[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.outer


class MethodOf:
    """A method of a value, by its name."""

    def __init__(self, value: Any, name: str) -> None:
        self.value, self.name = value, name


def has_decorator(method: ast.AST, name: str) -> bool:
    """Return whether a function has a decorator of this name."""
    return any(ast.unparse(d).endswith(name) for d in getattr(method, "decorator_list", ()))


def _hashable(key: Any) -> Any:
    hash(key)
    return key


def has(values: Any, kinds: Any) -> bool:
    if isinstance(values, dict):
        values = list(values.values())
    return isinstance(values, kinds) or (isinstance(values, list | tuple) and any(has(v, kinds) for v in values))


@functools.lru_cache(maxsize=4096)
def _one_line(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())

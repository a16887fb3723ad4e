"""Follow the text of a network as Python would, on names and shapes: nothing of it is evaluated.

Layers and functions come from a :class:`~convspec.contract.network_words.Vocabulary`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from convspec.contract.network_words import Symbol, Tensor
from convspec.errors import printable
from convspec.layers.networks.expressions import (
    BUILT_IN,
    MODULE_METHODS,
    STRUCTURAL,
    Expressions,
    Inner,
    MethodOf,
    Undecided,
    UnknownWord,
    has,
    has_decorator,
)
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
    copied,
)

_MODULES: dict[str, str] = {
    "collections": "", "math": "math", "numpy": "np", "itertools": "", "functools": "",
    "typing": "", "jax.numpy": "np",
}  # fmt: skip
_DEEPEST = 60  # calls within calls
MemberT = TypeVar("MemberT", bound=Member)


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Loop(Exception):
    def __init__(self, goes_on: bool) -> None:
        self.goes_on = goes_on


class Interpreter(Expressions):
    """Statements and calls; a subclass says what names of libraries are, and what calls of layers do."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.running: list[ast.FunctionDef] = []  # the methods of ``modules``

    # -- statements ---------------------------------------------------------------------------------------------

    def run(self, body: Sequence[ast.stmt], scope: Scope) -> None:
        """Follow statements."""
        for statement in body:
            self._count(statement)
            method = getattr(self, f"_run_{type(statement).__name__.lower()}", None)
            if method is None:
                raise self.fail(statement, f"a statement of the kind {type(statement).__name__} cannot be read")
            method(statement, scope)

    def run_script(self, body: Sequence[ast.stmt], scope: Scope) -> Undecided | None:
        """Follow a text, without statements that cannot be told, such as training; return why the first cannot."""
        problem = None
        for statement in body:
            depth = self._depth
            try:
                self.run([statement], scope)
            except Undecided as error:
                self._depth, problem = depth, problem or error
        return problem

    def _run_expr(self, node: ast.Expr, scope: Scope) -> None:
        value = self.evaluate(node.value, scope)
        if isinstance(value, Symbol) and isinstance(node.value, ast.Call) and not value.text.startswith("print("):
            given = [scope[a.id] for a in node.value.args if isinstance(a, ast.Name) and a.id in scope]
            if any(has(value, list | dict) for value in given):
                self.notes.append(f"what {printable(value.text, 60)} does to its arguments is not known")
        self.expression_statement(value, node)

    def expression_statement(self, value: Any, node: ast.Expr) -> None:
        """Take note of the value of an expression that stands by itself."""

    def _run_pass(self, node: ast.stmt, scope: Scope) -> None:
        pass

    _run_global = _run_nonlocal = _run_assert = _run_delete = _run_pass

    def _run_import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            self.aliases[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )

    def _run_importfrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            package = "" if node.level else f"{node.module}."  # of a relative import, the name alone is known
            self.aliases[alias.asname or alias.name] = f"{package}{alias.name}"
            if alias.asname and alias.name in scope:  # the text has it too
                scope[alias.asname] = scope[alias.name]

    def _run_assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.evaluate(node.value, scope)
        for target in node.targets:
            self._assign(target, value, scope)

    def _run_annassign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self._assign(node.target, self.evaluate(node.value, scope), scope)

    def _run_augassign(self, node: ast.AugAssign, scope: Scope) -> None:
        old = self.evaluate(_loaded(node.target), scope)
        value = self.evaluate(node.value, scope)
        if isinstance(old, list) and isinstance(value, list | tuple) and isinstance(node.op, ast.Add):
            old.extend(value)
            value = old
        else:
            value = self._binary(node.op, old, value, node)
        self._assign(node.target, value, scope)

    def _run_functiondef(self, node: ast.FunctionDef, scope: Scope) -> None:
        scope[node.name] = Function(node, scope)

    def _run_classdef(self, node: ast.ClassDef, scope: Scope) -> None:
        scope[node.name] = Class(node.name, node, [self.evaluate(base, scope) for base in node.bases], scope)

    def _run_return(self, node: ast.Return, scope: Scope) -> None:
        raise _Return(None if node.value is None else self.evaluate(node.value, scope))

    def _run_if(self, node: ast.If, scope: Scope) -> None:
        if _is_main(node.test):
            return
        self.run(node.body if self._truth(node.test, scope) else node.orelse, scope)

    def _run_for(self, node: ast.For, scope: Scope) -> None:
        through = self.evaluate(node.iter, scope)
        if isinstance(through, Symbol) and not isinstance(scope, Inner):  # batches of data, at the end of a script
            self.notes.append(f"the loop over {printable(through.text, 60)} is left out")
            return
        for item in self.items(through, node.iter):
            self._assign(node.target, item, scope)
            try:
                self.run(node.body, scope)
            except _Loop as loop:
                if loop.goes_on:
                    continue
                return
        self.run(node.orelse, scope)

    def _run_while(self, node: ast.While, scope: Scope) -> None:
        while self._truth(node.test, scope):
            self._count(node)
            try:
                self.run(node.body, scope)
            except _Loop as loop:
                if not loop.goes_on:
                    return

    def _run_continue(self, node: ast.stmt, scope: Scope) -> None:
        raise _Loop(goes_on=True)

    def _run_break(self, node: ast.stmt, scope: Scope) -> None:
        raise _Loop(goes_on=False)

    def _run_with(self, node: ast.With, scope: Scope) -> None:
        self.run(node.body, scope)

    def _run_try(self, node: ast.Try, scope: Scope) -> None:
        self.run(node.body, scope)

    def _run_raise(self, node: ast.Raise, scope: Scope) -> None:
        words = "" if node.exc is None else self.source(node.exc)
        raise self.fail(node, f"the text itself raises {printable(words, 120)}")

    # -- calls --------------------------------------------------------------------------------------------------

    def _value_call(self, node: ast.Call, scope: Scope) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "super":
            return Parent(self.modules[-1], self.kinds[-1]) if self.modules else Symbol("super()")
        function = self.evaluate(node.func, scope)
        args = self._list(node.args, scope)
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value, scope)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            elif isinstance(value, dict):
                kwargs |= value
            else:
                raise self.fail(node, f"**{self.source(keyword.value)} cannot be read: write the arguments out")
        return self.call(function, args, kwargs, node)

    def call(self, function: Any, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        """Return what a call gives."""
        match function:
            case Function():
                return self._call_function(function, args, kwargs, node)
            case Class():
                return self.instantiate(function, args, kwargs, node)
            case Partial(function=inner):
                return self.call(inner, [*function.args, *args], {**function.kwargs, **kwargs}, node)
            case MethodOf():
                return self._call_method(function, args, kwargs, node)
            case Member():
                return self.call_member(function, args, kwargs, node)
            case Symbol(text=name):
                return self._call_name(name, args, kwargs, node)
        raise self.fail(node, "this cannot be called")

    def _call_name(self, name: str, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        full = self.full_name(name)
        if full.rpartition(".")[2] == "partial" and args:
            return Partial(args[0], tuple(args[1:]), kwargs)
        if full in ("getattr", "hasattr") and isinstance(args[0], Module | Container) and isinstance(args[1], str):
            owner, key = args[:2]
            if isinstance(owner, Container):
                value = owner.items.get(key)
            else:
                has_it = key in owner.attributes or owner.kind.find(key)
                value = self._module_attribute(owner, key, node) if has_it else None
            if full == "hasattr":
                return value is not None
            return value if value is not None else args[2] if len(args) > 2 else Symbol(self.source(node))
        if full == "setattr" and isinstance(args[0], Module):
            return self.set_attribute(args[0], args[1], args[2])
        if full == "isinstance":
            return self._is_instance(args[0], args[1], node) if len(args) == 2 else False
        short = ".".join(filter(None, (self._module_of(full), full.rpartition(".")[2])))
        if short == "cast" and len(args) == 2:
            return args[1]
        if full.endswith("WeightsEnum.verify") and args:  # torchvision's weights, mostly None
            return args[0]
        if short == "sum" and args and has(args, Tensor) and not isinstance(args[0], Tensor):
            start, *rest = [*args[1:], *self.items(args[0], node)]
            return functools.reduce(lambda a, b: self._binary(ast.Add(), a, b, node), rest, start)
        if short == "len" and isinstance(args[0], Tensor) and args[0].shape:
            return args[0].shape[0]
        if short in ("copy.copy", "copy.deepcopy") and args:
            return copied(args[0])
        if short not in BUILT_IN or (("." in short or short in ("abs", "round")) and has(args, Tensor)):
            try:
                return self.call_library(full, args, kwargs, node)  # type: ignore[arg-type]
            except UnknownWord:
                pass  # Python has it, or it is a symbol
            except LookupError:
                raise self.fail(node, "its arguments are not understood") from None
        plain = BUILT_IN.get(full, BUILT_IN.get(short))
        loose = any(isinstance(a, Symbol | Tensor) for a in args) if short in STRUCTURAL else has(args, Symbol | Tensor)
        if plain is not None and not loose:
            args = [self.items(a, node) if isinstance(a, Container | Module) else a for a in args]
            return self._plain(node, plain, *args) if not kwargs else self._plain(node, lambda: plain(*args, **kwargs))
        return Symbol(self.source(node))

    def _module_of(self, full: str) -> str:
        return _MODULES.get(full.rpartition(".")[0], full.rpartition(".")[0])

    def full_name(self, name: str) -> str:
        """Return a dotted name with the import that its first part stands for."""
        head, dot, rest = name.partition(".")
        return f"{self.aliases.get(head, head)}{dot}{rest}"

    def _is_instance(self, value: Any, kinds: Any, node: ast.AST) -> Any:
        names = [k.text.rpartition(".")[2] if isinstance(k, Symbol) else getattr(k, "name", "")
                 for k in (kinds if isinstance(kinds, tuple) else (kinds,))]  # fmt: skip
        if isinstance(value, Layer | Container):
            return value.kind in names or "Module" in names
        if isinstance(value, Module):
            return bool({*value.kind.family} & set(names))
        if isinstance(value, Symbol) and not self.is_known(value):
            return Symbol(self.source(node))
        also = ("Sequence", "Iterable", "Collection") if isinstance(value, list | tuple) else (
            ("int",) if isinstance(value, bool) else ("Mapping",))  # fmt: skip
        plain = isinstance(value, list | tuple | bool | dict)
        return bool({type(value).__name__, *(also if plain else ())} & set(names))

    def _call_function(self, function: Function, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        if len(self.modules) > _DEEPEST:
            raise self.fail(node, "the calls of the text are nested too deeply")
        body, scope = function.node, Inner(function.scope)
        if _is_generator(body):
            return Symbol(self.source(node))
        if function.first is not None and not has_decorator(body, "staticmethod"):
            args = [function.first, *args]
        self._bind(body, args, kwargs, scope, function.scope, node)
        if isinstance(body, ast.Lambda):
            return self.evaluate(body.body, scope)
        if isinstance(function.first, Module):
            self.modules.append(function.first)
            self.kinds.append(function.first.kind.holder(body))
            self.running.append(body)
        try:
            self.run(body.body, scope)
        except _Return as returned:
            return returned.value
        finally:
            if isinstance(function.first, Module):
                self.modules.pop()
                self.kinds.pop()
                self.running.pop()
        return None

    def _bind(
        self, body: ast.FunctionDef | ast.Lambda, args: list[Any], kwargs: dict[str, Any], scope: Scope, outer: Scope,
        node: ast.AST,
    ) -> None:  # fmt: skip
        given = body.args
        names = [a.arg for a in (*given.posonlyargs, *given.args)]
        title = getattr(body, "name", "the lambda")
        if title == "__init__" and args and isinstance(args[0], Module):
            title = args[0].kind.name
        rest = kwargs.copy()
        for name, default in zip(reversed(names), reversed(given.defaults), strict=False):
            scope[name] = self.evaluate(default, outer)
        for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True):
            if value is not None:
                scope[one.arg] = self.evaluate(value, outer)
        scope.update(zip(names, args, strict=False))
        for name in [*names[len(args) :], *(a.arg for a in given.kwonlyargs)]:
            if name in rest:
                scope[name] = rest.pop(name)
            elif name not in scope and name in self.left_out:
                scope[name] = self.left_out[name]
            elif name not in scope:
                raise self.fail(node, f"{title} needs {name}")
        if given.vararg:
            scope[given.vararg.arg] = tuple(args[len(names) :])
        elif len(args) > len(names):
            raise self.fail(node, f"{title} takes at most {len(names)} arguments, got {len(args)}")
        if given.kwarg:
            scope[given.kwarg.arg] = rest
        elif rest:
            raise self.fail(node, f"{title} has no argument {next(iter(rest))!r}")

    def instantiate(self, kind: Class, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Module:
        """Return an object of a class of the text."""
        module = self.created(Module(kind), kind.name, kwargs)
        if init := kind.find("__init__"):
            self.call(Function(init, kind.scope, module), args, kwargs, node)
            return module
        module.inner = self._inner(module, args, kwargs, node)
        if module.inner is None:
            self._set_fields(module, kind, args, kwargs, node)
        return module

    def _inner(
        self, module: Module, args: list[Any], kwargs: dict[str, Any], node: ast.AST
    ) -> Container | Layer | Graph | None:
        made = self.inner_of(module.kind, args, kwargs, node)
        if made:
            made.owner = module
        return made

    def _set_fields(self, module: Module, kind: Class, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> None:
        """Give an object the values of its class' fields, as of a dataclass."""
        fields = [s for s in kind.node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
        names = [s.target.id for s in fields if isinstance(s.target, ast.Name)]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for name, statement in zip(names, fields, strict=True):
            if name in given:
                module.attributes[name] = given[name]
                module.adopt(name, given[name], self.item_path)
            elif statement.value is None and name in self.left_out:
                module.attributes[name] = self.left_out[name]
            elif statement.value is None:
                raise self.fail(node, f"{kind.name} needs {name}")
            else:
                module.attributes[name] = self.evaluate(statement.value, dict(kind.scope))

    def _call_method(self, bound: MethodOf, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        """Call a method of a container, of a plain value, or one that does nothing here."""
        value, name = bound.value, bound.name
        if isinstance(value, Parent):
            module = value.module
            if name == "__init__" and module.inner is None:
                module.inner = self._inner(module, args, kwargs, node)
                base = next((b for b in value.kind.bases if isinstance(b, Class)), None)
                if module.inner is None and base and (args or kwargs):
                    self._set_fields(module, base, args, kwargs, node)
            if name in ("forward", "__call__", "call") and module.inner:
                return self.call_member(module.inner, args, kwargs, node)
            return self._call_module_method(module, name, args, kwargs) if name in MODULE_METHODS else None
        if isinstance(value, Module):
            return self._call_module_method(value, name, args, kwargs)
        if isinstance(value, Container):
            if name in ("append", "add") and args:
                return value.add(args[0])
            if name in ("add_module", "register_module") and len(args) == 2:
                return value.add(args[1], str(args[0]))
            if name in ("extend", "update"):
                for item in self.items(args[0], node) if not isinstance(args[0], dict) else args[0].items():
                    value.add(*reversed(item)) if isinstance(args[0], dict) else value.add(item)
                return value
            values = {
                "values": list(value.items.values()),
                "items": list(value.items.items()),
                "keys": list(value.items),
            }
            if name in (*values, "children"):
                return values.get(name, values["values"])
        if isinstance(value, str | list | tuple | dict | int | float) and not has([*args, *kwargs.values()], Symbol):
            if name == "as_list":
                return list(value) if isinstance(value, tuple) else Symbol(self.source(node))
            if name == "format" and isinstance(value, str) and not set(value) & set(":.[!"):
                return self._plain(node, lambda: value.format(*args, **kwargs))
            if name in ("format", "join", "ljust", "rjust", "center", "zfill", "replace", "translate"):
                return Symbol(self.source(node))
            return self._plain(node, lambda: getattr(value, name)(*args, **kwargs))
        trained = name in ("fit", "evaluate", "predict")  # others, as .to(device) and .eval(), return the model
        return value if isinstance(value, Member) and not trained else Symbol(self.source(node))

    def _call_module_method(self, module: Module, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method that an object of the text has from its framework."""
        if name.startswith(("register_", "add_")):
            key, value = [*args, *kwargs.values(), None, None][:2]
            return self.set_attribute(module, str(key), value)
        members = {k: v for k, v in module.attributes.items() if isinstance(v, Member)}
        if name in ("children", "named_children"):
            return list(members.values() if name == "children" else members.items())
        return [] if name.endswith(("modules", "parameters")) else module  # loops over these initialise

    def created(self, member: MemberT, kind: str, arguments: Mapping[str, Any]) -> MemberT:
        """Return a new member, with its name if it gets one when it is made."""
        return member

    def inner_of(
        self, kind: Class, args: list[Any], kwargs: dict[str, Any], node: ast.AST
    ) -> Container | Layer | Graph | None:
        """Return the framework's sequence, layer or graph that an object of a class is, if its base is one; or None."""
        return None


def _loaded(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


@functools.lru_cache(maxsize=1024)
def _is_generator(body: ast.AST) -> bool:
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(body))


def _is_main(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"

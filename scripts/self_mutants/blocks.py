"""Blocks of a module: the lists of statements in its functions, and a module that reports which of them run."""

from __future__ import annotations

import ast
import functools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TypeAlias

HIT = "__block_runs__"  # a builtin that the hook defines


def blocks(tree: ast.Module) -> list[list[ast.stmt]]:
    """Return the lists of statements inside functions, numbered in this order."""
    return [
        statements
        for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)
        for statements in _lists(function)
    ]  # fmt: skip


@functools.cache
def moved(old: str, new: str) -> list[list[int]]:
    """Return for each block of the old text the same block's number in the new one, or its changed function's."""
    before, after = _identities(old), _identities(new)
    numbers, fresh = {identity: number for number, identity in enumerate(after)}, defaultdict(list)
    for identity in set(after) - set(before):
        fresh[identity[0]].append(numbers[identity])
    return [[numbers[one]] if one in numbers else sorted(fresh[one[0]]) for one in before]


_Identity: TypeAlias = tuple[str, str, int]  # function, statements, and number among equal ones


def _identities(text: str) -> list[_Identity]:
    tree, found, seen = ast.parse(text), list[_Identity](), Counter[tuple[str, str]]()
    names: dict[ast.AST, str] = {tree: ""}
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            names[child] = f"{names[node]}.{child.name}" if named else names[node]
        for statements in _lists(node) if isinstance(node, ast.FunctionDef) else ():
            equal = names[node], "\n".join(map(ast.dump, statements))
            found.append((*equal, seen[equal]))
            seen[equal] += 1
    return found


def _lists(function: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    """Yield the lists of a function, but not those of the functions in it."""
    waiting: list[ast.AST] = [function]
    while waiting:
        node = waiting.pop()
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list) and statements:
                yield statements
        waiting += [
            child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.FunctionDef | ast.ClassDef)
        ]


def instrument(text: str, file: str, first: int) -> ast.Module:
    """Return the module's tree with a call of the builtin at the start of every block, numbered from ``first`` on."""
    tree = ast.parse(text, file)
    for number, statements in enumerate(blocks(tree), first):
        documented = isinstance(statements[0], ast.Expr) and isinstance(statements[0].value, ast.Constant)
        call = ast.parse(f"{HIT}({number})").body[0]
        statements.insert(int(documented), ast.copy_location(call, statements[0]))
    return ast.fix_missing_locations(tree)


def block_of(text: str, line: int) -> int:
    """Return the number of the innermost block that has a line."""
    inside = [(end - start, -number) for number, (start, end) in enumerate(_spans(text)) if start <= line <= end]
    return -min(inside)[1]


@functools.cache
def _spans(text: str) -> list[tuple[int, int]]:
    return [(found[0].lineno, max(s.end_lineno or 0 for s in found)) for found in blocks(ast.parse(text))]

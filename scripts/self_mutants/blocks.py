"""Blocks of a module: the lists of statements in its functions, and a module that reports which of them run."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

HIT = "__block_runs__"  # a builtin that the hook defines


def blocks(tree: ast.Module) -> list[list[ast.stmt]]:
    """Return the lists of statements inside functions, numbered in this order."""
    return [
        statements
        for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)
        for statements in _lists(function)
    ]  # fmt: skip


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

"""Change a call in the text of a network, and leave all else as it is written."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from convspec.contract.network_words import Word
from convspec.layers.networks.values import Place


def _calls(text: str) -> tuple[ast.AST, list[ast.Call]]:
    """Return the syntax tree of a text, and its calls, the outer ones first; lines are counted as in the text."""
    try:
        tree: ast.AST = ast.parse(text)
    except SyntaxError:
        tree = ast.Module([ast.increment_lineno(s, -1) for s in ast.parse(f"[\n{text}\n]").body], [])
    return tree, [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def replace_call(text: str, place: Place, write: Callable[[ast.Call], str]) -> str:
    """Return a text in which the outermost call at a place is written anew."""
    calls = [call for call in _calls(text)[1] if (call.lineno, call.col_offset) == place]
    if not calls:
        return text
    call = max(calls, key=lambda n: (n.end_lineno or 0, n.end_col_offset or 0))
    raw = text.encode()
    starts = [0, *(i + 1 for i, byte in enumerate(raw) if byte == ord("\n"))]
    begin = starts[call.lineno - 1] + call.col_offset
    end = starts[(call.end_lineno or 1) - 1] + (call.end_col_offset or 0)
    return (raw[:begin] + write(call).encode() + raw[end:]).decode()


def flattened(text: str, place: Place, called_at: Place, flatten: tuple[str, str]) -> str:
    """Return a text with a flatten before a layer: an item of its sequence, else around what it is called on."""
    tree, _ = _calls(text)
    calls = [argument for n in ast.walk(tree) if isinstance(n, ast.Call) for argument in n.args]
    listed = [item for n in ast.walk(tree) if isinstance(n, ast.List | ast.Tuple) for item in n.elts]
    items = [item for item in (*calls, *listed) if isinstance(item, ast.Call)]
    if any((item.lineno, item.col_offset) == place for item in items):

        def before(call: ast.Call) -> str:
            module = ast.unparse(call.func).rpartition(".")[0]
            return f"{flatten[0].format(module=f'{module}.' if module else '')}, {ast.unparse(call)}"

        return replace_call(text, place, before)

    def around(call: ast.Call) -> str:
        given = ast.unparse(call.args[0])
        call.args[0] = ast.parse(flatten[1].format(x=given), mode="eval").body
        return ast.unparse(call)

    return replace_call(text, called_at, around)


def with_arguments(call: ast.Call, arguments: Mapping[str, Any], word: Word | None) -> str:
    """Return the text of a call with other values of some arguments: where they stand now, else by name."""
    names, rest = word.parameters if word else ((), "")
    bound = isinstance(call.func, ast.Attribute) and len(call.args) < len(names) and names[:1] in (("x",), ("input",))
    for name, value in arguments.items():
        node = ast.parse(repr(value), mode="eval").body
        index = names.index(name) - bound if name in names else len(call.args)
        keyword = next((k for k in call.keywords if k.arg == name), None)
        if name == rest:
            call.args = [ast.parse(repr(item), mode="eval").body for item in value]
        elif keyword is not None:
            keyword.value = node
        elif index < len(call.args):
            call.args[index] = node
        else:
            call.keywords.append(ast.keyword(name, node))
    return ast.unparse(call)

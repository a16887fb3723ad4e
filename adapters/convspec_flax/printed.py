"""What nnx prints of a model, ``print(model)``: its layers with their settings, which includes defaults."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from convspec.contract.network_words import Printed, PrintedLayer, Word


def read_printed(text: str, layers: Mapping[str, Word]) -> Printed | None:
    """Return the layers of a printed model of nnx in the order in which they are attributes; None for other texts.

    Args:
        layers: the words of nnx.
    """
    if "=Param(" not in text:
        return None
    plain = re.sub(r"#[^\n]*|overlaying:\s*\[[^\]]*\]", "", text)  # comments, the numbers of random keys
    plain = re.sub(r"<[^<>\n]*(?:<[^<>\n]*>[^<>\n]*)*>", "None", plain)  # functions and dtypes
    try:
        tree = ast.parse(plain.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    found = list(_layers(tree, "", layers))
    return Printed(found, ordered=len(found) == 1 or _is_sequence(tree)) if found else None


def _is_sequence(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "Sequential"


def _layers(node: ast.expr, path: str, layers: Mapping[str, Word]) -> Iterator[PrintedLayer]:
    if isinstance(node, ast.List):
        for i, item in enumerate(node.elts):
            yield from _layers(item, f"{path}.{i}".lstrip("."), layers)
    if not isinstance(node, ast.Call):
        return
    kind, fields = ast.unparse(node.func), {word.arg or "": word.value for word in node.keywords}
    if kind in ("List", "Dict") and node.args:
        yield from _layers(node.args[0], path, layers)
    elif kind in layers:
        yield _layer(kind, fields, path, layers[kind])
    else:
        for name, value in fields.items():
            yield from _layers(value, f"{path}.{name}".lstrip("."), layers)


def _layer(kind: str, fields: Mapping[str, ast.expr], path: str, word: Word) -> PrintedLayer:
    names = word.parameters[0]
    known = {name: v for name, v in fields.items() if name in names and "dtype" not in name}
    settings = {name: ast.unparse(v) for name, v in known.items() if not isinstance(v, ast.Call)}
    settings = {name: value for name, value in settings.items() if value != "None"}
    shapes = [_shape(v) for v in fields.values() if isinstance(v, ast.Call) and ast.unparse(v.func) == "Param"]
    if "num_features" in names and shapes and shapes[0]:
        settings.setdefault("num_features", str(shapes[0][0]))  # a group norm prints none
    if settings.get("num_groups", "None") != "None":
        settings.pop("group_size", None)
    return PrintedLayer(path, f"nnx.{kind}({', '.join(f'{name}={value}' for name, value in settings.items())})")


def _shape(parameter: ast.expr) -> tuple[int, ...]:
    """Return the shape that a printed array names."""
    found = re.search(r"shape=\(([\d, ]*)\)", ast.unparse(parameter))
    return tuple(int(n) for n in found[1].split(",") if n.strip()) if found else ()

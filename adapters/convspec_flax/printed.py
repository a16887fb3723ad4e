"""What Flax prints: ``print(model)`` of nnx, settings and defaults; ``tabulate``, shapes and numbers of parameters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from convspec.contract.network_words import Printed, PrintedLayer, Word
from convspec.contract.printed_tables import boxes


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


def read_table(text: str, linen: bool) -> Printed | None:
    """Return the layers of the table of ``nnx.tabulate``, or of linen's ``module.tabulate``; None for other texts."""
    rows = iter([" ".join(cell.split()) for cell in row] for row in boxes(text))
    kind, learnt = ("module", "params") if linen else ("type", "Param")
    head = next((row for row in rows if row[:1] == ["path"] and {kind, "outputs"} <= {*row}), None)
    if head is None:
        return None
    found = [dict(zip(head, row, strict=False)) for row in rows]
    above = {row["path"].rpartition("/")[0] for row in found}
    layers = [
        PrintedLayer(
            row["path"].replace("/", "."), row[kind] if row[kind].isidentifier() else "Layer",
            _output(row["outputs"]), _count(row[learnt]),
        )
        for row in ({**dict.fromkeys(head, ""), learnt: "", **row} for row in found)
        if row["path"] not in above  # among them the model itself, and the totals
    ]  # fmt: skip
    return Printed(layers, ordered=False) if layers else None


def _output(cell: str) -> tuple[int, ...] | None:
    """Return the shape of the first array in a cell, ``float32[3,3,6,12]``; narrow columns break or cut it."""
    found = re.search(r"\w\[([\d,]*)\]", cell.replace(" ", ""))
    return None if found is None else tuple(int(n) for n in found[1].split(",") if n)


def _count(cell: str) -> int | None:
    """Return the number below the arrays of a cell: ``660 (2.6 KB)``; None where it is cut."""
    found = re.search(r"([\d,]+) \([\d.]+ \w?B\)", cell)
    return int(found[1].replace(",", "")) if found else None if cell else 0


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

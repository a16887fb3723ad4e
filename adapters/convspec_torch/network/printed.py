"""PyTorch's own print of a model, its layers in the order in which they were made; torchinfo's and torchsummary's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from convspec.contract import as_written
from convspec.contract.network_words import Printed, PrintedLayer

_ITEM = re.compile(r"\s*(?:\((?P<name>[\w.\- ]+)\): )?(?:\d+ x )?(?P<kind>\w+)\((?P<rest>.*)")
_CHILD = re.compile(r"^\s*\([\w.\-]+\): (\d+ x )?\w+\(", re.MULTILINE)
_WORD = re.compile(r"=(same|valid|reflect|replicate|circular)(?=[,)])")  # words are printed without quotes
_SEQUENCES = ("Sequential", "Conv2dNormActivation", "Conv3dNormActivation", "ConvNormActivation")


def read_printed(text: str) -> Printed | None:
    """Return the layers of what ``print(model)`` writes, or of some of its lines; None for any other text."""
    if summary := read_summary(text):
        return summary
    if not _CHILD.search(text) and not (_WORD.search(text) and _ITEM.fullmatch(text.strip())):
        return None
    items = _items(text.strip("\n").split("\n"))
    heads = [found for line in text.split("\n") if (found := _ITEM.fullmatch(line)) and not found["rest"]]
    own = [head["kind"] for head in heads if not head["kind"].startswith("Parametriz")
           and head["name"] != "parametrizations"]  # fmt: skip
    return Printed(_layers(items), ordered=len(items) == 1 and all(kind in _SEQUENCES for kind in own))


_HEADER = re.compile(r"^ *Layer \(type.*\bParam #.*$", re.MULTILINE)
_ROW = re.compile(r"(?P<indent>[│├└─\s]*)(?P<kind>\w+)(?: \((?P<name>[\w.]+)\))?(?:: (?P<index>[\d-]+)|-\d+)?\s\s.*\S")


def read_summary(text: str) -> Printed | None:
    """Return the layers of the table that torchinfo or torchsummary prints; None for any other text."""
    header = _HEADER.search(text)
    if header is None or "Connected to" in header[0]:
        return None
    rows = [found for line in text[header.end() :].splitlines() if (found := _ROW.fullmatch(line.rstrip()))]
    rows = [row for row in rows if "[" in row[0] or "─" in row[0]]
    depths = [len(row["indent"]) if "─" in row["indent"] else 0 for row in rows]
    layers, names = [], dict[int, str]()
    for row, depth, below in zip(rows, depths, [*depths, 0][1:], strict=True):
        names = {n: name for n, name in names.items() if n < depth} | (
            {depth: row["name"]} if row["name"] and depth else {}
        )
        path = ".".join(names.values()) or row["index"] or row[0].split()[0]
        shape, count = _stated(row[0], header[0])
        if below <= depth or count:  # what has layers below it may have parameters of its own
            layers.append(PrintedLayer(path, row["kind"], shape, count))
    return Printed(layers, ordered=False) if layers else None


def _stated(line: str, header: str) -> tuple[tuple[int | None, ...] | None, int]:
    """Return the output shape and the number of parameters of a row; the shape may be left out."""
    tree = "depth" in header or "var_name" in header  # torchinfo's columns begin where their names do
    sizes = re.search(r"\[(-?\d+(?:, -?\d+)*)\]", line[max(header.find("Output Shape"), 0) if tree else 0 :])
    shape = None if sizes is None else tuple(int(n) if int(n) >= 0 else None for n in sizes[1].split(","))
    count = line[header.index("Param #") :].split(maxsplit=1)[0] if tree else line.rsplit(maxsplit=1)[-1]
    number = count.replace(",", "")
    return shape, int(number) if number.isdecimal() else 0


def _items(lines: Sequence[str]) -> list[list[str]]:
    """Return the lines of each module at the top."""
    items: list[list[str]] = []
    depth = 0
    for line in lines:
        if depth <= 0 and line.strip():
            items.append([])
            depth = 0
        if items:
            items[-1].append(line)
        depth += line.count("(") - line.count(")")
    return items


def _layers(items: Sequence[Sequence[str]]) -> list[PrintedLayer]:
    result: list[PrintedLayer] = []
    for head, *body in items:
        found = _ITEM.fullmatch(head.rstrip().rstrip(","))
        if found is None:
            continue
        kind = found["kind"]
        if not body:
            inner = [PrintedLayer("", as_written(f"{kind}({found['rest']}"))]
        elif kind.startswith("Parametrized"):  # its first line has the settings of the layer
            call = as_written(f"{kind.removeprefix('Parametrized')}({body[0].strip()})")
            norm = any("_WeightNorm" in line for line in body)
            inner = [PrintedLayer("", f"weight_norm({call})" if norm else call)]
        elif kind in ("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"):
            inner = [PrintedLayer("", f"{kind}()")]
        else:
            inner = _layers(_items(body[:-1]))
        for name in _names(found["name"] or ""):
            result += [PrintedLayer(".".join(filter(None, (name, one.path))), one.call) for one in inner]
    return result


def _names(name: str) -> list[str]:
    """Return the names of ``(0-3): 4 x Block``."""
    first, dash, last = name.partition("-")
    if dash and first.isdecimal() and last.isdecimal() and int(last) - int(first) < 10_000:
        return [str(n) for n in range(int(first), int(last) + 1)]
    return [name]

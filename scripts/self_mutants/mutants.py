"""Mutants of a module: mutmut's operators on the bodies of its functions, without those that change no verdict.

Left out are type hints, docstrings, the wording of messages, ``__repr__`` and ``__str__``, and arguments that only
assert (``strict`` of zip, ``encoding``). Defaults and decorators are evaluated on import, before a mutant is in place.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).parents[2]
_SKIPPED = (cst.Annotation, cst.Decorator, cst.Parameters, cst.Raise, cst.FormattedString, cst.Import, cst.ImportFrom)
_WORDING = {"__repr__", "__str__", "cast", "warn"}  # methods and calls
_ENCODINGS = ("utf-8", "ascii")  # of files that hold nothing else
_ASSERTING = {"strict", "encoding", "stacklevel"}  # keywords


@dataclass(frozen=True)
class Mutant:
    """A fault: a change in a line of a function; equal changes in equal lines are numbered."""

    file: str
    function: str
    line: str
    change: str
    number: int
    position: int = field(default=0, compare=False)

    @property
    def key(self) -> str:
        return f"{self.file} {self.function}: {self.line} [{self.change}] {self.number}"

    def rank(self, seed: int) -> str:
        """Return what a sample is sorted by; it depends on this mutant alone."""
        return hashlib.sha256(f"{seed} {self.key}".encode()).hexdigest()

    def source(self) -> str:
        """Return the module's text with the fault."""
        module, nodes = _mutants(self.file)
        mutated = module.visit(_Replace(*nodes[self]))
        assert isinstance(mutated, cst.Module)
        return mutated.code


def mutants(file: str, cache: Path) -> list[Mutant]:
    """Return every mutant of a file, in the order of its lines; ``cache`` is a folder."""
    kept = cache / hashlib.sha256((ROOT / file).read_bytes() + file.encode()).hexdigest()[:24]
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([astuple(mutant) for mutant in _mutants(file)[1]]), "utf-8")
    return [Mutant(*values) for values in json.loads(kept.read_text("utf-8"))]


@functools.cache
def _mutants(file: str) -> tuple[cst.Module, dict[Mutant, tuple[cst.CSTNode, cst.CSTNode]]]:
    """Return the module, and what each mutant replaces by what."""
    wrapper, visitor = MetadataWrapper(cst.parse_module((ROOT / file).read_text("utf-8"))), _Visitor()
    wrapper.visit(visitor)
    lines, counts, made = wrapper.module.code.splitlines(), Counter[Any](), {}
    for function, position, *nodes in visitor.found:
        texts = [" ".join(wrapper.module.code_for_node(node).split()) for node in nodes]
        if texts[0].count("super()") != texts[1].count("super()"):
            continue  # a function without it has no cell for its class, and cannot take the place of one that has
        change = " → ".join(texts)
        identity = (file, function, lines[position - 1].strip(), change)
        made[Mutant(*identity, counts[identity], position)] = tuple(nodes)
        counts[identity] += 1
    return wrapper.module, made


class _Visitor(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Any, ...]] = []  # function, line, node, mutated node
        self._above: list[tuple[cst.CSTNode, int]] = []  # with their lines

    def on_visit(self, node: cst.CSTNode) -> bool:
        where = self.get_metadata(PositionProvider, node, None)
        line = where.start.line if where else self._above[-1][1]
        self._above.append((node, line))
        if _skipped(node):
            return False
        if function := self._function():
            self.found += [(function, line, node, mutated) for mutated in _mutated(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self._above.pop()

    def _function(self) -> str:
        """Return the outermost function above with its classes, as ``__qualname__`` has it."""
        names = []
        for node, _ in self._above[:-1]:
            if isinstance(node, cst.FunctionDef | cst.ClassDef):
                names.append(node.name.value)
            if isinstance(node, cst.FunctionDef):
                return ".".join(names)
        return ""


def _skipped(node: cst.CSTNode) -> bool:
    match node:
        case cst.FunctionDef(name=cst.Name(value=name)) | cst.Call(func=cst.Name(value=name)):
            return name in _WORDING
        case cst.Arg(keyword=cst.Name(value=name)):
            return name in _ASSERTING
        case cst.SimpleString(value=text):
            return " " in text or text.strip("\"'").lower() in _ENCODINGS or text.startswith(('"""', "'''"))
    return isinstance(node, _SKIPPED)


def _mutated(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            for mutated in list(operator(node))[: 1 if isinstance(node, cst.BaseString) else None]:
                if not (isinstance(node, cst.Call) and _drops_words(node, mutated)):
                    yield mutated


def _drops_words(call: cst.Call, mutated: cst.CSTNode) -> bool:
    """Return whether the arguments that the mutated call lacks are wording, or assert."""
    kept = {id(argument) for argument in mutated.args} if isinstance(mutated, cst.Call) else set()
    dropped = [argument for argument in call.args if id(argument) not in kept]
    return bool(dropped) and all(_skipped(argument) or _skipped(argument.value) for argument in dropped)


class _Replace(cst.CSTTransformer):
    def __init__(self, old: cst.CSTNode, new: cst.CSTNode) -> None:
        super().__init__()
        self._old, self._new = old, new

    def on_visit(self, node: cst.CSTNode) -> bool:
        return node is not self._old

    def on_leave(self, original_node: cst.CSTNode, updated_node: Any) -> Any:
        return self._new if original_node is self._old else updated_node

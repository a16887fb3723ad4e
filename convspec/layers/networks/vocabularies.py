"""Choose the framework that a network's text is written in, among those whose words an adapter has."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Mapping

from convspec.contract import FOREIGN, registry
from convspec.contract.network_words import Vocabulary
from convspec.errors import CallError, ConvspecError, UnknownName


@functools.cache
def vocabularies() -> Mapping[str, Vocabulary]:
    """Return the vocabularies of all adapters that have one, by the adapter's name."""
    found = {name: one.vocabulary() for name, one in registry.importable().items()}
    return {name: words for name, words in found.items() if words is not None}


def as_code(text: str) -> str:
    """Return the code of a model whose text is a configuration; any other text as it is."""
    codes = (words.read_config(text) for words in vocabularies().values() if words.read_config)
    return next((code for code in codes if code), text)


def choose(text: str, framework: str | None = None) -> tuple[str, Vocabulary]:
    """Return the adapter whose framework's text it is, and its words.

    It is the framework whose module is imported, else the one that has most of the names that are called.

    Raises:
        CallError: where no framework has the names, or several could.
        UnknownName: for an adapter without words.
    """
    known = vocabularies()
    if framework is not None:
        if framework not in known:
            raise UnknownName("adapter with words for networks", framework, tuple(known))
        return framework, known[framework]
    if printed := [name for name, words in known.items() if words.read_printed and words.read_printed(text)]:
        known = {name: known[name] for name in printed}
    names = _dotted_names(text)
    imported = set(re.findall(r"^\s*(?:import|from)\s+([\w.]+)(?:\s+import\s+(\w+))?", text, re.MULTILINE))
    modules = {f"{a}.{b}" if b else a for a, b in imported} | {a for a, _ in imported}
    scores = {name: _score(words, names, modules) for name, words in known.items()}
    best = max(scores.values(), default=(0, 0))
    if best[0] == 0 and (other := _foreign(names, imported)):
        raise CallError(other, f"{FOREIGN[other]} is no framework that is read here: {_titles(known)}")
    if best <= (0, 0) and not printed:
        raise _unknown(text, names, known)
    chosen = [name for name, score in scores.items() if score == best]
    name = min(chosen, key=lambda name: len(known[name].modules))  # whose short names are most likely its own
    return name, known[name]


def _score(words: Vocabulary, names: set[str], modules: set[str]) -> tuple[int, int]:
    """Return how many modules of the framework are imported, and how many names it knows."""
    imported = sum(1 for module in words.modules if (module in modules and "." in module) or module in modules)
    short = {name: module for module, names in words.modules.items() for name in names}
    count = 0
    for name in names:
        head, _, rest = name.partition(".")
        last = name.rpartition(".")[2]
        has = last in {*words.layers, *words.special, *words.functions, *words.bases}
        if rest and head in short:
            count += 2 * has
        elif not rest:
            count += last in words.layers or last in words.special or 2 * (name in words.forward)
    return imported, count


def _dotted_names(text: str) -> set[str]:
    """Return the names that are called, or stand where a value does, with what they are attributes of, and methods."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return set(re.findall(r"\b[A-Za-z_][\w.]*(?=\()", text))
    nodes = list(ast.walk(tree))
    methods = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return methods | {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}


def _unknown(text: str, names: set[str], known: Mapping[str, Vocabulary]) -> ConvspecError:
    shown = next((n for n in sorted(names) if "." in n), next(iter(sorted(names)), text.strip()[:40]))
    return CallError(shown, f"no framework that is read here has it: {_titles(known)}")


def _titles(known: Mapping[str, Vocabulary]) -> str:
    return ", ".join(dict.fromkeys(words.title for words in known.values()))


def _foreign(names: set[str], imported: Iterable[tuple[str, str]]) -> str | None:
    """Return the module of a library that is not read, if the text imports it or calls its layers; None else."""
    heads = {name.partition(".")[0] for name, _ in imported} | {n.partition(".")[0] for n in names if "." in n}
    return next((head for head in sorted(heads) if head in FOREIGN), None)

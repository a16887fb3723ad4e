"""Check JSON values against one of the package's JSON Schemas, and say in one sentence which rule a value breaks.

It knows the keywords that the schemas of saved runs use. Beyond JSON Schema: a whole number has no fraction (``1.0``
is none), no number is NaN, infinite or beyond float64, and nothing is nested deeper than 64 levels. A schema is
compiled to functions first, as a journal may have a million lines.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_DEPTH = 64
_SHOWN = 60
_LARGEST = sys.float_info.max
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "integer": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "string": ((str,), "a string"),
    "boolean": ((bool,), "true or false"),
    "array": ((list,), "a list"),
    "object": ((dict,), "an object"),
    "null": ((type(None),), "null"),
}
_VALUES: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "const": (lambda value, rule: value == rule, "be {}"),
    "enum": (lambda value, rule: value in rule, "be one of {}"),
    "minimum": (lambda value, rule: value >= rule, "be at least {}"),
    "exclusiveMinimum": (lambda value, rule: value > rule, "be more than {}"),
    "pattern": (lambda value, rule: re.search(rule, value) is not None, "match {}"),
    "minItems": (lambda value, rule: len(value) >= rule, "have at least {} items"),
    "maxItems": (lambda value, rule: len(value) <= rule, "have at most {} items"),
    "uniqueItems": (lambda value, _: len(set(map(str, value))) == len(value), "have no item twice"),
}
_INSIDE = {"properties", "required", "additionalProperties", "items"}
_KNOWN = {"title", "description", "$schema", "$id", "$defs", "$ref", "type", *_INSIDE, *_VALUES}

Schema = Mapping[str, Any]
Broken = tuple[list[str], str]  # the keys from the innermost one outwards, and the rule
Check = Callable[[Any, int], Broken | None]


class JsonRules:
    """The rules of one schema and of each of its definitions.

    >>> rules = JsonRules({"properties": {"index": {"type": "integer", "minimum": 0}}})
    >>> rules.problem({"index": float("inf")})
    'index must be a whole number, but is Infinity'
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._checks: dict[str, Check] = {}

    def problem(self, value: object, definition: str | None = None) -> str | None:
        """Return the first rule of the schema, or of this definition, that a JSON value breaks; None if it fits."""
        broken = self._check(definition)(value, 0)
        if broken is None:
            return None
        keys, rule = broken
        return f"{''.join(reversed(keys)).removeprefix('.') or 'it'} must {rule}"

    def _check(self, definition: str | None) -> Check:
        name = definition or ""
        if name not in self._checks:
            self._checks[name] = self._compile(self._schema["$defs"][name] if name else self._schema)
        return self._checks[name]

    def _compile(self, schema: Schema) -> Check:
        """Return the function that checks a value.

        Raises:
            ValueError: for a keyword that is not known, which would be ignored otherwise.
        """
        if unknown := schema.keys() - _KNOWN:
            raise ValueError(f"unknown keyword in a schema: {', '.join(sorted(unknown))}")
        if "$ref" in schema:
            return self._check(str(schema["$ref"]).removeprefix("#/$defs/"))
        words = schema.get("type", [*_TYPES])
        names = [words] if isinstance(words, str) else words
        types = {kind for name in names for kind in _TYPES[name][0]}
        type_rule = f"be {' or '.join(_TYPES[name][1] for name in names)}"
        rules = [(*_VALUES[keyword], schema[keyword]) for keyword in _VALUES if keyword in schema]
        others = schema.get("additionalProperties", True)
        other = _anything if others is True else None if others is False else self._compile(others)
        known = {key: self._compile(entry) for key, entry in schema.get("properties", {}).items()}
        item = self._compile(schema["items"]) if "items" in schema else _anything
        inside: dict[type, Check] = {
            dict: _object_check(known, other, schema.get("required", ())),
            list: _list_check(item),
        }

        def check(value: Any, depth: int) -> Broken | None:
            kind = type(value)
            if kind not in types:
                return [], f"{type_rule}, but is {_shown(value)}"
            broken = _check_inside(value, depth, inside)
            if broken is not None or (value is None and "type" in schema):  # the other rules are on the other types
                return broken
            for holds, text, rule in rules:
                if not holds(value, rule):
                    stated = text.format(", ".join(rule) if isinstance(rule, list) else rule)
                    return [], f"{stated}, but is {_shown(value)}"
            return None

        return check


def _check_inside(value: Any, depth: int, inside: Mapping[type, Check]) -> Broken | None:
    """Check that a number is finite, and the entries of an object or list."""
    kind = type(value)
    if kind in inside:
        return inside[kind](value, depth + 1) if depth < _DEPTH else ([], f"have at most {_DEPTH} levels")
    if (kind is int or kind is float) and not -_LARGEST <= value <= _LARGEST:
        return [], f"be a finite number, but is {_shown(value)}"
    return None


def _object_check(known: Mapping[str, Check], other: Check | None, required: Sequence[str]) -> Check:
    def check(value: Any, depth: int) -> Broken | None:
        for key in required:
            if key not in value:
                return [_key(key)], "be given"
        for key, entry in value.items():
            inner = known.get(key, other)
            broken = ([], "not be given: there is no such entry") if inner is None else inner(entry, depth)
            if broken is not None:
                broken[0].append(_key(key))
                return broken
        return None

    return check


def _list_check(item: Check) -> Check:
    def check(value: Any, depth: int) -> Broken | None:
        for position, entry in enumerate(value):
            broken = item(entry, depth)
            if broken is not None:
                broken[0].append(f"[{position}]")
                return broken
        return None

    return check


def _anything(value: Any, depth: int) -> Broken | None:
    """Check a value that has no rules of its own."""
    return _check_inside(value, depth, _ANYTHING)


_ANYTHING: dict[type, Check] = {dict: _object_check({}, _anything, ()), list: _list_check(_anything)}


def _key(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{_shown(key)}]"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"

"""The generated tables of the JSON schemas' page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCHEMAS = (
    *("spec", "report", "run", "record", "fuzz", "verify", "baseline"),
    *("diagnosis", "comparison", "judgement", "port", "weights", "diff", "vectors", "explain"),
    *("pack", "gate-file", "gate"),
)


def kind(schema: dict[str, Any]) -> str:
    """Return the type in words."""
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    for word in ("oneOf", "anyOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(kind(one) for one in schema[word]))
    types = schema.get("type", "anything")
    words = " or ".join(types) if isinstance(types, list) else str(types)
    inside = schema.get("items")
    return f"{words} of {kind(inside)}" if isinstance(inside, dict) and "array" in words else words


def property_rows(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[object, ...]]:
    """Yield name, type, whether optional, and description of each property, nested ones too."""
    for name, entry in schema.get("properties", {}).items():
        optional = "" if name in schema.get("required", ()) else "optional"
        yield f"`{prefix}{name}`", kind(entry), optional, entry.get("description", "")
        if entry.get("type") == "object":
            yield from property_rows(entry, f"{prefix}{name}.")


def parts(table: Callable[[tuple[str, ...], list[tuple[object, ...]]], str]) -> dict[str, str]:
    """Return the tables of each schema, by file name: its own properties, then those of its definitions."""
    written = {}
    for name in SCHEMAS:
        (file,) = (ROOT / "convspec").rglob(f"{name}.schema.json")
        schema = json.loads(file.read_text("utf-8"))
        texts = [f"{schema.get('description', schema['title'])}\n"]
        for title, part in (("", schema), *schema.get("$defs", {}).items()):
            rows = list(property_rows(part))
            if rows:
                words = f"**{title}**" + (f": {part['description']}" if part.get("description") else "")
                texts.append((f"{words}\n\n" if title else "") + table(("key", "value", "", "meaning"), rows))
        written[f"schema-{name}"] = "\n".join(texts)
    return written

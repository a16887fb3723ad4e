"""The generated parts of a parameter's page: its names, its layer in four frameworks with the results, its errors."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from site_messages import EXPLAINED, error_list, errors

from convspec import ConvSpec, UnsupportedError, adapter
from convspec.contract import PlanAdapter

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "_data"
FRAMEWORKS = {name: EXPLAINED[name] for name in ("torch", "flax", "keras", "onnx")}
SHORT = 14  # lines; a longer source is folded


def parameters() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = tomllib.loads((DATA / "parameters.toml").read_text("utf-8"))
    return table


def names(entry: dict[str, Any]) -> str:
    lines = ["| framework | name | default |", "|---|---|---|"]
    for key, framework in EXPLAINED.items():
        said = entry[key]
        default = said.get("default", "")
        code = f"`{default}`" if re.fullmatch(r"\(.*\)|'.*'|<.*>|\d+|None|True", default) else default
        name = f"`{said['name']}`" if "name" in said else said["words"]
        lines.append(f"| {framework} | {name} | {code} |")
    return "\n".join(lines) + "\n"


def requests(entry: dict[str, Any]) -> list[tuple[str, dict[str, Any], list[int], str, str, str]]:
    """Return the runs of a page: adapter, layer, input shape, layout, dtype, device."""
    dtype, device = entry.get("dtype", "float32"), entry.get("device", "cpu")
    return [
        (name, entry["layer"], entry["input"], entry.get("layout") or _own(name), dtype, device) for name in FRAMEWORKS
    ]


def _own(name: str) -> str:
    found = adapter(name)
    assert isinstance(found, PlanAdapter)
    return found.native_layout


def run(wanted: list[Any], store: Path) -> list[str]:
    """Return the result of each layer; run only if code or frameworks have changed since the last time."""
    versions = {name: getattr(adapter(name), "versions")() for name in FRAMEWORKS}  # noqa: B009
    sources = [adapter(name).source(ConvSpec.from_dict(layer), at, dtype) for name, layer, _, at, dtype, _ in wanted]
    script = Path(__file__).with_name("site_layers.py")
    key = hashlib.sha256(json.dumps([wanted, versions, sources, script.read_text("utf-8")]).encode()).hexdigest()
    if store.exists() and (stored := json.loads(store.read_text("utf-8")))["key"] == key:
        return list(stored["outcomes"])
    done = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(wanted), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} failed:\n{done.stderr[-2000:]}")
    outcomes: list[str] = json.loads(done.stdout)
    store.write_text(json.dumps({"key": key, "outcomes": outcomes}), "utf-8")
    return outcomes


def layers(entry: dict[str, Any], outcomes: list[str]) -> str:
    spec = ConvSpec.from_dict(entry["layer"])
    parts = [f"```text\n{spec!r}\n```\n", f"{calculator(spec, entry['input'])}\n"]
    parts.append("::::{tab-set}\n:sync-group: framework\n")
    for (name, _, _, layout, dtype, _), outcome in zip(requests(entry), outcomes, strict=True):
        found = adapter(name)
        support = found.support(spec, layout, dtype)
        reason = f": {support.reason}" if support.reason else ""
        parts.append(f":::{{tab-item}} {FRAMEWORKS[name]}\n:sync: {name}\n\n{layout}, *{support}*{reason}\n")
        with suppress(UnsupportedError):
            text = found.source(spec, layout, dtype).strip()
            code = f"```python\n{text}\n```\n"
            if len(text.splitlines()) > SHORT:
                code = f"<details><summary>{len(text.splitlines())} lines</summary>\n\n{code}\n</details>\n"
            parts += [code, f"```text\n{outcome}\n```\n"]
        parts.append(":::\n")
    return "\n".join([*parts, "::::\n"])


def calculator(spec: ConvSpec, shape: list[int]) -> str:
    """Return a link from the page of a parameter that opens the layer in the calculator."""
    query = urlencode({"layer": repr(spec), "input": ", ".join(map(str, shape)), "layout": "NCHW"})
    return f'<a href="../../calculator.html#{escape(query)}">In the calculator</a>'


def parts(folder: Path) -> dict[str, str]:
    """Return every generated file of the parameter pages, by name without ending."""
    pages, known, others = parameters(), errors(), errors("reported")
    wanted = [request for entry in pages.values() for request in requests(entry)]
    outcomes = iter(run(wanted, folder / "outcomes.json"))
    written = {}
    for name, entry in pages.items():
        written[f"{name}-names"] = names(entry)
        written[f"{name}-errors"] = error_list([e for e in [*known, *others] if name in e["parameters"]])
        written[f"{name}-layers"] = layers(entry, [next(outcomes) for _ in FRAMEWORKS])
    return written

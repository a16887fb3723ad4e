"""The pages of published networks: their text, the table of their layers, a picture, and the published totals."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convspec import Network
from convspec.layers import network_table, pictures, summarize

DATA = Path(__file__).parents[1] / "docs" / "_data"


def published() -> dict[str, dict[str, Any]]:
    """Return what is published of each network: input, totals, and where."""
    return tomllib.loads((DATA / "networks.toml").read_text("utf-8"))


def text_of(name: str) -> str:
    """Return a network as it is written by its paper's tables."""
    return (DATA / "networks" / f"{name}.py").read_text("utf-8")


def facts(name: str) -> dict[str, Any]:
    """Return what convspec says of a network."""
    return summarize(Network.parse(text_of(name)), tuple(published()[name]["input"]))


def parts(table: Callable[..., str]) -> dict[str, str]:
    """Return the generated parts: one for each network, and the table of all."""
    found = {name: facts(name) for name in published()}
    pages = {f"network-{name}": _page(name, document) for name, document in found.items()}
    rows = []
    for name, entry in published().items():
        totals = found[name]["totals"]
        parameters = f"{entry['parameters']:,}" if "parameters" in entry else "–"
        size = "×".join(map(str, entry["input"]))
        rows.append((
            f"[{entry['title']}]({name}.md)", size, f"{totals['parameters']:,}", parameters,
            f"{totals['macs'] / 1e9:.3f}", entry.get("gmacs", "–"),
        ))  # fmt: skip
    head = ("network", "input", "parameters", "published", "10⁹ MACs", "published")
    return {**pages, "networks": table(head, rows)}


def _page(name: str, document: dict[str, Any]) -> str:
    entry = published()[name]
    words = [f"Published: {entry['source']}."]
    picture = pictures.feature_maps(document)
    return "\n\n".join([
        " ".join(words), f'```{{raw}} html\n<div class="picture">{picture}</div>\n```', "## As text",
        f"```py\n{text_of(name).strip()}\n```", "## Layer by layer", network_table.markdown(document),
    ])  # fmt: skip

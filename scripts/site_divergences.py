"""The table of divergences, and the text at the end of each page that can be filed in an issue tracker."""

from __future__ import annotations

import re
import tomllib
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "divergences"
FRAMEWORKS = {
    "tensorflow": "TensorFlow", "onnxruntime": "ONNX Runtime", "onnx": "ONNX", "torch": "PyTorch", "jax": "JAX",
    "flax": "Flax", "keras": "Keras", "openvino": "OpenVINO", "equinox": "Equinox",
    "mlx": "MLX", "litert": "LiteRT", "ncnn": "ncnn",
}  # fmt: skip
KINDS = ("wrong numbers", "shape", "crash", "refusal", "other meaning")


def facts() -> dict[str, dict[str, Any]]:
    """Return what the table says of each page."""
    return tomllib.loads((ROOT / "docs" / "_data" / "divergences.toml").read_text("utf-8"))


def part(text: str, name: str) -> str:
    """Return the paragraph of a page that begins with this word in bold."""
    found = re.search(rf"^\*\*{name}\*\* ?(.*?)(?=\n\n)", text + "\n\n", re.M | re.S)
    return " ".join(found[1].split()) if found else ""


def block(text: str, kind: str) -> str:
    """Return the page's code block of a kind."""
    found = re.search(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)
    return found[1] if found else ""


def title(text: str) -> str:
    return next(line[2:] for line in text.splitlines() if line.startswith("# "))


def framework(page: str) -> str:
    """Return the framework of a page by the first word of its name."""
    word = page.partition("-")[0]
    return FRAMEWORKS.get(word, word)


def table() -> str:
    """Return the table as HTML, with the fields that filter it."""
    known = facts()
    rows = []
    for page in sorted(PAGES.glob("*.md")):
        if page.stem != "index":
            text = page.read_text("utf-8")
            rows.append(_row(page.stem, text, known.get(page.stem, {})))
    frameworks = sorted({framework(page.stem) for page in PAGES.glob("*.md") if page.stem != "index"})
    heads = ("divergence", "framework", "kind", "silent", "trigger", "upstream")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f'<form class="calculator filter" id="filter" aria-label="Filter the table"><div class="row">\n'
        f"{_choice('framework', frameworks)}{_choice('kind', KINDS)}{_choice('silent', ('silent', 'raises'))}"
        f"{_choice('upstream', ('reported', 'confirmed', 'fixed', 'none'))}"
        f'<div><label for="f-text">words</label><input id="f-text" type="search"></div></div>'
        f'<p role="status" id="filter-count">{len(rows)} divergences</p></form>\n'
        f'<div class="table-wrapper" tabindex="0" role="region" aria-label="Divergences">'
        f'<table class="docutils" id="divergences">'
        f"<thead><tr>{head}</tr></thead><tbody>\n{''.join(rows)}</tbody></table></div>\n"
        f'<script type="module" src="../_static/divergences.js"></script>\n'
    )


def _choice(name: str, values: Any) -> str:
    options = "".join(f"<option>{escape(value)}</option>" for value in values)
    return (f'<div><label for="f-{name}">{name}</label><select id="f-{name}" data-column="{name}">'
            f'<option value="">all</option>{options}</select></div>\n')  # fmt: skip


def _row(page: str, text: str, known: dict[str, Any]) -> str:
    name = re.sub(r"^[^:]{2,40}?: ", "", title(text))
    seen, state = part(text, "Seen with"), known.get("state", "")
    link = f'<a href="{escape(known["upstream"])}">{escape(state)}</a>' if "upstream" in known else "none found"
    cells = [
        f'<a href="{page}.html">{_html(name[0].upper() + name[1:])}</a>',
        f"<b>{framework(page)}</b><br>{escape(seen.split(';')[0].rstrip('.'))}",
        escape(known.get("kind", "–")),
        {True: "silent", False: "raises"}.get(known.get("silent"), "–"),
        _html(known.get("trigger", "–")),
        link,
    ]
    columns = {"framework": framework(page), "kind": known.get("kind", ""), "silent": cells[3],
               "upstream": state.split(",")[0] or "none"}  # fmt: skip
    data = "".join(f' data-{name}="{escape(value)}"' for name, value in columns.items())
    return f"<tr{data}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"


def _html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def issue(text: str) -> str:
    """Return the text of an issue: what was expected, what happens, the script, what it prints, the versions."""
    return (
        f"# {title(text)}\n\n{part(text, 'Actual.')}\n\nExpected: {part(text, 'Expected.')}\n\n"
        f"Versions: {part(text, 'Seen with')}\n\nTo reproduce:\n\n```python\n{block(text, 'python')}```\n\n"
        f"It prints:\n\n```\n{block(text, 'text')}```\n"
    )


def add_issue(_app: Sphinx, page: str, source: list[str]) -> None:
    """Append to a page the text that can be filed, and the link to the public issue, if any."""
    name = page.removeprefix("divergences/")
    if name in (page, "index"):
        return
    known = facts().get(name, {})
    link = f"A public thread exists ({known['state']}): <{known['upstream']}>\n\n" if "upstream" in known else (
        "No public issue about it was found.\n\n")  # fmt: skip
    source[0] += f"\n## Text for the issue tracker\n\n{link}````text\n{issue(source[0])}````\n"

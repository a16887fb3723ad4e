"""The pages of error messages: one for each framework, their index, and the data of the page that explains a message.

The source is each adapter's ``messages.toml``. The page's JavaScript gets the same patterns, conditions and texts; an
expression is translated here, so that the browser evaluates nothing.
"""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from typing import Any

from convspec import adapter
from convspec.layers import messages

EXPLAINED = {
    "torch": "PyTorch", "flax": "Flax (nnx)", "keras": "Keras", "onnx": "ONNX", "equinox": "Equinox",
    "openvino": "OpenVINO", "mlx": "MLX", "litert": "LiteRT", "ncnn": "ncnn",
}  # fmt: skip
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%", ast.Eq: "==", ast.NotEq: "!=",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


def tables(framework: str) -> dict[str, Any]:
    """Return the messages of a framework as its adapter declares them, and the setup of their code."""
    return tomllib.loads(adapter(framework).messages())


def errors(kind: str = "error") -> list[dict[str, Any]]:
    """Return the messages of errors that ran, or that were ``reported`` from other devices, runtimes and releases."""
    return [{**entry, "framework": name} for name in EXPLAINED for entry in tables(name).get(kind, ())]


def error_list(found: list[dict[str, Any]]) -> str:
    """Return the messages as a list of a parameter's page."""
    lines = []
    for error in found:
        said = error["says"] or error["title"]
        where = error.get("where") or EXPLAINED[error["framework"]]
        lines += [f"[{where}](#{error['id']}): {_code(said)}", f": {error['means']}\n"]
    return "\n".join(lines) or "None of the frameworks has an error message of its own here.\n"


def _code(text: str) -> str:
    """Return the text as code, even with backticks of its own."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def page(framework: str) -> str:
    """Return all messages of a framework: the text, its meaning, the pages that explain it, the code that raises it."""
    found = tables(framework)
    parts = [f"<details><summary>setup code</summary>\n\n```python\n{found['setup'].strip()}\n```\n\n</details>\n"]
    for error in found["error"]:
        parts += [*_explained(error), f"```python\n{error['code'].strip()}\n```\n"]
    return "\n".join(parts)


def reported_page() -> str:
    """Return the reported messages: their source, their meaning, and links to the reports."""
    parts = []
    for error in errors("reported"):
        links = ", ".join(f"[{thread(link)}]({link})" for link in error["links"])
        parts += [*_explained(error), f"{error['where'][0].upper()}{error['where'][1:]}; seen in {links}.\n"]
    return "\n".join(parts)


def _explained(error: dict[str, Any]) -> list[str]:
    pages = ", ".join(f"[`{name}`](../parameters/{name}.md)" for name in error["parameters"])
    return [
        f"({error['id']})=\n## {error['title']}\n",
        f"```text\n{error['says'] or 'AssertionError'}\n```\n",
        f"{error['means']} See {pages}.\n",
    ]


def index(framework: str) -> str:
    """Return links to the messages of a framework; each has the anchor of the message."""
    found = errors("reported") if framework == "others" else tables(framework)["error"]
    return "\n".join(f'* <span id="{e["id"]}"></span>[{e["title"]}](#{e["id"]})' for e in found) + "\n"


def thread(link: str) -> str:
    """Return ``owner/repository#number`` of an issue or a pull request."""
    owner, repository, _, number = link.removeprefix("https://github.com/").split("/")[:4]
    return f"{owner}/{repository}#{number}"


def parts() -> dict[str, str]:
    """Return every generated file of these pages, by name without ending."""
    pages = {f"errors-{name}": page(name) for name in EXPLAINED} | {"errors-others": reported_page()}
    return pages | {f"errors-{name}-index": index(name) for name in (*EXPLAINED, "others")}


# -- the page in the browser -------------------------------------------------------------------------------------------


def script(text: str) -> str:
    """Return an expression over the numbers of a message as JavaScript over ``v``."""
    return _script(ast.parse(text, mode="eval").body)


def _script(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return f"v.{node.id}"
    if isinstance(node, ast.Constant):
        return json.dumps(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return f"-{_script(node.operand)}"
    if isinstance(node, ast.BoolOp):
        return f"({(' && ' if isinstance(node.op, ast.And) else ' || ').join(map(_script, node.values))})"
    if isinstance(node, ast.BinOp):
        return f'o["{_OPERATORS[type(node.op)]}"]({_script(node.left)}, {_script(node.right)})'
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
        return f"[{', '.join(map(_script, getattr(node.comparators[0], 'elts')))}].includes({_script(node.left)})"  # noqa: B009
    if isinstance(node, ast.Compare):
        return f'o["{_OPERATORS[type(node.ops[0])]}"]({_script(node.left)}, {_script(node.comparators[0])})'
    if isinstance(node, ast.Subscript):
        return f"o.at({_script(node.value)}, {_script(node.slice)})"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return f"o.{node.func.id}({', '.join(map(_script, node.args))})"
    raise ValueError(f"no JavaScript for {ast.unparse(node)}")


def data() -> str:
    """Return the JavaScript module of all messages."""
    entries = []
    for kind in ("error", "reported"):
        for e in errors(kind):
            own = adapter(e["framework"])
            fixes = [f"[{_function(f.get('when'))}, {json.dumps(f['text'])}]" for f in e.get("fix", ())]
            values = [f"{name}: {_function(text)}" for name, text in e.get("let", {}).items()]
            pattern = e["pattern"].translate(messages.QUOTES) if "pattern" in e else messages.pattern_of(e["says"])
            place = "others" if kind == "reported" else e["framework"]
            address = f"reference/messages/{place}.html#{e['id']}"
            plain = {
                "id": e["id"], "where": e.get("where") or messages.NAMES[e["framework"]], "title": e["title"],
                "means": e["means"], "parameters": e["parameters"], "page": address,
                "roots": [*own.requires, own.name], "pattern": pattern.replace("(?P<", "(?<"),
            }  # fmt: skip
            entries.append(f"{{ ...{json.dumps(plain)}, values: {{ {', '.join(values)} }}, "
                           f"when: {_function(e.get('when'))}, fix: [{', '.join(fixes)}] }}")  # fmt: skip
    limits = f"export const [LONGEST, SHORTEST] = [{messages.LONGEST}, {messages.SHORTEST}];\n"
    listed = ",\n".join(entries)
    return f"// Written by scripts/site_messages.py.\n{limits}export const messages = (o) => [\n{listed}\n];\n"


def _function(text: str | None) -> str:
    return "null" if text is None else f"(v) => {script(text)}"


def main(site: Path) -> None:
    """Write the data into a built site."""
    (site / "_static" / "explain-data.js").write_text(data(), "utf-8")

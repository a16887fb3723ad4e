"""Write the parts of the site that follow from the code: ``docs/_generated/``, at every build of the docs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

from convspec import adapter, adapters, corpora
from convspec.planned import PlannedAdapter

FOLDER = Path(__file__).parents[1] / "docs" / "_generated"


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def adapter_table() -> str:
    rows: list[tuple[object, ...]] = []
    for name in adapters():
        found = adapter(name)
        if isinstance(found, PlannedAdapter):
            needs = ", ".join(f"`{package}`" for package in found.distributions)
            rows.append((f"`{name}`", needs, found.native_layout, ", ".join(found.dtypes), ", ".join(found.variants)))
    return table(("adapter", "runs on", "own layout", "dtypes", "variants"), rows)


def gap_list() -> str:
    files = {found.gaps(): name for name in reversed(adapters()) if (found := adapter(name))}
    entries = []
    for text, first in sorted(files.items(), key=lambda item: item[1]):
        for gap in tomllib.loads(text).get("gap", ()):
            named = ", ".join(f"`{name}`" for name in gap.get("adapters", [f"{first}*"]))
            where = f" [Where it is reported]({gap['link']})." if gap.get("link") else ""
            condition = textwrap.indent(textwrap.dedent(gap["when"]).strip(), "  ")
            entries.append(
                f"`{gap['id']}` ({named}, {gap['kind']})\n: {gap['reason']}.{where}\n\n  ```text\n{condition}\n  ```\n"
            )
    return "\n".join(entries)


def corpus_table() -> str:
    rows: list[tuple[object, ...]] = []
    for name in corpora.names():
        cases = corpora.load(name)
        ranks = sorted({case.spec.ndim for case in cases})
        rows.append((f"`{name}`", f"{len(cases):,}", ", ".join(f"{rank}-D" for rank in ranks)))
    return table(("corpus", "cases", "ranks"), rows)


def command_help() -> str:
    """What ``convspec --help`` prints, and the help of each command."""
    from typer.main import get_command

    from convspec.cli import app

    parts = []
    for words in ([], *([name] for name in sorted(getattr(get_command(app), "commands", {})))):
        shown = subprocess.run(
            [str(Path(sys.executable).with_name("convspec")), *words, "--help"],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"},
        ).stdout
        text = "\n".join(line.rstrip() for line in shown.strip().splitlines())
        parts.append(f"## {' '.join(['convspec', *words])}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    parts = {"adapters": adapter_table, "gaps": gap_list, "corpora": corpus_table, "cli": command_help}
    for name, text in ((name, write()) for name, write in parts.items()):
        (FOLDER / f"{name}.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()

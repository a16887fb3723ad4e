"""All output of the command line passes one writer, so that a new report cannot forget what it takes care of."""

import ast
from pathlib import Path

import pytest

CLI = Path(__file__).parents[2] / "convspec" / "cli"
WRITERS = {"console.py", "streams.py", "terminal.py"}


def uses(tree):
    """The names and attributes that a module uses, dotted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call | ast.Attribute):
            yield ast.unparse(node.func if isinstance(node, ast.Call) else node)


@pytest.mark.parametrize("path", sorted(CLI.rglob("*.py")), ids=lambda path: str(path.relative_to(CLI)))
def test_no_other_module_of_the_command_line_writes_by_itself(path):
    named = set(uses(ast.parse(path.read_text("utf-8"))))
    forbidden = {"print", "sys.stdout", "sys.stderr", "typer.echo", "Console", "os.write", "open", "write_text"}
    if path.name not in WRITERS:
        assert not {name for name in named if name in forbidden or name.split(".")[-1] in ("write_text", "write_bytes")}

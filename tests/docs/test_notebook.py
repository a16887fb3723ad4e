"""The notebook is executed, cell by cell, as Jupyter would; its drawing is an SVG."""

import ast
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "tour.ipynb"


@pytest.mark.torch
@pytest.mark.keras
def test_every_cell_runs(capsys):
    document = json.loads(NOTEBOOK.read_text("utf-8"))
    assert document["nbformat"] == 4
    space, shown = {}, []
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse(cell["source"])
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, NOTEBOOK.name, "exec"), space)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), space))
    drawn = [value for value in shown if hasattr(value, "_repr_svg_")]
    assert [ET.fromstring(one._repr_svg_()).tag.endswith("svg") for one in drawn] == [True]
    printed = capsys.readouterr().out
    assert "(1, 16, 112, 112)" in printed
    assert "torch (1, 16, 16, 16)" in printed
    assert "keras (1, 16, 16, 16)" in printed
    assert "same-as-symmetric" in printed
    assert "nn.Linear(10816, 10)" in printed

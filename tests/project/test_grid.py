"""The grid's cells, what is stored of a run, and the page."""

import json
from importlib import import_module

import pytest

from convspec import Case, ConvSpec
from convspec.conformance.results import Report, Result


@pytest.fixture(scope="module")
def grid():
    return import_module("grid")


def result(case, **changes):
    fields = {
        "case": case, "adapter": "a", "request": "a", "variant": "default", "precision": "shipped", "support": "native",
        "support_reason": "", "verdict": "agree", "reason": "", "accuracy_class": None, "evidence": {}, "gap": None,
        "seconds": 0.5,
    }  # fmt: skip
    return Result(**fields | changes)


def test_the_grid_has_thousands_of_different_layers_that_fit(grid):
    cells = list(grid.cells())
    assert len(cells) == len({case.spec for case in cells}) == len({case.name for case in cells}) >= 2000
    assert all(min(case.spec.output_shape(case.input_shape)) > 0 for case in cells)


def test_the_stored_cells_are_the_grids(grid):
    stored = json.loads(grid.STORE.read_text("utf-8"))
    assert stored["cells"] == [case.name for case in grid.cells()]
    for name, own in stored["adapters"].items():
        assert own["cells"].keys() <= set(stored["cells"]), name
        assert "unexpected" not in own["cells"].values(), name


def test_a_cell_has_the_worst_verdict_and_other_versions_show_what_changed(grid):
    first, second = list(grid.cells())[:2]
    report = Report({"versions": {"lib": "1"}}, tuple(map(result, (first, second))))
    worse = result(first.varied(layout="NHWC"), verdict="disagree", gap="known")
    stored = grid.counted(report, {})
    assert stored["adapters"]["a"]["cells"] == {first.name: "agree", second.name: "agree"}
    assert stored["adapters"]["a"]["changed"] == []
    later = grid.counted(Report({"versions": {"lib": "2"}}, (*report.results, worse)), stored)
    assert later["adapters"]["a"]["changed"] == [[first.name, "agree", "gap"]]
    again = grid.counted(Report({"versions": {"lib": "2"}}, (*report.results, worse)), later)
    assert again["adapters"]["a"]["changed"] == [[first.name, "agree", "gap"]]
    other = grid.counted(Report({"versions": {}}, (result(first, request="b"),)), later)
    assert other["adapters"]["a"] == later["adapters"]["a"]
    with pytest.raises(SystemExit, match="not a cell"):
        grid.counted(Report({"versions": {}}, (result(Case(ConvSpec(1, 1, 1), (1, 1, 2, 2))),)), {})


def test_the_page_says_what_was_run(grid, tmp_path, monkeypatch):
    first, second = list(grid.cells())[:2]
    report = Report({"versions": {"lib": "1"}}, (result(first, verdict="unsupported", support="unsupported"),))
    monkeypatch.setattr(grid, "STORE", tmp_path / "grid.json")
    grid.STORE.write_text(json.dumps(grid.counted(report, {})))
    text = grid.page()
    assert "`a` (lib 1): 1 – – the run reached 1 cells" in text
    assert text.count("<tr><td>") == len(list(grid.cells()))
    assert "<td>–</td></tr>" in text
    assert second.name.split("; ")[0] in text

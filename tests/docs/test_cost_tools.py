"""The page of cost tools: it is whole, its columns of convspec are what the code says, and the code counts products."""

import cost_tools
import pytest

from convspec import ShapeError, corpora

PAGE = cost_tools.PAGE.read_text("utf-8")
HEADS = ("| layer | products |", "| layers | number |", "| text | products |", "| network | input |")


def rows(head):
    """Return the rows of the table that begins so, each a list of cells."""
    lines = PAGE[PAGE.index(head) :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


OURS = (cost_tools.layer_rows, cost_tools.class_rows, cost_tools.way_rows, cost_tools.network_rows)


@pytest.mark.parametrize(("head", "expected"), [*zip(HEADS, OURS, strict=True)])
def test_our_columns_are_what_the_code_says(head, expected):
    expected = [list(map(str, row)) for row in expected()]
    found = rows(head)
    assert [row[: len(expected[0])] for row in found] == expected
    assert {len(row) for row in found} == {len(expected[0]) + len(cost_tools.TOOLS)}


def test_every_tool_has_its_version_and_its_answer():
    answers = PAGE[PAGE.index("## Which tool") : PAGE.index("## What is counted")]
    for name, version in cost_tools.PACKAGES.items():
        assert f"{name} {version}" in PAGE
        assert f"**{name}**" in answers
    assert "**unknown**" not in PAGE


def test_the_counter_of_pytorch_agrees_everywhere():
    for head in (HEADS[0], HEADS[2], HEADS[3]):
        column = PAGE[PAGE.index(head) :].partition("\n")[0].strip("| ").split(" | ").index("FlopCounterMode")
        assert {row[column] for row in rows(head)} == {"="}
    assert all(row[1] == row[2] for row in rows(HEADS[1]))


def test_macs_are_the_products_of_the_oracle():
    for spec, shape in [*cost_tools.LAYERS.values(), *cost_tools.corpus()]:
        assert cost_tools.defined(spec, shape)[0] == spec.macs(shape)


def test_the_corpus_leaves_out_only_empty_inputs_and_layers_without_an_output():
    kept = {spec for spec, _ in cost_tools.corpus()}
    for case in corpora.load("features"):
        if case.spec not in kept and all(case.input_shape):
            with pytest.raises(ShapeError):
                case.spec.output_shape(case.input_shape)


def test_a_fault_is_named_by_its_rule():
    spec, shape = cost_tools.LAYERS["transposed, groups"]
    assert cost_tools.cause(spec, shape, 4 * spec.macs(shape)) == "output pixels instead of input pixels"
    assert cost_tools.cause(spec, shape, spec.macs(shape) // 4) == "divided by the groups twice"
    assert "unknown" in cost_tools.cause(spec, shape, 1)

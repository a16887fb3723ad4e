"""The drawing's marks are the cells that the oracle reads."""

import numpy as np
import pytest
from hypothesis import assume, given, settings

from convspec import ConvParams, ConvSpec, ShapeError, reference, strategies
from convspec.layers.pictures import text
from convspec.layers.pictures.text import BEYOND, CELL, PAD, READ, legend, lines, small, strips


@settings(max_examples=60, deadline=None)
@given(strategies.specs())
def test_marks_are_what_the_oracle_reads(spec):
    """An impulse at an input cell reaches exactly the outputs whose row has a mark there."""
    spec = ConvSpec(1, 1, spec.kernel_size, spec.stride, spec.padding, spec.dilation, bias=False,
                    transposed=spec.transposed, output_padding=spec.output_padding, ndim=spec.ndim)  # fmt: skip
    sizes = small(spec)
    assume(np.prod(sizes) < 300)
    try:
        drawn = strips(spec, sizes)
    except ShapeError:
        assume(False)
    params = ConvParams(np.ones(spec.kernel_shape))
    place = tuple(n // 2 for n in sizes)
    x = np.zeros((1, 1, *sizes))
    x[(0, 0, *place)] = 1
    reached = reference.conv(spec, params, x)[0, 0] != 0
    along = []
    for strip, p in zip(drawn, place, strict=True):
        cells = [i for i, c in enumerate(strip.cells) if c == CELL]
        if spec.transposed:
            kept = [i for i, c in enumerate(strip.cells) if c in CELL + BEYOND]
            along.append([i in strip.marked[p] for i in kept])
        else:
            along.append([cells[p] in marks for marks in strip.marked])
    wanted = along[0]
    for axis in along[1:]:
        wanted = np.multiply.outer(wanted, axis)
    np.testing.assert_array_equal(reached, np.asarray(wanted, bool))


def test_one_axis():
    assert lines(ConvSpec(1, 1, (3,), 2, 1), (5,)) == [
        "y[0]  ▨ ■ ■ □ □ □ ·",
        "y[1]  · □ ■ ■ ■ □ ·",
        "y[2]  · □ □ □ ■ ■ ▨",
    ]
    assert lines(ConvSpec(1, 1, (2,), padding="causal", dilation=2), (3,)) == [
        "y[0]  ▨ · ■ □ □",
        "y[1]  · ▨ □ ■ □",
        "y[2]  · · ■ □ ■",
    ]


def test_a_transposed_axis_is_a_scatter_that_is_cropped_or_extended():
    assert lines(ConvSpec(1, 1, (3,), 2, 1, transposed=True), (3,)) == [
        "x[0]  ▨ ■ ■ □ □ □ ·",
        "x[1]  · □ ■ ■ ■ □ ·",
        "x[2]  · □ □ □ ■ ■ ▨",
    ]
    assert lines(ConvSpec(1, 1, (2,), 3, transposed=True, output_padding=1), (2,)) == [
        "x[0]  ■ ■ □ □ □ +",
        "x[1]  □ □ □ ■ ■ +",
    ]


def test_two_axes_are_grids_side_by_side():
    assert lines(ConvSpec(1, 1, (2, 3), padding=((1, 0), (0, 1))), (2, 4)) == [
        "y[0, 0]      y[0, 1]      y[1, 0]      y[1, 2]",
        "▨ ▨ ▨ · ·    · ▨ ▨ ▨ ·    · · · · ·    · · · · ·",
        "■ ■ ■ □ ·    □ ■ ■ ■ ·    ■ ■ ■ □ ·    □ □ ■ ■ ▨",
        "□ □ □ □ ·    □ □ □ □ ·    ■ ■ ■ □ ·    □ □ ■ ■ ▨",
    ]


def test_three_axes_are_drawn_one_by_one_and_long_ones_in_part():
    drawn = lines(ConvSpec(1, 1, (1, 2, 3)), (3, 4, 9))
    assert [line for line in drawn if "along" in line] == ["along D", "along H", "along W"]
    assert "…" in drawn
    assert drawn[-1] == "y[6]  □ □ □ □ □ □ ■ ■ ■"


def test_what_is_too_wide_is_not_drawn():
    assert lines(ConvSpec(1, 1, (40,)), (50,)) == []


@pytest.mark.parametrize(
    "spec", [ConvSpec(1, 1, 3, 2, "same"), ConvSpec(1, 1, (5,), 3, "same"), ConvSpec(1, 1, 4, 2, 1)]
)
@pytest.mark.parametrize("size", [7, 32, 33, 224, 1000])
def test_the_drawn_size_leaves_the_same_rests(spec, size):
    spatial = (size,) * spec.ndim
    drawn = small(spec, spatial)
    shapes = [(1, 1, *spatial), (1, 1, *drawn)]
    assert spec.explicit(shapes[0]).padding == spec.explicit(shapes[1]).padding
    assert lines(spec, drawn)


def test_the_legend_has_the_signs_that_occur():
    spec = ConvSpec(1, 1, (3,))
    assert legend(spec, lines(spec, (4,))) == "■ read, □ not read"
    assert text.READ_PAD not in legend(spec, [READ])
    assert PAD in legend(ConvSpec(1, 1, (3,), padding=1), [PAD])

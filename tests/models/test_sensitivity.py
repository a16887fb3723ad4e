"""What a perturbation moves, and by how much: units in the last place, in every format."""

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec
from convspec.contract import Part, Reading
from convspec.models.comparison.run_both import SCALE, further_inputs, untried
from convspec.models.comparison.temporary_weights import _move_inputs, _move_part, measure
from convspec.reference import Spread
from convspec.reference import move_numbers as move
from convspec.spec import representable, rounded, steps
from tests.models.numpy_models import opened


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("units", [1.0, 3.0])
def test_numbers_move_by_whole_units_in_the_last_place(dtype, units):
    x = np.random.default_rng(0).standard_normal((6, 50)).astype(dtype)
    moved = move(x, np.random.default_rng(1), units)
    steps = (moved.astype(np.float64) - x) / np.spacing(np.abs(x)).astype(np.float64)
    assert moved.dtype == dtype
    assert {*np.unique(steps)} == {-2 * units, 0, 2 * units}
    signs = [{*np.unique(row)} for row in steps]
    assert all(row <= {0, 2 * units} or row <= {0, -2 * units} for row in signs)  # each row has a sign of its own


def test_bfloat16_moves_in_its_own_units():
    x = rounded(np.random.default_rng(0).standard_normal((4, 40)), "bfloat16").astype(np.float32)
    moved = move(x, np.random.default_rng(1), 1.0, coarse=True)
    assert representable(moved, "bfloat16")
    assert (moved != x).any()


def test_what_has_no_last_place_stays():
    x = np.array([[np.nan, np.inf, -np.inf, 0.0]], np.float32)
    moved = move(x, np.random.default_rng(0), 1.0)
    assert np.array_equal(moved[:, :3], x[:, :3], equal_nan=True)
    whole = np.arange(4)
    assert move(whole, np.random.default_rng(0), 1.0) is whole
    assert (
        np.finfo(np.float32).max == move(np.full((1, 9), np.finfo(np.float32).max), np.random.default_rng(0), 1.0).max()
    )


def test_further_inputs_keep_shapes_formats_and_whole_numbers():
    x = (5 + 3 * np.random.default_rng(0).standard_normal((2, 3, 40, 40))).astype(np.float32)
    ids = np.arange(12).reshape(2, 6)
    drawn, scaled = further_inputs([x, ids]).values()
    assert drawn[0].shape == x.shape
    assert drawn[0].dtype == np.float32
    assert abs(drawn[0].mean() - 5) < 0.2
    assert abs(drawn[0].std() - 3) < 0.2
    assert np.array_equal(np.sort(drawn[1], None), np.sort(ids, None))
    assert np.array_equal(scaled[0], x * SCALE)
    assert np.array_equal(scaled[1], ids)


def test_named_inputs_and_whole_numbers_are_permuted_only():
    named = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    (other,) = further_inputs(named).values()
    assert np.array_equal(np.sort(other["x"], None), np.sort(named["x"], None))
    assert list(further_inputs([np.arange(6)])) == ["the given inputs permuted"]


def test_what_was_not_tried_is_said():
    odd, even = np.zeros((1, 3, 7, 9)), np.zeros((1, 3, 8, 8))
    assert "even sizes" in " ".join(untried([odd], [], "NCHW"))
    assert "even sizes" not in " ".join(untried([odd, even], [], "NCHW"))
    assert "other sizes" in untried([even], [], "NCHW")
    assert "other sizes" not in untried([odd, even], [], "NCHW")


def test_inputs_move_by_one_unit_where_the_weights_move_too():
    """More would stand for the roundings of layers whose weights have moved already: a limit too wide."""
    spec = ConvSpec(64, 2, (5, 5))
    x = np.random.default_rng(0).standard_normal((1, 64, 6, 6)).astype(np.float32)
    a = opened(lambda run, x: (run("same", steps.Identity(), x), run("conv", spec, x)), x)
    assert a.parts
    spread = Spread.of(a.results(a.inputs))
    for seed in range(4):
        measure(a, [a.inputs], [spread], seed)
    assert not spread.inputs_only
    units = spread.moved[0] / np.spacing(np.abs(x)).astype(np.float64)
    assert units.max() == 1


def test_inputs_by_name_move_as_those_in_order():
    x = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    named = _move_inputs({"x": x, "ids": np.arange(3)}, np.random.default_rng(1), 2.0)
    (first, _) = _move_inputs([x, np.arange(3)], np.random.default_rng(1), 2.0)
    assert list(named) == ["x", "ids"]
    assert np.array_equal(named["x"], first)
    assert (first != x).any()


@pytest.mark.parametrize(("dtype", "coarse", "place", "units"), [
    (np.float16, False, 1.0, 1.0), (np.float32, False, 1.0, 8.0), (np.float32, True, 2.0**16, 1.0),
])  # fmt: skip
def test_weights_of_long_sums_move_more_but_not_in_a_coarse_format(dtype, coarse, place, units):
    """A product of 1,024 float32 numbers is rounded by some 8 units in all; float16 weights are rounded once."""
    spec = ConvSpec(1024, 2, 1, bias=False)
    kernel = rounded(np.random.default_rng(0).standard_normal(spec.kernel_shape), "bfloat16").astype(dtype)
    part = Part("conv", "conv", "Conv", Reading(spec, ConvParams(kernel), "NCHW"))
    moved = _move_part(part, np.random.default_rng(1), coarse=coarse)["kernel"]
    steps = (moved.astype(np.float64) - kernel) / (np.spacing(np.abs(kernel)).astype(np.float64) * place)
    assert {*np.unique(np.abs(steps))} == {0, 2 * units}

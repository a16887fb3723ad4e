"""Axis orders: the permutations are those that NumPy's transpose needs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec.errors import UnknownName
from convspec.spec import layouts

ORDERS = ["NC*", "N*C", "OI*", "*IO", "*OI", "IO*"]


@given(
    st.sampled_from([("NC*", "N*C"), ("OI*", "*IO"), ("IO*", "*OI"), ("OI*", "IO*")]), st.integers(1, 4), st.booleans()
)
def test_permutation_moves_every_axis_to_its_letter(orders, ndim, back):
    source, target = reversed(orders) if back else orders
    sizes = {letter: size for size, letter in enumerate(layouts.expand(source, ndim), 2)}
    array = np.empty([sizes[letter] for letter in layouts.expand(source, ndim)])
    moved = array.transpose(layouts.permutation(source, target, ndim))
    assert moved.shape == tuple(sizes[letter] for letter in layouts.expand(target, ndim))
    assert moved.shape == layouts.permute(array.shape, source, target, ndim)
    assert layouts.move_axes(array, source, target).strides == moved.strides


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_arrays_move_from_layout_to_layout_and_to_orders(ndim):
    x = np.arange(2 * 3 * 5**ndim).reshape(2, 3, *(5,) * ndim)
    last = layouts.move_axes(x, "NCHW", "NHWC")
    np.testing.assert_array_equal(last, np.moveaxis(x, 1, -1))
    np.testing.assert_array_equal(layouts.move_axes(last, "NHWC", "NC*"), x)
    with pytest.raises(UnknownName):
        layouts.move_axes(x, "NCHW", "NWHC")


@pytest.mark.parametrize(
    ("layout", "ndim", "name", "family"),
    [
        ("NCHW", 1, "NCW", "NCHW"),
        ("NWC", 1, "NWC", "NHWC"),
        ("NHWC", 2, "NHWC", "NHWC"),
        ("NCDHW", 3, "NCDHW", "NCHW"),
        ("NHWC", 3, "NDHWC", "NHWC"),
        ("NCHW", 4, "NCabcd", "NCHW"),
    ],
)
def test_one_layout_has_a_name_at_every_rank(layout, ndim, name, family):
    assert layouts.name(layout, ndim) == name
    assert layouts.family(layout, ndim) == family


@pytest.mark.parametrize(("layout", "ndim"), [("NCW", 2), ("NDHWC", 2), ("nchw", 2), ("HWC", 2), ("", 1)])
def test_other_names_are_refused_with_the_known_ones(layout, ndim):
    with pytest.raises(UnknownName, match="Known: NCHW, NHWC"):
        layouts.family(layout, ndim)


def test_shapes_go_there_and_back():
    assert layouts.shape_in((2, 3, 5, 7), "NHWC", 2) == (2, 5, 7, 3)
    assert layouts.canonical_shape((2, 5, 7, 3), "NHWC", 2) == (2, 3, 5, 7)

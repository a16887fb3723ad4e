"""Counts that the bounds rest on, and chains through transposed layers, against counting pixel by pixel."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from convspec import ConvParams, ConvSpec
from convspec.spec import shapes
from convspec.spec.parameters import exact_budget

SMALL = st.integers(1, 5)
MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@given(st.tuples(SMALL, SMALL), st.tuples(SMALL, SMALL), st.tuples(SMALL, SMALL))
def test_so_many_taps_meet_in_one_pixel_of_a_scatter(kernel, stride, dilation):
    """Of a long input, whose pixels in the middle are reached by all phases of the stride."""
    meeting = 1
    for k, s, d in zip(kernel, stride, dilation, strict=True):
        meeting *= max(Counter(i * s + j * d for i in range(60) for j in range(k)).values())
    assert shapes.overlap(ConvSpec(2, 3, kernel, stride, 0, dilation, transposed=True)) == meeting


@given(st.tuples(SMALL, SMALL), st.tuples(*[st.integers(0, 4)] * 4), st.sampled_from(sorted(MODES)))
def test_no_pixel_is_copied_more_often_by_a_pad_than_that(spatial, pads, mode):
    pairs = tuple(
        tuple(min(pad, {"reflect": n - 1, "circular": n, "replicate": 4}[mode]) for pad in pads[2 * i : 2 * i + 2])
        for i, n in enumerate(spatial)
    )
    spec = ConvSpec(1, 1, (1, 1), padding=pairs, padding_mode=mode)
    pixels = np.pad(np.arange(np.prod(spatial)).reshape(spatial), pairs, MODES[mode])
    most = int(np.unique(pixels, return_counts=True)[1].max())
    assert most <= shapes.copies(spec, spatial)
    if mode == "replicate" and spatial == (1, 1):  # each side copies the one pixel
        assert most == shapes.copies(spec, spatial)


@pytest.mark.parametrize(("pads", "mode", "count"), [
    (((2, 2), (0, 0)), "reflect", 3), (((2, 2), (0, 1)), "reflect", 6), (((3, 0), (0, 3)), "circular", 4),
    (((2, 1), (0, 3)), "replicate", 16), (((0, 0), (0, 0)), "replicate", 1), (((2, 2), (1, 1)), "zeros", 1),
])  # fmt: skip
def test_copies_by_hand(pads, mode, count):
    assert shapes.copies(ConvSpec(1, 1, (1, 1), padding=pads, padding_mode=mode), (5, 7)) == count


REGULAR = ConvSpec(4, 6, (3, 4), (2, 3), ((1, 2), (0, 1)), (1, 2), padding_mode="replicate")
TRANSPOSED = ConvSpec(4, 6, (3, 4), (2, 3), ((1, 2), (0, 1)), (1, 2), transposed=True)


@pytest.mark.parametrize(("spec", "direction", "shape", "expected"), [
    (REGULAR, "forward", (5, 4, 9, 9), 1), (REGULAR, "bias", (5, 4, 9, 9), 1), (REGULAR, "forward", None, 1),
    (REGULAR, "input", None, 2 * 2 + 1), (REGULAR, "input", (5, 4, 9, 9), 2 * 2 + 1 + 4 * 2 - 1),
    (REGULAR, "kernel", (5, 4, 9, 9), 5), (REGULAR, "kernel", (0, 4, 9, 9), 1), (REGULAR, "kernel", None, 1),
    (TRANSPOSED, "forward", (5, 4, 9, 9), 2 * 2 + 1), (TRANSPOSED, "forward", None, 2 * 2 + 1),
    (TRANSPOSED, "input", (5, 4, 9, 9), 1), (TRANSPOSED, "kernel", (5, 4, 9, 9), 5),
])  # fmt: skip
def test_how_often_a_partial_sum_is_rounded(spec, direction, shape, expected):
    assert shapes.column_roundings(spec, direction, shape) == expected


def reach(specs, length):
    """The pixels of a long input that each output depends on, from ones moved through the layers one at a time."""
    matrix = np.eye(length, dtype=bool)
    for spec in specs:
        (lo, _), k, s, d = spec.padding[0], spec.kernel_size[0], spec.stride[0], spec.dilation[0]
        n = len(matrix)
        if spec.transposed:
            rows = np.zeros(((n - 1) * s + (k - 1) * d + 1, length), bool)
            for i, j in product(range(n), range(k)):
                rows[i * s + j * d] |= matrix[i]
            matrix = rows[lo:]
        else:
            padded = np.concatenate([np.zeros((lo, length), bool), matrix])
            places = range(0, len(padded) - (k - 1) * d, s)
            matrix = np.array([np.any([padded[p + j * d] for j in range(k)], axis=0) for p in places])
    return matrix


layers = st.builds(
    lambda k, s, d, lo, transposed: ConvSpec(
        1, 1, k, s, ((min(lo, (k - 1) * d), 0),), d, transposed=transposed, ndim=1
    ),
    st.integers(1, 3), SMALL.filter(lambda n: n < 4), st.integers(1, 2), st.integers(0, 3), st.booleans(),
)  # fmt: skip


@given(st.lists(layers, min_size=1, max_size=3))
def test_the_receptive_field_of_a_chain_is_the_widest_reach_of_an_output(specs):
    matrix = reach(specs, 48)
    middle = matrix[len(matrix) // 3 : -(len(matrix) // 3)]  # the pads at the ends cut what an output reaches
    assume(len(middle))
    spans = [int(np.flatnonzero(row)[-1] - np.flatnonzero(row)[0]) + 1 if row.any() else 0 for row in middle]
    (size,) = shapes.receptive_field(specs).size
    assert max(spans) <= size
    period = np.prod([spec.stride[0] for spec in specs if spec.transposed])
    if len(middle) > 3 * period:
        assert max(spans) == size


# -- parameters --------------------------------------------------------------------------------------------------------


def test_a_sparse_kernel_keeps_numbers_of_both_signs_up_to_its_magnitude():
    spec = ConvSpec(512, 16, 5, bias=False)
    budget = exact_budget(spec, "bfloat16")
    assert budget.taps is not None
    values = ConvParams.exact(spec, dtype="bfloat16").kernel
    assert set(np.unique(values)) == {0, *(sign * n for sign in (-1, 1) for n in range(1, budget.kernel + 1))}
    assert set(np.count_nonzero(values.reshape(16, -1), axis=1)) == {budget.taps}


def test_copies_of_a_word_padding_are_those_of_its_numbers():
    word = ConvSpec(1, 1, (4, 3), (2, 1), "same", padding_mode="reflect")
    assert shapes.copies(word, (6, 7)) == shapes.copies(word.explicit((1, 1, 6, 7)), (6, 7)) == 3 * 3

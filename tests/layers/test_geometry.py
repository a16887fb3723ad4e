"""Which cells an output reads, against the oracle's arithmetic."""

import numpy as np
import pytest
from hypothesis import given

from convspec import ConvParams, ConvSpec, reference
from convspec.errors import ShapeError
from convspec.layers.pictures.geometry import axes
from convspec.strategies import specs


def gathered(spec, x, weights):
    """The output of a 1-D layer of one channel, computed by ``reads`` and ``holds`` alone."""
    (axis,) = axes(spec, x.shape)
    held = {cell: axis.holds(cell) for o in range(axis.output) for cell, _ in axis.reads(o)}
    value = {cell: 0.0 if source is None else x[source] for cell, source in held.items()}
    return np.array([sum(value[cell] * weights[tap] for cell, tap in axis.reads(o)) for o in range(axis.output)])


@given(spec=specs(ndims=(1,)))
def test_reading_the_cells_is_the_convolution(spec):
    fields = {**spec.to_dict(), "in_channels": 1, "out_channels": 1, "groups": 1, "bias": False}
    spec = ConvSpec.from_dict(fields)
    x, weights = np.arange(1.0, 24.0), np.arange(1.0, spec.kernel_size[0] + 1)
    try:
        spec.output_shape((1, 1, 23))
    except ShapeError:
        return
    expected = reference.conv(spec, ConvParams(weights[None, None], None), x[None, None])
    np.testing.assert_array_equal(gathered(spec, x, weights), expected[0, 0])


def test_same_with_a_stride_depends_on_the_size():
    spec = ConvSpec(1, 1, (3,), stride=2, padding="same")
    assert [axes(spec, (n,))[0].reads(0) for n in (6, 7)] == [((0, 0), (1, 1), (2, 2)), ((-1, 0), (0, 1), (1, 2))]


@pytest.mark.parametrize(
    ("mode", "held"),
    [
        ("zeros", [None, None, 0, None]),
        ("reflect", [2, 1, 0, 2]),
        ("replicate", [0, 0, 0, 3]),
        ("circular", [2, 3, 0, 0]),
    ],
)
def test_what_pads_hold(mode, held):
    (axis,) = axes(ConvSpec(1, 1, (3,), padding=2, padding_mode=mode), (4,))
    assert [axis.holds(cell) for cell in (-2, -1, 0, 4)] == held


def test_an_axis_is_not_taken_for_another():
    rows, columns = axes(ConvSpec(1, 1, (3, 5), stride=(2, 3), padding=((1, 0), (2, 1))), (9, 13))
    assert (rows.output, columns.output) == (4, 4)
    assert rows.reads(1) == ((1, 0), (2, 1), (3, 2))
    assert columns.reads(0)[0] == (-2, 0)

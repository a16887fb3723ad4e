"""Sizes, checked against counting: what the formulas say is what walking over the cells gives."""

from fractions import Fraction
from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from convspec import Chain, ConvSpec, ShapeError, SpecError
from convspec.spec.shapes import resolve_padding, same_pads
from convspec.strategies import cases, specs


def taps(spec, spatial, axis):
    """For every output along an axis, the input cells (pads included, as negative or beyond) that it reads."""
    (lo, hi), extra = (numbers[axis] for numbers in resolve_padding(spec, spatial))
    n, k, s, d = spatial[axis], spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis]
    if not spec.transposed:
        starts = range(0, n + lo + hi - (k - 1) * d, s)
        return [[start - lo + j * d for j in range(k)] for start in starts]
    full = {}
    for i in range(n):
        for j in range(k):
            full.setdefault(i * s + j * d, []).append(i)
    length = (n - 1) * s + (k - 1) * d + 1
    return [full.get(p, []) for p in range(lo, length - hi + extra)]


@given(cases())
def test_output_shape_is_the_number_of_places_where_the_kernel_fits(case):
    spec, spatial = case.spec, case.input_shape[2:]
    counted = tuple(len(taps(spec, spatial, axis)) for axis in range(spec.ndim))
    assert spec.output_shape(case.input_shape) == (case.input_shape[0], spec.out_channels, *counted)


@given(cases())
def test_explicit_gives_the_same_shape_without_words(case):
    explicit = case.spec.explicit(case.input_shape)
    assert not isinstance(explicit.padding, str)
    assert explicit.output_shape(case.input_shape) == case.spec.output_shape(case.input_shape)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_same_pads_are_the_least_that_keep_every_stride_th_cell(length, k, s, d):
    lo, hi = same_pads(length, k, s, d)
    out = (length + lo + hi - (k - 1) * d - 1) // s + 1
    assert out == -(-length // s)
    assert hi - lo in (0, 1)
    assert same_pads(length, k, s, d, lower=True) == (hi, lo)
    if lo + hi:
        assert (length + lo + hi - 1 - (k - 1) * d - 1) // s + 1 < out


@pytest.mark.parametrize(
    ("fields", "shape", "expected"),
    [
        (dict(kernel_size=3, padding=1), (1, 3, 28, 28), (1, 8, 28, 28)),
        (dict(kernel_size=3, stride=2, padding=1), (1, 3, 32, 32), (1, 8, 16, 16)),
        (
            dict(kernel_size=(3, 5), stride=(2, 3), padding=((0, 1), (2, 0)), dilation=(2, 1)),
            (2, 3, 11, 17),
            (2, 8, 4, 5),
        ),
        (dict(kernel_size=3, stride=2, padding=1, output_padding=1, transposed=True), (1, 3, 7, 9), (1, 8, 14, 18)),
        (dict(kernel_size=2, stride=3, padding="same", transposed=True), (1, 3, 4, 5), (1, 8, 12, 15)),
        (dict(kernel_size=3, padding=((4, 4), (4, 4)), transposed=True, stride=2), (1, 3, 4, 4), (1, 8, 1, 1)),
        (dict(kernel_size=3, padding=1), (0, 3, 28, 28), (0, 8, 28, 28)),
        (dict(kernel_size=(2,), padding="causal"), (5, 3, 1), (5, 8, 1)),
    ],
)
def test_output_shapes_by_hand(fields, shape, expected):
    assert ConvSpec(3, 8, **fields).output_shape(shape) == expected


def test_an_empty_output_is_legal_and_a_negative_one_is_not():
    crop = ConvSpec(3, 8, (3,), padding=((2, 1),), transposed=True)
    assert crop.output_shape((1, 3, 1)) == (1, 8, 0)
    with pytest.raises(ShapeError, match=r"would have -1 cells: padding crops 2 \+ 2"):
        ConvSpec(3, 8, (3,), padding=2, transposed=True).output_shape((1, 3, 1))


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        (
            dict(kernel_size=5),
            (1, 3, 4, 9),
            r"spatial axis 0 \(H\): the kernel spans 5 cells.*smallest input here is 5",
        ),
        (
            dict(kernel_size=3, dilation=4, padding=1),
            (1, 3, 9, 6),
            r"axis 1 \(W\): the kernel spans 9.*6 \+ 1 \+ 1 = 8",
        ),
        (dict(kernel_size=3, padding=3, padding_mode="reflect"), (1, 3, 4, 3), r"axis 1 \(W\).*be less than.* 3 cells"),
        (dict(kernel_size=3, padding=3, padding_mode="circular"), (1, 3, 2, 9), r"axis 0 \(H\).*not exceed.* 2 cells"),
        (dict(kernel_size=1, padding=3, padding_mode="replicate"), (1, 3, 2, 0), r"axis 1 \(W\).*repeat"),
        (
            dict(kernel_size=3),
            (1, 32, 32, 3),
            r"axis 1 \(C of NCHW\) must be in_channels=3, but is 32.*looks like NHWC",
        ),
        (dict(kernel_size=3), (3, 32, 32), r"3 axes.*expects 4: NCHW; the batch axis seems to be missing"),
        (dict(kernel_size=3), (1, 4, 32, 32), r"must be in_channels=3, but is 4$"),
        (dict(kernel_size=3), (1, 3, -1, 32), "negative axis"),
    ],
)
def test_a_misfit_is_named_with_its_axis(fields, shape, message):
    with pytest.raises(ShapeError, match=message):
        ConvSpec(3, 8, **fields).output_shape(shape)


def test_limits_of_padding_modes_are_inclusive_where_they_should_be():
    assert ConvSpec(3, 8, 3, padding=2, padding_mode="reflect").output_shape((1, 3, 3, 3)) == (1, 8, 5, 5)
    assert ConvSpec(3, 8, 3, padding=3, padding_mode="circular").output_shape((1, 3, 3, 3)) == (1, 8, 7, 7)


def test_layouts_of_every_rank():
    spec = ConvSpec(3, 8, (3, 3, 3), stride=2)
    assert spec.output_shape((2, 9, 8, 7, 3), "NDHWC") == spec.output_shape((2, 9, 8, 7, 3), "NHWC") == (2, 4, 3, 3, 8)
    with pytest.raises(ValueError, match="unknown layout for 3 spatial axes 'NWC'"):
        spec.output_shape((2, 9, 8, 7, 3), "NWC")


@given(cases())
def test_macs_count_every_product(case):
    spec, spatial = case.spec, case.input_shape[2:]
    products = case.input_shape[0] * spec.out_channels * (spec.in_channels // spec.groups)
    for axis in range(spec.ndim):
        products *= (spatial[axis] if spec.transposed else len(taps(spec, spatial, axis))) * spec.kernel_size[axis]
    assert spec.macs(case.input_shape) == products


@st.composite
def one_axis_chains(draw):
    count = draw(st.integers(1, 3))
    layers = st.builds(
        lambda k, s, d, pads, transposed: ConvSpec(2, 2, (k,), s, (pads,), d, transposed=transposed),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(1, 3),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
        st.booleans(),
    )
    return Chain([draw(layers) for _ in range(count)])


@given(one_axis_chains())
def test_receptive_field_is_what_tracing_the_cells_gives(chain):
    length = 150
    try:
        shapes = chain.shapes((1, 2, length))
    except ShapeError:
        assume(False)
    reads = [taps(spec, (n,), 0) for spec, (_, _, n) in zip(chain.specs, shapes, strict=False)]
    cells = [{i} for i in range(shapes[-1][-1])]
    for layer in reversed(reads):
        cells = [{i for p in span if 0 <= p < len(layer) for i in layer[p]} for span in cells]
    inner = cells[len(cells) * 2 // 5 : len(cells) * 3 // 5]
    field = chain.receptive_field()
    phases = field.jump[0].denominator * prod(s.stride[0] for s in chain.specs if s.transposed)
    assume(len(inner) >= phases and field.size[0] < length // 4)
    assert field.size[0] == max((max(c) - min(c) + 1 for c in inner if c), default=0)
    first, one_period_on = inner[0], inner[phases] if len(inner) > phases else set()
    if first and one_period_on:
        assert min(one_period_on) - min(first) == phases * field.jump[0]


def test_receptive_field_by_hand():
    field = Chain([ConvSpec(3, 8, 7, 2, 3), ConvSpec(8, 8, 3, 1, 1), ConvSpec(8, 8, 3, 2, 0)]).receptive_field()
    assert field.size == (15, 15)
    assert field.jump == (4, 4)
    assert field.offset == (2, 2)
    up = ConvSpec(3, 8, 4, 2, 1, transposed=True).receptive_field()
    assert (up.size, up.jump, up.offset) == ((2, 2), (Fraction(1, 2),) * 2, (Fraction(-1, 4),) * 2)
    with pytest.raises(ShapeError, match="pass input_shape"):
        ConvSpec(3, 8, 3, 2, "same").receptive_field()
    assert ConvSpec(3, 8, 3, 2, "same").receptive_field((1, 3, 32, 32)).offset == (1, 1)


def test_a_chain_says_which_layers_disagree_and_what_to_do():
    with pytest.raises(
        SpecError,
        match=r"layers 1 and 2 must fit: layer 1 has out_channels=8, layer 2 in_channels=16; "
        r"set layer 1's out_channels to 16, or layer 2's in_channels to 8",
    ):
        Chain([ConvSpec(3, 8, 3), ConvSpec(8, 8, 3), ConvSpec(16, 4, 3)])
    with pytest.raises(SpecError, match="at least one layer"):
        Chain([])
    with pytest.raises(SpecError, match="as many spatial axes: 2 against 1"):
        Chain([ConvSpec(3, 8, 3), ConvSpec(8, 8, (3,))])
    with pytest.raises(ShapeError, match=r"layer 1 of 2.*kernel spans 5"):
        Chain([ConvSpec(3, 8, 3, 2), ConvSpec(8, 8, 5)]).output_shape((1, 3, 8, 8))


def test_a_chain_adds_up():
    chain = Chain([ConvSpec(1, 6, 5, padding=2), ConvSpec(6, 16, 5, stride=2)])
    assert chain.shapes((2, 28, 30, 1), "NHWC") == ((2, 28, 30, 1), (2, 28, 30, 6), (2, 12, 13, 16))
    assert chain.num_parameters == 6 * 25 + 6 + 16 * 6 * 25 + 16
    assert chain.macs((2, 1, 28, 30)) == 2 * (28 * 30 * 6 * 25 + 12 * 13 * 16 * 6 * 25)


@given(
    st.integers(1, 3),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(["NCHW", "NHWC"]),
    st.sampled_from(["NCHW", "NHWC"]),
)
def test_flatten_order_maps_a_flatten_in_one_layout_to_the_other(channels, spatial, layout, source):
    np = pytest.importorskip("numpy")
    chain = Chain([ConvSpec(channels, channels, (1,) * len(spatial))])
    flat = chain.flatten((1, channels, *spatial))
    data = np.arange(flat.in_features).reshape(channels, *spatial)
    as_is = {"NCHW": data.ravel(), "NHWC": np.moveaxis(data, 0, -1).ravel()}
    assert as_is[source][list(flat.order(layout, source))].tolist() == as_is[layout].tolist()


def test_flatten_says_how_it_walks():
    flat = Chain([ConvSpec(3, 8, 3)]).flatten((1, 3, 7, 9))
    assert flat.in_features == 8 * 5 * 7
    assert flat.axes("NCHW") == "CHW"
    assert flat.axes("NHWC") == "HWC"


@given(specs(transposed=False))
def test_receptive_field_of_one_layer_is_its_span(spec):
    assume(not isinstance(spec.padding, str))
    assert spec.receptive_field().size == spec.effective_kernel

"""Layers read by their moves of elements: what is read computes what the layer computes, whatever it is made of.

The layers are functions on arrays around a convolution. They run once with the tracer in the place of the convolution
and once with the oracle.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.contract import Reading
from convspec.contract.tracing.layer_inference import pads_of, read
from convspec.errors import ConvspecError, UnsupportedError
from convspec.spec import layouts

NUMPY = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def oracle(reading, x):
    canonical = layouts.move_axes(x, reading.layout, "NCHW")
    return layouts.move_axes(reference.conv(reading.spec, reading.params, canonical), "NCHW", reading.layout)


def reading(spec, rng, layout="NCHW"):
    """A convolution with whole numbers, so that every order of summation gives the same."""
    kernel = rng.integers(-4, 5, spec.kernel_shape).astype(np.float32)
    bias = rng.integers(-4, 5, spec.out_channels).astype(np.float32) if spec.bias else None
    return Reading(spec, ConvParams(kernel, bias), layout, "float32")


def agree(layer, found, shape, rng):
    """Whether a spec that was read gives the layer's numbers."""
    x = rng.integers(-4, 5, shape).astype(np.float32)
    right = layer(x, oracle)
    assert np.array_equal(oracle(found, x), right)
    assert found.layout in ("NCHW", "NHWC")
    return True


def spatially(pairs, layout):
    outer = ((0, 0), (0, 0))
    return [*outer, *pairs] if layout == "NCHW" else [outer[0], *pairs, outer[0]]


def random_regular(rng):
    """A layer of pads, one convolution or one per group, crop and stride; an input; whether a spec can be it."""
    ndim, layout, inside = int(rng.integers(1, 4)), *rng.choice(["NCHW", "NHWC"], 2)
    mode = str(rng.choice(sorted(NUMPY)))
    numbers = lambda low, high: tuple(int(n) for n in rng.integers(low, high, ndim))  # noqa: E731
    spatial, groups = numbers(6, 9), int(rng.choice([1, 1, 2]))
    outer = tuple(zip(numbers(0, 3), numbers(0, 3), strict=True))
    inner = tuple(zip(numbers(0, 2), numbers(0, 2), strict=True)) if mode in ("zeros", "replicate") else 0
    own = mode if inner else "zeros"
    bias = bool(rng.integers(2))
    spec = ConvSpec(2 * groups, 3 * groups, numbers(1, 4), numbers(1, 3), inner, numbers(1, 3), groups,
                    bias, own, ndim=ndim)  # fmt: skip
    one = reading(spec, rng, inside)
    crop, step = numbers(0, 2), numbers(1, 3)
    parted = groups > 1 and bool(rng.integers(2))

    def layer(x, answer):
        x = np.pad(x, spatially(outer, layout), mode=NUMPY[mode])
        x = layouts.move_axes(x, layout, inside)
        y = in_parts(one, x, answer) if parted else answer(one, x)
        y = layouts.move_axes(y, inside, "NCHW")
        y = y[(slice(None), slice(None), *(slice(c, None, t) for c, t in zip(crop, step, strict=True)))]
        return layouts.move_axes(y, "NCHW", layout)

    pads = zip(outer, inner or ((0, 0),) * ndim, crop, spec.stride, strict=True)
    possible = all(a[0] + b[0] >= c * s for a, b, c, s in pads)
    return layer, layouts.shape_in((2, 2 * groups, *spatial), layout, ndim), possible


def in_parts(one, x, answer):
    """A grouped convolution as one convolution for each group."""
    axis = 1 if one.layout == "NCHW" else -1
    groups, (o, i) = one.spec.groups, (one.spec.out_channels, one.spec.in_channels)
    spec = replace(one.spec, groups=1, in_channels=i // groups, out_channels=o // groups)
    results = []
    for part, kernel, bias in zip(
        np.split(x, groups, axis), np.split(one.params.kernel, groups),
        [None] * groups if one.params.bias is None else np.split(one.params.bias, groups), strict=True,
    ):  # fmt: skip
        results.append(answer(Reading(spec, ConvParams(kernel, bias), one.layout, "float32"), part))
    return np.concatenate(results, axis)


@pytest.mark.parametrize("seed", range(120))
def test_a_regular_layer_is_read_as_what_it_computes_unless_it_crops_more_than_it_pads(seed):
    rng = np.random.default_rng(seed)
    layer, shape, possible = random_regular(rng)
    try:
        layer(np.zeros(shape, np.float32), oracle)
    except ConvspecError:  # the kernel is larger than the padded input
        possible = False
    if possible:
        agree(layer, read(layer, shape), shape, rng)
    else:
        with pytest.raises(ConvspecError):
            read(layer, shape)


def random_transposed(rng):
    """A transposed layer, zeros between its input's elements, its result cropped or followed by zeros."""
    ndim, layout, inside = int(rng.integers(1, 3)), *rng.choice(["NCHW", "NHWC"], 2)
    numbers = lambda low, high: tuple(int(n) for n in rng.integers(low, high, ndim))  # noqa: E731
    kernel, stride, spread = numbers(2, 4), numbers(1, 3), numbers(1, 3)
    spec = ConvSpec(2, 3, kernel, stride, numbers(0, 2), numbers(1, 3), bias=False, transposed=True, ndim=ndim)
    one, spatial = reading(spec, rng, inside), numbers(2, 5)
    crop, lead, bias = numbers(0, 2), int(rng.integers(2)), bool(rng.integers(2))
    around = [(int(rng.integers(9)) // 8, int(rng.integers(6)) // 4) for _ in range(ndim)]
    vector = rng.integers(1, 5, 3).astype(np.float32)

    def layer(x, answer):
        x = layouts.move_axes(x, layout, "NCHW")
        spatial = tuple((n - 1) * t + 1 for n, t in zip(x.shape[2:], spread, strict=True))
        wide = np.zeros((*x.shape[:2], *(n + lead for n in spatial)), np.float32)
        wide[(..., *(slice(lead, None, t) for t in spread))] = x
        y = layouts.move_axes(answer(one, layouts.move_axes(wide, "NCHW", inside)), inside, "NCHW")
        y = y[(..., *(slice(c, None) for c in crop))]
        y = np.pad(y, [(0, 0), (0, 0), *around])
        y = y + vector.reshape(-1, *(1,) * ndim) if bias else y
        return layouts.move_axes(y, "NCHW", layout)

    return layer, layouts.shape_in((1, 2, *spatial), layout, ndim)


@pytest.mark.parametrize("seed", range(120))
def test_a_transposed_layer_is_read_as_what_it_computes(seed):
    rng = np.random.default_rng(seed)
    layer, shape = random_transposed(rng)
    try:
        found = read(layer, shape)
    except UnsupportedError:  # no spec may be it
        return
    agree(layer, found, shape, rng)


def test_most_transposed_layers_are_read():
    count = 0
    for seed in range(40):
        layer, shape = random_transposed(np.random.default_rng(seed))
        try:
            count += bool(read(layer, shape))
        except ConvspecError:
            continue
    assert count >= 15


SPEC = ConvSpec(2, 3, (2, 3), (1, 2), ((1, 0), (0, 2)))
SHAPE = (2, 2, 5, 7)


def plain(**changes):
    return reading(replace(SPEC, **changes), np.random.default_rng(0))


ONE, DRY = plain(), plain(bias=False)
VECTOR = np.arange(1.0, 4, dtype=np.float32).reshape(3, 1, 1)


def test_a_plain_layer_is_read_as_itself_in_every_form():
    for transposed in (False, True):
        for more in ({}, {"bias": False}, {"groups": 1, "dilation": (2, 1)}):
            one = plain(transposed=transposed, **({"output_padding": (0, 1)} if transposed else {}), **more)
            found = read(lambda x, answer, one=one: answer(one, x), SHAPE)
            assert (found.spec, found.layout, found.dtype) == (one.spec, "NCHW", "float32")
            assert np.array_equal(found.params.kernel, one.params.kernel)
            assert (found.params.bias is None) is (one.params.bias is None)


def test_a_bias_that_is_added_afterwards_is_the_layers():
    found = read(lambda x, answer: answer(DRY, x) + VECTOR, SHAPE)
    assert found.spec == SPEC
    assert found.params.bias.tolist() == [1, 2, 3]
    large = VECTOR * np.float32(1e6)
    assert read(lambda x, answer: answer(DRY, x) + large, SHAPE).params.bias.tolist() == [1e6, 2e6, 3e6]
    zero = read(lambda x, answer: answer(DRY, x) + VECTOR * 0, SHAPE)
    assert (zero.spec.bias, zero.params.bias.tolist()) == (True, [0, 0, 0])


def rolled(x):
    return np.roll(x, 1, axis=1)


NONE = [(0, 0), (0, 0)]
AROUND = [*NONE, (1, 1), (1, 1)]
REFUSED = {
    "inputs are scaled": (lambda x, f: f(ONE, x * 2), "changed before"),
    "inputs are shifted": (lambda x, f: f(ONE, x + 1), "changed before|numbers other than 0|not only moved"),
    "an activation before": (lambda x, f: f(ONE, np.maximum(x, 0)), "not only moved|values"),
    "results are scaled": (lambda x, f: f(ONE, x) * 3, "results are changed"),
    "an activation after": (lambda x, f: np.maximum(f(ONE, x), 0), "results are changed"),
    "the sign is changed": (lambda x, f: -f(ONE, x), "not only moved|numbers other|results"),
    "two biases": (lambda x, f: f(ONE, x) + VECTOR, "second bias"),
    "a sum along another axis": (lambda x, f: f(DRY, x) + np.arange(4, dtype=np.float32), "one number per channel"),
    "a pad of ones": (lambda x, f: f(ONE, np.pad(x, AROUND, constant_values=1)), "other than 0"),
    "a flip before": (lambda x, f: f(ONE, x[..., ::-1]), "no padding"),
    "a flip after": (lambda x, f: f(ONE, x)[..., ::-1], "no padding"),
    "rows become columns": (lambda x, f: f(ONE, x.swapaxes(2, 3)), "between axes|no padding"),
    "channels are rolled": (lambda x, f: f(ONE, rolled(x)), "share out the input's channels"),
    "results are rolled": (lambda x, f: rolled(f(ONE, x)), "taken apart or reordered"),
    "channels are dropped": (lambda x, f: f(ONE, x)[:, :2], "taken apart or reordered"),
    "zeros after a bias": (lambda x, f: np.pad(f(ONE, x), AROUND), "have their bias already|no padding"),
    "no convolution": (lambda x, f: x, "no convolution was called"),
    "the input is not read": (lambda x, f: f(ONE, x * 0), "reads nothing"),
    "two convolutions in a row": (lambda x, f: f(plain(in_channels=3), f(ONE, x)), "do not share|differ|sizes"),
    "the rank changes": (lambda x, f: f(ONE, x)[:, 0], "axes into"),
    "the batch changes": (lambda x, f: f(ONE, x)[:1], "changes the batch"),
    "it depends on its values": (lambda x, f: f(ONE, x)[..., int((x > 0).all()) :], "depend on the values"),
    "a checkerboard of zeros": (lambda x, f: f(ONE, x * (np.indices((5, 7)).sum(0) % 2)), "pattern|unevenly"),
    "uneven moves": (lambda x, f: f(ONE, np.where(np.arange(7) < 3, x, np.roll(x, 1, 2))), "unevenly|no padding"),
    "channels to spare": (lambda x, f: f(plain(in_channels=1), x[:, :1]), "take 1 channels of an input that has 2"),
    "pads of two modes": (
        lambda x, f: f(DRY, np.pad(np.pad(x, [*NONE, (0, 0), (1, 1)], "wrap"), [*NONE, (1, 1), (0, 0)], "edge")),
        "padding",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_more_than_a_convolution_is_refused_with_the_reason(name):
    layer, words = REFUSED[name]
    with pytest.raises(UnsupportedError, match=words):
        read(layer, SHAPE)


def test_a_shape_is_needed_and_must_have_elements():
    run = lambda x, answer: answer(ONE, x)  # noqa: E731
    with pytest.raises(UnsupportedError, match="pass input_shape"):
        read(run, None)
    for shape in ((2, 2), (1, 0, 5, 7), (1, 2, 0, 7)):
        with pytest.raises(UnsupportedError, match="must have a batch"):
            read(run, shape)
    assert read(run, (0, 2, 5, 7)).spec == SPEC  # an empty batch shows nothing, and is not used


@pytest.mark.parametrize("mode", sorted(NUMPY))
@pytest.mark.parametrize(("lo", "hi"), [(0, 0), (1, 0), (0, 3), (2, 2), (3, 1)])
def test_pads_are_found_again(mode, lo, hi):
    size = 5
    positions = np.pad(np.arange(size), (lo, hi), NUMPY[mode], **({"constant_values": -1} if mode == "zeros" else {}))
    found = list(pads_of(positions, size))
    assert (("zeros" if lo + hi == 0 else mode), lo, hi) in found
    assert all(np.array_equal(positions, np.pad(np.arange(size), (a, b), NUMPY[m], **(
        {"constant_values": -1} if m == "zeros" else {}))) for m, a, b in found)  # fmt: skip
    assert list(pads_of(positions[::-1], size)) == [] or (lo, hi) == (0, 0) or size == 1


def test_one_element_shows_its_stride_on_a_larger_input():
    one = plain(stride=(3, 2))
    found = read(lambda x, answer: answer(one, x), (1, 2, 2, 3))
    assert found.spec == one.spec


def test_a_stride_of_the_results_is_found_on_a_larger_input():
    """On this one a single result shows none; so do several crops at its end."""
    one = plain(stride=(1, 2))
    layer = lambda x, answer: answer(one, x)[:, :, ::2, ::3]  # noqa: E731
    found = read(layer, (1, 2, 2, 3))
    assert found.spec == replace(one.spec, stride=(2, 6))
    assert agree(layer, found, (1, 2, 9, 20), np.random.default_rng(0))


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("left_out", [0, 1, 2, 3])
def test_results_that_are_cropped_at_the_end_take_from_the_pads_after(left_out, step):
    one = plain(stride=(1, 1), padding=((1, 2), (0, 2)))
    layer = lambda x, answer: answer(one, x)[:, :, : (-left_out or None) : step]  # noqa: E731
    made, pad = 7, 2
    last = (made - left_out - 1) // step * step
    if (made - 1 - last) // step * step > pad:
        with pytest.raises(UnsupportedError):
            read(layer, SHAPE)
        return
    found = read(layer, SHAPE)
    assert agree(layer, found, SHAPE, np.random.default_rng(0))
    assert found.spec.stride == (step, 1)

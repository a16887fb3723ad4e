"""In what a layer differs from its source: folds, ranks and pads seen through; mistakes named, each with a fix."""

from dataclasses import replace

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec
from convspec.models.comparison import common_rank
from convspec.models.matching.differences import array_differences, is_folded, spec_differences, weight_differences
from convspec.models.matching.kernels import BatchNorm, Layer, fold, pair_layers
from convspec.spec import rounded

SPEC = ConvSpec(3, 4, (3, 5), stride=(2, 1), padding=((0, 1), (2, 1)))
SPECS = [SPEC, ConvSpec(6, 4, (3, 2), groups=2, transposed=True), ConvSpec(4, 4, 3, groups=4, bias=False)]


def layer(path="c", seed=0, spec=SPEC, **more):
    return Layer(path, spec, ConvParams.random(spec, seed), **more)


def vector(channels, seed=0, low=0.5):
    return np.random.default_rng(seed).uniform(low, 2, channels).astype(np.float32)


def normalised(channels, seed=0, epsilon=1e-5):
    gain, shift, mean, variance = (vector(channels, seed * 4 + i) for i in range(4))
    return BatchNorm(gain, shift, mean, variance, epsilon)


def product(gain):
    return BatchNorm(gain, np.zeros_like(gain), np.zeros_like(gain), np.ones_like(gain), 0.0)


def total(shift):
    return BatchNorm(np.ones_like(shift), shift, np.zeros_like(shift), np.ones_like(shift), 0.0)


def folded(source, times=1, epsilon=None):
    """The layer as an exporter writes it: with its normalisation in single-precision weights."""
    kernel, bias = replace(source, norm=None).fold_norm()
    for _ in range(times):
        kernel, bias = fold(source.spec, kernel, bias, source.norm, epsilon)
    spec = replace(source.spec, bias=True)
    return Layer(source.path, spec, ConvParams(kernel.astype(np.float32), bias.astype(np.float32)))


def ids(found):
    assert all(difference.fix for difference in found)
    return [difference.id for difference in found]


@pytest.mark.parametrize("spec", SPECS)
def test_a_normalisation_may_be_folded_kept_or_written_as_sums_and_products(spec):
    norm = normalised(4)
    source = layer(spec=spec, norm=norm)
    plain = replace(source, norm=None)
    scale = norm.scale().astype(np.float32)
    parts = (total(-norm.mean), product(scale), total(norm.shift))
    merged = (product(scale), total(norm.shift - norm.mean * scale))
    for ours in (source, folded(source), replace(plain, epilogue=parts), replace(plain, epilogue=merged)):
        assert ids(weight_differences(ours, source)) == []
        product_after = replace(ours, epilogue=(*ours.epilogue, product(vector(4, 9))))
        assert ids(weight_differences(product_after, source)) == []


@pytest.mark.parametrize("spec", SPECS)
def test_mistakes_with_a_normalisation_are_named(spec):
    source = layer(spec=spec, norm=normalised(4))
    assert ids(weight_differences(folded(source, 2), source)) == ["batch-norm-twice"]
    assert ids(weight_differences(folded(source, epsilon=1e-3), source)) == ["batch-norm-epsilon"]
    assert ids(weight_differences(replace(source, norm=None), source)) == ["batch-norm-lost"]
    again = replace(folded(source), norm=source.norm)
    assert ids(weight_differences(again, source)) == ["batch-norm-twice"]
    scale = source.norm.scale()
    kept = (product(scale), total(source.norm.shift - source.norm.mean * scale))
    assert ids(weight_differences(replace(folded(source), epilogue=kept), source)) == ["batch-norm-twice"]


def test_a_bias_may_be_added_after_the_layer_but_not_twice():
    source = layer()
    without = Layer("c", replace(SPEC, bias=False), ConvParams(source.params.kernel))
    epilogue = (total(source.params.bias),)
    assert ids(weight_differences(replace(without, epilogue=epilogue), source)) == []
    assert ids(weight_differences(replace(source, epilogue=epilogue), source)) == ["bias-twice"]
    assert ids(weight_differences(without, source)) == ["bias-lost"]
    assert ids(weight_differences(source, without)) == ["bias-added"]


def test_weights_of_another_layer_are_told_after_its_fold_as_well():
    source, other = layer(norm=normalised(4)), layer("d", 5, norm=normalised(4, 3))
    ours = folded(source)
    wrong = replace(ours, params=ConvParams(ours.params.kernel, folded(other).params.bias))
    (found,) = weight_differences(wrong, source, [other])
    assert (found.id, "'d'" in found.title) == ("bias-of-another", True)
    wrong = replace(ours, params=ConvParams(folded(other).params.kernel, ours.params.bias))
    assert ids(weight_differences(wrong, source, [other])) == ["kernel-of-another"]


def test_a_square_kernel_that_was_transposed_after_the_fold_is_told():
    spec = ConvSpec(4, 4, 3)
    source = layer(spec=spec, norm=normalised(4))
    ours = folded(source)
    turned = np.swapaxes(ours.params.kernel, 2, 3).copy()
    found = weight_differences(replace(ours, params=ConvParams(turned, ours.params.bias)), source)
    assert ids(found) == ["kernel-spatial-transposed"]


def test_layers_whose_kernels_were_scaled_are_matched_without_their_names():
    theirs = [layer(f"block{i}", i, norm=normalised(4, i)) for i in range(5)]
    ours = [replace(folded(theirs[i]), path=f"n{i}") for i in (3, 0, 4, 2, 1)]
    assert [b.path for _, b in pair_layers(ours, theirs)] == ["block3", "block0", "block4", "block2", "block1"]


@pytest.mark.parametrize("named", ["path", "alias"])
def test_the_name_decides_between_kernels_that_are_equally_alike(named):
    kernel = ConvParams.random(SPEC, 1).kernel
    near = [kernel * np.float32(1 + n * 2.0**-20) + np.float32(n * 2.0**-20) for n in range(3)]
    theirs = [Layer(f"block{n}", SPEC, ConvParams(near[n]), normalised(4, n)) for n in range(3)]
    for order in ((2, 1, 0), (1, 2, 0), (0, 2, 1)):
        ours = [replace(folded(theirs[n]), path=f"model/block{n}.weight") for n in order]
        if named == "alias":
            ours = [replace(one, path=f"node{n}", alias=one.path) for n, one in enumerate(ours)]
        assert [b.path for _, b in pair_layers(ours, theirs)] == [f"block{n}" for n in order]


@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_wrong_numbers_of_a_small_format_are_not_the_sources_numbers_rounded_to_it(form):
    source, other = layer(spec=SPECS[0]), layer("d", 5)
    right = rounded(source.params.kernel, form)
    wrong = right.copy()
    wrong[3, 2, 1, 4] = rounded(wrong[3, 2, 1, 4] * np.float32(1.5), form)
    of_another = rounded(other.params.kernel, form)
    for name, copies in {"differs": (wrong, of_another, 2 * right), form: (right,)}.items():
        for copy in copies:
            ours = replace(source, params=ConvParams(copy.astype(np.float32), source.params.bias))
            assert ids(weight_differences(ours, source, [other])) == [f"kernel-{name}"]


def test_linear_layers_are_matched_by_their_numbers_only():
    spec = ConvSpec(3, 4, 1, ndim=1, bias=False)
    dense = [layer(f"dense{i}", i, spec, linear=True) for i in range(2)]
    point = Layer("p", ConvSpec(3, 4, 1, bias=False), ConvParams(dense[1].params.kernel[..., None]))
    strange = layer("q", 7, point.spec)
    paired = pair_layers([point, strange], dense)
    assert [(a and a.path, b and b.path) for a, b in paired] == [("p", "dense1"), ("q", None)]
    assert pair_layers(dense, dense) == []


# -- common rank ---


def data(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def settled(ours, theirs, x, source):
    return common_rank.align_specs(common_rank.CommonRank(ours, theirs, np.asarray, np.asarray), x, source)


def test_pads_before_either_layer_are_counted():
    pads = ((1, 0), (0, 2))
    x = data(2, 3, 8, 9)
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    inner = layer(spec=replace(SPEC, padding=((0, 0), (0, 0))))
    whole = layer(spec=replace(SPEC, padding=pads))
    for ours, theirs, mine, other in (
        (whole, inner, x, padded),
        (inner, whole, padded, x),
        (inner, inner, padded, padded),
    ):
        found = settled(ours, theirs, mine, other)
        assert (found.ours, found.input_difference) == (found.theirs, "")
    moved = settled(layer(spec=replace(SPEC, padding=((0, 1), (0, 2)))), inner, x, padded)
    assert (moved.input_difference, moved.ours == moved.theirs) == ("", False)


@pytest.mark.parametrize(("mode", "numpy"), [("circular", "wrap"), ("reflect", "reflect"), ("replicate", "edge")])
def test_a_padding_mode_may_be_a_node_of_its_own(mode, numpy):
    theirs = layer(spec=replace(SPEC, padding=((1, 0), (2, 1)), padding_mode=mode))
    ours = layer(spec=replace(SPEC, padding=((0, 0), (0, 0))))
    x = data(2, 3, 8, 9)
    found = settled(ours, theirs, np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 1)], mode=numpy), x)
    assert (found.ours, found.input_difference) == (found.theirs, "")
    assert settled(ours, theirs, np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 1)]), x).input_difference


def test_tensors_that_differ_are_reported_and_rounding_is_not():
    x = data(2, 3, 8, 9)
    assert common_rank.compare_tensors(x, x * np.float32(1 + 1e-5)) == ""
    assert "differ" in common_rank.compare_tensors(x, x * np.float32(1.001))
    wrong = x.copy()
    wrong[1, 2, 3, 4] = np.nan
    assert "NaN" in common_rank.compare_tensors(wrong, x)
    assert "shape" in common_rank.compare_tensors(x, x[:1])


@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_of_one_tap_is_dropped(axis):
    flat = ConvSpec(3, 4, 5, stride=2, padding=((1, 2),), ndim=1)
    wide = ConvSpec(3, 4, (1, 5) if axis == 0 else (5, 1), stride=(1, 2) if axis == 0 else (2, 1),
                    padding=((0, 0), (1, 2)) if axis == 0 else ((1, 2), (0, 0)))  # fmt: skip
    source = layer(spec=flat)
    ours = Layer("c", wide, ConvParams(np.expand_dims(source.params.kernel, 2 + axis), source.params.bias))
    form = common_rank.to_common_rank(ours, source)
    assert form.ours.spec == flat
    x = data(2, 3, 11)
    assert np.array_equal(form.reshape_ours(np.expand_dims(x, 2 + axis)), x)
    assert common_rank.to_common_rank(layer(spec=ConvSpec(3, 4, (3, 5))), source) is None
    by_word = replace(ours, spec=replace(wide, padding="same"))
    assert common_rank.to_common_rank(by_word, source).ours.spec == replace(flat, padding="same")


def test_only_the_numbers_of_a_bias_that_differ_are_counted():
    source = layer()
    right = np.array([0, 1, -2, 3], np.float32)
    source = replace(source, params=ConvParams(source.params.kernel, right))
    for wrong in ([0, 1, 2, 3], [0, 5, 6, 7], [1, 1, -2, 0]):
        ours = replace(source, params=ConvParams(source.params.kernel, np.array(wrong, np.float32)))
        (found,) = weight_differences(ours, source)
        assert found.title.startswith(f"{np.count_nonzero(right != wrong)} of the bias's 4 numbers differ, most at (")


def test_the_number_that_differs_most_is_shown_in_digits_that_tell_it_apart():
    source = layer()
    right = source.params.kernel / 8
    right[1, 2, 1, 3] = np.float32(1.5)
    kernel = right.copy()
    kernel[0, 0, 0, 0] *= np.float32(1 + 2e-6)
    kernel[1, 2, 1, 3] = np.float32(1.500004)
    source = replace(source, params=ConvParams(right, source.params.bias))
    ours = replace(source, params=ConvParams(kernel, source.params.bias))
    (found,) = weight_differences(ours, source)
    assert found.id == "kernel-differs"
    assert "2 of the kernel's" in found.title
    assert found.title.endswith("most at (1, 2, 1, 3): 1.500004 where the source has 1.5")
    kernel[1, 2, 1, 3] = 7
    (found,) = weight_differences(replace(ours, params=ConvParams(kernel, source.params.bias)), source)
    assert found.title.endswith("most at (1, 2, 1, 3): 7 where the source has 1.5")


def test_kernels_of_two_shapes_are_told_by_both():
    (found,) = weight_differences(layer(spec=ConvSpec(3, 4, 5, ndim=1)), layer(spec=ConvSpec(3, 4, 3, ndim=1)))
    assert (found.id, found.title) == (
        "kernel-shape-differs", "the kernel's shape is (4, 3, 5) where the source has (4, 3, 3)"
    )  # fmt: skip


def test_the_same_rank_is_found_from_either_side():
    flat, wide = layer(spec=ConvSpec(3, 4, 5, ndim=1)), layer(spec=ConvSpec(3, 4, (1, 5)))
    for ours, theirs in ((flat, wide), (wide, flat)):
        form = common_rank.to_common_rank(ours, theirs)
        assert form.ours.spec == form.theirs.spec == flat.spec


def test_arrays_are_equal_bit_for_bit_and_undefined_numbers_too():
    kernel = np.array([[1.0, np.nan, 3.0]], np.float32)
    assert array_differences({"kernel": kernel}, {"kernel": kernel.copy()}) == []
    assert array_differences({"kernel": kernel}, {"kernel": kernel[:, ::-1]}) == [
        "the kernel's numbers are in another order"
    ]
    assert array_differences({"kernel": kernel}, {"kernel": kernel + 1}) == ["the kernel differs"]


@pytest.mark.parametrize(("a", "b", "words"), [
    ("same", 1, "stride (2, 2): pads 'same' against (1, 1)"),
    (((1, 2), (0, 0)), "same", "stride (2, 2): pads ((1, 2), (0, 0)) against 'same'"),
])  # fmt: skip
def test_pads_by_a_word_and_by_numbers_are_told(a, b, words):
    specs = [ConvSpec(3, 4, 3, stride=2, padding=padding) for padding in (a, b)]
    assert spec_differences(*specs) == [words]


def test_a_transposed_convolution_leaves_out_the_same_pixels_by_its_padding_or_its_output_padding():
    a, b, c = (ConvSpec(3, 4, 3, stride=2, padding=pads, output_padding=out, transposed=True)
               for pads, out in ((1, 1), (((1, 0), (1, 0)), 0), (1, 0)))  # fmt: skip
    assert spec_differences(a, b) == []
    assert spec_differences(a, c) == ["output padding (1, 1) against (0, 0)"]


def test_a_factor_shows_in_two_weights_of_a_channel():
    spec = ConvSpec(2, 64, 1, ndim=1)
    source = layer(spec=spec, norm=normalised(64))
    scaled = ConvParams(source.params.kernel * vector(64, 9).reshape(-1, 1, 1), source.params.bias)
    assert is_folded(source, Layer("c", spec, scaled))
    assert not is_folded(source, layer(spec=spec, seed=5))


def test_the_only_wrong_number_of_a_kernel_is_named_by_its_place():
    source = layer()
    kernel = source.params.kernel.copy()
    kernel[1, 2, 0, 3] += 0.5
    (found,) = weight_differences(replace(source, params=ConvParams(kernel, source.params.bias)), source)
    assert found.title.startswith("1 of the kernel's 180 numbers differ, most at (1, 2, 0, 3): ")

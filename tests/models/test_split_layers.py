"""Layers cut into parts by their channels, and put together again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.models.matching import split_layers
from convspec.models.matching.kernels import BatchNorm, Layer

SPECS = [
    (ConvSpec(6, 12, (3, 5), stride=(1, 2), padding=1, groups=3), [4, 4, 4], True),
    (ConvSpec(8, 12, (3, 5), groups=4), [6, 3, 3], True),
    (ConvSpec(6, 6, 3, groups=6, ndim=1, bias=False), [1] * 6, True),
    (ConvSpec(6, 9, (2, 3), stride=2, groups=3, transposed=True), [3, 6], True),
    (ConvSpec(5, 7, (3, 1)), [2, 1, 4], False),
    (ConvSpec(5, 7, (3, 1), transposed=True), [3, 4], False),
]


def layer(spec):
    rng = np.random.default_rng(0)
    gain, shift, mean = rng.normal(size=(3, spec.out_channels))
    norm = BatchNorm(gain, shift, mean, rng.uniform(1, 2, spec.out_channels), 1e-5)
    kernel = rng.integers(-9, 10, spec.kernel_shape).astype(np.float32)  # exact, in whatever order it is summed
    bias = rng.integers(-9, 10, spec.out_channels).astype(np.float32) if spec.bias else None
    return Layer("whole", spec, ConvParams(kernel, bias), norm, epilogue=(norm,))


@pytest.mark.parametrize(("spec", "sizes", "grouped"), SPECS)
def test_the_parts_together_compute_what_the_layer_does(spec, sizes, grouped):
    whole = layer(spec)
    x = np.random.default_rng(2).integers(-9, 10, (2, spec.in_channels, *(7, 9)[: spec.ndim])).astype(np.float64)
    parts = split_layers.split(whole, sizes, grouped=grouped)
    outputs = [
        reference.conv(part.spec, part.params.check(part.spec), x[:, part.part.start : part.part.end]) for part in parts
    ]
    assert np.array_equal(np.concatenate(outputs, 1), reference.conv(spec, whole.params, x))
    for part in (part.norm for part in parts):
        assert len(part.gain) == len(part.variance)
    assert np.array_equal(np.concatenate([part.norm.shift for part in parts]), whole.norm.shift)
    assert np.array_equal(np.concatenate([part.epilogue[0].mean for part in parts]), whole.norm.mean)


@pytest.mark.parametrize(("spec", "sizes", "grouped"), SPECS)
def test_what_was_cut_is_joined_again(spec, sizes, grouped):
    whole = layer(spec)
    parts = split_layers.split(whole, sizes, grouped=grouped)
    again = split_layers.join(parts, grouped=grouped)
    assert again.spec == spec
    assert np.array_equal(again.params.kernel, whole.params.kernel)
    assert (again.params.bias is None) == (whole.params.bias is None)


@pytest.mark.parametrize(("spec", "sizes", "grouped"), [entry for entry in SPECS if len(entry[1]) > 2])
def test_a_part_of_another_kernel_counts_as_zeros(spec, sizes, grouped):
    whole = layer(spec)
    parts = split_layers.split(whole, sizes, grouped=grouped)
    turned = replace(parts[1].spec, kernel_size=(5, 3)[: spec.ndim])
    parts[1] = replace(parts[1], spec=turned, params=ConvParams.random(turned, seed=3))
    again = split_layers.join(parts, grouped=grouped)
    assert again.params.kernel.shape == whole.params.kernel.shape
    zero = slice(sizes[0], sizes[0] + sizes[1])
    assert not again.params.kernel[zero].any()
    assert np.array_equal(again.params.kernel[zero.stop :], whole.params.kernel[zero.stop :])


@pytest.mark.parametrize(
    ("sizes", "grouped"), [([4, 4], True), ([6, 6], True), ([5, 7], True), ([4, 4, 4], False), ([12, 0], True)]
)
def test_what_cannot_be_cut_is_not(sizes, grouped):
    assert split_layers.split(layer(SPECS[0][0]), sizes, grouped=grouped) is None


def test_each_part_goes_to_its_own_place_if_it_can():
    whole = layer(ConvSpec(8, 8, 3, groups=4))
    cut = split_layers.split(whole, [2] * 4, grouped=True)
    assert split_layers.match_parts(cut, cut) == [0, 1, 2, 3]
    assert split_layers.match_parts([cut[1], cut[0], cut[2], cut[3]], cut) == [1, 0, 2, 3]
    same = [cut[0]] * 4
    strange = replace(cut[0], params=ConvParams.random(cut[0].spec, seed=9))
    assert split_layers.match_parts([same[0], strange, *same[2:]], same) == [0, None, 2, 3]
    assert split_layers.match_parts([cut[1], strange, cut[2], cut[3]], cut) == [1, None, 2, 3]
    assert split_layers.assign_rest([1, None, 2, 3]) == [1, 0, 2, 3]
    assert split_layers.assign_rest([None, None, 0, None]) == [2, 1, 0, 3]


def test_parts_without_a_bias_add_nothing_to_their_channels():
    whole = layer(SPECS[0][0])
    parts = split_layers.split(whole, [4, 4, 4], grouped=True)
    bare = ConvParams(parts[1].params.kernel, None)
    parts[1] = replace(parts[1], spec=replace(parts[1].spec, bias=False), params=bare)
    expected = whole.params.bias.copy()
    expected[4:8] = 0
    assert np.array_equal(split_layers.join(parts, grouped=True).params.bias, expected)

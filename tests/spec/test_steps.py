"""Steps without a framework: fields, canonical forms, shapes, arrays, costs, words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convspec.errors import ShapeError, SpecError, UnknownFieldError, UnsupportedError
from convspec.spec import steps as S
from tests.step_examples import EXAMPLES, IDS, X

WORDS = {
    "max pool 3×3, stride 2, padding 1": S.MaxPool(3, stride=2, padding=1),
    "max pool 3×2, stride 2×3, padding (1, 0)×(0, 1), sizes rounded up": EXAMPLES[0][0],
    "average pool 3×2, stride 3×2, padding 'same_lower'": EXAMPLES[3][0],
    "average pool 3, stride 2, padding 1, divided by 4": EXAMPLES[4][0],
    "Lp pool 3×2, p 3, stride 2×3, sizes rounded up": EXAMPLES[6][0],
    "adaptive average pool to 3×·": S.AdaptivePool((3, None)),
    "global max pool, axes removed": S.GlobalPool("max", keepdims=False),
    "nearest resize, by 2×2, asymmetric, floor": S.Resize(scale=2, coordinates="asymmetric", rounding="floor"),
    "cubic resize, to 7×3, coefficient -0.5, antialiased": S.Resize(
        (7, 3), mode="cubic", cubic_coefficient=-0.5, antialias=True
    ),
    "constant pad 1": S.Pad(1),
    "constant pad (3, 0)×(1, 2), value 0.5": S.Pad(((3, 0), (1, 2)), value=0.5),
    "reflect pad (3, 0)×(1, 2)": S.Pad(((3, 0), (1, 2)), "reflect"),
    "crop (1, 3)×2": S.Pad(((-1, -3), (-2, -2))),
    "slice [:, 1:5:2]": S.Slice([(0, None, 1), (1, 5, 2), (None, None, None)]),
    "pixel shuffle, factor 2, order DCR": S.PixelShuffle(2, "DCR"),
    "flatten, channels last": S.Flatten(order="NHWC"),
    "concat along axis 1": S.Concat(),
    "linear 8 → 5, no bias": S.Linear(8, 5, bias=False),
    "mean over axes 2, 3": S.Reduce("mean", (2, 3)),
    "mean over all axes": S.Reduce(),
    "divide, constant 255": S.Divide(255),
    "batch norm, epsilon 0.001, channel axis 3": S.BatchNorm(4, epsilon=1e-3, axis=3),
    "layer norm over axis 1, epsilon 1e-06, no bias": S.LayerNorm(8, 1, epsilon=1e-6, bias=False),
    "leaky ReLU, slope 0.01": S.LeakyReLU(),
    "ReLU6": S.Clip(0, 6),
    "clip, minimum 0": S.Clip(0),
    "GELU, tanh approximation": S.GELU("tanh"),
    "softmax along axis 1, logarithm": S.Softmax(log=True),
    "GridSample": S.Other("GridSample"),
}  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
def test_words(words):
    assert str(WORDS[words]) == words


def test_every_kind_has_an_example():
    assert {type(step) for step, _ in EXAMPLES} == set(S.KINDS.values()) - {S.Other, S.Embedding}
    assert set(S.__all__) >= set(S.KINDS)


@pytest.mark.parametrize(("step", "shapes"), EXAMPLES, ids=IDS)
def test_text_and_json_give_the_step_back(step, shapes):
    assert S.Step.from_dict(json.loads(json.dumps(step.to_dict()))) == step
    assert eval(repr(step), vars(S)) == step
    assert len({step, S.Step.from_dict(step.to_dict())}) == 1
    assert str(step) == step.words


def test_no_two_examples_have_the_same_words():
    assert len({str(step) for step, _ in EXAMPLES}) >= len(EXAMPLES) - 1  # Linear with and without an axis do not


SAME = [
    (S.MaxPool(3), S.MaxPool((3, 3), (3, 3), ((0, 0), (0, 0)))),
    (S.MaxPool(3, padding="valid"), S.MaxPool([3, 3], padding=[0, 0])),
    (S.MaxPool((3, 2), 1, "same"), S.MaxPool((3, 2), 1, ((1, 1), (0, 1)))),
    (S.MaxPool((3, 2), 1, "same_lower"), S.MaxPool((3, 2), 1, ((1, 1), (1, 0)))),
    (S.MaxPool(3, 2, "same", ceil_mode=True), S.MaxPool(3, 2, "same")),
    (S.MaxPool((3,), 2), S.MaxPool(np.array([3]), np.int64(2))),
    (S.AveragePool(3, count_include_pad=True), S.AveragePool(3)),
    (S.LpPool(3, signed=True), S.LpPool(3)),
    (S.Pad(((0, 0), (0, 0), (1, 2))), S.Pad(((1, 2),))),
    (S.Pad(((-1, -2),), "reflect", 3.0), S.Pad(((-1, -2),))),
    (S.PReLU((6, 1, 1)), S.PReLU(6)),
    (S.PReLU((1, 1)), S.PReLU()),
    (S.LayerNorm(6, 1, 1), S.LayerNorm(6, 1)),
    (S.BatchNorm(6, fast_variance=True), S.BatchNorm(6)),
    (S.Resize((7, 3), mode="linear", exclude_outside=True), S.Resize((7, 3), mode="linear")),
    (S.Resize((7, 3), cubic_coefficient=-0.5, antialias=True, recompute_scale=True), S.Resize((7, 3))),
    (S.Slice([(0, None, 1), (None, None, None)]), S.Slice(())),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_spellings_of_a_step_are_equal(one, other):
    assert one == other
    assert hash(one) == hash(other)


DIFFERENT = [
    (S.MaxPool(3, 2, 1), S.MaxPool(3, 2, "same")),
    (S.MaxPool(3, 2, "same"), S.MaxPool(3, 2, "same_lower")),
    (S.Resize(7, mode="linear", antialias=True, exclude_outside=True), S.Resize(7, mode="linear", antialias=True)),
    (S.PReLU((1, 5)), S.PReLU(5)),
    (S.LayerNorm(6, 1), S.RMSNorm(6, 1)),
    (S.Slice([(0, 1, 1)]), S.Slice([(None, None, -1)])),
    (S.Slice([(0, None, -1)]), S.Slice([(None, None, -1)])),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_steps_differ(one, other):
    assert one != other


def test_one_error_lists_every_problem():
    with pytest.raises(SpecError) as raised:
        S.MaxPool(0, (1, 2, 3), "smae", ceil_mode="no")
    assert len(raised.value.problems) == 3
    assert "kernel_size=0 must be an int, or ints, one per spatial axis, each at least 1" in str(raised.value)
    assert "ceil_mode='no' must be True or False" in str(raised.value)
    with pytest.raises(SpecError, match="kernel_size has 2, stride has 3"):
        S.MaxPool((3, 3), (1, 2, 3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: S.AveragePool(3, divisor=0), "divisor=0 must not be 0"),
        (lambda: S.LpPool(3, p=0), "p=0 must be a number, greater than 0"),
        (lambda: S.AdaptivePool((3, -1)), "output_size=.* at least 0"),
        (S.Resize, "size=None must be given, or scale"),
        (lambda: S.Resize(3, 2), "exactly one of them"),
        (lambda: S.Resize(scale=(2, 0)), "scale=.* greater than 0"),
        (lambda: S.Resize(3, mode="bilinear"), "mode='bilinear' must be one of 'nearest'"),
        (lambda: S.Pad(((1, -1),), "reflect"), "crop in a step of its own"),
        (lambda: S.Pad("same"), "padding='same' must be an int"),
        (lambda: S.Slice([(0, 1)]), "ranges="),
        (lambda: S.Slice([(0, 1, 0)]), "a step other than 0"),
        (lambda: S.Dropout(1.5), "rate=1.5 must be at most 1"),
        (lambda: S.Reshape((-1, -1)), "at most one -1"),
        (lambda: S.GroupNorm(6, 4), "groups=4 must divide channels=6"),
        (lambda: S.LayerNorm((8, 6), 1), "shape=.* must have one size for each of 1 axes"),
        (lambda: S.Clip(1, 0), "minimum=1 must not exceed maximum=0.0"),
        (lambda: S.LeakyReLU("0.1"), "slope='0.1' must be a number"),
        (lambda: S.LeakyReLU(float("nan")), "slope=nan must be a number"),
        (lambda: S.Linear(3, True), "out_features=True must be an int"),
        (lambda: S.Pointwise("sinh"), "function='sinh' must be one of"),
        (lambda: S.Step.from_dict({"step": "MaxPol"}), "did you mean 'MaxPool'"),
        (lambda: S.Step.from_dict([]), "must be a mapping"),
        (lambda: S.Step.from_dict({"step": "MaxPool"}), "kernel_size must be given"),
    ],
)
def test_a_bad_field(make, words):
    with pytest.raises(SpecError, match=words):
        make()


def test_sizes_that_no_tensor_has():
    with pytest.raises(SpecError, match="must be at most 2"):
        S.MaxPool(10**5000)
    huge = S.AdaptivePool(10**12).output_shape((1, 1, 2, 3))  # without a list of all windows
    assert huge == (1, 1, 10**12, 10**12)


def test_an_unknown_field():
    with pytest.raises(UnknownFieldError, match=r"did you mean 'kernel_size'.*kernel_size must be given"):
        S.MaxPool(kernal_size=3)
    with pytest.raises(TypeError):
        S.ReLU(slope=1)


def test_a_step_is_frozen():
    with pytest.raises(AttributeError):
        S.MaxPool(3).ceil_mode = True


SIZES = [  # step, canonical input, output
    (S.MaxPool(3, 2, 1), (1, 8, 112, 111), (1, 8, 56, 56)),
    (S.MaxPool((2,), 3, ceil_mode=True), (1, 1, 3), (1, 1, 1)),  # the second window would start behind the input
    (S.MaxPool((2,), 2, ceil_mode=True), (1, 1, 1), (1, 1, 1)),
    (S.MaxPool((3,), 2, "same"), (1, 1, 8), (1, 1, 4)),
    (S.AdaptivePool((7, None)), (1, 2, 3, 4), (1, 2, 7, 4)),
    (S.GlobalPool(keepdims=False), (2, 3, 4, 5, 6), (2, 3)),
    (S.Resize(scale=(1.7, 0.7)), (1, 2, 5, 10), (1, 2, 8, 7)),
    (S.Pad(((2, -1), (0, 3))), X, (2, 6, 6, 11)),
    (S.PixelShuffle(2), (1, 8, 3, 5), (1, 2, 6, 10)),
    (S.Reshape((0, -1)), X, (2, 240)),
    (S.Reshape((0, 0, 0)), (2, 3, 0), (2, 3, 0)),
    (S.Flatten(2, 3), X, (2, 6, 40)),
]


@pytest.mark.parametrize(("step", "shape", "expected"), SIZES)
def test_sizes(step, shape, expected):
    assert step.output_shape(shape) == expected


def test_shapes_in_another_layout():
    assert S.MaxPool(3, 2, 1).output_shape((1, 9, 7, 8), layout="NHWC") == (1, 5, 4, 8)
    assert S.Concat(1).output_shape((1, 9, 7, 8), (1, 9, 7, 2), layout="NHWC") == (1, 9, 7, 10)
    assert S.Flatten(order="NHWC").output_shape((1, 9, 7, 8), layout="NHWC") == (1, 504)
    assert S.MaxPool((3,)).output_shape((1, 9, 4), layout="NWC") == (1, 3, 4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: S.MaxPool(3).output_shape((1, 2, 2, 5)), "window spans 3 pixels, but the padded input has 2"),
        (lambda: S.MaxPool((2,), 1, ceil_mode=True).output_shape((1, 1, 1)), "window spans 2 pixels"),
        (lambda: S.MaxPool(3).output_shape((1, 2, 5)), "2 spatial axes has 4 axes"),
        (lambda: S.MaxPool(3).output_shape(X, X), "needs 1 input"),
        (lambda: S.Concat().output_shape(), "needs at least one input"),
        (lambda: S.AdaptivePool((7, 3), bins="disjoint").output_shape(X), "cannot be divided into 7×3"),
        (lambda: S.Pad(5, "reflect").output_shape(X), "at most 4 for 5 pixels"),
        (lambda: S.Pad(6, "symmetric").output_shape(X), "at most 5 for 5 pixels"),
        (lambda: S.Pad(1, "replicate").output_shape((1, 1, 0, 3)), "pixel to repeat"),
        (lambda: S.Pad(-3).output_shape(X), "crops more than the 5"),
        (lambda: S.Pad(((1, 1),) * 5).output_shape(X), "has fewer"),
        (lambda: S.PixelShuffle(2).output_shape(X), "multiple of 4"),
        (lambda: S.PixelUnshuffle(2).output_shape(X), "multiples of 2"),
        (lambda: S.PixelShuffle(2).output_shape((2, 4)), "no spatial axis"),
        (lambda: S.ChannelShuffle(4).output_shape(X), "multiple of groups=4"),
        (lambda: S.Reshape((7, -1)).output_shape(X), "480 elements, not 476"),
        (lambda: S.Reshape((1, 1, 0)).output_shape((2, 2)), "does not have"),
        (lambda: S.Flatten(2, 1).output_shape(X), "must not come before"),
        (lambda: S.Permute((0, 1, 2)).output_shape(X), "has 4 axes, not 3"),
        (lambda: S.Permute((0, 1, 1, 2)).output_shape(X), "must differ"),
        (lambda: S.Squeeze(1).output_shape(X), "must have size 1"),
        (lambda: S.Expand((3,)).output_shape(X), "cannot be repeated"),
        (lambda: S.Concat(1).output_shape(X, (2, 6, 5, 7)), "equal sizes on all other axes"),
        (lambda: S.Split((1, 2)).output_shape(X), "sum to the 6 of axis 1"),
        (lambda: S.Split((1, 5)).output_shape(X), "has 2 outputs: call output_shapes"),
        (lambda: S.Select(1, 6).output_shape(X), "no position 6"),
        (lambda: S.Slice([(None, 1, 1)] * 5).output_shape(X), "fewer than 5 axes"),
        (lambda: S.Add().output_shape(X), "second input or a constant"),
        (lambda: S.Add().output_shape(X, (5, 8, 7)), "do not broadcast"),
        (lambda: S.Subtract().output_shape(X, X, X), "two operands, got 3"),
        (lambda: S.MatMul().output_shape((2, 3), (2, 3)), "must equal the last but one"),
        (lambda: S.Linear(7, 3).output_shape(X), "must be in_features=7"),
        (lambda: S.BatchNorm(5).output_shape(X), "must be channels=5"),
        (lambda: S.LayerNorm(5).output_shape(X), "must have the sizes"),
        (lambda: S.PReLU(5).output_shape(X), "do not fit axis 1"),
        (lambda: S.GLU(2).output_shape(X), "even size"),
        (lambda: S.Softmax(4).output_shape(X), "axis 4 must be an axis"),
    ],
)
def test_a_shape_that_does_not_fit(make, words):
    with pytest.raises(ShapeError, match=words):
        make()


def test_the_shape_of_an_operation_that_is_not_known():
    with pytest.raises(UnsupportedError, match="'GridSample' is not known"):
        S.Other("GridSample").output_shape(X)


def test_arrays_and_costs():
    norm = S.BatchNorm(6)
    assert norm.arrays == {"scale": (6,), "bias": (6,), "mean": (6,), "variance": (6,)}
    assert norm.num_parameters == 12  # statistics are not learnt
    assert S.Linear(8, 5).arrays == {"weight": (5, 8), "bias": (5,)}
    assert S.Linear(8, 5).macs(X) == 2 * 6 * 5 * 8 * 5
    assert S.Linear(6, 5, axis=1).macs((2, 5, 8, 6), layout="NHWC") == 2 * 6 * 5 * 8 * 5
    assert S.MatMul().macs((2, 1, 5, 30), (3, 30, 4)) == 2 * 3 * 5 * 30 * 4
    assert S.MaxPool(3).macs(X) == 0
    assert S.LayerNorm((8, 6), (3, 1), scale=False).arrays == {"bias": (8, 6)}
    assert S.Embedding(7, 5).num_parameters == 35
    assert S.Embedding(7, 5).output_shape((2, 3)) == (2, 3, 5)
    assert S.PReLU((6, 1, 1)).arrays == {"slope": (6,)}

"""The data flow in canonical order: laws that hold for all networks, whatever their layout."""

from __future__ import annotations

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec, reference
from convspec.contract import Call, Part, Reading, TracedStep
from convspec.models.comparison.step_check import same_steps, unjudged
from convspec.models.dataflow import views
from convspec.models.dataflow.calls import step_of_norm, trace_of_calls
from convspec.models.dataflow.views import canonical_order, move
from convspec.spec import steps as S
from tests.models.numpy_models import opened

X = np.random.default_rng(0).standard_normal((2, 3, 12, 10)).astype(np.float32)
CONV = ConvSpec(3, 8, (3, 5), padding=(1, 2))


def conv(cin, cout, **words):
    return ConvSpec(cin, cout, **({"kernel_size": 3, "padding": 1} | words))


# Each is a program of canonical steps; ``run.axis`` gives an axis of the framework's order.


def plain(run, x):
    y = run("c1", CONV, x)
    y = run("n1", S.BatchNorm(8), y)
    y = run("pool", S.MaxPool((3, 2), 2, (1, 0)), run("relu", S.ReLU(), y))
    y = run("c2", conv(8, 4, stride=2), y)
    return run("up", S.Resize(scale=2), run("gn", S.GroupNorm(4, groups=2), y))


def residual(run, x):
    y = run("c1", CONV, x)
    z = run("c2", conv(8, 8), run("act", S.GELU(), y))
    gate = run("mean", S.GlobalPool(), z)
    gate = run("sigmoid", S.Sigmoid(), run("squeeze", ConvSpec(8, 8, 1), gate))
    return run("sum", S.Add(), run("gated", S.Multiply(), z, gate), y)


def branches(run, x):
    parts = [run(f"b{d}", conv(3, 4, padding=d, dilation=d), x) for d in (1, 2, 3)]
    y = run("cat", S.Concat(run.axis(1)), *(run(f"r{i}", S.ReLU(), p) for i, p in enumerate(parts)))
    first, second = run("split", S.Split((5, 7), run.axis(1)), y)
    return run("c", conv(7, 3), second), run("d", conv(5, 3), first)


def shuffled(run, x):
    y = run("shuffle", S.ChannelShuffle(2), run("c1", CONV, x))
    y = run("pixels", S.PixelShuffle(2), y)
    return run("c2", conv(2, 3), run("prelu", S.PReLU((2,)), y))


def tokens(run, x):
    """Of a transformer: pixels become tokens, whose features are the last axis."""
    y = run("patches", conv(3, 8, stride=2), x)
    n, c, h, w = run.shape(y)
    if run.layout == "NCHW":
        y = run("order", S.Permute((0, 2, 1)), run("flat", S.Flatten(2), y))
    else:
        y = run("flat", S.Reshape((n, h * w, c)), y)
    y = run("norm", S.LayerNorm((8,)), y)
    y = run("linear", S.Linear(8, 6), y)
    return run("soft", S.Softmax(-1), run("max", S.Reduce("max", (1,)), y))


def padded(run, x):
    image = [(1, 2), (0, 1)]
    y = run("pad", S.Pad(image if run.layout == "NCHW" else [*image, (0, 0)]), x)
    y = run("c1", conv(3, 4, padding=0), y)
    crop = [(None, None, 1), (1, -1, 1), (None, -2, 1)]
    ranges = [(None, None, 1), *crop] if run.layout == "NCHW" else [crop[0], *crop[1:], crop[0]]
    return run("c2", conv(4, 2), run("crop", S.Slice(ranges), run("relu", S.ReLU(), y)))


IMAGES = [plain, residual, branches, shuffled, tokens, padded]


@pytest.mark.parametrize("program", IMAGES)
def test_a_network_is_the_same_in_either_layout(program):
    a = opened(program, X)
    b = opened(program, X, layout="NHWC", weights={path: dict(own) for path, own in a.native.weights.items()})
    assert unjudged(a, b, (set(), set())) == []
    assert same_steps(a, b, [])
    for graph in (a.graph, b.graph):
        assert all(graph.numbers(value) is not None for value in range(len(graph.values)))
    pairs = zip(a.graph.nodes, b.graph.nodes, strict=True)
    for node, other in pairs:
        for ours, theirs in zip(node.writes, other.writes, strict=True):
            np.testing.assert_allclose(a.graph.numbers(ours), b.graph.numbers(theirs), rtol=1e-4, atol=1e-4)


CHANGES = [
    (plain, S.ReLU(), S.Clip(0, 6)), (plain, S.MaxPool((3, 2), 2, (1, 0)), S.MaxPool((3, 2), 2, [(0, 1), (0, 0)])),
    (plain, S.MaxPool((3, 2), 2, (1, 0)), S.AveragePool((3, 2), 2, (1, 0))),
    (plain, S.Resize(scale=2), S.Resize(scale=2, mode="linear")), (plain, S.BatchNorm(8), S.BatchNorm(8, epsilon=1e-3)),
    (plain, S.GroupNorm(4, groups=2), S.GroupNorm(4, groups=4)), (residual, S.GELU(), S.GELU("tanh")),
    (residual, S.Multiply(), S.Add()), (residual, S.Sigmoid(), S.HardSigmoid()),
    (shuffled, S.PixelShuffle(2), S.PixelShuffle(2, "DCR")), (shuffled, S.ChannelShuffle(2), S.ChannelShuffle(4)),
    (tokens, S.LayerNorm((8,)), S.LayerNorm((8,), epsilon=1e-6)), (tokens, S.Softmax(-1), S.Softmax(-1, log=True)),
    (tokens, S.Reduce("max", (1,)), S.Reduce("mean", (1,))), (padded, S.ReLU(), S.Identity()),
    (padded, S.Pad([(1, 2), (0, 1)]), S.Pad([(2, 1), (0, 1)])),
]  # fmt: skip


@pytest.mark.parametrize(("program", "old", "new"), CHANGES)
def test_a_change_of_a_setting_is_no_longer_the_same(program, old, new):
    met = []

    def changed(run, x):
        call = run.__call__

        class Changing:
            def __getattr__(self, name):
                return getattr(run, name)

            def __call__(self, path, step, *reads):
                met.append(step == old)
                return call(path, new if step == old else step, *reads)

        return program(Changing(), x)

    a, b = opened(program, X), opened(changed, X)
    assert any(met)
    assert not same_steps(a, b, [])
    assert same_steps(a, opened(program, X), [])


def test_an_array_and_the_order_of_operands_and_results_count():
    a = opened(residual, X)
    weights = {path: dict(own) for path, own in a.native.weights.items()}
    weights["c2"]["bias"] = weights["c2"]["bias"] + 1
    assert not same_steps(a, opened(residual, X, weights=weights), [])

    def swapped(run, x):
        return branches(run, x)[::-1]

    assert not same_steps(opened(branches, X), opened(swapped, X), [])

    def exchanged(run, x):
        y = run("c1", CONV, x)
        z = run("c2", conv(8, 8), run("act", S.GELU(), y))
        gate = run("sigmoid", S.Sigmoid(), run("squeeze", ConvSpec(8, 8, 1), run("mean", S.GlobalPool(), z)))
        return run("sum", S.Add(), y, run("gated", S.Multiply(), gate, z))

    assert same_steps(a, opened(exchanged, X), [])  # sums and products commute


SPELLINGS = {
    "global pool": (S.GlobalPool(), S.AdaptivePool((1, 1))),
    "pool over all": (S.GlobalPool(), S.AveragePool((12, 10))),
    "adaptive": (S.AdaptivePool((4, 5)), S.AveragePool((3, 2))),
    "same": (S.MaxPool(3, 2, "same"), S.MaxPool(3, 2, [(0, 1), (0, 1)])),
    "rounded up": (S.MaxPool(3, 2, ceil_mode=True), S.MaxPool(3, 2, [(0, 1), (0, 1)])),
    "unused pad": (S.MaxPool(3, 2, 0), S.MaxPool(3, 2, [(0, 0), (0, 0)])),
    "nearest": (S.Resize(scale=2), S.Resize(scale=2, coordinates="asymmetric", rounding="floor")),
    "instance": (S.InstanceNorm(3), S.GroupNorm(3, groups=3)),
    "slope 0": (S.LeakyReLU(0), S.ReLU()),
    "no bound": (S.Clip(0, None), S.ReLU()),
    "crop": (S.Pad([(-1, 0), (0, -2)]), S.Slice([(None, None, 1), (None, None, 1), (1, None, 1), (None, 8, 1)])),
    "nothing added": (S.Add(0), S.Identity()), "divided by 1": (S.Divide(1), S.Dropout(0.2)),
    "one row": (S.Select(2, -1), S.Select(2, 11)),
    "convolution": (ConvSpec(3, 4, 3, stride=2, padding="same"), ConvSpec(3, 4, 3, stride=2, padding=((0, 1), (0, 1)))),
    "unused pixels": (ConvSpec(3, 4, 3, stride=2, padding=((0, 2), (0, 2))),
                      ConvSpec(3, 4, 3, stride=2, padding=((0, 1), (0, 1)))),
    "one pixel": (ConvSpec(3, 4, 1, dilation=2), ConvSpec(3, 4, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_two_spellings_are_one_step(name):
    a, b = (opened(lambda run, x, step=step: run("step", step, x), X) for step in SPELLINGS[name])
    assert same_steps(a, b, [])
    np.testing.assert_allclose(a.outputs[0], b.outputs[0], rtol=1e-5)


@pytest.mark.parametrize(("before", "pad", "same"), [
    (S.ReLU(), 1, True), (S.ReLU(), 2, False), (S.Tanh(), 1, False), (S.Sigmoid(), 1, True),
    (S.Sigmoid(log=True), 1, False), (S.Clip(0, 6), 1, True), (S.Clip(-1, 6), 1, False), (S.Clip(None, 6), 1, False),
])  # fmt: skip
def test_zeros_beside_numbers_that_are_not_negative_are_no_pads_of_a_maximum(before, pad, same):
    def inside(run, x):
        return run("pool", S.MaxPool(2, 2, [(1, 1), (1, 1)]), run("act", before, x))

    def outside(run, x):
        y = run("pad", S.Pad([(pad, pad), (pad, pad)]), run("act", before, x))
        return run("pool", S.MaxPool(2, 2), y)

    assert same_steps(opened(inside, X), opened(outside, X), []) == same


def test_a_split_is_its_slices_and_a_position_is_one():
    def split(run, x):
        return run("split", S.Split((5, 5, 2), run.axis(2)), x)

    def slices(run, x):
        rest = [(None, None, 1)] * run.axis(2)
        return tuple(run(f"s{a}", S.Slice([*rest, (a, b, 1)]), x) for a, b in ((0, 5), (5, -2), (-2, None)))

    assert same_steps(opened(split, X), opened(slices, X, layout="NHWC"), [])
    one = opened(lambda run, x: run("at", S.Select(run.axis(3), 4), x), X)
    ranges = [*[(None, None, 1)] * 3, (4, 5, 1)]
    assert same_steps(one, opened(lambda run, x: run("drop", S.Squeeze(3), run("s", S.Slice(ranges), x)), X), [])
    assert not same_steps(one, opened(lambda run, x: run("at", S.Select(3, 5), x), X), [])


def test_a_pad_before_and_a_crop_after_a_convolution_belong_to_it():
    def outside(run, x):
        return run("c", conv(3, 4, padding=0), run("pad", S.Pad([(1, 1), (1, 1)]), x))

    def cropped(run, x):
        wide = run("c", conv(3, 4, padding=3), x)
        return run("crop", S.Slice([(None, None, 1), (None, None, 1), (2, -2, 1), (2, -2, 1)]), wide)

    def transposed(run, x, padding=1, crop=0):
        spec = ConvSpec(3, 4, 4, stride=2, padding=padding, transposed=True)
        y = run("t", spec, x)
        return run("crop", S.Pad([(-crop, -crop), (-crop, -crop)]), y) if crop else y

    inside = opened(lambda run, x: run("c", conv(3, 4), x), X)
    assert same_steps(inside, opened(outside, X), [])
    assert same_steps(inside, opened(cropped, X), [])
    assert same_steps(opened(transposed, X), opened(lambda run, x: transposed(run, x, 0, 1), X), [])
    assert not same_steps(opened(transposed, X), opened(lambda run, x: transposed(run, x, 0, 2), X), [])


def test_a_division_after_a_pool_is_its_divisor():
    def summed(run, x, step):
        y = run("sum", S.AveragePool(2, divisor=1), x)
        return run("divided", step, run("order", S.Permute((0, 1, 3, 2)), y)) if step else y

    mean = opened(lambda run, x: run("order", S.Permute((0, 1, 3, 2)), run("mean", S.AveragePool(2), x)), X)
    for step in (S.Divide(4), S.Multiply(0.25), S.Divide(3), S.Divide(4, reflected=True), None):
        other = opened(lambda run, x, step=step: summed(run, x, step), X)
        assert same_steps(mean, other, []) == (step in (S.Divide(4), S.Multiply(0.25)))
    assert len(opened(lambda run, x: summed(run, x, S.Divide(4)), X).graph.live) == 3


def test_a_step_beyond_its_bound_or_without_one_is_not_judged():
    def wrong(run, x):
        y = run("relu", S.ReLU(), x, function=lambda x: np.maximum(x, np.float32(0.1)))
        return run("other", S.Other("cumsum"), y, function=lambda x: np.cumsum(x, 1))

    def dead(run, x):
        run("other", S.Other("cumsum"), x, function=lambda x: np.cumsum(x, 1))
        return run("relu", S.ReLU(), x)

    found = unjudged(opened(wrong, X), opened(dead, X), (set(), set()))
    assert len(found) == 2
    assert found[0].startswith("model a: relu (ReLU: value: ")
    assert found[1] == "model a: other (cumsum)"


@pytest.mark.parametrize("seed", range(20))
def test_views_hold_the_elements_in_place(seed):
    """A chain of random reshapes and transposes is undone by ``restore``."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.choice([1, 2, 3, 4, 6], rng.integers(1, 5)))
    value = np.arange(np.prod(shape)).reshape(shape)
    x, view = value, views.dense(shape)
    for _ in range(6):
        axes = tuple(int(i) for i in rng.permutation(x.ndim))
        x, view = x.transpose(axes), tuple(view[i] for i in axes)
        if x.ndim > 1:
            at = int(rng.integers(x.ndim - 1))
            wanted = (*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])
            x, view = x.reshape(wanted), views.regroup(view, wanted)
        split = [n for n in (2, 3) if x.shape[0] % n == 0]
        wanted = (split[0], x.shape[0] // split[0], *x.shape[1:]) if split else (1, *x.shape)
        if (regrouped := views.regroup(view, wanted)) is not None:
            x, view = x.reshape(wanted), regrouped
        assert [views.size(axis) for axis in view] == list(x.shape)
        assert np.array_equal(views.restore(x, view, shape), value)


@pytest.mark.parametrize("step", [S.Flatten(), S.Flatten(order="NHWC")], ids=repr)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_flatten_that_names_its_layout_moves_as_the_reference_says(step, layout):
    """Keras' ``Flatten`` puts the channels last in either layout, once."""
    value = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    axes = canonical_order(layout, 4)
    traced = TracedStep("flatten", step, (0,), (1,), layout=layout)
    view = move(traced, tuple(views.dense(value.shape)[axes.index(i)] for i in range(4)), (2, 60))
    (expected,) = reference.steps.evaluate(step, [value])
    assert view is not None
    assert np.array_equal(views.restore(expected, view, value.shape), value)


def generator(run, x):
    """From a latent vector to an image: the features of the linear layer become channels and pixels."""
    y = run("norm", S.BatchNorm(24), run("linear", S.Linear(5, 24), x))
    y = run("relu", S.ReLU(), y)
    n = run.shape(x)[0]
    y = run("view", S.Reshape((n, 2, 3, 4) if run.layout == "NCHW" else (n, 3, 4, 2)), y)
    return run("up", ConvSpec(2, 3, 3, stride=2, transposed=True), run("leaky", S.LeakyReLU(0.2), y))


def heads(run, x):
    """Two linear heads after one flatten, one with a norm before it."""
    y = run("flat", S.Flatten(), run("c", conv(3, 2, stride=4), x))
    return run("a", S.Linear(18, 4), y), run("b", S.Linear(18, 4), run("norm", S.LayerNorm((18,)), y))


def shuffle_rows(array, shape, axis):
    """Return an array whose features are in the order of an image with channels last."""
    features = np.arange(array.shape[axis]).reshape(shape).transpose(1, 2, 0).reshape(-1)
    return array.take(features, axis)


def test_features_of_linear_layers_are_in_the_order_of_channels_and_pixels():
    latent = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    a = opened(generator, latent)
    weights = {path: dict(own) for path, own in a.native.weights.items()}
    assert not same_steps(a, opened(generator, latent, layout="NHWC", weights=weights), [])
    for path in ("linear", "norm"):
        weights[path] = {name: shuffle_rows(array, (2, 3, 4), 0) for name, array in weights[path].items()}
    b = opened(generator, latent, layout="NHWC", weights=weights)
    assert same_steps(a, b, [])
    for value in range(len(a.graph.values)):
        np.testing.assert_allclose(a.graph.numbers(value), b.graph.numbers(value), rtol=1e-4, atol=1e-4)

    a = opened(heads, X)
    weights = {path: dict(own) for path, own in a.native.weights.items()}
    weights["a"]["weight"] = shuffle_rows(weights["a"]["weight"], (2, 3, 3), 1)
    weights["b"]["weight"] = shuffle_rows(weights["b"]["weight"], (2, 3, 3), 1)
    assert not same_steps(a, opened(heads, X, layout="NHWC", weights=weights), [])
    weights["norm"] = {name: shuffle_rows(array, (2, 3, 3), 0) for name, array in weights["norm"].items()}
    assert same_steps(a, opened(heads, X, layout="NHWC", weights=weights), [])


@pytest.mark.parametrize(("step", "moves"), [
    (S.Add(0), True), (S.Subtract(0), True), (S.Multiply(1), True), (S.Divide(1), True), (S.Add(1), False),
    (S.Multiply(0), False), (S.Subtract(0, reflected=True), False), (S.Divide(1, reflected=True), False),
    (S.ReLU(), False),
])  # fmt: skip
def test_a_constant_that_changes_nothing_is_no_step(step, moves):
    view = views.dense((2, 3, 4))
    found = move(TracedStep("", step, (0,), (1,)), view, (2, 3, 4))
    assert found == (view if moves else None)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("norm", "kind"), [
    ("batch", S.BatchNorm), ("group", S.GroupNorm), ("layer", S.LayerNorm),
])  # fmt: skip
def test_a_norm_is_a_step_that_computes_its_variance_in_the_same_way(norm, kind, fast):
    arrays = {"gain": np.ones(4, np.float32), "shift": np.zeros(4, np.float32)}
    part = Part("n", "norm", "Norm", arrays=arrays, epsilon=1e-3, axis=-1, norm=norm, axes=(-1,), groups=2)
    step, own = step_of_norm(part, (2, 3, 4), fast_variance=fast)
    assert (type(step), step.fast_variance, step.epsilon, set(own)) == (kind, fast, 1e-3, {"scale", "bias"})


@pytest.mark.parametrize("step", [
    S.PixelShuffle(2), S.PixelShuffle(2, "DCR"), S.PixelUnshuffle(2), S.PixelUnshuffle(2, "DCR"), S.ChannelShuffle(4),
], ids=repr)  # fmt: skip
def test_a_shuffle_moves_as_the_reference_says(step):
    value = np.arange(2 * 8 * 4 * 6).reshape(2, 8, 4, 6)
    (expected,) = reference.steps.evaluate(step, [value])
    view = move(TracedStep("", step, (0,), (1,), layout="NCHW"), views.dense(value.shape), expected.shape)
    assert np.array_equal(views.restore(expected, view, value.shape), value)


def test_the_calls_of_layers_are_steps_with_their_paths_and_what_is_between_is_not_seen():
    spec = conv(3, 4)
    kernel = ConvParams.random(spec)
    arrays = {"kernel": np.ones((5, 4), np.float32), "bias": np.zeros(5, np.float32)}
    parts = [Part("c", "conv", "Conv", Reading(spec, kernel, "NCHW")), Part("l", "linear", "Linear", arrays=arrays),
             Part("n", "norm", "Norm", arrays={"gain": np.ones(5, np.float32)}, norm="layer", axes=(-1,))]  # fmt: skip
    x, y, flat, z, end = (np.full(shape, i, np.float32) for i, shape in enumerate(
        ((1, 3, 8, 8), (1, 4, 6, 6), (1, 4), (1, 5), (1, 5))))  # fmt: skip
    calls_ = [Call("c", x, y), Call("l", flat, z), Call("n", z, end)]
    found = trace_of_calls(parts, calls_, [x], [end])
    between = "the operations before l"
    assert [step.path for step in found.steps] == ["c", between, "l", "n"]
    assert [(step.reads, step.writes) for step in found.steps] == [
        ((0,), (1,)),
        ((1,), (2,)),
        ((2,), (3,)),
        ((3,), (4,)),
    ]
    assert [type(step.step) for step in found.steps] == [ConvSpec, S.Other, S.Linear, S.LayerNorm]
    norm = found.steps[-1].step
    assert (norm.scale, norm.bias, found.outputs) == (True, False, (4,))


@pytest.mark.parametrize(("padding", "same"), [
    ([(0, 0), (0, 0)], True), ([(0, 1), (0, 0)], False), ([(1, 0), (0, 0)], False), ([(0, 0), (0, 2)], False),
])  # fmt: skip
def test_averages_with_and_without_the_pads_are_one_step_only_where_no_window_has_pads(padding, same):
    def program(counted):
        pool = S.AveragePool((3, 3), 1, padding, count_include_pad=counted)
        return lambda run, x: run("pool", pool, x)

    assert same_steps(opened(program(True), X), opened(program(False), X), []) == same


@pytest.mark.parametrize(("axis", "same"), [(2, True), (1, False), (0, False)])
def test_a_pad_of_samples_or_channels_is_no_pad_of_windows(axis, same):
    """A pool pads its pixels only: zeros as further channels are further results."""

    def inside(run, x):
        return run("pool", S.AveragePool(2, 1, [(1, 0), (0, 0)], count_include_pad=True), x)

    def outside(run, x):
        y = run("pad", S.Pad([(int(i == axis), 0) for i in range(4)]), x)
        return run("pool", S.AveragePool(2, 1), y)

    assert same_steps(opened(inside, X), opened(outside, X), []) == same

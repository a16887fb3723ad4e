"""Mistakes planted between two layers, or after the last one: each is named by its settings, in either layout."""

from __future__ import annotations

import numpy as np
import pytest

from convspec import ConvSpec
from convspec.models.comparison.run_both import compare_open
from convspec.spec import steps as S
from tests.models import numpy_models

X = 3 * np.random.default_rng(0).standard_normal((2, 3, 12, 10)).astype(np.float32)
R = S.ReLU()
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)

# steps of model a and of model b between two convolutions of eight channels, and how the difference begins
MIDDLE = {
    "relu-missing": ([R], []), "relu-extra": ([], [R]), "gelu-approximation": ([S.GELU()], [S.GELU("tanh")]),
    "leaky-relu-slope": ([S.LeakyReLU(0.01)], [S.LeakyReLU(0.3)]), "relu-as-relu6": ([R], [S.Clip(0, 6)]),
    "silu-as-hard-swish": ([S.SiLU()], [S.HardSwish()]),
    "max-pool-as-average-pool": ([S.MaxPool(2)], [S.AveragePool(2)]),
    "max-pool-padding": ([R, S.MaxPool(3, 2, 1)], [R, S.MaxPool(3, 2, "same")]),
    "average-pool-count-include-pad": ([S.AveragePool(3, 2, 1)], [S.AveragePool(3, 2, 1, count_include_pad=True)]),
    "average-pool-divisor": ([S.AveragePool(2)], [S.AveragePool(2, divisor=3)]),
    "max-pool-ceil-mode": ([S.MaxPool((5, 4), 3, ceil_mode=True)], [S.MaxPool((5, 4), 3)]),
    "max-pool-stride": ([S.MaxPool(2)], [S.MaxPool(2, 1)]),
    "resize-mode": ([S.Resize(scale=2)], [S.Resize(scale=2, mode="linear")]),
    "resize-coordinates": ([S.Resize(scale=2, mode="linear")],
                           [S.Resize(scale=2, mode="linear", coordinates="align_corners")]),
    "channel-shuffle-order": ([S.ChannelShuffle(2)], [S.ChannelShuffle(4)]),
    "channel-shuffle-order: model a: none": ([], [S.ChannelShuffle(2)]),
    "pixel-shuffle-order": ([S.PixelUnshuffle(2), R, S.PixelShuffle(2)],
                            [S.PixelUnshuffle(2), R, S.PixelShuffle(2, "DCR")]),
    "dropout-active": ([S.Dropout(0.5)], [S.Dropout(0.5, training=True)]),
    "pad-mode": ([S.Pad([(1, 1), (0, 0)], "reflect")], [S.Pad([(1, 1), (0, 0)], "replicate")]),
    "multiply-constant": ([S.Multiply(0.5)], [S.Multiply(0.25)]),
    "sigmoid-as-hard-sigmoid": ([S.Sigmoid()], [S.HardSigmoid()]),
    "power-missing": ([R, S.Power(2), S.Tanh()], [R, S.Tanh()]),
}  # fmt: skip


def chain(middle, *, join=None, last=True):
    def program(run, x):
        y = start = run("c1", ConvSpec(3, 8, (3, 5), padding=(1, 2)), x)
        for i, step in enumerate(middle):
            behind = isinstance(step, S.Pad) and run.layout == "NHWC"
            own = S.Pad([*step.padding, (0, 0)], step.mode) if behind else step
            active = isinstance(step, S.Dropout) and step.training
            y = run(f"s{i}", own, y, function=(lambda x: x * (x > x.mean()) * 2) if active else None)
        if join is not None:
            y = join(run, start, y)
        return run("c2", ConvSpec(8, 4, 3, padding=1), y) if last else y

    return program


def compared(ours, theirs, layout="NCHW", x=X):
    a = numpy_models.opened(ours, x)
    b = numpy_models.opened(theirs, x, layout=layout, weights=a.native.weights)
    found = compare_open(a, b, seconds=0)
    again = compare_open(b, a, seconds=0)
    assert found.verdict == again.verdict == "differ", str(found)
    return found


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", MIDDLE)
def test_a_difference_between_two_layers_is_named(name, layout):
    found = compared(*map(chain, MIDDLE[name]), layout)
    assert found.divergence.startswith(f"before conv 1 (c2): {name}"), found.divergence
    assert [row.verdict for row in found.rows if row.b][:2] == ["agree", "input_differs"]


@pytest.mark.parametrize(
    "name", ["relu-missing", "gelu-approximation", "max-pool-padding", "resize-mode", "pixel-shuffle-order"]
)
def test_a_difference_after_the_last_layer_is_named(name):
    found = compared(*(chain(middle, last=False) for middle in MIDDLE[name]), "NHWC")
    assert found.divergence.startswith(f"after the last layer: {name}"), found.divergence


def test_the_words_say_both_settings_and_where_the_windows_are():
    found = compared(*map(chain, MIDDLE["max-pool-padding"]))
    assert found.rows[1].reason == (
        "max-pool-padding: model a: max pool 3×3, stride 2, padding 1; "
        "model b: max pool 3×3, stride 2, padding 'same': b's windows start 1 pixel later"
    )


def joined(kind, *, swap=False, **words):
    def join(run, start, y):
        reads = (y, start) if swap else (start, y)
        step = kind(run.axis(1)) if kind is S.Concat else kind(**words)
        joined = run("join", step, *reads)
        return run("c3", ConvSpec(16, 8, 1), joined) if kind is S.Concat else joined

    return join


def test_a_skip_that_is_missing_and_operands_in_another_order():
    skip, plain = chain([R], join=joined(S.Add)), chain([R])
    assert "skip-missing: model a: add; model b: none" in compared(skip, plain).divergence
    assert "skip-extra: model a: none; model b: add" in compared(plain, skip).divergence
    joins = [chain([R], join=joined(S.Concat, swap=swap)) for swap in (False, True)]
    assert "concat-order: model a: concat along axis 1; model b: concat" in compared(*joins, "NHWC").divergence
    joins = [chain([R], join=joined(kind)) for kind in (S.Subtract, S.Add)]
    assert "subtract-as-add" in compared(*joins).divergence


def test_what_layers_name_is_not_named_otherwise():
    assert (
        "model b has a batch norm that model a has not" in compared(chain([R]), chain([S.BatchNorm(8), R])).divergence
    )
    pads = [chain([S.Pad([pair, (0, 0)])]) for pair in ((1, 0), (0, 1))]
    assert compared(*pads).divergence.startswith("conv 1 (c2): odd-cell-on-the-wrong-side")


def test_two_differences_are_told_one_after_the_other():
    """The first is told; it is the one that is nearest to what agrees."""
    found = compared(chain([R, S.MaxPool(2), S.Tanh()]), chain([S.MaxPool(2), S.Sigmoid()]))
    assert "relu-missing" in found.divergence
    assert "max-pool" not in found.divergence


def test_the_order_of_a_flatten():
    def flat(run, x, last=False):
        y = run("c1", ConvSpec(3, 2, 3, stride=3), x)
        y = run("move", S.Permute(TO_LAST), y) if last else y
        return run("linear", S.Linear(24, 5), run("flat", S.Flatten(), y))

    found = compared(flat, lambda run, x: flat(run, x, last=True))
    assert "flatten-order: model a: flatten; model b: permute to axes 0, 2, 3, 1, flatten" in found.divergence


def test_a_softmax_at_the_end():
    def end(run, x, softmax=True):
        y = run("linear", S.Linear(8, 5), run("pool", S.Reduce("mean", (2, 3)), run("c1", ConvSpec(3, 8, 3), x)))
        return run("soft", S.Softmax(1), y) if softmax else y

    found = compared(end, lambda run, x: end(run, x, softmax=False))
    assert found.divergence.startswith(
        "after the last layer: softmax-missing: model a: softmax along axis 1; model b: none"
    )


def test_a_step_without_an_effect_at_these_numbers_is_not_named():
    clipped, plain = chain([S.Clip(None, 1e6), S.Tanh()]), chain([S.Sigmoid()])
    assert "tanh-as-sigmoid" in compared(clipped, plain).divergence


def test_other_weights_of_a_step_are_told_from_other_settings():
    program = chain([S.PReLU(8)], last=False)
    a = numpy_models.opened(program, X)
    weights = {path: {name: array * (1 + (path == "s0")) for name, array in own.items()}
               for path, own in a.native.weights.items()}  # fmt: skip
    found = compare_open(a, numpy_models.opened(program, X, weights=weights))
    assert "weights-differ: model a: PReLU" in found.divergence


def test_a_step_that_only_passes_a_difference_on_is_not_named():
    """The sigmoids of the two frameworks differ a little: what comes after them differs by that, and by no mistake."""

    def program(middle, factor, sigmoid):
        def steps(run, x):
            y = run("c1", ConvSpec(3, 8, (3, 5), padding=(1, 2)), x)
            y = run("s0", S.Sigmoid(), y, function=sigmoid)
            y = run("s2", S.Multiply(factor), run("s1", middle, y))
            return run("c2", ConvSpec(8, 4, 3, padding=1), y)

        return steps

    def other(x):
        return 1.001 / (1 + np.exp(-x))

    found = compared(program(R, 0.5, None), program(S.Clip(0, 9), 0.25, other))
    assert ": multiply-constant: " in found.divergence

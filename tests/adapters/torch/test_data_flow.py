"""Two PyTorch models compared and ported by their steps: what is right is proved, a planted mistake is named."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convspec
from convspec.models.run_model import open_model
from convspec.spec import steps as S
from tests.adapters.steps import assert_step, normal
from tests.adapters.torch.step_networks import NETWORKS
from tests.adapters.torch.test_trace_steps import randomised

pytestmark = pytest.mark.torch
X = normal((2, 3, 12, 10))


class Plain(nn.Module):
    """A model whose convolutions do not run in oneDNN: their sums round otherwise."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *inputs):
        with torch.backends.mkldnn.flags(enabled=False):
            return self.model(*inputs)


ROUNDED = ("resnet", "unet", "convnext", "dcgan")  # whose results differ by that


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_unseen_code_is_proved(name):
    kind, shapes, others = NETWORKS[name]
    model = randomised(kind()).eval()
    inputs = [normal(shape) for shape in shapes]
    assert open_model(model, inputs).unfollowed == ""
    found = convspec.compare(model, Plain(copy.deepcopy(model)), inputs, seconds=0, one_input=True)
    assert found.verdict == "agree"
    assert {row.verdict for row in found.rows} <= {"agree"}
    seen = not others and name not in ("super-resolution", "attention")  # a parameter there is made by a view
    assert found.evidence in (("equal", "proved") if seen else ("equal", "measured"))
    assert (found.evidence == "proved") or name not in ROUNDED


class Branches(nn.Module):
    """Branches of other dilations, defined and computed in this order; names say nothing."""

    def __init__(self, names, order=(0, 1, 2)):
        super().__init__()
        self.order = order
        convs = [nn.Conv2d(3, 4, 3, padding=i + 1, dilation=i + 1) for i in order]
        self.parts = nn.ModuleDict(zip(names, convs, strict=True))
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x):
        parts = {i: F.relu(conv(x)) for i, conv in zip(self.order, self.parts.values(), strict=True)}
        return self.last(torch.cat([parts[i] for i in range(3)], 1))


def test_branches_are_matched_by_what_they_read_and_feed():
    source, target = Branches("abc"), randomised(Branches("xyz", (2, 0, 1)))
    report = convspec.port_weights(source, target, X)
    assert not report.ambiguous
    assert report.comparison.verdict == "agree", str(report)
    assert [move.how for move in report.moves] == ["data flow"] * 3 + ["name"]
    assert torch.equal(source.parts["a"].weight, target.parts["y"].weight)


def test_a_shared_head_is_paired_call_by_call():
    class Levels(nn.Module):
        def __init__(self, order):
            super().__init__()
            self.low, self.high, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 2, 1)
            self.order = order

        def forward(self, x):
            levels = [self.low(x)]
            levels.append(self.high(levels[0]))
            found = {i: self.head(levels[i]) for i in self.order}
            return found[0], found[1]

    a, b = Levels((0, 1)), Levels((1, 0))
    b.load_state_dict(a.state_dict())
    found = convspec.compare(a, b, X)
    assert found.verdict == "agree"
    assert [row.verdict for row in found.rows] == ["agree"] * 4


PLANTED = {
    "max-pool-ceil-mode": (nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(3, 2)),
    "average-pool-count-include-pad": (nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "gelu-approximation": (nn.GELU(), nn.GELU("tanh")), "relu-missing": (nn.ReLU(), nn.Identity()),
    "leaky-relu-slope": (nn.LeakyReLU(0.01), nn.LeakyReLU(0.2)), "relu-as-relu6": (nn.ReLU(), nn.ReLU6()),
    "resize-coordinates": (nn.Upsample(scale_factor=2, mode="bilinear"),
                           nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
    "channel-shuffle-order": (nn.ChannelShuffle(2), nn.ChannelShuffle(4)),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_named(name):
    first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 3)
    a, b = (nn.Sequential(first, step, last) for step in PLANTED[name])
    found = convspec.compare(a, b, 4 * X, seconds=0)
    assert found.verdict == "differ"
    assert found.divergence.startswith(f"before conv 1 (2): {name}"), found.divergence
    assert np.isfinite(found.output or 0.0)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_the_bound_of_gelu_holds_for_the_polynomial_of_vector_code():
    x = normal((4000,), scale=3.0)
    with torch.backends.mkldnn.flags(enabled=False):
        y = F.gelu(torch.from_numpy(x)).numpy()
    assert_step(S.GELU(), [x], y)
    with pytest.raises(AssertionError):
        assert_step(S.GELU("tanh"), [x], y)


class Others(nn.Module):
    """Learnt arrays outside of layers: slopes, a scale for each channel, positions."""

    def __init__(self, names=("act", "scale", "positions"), shape=(4, 1, 1)):
        super().__init__()
        self.names = names
        self.c1, self.c2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)
        setattr(self, names[0], nn.PReLU(4))
        setattr(self, names[1], nn.Parameter(torch.rand(shape)))
        setattr(self, names[2], nn.Parameter(torch.rand(10, 8)))

    def forward(self, x):
        act, scale, positions = (getattr(self, name) for name in self.names)
        return self.c2(act(self.c1(x)) * scale + positions)


def test_learnt_arrays_outside_of_layers_are_moved():
    source, target = randomised(Others()), randomised(Others(("a", "b", "c"), (1, 4, 1, 1)), seed=1)
    report = convspec.port_weights(source, target, X)
    assert report.comparison.verdict == "agree", str(report)
    assert report.unmoved == []
    assert {(move.source, move.target) for move in report.moves if move.kind == "other"} == {
        ("act", "a"), ("scale", "b"), ("positions", "c")
    }  # fmt: skip
    assert torch.equal(source.act.weight, target.a.weight)

"""Targets whose layers compute in their own way, make their weights of others, or are of another kind."""

import copy
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, weight_norm
from torch.nn.utils import spectral_norm as old_spectral_norm

import convspec
from tests.adapters.torch.test_trace_steps import randomised

pytestmark = pytest.mark.torch
X = np.random.default_rng(0).standard_normal((1, 3, 12, 10)).astype(np.float32)


class Same(nn.Conv2d):
    """Pads at the end, as TensorFlow does."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


class Standardised(nn.Conv2d):
    """Computes with its weight in another form."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


def net(kind, *before):
    return nn.Sequential(*before, kind(3, 6, 3), nn.ReLU(), kind(6, 4, 3)).eval()


def ported(source, target, x=X):
    """Return the report of a port; that the models agree comes from running both."""
    report = convspec.port_weights(source, target, x)
    assert report.written
    with torch.no_grad():
        results = [model(torch.from_numpy(x)).numpy() for model in (source, target)]
    same = np.allclose(*results, rtol=1e-4, atol=1e-5)
    assert report.comparison.agrees == same
    return report, same


@pytest.mark.parametrize("kinds", [(Same, Same), (Standardised, Standardised), (Standardised, nn.Conv2d)])
def test_a_layer_with_a_forward_of_its_own_gets_its_parameters(kinds):
    source, target = (net(kind) for kind in kinds)
    report, same = ported(source, target)
    assert same
    assert report.complete
    if kinds[0] is kinds[1]:
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_the_results_say_where_such_a_layer_computes_something_else():
    target = net(Standardised)
    source = net(nn.Conv2d)
    report, same = ported(source, target)
    assert not same
    assert torch.equal(target[0].weight, source[0].weight)
    assert report.comparison.divergence.startswith("conv 0")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_comparison_leaves_parameters_that_make_a_kernel_as_they_were():
    models = [
        net(Standardised), net(lambda *a: parametrizations.weight_norm(nn.Conv2d(*a))),
        net(lambda *a: weight_norm(nn.Conv2d(*a))),
    ]  # fmt: skip
    for model in models:
        before = copy.deepcopy(model.state_dict())
        convspec.compare(model, net(nn.Conv2d), X, seconds=0.0)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


NORMS = {"new": parametrizations.weight_norm, "old": weight_norm}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_weight_norm_gets_the_length_and_direction_of_the_kernel(norm, layer):
    source, target = net(layer), net(lambda *sizes: NORMS[norm](layer(*sizes)))
    report, same = ported(source, target)
    assert same
    assert report.complete
    assert not report.unmoved


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_linear_layer_with_a_weight_norm():
    source = nn.Sequential(nn.Flatten(), nn.Linear(360, 5))
    for norm in NORMS.values():
        assert ported(source, nn.Sequential(nn.Flatten(), norm(nn.Linear(360, 5))))[1]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, old_spectral_norm])
def test_a_spectral_norm_that_cannot_give_the_kernel_is_left_and_listed(norm):
    source, target = net(nn.Conv2d), net(nn.Conv2d)
    norm(target[0])
    before = copy.deepcopy(target[0].state_dict())
    report, same = ported(source, target)
    assert not same
    assert all(torch.equal(before[name], value) for name, value in target[0].state_dict().items())
    assert torch.equal(target[2].weight, source[2].weight)
    (line,) = report.unmoved
    assert line.startswith("the weight of 0 cannot be set")
    assert [move.target for move in report.moves] == ["2"]


# -- convolutions of one pixel, and linear layers ----------------------------------------------------------------------


class Head(nn.Module):
    """Classifies after a pool, by a convolution or by a linear layer."""

    def __init__(self, *, linear):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 5) if linear else nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x = F.relu(self.body(x)).mean((2, 3), keepdim=True)
        return self.head(x.flatten(1)) if isinstance(self.head, nn.Linear) else self.head(x).flatten(1)


class Block(nn.Module):
    """Mixes the channels of each pixel."""

    def __init__(self, *, linear):
        super().__init__()
        kind = nn.Linear if linear else lambda a, b: nn.Conv2d(a, b, 1)
        self.linear, self.up, self.down = linear, kind(3, 12), kind(12, 3)

    def forward(self, x):
        y = x.permute(0, 2, 3, 1) if self.linear else x
        y = self.down(F.gelu(self.up(y)))
        return x + (y.permute(0, 3, 1, 2) if self.linear else y)


@pytest.mark.parametrize("kind", [Head, Block])
@pytest.mark.parametrize("linear", [True, False])
def test_a_convolution_of_one_pixel_is_the_counterpart_of_a_linear_layer(kind, linear):
    source, target = randomised(kind(linear=linear)).eval(), kind(linear=not linear).eval()
    assert convspec.compare(source, target, X).verdict == "differ"
    report, same = ported(source, target)
    assert same
    assert report.complete
    assert len(report.moves) == 2
    assert {row.verdict for row in report.comparison.rows} == {"agree"}
    with torch.no_grad():
        (target.head if kind is Head else target.down).weight.flatten()[3] += 0.5
    found = convspec.compare(source, target, X)
    assert found.verdict == "differ"
    assert found.divergence.startswith(f"linear {int(kind is Block)} ({'head' if kind is Head else 'down'})")


# -- the cost ----------------------------------------------------------------------------------------------------------


class Counted(nn.Sequential):
    """Counts its runs."""

    runs = 0

    def forward(self, x):
        Counted.runs += 1
        return super().forward(x)


def test_what_is_proved_is_run_once_for_each_input_and_never_with_other_numbers(monkeypatch):
    """Where the compiler was imported, a function of the model may be compiled, and a run is made without the trace."""
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    a = randomised(Counted(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3))).eval()
    b = copy.deepcopy(a).to(memory_format=torch.channels_last)
    with torch.no_grad():
        if torch.equal(a(torch.from_numpy(X)), b(torch.from_numpy(X))):
            pytest.skip("this build gives equal results in both memory formats")
    Counted.runs = 0
    found = convspec.compare(a, b, X)
    assert (found.verdict, found.evidence, found.runs) == ("agree", "proved", 0)
    assert Counted.runs == 2 * len(found.outcomes) == 6
    assert "their size, on 2 more inputs" in str(found)


def test_layers_that_the_models_divide_otherwise_are_not_said_to_diverge():
    grouped = nn.Conv2d(4, 8, 3, groups=2)
    parts = nn.ModuleList(nn.Conv2d(2, 4, 3) for _ in range(2))

    class Divided(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = parts

        def forward(self, x):
            return torch.cat([part(own) for part, own in zip(self.parts, x.chunk(2, 1), strict=True)], 1)

    with torch.no_grad():
        for i, part in enumerate(parts):
            part.weight.copy_(grouped.weight[4 * i : 4 * i + 4])
            part.bias.copy_(grouped.bias[4 * i : 4 * i + 4])
    found = convspec.compare(nn.Sequential(grouped), Divided(), np.resize(X, (1, 4, 9, 8)))
    assert found.agrees
    assert found.rows[0].verdict == "not judged"
    assert "other layers" in found.rows[0].reason

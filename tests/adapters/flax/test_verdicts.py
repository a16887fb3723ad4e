"""Norms of Flax against PyTorch's, and what no layer holds: the verdict is that of the results."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flax")
pytest.importorskip("torch")

import jax
import torch
from flax import linen, nnx
from torch import nn

import convspec
from convspec.models.comparison.layer_check import check_norm

pytestmark = [pytest.mark.flax, pytest.mark.torch]

X = np.random.default_rng(0).standard_normal((2, 3, 9, 7)).astype("f4")


def source(norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm).eval()


class Net(nnx.Module):
    def __init__(self, norm):
        self.conv = nnx.Conv(3, 8, (3, 3), padding="VALID", rngs=nnx.Rngs(0))
        self.norm = norm

    def __call__(self, x):
        return self.norm(self.conv(x))


R = nnx.Rngs(0)
NORMS = {
    "group": (nn.GroupNorm(4, 8), lambda **o: nnx.GroupNorm(8, 4, rngs=R, **o)),
    "instance": (nn.InstanceNorm2d(8, affine=True), lambda **o: nnx.InstanceNorm(8, rngs=R, **o)),
    "batch": (nn.BatchNorm2d(8), lambda **o: nnx.BatchNorm(8, rngs=R, **o)),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_nnx_are_judged(name):
    ours, make = NORMS[name]
    target = Net(make(epsilon=1e-5))
    report = convspec.port_weights(source(ours), target, X)
    assert report.comparison.agrees, str(report.comparison)
    assert [row.verdict for row in report.comparison.rows] == ["agree", "agree"]
    found = convspec.compare(source(ours), Net(make(epsilon=1e-3)), X, seconds=0)
    assert "epsilon 1e-05 against 0.001" in found.rows[1].spec


def test_groups_that_differ_are_named():
    target = Net(nnx.GroupNorm(8, 2, epsilon=1e-5, rngs=R))
    report = convspec.port_weights(source(nn.GroupNorm(4, 8)), target, X)
    assert report.comparison.divergence == "norm 0 (1): groups 4 against 2"


@pytest.mark.parametrize("kind", [linen.GroupNorm, linen.InstanceNorm])
def test_norms_of_linen_are_judged(kind):
    options = {"num_groups": 4} if kind is linen.GroupNorm else {}

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            return kind(epsilon=1e-5, **options)(linen.Conv(8, (3, 3), padding="VALID")(x))

    model = Model()
    variables = model.init(jax.random.PRNGKey(0), np.zeros((1, 9, 7, 3), np.float32))
    ours = nn.GroupNorm(4, 8) if options else nn.InstanceNorm2d(8, affine=True)
    report = convspec.port_weights(source(ours), (model, variables), X)
    assert report.comparison.agrees, str(report.comparison)
    assert [row.verdict for row in report.comparison.rows] == ["agree", "agree"]
    assert not report.unmoved


def test_the_bound_of_a_fast_variance_counts_what_cancels():
    """E[x²] - E[x]² of numbers near 100: right by its own bound, far beyond that of two passes."""
    from convspec_flax import model

    x = (100 + 1e-2 * np.random.default_rng(0).standard_normal((2, 5, 6, 8))).astype(np.float32)
    norm = nnx.LayerNorm(8, epsilon=1e-6, rngs=R)
    y = np.asarray(norm(x))
    (part,) = model.parts(norm)
    assert part.fast_variance
    assert check_norm(part, x, y, fast_variance=True).ok is not False
    assert check_norm(part, x, y, fast_variance=False).ok is False
    slow = nnx.LayerNorm(8, epsilon=1e-6, use_fast_variance=False, rngs=R)
    assert check_norm(part, x, np.asarray(slow(x)), fast_variance=False).ok


class Scaled(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 8, (3, 3), padding="VALID", rngs=nnx.Rngs(0))
        self.gamma = nnx.Param(np.full(8, 0.5, np.float32))

    def __call__(self, x):
        return self.conv(x) * self.gamma


class TorchScaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.gamma = nn.Conv2d(3, 8, 3), nn.Parameter(torch.full((8, 1, 1), 0.5))

    def forward(self, x):
        return self.conv(x) * self.gamma


def test_a_layer_scale_is_moved_where_the_steps_are_seen_else_listed_on_both_sides():
    source = TorchScaled().eval()
    source.gamma.data *= torch.arange(1, 9).reshape(8, 1, 1)
    report = convspec.port_weights(source, Scaled(), X)
    assert report.unmoved == []
    assert report.comparison.agrees
    assert report.complete
    report = convspec.port_weights(source, Scaled())
    assert report.unmoved == ["/gamma (8, 1, 1) of the source", "/gamma (8,) of the target"]
    assert not report.complete


class Wave(nn.Module):
    """Of its residual convolutions the last has no effect, as in WaveNet."""

    def __init__(self, residuals, *, named):
        super().__init__()
        self.skip = nn.ModuleList([nn.Conv1d(4, 4, 1) for _ in range(3)])
        layers = [nn.Conv1d(4, 4, 1) for _ in range(residuals)]
        self.res = (
            nn.ModuleDict({f"res{chr(97 + i)}": one for i, one in enumerate(layers)})
            if named
            else nn.ModuleList(layers)
        )

    def forward(self, x):
        total, residuals = 0, list(self.res.values() if isinstance(self.res, nn.ModuleDict) else self.res)
        for place in range(3):
            total = total + self.skip[place](x).tanh()
            x = x + residuals[place](x) if place < len(residuals) else x
        return total


@pytest.mark.parametrize("named", [True, False])
def test_a_dead_layer_stops_no_port(named):
    x = np.random.default_rng(0).standard_normal((1, 4, 20)).astype("f4")
    dead = Wave(3, named=named).eval()
    report = convspec.port_weights(dead, Wave(2, named=named).eval(), x)
    assert report.written
    assert report.comparison.agrees, str(report)
    assert report.unused == [f"conv res.{'resc' if named else '2'} of the source"]
    assert not report.left
    assert report.complete
    found = convspec.compare(dead, report.model, x)
    assert found.unused == [f"model a: {report.unused[0].removesuffix(' of the source')}"]
    assert not found.warnings
    report = convspec.port_weights(Wave(2, named=named).eval(), Wave(1, named=named).eval(), x)
    assert not report.complete  # its last layer is used


def test_a_modulated_convolution_grouped_by_batch_agrees():
    """Two forms of one function whose layers have nothing in common."""

    class Modulated(nn.Module):
        def __init__(self, *, grouped):
            super().__init__()
            torch.manual_seed(1)
            self.weight, self.grouped = nn.Parameter(torch.randn(6, 3, 3, 3)), grouped

        def forward(self, x):
            style, (n, _, *sizes) = x.mean((2, 3)), x.shape
            if not self.grouped:
                return nn.functional.conv2d(x * style[:, :, None, None], self.weight)
            weight = (self.weight[None] * style[:, None, :, None, None]).reshape(n * 6, 3, 3, 3)
            y = nn.functional.conv2d(x.reshape(1, n * 3, *sizes), weight, groups=n)
            return y.reshape(n, 6, *y.shape[2:])

    pair = [Modulated(grouped=grouped).eval() for grouped in (True, False)]
    for a, b in (pair, pair[::-1]):
        found = convspec.compare(a, b, X)
        assert found.verdict == "agree"
        assert "no effect at these inputs" in found.warnings[0]

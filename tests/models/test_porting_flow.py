"""Weights moved between models whose steps are seen: branches, heads, and features that become pixels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from convspec.models import porting
from convspec.models.comparison.run_both import compare_open
from convspec.spec import steps as S
from tests.models import numpy_models
from tests.models.test_dataflow import X, branches, conv, generator, heads, plain, residual, tokens

LATENT = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)


def swapped(run, x):
    """As ``branches``, computed in another order and under other names."""
    parts = {d: run(f"layer{7 - d}", conv(3, 4, padding=d, dilation=d), x) for d in (3, 1, 2)}
    y = run("cat", S.Concat(run.axis(1)), *(run(f"r{d}", S.ReLU(), parts[d]) for d in (1, 2, 3)))
    first, second = run("split", S.Split((5, 7), run.axis(1)), y)
    d = run("d", conv(5, 3), first)
    return run("c", conv(7, 3), second), d


def alike(run, x, order=(0, 1), name="b"):
    """Two branches of equal layers, told apart by nothing but which layers follow one another."""
    ends = {}
    for i in order:
        y = run(f"{name}{i}.0", conv(3, 4), x)
        ends[i] = run(f"{name}{i}.1", conv(4, 4), run(f"r{i}", S.GELU(), y))
    return run("sum", S.Add(), *ends.values())


def shared(run, x, order=(0, 1)):
    """A head that two levels share."""
    low = run("low", conv(3, 4), x)
    levels = [low, run("high", conv(4, 4, stride=2), low)]
    found = {i: run("head", conv(4, 2), levels[i]) for i in order}
    return found[0], found[1]


def norms(run, x, names=("a", "b")):
    """Two norms of one shape, the second under the first one's name in the other model."""
    y = run(names[0], S.BatchNorm(4), run("c1", conv(3, 4), x))
    return run(names[1], S.BatchNorm(4, epsilon=1e-3), run("c2", conv(4, 4), run("relu", S.ReLU(), y)))


PAIRS = {
    "plain": (plain, plain, X), "residual": (residual, residual, X), "branches": (branches, swapped, X),
    "alike": (alike, partial(alike, order=(1, 0), name="x"), X),
    "shared": (shared, partial(shared, order=(1, 0)), X), "tokens": (tokens, tokens, X), "heads": (heads, heads, X),
    "generator": (generator, generator, LATENT), "norms": (norms, partial(norms, names=("one", "two")), X),
}  # fmt: skip


def opened_pair(name, layout):
    ours, theirs, x = PAIRS[name]
    a = numpy_models.opened(ours, x)
    b = numpy_models.opened(theirs, x, layout=layout)
    for own in b.native.weights.values():  # numbers of its own
        own.update({n: (array + 1 if n == "variance" else array[::-1] * 2).astype("f4") for n, array in own.items()})
    return a, numpy_models.opened(theirs, x, layout=layout, weights=b.native.weights)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", PAIRS)
def test_the_weights_of_a_network_are_moved(monkeypatch, name, layout):
    a, b = opened_pair(name, layout)
    assert compare_open(a, b, seconds=0).verdict == "differ"
    found = iter([a, b])
    reopened = lambda native, *_, **__: next(found, None) or numpy_models.reopened(b)  # noqa: E731
    monkeypatch.setattr(porting, "open_model", reopened)
    report = porting.port_weights("a", b.native, PAIRS[name][2])
    assert report.ambiguous == report.left == []
    assert report.comparison.verdict == "agree", str(report)
    assert report.comparison.evidence in ("equal", "proved")
    assert report.comparison.unjudged == []
    assert {row.verdict for row in report.comparison.rows} == {"agree"}, str(report.comparison)


def test_calls_of_a_shared_layer_are_paired_by_what_they_read():
    a = numpy_models.opened(shared, X)
    b = numpy_models.opened(partial(shared, order=(1, 0)), X, weights=a.native.weights)
    found = compare_open(a, b)
    assert found.agrees
    assert [row.verdict for row in found.rows] == ["agree"] * 4


def branched(run, x, order=(1, 2), crop=0):
    """Two branches with dilations of their own, and two layers in a row."""
    parts = []
    for d in order:
        wide = [(-crop, -crop), (-crop, -crop)]
        y = run(f"b{d}", conv(3, 4, padding=d + crop, dilation=d), x)
        parts.append((d, run(f"r{d}", S.ReLU(), run(f"crop{d}", S.Pad(wide), y) if crop else y)))
    y = run("cat", S.Concat(run.axis(1)), *(part for _, part in sorted(parts)))
    return run("c2", conv(8, 8), run("act", S.Tanh(), run("c1", conv(8, 8), y)))


@pytest.mark.parametrize("layers", [("b1", "b2"), ("c1", "c2")])
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_weights_that_were_exchanged_are_named_at_their_places(layers, order):
    a = numpy_models.opened(branched, X)
    first, second = layers
    weights = a.native.weights | {first: a.native.weights[second], second: a.native.weights[first]}
    found = compare_open(a, numpy_models.opened(partial(branched, order=order), X, weights=weights), seconds=0)
    assert found.first.a == found.first.b == first
    assert f"the kernel is that of '{second}' in the source" in found.divergence
    assert {row.a for row in found.rows if row.verdict == "diverges"} == {first, second}


def test_a_mistake_beside_a_crop_after_the_layer_is_named_alone():
    a = numpy_models.opened(branched, X)
    weights = {path: dict(own) for path, own in a.native.weights.items()}
    weights["b1"]["kernel"] = weights["b1"]["kernel"][..., ::-1, ::-1]
    found = compare_open(a, numpy_models.opened(partial(branched, crop=1), X, weights=weights))
    assert (found.first.a, [finding.id for finding in found.diagnosis][:1]) == ("b1", ["kernel-flipped"])
    assert "pads" not in found.divergence


def dead(run, x, *, name="dead"):
    """A network with a layer whose output nothing reads, between two of its shape."""
    y = run("c1", conv(3, 4), x)
    y = run("c2", conv(4, 4), y)
    if name:
        run("relu", S.ReLU(), run(name, conv(4, 4, dilation=2), y))
    return run("c3", conv(4, 4), y)


def test_a_layer_without_a_way_to_a_result_is_listed_and_needs_no_counterpart(monkeypatch):
    a, b = numpy_models.opened(dead, X), numpy_models.opened(partial(dead, name=""), X, layout="NHWC")
    found = iter([a, b])
    monkeypatch.setattr(porting, "open_model", lambda *_, **__: next(found, None) or numpy_models.reopened(b))
    report = porting.port_weights("a", b.native, X)
    assert report.comparison.verdict == "agree"
    assert report.unused == ["conv dead of the source"]
    assert report.comparison.unused == ["model a: conv dead"]
    weights = {path: dict(own) for path, own in a.native.weights.items()}
    weights["dead"]["kernel"] = weights["dead"]["kernel"] * 2
    found = compare_open(a, numpy_models.opened(dead, X, weights=weights))
    assert found.evidence == "equal"
    assert found.unused == ["model a: conv dead", "model b: conv dead"]
    assert not found.warnings

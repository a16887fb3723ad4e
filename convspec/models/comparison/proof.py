"""Proof that rounding explains what is left: every step is within its bound, and both models have the same steps."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.models.comparison.step_check import unjudged_steps
from convspec.models.dataflow.expressions import Expressions
from convspec.models.matching.layers import Pair
from convspec.models.run_model import Model


def unjudged(a: Model, b: Model, judged: tuple[set[str], set[str]]) -> list[str]:
    """Return the steps of both models that are not judged; ``judged``: paths of convolutions that are."""
    return [f"model {name}: {step}" for name, model, own in zip("ab", (a, b), judged, strict=True)
            for step in unjudged_steps(model, own)]  # fmt: skip


def same_steps(a: Model, b: Model, pairs: Sequence[Pair]) -> bool:
    """Whether the results of both models are made of the same steps with the same arrays.

    A batch norm that the other model has folded into a kernel is the same as that kernel.
    """
    if a.graph is None or b.graph is None:
        return False
    found = Expressions()
    folds = [(f"fold {i}", pair) for i, pair in enumerate(pairs) if pair.fold_a or pair.fold_b]
    lone_a = {pair.a.path: name for name, pair in folds if pair.fold_b and pair.a}
    lone_b = {pair.b.path: name for name, pair in folds if pair.fold_a and pair.b}
    norms_a = {pair.fold_a.path: name for name, pair in folds if pair.fold_a}
    norms_b = {pair.fold_b.path: name for name, pair in folds if pair.fold_b}
    ours, theirs = found.of(a.graph, lone_a, norms_a), found.of(b.graph, lone_b, norms_b)
    results = list(zip(a.graph.results, b.graph.results, strict=False))
    return len(a.graph.results) == len(b.graph.results) and all(
        any((ours[x.value], x.order) == (theirs[y.value], y.order) for x, y in zip(*forms, strict=True))
        for forms in results
    )

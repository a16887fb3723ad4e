"""Judge every step of a run by itself, and prove that rounding explains what is left between two models.

A step is right if its results on its own operands are within its own bound. Rounding explains the rest where all are,
and both models have the same steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from convspec import reference
from convspec.contract import TracedStep
from convspec.errors import ConvspecError
from convspec.models.comparison.layer_check import LayerCheck, check_elements, check_layer
from convspec.models.dataflow.calls import UNSEEN
from convspec.models.dataflow.expressions import Expressions
from convspec.models.dataflow.forms import channel_axis
from convspec.models.dataflow.views import canonical_order
from convspec.models.matching.layers import Pair
from convspec.models.run_model import Model
from convspec.spec import Array, ConvParams, ConvSpec, format_of, steps

_LAYERS = (ConvSpec, steps.Norm, steps.Linear)


def unjudged_steps(model: Model, judged: Collection[str] = ()) -> list[str]:
    """Return the steps on the way to the results that are not within their bound, or have none, in words.

    ``judged``: the paths of layers that are known to be within theirs.
    """
    graph = model.graph
    if graph is None:
        return ["all operations"]
    dtype = next((part.reading.dtype for part in model.parts if part.reading), "float32")
    found = []
    for place in sorted(graph.live):
        step = graph.trace.steps[place]
        if isinstance(step.step, _LAYERS) and step.path in judged:
            continue
        tensors = graph.trace.tensors
        check = check_step(step, [tensors[i] for i in step.reads], [tensors[i] for i in step.writes], model, dtype)
        if not check.ok:
            words = f" ({step_words(step)}{': ' * bool(check.reason)}{check.reason})" if step.note != UNSEEN else ""
            found.append(f"{step.path or 'the layer'}{words}")
    return list(dict.fromkeys(found))


def step_words(step: TracedStep) -> str:
    """Return a step as a plain phrase."""
    return str(step.step) if isinstance(step.step, steps.Step) else "convolution"


def active_dropouts(model: Model) -> list[tuple[str, str]]:
    """Return the path and the words of each dropout that draws at random on the way to the results."""
    found = [] if model.graph is None else [model.graph.trace.steps[place] for place in sorted(model.graph.live)]
    return [(s.path, step_words(s)) for s in found if isinstance(s.step, steps.Dropout) and s.step.training]


def check_step(step: TracedStep, reads: list[Array], writes: list[Array], model: Model, dtype: str) -> LayerCheck:
    """Check that a step's results, in the framework's order of axes, are what it computes from its operands."""
    if step.note or isinstance(step.step, steps.Other):
        return LayerCheck(None, step.note)
    xs, ys = ([x.transpose(canonical_order(step.layout, x.ndim)) for x in side] for side in (reads, writes))
    dtype = next((y.dtype.name for y in ys if y.dtype.name in ("float16", "float64")), dtype)
    try:
        if isinstance(step.step, ConvSpec):
            params = ConvParams(step.arrays["kernel"], step.arrays.get("bias"))
            return check_layer(step.step, params, xs[0], ys[0], model.adapter, dtype)
        own = step.step
        if step.layout and isinstance(own, steps.BatchNorm | steps.GroupNorm | steps.InstanceNorm):
            axis = channel_axis(own, step.layout, reads[0].shape)
            own = replace(own, axis=canonical_order(step.layout, reads[0].ndim).index(axis))
        if reference.steps.is_within(own, xs, ys, step.arrays, dtype):
            return LayerCheck(True)
        outputs = reference.steps.evaluate_bounded(own, xs, step.arrays, dtype)
    except (ConvspecError, ValueError, IndexError) as error:
        return LayerCheck(None, str(error))
    for y, (expected, bound) in zip(ys, outputs, strict=True):
        if np.isinf(bound).any() and np.isfinite(expected).all() and all(np.isfinite(x).all() for x in xs):
            return LayerCheck(None, "the bound on its rounding says nothing")
        kept = format_of(dtype).unit_roundoff * np.abs(expected) if dtype == "bfloat16" else 0.0
        if not (check := check_elements(y, expected, bound + kept)).ok:
            return check
    return LayerCheck(True)


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

"""Compare two models: their results on several inputs decide, their layers explain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from convspec.contract import Part
from convspec.errors import ConvspecError
from convspec.models.comparison.layer_rows import LayerRows
from convspec.models.comparison.outcomes import Outcome, distances, judge_results
from convspec.models.comparison.results import Comparison, Row
from convspec.models.comparison.step_check import active_dropouts, same_steps, unjudged
from convspec.models.comparison.temporary_weights import measure, measure_wide, without_effect
from convspec.models.run_model import Given, Model, moved, one_at_a_time, open_model
from convspec.reference import Spread
from convspec.spec import Array
from convspec.spec.layouts import CHANNELS_FIRST

Inputs: TypeAlias = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]

SECONDS = 20.0
_LOOSE = 1e-3  # of the largest result: models that perturbed runs move by more are run again as they are
_NEAR = 100.0  # differences below so many times the limit are measured again, with more runs
_MORE_RUNS = 5
_CLOSE = 0.1  # of the largest result: a proof is tried before runs with other numbers
_TINY = 1e-3  # of the largest result: a proof of what differs by less needs no such runs
_SUSPECTS = 3  # layers that are tried for an effect on the results
_HINTS = {"epsilon": "an input of small variance would show it", "pads": "an input with another border would show it"}


@one_at_a_time
def compare(
    a: Any,
    b: Any,
    inputs: Inputs | None = None,
    *,
    layouts: tuple[str | None, str | None] = (None, None),
    seconds: float = SECONDS,
    fold_pads: bool = False,
    one_input: bool = False,
    further: Sequence[Inputs] = (),
) -> Comparison:
    """Run two models of any two frameworks on the same inputs, and explain by their layers where they diverge.

    The results decide. They agree if they have the same number, order and shape, and differ by no more than rounding
    explains, which is proved or measured, never guessed. A layer diverges where b's output is not, within its rounding
    bound, what a's layer computes from the input that b's layer read. So no layer is blamed for a divergence before it,
    and every diverging layer is found at once.

    Args:
        a: the model that is right: a module, a model, ``(module, variables)``, a ``ModelProto`` or the path of one.
        b: the model that may be wrong, likewise.
        inputs: one array, or several in order or by name, in a's layout. None: only specs and weights are compared, and
            the verdict is ``unknown``.
        layouts: the layouts of a's and b's inputs; None: the layout of the model's first convolution.
        seconds: time limit for the search among pairs of mistakes in the first convolution that diverges.
        fold_pads: whether a pad right before a convolution counts as the convolution's own, as in
            :func:`convspec.convs`.
        one_input: whether only the given inputs are tried; else a second draw and a scaled one follow.
        further: more inputs to try, such as other sizes, each as ``inputs``.

    Raises:
        UnsupportedError: if a model cannot be read, or has no convolutions and no inputs are given.
        RequestError: if an object is not a known model, or does not take the inputs.
    """
    first = open_model(a, inputs, layouts[0], fold_pads=fold_pads, name="model a")
    second = open_model(b, inputs, layouts[1], layouts[0] or first.layout, fold_pads=fold_pads, name="model b")
    return compare_open(first, second, seconds, one_input=one_input, further=further)


def compare_open(
    a: Model, b: Model, seconds: float = SECONDS, *, one_input: bool = False, further: Sequence[Inputs] = ()
) -> Comparison:
    """Compare two models that are open, and run where they are to be run."""
    result = Comparison((a.adapter.name, b.adapter.name))
    if not _comparable(a) or not _comparable(b):
        explained = LayerRows(a, b, None)
        result.rows, result.notes = explained.rows, explained.notes
        result.problem = _unrun_words(a, b, result)
        return result
    runs = _Runs(a, b, result)
    runs.try_inputs(one_input=one_input, further=further)
    explained, proved = runs.explain(seconds)
    result.rows, result.notes = explained.rows, [*explained.notes, *result.notes]
    differing = [one for one in result.outcomes if one.verdict == "differ"]
    if proved and all(one.ratio < _NEAR for one in differing) and runs.are_others_proved():
        result.verdict, result.evidence = "agree", "proved"
        result.outcomes = [replace(one, verdict="agree", reason="") for one in result.outcomes]
    elif proved:  # by bounds that the measurement contradicts
        result.outcomes = [replace(one, reason=f"{one.reason}, although every step is within its own bound")
                           if one is result.outcome else one for one in result.outcomes]  # fmt: skip
    if result.agrees:
        _settle_orders(result, explained)
    _explain_differences(result, explained)
    if result.verdict == "differ" and result.first is None:
        explained.name_small_difference()
    between = explained.between if result.verdict == "differ" and result.first is None else None
    if between is not None and (words := between.results()):
        result.outcomes = [replace(one, reason=f"{words}; {one.reason}") if one is result.outcome else one
                           for one in result.outcomes]  # fmt: skip
    return result


def _comparable(model: Model) -> bool:
    """Whether the model was run, and all its results are numbers."""
    return bool(model.outputs) and all(y.dtype.kind in "fiub" for y in model.outputs)


def _unrun_words(a: Model, b: Model, result: Comparison) -> str:
    """Return why there is no verdict."""
    if problem := a.problem or b.problem:
        return f"model {'a' if a.problem else 'b'} was not run: {problem}"
    if a.inputs is not None or b.inputs is not None:
        return "a model returned no results, or results that are not real numbers"
    equal = all(row.a and row.b and not row.differences for row in result.rows)
    return f"not run: give inputs; {'all weights and settings are equal' if equal else 'weights or settings differ'}"


class _Runs:
    """The runs of both models on all inputs.

    Attributes:
        differing: the further inputs of both models on which their results differ. The first of them are explained;
            without any, the given ones are.
        proved: whether rounding explains what the results on the given inputs differ by.
    """

    def __init__(self, a: Model, b: Model, result: Comparison) -> None:
        self.models, self.result = (a, b), result
        self.layouts = (a.layout, b.layout)
        self.differing: list[tuple[Given, Given]] = []
        self.proved = False
        self._explained: LayerRows | None = None
        self._seed = 0

    def try_inputs(self, *, one_input: bool, further: Sequence[Inputs]) -> None:
        """Compare the results on the given inputs and, where these agree, on further ones."""
        a, b = self.models
        assert a.inputs is not None
        assert b.inputs is not None
        spreads = Spread.of(a.outputs), Spread.of(b.outputs)
        outcome = judge_results(GIVEN, *spreads, self.layouts)
        if outcome.difference and outcome.difference < _CLOSE * _largest(a.outputs):
            self._explained = LayerRows(a, b, None)
            self.proved = _is_proved(self.result, self._explained)
        if self.proved and (outcome.difference or 0.0) > _TINY * _largest(a.outputs):
            self._perturb([(a.inputs, b.inputs)], [spreads])
            self.proved = judge_results(GIVEN, *spreads, self.layouts).ratio < _NEAR
        if self.proved and outcome.verdict != "unknown":
            outcome = replace(outcome, verdict="agree", reason="", limit=outcome.difference)
            self.result.outcomes.append(outcome)
        else:
            (outcome,) = self._judge([GIVEN], [(a.inputs, b.inputs)], [spreads])
            outcome = self.result.outcomes[0] = _without_chance(outcome, self.models, spreads)
        if outcome.verdict == "agree":
            own = {f"inputs of shape {_shapes(x)}": x for x in (moved(y, *[a.input_layout] * 2) for y in further)}
            self._try_further(own, required=True)
            self._try_further({} if one_input else further_inputs(a.inputs))
        self.result.verdict = next((o.verdict for o in self.result.outcomes if o.verdict != "agree"), "agree")
        equal = all(not outcome.difference for outcome in self.result.outcomes)
        self.result.evidence = ("equal" if equal else "measured") if self.result.agrees else ""
        tried = [one.inputs for one in self.result.outcomes]
        sizes = [a.inputs, *(moved(x, "", "") for x in further)]
        self.result.untried = untried(sizes, tried, a.input_layout)

    def _try_further(self, further: Mapping[str, Given], *, required: bool = False) -> None:
        """Compare the results on further inputs of model a, by what they are; models may refuse made-up ones."""
        names, inputs, spreads = [], [], []
        for name, x in further.items():
            y = moved(x, *(model.input_layout for model in self.models))
            try:
                results = [model.results(one) for model, one in zip(self.models, (x, y), strict=True)]
            except ConvspecError as error:
                if required:
                    raise
                self.result.notes.append(f"{name}: not tried: {error}")
                continue
            names.append(name)
            inputs.append((x, y))
            spreads.append(self._spreads(results))
        if not names:
            return
        outcomes = self._judge(names, inputs, spreads)
        self.differing += [both for one, both in zip(outcomes, inputs, strict=True) if one.verdict == "differ"]

    def _judge(self, names: list[str], inputs: list[tuple[Given, Given]], spreads: list[Any]) -> list[Outcome]:
        """Add an outcome for each input, after one perturbed run of each model where the results are not equal."""
        outcomes = [judge_results(name, a, b, self.layouts) for name, (a, b) in zip(names, spreads, strict=True)]
        open_ = [i for i, one in enumerate(outcomes) if one.difference != 0]
        if self.proved:  # what the results differ by is known to be rounding on the given inputs
            open_ = [i for i in open_ if outcomes[i].verdict != "agree"]
        if open_:
            self._perturb([inputs[i] for i in open_], [spreads[i] for i in open_])
            for i in open_:
                outcomes[i] = judge_results(names[i], spreads[i][0], spreads[i][1], self.layouts)
        for number in range(_MORE_RUNS):
            near = [i for i, one in enumerate(outcomes) if one.verdict == "differ" and one.ratio < _NEAR]
            if not near:
                break
            self._perturb([inputs[i] for i in near], [spreads[i] for i in near], wide=number == 0)
            for i in near:
                outcomes[i] = judge_results(names[i], spreads[i][0], spreads[i][1], self.layouts)
        outcomes = [self._without_foreign(one) for one in outcomes]
        self.result.outcomes += outcomes
        return outcomes

    def _spreads(self, results: list[list[Array]]) -> tuple[Spread, Spread]:
        """Return no movement; of proved models the difference on the given inputs, relative to the results' size."""
        spreads = Spread.of(results[0]), Spread.of(results[1])
        given = [model.outputs for model in self.models]
        for place, (x, y) in enumerate(zip(*given, strict=True) if self.proved else ()):
            size, own = _largest([x]), _largest([results[0][place]])
            if x.shape == y.shape == results[0][place].shape and size:
                for spread in spreads:
                    spread.moved[place] = distances(x, y) * (own / size)
        return spreads

    def explain(self, seconds: float) -> tuple[LayerRows, bool]:
        """Return the layers on the inputs that decide, and whether the results are proved there."""
        if self._explained is not None and self.result.agrees:
            return self._explained, self.proved
        models = self._on(*self.differing[0]) if self.differing else self.models
        explained = LayerRows(*models, None if self.result.agrees else seconds)
        return explained, _is_proved(self.result, explained)

    def are_others_proved(self) -> bool:
        """Whether rounding explains the results on all inputs where they differ beside the explained ones."""
        return all(_is_proved(self.result, LayerRows(*self._on(*both), None)) for both in self.differing[1:])

    def _on(self, x: Given, y: Given) -> tuple[Model, Model]:
        return self.models[0].on(x), self.models[1].on(y)

    def _without_foreign(self, outcome: Outcome) -> Outcome:
        """Let further inputs without a finite result, which may be outside of the models' domain, decide nothing."""
        if outcome.inputs != GIVEN and outcome.verdict == "unknown":
            self.result.notes.append(f"{outcome.inputs}: {outcome.reason}")
            return replace(outcome, verdict="agree")
        return outcome

    def _perturb(self, inputs: list[tuple[Given, Given]], spreads: list[Any], *, wide: bool = False) -> None:
        self._seed += 1
        self.result.runs += 1
        for place, model in enumerate(self.models):
            own = [both[place] for both in inputs], [both[place] for both in spreads]
            measure(model, *own, self._seed)
            if wide:
                measure_wide(model, *own)
            name = "ab"[place]
            note = f"the weights of model {name} cannot be moved: its inputs alone stand for its rounding"
            if any(both[place].inputs_only for both in spreads) and note not in self.result.notes:
                self.result.notes.append(note)


def _without_chance(outcome: Outcome, models: tuple[Model, Model], spreads: tuple[Spread, Spread]) -> Outcome:
    """Return the outcome; where a model's results change from run to run, another one that says so."""
    for verdict, name, model, spread in zip(("unknown", "differ"), "ab", models, spreads, strict=True):
        assert model.inputs is not None
        least = _LOOSE * _largest(model.outputs)
        if _largest(spread.moved) <= least:
            continue
        again = zip(model.outputs, model.results(model.inputs), strict=False)
        if any(x.shape != y.shape or np.max(distances(x, y), initial=0.0) > least for x, y in again):
            words = "".join(f": {path} is a {words}" for path, words in active_dropouts(model)[:1])
            reason = f"the results of model {name} change from run to run{words}"
            return replace(outcome, verdict=verdict, limit=None, ratio=math.inf, reason=reason)
    return outcome


def _largest(results: Sequence[Array]) -> float:
    return max((float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0)) for y in results), default=0.0)


def _shapes(given: Given) -> str:
    arrays = given.values() if isinstance(given, Mapping) else given
    return ", ".join(str(x.shape) for x in arrays)


# -- an agreement, explained -------------------------------------------------------------------------------------------


def _is_proved(result: Comparison, explained: LayerRows) -> bool:
    """Whether both models have the same steps, and each is judged and within its bound; notes the others.

    Results that are equal need no proof.
    """
    if result.evidence == "equal":
        return False
    a, b = explained.a, explained.b
    result.unjudged = unjudged(a, b, (set(), explained.judged))
    if result.unjudged or any(one.verdict == "unknown" or one.difference is None for one in result.outcomes):
        return False
    return same_steps(a, b, explained.pairs)


def _settle_orders(result: Comparison, explained: LayerRows) -> None:
    """Let layers agree whose elements alone are in another order, where the steps and weights show it.

    Layers of other shapes are no counterparts: the models divide what they compute into other layers.
    """
    for row in result.rows:
        pair = explained.parts[id(row)]
        kernels = {part.weights["kernel"].shape for part in (pair.a, pair.b) if part and "kernel" in part.weights}
        if row.verdict == "diverges" and len(kernels) > 1:
            row.verdict, row.reason = "not judged", "the models divide their computation into other layers"
        if row.verdict != "agree" and pair.a and pair.b and pair.a.path in explained.same:
            row.verdict, row.reason, row.spec, row.weights = "agree", "its elements are in another order", [], []


def _explain_differences(result: Comparison, explained: LayerRows) -> None:
    """Tell layers that have no effect on any result, and where the models agree, what differs without an effect."""
    suspects = [row for row in result.rows if row.differences and (result.agrees or row.verdict == "missing")]
    idle = {
        id(part): f"model {name}: {part.kind} {part.path}"
        for place, (name, model) in enumerate((("a", explained.a), ("b", explained.b)))
        for part in without_effect(
            model, model.parts if model.followed else _parts(explained, suspects, place)[:_SUSPECTS]
        )
    }
    result.unused = list(idle.values()) if explained.a.followed and explained.b.followed else []
    for row in suspects:
        pair = explained.parts[id(row)]
        if unused := [idle[id(part)] for part in (pair.a, pair.b) if id(part) in idle]:
            result.unused += [one for one in unused if one not in result.unused]
            row.verdict, row.reason = "not judged", "it has no effect on any result"
        elif result.agrees:
            hint = next((f"; {words}" for word, words in _HINTS.items() if word in row.differences), "")
            result.warnings.append(f"{row.place}: {row.differences}: no effect at these inputs{hint}")


def _parts(explained: LayerRows, rows: Sequence[Row], place: int) -> list[Part]:
    pairs = [explained.parts[id(row)] for row in rows]
    return [part for pair in pairs if (part := (pair.a, pair.b)[place]) is not None]


# -- further inputs ----------------------------------------------------------------------------------------------------

SCALE = 8.0
GIVEN = "the given inputs"
_DRAWN = "another random draw"
_PERMUTED = "the given inputs permuted"
_SCALED = f"the given inputs times {SCALE:g}"


def further_inputs(given: Given, seed: int = 0) -> dict[str, Given]:
    """Return further inputs of the same shapes by what they are.

    Numbers are drawn with the given ones' mean and deviation. Whole numbers – token ids, masks, labels – and inputs
    by name are permuted, as their meaning is not known.
    """
    rng = np.random.default_rng(seed)
    if isinstance(given, Mapping):
        return {_PERMUTED: {name: _permute(x, rng) for name, x in given.items()}}
    whole = [x.dtype.kind != "f" or np.array_equal(x, np.rint(x)) for x in given]
    drawn = [_permute(x, rng) if fixed else _draw(x, rng) for x, fixed in zip(given, whole, strict=True)]
    if all(whole):
        return {_PERMUTED: drawn}
    scaled = [x if fixed else (x * SCALE).astype(x.dtype) for x, fixed in zip(given, whole, strict=True)]
    return {_DRAWN: drawn, _SCALED: scaled}


def _draw(x: Array, rng: np.random.Generator) -> Array:
    return np.asarray(rng.standard_normal(x.shape) * np.std(x) + np.mean(x), x.dtype)


def _permute(x: Array, rng: np.random.Generator) -> Array:
    return rng.permutation(np.ravel(x)).reshape(x.shape)


def untried(tried: Sequence[Given], names: Sequence[str], layout: str) -> list[str]:
    """Return what the inputs cannot show; ``tried``: one of each size, ``names``: what all of them are."""
    arrays = [x for given in tried for x in (given.values() if isinstance(given, Mapping) else given)]
    spatial = slice(2, None) if layout == CHANNELS_FIRST else slice(1, -1)
    images = [x.shape[spatial] for x in arrays if x.ndim > 2]
    missing = ["other sizes"] if len(tried) == 1 else []
    if images and all(any(n % 2 for n in sizes) for sizes in images):
        missing.append("even sizes, where strided 'same' padding and equal padding differ")
    if _SCALED not in names:
        missing.append("large values, where activations saturate")
    return [*missing, "NaN and infinity", "training"]

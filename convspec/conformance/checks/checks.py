"""The checks: what is tried on one case with one adapter, and why."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.conformance.checks.diagnose import explained
from convspec.conformance.records import compare, write
from convspec.conformance.trials.metamorphic import RELATIONS
from convspec.conformance.trials.run_layer import Attempt, attempt, first_line
from convspec.conformance.trials.work_plan import FORWARD, PROBE
from convspec.contract import Support
from convspec.reference import accuracy_probes, error_bounds, verdict
from convspec.spec import ComputePrecision, layouts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.conformance.checks.expected import Data, Given
    from convspec.conformance.trials.work_plan import Trial, Unit
    from convspec.contract import Adapter
    from convspec.spec import ConvParams, ConvSpec

    Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is checked: on what kind of data, in which directions."""

    id: str
    title: str
    data: str
    directions: tuple[str, ...]
    rationale: str


CHECKS = (
    Check(
        "forward-exact",
        "the output on integers is exact",
        "exact",
        ("forward",),
        "Integers small enough for every partial sum to be representable: any correct implementation, in whatever "
        "order it sums, gives exactly the oracle's numbers, so structure is judged with a tolerance of zero.",
    ),
    Check(
        "forward-random",
        "the output on random numbers keeps the derived bounds",
        "random",
        ("forward",),
        "Normal random numbers show which arithmetic was used: an error above the bound of the declared one proves "
        "a wrong result or a coarser arithmetic.",
    ),
    Check(
        "gradients-exact",
        "the gradients on integers are exact",
        "exact",
        ("input", "kernel", "bias"),
        "One set of integers for which all three gradients are exact: frameworks compute them by other routines than "
        "the output, with faults of their own.",
    ),
    Check(
        "gradients-random",
        "the gradients on random numbers keep the derived bounds",
        "random",
        ("input", "kernel", "bias"),
        "Each gradient has its own number of products – that of the kernel sums over the whole batch and image – and "
        "so its own bound.",
    ),
    Check(
        "accuracy-class",
        "inputs and sums keep the digits that the adapter declares",
        PROBE,
        ("forward",),
        "Probes on which each format shows itself, however many products are summed: whether inputs were cut to tf32 "
        "or bfloat16, and whether sums were kept in float16.",
    ),
    *(
        Check(f"metamorphic-{relation.id}", relation.title, relation.id, ("forward",), relation.rationale)
        for relation in RELATIONS.values()
    ),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one trial, JSON-ready but for the trial itself."""

    trial: Trial
    support: str
    support_reason: str
    verdict: str
    reason: str
    accuracy_class: str | None
    evidence: dict[str, Any]
    seconds: float


def outcomes(adapter: Adapter, unit: Unit, given: Given) -> Iterator[Outcome]:
    """The verdict on each trial of the unit, as it is reached."""
    if given.failure:
        yield from (Outcome(trial, "unknown", "", "error", given.failure, None, {}, 0.0) for trial in unit.trials)
        return
    probing = functools.cache(lambda: accuracy_probes.probes(unit.case.spec, unit.case.input_shape, unit.case.dtype, 0))
    for layout, trials in groupby(unit.trials, key=lambda trial: trial.layout):
        try:
            support = _support(adapter, unit, layout)
        except Exception as error:  # noqa: BLE001 – an adapter's fault costs its own trials
            reason = f"support: {first_line(error)}"
            yield from (Outcome(trial, "unknown", "", "error", reason, None, {}, 0.0) for trial in trials)
            continue
        for recipe, group in groupby(trials, key=lambda trial: trial.recipe):
            if support == "unsupported":
                yield from (_unsupported(trial, support.reason, 0.0) for trial in group)
            elif recipe.data == PROBE:
                yield from (_probed(adapter, unit, trial, support, probing()) for trial in group)
            elif recipe.data in RELATIONS:
                yield from (_related(adapter, unit, trial, support) for trial in group)
            else:
                yield from _judged(adapter, unit, tuple(group), support, given.data[recipe], given.refusal)


def _support(adapter: Adapter, unit: Unit, layout: str) -> Support:
    if layout not in adapter.layouts:
        return Support("unsupported", f"{adapter.name} has no layout {layout}; it has {', '.join(adapter.layouts)}")
    shape = layouts.shape_in(unit.case.input_shape, layout, unit.case.spec.ndim)
    return adapter.support(unit.case.spec, layout, unit.case.dtype, unit.target.device, shape)


def _unsupported(trial: Trial, reason: str, seconds: float) -> Outcome:
    return Outcome(trial, "unsupported", reason, "unsupported", reason, None, {}, seconds)


def _judged(
    adapter: Adapter, unit: Unit, trials: Sequence[Trial], support: Support, data: Data, refusal: str | None
) -> Iterator[Outcome]:
    """One run, and the verdict on each of its results."""
    directions = [trial.direction for trial in trials]
    made = attempt(adapter, unit, trials[0].layout, directions, data.params, data.x, data.dy)
    for trial in trials:
        if made.missing:
            yield _unsupported(trial, made.missing, made.seconds)
        else:
            found = _verdict(unit, trial, data, made, refusal)
            evidence = dict(found.evidence)
            if found.verdict == "disagree" and refusal is None and trial.recorded is None:
                evidence |= _explained(unit, trial, data, made)
            if unit.keep is not None and refusal is None and trial.direction in made.results:
                evidence["record"] = write.kept(unit, trial, data, made)
            parts = (found.verdict, found.reason, found.accuracy_class, evidence)
            yield Outcome(trial, str(support), support.reason, *parts, made.seconds)
        made.seconds = 0.0  # counted once


def _verdict(unit: Unit, trial: Trial, data: Data, made: Attempt, refusal: str | None) -> verdict.Verdict:
    # the right numbers from the wrong place are no refusal
    if refusal is not None and not made.misplaced:
        if made.failure:
            return verdict.Verdict(
                "agree", f"refused, as it must be: {refusal}", evidence={"refusal": made.failure, **made.message}
            )
        shape = list(made.results[FORWARD].shape)
        return verdict.Verdict("disagree", f"gave a result where there is none: {refusal}", evidence={"shape": shape})
    if made.failure:
        return verdict.Verdict("error", made.failure, evidence=dict(made.message))
    if trial.recorded is not None:
        return compare.held_against(unit, trial, data, made)
    direction = trial.direction
    return verdict.judge(
        made.results[direction],
        data.expected[direction],
        data.magnitude.get(direction),
        dtype=unit.case.dtype,
        data=trial.data,
        products=error_bounds.products(unit.case.spec, unit.case.input_shape, _RESULT.get(direction, direction)),
        arithmetic=made.arithmetic[direction],
        ignore=data.ignore,
    )


def _explained(unit: Unit, trial: Trial, data: Data, made: Attempt) -> dict[str, Any]:
    """What the diagnosis says of a wrong output; a fault of its own does not change the verdict, and is shown."""
    try:
        return explained(unit, trial, data, made.results[trial.direction])
    except Exception as error:  # noqa: BLE001 – the numbers may be of any shape and size
        return {"undiagnosed": first_line(error)}


_RESULT = {FORWARD: "output"}  # what the result of a direction is called where products are counted


def _probed(
    adapter: Adapter, unit: Unit, trial: Trial, support: Support, found: Sequence[accuracy_probes.Probe]
) -> Outcome:
    """The accuracy class that the probes measure, against the declared one."""
    outputs, seconds = {}, 0.0
    for probe in found:
        made = attempt(adapter, unit, trial.layout, [FORWARD], probe.params, probe.x)
        seconds += made.seconds
        if made.failure or made.missing:
            name = "error" if made.failure else "unsupported"
            reason = made.failure or made.missing
            return Outcome(trial, str(support), support.reason, name, reason, None, dict(made.message), seconds)
        outputs[probe.name] = made.results[FORWARD]
    judged = _class(found, outputs, made)
    parts = (judged.verdict, judged.reason, judged.accuracy_class, dict(judged.evidence))
    return Outcome(trial, str(support), support.reason, *parts, seconds)


def _class(found: Sequence[accuracy_probes.Probe], outputs: Mapping[str, Any], made: Attempt) -> verdict.Verdict:
    for probe in found:
        got, right = outputs[probe.name].shape, probe.expected.shape
        if got != right:
            return verdict.Verdict("disagree", f"shape {got} where {right} is right")
    measured = accuracy_probes.measure(found, outputs)
    if measured.name is not None:
        return accuracy_probes.judge_class(measured, made.arithmetic[FORWARD], found[0].dtype)
    if all(np.array_equal(outputs[probe.name], probe.expected) for probe in found):
        return verdict.Verdict("agree", "every output of the probes is zero, as it must be: no class shows itself")
    return verdict.Verdict("disagree", "precision: no format explains what the probes gave")


# -- relations -------------------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """A run of a relation gave no output: verdict and reason of the whole."""

    def __init__(self, verdict: str, reason: str, message: dict[str, str]) -> None:
        self.parts = (verdict, reason, message)


@dataclass(slots=True)
class _Runs:
    """The runs of one relation, each in a layer of its own."""

    adapter: Adapter
    unit: Unit
    layout: str
    seconds: float = 0.0
    made: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, spec: ConvSpec, params: ConvParams, x: Array, layout: str | None = None) -> Array:
        at = layout or self.layout
        case = replace(self.unit.case, spec=spec, input_shape=x.shape)
        unit = replace(self.unit, case=case)
        self.made.append({"spec": spec.to_dict(), "input_shape": list(x.shape), "layout": at})
        support = _support(self.adapter, unit, at)
        if support == "unsupported":
            raise _Stopped("unsupported", support.reason, {})
        made = attempt(self.adapter, unit, at, [FORWARD], params, x)
        self.seconds += made.seconds
        if made.missing:
            raise _Stopped("unsupported", made.missing, {})
        if made.failure:
            raise _Stopped("error", f"{spec!r} on {x.shape}: {made.failure}", dict(made.message))
        y = made.results[FORWARD]
        if problem := verdict.form_problem(y, spec.output_shape(x.shape), case.dtype):
            raise _Stopped("disagree", f"{problem}, of {spec!r} on {x.shape}", {})
        return y.astype(np.float64)


def _related(adapter: Adapter, unit: Unit, trial: Trial, support: Support) -> Outcome:
    """Whether a relation holds; a run that the framework does not have leaves it open."""
    runs = _Runs(adapter, unit, trial.layout)
    relation = RELATIONS[trial.data]
    said, why = str(support), support.reason
    try:
        actual, expected = relation.sides(unit.case, trial.layout, runs)
    except _Stopped as stopped:
        name, reason, message = stopped.parts
        reason = f"{relation.id}: {reason}"
        if name == "unsupported":
            return _unsupported(trial, reason, runs.seconds)
        return Outcome(trial, said, why, name, reason, None, {**message, "runs": runs.made}, runs.seconds)
    equal = verdict.judge(
        actual, expected, None, dtype="float64", data="exact", products=1, arithmetic=ComputePrecision("float64")
    )
    reason = f"{relation.title}: not so; {equal.reason}" if equal.reason else ""
    evidence = equal.evidence | ({"runs": runs.made} if reason else {})
    return Outcome(trial, said, why, equal.verdict, reason, None, evidence, runs.seconds)

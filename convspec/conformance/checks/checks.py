"""Check one case with one adapter: run its trials and judge the results.

* Integers so small that every partial sum is representable: a correct implementation returns exactly the oracle's
  numbers, so structure is judged with zero tolerance. One set of integers makes all three gradients exact.
* Random numbers: an error above the bound of the declared precision proves a wrong result or a coarser arithmetic.
* Probes: they show, for any number of products, the format of inputs and of sums.
* Relations between runs, which need no oracle.
* Quantised layers: every output must be a legal rounding of the exact sum.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.conformance.records import array_files, compare
from convspec.conformance.trials.metamorphic import RELATIONS
from convspec.conformance.trials.work_plan import FORWARD, GRADIENTS, PROBE, Trial, Unit
from convspec.contract import Adapter, LayerRequest, QuantizedForm, Support
from convspec.corpora import QUANTIZED_KINDS, quantized_arrays
from convspec.errors import PlacementError, UnsupportedError
from convspec.reference import accuracy_probes, error_bounds, verdict
from convspec.reference.quantized import QuantizedLayer, judge_quantized
from convspec.spec import ComputePrecision, ConvParams, ConvSpec, layouts, product

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.conformance.checks.expected import Data, Given
    from convspec.diagnosis import Diagnosis

    Array = NDArray[Any]

_MESSAGE = 2000  # characters of an exception's message that are kept
_OUTPUTS, _MACS = 20_000, 2_000_000  # to diagnose larger layers would take too long
_FINDINGS = 3


@dataclass(slots=True)
class Attempt:
    """The results of a run, or its failure.

    Attributes:
        results: arrays by direction, in canonical order; empty if the run failed.
        arithmetic: the declared compute precision of each result.
        failure: type and first line of the exception, empty without one.
        message: of the exception, as evidence.
        misplaced: whether device or dtype of the result differ from the request.
        missing: why the framework does not support this result, empty if it does.
    """

    results: dict[str, Array] = field(default_factory=dict)
    arithmetic: dict[str, ComputePrecision] = field(default_factory=dict)
    failure: str = ""
    message: dict[str, str] = field(default_factory=dict)
    misplaced: bool = False
    missing: str = ""
    seconds: float = 0.0


def try_run(
    adapter: Adapter, unit: Unit, layout: str, directions: Sequence[str], params: ConvParams, x: Array,
    dy: Array | None = None,
) -> Attempt:  # fmt: skip
    """Build the layer and compute its output, or with ``dy`` its gradients; arrays in canonical order."""
    spec, target = unit.case.spec, unit.target
    arrays = [np.array(layouts.move_axes(a, "NCHW", layout), order="C") for a in (x, dy) if a is not None]
    attempt, start = Attempt(), time.perf_counter()
    try:
        for direction in directions:
            settings = (target.dtype, target.device, target.precision, direction, unit.case.input_shape)
            attempt.arithmetic[direction] = adapter.compute_precision(spec, LayerRequest(layout, *settings))
        layer = adapter.build(spec, params, layout, target.dtype, target.device)
        results: Mapping[str, Any]
        if dy is None:
            results = {FORWARD: adapter.apply(layer, arrays[0], layout, target.device)}
        else:
            gradients = adapter.gradients(layer, arrays[0], arrays[1], layout, target.device)
            results = {name: getattr(gradients, name) for name in GRADIENTS}
        attempt.results = {name: _canonical(results[name], name, layout, spec.ndim) for name in directions}
    except UnsupportedError as error:
        attempt.missing = str(error)
    except PlacementError as error:
        attempt.failure, attempt.misplaced = f"PlacementError: {error}", True
    except Exception as error:  # noqa: BLE001 – any exception of a framework is reported
        attempt.failure, attempt.message = first_line(error), {"message": str(error)[:_MESSAGE]}
    attempt.seconds = time.perf_counter() - start
    return attempt


def _canonical(array: Any, direction: str, layout: str, ndim: int) -> Array:
    """Return the result in canonical order; unchanged if its rank is wrong, so that the verdict names its shape."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"the adapter returned {type(array).__name__}, expected a NumPy array")
    if direction in ("kernel", "bias") or array.ndim != ndim + 2:
        return array
    return layouts.move_axes(array, layout, "NCHW")


def first_line(error: BaseException) -> str:
    """Type and first line of an exception's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one trial, JSON-ready except for the trial itself."""

    trial: Trial
    support: str
    support_reason: str
    verdict: str
    reason: str
    accuracy_class: str | None
    evidence: dict[str, Any]
    seconds: float


def unreached(trial: Trial, reason: str) -> Outcome:
    """Return the outcome of a trial that did not reach the adapter: no gap covers a failure of convspec's own."""
    return Outcome(trial, "unknown", "", "error", reason, None, {"unreached": True}, 0.0)


def outcomes(adapter: Adapter, unit: Unit, given: Given) -> Iterator[Outcome]:
    """Yield the verdict on each trial of the unit."""
    if given.failure:
        yield from (unreached(trial, given.failure) for trial in unit.trials)
        return
    probes = functools.cache(lambda: accuracy_probes.probes(unit.case.spec, unit.case.input_shape, unit.case.dtype, 0))
    for layout, trials in groupby(unit.trials, key=lambda trial: trial.layout):
        try:
            support = _support(adapter, unit, layout)
        except Exception as error:  # noqa: BLE001 – an adapter's fault costs its own trials
            reason = f"support: {first_line(error)}"
            yield from (Outcome(trial, "unknown", "", "error", reason, None, {}, 0.0) for trial in trials)
            continue
        for recipe, group in groupby(trials, key=lambda trial: trial.recipe):
            if recipe.data in QUANTIZED_KINDS:
                yield from (_check_quantized(adapter, unit, trial) for trial in group)
            elif support == "unsupported":
                yield from (_unsupported(trial, support.reason, 0.0) for trial in group)
            elif recipe.data == PROBE:
                yield from (_probe(adapter, unit, trial, support, probes()) for trial in group)
            elif recipe.data in RELATIONS:
                yield from (_check_relation(adapter, unit, trial, support) for trial in group)
            else:
                yield from _run_and_judge(adapter, unit, tuple(group), support, given.data[recipe], given.refusal)


def _support(adapter: Adapter, unit: Unit, layout: str) -> Support:
    if layout not in adapter.layouts:
        return Support("unsupported", f"{adapter.name} has no layout {layout}; it has {', '.join(adapter.layouts)}")
    shape = layouts.shape_in(unit.case.input_shape, layout, unit.case.spec.ndim)
    return adapter.support(unit.case.spec, layout, unit.case.dtype, unit.target.device, shape)


def _outcome(trial: Trial, support: Support, judged: verdict.Verdict, seconds: float) -> Outcome:
    parts = (judged.verdict, judged.reason, judged.accuracy_class, dict(judged.evidence))
    return Outcome(trial, str(support), support.reason, *parts, seconds)


def _unsupported(trial: Trial, reason: str, seconds: float) -> Outcome:
    return Outcome(trial, "unsupported", reason, "unsupported", reason, None, {}, seconds)


def _run_and_judge(
    adapter: Adapter, unit: Unit, trials: Sequence[Trial], support: Support, data: Data, refusal: str | None
) -> Iterator[Outcome]:
    """Run the layer once and judge each of its results."""
    directions = [trial.direction for trial in trials]
    attempt = try_run(adapter, unit, trials[0].layout, directions, data.params, data.x, data.dy)
    for trial in trials:
        if attempt.missing:
            yield _unsupported(trial, attempt.missing, attempt.seconds)
        else:
            judged = _verdict(unit, trial, data, attempt, refusal)
            evidence = dict(judged.evidence)
            if judged.verdict == "disagree" and refusal is None and trial.recorded is None:
                evidence |= _explain(unit, trial, data, attempt)
            if unit.record is not None and refusal is None and trial.direction in attempt.results:
                evidence["record"] = array_files.save(unit, trial, data, attempt)
            yield _outcome(trial, support, replace(judged, evidence=evidence), attempt.seconds)
        attempt.seconds = 0.0  # counted once


def _verdict(unit: Unit, trial: Trial, data: Data, attempt: Attempt, refusal: str | None) -> verdict.Verdict:
    # right numbers from the wrong device are not a refusal
    if refusal is not None and not attempt.misplaced:
        if attempt.failure:
            evidence = {"refusal": attempt.failure, **attempt.message}
            return verdict.Verdict("agree", f"refused, as expected: {refusal}", evidence=evidence)
        shape = {"shape": list(attempt.results[FORWARD].shape)}
        return verdict.Verdict("disagree", f"returned a result, expected an error: {refusal}", evidence=shape)
    if attempt.failure:
        return verdict.Verdict("error", attempt.failure, evidence=dict(attempt.message))
    if trial.recorded is not None:
        return compare.compare(unit, trial, data, attempt)
    direction = trial.direction
    return verdict.judge(
        attempt.results[direction], data.expected[direction], data.magnitude.get(direction),
        dtype=unit.case.dtype, data=trial.data, arithmetic=attempt.arithmetic[direction], ignore=data.ignore,
        products=error_bounds.products(unit.case.spec, unit.case.input_shape, _RESULT.get(direction, direction)),
    )  # fmt: skip


def _explain(unit: Unit, trial: Trial, data: Data, attempt: Attempt) -> dict[str, Any]:
    """The diagnosis of a wrong output; a failure of the diagnosis is noted and does not change the verdict."""
    try:
        return explain(unit, trial, data, attempt.results[trial.direction])
    except Exception as error:  # noqa: BLE001 – the numbers may be of any shape and size
        return {"undiagnosed": first_line(error)}


_RESULT = {FORWARD: "output"}  # the name of a direction's result in error_bounds.products


def _probe(
    adapter: Adapter, unit: Unit, trial: Trial, support: Support, probes: Sequence[accuracy_probes.Probe]
) -> Outcome:
    """Compare the accuracy class that the probes measure with the declared one."""
    outputs, seconds = {}, 0.0
    for probe in probes:
        attempt = try_run(adapter, unit, trial.layout, [FORWARD], probe.params, probe.x)
        seconds += attempt.seconds
        if attempt.failure or attempt.missing:
            name, reason = ("error", attempt.failure) if attempt.failure else ("unsupported", attempt.missing)
            return _outcome(trial, support, verdict.Verdict(name, reason, evidence=attempt.message), seconds)
        outputs[probe.name] = attempt.results[FORWARD]
    return _outcome(trial, support, _judge_class(probes, outputs, attempt), seconds)


def _judge_class(
    probes: Sequence[accuracy_probes.Probe], outputs: Mapping[str, Any], attempt: Attempt
) -> verdict.Verdict:
    for probe in probes:
        actual, expected = outputs[probe.name].shape, probe.expected.shape
        if actual != expected:
            return verdict.Verdict("disagree", f"shape: expected {expected}, got {actual}")
    measured = accuracy_probes.measure(probes, outputs)
    if measured.name is not None:
        return accuracy_probes.judge_class(measured, attempt.arithmetic[FORWARD], probes[0].dtype)
    if all(np.array_equal(outputs[probe.name], probe.expected) for probe in probes):
        return verdict.Verdict("agree", "every output of the probes is zero, as expected: it shows no accuracy class")
    return verdict.Verdict("disagree", "precision: no format explains the outputs of the probes")


# -- quantised layers ------------------------------------------------------------------------------------------------


def _check_quantized(adapter: Adapter, unit: Unit, trial: Trial) -> Outcome:
    """Judge a quantised layer in every form that the adapter builds; the first wrong one decides."""
    case, start, native = unit.case_of(trial), time.perf_counter(), Support("native")
    quant, params, x = quantized_arrays(case)
    layer = QuantizedLayer(case.spec, quant, x, params.kernel, params.bias)
    given, outputs = np.array(layouts.move_axes(x, "NCHW", trial.layout), order="C"), []
    try:
        if unit.target.device != "cpu":
            raise UnsupportedError("quantised layers run on the CPU only")
        for form in adapter.quantized(case.spec, quant, params, trial.layout):
            outputs.append((form, _canonical(form.run(given), FORWARD, trial.layout, case.spec.ndim)))
    except UnsupportedError as error:
        return _unsupported(trial, str(error), time.perf_counter() - start)
    except Exception as error:  # noqa: BLE001 – any exception of a framework is reported
        judged = verdict.Verdict("error", first_line(error), evidence={"message": str(error)[:_MESSAGE]})
        return _outcome(trial, native, judged, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    judgements = [(form.name, y, _judge_integers(layer, form, y)) for form, y in outputs]
    name, y, worst = min(judgements, key=lambda one: one[2].verdict == "agree")
    rounding = {
        name: {"outputs": y.size, "illegal": own.evidence.get("wrong", y.size), "rules": own.evidence.get("rules", [])}
        for name, y, own in judgements
    }
    evidence = {**worst.evidence, "rounding": rounding}
    if worst.verdict == "disagree" and "index" in evidence and case.spec.macs(case.input_shape) <= _MACS:
        from convspec.diagnosis import diagnose

        evidence |= _findings(diagnose(case.spec, params, x, y, quant=quant))
    reason = f"{name}: {worst.reason}" if worst.reason else ""
    return _outcome(trial, native, replace(worst, reason=reason, evidence=evidence), seconds)


def _judge_integers(layer: QuantizedLayer, form: QuantizedForm, y: Array) -> verdict.Verdict:
    if y.dtype.name != layer.quant.output:
        return verdict.Verdict("disagree", f"dtype: expected {layer.quant.output}, got {y.dtype}")
    return judge_quantized(layer, y, integer_sums=form.integer_sums)


# -- relations -------------------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """A run of a relation has no output; the arguments are the verdict, the reason and the evidence of the relation."""


@dataclass(slots=True)
class _Runs:
    """The runs of one relation, each with its own layer."""

    adapter: Adapter
    unit: Unit
    layout: str
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, spec: ConvSpec, params: ConvParams, x: Array, layout: str | None = None) -> Array:
        layout = layout or self.layout
        case = replace(self.unit.case, spec=spec, input_shape=x.shape)
        unit = replace(self.unit, case=case)
        self.log.append({"spec": spec.to_dict(), "input_shape": list(x.shape), "layout": layout})
        support = _support(self.adapter, unit, layout)
        if support == "unsupported":
            raise _Stopped("unsupported", support.reason, {})
        attempt = try_run(self.adapter, unit, layout, [FORWARD], params, x)
        self.seconds += attempt.seconds
        if attempt.missing:
            raise _Stopped("unsupported", attempt.missing, {})
        if attempt.failure:
            raise _Stopped("error", f"{spec!r} on {x.shape}: {attempt.failure}", dict(attempt.message))
        y = attempt.results[FORWARD]
        if problem := verdict.form_problem(y, spec.output_shape(x.shape), case.dtype):
            raise _Stopped("disagree", f"{problem}, of {spec!r} on {x.shape}", {})
        return y.astype(np.float64)


def _check_relation(adapter: Adapter, unit: Unit, trial: Trial, support: Support) -> Outcome:
    """Check whether a relation holds; an unsupported run leaves it open."""
    runs = _Runs(adapter, unit, trial.layout)
    relation = RELATIONS[trial.data]
    try:
        actual, expected = relation.sides(unit.case, trial.layout, runs)
    except _Stopped as stopped:
        name, reason, message = stopped.args
        reason = f"{relation.id}: {reason}"
        if name == "unsupported":
            return _unsupported(trial, reason, runs.seconds)
        judged = verdict.Verdict(name, reason, evidence={**message, "runs": runs.log})
        return _outcome(trial, support, judged, runs.seconds)
    equal = verdict.judge(
        actual, expected, None, dtype="float64", data="exact", products=1, arithmetic=ComputePrecision("float64")
    )
    reason = f"not true: {relation.title}; {equal.reason}" if equal.reason else ""
    evidence = {**equal.evidence, **({"runs": runs.log} if reason else {})}
    return _outcome(trial, support, verdict.Verdict(equal.verdict, reason, evidence=evidence), runs.seconds)


def explain(unit: Unit, trial: Trial, data: Data, actual: Array) -> dict[str, Any]:
    """Return ``location`` and ``findings`` of a small layer's wrong output on exact data, else nothing.

    ``actual`` is in canonical order. Only single mistakes are tried; ``convspec diagnose`` tries pairs too.
    """
    case = unit.case
    small = product(actual.shape) <= _OUTPUTS and case.spec.macs(case.input_shape) <= _MACS
    if trial.direction != FORWARD or trial.data != "exact" or not small or actual.ndim != case.spec.ndim + 2:
        return {}
    from convspec.diagnosis import diagnose

    return _findings(diagnose(case.spec, data.params, data.x, actual, dtype=case.dtype, seconds=0.0))


def _findings(diagnosis: Diagnosis) -> dict[str, Any]:
    evidence: dict[str, Any] = {}
    if diagnosis.location is not None:
        evidence["location"] = diagnosis.location.to_dict()
    if diagnosis.findings:
        found = diagnosis.findings[:_FINDINGS]
        evidence["findings"] = [{"id": one.id, "title": one.title, "fix": one.fix} for one in found]
    return evidence

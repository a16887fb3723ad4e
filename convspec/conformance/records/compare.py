"""Compare a result with the recorded one of another run; the oracle tells which of the two has the larger error."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.conformance.records import array_files
from convspec.conformance.trials.work_plan import FORWARD, Trial, Unit
from convspec.errors import RecordError
from convspec.reference import Verdict, error_bounds, verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.conformance.checks.checks import Attempt
    from convspec.conformance.checks.expected import Data

    Array = NDArray[Any]

_SENTENCES = {
    "here": "this run has the larger error",
    "recorded": "the recorded run has the larger error",
    "neither": "both have the same error",
}


def compare(unit: Unit, trial: Trial, data: Data, attempt: Attempt) -> Verdict:
    """Judge whether a result and the recorded one differ by no more than the error bounds of both.

    Evidence ``recorded``: the adapter, and how many elements are ``differing`` in their bits; for a mismatch also
    ``further``, the run with the larger error (``"here"``, ``"recorded"``, ``"neither"``), and the oracle's verdicts.
    """
    recorded, direction = trial.recorded, trial.direction
    assert recorded is not None
    try:
        stored = array_files.read_output(recorded.folder, recorded.outputs, unit.case, direction)
    except RecordError as error:
        return Verdict("error", str(error))
    actual, expected = attempt.results[direction], data.expected[direction]
    about: dict[str, Any] = {
        "folder": recorded.folder, "by": recorded.by, "device": recorded.device, "precision": recorded.precision,
        "verdict": recorded.verdict, "differing": _count_differing(actual, stored),
    }  # fmt: skip
    evidence: dict[str, Any] = {"total": int(stored.size), "recorded": about}
    if about["differing"] == 0:
        return Verdict("agree", evidence={**evidence, "wrong": 0})
    for side, array in (("of this run", actual), ("of the recorded run", stored)):
        if problem := verdict.form_problem(array, expected.shape, unit.case.dtype):
            return Verdict("disagree", f"{problem}, {side}", evidence=evidence)
    result = direction if direction != FORWARD else "output"
    judge = functools.partial(
        verdict.judge, magnitude=data.magnitude.get(direction), dtype=unit.case.dtype, data=trial.data,
        products=error_bounds.products(unit.case.spec, unit.case.input_shape, result), ignore=data.ignore,
    )  # fmt: skip
    arithmetic = attempt.arithmetic[direction]
    mutual = judge(actual, stored.astype(np.float64), arithmetic=arithmetic, other=recorded.arithmetic)
    evidence |= mutual.evidence
    if mutual.verdict == "agree":
        return Verdict("agree", evidence=evidence)
    here, there = (
        judge(actual, expected, arithmetic=arithmetic),
        judge(stored, expected, arithmetic=recorded.arithmetic),
    )
    further, reason = _mismatch(mutual, actual, stored, expected, here, there)
    about |= {"further": further, "oracle": {"here": here.verdict, "recorded": there.verdict}}
    if (here.verdict, there.verdict) == ("agree", "disagree"):
        about["gap"] = recorded.gap  # the fault is that of the recorded run, with the gap that declares it
    return Verdict("disagree", reason, evidence={**evidence, "recorded": about})


def _count_differing(actual: Array, stored: Array) -> int | None:
    """The number of elements with different bits; None where shape or dtype differ."""
    if actual.shape != stored.shape or actual.dtype != stored.dtype:
        return None
    bits = f"u{actual.dtype.itemsize}"
    first, second = (np.ascontiguousarray(array).view(bits) for array in (actual, stored))
    return int(np.count_nonzero(first != second))


def _mismatch(
    mutual: Verdict, actual: Array, stored: Array, expected: Array, here: Verdict, there: Verdict
) -> tuple[str, str]:
    """The run with the larger error, and the reason of the verdict."""
    word, *_ = mutual.reason.partition(":")
    if word == "precision":
        further = _further(*(float(side.evidence.get("rms_q", 0.0)) for side in (here, there)))
        return further, f"{mutual.reason}; by the oracle, {_SENTENCES[further]}"
    at = tuple(mutual.evidence["index"])
    values = [float(array[at]) for array in (actual, stored, expected)]
    further = _further(abs(values[0] - values[2]), abs(values[1] - values[2]))
    wrong, total = mutual.evidence["wrong"], mutual.evidence["total"]
    return further, (
        f"{word}: {wrong} of {total} elements differ from the recorded ones by more than the error bounds of both; "
        f"at {at}: this run {values[0]}, recorded {values[1]}, oracle {values[2]}: {_SENTENCES[further]}"
    )


def _further(here: float, recorded: float) -> str:
    """The run with the larger error; NaN is the largest."""
    first, second = (np.inf if np.isnan(distance) else distance for distance in (here, recorded))
    return "neither" if first == second else "here" if first > second else "recorded"

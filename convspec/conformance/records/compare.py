"""One result held against the recorded one of another run, with the oracle to say which of the two is further off."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.conformance.records import write
from convspec.conformance.trials.work_plan import FORWARD
from convspec.errors import RecordError
from convspec.reference import Verdict, error_bounds, verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.conformance.checks.expected import Data
    from convspec.conformance.trials.run_layer import Attempt
    from convspec.conformance.trials.work_plan import Trial, Unit

    Array = NDArray[Any]

_TOLD = {
    "here": "the one from here is further off",
    "recorded": "the recorded one is further off",
    "neither": "both are as far off",
}


def held_against(unit: Unit, trial: Trial, data: Data, made: Attempt) -> Verdict:
    """Whether a result and the recorded one differ by no more than the errors of both.

    Evidence ``recorded``: who made it, and how many elements ``differing`` in their bits; of a departure also
    ``further`` (``"here"``, ``"recorded"``, ``"neither"``), and what the oracle says of both.
    """
    recorded, direction = trial.recorded, trial.direction
    assert recorded is not None
    try:
        there = write.output(recorded.folder, recorded.outputs, unit.case, direction)
    except RecordError as error:
        return Verdict("error", str(error))
    here, right = made.results[direction], data.expected[direction]
    about: dict[str, Any] = {
        "folder": recorded.folder,
        "by": recorded.by,
        "device": recorded.device,
        "precision": recorded.precision,
    }
    about |= {"verdict": recorded.verdict, "differing": _differing(here, there)}
    evidence: dict[str, Any] = {"total": int(there.size), "recorded": about}
    if about["differing"] == 0:
        return Verdict("agree", evidence={**evidence, "wrong": 0})
    for side, array in (("here", here), ("recorded", there)):
        if problem := verdict.form_problem(array, right.shape, unit.case.dtype):
            return Verdict("disagree", f"{problem}, {side}", evidence=evidence)
    of = direction if direction != FORWARD else "output"
    judged = functools.partial(
        verdict.judge, magnitude=data.magnitude.get(direction), dtype=unit.case.dtype, data=trial.data,
        products=error_bounds.products(unit.case.spec, unit.case.input_shape, of), ignore=data.ignore,
    )  # fmt: skip
    found = judged(here, there.astype(np.float64), arithmetic=made.arithmetic[direction], other=recorded.arithmetic)
    evidence |= found.evidence
    if found.verdict == "agree":
        return Verdict("agree", evidence=evidence)
    sides = (
        judged(here, right, arithmetic=made.arithmetic[direction]),
        judged(there, right, arithmetic=recorded.arithmetic),
    )
    further, reason = _departure(found, here, there, right, *sides)
    said: dict[str, Any] = {"further": further, "oracle": {"here": sides[0].verdict, "recorded": sides[1].verdict}}
    if (sides[0].verdict, sides[1].verdict) == ("agree", "disagree"):
        said["gap"] = recorded.gap  # the fault is that of the other run, where it was declared or not
    return Verdict("disagree", reason, evidence={**evidence, "recorded": {**about, **said}})


def _differing(here: Array, there: Array) -> int | None:
    """How many elements have other bits; None where shape or dtype is another."""
    if here.shape != there.shape or here.dtype != there.dtype:
        return None
    bits = f"u{here.dtype.itemsize}"
    first, second = (np.ascontiguousarray(array).view(bits) for array in (here, there))
    return int(np.count_nonzero(first != second))


def _departure(
    found: Verdict, here: Array, there: Array, right: Array, by_here: Verdict, by_there: Verdict
) -> tuple[str, str]:
    """Which of the two is further from the oracle, and the whole in words."""
    word, *_ = found.reason.partition(":")
    if word == "precision":
        further = _further(*(float(side.evidence.get("rms_q", 0.0)) for side in (by_here, by_there)))
        return further, f"{found.reason}; by the oracle, {_TOLD[further]}"
    at = tuple(found.evidence["index"])
    values = [float(array[at]) for array in (here, there, right)]
    further = _further(abs(values[0] - values[2]), abs(values[1] - values[2]))
    wrong, total = found.evidence["wrong"], found.evidence["total"]
    return further, (
        f"{word}: {wrong} of {total} elements are further from the recorded ones than the errors of both allow; "
        f"at {at} {values[0]} here, {values[1]} recorded, {values[2]} by the oracle: {_TOLD[further]}"
    )


def _further(here: float, there: float) -> str:
    """Whose distance is the larger; one that is no number is the largest."""
    first, second = (np.inf if np.isnan(distance) else distance for distance in (here, there))
    return "neither" if first == second else "here" if first > second else "recorded"

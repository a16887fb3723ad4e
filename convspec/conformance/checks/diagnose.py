"""Explain a wrong output: the error position, and the known mistake that gives these numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convspec.conformance.trials.work_plan import FORWARD
from convspec.diagnosis import diagnose
from convspec.spec import product

if TYPE_CHECKING:
    from convspec.conformance.checks.expected import Data
    from convspec.conformance.trials.run_layer import Array
    from convspec.conformance.trials.work_plan import Trial, Unit

_OUTPUTS, _MACS = 20_000, 2_000_000  # larger layers would take too long
_FINDINGS = 3


def explain(unit: Unit, trial: Trial, data: Data, actual: Array) -> dict[str, Any]:
    """Return ``location`` and ``findings`` of a small layer's wrong output on exact data, else nothing.

    ``actual`` is in canonical order. Only single mistakes are tried; ``convspec diagnose`` tries pairs too.
    """
    case = unit.case
    small = product(actual.shape) <= _OUTPUTS and case.spec.macs(case.input_shape) <= _MACS
    if trial.direction != FORWARD or trial.data != "exact" or not small or actual.ndim != case.spec.ndim + 2:
        return {}
    diagnosis = diagnose(case.spec, data.params, data.x, actual, dtype=case.dtype, seconds=0.0)
    evidence: dict[str, Any] = {}
    if diagnosis.location is not None:
        evidence["location"] = diagnosis.location.to_dict()
    if diagnosis.findings:
        evidence["findings"] = [
            {"id": one.id, "title": one.title, "fix": one.fix} for one in diagnosis.findings[:_FINDINGS]
        ]
    return evidence
